//! Corners that a transcript shows badly: sizes, functions with many cases, and any value whatever in XCLIENT.

use proptest::prelude::*;

use super::command::is_proper_name;
use super::response::{Keywords, Partial, Reply};
use super::{Backend, xclient};
use crate::model::{Secret, SessionId};
use crate::protocol::{
    Announcement, Backend as _, BackendLogin, BackendWish, Errand, Input, Machine as _, Output, Stage, Violation,
};

const TOO_LONG: Violation = Violation::Nonsense("a reply too long");

#[test]
fn a_reply_has_a_code_of_three_digits_on_every_line() {
    let reply = |code, lines: &[&str]| {
        Ok(Some(Reply { code, lines: lines.iter().map(|line| line.as_bytes().to_vec()).collect() }))
    };
    let no_reply = Err(Violation::Nonsense("a line that is no SMTP reply"));
    for (text, expected) in [
        ("220 hi\r\n", reply(220, &["hi"])),
        ("599\n", reply(599, &[""])),
        ("250-a\r\n250-\r\n250 b  c", reply(250, &["a", "", "b  c"])),
        ("250-a\r\n", Ok(None)),
        ("250-a\r\n251 b", Err(Violation::Nonsense("two codes in one reply"))),
        ("25 hi", no_reply.clone()),
        ("600 hi", no_reply.clone()),
        ("199 hi", no_reply.clone()),
        ("2x0 hi", no_reply.clone()),
        ("250hi", no_reply.clone()),
        ("\u{662}50 hi", no_reply.clone()),
        ("", no_reply),
    ] {
        let mut partial = Partial::default();
        let mut last = partial.add(text.split_inclusive('\n').next().unwrap_or_default().as_bytes());
        for line in text.split_inclusive('\n').skip(1) {
            last = partial.add(line.as_bytes());
        }
        assert_eq!(last, expected, "{text:?}");
    }
}

#[test]
fn a_reply_is_bounded_in_lines_and_bytes_and_the_next_one_begins_anew() {
    let mut partial = Partial::default();
    for _ in 0..2 {
        for _ in 0..127 {
            assert_eq!(partial.add(b"250-x\r\n"), Ok(None));
        }
        assert_eq!(partial.add(b"250 x\r\n").unwrap().unwrap().lines.len(), 128);
    }
    (0..128).for_each(|_| assert_eq!(partial.add(b"250-\r\n"), Ok(None)));
    assert_eq!(partial.add(b"250 x\r\n"), Err(TOO_LONG));

    let mut partial = Partial::default();
    let line = [b"250-".as_slice(), &[b'x'; 8 * 1024]].concat();
    assert_eq!([partial.add(&line), partial.add(&line)], [Ok(None), Ok(None)]);
    assert_eq!(partial.add(b"250 x\r\n"), Err(TOO_LONG));
}

#[test]
fn keywords_are_known_in_any_case_and_only_what_is_true_after_login_is_shown() {
    let mut partial = Partial::default();
    let lines = ["me", "starttls", "Auth login Plain", "pipelining", "XClient  addr Login ", "xForward NAME", "SIZE 5"];
    lines.iter().for_each(|line| _ = partial.add(format!("250-{line}\r\n").as_bytes()));
    let reply = partial.add(b"250 PLAIN\r\n").unwrap().unwrap();
    let text = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
    let expected = Keywords {
        starttls: true,
        plain: true,
        sasl: crate::protocol::sasl::outgoing::Offered::default(),
        pipelining: true,
        xclient: text(&["ADDR", "LOGIN"]),
        shown: text(&["pipelining", "SIZE 5", "PLAIN"]),
    };
    assert_eq!(Keywords::parse(&reply), expected);
}

#[test]
fn a_name_is_a_domain_or_an_address_in_brackets() {
    for name in ["a", "mx.example.org", "my_laptop-2", "[192.0.2.1]", "[IPv6:2001:db8::1]", &"x".repeat(255)] {
        assert!(is_proper_name(name), "{name}");
    }
    for name in ["", "a b", "jürgen", "a\r\nQUIT", "[]", "[a b]", "[1]x", "a:b", "a=b", "<a>", &"x".repeat(256)] {
        assert!(!is_proper_name(name), "{name:?}");
    }
}

fn converse(password: &[u8], server: &str) -> (Backend, Output, Result<Option<BackendWish>, Violation>) {
    let login =
        BackendLogin { user: "anna".to_owned(), password: Secret::new(password.to_vec()), ..BackendLogin::default() };
    let (mut machine, mut input, mut out) =
        (Backend::on(Errand::Session, login), Input::with_capacity(8192), Output::new());
    input.push(server.as_bytes());
    let outcome = machine.advance(&mut input, &mut out);
    (machine, out, outcome)
}

