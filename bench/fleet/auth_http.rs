//! The smallest service that nginx's mail proxy can ask: every password is right, and the name picks the server.

use std::net::SocketAddr;
use std::rc::Rc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// Far more than nginx sends.
const MAX_REQUEST: usize = 16 * 1024;

/// Answers for ever.
pub(crate) async fn serve(listener: TcpListener, backends: Rc<[SocketAddr]>) {
    while let Ok((stream, _)) = listener.accept().await {
        tokio::task::spawn_local(answer(stream, backends.clone()));
    }
}

/// nginx opens a connection for each request and closes it after the answer.
async fn answer(mut stream: TcpStream, backends: Rc<[SocketAddr]>) -> std::io::Result<()> {
    let mut request = Vec::with_capacity(1024);
    while !request.ends_with(b"\r\n\r\n") {
        if stream.read_buf(&mut request).await? == 0 || request.len() > MAX_REQUEST {
            return Ok(());
        }
    }
    let home = backends[spread(&request) % backends.len()];
    let reply = format!(
        "HTTP/1.0 200 OK\r\nAuth-Status: OK\r\nAuth-Server: {}\r\nAuth-Port: {}\r\n\r\n",
        home.ip(),
        home.port()
    );
    stream.write_all(reply.as_bytes()).await
}

/// The same number for the same user.
fn spread(request: &[u8]) -> usize {
    let mut lines = request.split(|&byte| byte == b'\n');
    let user = lines.find(|line| line.starts_with(b"Auth-User:")).unwrap_or_default();
    user.iter().fold(0, |sum, &byte| sum + usize::from(byte))
}
