//! A TCP connection that can be cut, stopped or made one-way while bytes are on it.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::Result;
use super::address::fresh_ip;

/// What happens to the bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// They pass.
    Open,
    /// Connections are reset, and new ones too.
    Cut,
    /// Nothing passes, nothing is lost.
    Still,
    /// Requests pass, answers do not.
    Deaf,
}

/// A forwarder in front of a server.
pub struct Wire {
    /// Where to connect instead.
    pub address: SocketAddr,
    mode: watch::Sender<Mode>,
    task: JoinHandle<()>,
}

impl Wire {
    /// Forwards to `server`.
    pub async fn to(server: SocketAddr) -> Result<Self> {
        let listener = TcpListener::bind((fresh_ip(), 0)).await?;
        let address = listener.local_addr()?;
        let (mode, see) = watch::channel(Mode::Open);
        let task = tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                tokio::spawn(connect(near, server, see.clone()));
            }
        });
        Ok(Self { address, mode, task })
    }

    /// Changes what happens from now on.
    pub fn set(&self, mode: Mode) {
        self.mode.send_replace(mode);
    }

    /// What changes it, for somebody else to have.
    pub fn mode(&self) -> watch::Sender<Mode> {
        self.mode.clone()
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn connect(near: TcpStream, server: SocketAddr, mode: watch::Receiver<Mode>) {
    let mut cut = mode.clone();
    // Dropped with unread bytes or lingering for no time, a socket sends a reset.
    let _ = near.set_zero_linger();
    let relay = async {
        let Ok(far) = TcpStream::connect(server).await else { return };
        let _ = far.set_zero_linger();
        let (near_in, near_out) = near.into_split();
        let (far_in, far_out) = far.into_split();
        tokio::select! {
            () = pump(near_in, far_out, mode.clone(), |mode| matches!(mode, Mode::Open | Mode::Deaf)) => {}
            () = pump(far_in, near_out, mode, |mode| mode == Mode::Open) => {}
        }
    };
    tokio::select! {
        () = relay => {}
        _ = cut.wait_for(|mode| *mode == Mode::Cut) => {}
    }
}

async fn pump(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut mode: watch::Receiver<Mode>,
    passes: fn(Mode) -> bool,
) {
    let mut buffer = vec![0; 65_536];
    loop {
        let count = from.read(&mut buffer).await.unwrap_or(0);
        if count == 0 || mode.wait_for(|mode| passes(*mode)).await.is_err() {
            return;
        }
        if to.write_all(&buffer[..count]).await.is_err() {
            return;
        }
    }
}
