//! What a Dovecot serves beside IMAP: POP3, ManageSieve, submission and LMTP.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::Context;

use super::{Protocol, Result};

/// Where one protocol is served.
#[derive(Clone, Copy, Debug)]
pub struct Ports {
    /// Without TLS, or with STARTTLS if the server has a certificate.
    pub plain: SocketAddr,
    /// With TLS from the first byte, if it has one.
    pub tls: SocketAddr,
    /// As `plain`, behind a PROXY header.
    pub proxied: SocketAddr,
}

/// Where a server serves what it was asked for.
pub struct Services {
    /// POP3.
    pub pop3: Ports,
    /// ManageSieve. Under TLS from the first byte Dovecot 2.3.19 sometimes leaves a command unread that comes within
    /// microseconds of what it has just said, until more comes; under STARTTLS it was never seen to.
    pub sieve: Ports,
    /// Submission.
    pub submission: Ports,
    /// LMTP.
    pub lmtp: Ports,
    /// LMTP at a Unix socket.
    pub lmtp_socket: PathBuf,
    asked: Vec<Protocol>,
    relay: Option<SocketAddr>,
    tls: bool,
}

impl Services {
    /// All at `ports`; `asked` is what will be served, `base` the server's `base_dir`.
    pub fn new(ports: [SocketAddr; 12], base: &Path, asked: &[Protocol], relay: Option<SocketAddr>, tls: bool) -> Self {
        let [pop3, sieve, submission, lmtp] =
            [0, 3, 6, 9].map(|n| Ports { plain: ports[n], tls: ports[n + 1], proxied: ports[n + 2] });
        Self {
            pop3,
            sieve,
            submission,
            lmtp,
            lmtp_socket: base.join("lmtp"),
            asked: asked.iter().copied().filter(|protocol| Protocol::BESIDE_IMAP.contains(protocol)).collect(),
            relay,
            tls,
        }
    }

    /// Where `protocol` is served; `None` for what the server has addresses of its own for.
    pub fn ports(&self, protocol: Protocol) -> Option<Ports> {
        match protocol {
            Protocol::Pop3 => Some(self.pop3),
            Protocol::Sieve => Some(self.sieve),
            Protocol::Submission => Some(self.submission),
            Protocol::Lmtp => Some(self.lmtp),
            Protocol::Imap | Protocol::Doveadm => None,
        }
    }

    /// The words for `protocols`, behind `imap`.
    pub fn words(&self) -> String {
        self.asked.iter().map(|protocol| format!(" {}", protocol.word())).collect()
    }

    /// What `dovecot.conf` needs for them, if anything was asked for. `name` is how the server calls itself.
    pub fn config(&self, name: &str) -> Result<String> {
        let mut text = String::new();
        for protocol in &self.asked {
            self.write_listeners(&mut text, *protocol)?;
        }
        if !self.asked.is_empty() {
            writeln!(text, "hostname = {name}\npostmaster_address = postmaster@test\n{MAIL}")?;
        }
        if self.asked.contains(&Protocol::Submission) {
            let relay = self.relay.context("a submission service needs a relay host: start a Sink")?;
            let (host, port) = (relay.ip(), relay.port());
            writeln!(text, "submission_relay_host = {host}\nsubmission_relay_port = {port}\n{SUBMISSION}")?;
        }
        Ok(text)
    }

    /// The services which log in, and which have a root directory of their own unless told otherwise.
    pub fn login_services(&self) -> impl Iterator<Item = String> {
        let with_login = self.asked.iter().filter(|protocol| **protocol != Protocol::Lmtp);
        with_login.map(|protocol| format!("{}-login", protocol.service()))
    }

    fn write_listeners(&self, text: &mut String, protocol: Protocol) -> Result {
        let ports = self.ports(protocol).context("no such service")?;
        let word = protocol.word();
        let tls = if self.tls { ports.tls.port() } else { 0 };
        let (service, limits) = match protocol {
            Protocol::Lmtp => ("lmtp".to_owned(), LMTP),
            other => (format!("{}-login", other.service()), LOGIN),
        };
        writeln!(
            text,
            "service {service} {{\n  inet_listener {word} {{\n    port = {}\n  }}\n  inet_listener {word}s {{\n    port = {tls}\n    \
             ssl = yes\n  }}\n  inet_listener proxied {{\n    port = {}\n    haproxy = yes\n  }}\n{limits}}}",
            ports.plain.port(),
            ports.proxied.port()
        )?;
        Ok(())
    }
}

/// As for IMAP: one process takes all logins.
const LOGIN: &str = "  service_count = 0\n  process_min_avail = 1\n  process_limit = 1\n  client_limit = 10000\n";

/// A process serves one connection at a time, so that its log lines tell which one a delivery came by.
const LMTP: &str = "  client_limit = 1\n  unix_listener lmtp {\n    mode = 0666\n  }\n";

/// Delivery: into the folder that the address names, which need not exist; sorted by Sieve scripts; in an LMTP address
/// the domain tells nothing, for users have none. The log says how long each delivery has taken.
const MAIL: &str = r"recipient_delimiter = +
lmtp_save_to_detail_mailbox = yes
lda_mailbox_autocreate = yes
deliver_log_format = msgid=%m, to=<%{to_envelope}>, time=%{delivery_time}, %$
plugin {
  sieve = file:~/sieve;active=~/.dovecot.sieve
}
protocol lmtp {
  auth_username_format = %Ln
  mail_plugins = $mail_plugins sieve
}";

/// The relay is told who the client was.
const SUBMISSION: &str = "submission_relay_trusted = yes\nsubmission_max_mail_size = 40M\n";
