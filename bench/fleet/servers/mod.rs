//! The mail servers behind every proxy: as fast as a server can be that knows no mail, so that the proxies' cost shows.

pub(crate) mod imap;
pub(crate) mod lmtp;
pub(crate) mod pop3;

fn say(output: &mut Vec<u8>, line: &str) {
    output.extend_from_slice(line.as_bytes());
    output.extend_from_slice(b"\r\n");
}
