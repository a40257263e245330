//! Dovecot 2.3 servers as backends: own run directories and indexes, one maildir store, no file outside the scratch
//! directory.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep};

use super::mailbox::samples;

const PROGRAM: &str = "/usr/sbin/dovecot";
/// How long a server may take to listen.
const START: Duration = Duration::from_secs(60);
/// Numeric user and group "nobody", who owns the mail when the demo runs as root.
const NOBODY: u32 = 65_534;

/// One running server.
pub(super) struct Dovecot {
    child: Child,
    config: PathBuf,
    address: SocketAddr,
}

/// Who Dovecot's processes run as.
struct Owner {
    uid: u32,
    gid: u32,
    /// Settings for a Dovecot that was not started by root: everything as one user, without chroot.
    rootless: String,
}

impl Dovecot {
    /// Starts a server per name, with accounts for `users`.
    pub(super) async fn start_all(
        names: &[&str],
        users: &[String],
        password: &str,
        scratch: &Path,
    ) -> anyhow::Result<Vec<Self>> {
        check_version().await?;
        let owner = Owner::find().await?;
        lay_out(users, password, scratch, &owner).context("cannot prepare the mail store")?;
        // Dovecot cannot choose a free port itself. All are taken at once, so that each is another.
        let free = || TcpListener::bind((Ipv4Addr::LOCALHOST, 0));
        let ports = names.iter().map(|_| free()).collect::<Result<Vec<_>, _>>()?;
        let mut servers = Vec::new();
        for (name, port) in names.iter().zip(ports) {
            servers.push(Self::start(name, port, scratch, &owner)?);
        }
        for (server, name) in servers.iter_mut().zip(names) {
            server.wait().await.with_context(|| server.last_words(scratch, name))?;
        }
        Ok(servers)
    }

    /// Where it listens.
    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Who has sessions here: one name per session.
    pub(super) async fn users(&self) -> anyhow::Result<Vec<String>> {
        let output = Command::new("doveadm").arg("-c").arg(&self.config).args(["who", "-1"]).output().await?;
        ensure!(output.status.success(), "doveadm who: {}", String::from_utf8_lossy(&output.stderr));
        let text = String::from_utf8_lossy(&output.stdout);
        Ok(text.lines().skip(1).filter_map(|line| line.split_whitespace().next()).map(str::to_owned).collect())
    }

    fn start(name: &str, port: TcpListener, scratch: &Path, owner: &Owner) -> anyhow::Result<Self> {
        let address = port.local_addr()?;
        let dir = scratch.join(name);
        fs::create_dir(&dir)?;
        fs::create_dir(dir.join("index"))?;
        chown(dir.join("index"), Some(owner.uid), Some(owner.gid))?;
        let config = dir.join("dovecot.conf");
        fs::write(&config, settings(name, address.port(), scratch, owner))?;
        // Free from here on, until somebody else takes it: then `wait` fails.
        drop(port);
        let child = Command::new(PROGRAM)
            .arg("-F")
            .arg("-c")
            .arg(&config)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .with_context(|| format!("cannot start {PROGRAM}"))?;
        Ok(Self { child, config, address })
    }

