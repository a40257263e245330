//! One real redis-server for all tests, on a port that the system chose; each test has a namespace of its own.

use std::io::{BufRead, BufReader};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use homing::config::{RedisConfig, RedisLogin, RedisServers, StoreAddress};
use redis::aio::MultiplexedConnection;

/// A server that ends with this process, however that ends.
pub(crate) struct Server {
    pub(crate) port: u16,
    pub(crate) socket: PathBuf,
    pid: String,
    /// Its standard input is the line that holds it: once closed, the server is killed and its directory removed.
    shell: Child,
}

/// `$0` is its directory, the rest what redis-server is given.
const KEEPER: &str = r#""${HOMING_REDIS:-redis-server}" "$@" >/dev/null & server=$!; echo $server; cat; kill -9 $server 2>/dev/null; rm -rf "$0""#;

static SERVER: LazyLock<Server> =
    LazyLock::new(|| if in_cluster() { Server::start_cluster() } else { Server::start(&[]) });

/// Whether the common server is a Cluster of one node: `HOMING_STORE=cluster`.
fn in_cluster() -> bool {
    std::env::var("HOMING_STORE").is_ok_and(|kind| kind == "cluster")
}

impl Server {
    /// Without persistence, on 127.0.0.1 and on a Unix socket.
    pub(crate) fn start(extra: &[&str]) -> Self {
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            let server = Self::spawn(extra);
            if server.answers(deadline) {
                return server;
            }
            assert!(Instant::now() < deadline, "redis-server does not start");
        }
    }

    /// A Cluster of one node that has all slots.
    fn start_cluster() -> Self {
        let free = TcpListener::bind("127.0.0.1:0").expect("port");
        let bus = free.local_addr().expect("address").port().to_string();
        drop(free);
        let server = Self::start(&["--cluster-enabled", "yes", "--cluster-port", &bus]);
        let client = redis::Client::open(("127.0.0.1", server.port)).expect("client");
        let mut connection = client.get_connection().expect("connection");
        let mut ask = |words: &[&str]| redis::cmd("CLUSTER").arg(words).query::<String>(&mut connection);
        ask(&["ADDSLOTSRANGE", "0", "16383"]).expect("slots");
        let deadline = Instant::now() + Duration::from_secs(20);
        while !ask(&["INFO"]).expect("state").contains("cluster_state:ok") {
            assert!(Instant::now() < deadline, "the Cluster does not come up");
            std::thread::sleep(Duration::from_millis(5)); // between two looks at the condition
        }
        server
    }

    fn spawn(extra: &[&str]) -> Self {
        let free = TcpListener::bind("127.0.0.1:0").expect("port");
        let port = free.local_addr().expect("address").port();
        drop(free); // another may take it before the server does: then start tries again
        let directory = tempfile::tempdir().expect("directory").keep();
        let socket = directory.join("redis.sock");
        let mut shell = Command::new("sh")
            .args(["-c", KEEPER])
            .arg(&directory)
            .args(["--bind", "127.0.0.1", "--port", &port.to_string(), "--save", "", "--appendonly", "no"])
            .arg("--dir")
            .arg(&directory)
            .arg("--unixsocket")
            .arg(&socket)
            .args(extra)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("redis-server");
        let mut pid = String::new();
        BufReader::new(shell.stdout.take().expect("stdout")).read_line(&mut pid).expect("process id");
        Self { port, socket, pid: pid.trim().to_owned(), shell }
    }

    /// It says nothing, but its connections stand.
    pub(crate) fn pause(&self) {
        self.signal("-STOP");
    }

    pub(crate) fn resume(&self) {
        self.signal("-CONT");
    }

    fn signal(&self, signal: &str) {
        let sent = Command::new("kill").args([signal, &self.pid]).status().expect("kill");
        assert!(sent.success());
    }

    fn answers(&self, deadline: Instant) -> bool {
        let patience = deadline.min(Instant::now() + Duration::from_secs(5));
        while Instant::now() < patience {
            // Once it listens on both: the socket's file is there before that.
            if TcpStream::connect(("127.0.0.1", self.port)).is_ok() && UnixStream::connect(&self.socket).is_ok() {
                return true;
            }
            std::thread::sleep(Duration::from_millis(5)); // between two looks at the condition
        }
        false
    }

    pub(crate) fn address(&self) -> StoreAddress {
        StoreAddress::Tcp("127.0.0.1".to_owned(), self.port)
    }

    pub(crate) fn settings(&self, namespace: &str) -> RedisConfig {
        settings_of(RedisServers::One(self.address()), namespace)
    }

    pub(crate) async fn connect(&self) -> MultiplexedConnection {
        let client = redis::Client::open(("127.0.0.1", self.port)).expect("client");
        let patient = redis::AsyncConnectionConfig::new()
            .set_connection_timeout(Some(Duration::from_secs(10)))
            .set_response_timeout(Some(Duration::from_secs(10)));
        client.get_multiplexed_async_connection_with_config(&patient).await.expect("connection")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.shell.stdin.take());
        let _ = self.shell.wait();
    }
}

pub(crate) fn settings(namespace: &str) -> RedisConfig {
    match in_cluster() {
        true => settings_of(RedisServers::Cluster(vec![SERVER.address()]), namespace),
        false => SERVER.settings(namespace),
    }
}

/// The way to servers without passwords, in the clear.
pub(crate) fn settings_of(servers: RedisServers, namespace: &str) -> RedisConfig {
    RedisConfig {
        servers,
        database: 0,
        login: RedisLogin::default(),
        tls: None,
        namespace: namespace.to_owned(),
        shards: 1,
        timeout: Duration::from_secs(10),
    }
}

/// The keys of one test in the common server.
pub(crate) struct Namespace {
    pub(crate) connection: MultiplexedConnection,
    pub(crate) pattern: String,
}

/// Every key with its serialised value and remaining time to live.
pub(crate) type Dump = Vec<(String, Vec<u8>, i64)>;

impl Namespace {
    pub(crate) async fn open(namespace: &str) -> Self {
        Self { connection: SERVER.connect().await, pattern: format!("{{{namespace}:*") }
    }

    pub(crate) async fn keys(&mut self) -> Vec<String> {
        self.ask(redis::cmd("KEYS").arg(self.pattern.clone())).await
    }

    pub(crate) async fn ask<T: redis::FromRedisValue>(&mut self, command: &redis::Cmd) -> T {
        command.query_async(&mut self.connection).await.expect("answer")
    }

    /// FLUSHALL of what is ours.
    pub(crate) async fn flush(&mut self) {
        for key in self.keys().await {
            self.ask::<u64>(redis::cmd("DEL").arg(key)).await;
        }
    }

    pub(crate) async fn dump(&mut self) -> Dump {
        let mut dump = Dump::new();
        for key in self.keys().await {
            let value = self.ask(redis::cmd("DUMP").arg(&key)).await;
            let left: i64 = self.ask(redis::cmd("PTTL").arg(&key)).await;
            dump.push((key, value, left.max(0)));
        }
        dump
    }

    pub(crate) async fn restore(&mut self, dump: &Dump) {
        self.flush().await;
        for (key, value, left) in dump {
            let mut restore = redis::cmd("RESTORE");
            self.ask::<String>(restore.arg(key).arg(*left).arg(value)).await;
        }
    }
}
