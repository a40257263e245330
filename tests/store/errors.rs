//! Whatever a server refuses, the link breaks, connects anew and says hello again, with the scripts loaded once more.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use homing::config::{RedisConfig, RedisServers, StoreAddress};
use homing::model::{Clock, Incarnation, Tasks};
use homing::store::link::{Identity, Link, NoAnswer};
use homing::store::redis::Redis;
use homing::store::{Heartbeat, Request, Rules};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::server::Server;

/// What Redis says when it cannot or will not do a call; the words behind the code are Redis' own.
const REFUSALS: [&str; 14] = [
    "MOVED 42 127.0.0.1:1",
    "ASK 42 127.0.0.1:1",
    "TRYAGAIN Multiple keys request during rehashing of slot",
    "CLUSTERDOWN The cluster is down",
    "MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.",
    "CROSSSLOT Keys in request don't hash to the same slot",
    "READONLY You can't write against a read only replica.",
    "NOSCRIPT No matching script. Please use EVAL.",
    "BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE.",
    "LOADING Redis is loading the dataset in memory",
    "MISCONF Redis is configured to save RDB snapshots, but it's currently unable to persist to disk.",
    "NOREPLICAS Not enough good replicas to write.",
    "OOM command not allowed when used memory > 'maxmemory'.",
    "NOPERM this user has no permissions to run the 'evalsha' command",
];

/// Stands between a client and a server, and answers for it when told to.
struct Between {
    port: u16,
    /// What it says in place of the next answer. The connection is deaf afterwards.
    refusal: Arc<Mutex<Option<String>>>,
}

impl Between {
    async fn start(server: &Server) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("listener");
        let (port, to) = (listener.local_addr().expect("address").port(), server.port);
        let refusal = Arc::new(Mutex::new(None));
        let next = refusal.clone();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(pass(client, to, next.clone()));
            }
        });
        Self { port, refusal }
    }

    fn refuse(&self, words: &str) {
        *self.refusal.lock().expect("not poisoned") = Some(format!("-{words}\r\n"));
    }
}

async fn pass(client: TcpStream, to: u16, next: Arc<Mutex<Option<String>>>) -> std::io::Result<()> {
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = TcpStream::connect(("127.0.0.1", to)).await?.into_split();
    let mut asked = vec![0; 65_536];
    let mut told = vec![0; 65_536];
    loop {
        tokio::select! {
            count = from_client.read(&mut asked) => {
                let count = count?;
                if count == 0 {
                    return Ok(());
                }
                let refusal = next.lock().expect("not poisoned").take();
                match refusal {
                    None => to_server.write_all(&asked[..count]).await?,
                    Some(words) => {
                        to_client.write_all(words.as_bytes()).await?;
                        while from_client.read(&mut asked).await? > 0 {}
                        return Ok(());
                    }
                }
            }
            count = from_server.read(&mut told) => {
                let count = count?;
                if count == 0 {
                    return Ok(());
                }
                to_client.write_all(&told[..count]).await?;
            }
        }
    }
}

fn beat() -> Request {
    Request::Heartbeat(Heartbeat { asserted: true, ..Heartbeat::default() })
}

fn start(settings: RedisConfig) -> Link {
    let identity = Identity { incarnation: Incarnation::random(), name: "p".to_owned(), version: "1".to_owned() };
    let (store, tasks) =
        (Arc::new(Redis::new(settings, Rules::default())), Tasks::new(|task| drop(tokio::spawn(task))));
    Link::start(store, 0, identity, Duration::from_secs(5), Clock::boottime(), &tasks)
}

async fn welcomed(link: &Link, hellos: u64) {
    let mut state = link.state();
    let up = state.wait_for(|state| state.welcome.is_some() && state.hellos == hellos);
    tokio::time::timeout(Duration::from_secs(20), up).await.expect("a hello").expect("the link lives");
}

#[tokio::test]
async fn every_refusal_of_the_server_breaks_the_link_and_leads_to_a_new_hello() {
    let server = Server::start(&[]);
    let between = Between::start(&server).await;
    let address = StoreAddress::Tcp("127.0.0.1".to_owned(), between.port);
    let link = start(RedisConfig { servers: RedisServers::One(address), ..server.settings("n") });
    welcomed(&link, 1).await;
    for (before, words) in (1..).zip(REFUSALS) {
        assert!(link.call(beat()).await.is_ok(), "before {words}");
        between.refuse(words);
        assert_eq!(link.call(beat()).await.err(), Some(NoAnswer::Unknown), "{words}");
        welcomed(&link, before + 1).await;
    }
    assert!(link.call(beat()).await.is_ok());
}

#[tokio::test]
async fn scripts_that_the_server_forgot_are_loaded_anew() {
    let server = Server::start(&[]);
    let link = start(server.settings("n"));
    welcomed(&link, 1).await;
    let mut side = server.connect().await;
    let flushed: redis::RedisResult<String> = redis::cmd("SCRIPT").arg("FLUSH").query_async(&mut side).await;
    flushed.expect("SCRIPT FLUSH");
    assert_eq!(link.call(beat()).await.err(), Some(NoAnswer::Unknown));
    welcomed(&link, 2).await;
    assert!(link.call(beat()).await.is_ok());
}