    async fn wait(&mut self) -> anyhow::Result<()> {
        let deadline = Instant::now() + START;
        while TcpStream::connect(self.address).await.is_err() {
            if let Some(status) = self.child.try_wait()? {
                bail!("Dovecot ended with {status}");
            }
            ensure!(Instant::now() < deadline, "Dovecot does not listen on {}", self.address);
            sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    }

    /// The end of its log, to say why it did not start.
    fn last_words(&self, scratch: &Path, name: &str) -> String {
        let log = fs::read_to_string(scratch.join(name).join("log")).unwrap_or_default();
        let lines: Vec<_> = log.lines().rev().take(5).collect();
        format!("{name} says: {}", lines.into_iter().rev().collect::<Vec<_>>().join("\n"))
    }
}

impl Drop for Dovecot {
    fn drop(&mut self) {
        // Its children end with the master, orderly; killed, it would leave them behind.
        let Some(pid) = self.child.id().and_then(|id| rustix::process::Pid::from_raw(id.cast_signed())) else { return };
        if rustix::process::kill_process(pid, rustix::process::Signal::TERM).is_ok() {
            let deadline = std::time::Instant::now() + Duration::from_secs(3);
            while matches!(self.child.try_wait(), Ok(None)) && std::time::Instant::now() < deadline {
                std::thread::sleep(Duration::from_millis(10));
            }
        }
    }
}

impl Owner {
    async fn find() -> anyhow::Result<Self> {
        if rustix::process::geteuid().is_root() {
            return Ok(Self { uid: NOBODY, gid: NOBODY, rootless: String::new() });
        }
        let (user, group) = (who("-un").await?, who("-gn").await?);
        let rootless = format!(
            "default_internal_user = {user}\n\
             default_internal_group = {group}\n\
             default_login_user = {user}\n\
             service anvil {{\n  chroot =\n}}\n\
             service imap-login {{\n  chroot =\n}}\n\
             service stats {{\n  chroot =\n}}\n"
        );
        Ok(Self { uid: rustix::process::geteuid().as_raw(), gid: rustix::process::getegid().as_raw(), rootless })
    }
}

async fn check_version() -> anyhow::Result<()> {
    let missing =
        || format!("{PROGRAM} cannot be run: install Dovecot (Debian: dovecot-imapd), or go without --dovecot");
    let output = Command::new(PROGRAM).arg("--version").output().await.with_context(missing)?;
    let version = String::from_utf8_lossy(&output.stdout);
    ensure!(version.starts_with("2.3."), "the demo writes settings for Dovecot 2.3, and this is {}", version.trim());
    Ok(())
}

async fn who(option: &str) -> anyhow::Result<String> {
    let output = Command::new("id").arg(option).output().await.context("cannot run id")?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// Writes passwords and everybody's first messages.
fn lay_out(users: &[String], password: &str, scratch: &Path, owner: &Owner) -> anyhow::Result<()> {
    let accounts: String = users.iter().map(|user| format!("{user}:{{PLAIN}}{password}\n")).collect();
    fs::write(scratch.join("passwd"), accounts)?;
    let own = |path: &Path| chown(path, Some(owner.uid), Some(owner.gid));
    let mail = scratch.join("mail");
    fs::create_dir(&mail)?;
    own(&mail)?;
    for user in users {
        let home = mail.join(user);
        for dir in [home.clone(), home.join("tmp"), home.join("cur"), home.join("new")] {
            fs::create_dir(&dir)?;
            own(&dir)?;
        }
        for (number, message) in samples(user).into_iter().enumerate() {
            let file = home.join("new").join(format!("{}.demo.homing", number + 1));
            fs::write(&file, message)?;
            own(&file)?;
        }
    }
    Ok(())
}

fn settings(name: &str, port: u16, scratch: &Path, owner: &Owner) -> String {
    let Owner { uid, gid, rootless } = owner;
    let scratch = scratch.display();
    format!(
        "base_dir = {scratch}/{name}/run\n\
         state_dir = {scratch}/{name}/state\n\
         log_path = {scratch}/{name}/log\n\
         protocols = imap\n\
         listen = 127.0.0.1\n\
         ssl = no\n\
         disable_plaintext_auth = no\n\
         # The client's address and session name, as the proxies announce them by ID, are believed from here.\n\
         login_trusted_networks = 127.0.0.0/8\n\
         imap_id_send = name * backend {name}\n\
         first_valid_uid = 1\n\
         mail_location = maildir:{scratch}/mail/%u:INDEX={scratch}/{name}/index/%u\n\
         mail_max_userip_connections = 100\n\
         {rootless}\
         service imap-login {{\n  inet_listener imap {{\n    port = {port}\n  }}\n  inet_listener imaps {{\n    port = 0\n  }}\n}}\n\
         passdb {{\n  driver = passwd-file\n  args = {scratch}/passwd\n}}\n\
         userdb {{\n  driver = static\n  args = uid={uid} gid={gid} home={scratch}/mail/%u\n}}\n"
    )
}
