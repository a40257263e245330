//! A Postfix of its own configuration and queue that hands all mail over by LMTP: what stands in front of a fleet.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, ensure};

use super::address::fresh_address;
use super::process::Daemon;
use super::{Dialect, Result, Smtp, eventually};

/// Where mail is, in the order in which it moves on.
const QUEUES: [&str; 7] = ["maildrop", "incoming", "active", "deferred", "hold", "corrupt", "saved"];
/// The other directories of a queue.
const OTHERS: [&str; 8] = ["bounce", "defer", "flush", "private", "trace", "pid", "public", "."];

/// The services without which no mail gets through. None is put into a root directory of its own.
const SERVICES: &str = "pickup unix n - n 60 1 pickup
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
flush unix n - n 1000? 0 flush
proxymap unix - - n - - proxymap
anvil unix - - n - 1 anvil
scache unix - - n - 1 scache
error unix - - n - - error
retry unix - - n - - error
lmtp unix - - n - - lmtp
showq unix n - n - - showq
postlog unix-dgram n - n - 1 postlogd
";

/// A running Postfix.
pub struct Postfix {
    /// Where it takes mail, by SMTP.
    pub address: SocketAddr,
    dir: PathBuf,
    _daemon: Daemon,
}

impl Postfix {
    /// Whether it can run here: its processes change users, which only root can.
    pub fn permitted() -> bool {
        rustix::process::geteuid().is_root()
    }

    /// Starts one with files in `dir`/postfix. It delivers to the first of `servers` that can be reached. What cannot be
    /// delivered is tried again every two or three seconds: after less than that, the attempt before may not have let go of
    /// the message yet, and then Postfix leaves it alone for a minute ("skipped, still being delivered").
    pub async fn start(dir: &Path, servers: &[SocketAddr]) -> Result<Self> {
        let dir = dir.join("postfix");
        let address = fresh_address()?;
        for part in ["conf", "data", "queue"] {
            fs::create_dir_all(dir.join(part))?;
        }
        make_queue(&dir)?;
        fs::write(dir.join("conf/main.cf"), main_cf(&dir, servers)?)?;
        fs::write(dir.join("conf/master.cf"), format!("{address} inet n - n - - smtpd\n{SERVICES}"))?;
        let console = dir.join("console");
        let arguments = ["-c".to_owned(), dir.join("conf").display().to_string(), "-d".to_owned()];
        let mut daemon = Daemon::start("/usr/lib/postfix/sbin/master", arguments, &console)?;
        eventually("Postfix greets", Duration::from_secs(30), async || {
            daemon.check().with_context(|| fs::read_to_string(&console).unwrap_or_default())?;
            Smtp::connect(Dialect::Smtp, address).await.map(drop)
        })
        .await?;
        Ok(Self { address, dir, _daemon: daemon })
    }

    /// Puts a message into the queue.
    pub async fn take(&self, from: &str, to: &[&str], message: &str) -> Result {
        let mut smtp = Smtp::connect(Dialect::Smtp, self.address).await?;
        smtp.send_pipelined(from, to, message).await?.ok()?;
        smtp.quit().await
    }

    /// The names of the messages in its queue, delivered to nobody or only to some.
    pub fn queued(&self) -> Result<BTreeSet<String>> {
        let mut names = BTreeSet::new();
        // Once more at the end: what is tried again goes back from the last to one before.
        for queue in QUEUES.into_iter().chain(["active", "deferred"]) {
            collect_files(&self.dir.join("queue").join(queue), &mut names)?;
        }
        Ok(names)
    }

    /// Waits until the queue is empty.
    pub async fn drained(&self, deadline: Duration) -> Result {
        eventually("Postfix has delivered everything", deadline, async || {
            let queued = self.queued()?.len();
            ensure!(queued == 0, "{queued} are left, {}", self.log()?.lines().last().unwrap_or(""));
            Ok(())
        })
        .await
    }

    /// The lines that tell what became of a recipient: `status=sent`, `deferred` or `bounced`.
    pub fn outcomes(&self, status: &str) -> Result<Vec<String>> {
        let wanted = format!(" status={status} ");
        Ok(self.log()?.lines().filter(|line| line.contains(&wanted)).map(str::to_owned).collect())
    }

    /// Everything it has logged.
    pub fn log(&self) -> Result<String> {
        Ok(String::from_utf8_lossy(&fs::read(self.dir.join("log"))?).into_owned())
    }
}

fn main_cf(dir: &Path, servers: &[SocketAddr]) -> Result<String> {
    let dir = dir.display();
    let mut text = format!(
        "compatibility_level = 3.6\nqueue_directory = {dir}/queue\ndata_directory = {dir}/data\n\
         command_directory = /usr/sbin\ndaemon_directory = /usr/lib/postfix/sbin\nmail_owner = postfix\n\
         setgid_group = postdrop\nmaillog_file = {dir}/log\nmaillog_file_prefixes = {dir}\nmyhostname = mta.test\n\
         mydestination =\nmynetworks = 127.0.0.0/8\ninet_protocols = ipv4\ninet_interfaces = loopback-only\n\
         smtp_dns_support_level = disabled\nsmtpd_relay_restrictions = permit_mynetworks, reject\n\
         smtpd_authorized_xclient_hosts = 127.0.0.0/8\nalias_maps =\n\
         alias_database =\nlocal_recipient_maps =\nqueue_run_delay = 1s\nminimal_backoff_time = 2s\n\
         maximal_backoff_time = 3s\ntransport_retry_time = 1s\n"
    );
    for (number, server) in servers.iter().enumerate() {
        // Only the first may say that it is inet.
        let before = if number == 0 { "default_transport = lmtp:inet:" } else { ", " };
        write!(text, "{before}[{}]:{}", server.ip(), server.port())?;
    }
    Ok(text + "\n")
}

/// The directories, owned as `postfix set-permissions` would have it.
fn make_queue(dir: &Path) -> Result {
    let (owner, group) = (id(&["-u", "postfix"])?, group("postdrop")?);
    chown(dir.join("data"), Some(owner), None)?;
    for name in QUEUES.into_iter().chain(OTHERS) {
        let path = dir.join("queue").join(name);
        fs::create_dir_all(&path)?;
        let (owner, group, mode) = match name {
            "." | "pid" => (0, 0, 0o755),
            "maildrop" => (owner, group, 0o730),
            "public" => (owner, group, 0o710),
            _ => (owner, 0, 0o700),
        };
        chown(&path, Some(owner), Some(group))?;
        fs::set_permissions(&path, fs::Permissions::from_mode(mode))?;
    }
    Ok(())
}

fn id(arguments: &[&str]) -> Result<u32> {
    let output = Command::new("id").args(arguments).output()?;
    ensure!(output.status.success(), "no Postfix: install Debian's postfix (tests/run --install)");
    Ok(String::from_utf8(output.stdout)?.trim().parse()?)
}

fn group(name: &str) -> Result<u32> {
    let groups = fs::read_to_string("/etc/group")?;
    let line = groups.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    let number = line.and_then(|line| line.split(':').nth(1));
    Ok(number.with_context(|| format!("no group {name}"))?.parse()?)
}

/// The names of the files in it and below it. One that moves on meanwhile is in the next directory.
fn collect_files(dir: &Path, into: &mut BTreeSet<String>) -> Result {
    for entry in fs::read_dir(dir).with_context(|| dir.display().to_string())?.flatten() {
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => collect_files(&entry.path(), into)?,
            Ok(_) => drop(into.insert(entry.file_name().to_string_lossy().into_owned())),
            Err(_) => {}
        }
    }
    Ok(())
}
