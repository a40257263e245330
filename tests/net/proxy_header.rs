//! PROXY headers: what is understood, what is refused, what is left unread; and `proxy-header` as an independent judge.

use std::net::{IpAddr, SocketAddr};

use homing::net::{OutgoingProxyHeader, ProxyFault, ProxyHeader, ProxyTls, emit_proxy_header, receive_proxy_header};
use proptest::prelude::*;
use proxy_header::{ParseConfig, ProxiedAddress, ProxyHeader as Judged, SslInfo, Tlv};
use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

use crate::fuzz_proxy_header::{proxy_header as holds_for, receive};

const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
const V4: [u8; 12] = [192, 0, 2, 1, 198, 51, 100, 2, 0xce, 0xd9, 0, 143];

/// A version 2 header by hand.
fn binary(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
    [SIGNATURE, &[command, family], &(rest.len() as u16).to_be_bytes(), rest].concat()
}

fn tlv(kind: u8, value: &[u8]) -> Vec<u8> {
    [&[kind], &(value.len() as u16).to_be_bytes()[..], value].concat()
}

fn understood(bytes: &[u8]) -> ProxyHeader {
    let (header, behind) = receive(bytes);
    assert!(behind.is_empty());
    header.unwrap()
}

fn address(text: &str) -> Option<SocketAddr> {
    Some(text.parse().unwrap())
}

#[tokio::test]
async fn a_header_is_read_byte_by_byte_and_nothing_behind_it() {
    let headers = [
        b"PROXY TCP4 192.0.2.1 198.51.100.2 52953 143\r\n".to_vec(),
        b"PROXY TCP6 2001:db8::1 2001:db8::2 52953 143\r\n".to_vec(),
        b"PROXY UNKNOWN\r\n".to_vec(),
        binary(0x21, 0x11, &[&V4[..], &tlv(5, b"id")].concat()),
        binary(0x20, 0x00, b""),
    ];
    for header in headers {
        for behind in [&b"\r\n"[..], b"\x16\x03\x01", b"PROXY UNKNOWN\r\n", b"\n"] {
            let (mut sender, mut receiver) = duplex(1);
            let sending = async {
                sender.write_all(&header).await.unwrap();
                sender.write_all(behind).await.unwrap();
                drop(sender);
            };
            let receiving = async {
                let outcome = receive_proxy_header(&mut receiver).await;
                let mut rest = Vec::new();
                receiver.read_to_end(&mut rest).await.unwrap();
                (outcome.unwrap(), rest)
            };
            let ((), (received, rest)) = tokio::join!(sending, receiving);
            assert_eq!(rest, behind);
            assert_eq!(received, understood(&header));
        }
    }
}

#[test]
fn both_versions_tell_the_addresses_in_canonical_form() {
    let expected = (address("192.0.2.1:52953"), address("198.51.100.2:143"));
    let mapped = b"PROXY TCP6 ::ffff:192.0.2.1 ::ffff:198.51.100.2 52953 143\r\n";
    for bytes in [&b"PROXY TCP4 192.0.2.1 198.51.100.2 52953 143\r\n"[..], mapped, &binary(0x21, 0x11, &V4)] {
        let header = understood(bytes);
        assert_eq!((header.source, header.destination), expected);
        assert!(!header.local);
    }
    let header = understood(b"PROXY TCP6 2001:db8::1 2001:db8::2 1 65535\r\n");
    assert_eq!((header.source, header.destination), (address("[2001:db8::1]:1"), address("[2001:db8::2]:65535")));
}

#[test]
fn unknown_and_families_without_an_ip_address_leave_it_to_the_socket() {
    let with_tlv = |addresses: &[u8]| [addresses, &tlv(2, b"a.test")].concat();
    for bytes in [
        b"PROXY UNKNOWN\r\n".to_vec(),
        b"PROXY UNKNOWN ffff::1 ffff::2 1 2\r\n".to_vec(),
        binary(0x21, 0x00, &with_tlv(b"")),
        binary(0x21, 0x31, &with_tlv(&[b'/'; 216])),
        binary(0x21, 0x12, &with_tlv(&V4)),
    ] {
        let header = understood(&bytes);
        assert_eq!((header.source, header.destination, header.local), (None, None, false));
        assert_eq!(header.authority.is_some(), bytes.starts_with(SIGNATURE), "its TLVs are found all the same");
    }
}

