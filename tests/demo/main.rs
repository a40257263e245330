//! `homing demo` as a user runs it: the tour, alone and with Redis and Dovecot, and mail programs that read from it.
//!
//! Needs redis-server, dovecot, curl and python3.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How long anything here may take.
const PATIENCE: Duration = Duration::from_secs(120);

#[test]
fn the_tour_keeps_every_promise() {
    assert_kept(&["--tour"]);
}

#[test]
fn the_tour_keeps_every_promise_with_redis() {
    let redis = Redis::start();
    assert_kept(&["--tour", "--redis", &redis.url()]);
    assert_eq!(redis.keys(), "0", "the demo left keys behind");
}

#[test]
fn the_tour_keeps_every_promise_with_dovecot() {
    assert_kept(&["--tour", "--dovecot"]);
}

#[test]
fn curl_and_imaplib_read_the_same_message_through_either_proxy() {
    let demo = Demo::start();
    let [one, two] = demo.proxies();
    let message = run(Command::new("curl").args(["-sS", "-u", "alice:demo", &format!("imap://{one}/INBOX;UID=1")]));
    assert!(message.contains("Subject: Welcome home"), "{message}");
    let (host, port) = two.split_once(':').expect("an address has a port");
    let script = "import imaplib, sys\n\
                  box = imaplib.IMAP4(sys.argv[1], int(sys.argv[2]))\n\
                  box.login('alice', 'demo')\n\
                  box.select('INBOX')\n\
                  sys.stdout.write(box.fetch('1', '(BODY.PEEK[])')[1][0][1].decode())\n\
                  box.logout()\n";
    let same = run(Command::new("python3").args(["-c", script, host, port]));
    assert_eq!(same.trim_end().replace('\r', ""), message.trim_end().replace('\r', ""));
}

#[test]
fn ctrl_c_ends_the_demo_in_good_order_and_leaves_no_files() {
    let mut demo = Demo::start();
    let scratch = demo.scratch();
    assert!(scratch.join("certificate.pem").exists());
    let id = demo.child.id().to_string();
    run(Command::new("kill").args(["-INT", &id]));
    let status = wait(&mut demo.child);
    assert!(status.success(), "{status}");
    assert!(!scratch.exists());
}

/// Two demos that start at once both find the well-known ports free, and only one gets them.
static WELL_KNOWN_PORTS: Mutex<()> = Mutex::new(());

/// A running `homing demo`.
struct Demo {
    _ports: MutexGuard<'static, ()>,
    child: Child,
    /// What it printed before it began to wait.
    hints: String,
}

impl Demo {
    fn start() -> Self {
        let ports = WELL_KNOWN_PORTS.lock().unwrap_or_else(PoisonError::into_inner);
        let mut child = homing(&["demo"]).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("homing starts");
        let mut out = BufReader::new(child.stdout.take().expect("it was piped"));
        let mut hints = String::new();
        while !hints.contains("Ctrl-C ends this.") {
            let count = out.read_line(&mut hints).expect("its output can be read");
            assert!(count > 0, "it ended early, after: {hints}");
        }
        Self { _ports: ports, child, hints }
    }

    /// The IMAP addresses of both proxies.
    fn proxies(&self) -> [String; 2] {
        let line = self.hints.lines().find(|line| line.starts_with("Proxies:")).expect("it says where they are");
        let mut addresses = line.split("(IMAP ").skip(1).filter_map(|rest| rest.split(',').next());
        [addresses.next(), addresses.next()].map(|address| address.expect("there are two").to_owned())
    }

    fn scratch(&self) -> PathBuf {
        let path = self.hints.split_whitespace().find(|word| word.ends_with("certificate.pem"));
        Path::new(path.expect("it names the certificate")).parent().expect("in a directory").to_owned()
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        // SIGTERM lets it remove its files; it may be gone already.
        let _ = Command::new("kill").arg(self.child.id().to_string()).stderr(Stdio::null()).status();
        let _ = self.child.wait();
    }
}

/// A Redis server of our own, on a socket file.
struct Redis {
    child: Child,
    dir: tempfile::TempDir,
}

impl Redis {
    fn start() -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let child = Command::new("redis-server")
            .args(["--port", "0", "--save", "", "--unixsocket", "redis.sock", "--dir"])
            .arg(dir.path())
            .stdout(Stdio::null())
            .spawn()
            .expect("redis-server is installed");
        let redis = Self { child, dir };
        let deadline = Instant::now() + PATIENCE;
        while std::os::unix::net::UnixStream::connect(redis.socket()).is_err() {
            assert!(Instant::now() < deadline, "redis-server does not listen");
            std::thread::yield_now();
        }
        redis
    }

    fn socket(&self) -> PathBuf {
        self.dir.path().join("redis.sock")
    }

    fn url(&self) -> String {
        format!("unix://{}", self.socket().display())
    }

    fn keys(&self) -> String {
        run(Command::new("redis-cli").arg("-s").arg(self.socket()).arg("DBSIZE")).trim().to_owned()
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn homing(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_homing"));
    command.args(arguments).stdin(Stdio::null());
    command
}

/// The tour succeeds, and says of each act that its promise was kept.
fn assert_kept(arguments: &[&str]) {
    let output = homing(&[&["demo"], arguments].concat()).output().expect("homing starts");
    let table = shown(&output);
    assert!(output.status.success(), "{table}");
    let acts = String::from_utf8_lossy(&output.stderr).lines().filter(|line| line.starts_with("ok ")).count();
    assert_eq!(acts, 6, "{table}");
    assert!(table.contains("Every promise was kept."), "{table}");
}

fn run(command: &mut Command) -> String {
    let output = command.output().expect("curl, python3, redis-cli and kill are installed");
    assert!(output.status.success(), "{command:?}: {}", shown(&output));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn wait(child: &mut Child) -> std::process::ExitStatus {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(status) = child.try_wait().expect("it is our child") {
            return status;
        }
        assert!(Instant::now() < deadline, "it does not end");
        std::thread::yield_now();
    }
}

fn shown(output: &Output) -> String {
    [&output.stdout[..], &output.stderr].map(String::from_utf8_lossy).concat()
}
