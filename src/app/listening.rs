//! The sockets that clients connect to.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::net::UnixListener;
use tokio::time::sleep;
use tracing::error;

use crate::config::{Config, ListenAddress, ListenerConfig};
use crate::net::{Listener, LocalSocket};
use crate::session::Door;

/// How long accepting pauses while the process lacks descriptors.
const PAUSE: Duration = Duration::from_millis(100);

/// An open socket.
pub(super) enum Listening {
    Tcp(Listener),
    Local {
        listener: UnixListener,
        /// Its file is removed when this is dropped.
        _name: LocalSocket,
    },
}

impl Listening {
    /// Opens all of them.
    pub(super) async fn all(config: &Config) -> Result<Vec<Self>> {
        let mut all = Vec::with_capacity(config.listeners.len());
        for listener in &config.listeners {
            let at = || format!("[[listener]] address = \"{}\" cannot be bound", listener.address);
            all.push(Self::open(listener).await.with_context(at)?);
        }
        Ok(all)
    }

    async fn open(listener: &ListenerConfig) -> io::Result<Self> {
        match &listener.address {
            ListenAddress::Tcp(address) => Listener::bind(*address).map(Self::Tcp),
            ListenAddress::Unix(path) => {
                let socket = LocalSocket::bind(path, listener.mode.unwrap_or_default().0).await?;
                let listener = socket.listen()?;
                Ok(Self::Local { listener, _name: socket })
            }
        }
    }

    /// Where it listens, if by TCP.
    pub(super) fn address(&self) -> io::Result<Option<SocketAddr>> {
        match self {
            Self::Tcp(listener) => listener.local_addr().map(Some),
            Self::Local { .. } => Ok(None),
        }
    }
}

/// Lets clients in, until the proxy goes down.
pub(super) async fn accept(listening: Listening, door: Arc<Door>) {
    let closing = door.services.closing.clone();
    tokio::select! {
        () = let_in(&listening, &door) => {}
        () = closing.cancelled() => {}
    }
}

async fn let_in(listening: &Listening, door: &Arc<Door>) {
    loop {
        match listening {
            Listening::Tcp(listener) => {
                let (tcp, peer) = listener.accept().await;
                door.enter(tcp, peer);
            }
            Listening::Local { listener, .. } => match listener.accept().await {
                Ok((local, _)) => door.enter_local(local),
                Err(error) => {
                    error!(%error, address = %door.listener.address, "cannot accept; clients wait (descriptor limit?)");
                    sleep(PAUSE).await;
                }
            },
        }
    }
}