#[test]
fn local_discards_the_whole_block_even_a_family_that_does_not_exist() {
    let block = [&V4[..], &tlv(2, b"a.test"), b"\xff"].concat();
    for family in [0x00, 0x11, 0xff] {
        assert_eq!(understood(&binary(0x20, family, &block)), ProxyHeader { local: true, ..ProxyHeader::default() });
    }
}

#[test]
fn tlvs_are_understood_and_of_a_repeated_one_the_first_counts() {
    let ssl = |client: u8, verify: u32| {
        let inner = [tlv(0x21, b"TLSv1.3"), tlv(0x23, b"TLS_AES_128_GCM_SHA256"), tlv(0x22, b"alice")].concat();
        tlv(0x20, &[&[client], &verify.to_be_bytes()[..], &inner].concat())
    };
    let header = |tlvs: &[Vec<u8>]| understood(&binary(0x21, 0x11, &[&V4[..], &tlvs.concat()].concat()));

    let all = header(&[
        tlv(4, &[0; 5]),
        tlv(1, b"imap"),
        tlv(2, b"mail.test"),
        tlv(2, b"second.test"),
        tlv(5, &[0, 255]),
        tlv(0xea, b"private"),
        ssl(0x07, 0),
    ]);
    assert_eq!(all.alpn.as_deref(), Some(&b"imap"[..]));
    assert_eq!(all.authority.as_deref(), Some("mail.test"));
    assert_eq!(all.unique_id.as_deref(), Some(&[0, 255][..]));
    let tls = all.tls.unwrap();
    assert_eq!((tls.version.as_deref(), tls.cipher.as_deref()), (Some("TLSv1.3"), Some("TLS_AES_128_GCM_SHA256")));
    assert_eq!((tls.verified, tls.common_name.as_deref()), (true, Some("alice")));

    for (client, verify) in [(0x07, 1), (0x01, 0)] {
        let tls = header(&[ssl(client, verify)]).tls.unwrap();
        assert_eq!((tls.verified, tls.common_name), (false, None), "a name that nobody vouches for is not told");
    }
    assert_eq!(header(&[ssl(0x06, 0)]).tls, None, "the connection is not inside TLS");
}

#[test]
fn headers_that_contradict_themselves_are_refused() {
    let with = |rest: &[u8]| binary(0x21, 0x11, &[&V4[..], rest].concat());
    for bytes in [
        binary(0x22, 0x11, &V4),
        binary(0x31, 0x11, &V4),
        binary(0x21, 0x41, &V4),
        binary(0x21, 0x13, &V4),
        binary(0x21, 0x11, &V4[..11]),
        binary(0x21, 0x21, &V4),
        binary(0x21, 0x31, &[0; 215]),
        with(&[2]),
        with(&[2, 0, 5, b'a']),
        with(&tlv(2, b"\xff")),
        with(&tlv(3, b"abc")),
        with(&tlv(0x20, &[1, 0, 0, 0])),
        with(&tlv(0x20, &[1, 0, 0, 0, 0, 0x21, 0])),
        b"PROXY TCP4 1.2.3.4 5.6.7.8 9\r\n".to_vec(),
        b"PROXY TCP4 1.2.3.4 5.6.7.8 9 65536\r\n".to_vec(),
        b"PROXY TCP4 1.2.3.4 5.6.7.8 09 10\r\n".to_vec(),
        b"PROXY TCP4 ::1 ::2 9 10\r\n".to_vec(),
        b"PROXY TCP6 1.2.3.4 5.6.7.8 9 10\r\n".to_vec(),
        b"PROXY TCP4 1.2.3.4 5.6.7.8 9 10 11\r\n".to_vec(),
    ] {
        assert!(matches!(receive(&bytes).0, Err(ProxyFault::Malformed(_))), "{}", bytes.escape_ascii());
    }
}

