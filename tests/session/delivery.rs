//! LMTP: one client, several mail servers that the test plays, and a reply for each recipient.

mod backends;
mod doors;
mod endings;
mod messages;
mod recipients;

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use homing::app::rules;
use homing::config::{Config, FilePassdb, PassdbConfig};
use homing::model::{BackendId, Ending, Protocol};
use homing::store::memory::Memory;

use crate::parts::{Line, Peer, Server, Site, config, until};

/// What the servers offer, unless a test says otherwise.
const OFFERS: &str = "250-b\r\n250-PIPELINING\r\n250-8BITMIME\r\n250-SIZE\r\n250 CHUNKING\r\n";
/// ann and dan are at home at the first server, ben at the second, cat at the third.
const USERS: &str = "ann@x:{PLAIN}x::::::host=a\nben@x:{PLAIN}x::::::host=b\ncat@x:{PLAIN}x::::::host=c\n\
                     dan@x:{PLAIN}x::::::host=a\neve@x:{PLAIN}x::::::host=a destuser=eve.home@y\n\
                     fay@x:{PLAIN}x::::::host=a forward_note=a/b forward_x=1\n\
                     guy@x:{PLAIN}x::::::host=a forward_note=a/b proxy_not_trusted=y\n";

/// A proxy before three mail servers.
struct Post {
    site: Site,
    others: [Server; 2],
    _directory: tempfile::TempDir,
}

impl Post {
    async fn open() -> Self {
        Self::with(|_| ()).await
    }

    async fn with(change: impl FnOnce(&mut Config)) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("users");
        std::fs::write(&path, USERS).unwrap();
        let (first, others) = (Server::open().await, [Server::open().await, Server::open().await]);
        let mut config = config(first.address);
        config.limits.kick_deadline = Duration::ZERO;
        config.listeners[0].protocol = Protocol::Lmtp;
        let sample = config.backends.pop_first().unwrap().1;
        for (name, server) in ["a", "b", "c"].into_iter().zip([&first, &others[0], &others[1]]) {
            let mut backend = sample.clone();
            backend.lmtp.port = server.address.port();
            config.backends.insert(BackendId::new(name), backend);
        }
        config.passdb = vec![PassdbConfig::File(FilePassdb {
            path,
            default_scheme: "PLAIN".to_owned(),
            master: false,
            cache: false,
        })];
        change(&mut config);
        let store = Arc::new(Memory::embedded(rules(&config)));
        Self { site: Site::over(store, first, config).await, others, _directory: directory }
    }

    /// Where this user is at home.
    fn server(&self, user: &str) -> &Server {
        match user.as_bytes()[0] {
            b'b' => &self.others[0],
            b'c' => &self.others[1],
            _ => &self.site.server,
        }
    }

    /// The client names users of as many servers, which take them.
    async fn name<const N: usize>(&self, client: &mut Peer, users: [&str; N]) -> [Peer; N] {
        let rcpt: String = users.iter().map(|user| format!("RCPT TO:<{user}>\r\n")).collect();
        client.send(format!("MAIL FROM:<s@y>\r\n{rcpt}")).await;
        let peers = join_all(users.iter().map(|user| envelope(self.server(user), user))).await;
        client.expect("250 2.1.0 Sender OK\r\n").await;
        for _ in users {
            client.expect("250 2.1.5 yes\r\n").await;
        }
        peers.try_into().ok().unwrap()
    }

    /// The same, up to where the client may send its message.
    async fn begin<const N: usize>(&self, client: &mut Peer, users: [&str; N]) -> [Peer; N] {
        let mut peers = self.name(client, users).await;
        client.send("DATA\r\n").await;
        for peer in &mut peers {
            go_on(peer).await;
        }
        client.expect_start("354 ").await;
        peers
    }

    /// Whoever is served in this proxy is kicked.
    fn kick(&self) {
        self.site.proxy.fleet().shards()[0].ledger.close_all(Ending::Kicked);
    }

    /// A client that has said hello.
    async fn client(&self) -> Peer {
        let mut client = self.site.dial().await;
        hello(&mut client).await;
        client
    }

    /// The lines about recipients that this client named.
    async fn deliveries(&self, client: &Peer, count: usize) -> Vec<Line> {
        let address = client.address.to_string();
        let of = |line: &Line| line["message"] == "delivery" && line["client"] == address;
        until("the lines about deliveries", || self.site.lines(of).len() >= count).await;
        self.site.lines(of)
    }
}

async fn hello(client: &mut Peer) {
    client.expect_start("220 ").await;
    client.send("LHLO mx\r\n").await;
    while client.expect_start("250").await.starts_with("250-") {}
}

/// Greets the proxy, as a server that offers this.
async fn greet(server: &Server, offers: &str) -> Peer {
    let mut peer = server.accept().await;
    peer.send("220 b LMTP\r\n").await;
    peer.expect_start("LHLO ").await;
    peer.send(offers).await;
    peer
}

/// Takes an envelope with one recipient.
async fn take(peer: &mut Peer, recipient: &str) {
    peer.expect_start("MAIL FROM:<s@y>").await;
    peer.expect_start(&format!("RCPT TO:<{recipient}>")).await;
    peer.send("250 2.1.0 sender\r\n250 2.1.5 yes\r\n").await;
}

async fn envelope(server: &Server, recipient: &str) -> Peer {
    let mut peer = greet(server, OFFERS).await;
    take(&mut peer, recipient).await;
    peer
}

/// Takes the command for a message.
async fn go_on(peer: &mut Peer) {
    peer.expect("DATA\r\n").await;
    peer.send("354 go\r\n").await;
}
