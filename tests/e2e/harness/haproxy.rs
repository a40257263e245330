//! HAProxy in front of a fleet, announcing clients by PROXY v2 and checking health with PROXY LOCAL.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use super::address::fresh_address;
use super::process::Daemon;
use super::{Result, eventually};

/// A running HAProxy.
pub struct HaProxy {
    /// Where clients connect.
    pub address: SocketAddr,
    _daemon: Daemon,
}

impl HaProxy {
    /// Spreads connections over `servers`, round robin, and waits until it takes some.
    pub async fn start(dir: &Path, servers: &[SocketAddr]) -> Result<Self> {
        let address = fresh_address()?;
        let mut config = format!(
            "global\n  maxconn 2000\ndefaults\n  mode tcp\n  timeout connect 5s\n  timeout client 1h\n  timeout server 1h\n  timeout check 20s\n\
             listen imap\n  bind {address}\n  balance roundrobin\n  option tcp-check\n  tcp-check expect string OK\n"
        );
        for (n, server) in servers.iter().enumerate() {
            writeln!(config, "  server proxy{n} {server} send-proxy-v2 check inter 200ms")?;
        }
        let path = dir.join("haproxy.cfg");
        std::fs::write(&path, config)?;
        let path = path.display().to_string();
        let mut daemon = Daemon::start("haproxy", ["-db", "-f", &path], &dir.join("haproxy.log"))?;
        eventually("HAProxy listens", Duration::from_secs(60), async || {
            daemon.check()?;
            tokio::net::TcpStream::connect(address).await?;
            Ok(())
        })
        .await?;
        Ok(Self { address, _daemon: daemon })
    }
}