#[test]
fn a_header_that_is_too_long_missing_or_cut_has_its_own_fault() {
    let line = format!("PROXY UNKNOWN {}\r\n", "x".repeat(92));
    assert_eq!(line.len(), 108);
    assert!(matches!(receive(line.as_bytes()).0, Err(ProxyFault::TooLong(107))));
    let long = |length| receive(&binary(0x21, 0x11, &[&V4[..], &tlv(4, &vec![0; length])].concat())).0;
    assert!(long(4096 - 16 - 12 - 3).is_ok());
    assert!(matches!(long(4096 - 16 - 12 - 2), Err(ProxyFault::TooLong(4096))));
    assert!(matches!(receive(b"a LOGIN u p\r\n").0, Err(ProxyFault::Missing)));
    assert!(matches!(receive(b"\x16\x03\x01\x02\x00").0, Err(ProxyFault::Missing)));
    for whole in [&b"PROXY TCP4 1.2.3.4 5.6.7.8 9 10\r\n"[..], &binary(0x21, 0x11, &V4)] {
        for cut in 0..whole.len() {
            assert!(matches!(receive(&whole[..cut]).0, Err(ProxyFault::Closed)), "{cut}");
        }
    }
}

#[test]
fn mixed_families_are_sent_as_ipv6() {
    let sent = emit_proxy_header(&OutgoingProxyHeader {
        source: "[2001:db8::1]:52953".parse().unwrap(),
        destination: "192.0.2.1:143".parse().unwrap(),
        tls: None,
        authority: None,
        unique_id: b"",
    });
    let judged = Judged::parse(&sent, ParseConfig::default()).unwrap().0;
    let addresses = judged.proxied_address().unwrap();
    assert_eq!(addresses.source, "[2001:db8::1]:52953".parse().unwrap());
    assert_eq!(addresses.destination, "[::ffff:192.0.2.1]:143".parse().unwrap());
    assert_eq!(judged.tlvs().count(), 0);
}

#[test]
fn what_a_client_made_up_is_never_sent_longer_than_allowed() {
    let sent = emit_proxy_header(&OutgoingProxyHeader {
        source: "192.0.2.1:1".parse().unwrap(),
        destination: "192.0.2.2:2".parse().unwrap(),
        tls: Some(&ProxyTls { common_name: Some("x".repeat(70_000)), verified: true, ..ProxyTls::default() }),
        authority: Some(&"y".repeat(70_000)),
        unique_id: &[b'z'; 129],
    });
    let header = understood(&sent);
    assert_eq!(header.tls, Some(ProxyTls { verified: true, ..ProxyTls::default() }));
    assert_eq!((header.authority, header.unique_id), (None, None));
}

fn addresses() -> impl Strategy<Value = (SocketAddr, SocketAddr)> {
    let v4 = any::<([u8; 4], u16, [u8; 4], u16)>().prop_map(|(a, b, c, d)| (IpAddr::from(a), b, IpAddr::from(c), d));
    let v6 = any::<([u8; 16], u16, [u8; 16], u16)>().prop_map(|(a, b, c, d)| (IpAddr::from(a), b, IpAddr::from(c), d));
    prop_oneof![v4, v6].prop_map(|(a, b, c, d)| (SocketAddr::new(a, b), SocketAddr::new(c, d)))
}

fn word() -> impl Strategy<Value = Option<String>> {
    proptest::option::of("[a-zA-Z0-9 .ü-]{1,60}")
}

fn tls() -> impl Strategy<Value = ProxyTls> {
    (word(), word(), any::<bool>(), word()).prop_map(|(version, cipher, verified, name)| ProxyTls {
        version,
        cipher,
        verified,
        common_name: name.filter(|_| verified),
    })
}

/// A whole header, as it is understood.
fn header() -> impl Strategy<Value = ProxyHeader> {
    let id = proptest::option::of(proptest::collection::vec(any::<u8>(), 1..128));
    (addresses(), proptest::option::of(tls()), word(), id).prop_map(
        |((source, destination), tls, authority, unique_id)| ProxyHeader {
            source: Some(source),
            destination: Some(destination),
            tls,
            authority,
            unique_id,
            ..ProxyHeader::default()
        },
    )
}

