//! What asks a source, and what is asked.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use homing::auth::{Chain, Circumstances, Grant, Lookup, Question, Refused};
use homing::config::{AuthSocket, DovecotPassdb, PassdbConfig, RemoteKeys};
use homing::model::{Credentials, Mechanism, Proof, Protocol, Refusal, Secret, SessionId};
use rustix::process::{Pid, Signal, kill_process_group};

use crate::parts::PATIENCE;

/// A client of 192.0.2.7 logs in.
pub(crate) async fn log_in(chain: &Chain, service: Protocol, user: &str, password: &str) -> Result<Grant, Refused> {
    let proof = Proof::Password(Secret::new(password.as_bytes().to_vec()));
    let credentials = Credentials { user: user.to_owned(), authzid: None, proof, mechanism: Mechanism::Plain };
    let session = SessionId::new("s1");
    let question = Question {
        credentials: &credentials,
        service,
        client: "192.0.2.7:50000".parse().unwrap(),
        local: "192.0.2.1:993".parse().unwrap(),
        secured: true,
        session: &session,
        around: Circumstances { attempt: 2, ..Circumstances::default() },
    };
    chain.authenticate(&question).await
}

/// Mail comes for somebody.
pub(crate) async fn find(chain: &Chain, user: &str) -> Result<Option<Grant>, Refusal> {
    let session = SessionId::new("s1");
    let [client, local] = ["192.0.2.7:50000", "192.0.2.1:24"].map(|address| address.parse().unwrap());
    chain.find(&Lookup { user, service: Protocol::Lmtp, client, local, session: &session }).await
}

/// Short times, and a breaker that opens at once.
pub(crate) fn soon() -> RemoteKeys {
    RemoteKeys {
        timeout: Duration::from_millis(700),
        failures: 2,
        pause: Duration::from_millis(50),
        ..RemoteKeys::default()
    }
}

/// Asks again until the answer is as it should be.
pub(crate) async fn eventually(chain: &Chain, user: &str, password: &str) -> Grant {
    let began = std::time::Instant::now();
    loop {
        match log_in(chain, Protocol::Imap, user, password).await {
            Ok(grant) => return grant,
            Err(why) => assert!(began.elapsed() < PATIENCE, "{why:?}"),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// A Dovecot 2.3 that has nothing but its auth service. Users of each service are in a file of their own.
pub(crate) struct Dovecot {
    dir: tempfile::TempDir,
    child: Option<Child>,
}

impl Dovecot {
    /// With these lines for users by IMAP; others have no file until one is written.
    pub(crate) async fn start(users: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::set_permissions(dir.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        let mut server = Self { dir, child: None };
        server.users(Protocol::Imap, users);
        std::fs::write(server.path("dovecot.conf"), server.config()).unwrap();
        server.launch().await;
        server
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn users(&self, service: Protocol, users: &str) {
        std::fs::write(self.path(&format!("users.{}", service.word())), users).unwrap();
    }

    fn config(&self) -> String {
        let dir = self.dir.path().display();
        let who = Command::new("id").arg("-un").output().unwrap().stdout;
        let who = String::from_utf8(who).unwrap();
        let who = who.trim();
        let mine = if who == "root" {
            String::new()
        } else {
            format!(
                "default_internal_user = {who}\ndefault_login_user = {who}\nservice stats {{\n  chroot =\n}}\n\
                     service anvil {{\n  chroot =\n}}\n"
            )
        };
        format!(
            "base_dir = {dir}/run\nstate_dir = {dir}/run\nlog_path = {dir}/log\nprotocols =\nlisten = 127.0.0.1\nssl = no\n\
             auth_mechanisms = plain login\nauth_failure_delay = 0\nfirst_valid_uid = 1\nmail_location = maildir:{dir}/%u\n\
             passdb {{\n  driver = passwd-file\n  args = scheme=PLAIN username_format=%u {dir}/users.%s\n}}\n\
             userdb {{\n  driver = passwd-file\n  args = username_format=%u {dir}/users.imap\n}}\n\
             service auth {{\n  user = {who}\n  unix_listener auth-client {{\n    mode = 0666\n  }}\n\
             unix_listener auth-userdb {{\n    mode = 0777\n  }}\n}}\n{mine}"
        )
    }

    /// Starts it (again), and waits until it listens.
    pub(crate) async fn launch(&mut self) {
        use std::os::unix::process::CommandExt;
        let mut command = Command::new("dovecot");
        command.args(["-F", "-c"]).arg(self.path("dovecot.conf")).stdin(Stdio::null()).process_group(0);
        self.child = Some(command.spawn().expect("dovecot is installed"));
        let began = std::time::Instant::now();
        while tokio::net::UnixStream::connect(self.path("run/auth-client")).await.is_err() {
            assert!(began.elapsed() < PATIENCE, "{}", std::fs::read_to_string(self.path("log")).unwrap_or_default());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Tells all of its processes.
    pub(crate) fn signal(&self, signal: Signal) {
        if let Some(child) = &self.child {
            let _ = kill_process_group(Pid::from_child(child), signal); // it may be gone
        }
    }

    pub(crate) fn kill(&mut self) {
        self.signal(Signal::KILL);
        if let Some(mut child) = self.child.take() {
            child.wait().unwrap();
        }
    }

    pub(crate) fn config_path(&self) -> PathBuf {
        self.path("dovecot.conf")
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.path("log")).unwrap_or_default()
    }

    /// A passdb that asks it.
    pub(crate) fn passdb(&self, remote: RemoteKeys) -> PassdbConfig {
        let socket = |name| AuthSocket::Unix(Path::new(&self.path("run")).join(name));
        let keys = DovecotPassdb {
            auth_socket: socket("auth-client"),
            lookup_socket: Some(socket("auth-userdb")),
            penalty: false,
        };
        PassdbConfig::Dovecot(keys, remote)
    }
}

impl Drop for Dovecot {
    fn drop(&mut self) {
        self.kill();
    }
}
