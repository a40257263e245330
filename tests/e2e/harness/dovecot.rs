//! Real Dovecot 2.3 servers that share one mail store, each with index files of its own: what a fleet stands in front of.

use std::fmt::Write as _;
use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::{Context, ensure};
use rustix::process::Signal;

use super::address::{free_ports, fresh_ip};
use super::certs::Issued;
pub use super::mailstore::MASTER;
use super::mailstore::{Identity, MailStore};
use super::process::Daemon;
use super::services::Services;
use super::{Imap, Protocol, Result, User, eventually};

/// What its doveadm asks for, over either protocol.
pub const DOVEADM_PASSWORD: &str = "Doveadm+Kennwort";
/// What the HTTP API takes instead.
pub const DOVEADM_KEY: &str = "Doveadm+Schluessel";

/// What a server does beyond plain IMAP.
#[derive(Default)]
pub struct DovecotOptions<'a> {
    /// Offer STARTTLS and IMAPS with this certificate.
    pub tls: Option<&'a Issued>,
    /// More lines for `dovecot.conf`.
    pub extra: &'a str,
    /// Where it listens; an address of its own on loopback if there is none.
    pub ip: Option<IpAddr>,
    /// It will be killed at work. Then it leaves locks behind, which are honoured for minutes: they are kept where they
    /// hold up itself alone, and are removed when it starts again.
    pub mortal: bool,
    /// What it serves beside IMAP and doveadm.
    pub protocols: &'a [Protocol],
    /// Where it relays what it is given for submission; needed for that.
    pub relay: Option<SocketAddr>,
}

/// A running Dovecot.
pub struct Dovecot {
    /// Its name; also in its answer to ID and in its greeting.
    pub name: String,
    /// Plain IMAP.
    pub address: SocketAddr,
    /// IMAPS, if it has a certificate.
    pub tls_address: SocketAddr,
    /// Plain IMAP behind a PROXY header.
    pub proxied_address: SocketAddr,
    /// Its doveadm protocol.
    pub doveadm_address: SocketAddr,
    /// The same under TLS, if it has a certificate.
    pub doveadm_tls_address: SocketAddr,
    /// Its doveadm's HTTP API.
    pub doveadm_http_address: SocketAddr,
    /// What it serves beside these, if it was asked for.
    pub serves: Services,
    dir: PathBuf,
    daemon: Option<Daemon>,
    deaths: Vec<u64>,
}

impl Dovecot {
    /// Starts a server with files in `dir` and waits until it greets.
    pub async fn start(dir: &Path, name: &str, store: &MailStore, options: DovecotOptions<'_>) -> Result<Self> {
        let ip = options.ip.unwrap_or_else(fresh_ip);
        let dir = dir.join(name);
        // All at once, so that no two are the same.
        let [
            address,
            tls_address,
            proxied_address,
            doveadm_address,
            doveadm_tls_address,
            doveadm_http_address,
            others @ ..,
        ] = free_ports::<18>(ip)?;
        let base = dir.join("run");
        let serves = Services::new(others, &base, options.protocols, options.relay, options.tls.is_some());
        let mut server = Self {
            name: name.to_owned(),
            address,
            tls_address,
            proxied_address,
            doveadm_address,
            doveadm_tls_address,
            doveadm_http_address,
            serves,
            daemon: None,
            deaths: Vec::new(),
            dir,
        };
        fs::create_dir_all(server.dir.join("run"))?;
        store.identity.make_dir(&server.dir.join("index"))?;
        fs::write(server.config_path(), server.config(store, &options)?)?;
        server.launch().await?;
        Ok(server)
    }

    /// Starts it again after [`Dovecot::kill`].
    pub async fn launch(&mut self) -> Result {
        ensure!(self.daemon.is_none(), "{} runs already", self.name);
        remove_locks(&self.dir.join("index"))?;
        let console = self.dir.join("console");
        let config = self.config_path();
        let mut daemon = Daemon::start("dovecot", ["-F".as_ref(), "-c".as_ref(), config.as_os_str()], &console)?;
        eventually("Dovecot greets", Duration::from_secs(60), async || {
            daemon.check().with_context(|| fs::read_to_string(&console).unwrap_or_default())?;
            Imap::connect(self.address).await.map(drop)
        })
        .await?;
        self.daemon = Some(daemon);
        Ok(())
    }

    /// `kill -9` of the server and everything it has started.
    pub fn kill(&mut self) {
        if let Some(daemon) = self.daemon.take() {
            // An error means that it is gone already.
            let _ = daemon.signal_all(Signal::KILL);
            // No process of it does anything from here on. That the kernel has closed all connections takes longer, and
            // those that are closed first may have told a proxy by then.
            self.deaths.push(micros_since_1970());
        }
    }

    /// Its processes, for signals.
    pub fn daemon(&self) -> Result<&Daemon> {
        self.daemon.as_ref().context("not running")
    }

    /// When it was killed: microseconds since 1970.
    pub fn deaths(&self) -> &[u64] {
        &self.deaths
    }

    /// Everything it has logged.
    pub fn log(&self) -> Result<String> {
        let path = self.dir.join("log");
        String::from_utf8(fs::read(&path)?).with_context(|| format!("{} is not UTF-8", path.display()))
    }