/// The same header as the judge writes it.
fn as_judged(header: &ProxyHeader) -> Vec<u8> {
    let (source, destination) = (header.source.unwrap(), header.destination.unwrap());
    let mut judged = Judged::with_address(ProxiedAddress::stream(source, destination));
    if let Some(tls) = &header.tls {
        let mut ssl = SslInfo::new(true, tls.verified, tls.verified, u32::from(!tls.verified));
        tls.version.iter().for_each(|text| ssl.append_tlv(Tlv::SslVersion(text.into())));
        tls.common_name.iter().for_each(|text| ssl.append_tlv(Tlv::SslCn(text.into())));
        tls.cipher.iter().for_each(|text| ssl.append_tlv(Tlv::SslCipher(text.into())));
        judged.append_tlv(Tlv::Ssl(ssl));
    }
    header.authority.iter().for_each(|text| judged.append_tlv(Tlv::Authority(text.into())));
    header.unique_id.iter().for_each(|id| judged.append_tlv(Tlv::UniqueId(id.into())));
    let mut bytes = Vec::new();
    judged.encode_v2(&mut bytes).unwrap();
    bytes
}

fn as_ours(header: &ProxyHeader) -> Vec<u8> {
    emit_proxy_header(&OutgoingProxyHeader {
        source: header.source.unwrap(),
        destination: header.destination.unwrap(),
        tls: header.tls.as_ref(),
        authority: header.authority.as_deref(),
        unique_id: header.unique_id.as_deref().unwrap_or_default(),
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(400) })]

    #[test]
    fn we_and_the_judge_write_the_same_bytes_and_read_them_the_same(header in header()) {
        let bytes = as_judged(&header);
        prop_assert_eq!(&as_ours(&header), &bytes);
        prop_assert_eq!(understood(&bytes), header);
        agrees_with_the_judge(&bytes);
    }

    #[test]
    fn lines_mean_to_us_what_they_mean_to_the_judge((source, destination) in addresses()) {
        let mut line = Vec::new();
        Judged::with_address(ProxiedAddress::stream(source, destination)).encode_v1(&mut line).unwrap();
        let header = understood(&line);
        prop_assert_eq!((header.source, header.destination), (Some(source), Some(destination)));
    }

    #[test]
    fn damaged_headers_never_panic_and_are_never_understood_differently(
        header in header(),
        wounds in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 1..6),
        text in any::<bool>(),
    ) {
        let mut bytes = as_judged(&header);
        if text {
            bytes = format!("PROXY TCP4 192.0.2.1 198.51.100.2 {} 143\r\n", header.source.unwrap().port()).into();
        }
        for (place, byte) in wounds {
            let place = place.index(bytes.len());
            bytes[place] = byte;
        }
        bytes.extend(b"a NOOP\r\n");
        holds_for(&bytes);
        agrees_with_the_judge(&bytes);
    }

    #[test]
    fn any_bytes_behind_a_signature_are_survived(rest in proptest::collection::vec(any::<u8>(), 0..300)) {
        for start in [SIGNATURE, b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0", b"PROXY TCP6 ", b"PROXY UNKNOWN", b""] {
            holds_for(&[start, &rest].concat());
        }
    }
}

/// What we understand, the judge understands alike. (It refuses more: transports it does not know, a lone CR in UNKNOWN.)
fn agrees_with_the_judge(bytes: &[u8]) {
    let (Ok(ours), behind) = receive(bytes) else { return };
    let unusual = ours.source.is_none();
    if ours.local || unusual {
        return;
    }
    let (judged, length) = Judged::parse(bytes, ParseConfig::default()).unwrap();
    assert_eq!(length, bytes.len() - behind.len());
    let canonical = |address: SocketAddr| SocketAddr::new(address.ip().to_canonical(), address.port());
    let addresses = judged.proxied_address().unwrap();
    assert_eq!(ours.source, Some(canonical(addresses.source)));
    assert_eq!(ours.destination, Some(canonical(addresses.destination)));
    assert_eq!(ours.authority.as_deref(), judged.authority());
    assert_eq!(ours.alpn.as_deref(), judged.alpn());
    assert_eq!(ours.unique_id.as_deref(), judged.unique_id());
    let ssl = judged.ssl().filter(SslInfo::client_ssl);
    assert_eq!(ours.tls.is_some(), ssl.is_some());
    if let (Some(ours), Some(ssl)) = (ours.tls, ssl) {
        assert_eq!(ours.version.as_deref(), ssl.version());
        assert_eq!(ours.cipher.as_deref(), ssl.cipher());
        assert_eq!(ours.verified, ssl.verify() == 0 && (ssl.client_cert_conn() || ssl.client_cert_sess()));
        assert_eq!(ours.common_name.as_deref(), ssl.cn().filter(|_| ours.verified));
    }
}
