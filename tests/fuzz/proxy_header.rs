//! Any bytes as a PROXY header: no panic, nothing read beyond its end, and what was understood survives being sent on.

use std::pin::pin;
use std::task::{Context, Poll, Waker};

use homing::net::{OutgoingProxyHeader, ProxyFault, ProxyHeader, emit_proxy_header, receive_proxy_header};

/// Panics if the receiver or the sender of PROXY headers is at fault.
pub(crate) fn proxy_header(bytes: &[u8]) {
    let (outcome, behind) = receive(bytes);
    let Ok(header) = outcome else { return };
    let length = bytes.len() - behind.len();
    assert!(length <= 4096);
    assert_eq!(behind, &bytes[length..]);

    let (alone, nothing) = receive(&bytes[..length]);
    assert_eq!(alone.ok().as_ref(), Some(&header), "what follows a header must not matter");
    assert!(nothing.is_empty());
    assert!(matches!(receive(&bytes[..length - 1]).0, Err(ProxyFault::Closed)), "a header without its last byte");

    let (Some(source), Some(destination)) = (header.source, header.destination) else { return };
    let sent = emit_proxy_header(&OutgoingProxyHeader {
        source,
        destination,
        tls: header.tls.as_ref(),
        authority: header.authority.as_deref(),
        unique_id: header.unique_id.as_deref().unwrap_or_default(),
    });
    let (received, nothing) = receive(&sent);
    assert!(nothing.is_empty());
    assert_eq!(received.ok(), Some(as_sent(header)));
}

/// Receives from memory, which never waits; also what was left unread.
pub(crate) fn receive(mut bytes: &[u8]) -> (Result<ProxyHeader, ProxyFault>, &[u8]) {
    let outcome = {
        let mut receiving = pin!(receive_proxy_header(&mut bytes));
        match receiving.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(outcome) => outcome,
            Poll::Pending => unreachable!("memory is always ready"),
        }
    };
    (outcome, bytes)
}

/// What is sent of a header: no ALPN, and no value that is empty or too long.
fn as_sent(mut header: ProxyHeader) -> ProxyHeader {
    let fits = |text: &String| (1..=255).contains(&text.len());
    header.alpn = None;
    header.authority = header.authority.filter(fits);
    header.unique_id = header.unique_id.filter(|id| (1..=128).contains(&id.len()));
    if let Some(tls) = &mut header.tls {
        tls.version = tls.version.take().filter(fits);
        tls.cipher = tls.cipher.take().filter(fits);
        tls.common_name = tls.common_name.take().filter(fits);
    }
    header
}