#[test]
fn a_command_ends_at_512_bytes_and_a_response_at_12288() {
    let ready = "220 x\r\n250-x\r\n250 AUTH PLAIN\r\n";
    // "AUTH PLAIN ", base64 of NUL anna NUL and the password, CRLF.
    let (_, out, _) = converse(&[b'x'; 366], ready);
    assert!(out.bytes().ends_with(b"\r\n") && out.bytes().len() == "EHLO homing\r\n".len() + 511 - 2);
    let (_, out, _) = converse(&[b'x'; 370], ready);
    assert!(out.bytes().ends_with(b"\r\nAUTH PLAIN\r\n"));
    let (_, out, outcome) = converse(&[b'x'; 9207], &format!("{ready}334 \r\n"));
    assert!(matches!(outcome, Ok(None)) && out.bytes().len() > 12_280);
    let (_, _, outcome) = converse(&[b'x'; 9208], ready);
    assert!(matches!(outcome, Ok(Some(BackendWish::Refused(_)))), "{outcome:?}");
}

#[test]
fn the_stage_says_whether_a_login_may_be_under_way() {
    for (server, stage) in [
        ("", Stage::Greeting),
        ("220-x\r\n", Stage::Greeting),
        ("220 x\r\n", Stage::Dialogue),
        ("220 x\r\n250 x\r\n", Stage::Dialogue),
        ("220 x\r\n250-x\r\n250 AUTH PLAIN\r\n", Stage::Login),
    ] {
        assert_eq!(converse(b"secret", server).0.stage(), stage, "{server:?}");
    }
}

fn login(helo: Option<String>, name: Option<String>, user: String, forward: Vec<(String, String)>) -> BackendLogin {
    let announce = Announcement {
        client: ([192, 0, 2, 7], 4711).into(),
        local: "[2001:db8::1]:587".parse().unwrap(),
        session: SessionId::new("s/1+="),
        ttl: 4,
        secured: true,
        server_name: name,
        helo,
        client_id: Vec::new(),
    };
    BackendLogin { announce: Some(announce), user, forward, noauth: true, ..BackendLogin::default() }
}

/// RFC 3461 section 4, the other way.
fn plain(xtext: &str) -> String {
    let mut parts = xtext.split('+');
    let mut bytes = parts.next().unwrap_or_default().as_bytes().to_vec();
    for part in parts {
        let (digits, rest) = part.split_at(2);
        assert_eq!(digits, digits.to_ascii_uppercase());
        bytes.push(u8::from_str_radix(digits, 16).unwrap());
        bytes.extend_from_slice(rest.as_bytes());
    }
    String::from_utf8(bytes).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_is_told_by_xclient_arrives_once_in_order_and_within_512_bytes_a_command(
        helo in proptest::option::of(".{1,40}|[a-z.]{200,255}"),
        name in proptest::option::of(".{1,40}|[a-z.]{200,255}"),
        user in "[^\\p{Cc}]{1,250}",
        forward in proptest::collection::vec(("[a-z]{1,9}", "[ -~]{0,150}"), 0..4),
    ) {
        let all = ["HELO", "PROTO", "LOGIN", "TTL", "PORT", "ADDR", "DESTPORT", "DESTADDR", "SESSION"];
        let all: Vec<_> = all.into_iter().chain(["CLIENT-TRANSPORT", "DESTNAME", "FORWARD"]).collect();
        let listed: Vec<String> = all.iter().map(|name| (*name).to_owned()).collect();
        let commands = xclient::commands(&listed, &login(helo.clone(), name.clone(), user.clone(), forward.clone()));
        let mut told = Vec::new();
        for command in &commands {
            let attributes: Vec<_> = command.strip_suffix("\r\n").unwrap().split(' ').collect();
            prop_assert!(command.is_ascii() && attributes[0] == "XCLIENT" && attributes.len() > 1);
            prop_assert!(command.len() <= 512 || attributes.len() == 2, "{}", command);
            told.extend(attributes[1..].iter().map(|attribute| attribute.split_once('=').unwrap()));
        }
        // No two neighbours would have gone in one.
        let fits = |pair: &[String]| pair[0].len() + pair[1].split(' ').nth(1).unwrap_or_default().len() < 512;
        prop_assert!(!commands.windows(2).any(|pair| fits(pair) && !pair[1][8..].contains(' ')), "{:?}", commands);
        let order: Vec<_> = told.iter().map(|(name, _)| all.iter().position(|known| known == name).unwrap()).collect();
        prop_assert!(order.windows(2).all(|pair| pair[0] < pair[1]), "{:?}", told);
        let value = |wanted: &str| told.iter().find(|(name, _)| *name == wanted).map(|(_, value)| plain(value));
        prop_assert_eq!(value("LOGIN"), Some(user));
        prop_assert_eq!(value("SESSION"), Some("s/1+=".to_owned()));
        prop_assert_eq!(value("HELO"), helo.filter(|name| is_proper_name(name)));
        prop_assert_eq!(value("DESTNAME"), name.filter(|name| is_proper_name(name)));
        let fields: Vec<_> = forward.iter().map(|(key, value)| format!("{key}={value}")).collect();
        let sent = value("FORWARD").map(|text| crate::protocol::sasl::decode(text.as_bytes()).unwrap().to_vec());
        prop_assert_eq!(sent, (!fields.is_empty()).then(|| fields.join("\t").into_bytes()));
    }
}
