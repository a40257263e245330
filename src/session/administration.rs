//! SKELETON: doveadm: somebody administers mailboxes.

use std::net::SocketAddr;

use tokio::net::TcpStream;

use super::Counted;
use super::door::Door;

/// Serves one client from accept to close.
pub(super) async fn serve(_door: &Door, _tcp: TcpStream, _peer: SocketAddr, _counted: Counted) {}
