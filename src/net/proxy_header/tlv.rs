//! What a version 2 header carries behind its addresses: type (one byte), length (two), value.

use super::frame::FIXED;
use super::{ProxyFault, ProxyHeader, ProxyTls};

/// Types of section 2.2 of the specification.
pub(super) mod kind {
    pub(in super::super) const ALPN: u8 = 0x01;
    pub(in super::super) const AUTHORITY: u8 = 0x02;
    pub(in super::super) const CRC32C: u8 = 0x03;
    pub(in super::super) const UNIQUE_ID: u8 = 0x05;
    pub(in super::super) const SSL: u8 = 0x20;
    // Inside of SSL only:
    pub(in super::super) const SSL_VERSION: u8 = 0x21;
    pub(in super::super) const SSL_CN: u8 = 0x22;
    pub(in super::super) const SSL_CIPHER: u8 = 0x23;
}

/// `client` of the SSL TLV: the connection is inside TLS.
pub(super) const CLIENT_SSL: u8 = 0x01;
/// The client showed a certificate on this connection.
pub(super) const CLIENT_CERT_CONN: u8 = 0x02;
/// The client showed a certificate on this connection or on the one that it resumes.
pub(super) const CLIENT_CERT_SESS: u8 = 0x04;

/// One of them; `at` is where its value starts.
struct Tlv<'a> {
    kind: u8,
    value: &'a [u8],
    at: usize,
}

/// Reads those of a whole header into `header`. Of a type given twice the first counts; NOOP and unknown ones do not.
pub(super) fn read(whole: &[u8], addresses: usize, header: &mut ProxyHeader) -> Result<(), ProxyFault> {
    let mut checked = false;
    for tlv in (Tlvs { bytes: whole, at: FIXED + addresses }) {
        let Tlv { kind, value, at } = tlv?;
        match kind {
            kind::ALPN if header.alpn.is_none() => header.alpn = Some(value.to_vec()),
            kind::AUTHORITY if header.authority.is_none() => header.authority = Some(text(value)?),
            kind::UNIQUE_ID if header.unique_id.is_none() => header.unique_id = Some(value.to_vec()),
            kind::SSL if header.tls.is_none() => header.tls = ssl(value)?,
            kind::CRC32C if !checked => {
                checked = true;
                check(whole, value, at)?;
            }
            _ => {}
        }
    }
    Ok(())
}

/// Walks over `bytes` from `at` to the end.
struct Tlvs<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Iterator for Tlvs<'a> {
    type Item = Result<Tlv<'a>, ProxyFault>;

    fn next(&mut self) -> Option<Self::Item> {
        let rest = self.bytes.get(self.at..).filter(|rest| !rest.is_empty())?;
        let at = self.at + 3;
        let found = match rest {
            [kind, high, low, values @ ..] => {
                let length = usize::from(u16::from_be_bytes([*high, *low]));
                values.get(..length).map(|value| Tlv { kind: *kind, value, at })
            }
            _ => None,
        };
        self.at = found.as_ref().map_or(self.bytes.len(), |tlv| tlv.at + tlv.value.len());
        Some(found.ok_or_else(|| ProxyFault::malformed("a TLV is cut off")))
    }
}

/// The SSL TLV: flags, a four-byte verdict (0: the certificate is valid), and TLVs of its own. `None` without TLS.
fn ssl(value: &[u8]) -> Result<Option<ProxyTls>, ProxyFault> {
    let Some(([client, verdict @ ..], inner)) = value.split_first_chunk::<5>() else {
        return Err(ProxyFault::malformed("an SSL TLV has at least five bytes"));
    };
    let shown = client & (CLIENT_CERT_CONN | CLIENT_CERT_SESS) != 0;
    let mut tls = ProxyTls { verified: shown && *verdict == [0; 4], ..ProxyTls::default() };
    for tlv in (Tlvs { bytes: inner, at: 0 }) {
        let Tlv { kind, value, .. } = tlv?;
        match kind {
            kind::SSL_VERSION if tls.version.is_none() => tls.version = Some(text(value)?),
            kind::SSL_CIPHER if tls.cipher.is_none() => tls.cipher = Some(text(value)?),
            kind::SSL_CN if tls.verified && tls.common_name.is_none() => tls.common_name = Some(text(value)?),
            _ => {}
        }
    }
    Ok((client & CLIENT_SSL != 0).then_some(tls))
}

fn text(value: &[u8]) -> Result<String, ProxyFault> {
    std::str::from_utf8(value).map(str::to_owned).map_err(|_| ProxyFault::malformed("a name is not UTF-8"))
}

/// Section 2.2.3: the checksum of the whole header, in which the four bytes of the checksum are zero.
fn check(whole: &[u8], value: &[u8], at: usize) -> Result<(), ProxyFault> {
    let given: [u8; 4] = value.try_into().map_err(|_| ProxyFault::malformed("a checksum has four bytes"))?;
    let computed = crc32c([&whole[..at], &[0; 4], &whole[at + 4..]]);
    if computed == u32::from_be_bytes(given) { Ok(()) } else { Err(ProxyFault::Damaged) }
}

/// CRC-32C (RFC 3720 appendix B.4), bit by bit: a header has at most 4 KiB and few carry a checksum.
fn crc32c(parts: [&[u8]; 3]) -> u32 {
    /// The polynomial 0x1EDC6F41, its bits reversed.
    const POLYNOMIAL: u32 = 0x82f6_3b78;
    !parts.into_iter().flatten().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ (POLYNOMIAL & (crc & 1).wrapping_neg()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A header with a checksum that fits, between two other TLVs, and where its value is.
    fn checked_header() -> (Vec<u8>, usize) {
        let mut whole = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x1d".to_vec();
        whole.extend([192, 0, 2, 1, 198, 51, 100, 2, 0xce, 0xd9, 0, 143]);
        whole.extend([kind::UNIQUE_ID, 0, 2, b'i', b'd', kind::CRC32C, 0, 4, 0, 0, 0, 0, kind::ALPN, 0, 2, b'a', b'b']);
        let checksum = crc32c([&whole, b"", b""]);
        let at = FIXED + 12 + 5 + 3;
        whole[at..at + 4].copy_from_slice(&checksum.to_be_bytes());
        (whole, at)
    }

    #[test]
    fn the_checksum_is_crc_32c() {
        assert_eq!(crc32c([b"1234", b"5678", b"9"]), 0xe306_9283, "the check value of the catalogues");
        assert_eq!(crc32c([&[0; 16], &[0; 16], b""]), 0x8a91_36aa, "RFC 3720 B.4: 32 bytes of zeroes");
    }

    #[test]
    fn a_header_with_its_own_checksum_is_read() {
        let mut header = ProxyHeader::default();
        read(&checked_header().0, 12, &mut header).unwrap();
        assert_eq!((header.unique_id.as_deref(), header.alpn.as_deref()), (Some(&b"id"[..]), Some(&b"ab"[..])));
    }

    #[test]
    fn any_flipped_bit_is_noticed_by_the_checksum() {
        let (whole, at) = checked_header();
        // Behind the fixed part, but for the types and lengths, whose change would hide the checksum itself.
        let values = (FIXED..FIXED + 12).chain(FIXED + 15..FIXED + 17).chain(at..at + 4).chain(at + 7..whole.len());
        for place in values {
            for bit in 0..8 {
                let mut damaged = whole.clone();
                damaged[place] ^= 1 << bit;
                let outcome = read(&damaged, 12, &mut ProxyHeader::default());
                assert!(matches!(outcome, Err(ProxyFault::Damaged)), "{place} {bit}");
            }
        }
    }
}