    /// Opens a connection past all proxies and logs in.
    pub async fn log_in(&self, user: &User) -> Result<Imap> {
        let mut imap = Imap::connect(self.address).await?;
        imap.login(user).await?;
        Ok(imap)
    }

    fn config_path(&self) -> PathBuf {
        self.dir.join("dovecot.conf")
    }

    /// `dovecot.conf`. Logins are served by a long-lived process, sessions by one process each that is used again;
    /// everything that slows a failed login down is off. What doveadm does for a user is logged at its end.
    fn config(&self, store: &MailStore, options: &DovecotOptions<'_>) -> Result<String> {
        let Self { name, address, tls_address, proxied_address, dir, .. } = self;
        let Identity { user, group, root } = &store.identity;
        let (dir, mail, ip) = (dir.display(), store.dir.display(), address.ip());
        let ssl = match options.tls {
            None => "ssl = no\n".to_owned(),
            Some(tls) => format!(
                "ssl = yes\nssl_cert = <{}\nssl_key = <{}\nssl_min_protocol = TLSv1.2\n",
                tls.certificate.display(),
                tls.key.display()
            ),
        };
        let control = if options.mortal { format!(":CONTROL={dir}/index/%u") } else { String::new() };
        let tls_port = if options.tls.is_some() { tls_address.port() } else { 0 };
        let doveadm_tls_port = if options.tls.is_some() { self.doveadm_tls_address.port() } else { 0 };
        let protocols = self.serves.words();
        let (doveadm_port, http_port) = (self.doveadm_address.port(), self.doveadm_http_address.port());
        let mut text = format!(
            r#"base_dir = {dir}/run
state_dir = {dir}/run
instance_name = {name}
log_path = {dir}/log
log_timestamp = "%s.%{{usecs}} "
login_log_format_elements = user=<%u> rip=%r rport=%{{rport}} lip=%l lport=%{{lport}} real_rip=%{{real_rip}} mpid=%e %c session=<%{{session}}>
protocols = imap{protocols}
listen = {ip}
login_greeting = {name} ready.
imap_id_send = "name" {name}
auth_mechanisms = plain login
auth_master_user_separator = *
auth_failure_delay = 0
disable_plaintext_auth = no
login_trusted_networks = 127.0.0.0/8 10.77.0.0/16
haproxy_trusted_networks = 127.0.0.0/8 10.77.0.0/16
first_valid_uid = 1
first_valid_gid = 1
mail_location = maildir:{mail}/mail/%u/Maildir:INDEX={dir}/index/%u{control}
mail_fsync = never
mail_max_userip_connections = 10000
default_process_limit = 2000
default_client_limit = 20000
default_vsz_limit = 1G
{ssl}
passdb {{
  driver = passwd-file
  args = {mail}/masters
  master = yes
}}
passdb {{
  driver = passwd-file
  args = scheme=PLAIN username_format=%u {mail}/users
}}
userdb {{
  driver = static
  args = uid={user} gid={group} home={mail}/mail/%u
}}
service imap-login {{
  inet_listener imap {{
    port = {}
  }}
  inet_listener imaps {{
    port = {tls_port}
  }}
  inet_listener proxied {{
    port = {}
    haproxy = yes
  }}
  service_count = 0
  process_min_avail = 1
  process_limit = 1
  client_limit = 10000
}}
service imap {{
  service_count = 1000
  process_min_avail = 2
  process_limit = 2000
}}
doveadm_password = {DOVEADM_PASSWORD}
doveadm_api_key = {DOVEADM_KEY}
service doveadm {{
  inet_listener doveadm {{
    port = {doveadm_port}
  }}
  inet_listener doveadms {{
    port = {doveadm_tls_port}
    ssl = yes
  }}
  inet_listener http {{
    port = {http_port}
  }}
}}
event_exporter commands {{
  transport = log
  format = tab-text
  format_args = time-unix
}}
metric commands {{
  filter = event=mail_user_session_finished AND category=service:doveadm
  exporter = commands
  fields = user session
}}
service anvil {{
  unix_listener anvil-auth-penalty {{
    mode = 0
  }}
}}
"#,
            address.port(),
            proxied_address.port()
        );
        if !root {
            write!(
                text,
                "default_internal_user = {user}\ndefault_internal_group = {group}\ndefault_login_user = {user}\n"
            )?;
            let rooted = ["anvil", "imap-login", "imap-urlauth-login", "stats"].map(str::to_owned);
            for service in rooted.into_iter().chain(self.serves.login_services()) {
                writeln!(text, "service {service} {{\n  chroot =\n}}")?;
            }
        }
        text.push_str(&self.serves.config(name)?);
        text.push_str(options.extra);
        Ok(text)
    }
}

fn micros_since_1970() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.map_or(0, |span| span.as_micros() as u64)
}

/// Removes the locks of a dead server.
fn remove_locks(index: &Path) -> Result {
    for user in fs::read_dir(index)?.flatten() {
        for file in fs::read_dir(user.path())?.flatten() {
            if file.path().extension().is_some_and(|end| end == "lock") {
                fs::remove_file(file.path())?;
            }
        }
    }
    Ok(())
}
