//! imap-codec as an oracle: what it says or understands of a login must mean the same to us.

use homing::model::{Credentials, Mechanism, Secret, SessionId};
use homing::protocol::imap::{Backend, Frontend};
use homing::protocol::{Announcement, BackendLogin, Bounds, ClientWish, Frontend as _, FrontendSettings, sasl};
use imap_codec::CommandCodec;
use imap_codec::decode::Decoder;
use imap_codec::encode::Encoder;
use imap_codec::imap_types::auth::AuthMechanism;
use imap_codec::imap_types::command::{Command, CommandBody};
use imap_codec::imap_types::core::{AString, IString, Literal, Quoted};
use proptest::prelude::*;

use crate::bodies::Peer;

const BOUNDS: Bounds = Bounds { line: 4096, literal: 256, commands: 5, errors: 5, failures: 5 };

/// What our side makes of a client's bytes: the login that it asks for, or what it answers.
fn ours(bytes: &[u8]) -> Result<Credentials, String> {
    let mut machine = Frontend::new(settings());
    let mut peer = Peer::new(bytes, usize::MAX, BOUNDS.line);
    match peer.advance(&mut machine) {
        Some(Ok(ClientWish::Authenticate(given))) => Ok(given),
        _ => Err(String::from_utf8_lossy(&peer.said).into_owned()),
    }
}

/// The argument in one of the forms that the grammar has for it.
fn argument(bytes: &[u8], form: u8) -> AString<'static> {
    let literal = || Literal::try_from(bytes.to_vec()).expect("no NUL");
    match (form % 4, Quoted::try_from(bytes.to_vec())) {
        (0, _) => AString::try_from(bytes.to_vec()).expect("no NUL"),
        (1, Ok(quoted)) => AString::String(IString::Quoted(quoted)),
        (2, _) => AString::String(IString::Literal(literal())),
        _ => AString::String(IString::Literal(literal().into_non_sync())),
    }
}

fn name() -> impl Strategy<Value = String> {
    "[^\\p{Cc}]{1,24}"
}

fn password() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![proptest::collection::vec(1_u8.., 1..40), "[ -~]{1,40}".prop_map(String::into_bytes),]
}

fn settings() -> FrontendSettings {
    FrontendSettings {
        secured: true,
        starttls: false,
        plaintext_login: false,
        banner: String::new(),
        host: String::new(),
        offers: std::sync::Arc::default(),
        sasl: std::sync::Arc::default(),
        bounds: BOUNDS,
    }
}

/// The bytes with which our backend side announces a client that said these pairs.
fn announced(client_id: Vec<(String, Option<String>)>) -> Vec<u8> {
    let announce = Announcement {
        client: ([192, 0, 2, 7], 4711).into(),
        local: ([127, 0, 0, 1], 993).into(),
        session: SessionId::new("s1"),
        ttl: 4,
        secured: true,
        server_name: None,
        helo: None,
        client_id,
    };
    let mut machine = Backend::new(BackendLogin {
        user: "anna".to_owned(),
        master: None,
        password: Secret::new(b"x".to_vec()),
        announce: Some(announce),
        starttls: false,
        pipelining: false,
        ..BackendLogin::default()
    });
    let mut peer = Peer::new(b"* OK [CAPABILITY IMAP4rev1 ID AUTH=PLAIN] hi\r\n", usize::MAX, BOUNDS.line);
    assert!(peer.advance(&mut machine).is_none(), "it waits for the answer to ID");
    peer.said
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_login_that_imap_codec_says_is_understood(
        tag in "[A-Za-z0-9.]{1,12}", user in name(), password in password(), forms: (u8, u8),
    ) {
        let user_argument = argument(user.as_bytes(), forms.0);
        let body = CommandBody::login(user_argument, argument(&password, forms.1)).unwrap();
        let bytes = CommandCodec::default().encode(&Command::new(tag, body).unwrap()).dump();
        let given = ours(&bytes).unwrap();
        prop_assert_eq!((given.user.clone(), given.authzid.clone(), given.mechanism), (user, None, Mechanism::Command));
        prop_assert_eq!(given.password().unwrap().expose(), &password);
    }

    #[test]
    fn an_authentication_that_imap_codec_says_is_understood(
        tag in "[A-Za-z0-9.]{1,12}", user in name(), authzid in proptest::option::of(name()), password in password(),
    ) {
        let message = [authzid.clone().unwrap_or_default().as_bytes(), user.as_bytes(), &password].join(&0);
        let body = CommandBody::authenticate_with_ir(AuthMechanism::Plain, message.clone());
        let with = CommandCodec::default().encode(&Command::new(tag.as_str(), body).unwrap()).dump();
        let body = CommandBody::authenticate(AuthMechanism::Plain);
        let mut without = CommandCodec::default().encode(&Command::new(tag.as_str(), body).unwrap()).dump();
        without.extend_from_slice(format!("{}\r\n", *sasl::encode(&message)).as_bytes());
        for bytes in [with, without] {
            let given = ours(&bytes).unwrap();
            prop_assert_eq!((&given.user, given.mechanism), (&user, Mechanism::Plain));
            prop_assert_eq!(given.authzid.as_ref(), authzid.as_ref().filter(|name| **name != user));
            prop_assert_eq!(given.password().unwrap().expose(), &password);
        }
    }

    #[test]
    fn an_id_that_our_backend_side_says_is_understood_by_our_frontend_side(
        pairs in proptest::collection::vec(("[a-w][ -~]{0,11}", proptest::option::of("[ -~]{0,24}")), 0..9),
    ) {
        let bytes = announced(pairs.clone());
        let mut machine = Frontend::new(settings());
        let mut peer = Peer::new(&bytes, usize::MAX, 4096);
        prop_assert!(peer.advance(&mut machine).is_none());
        prop_assert_eq!(machine.client_id(), pairs);
    }

    #[test]
    fn any_other_command_that_imap_codec_says_is_answered_in_its_tag(tag in "[A-Za-z0-9.]{1,12}", which in 0..5_usize) {
        let bodies = [
            CommandBody::Capability,
            CommandBody::Noop,
            CommandBody::Logout,
            CommandBody::select("INBOX").unwrap(),
            CommandBody::list("", "*").unwrap(),
        ];
        let known = ["OK", "OK", "OK", "BAD Log in first.", "BAD Log in first."];
        let command = Command::new(tag.as_str(), bodies[which].clone()).unwrap();
        let said = ours(&CommandCodec::default().encode(&command).dump()).unwrap_err();
        let last = said.lines().last().unwrap_or_default();
        prop_assert!(last.starts_with(&format!("{tag} {}", known[which])), "{}", said);
    }

    #[test]
    fn what_imap_codec_understands_as_a_login_means_the_same_to_us(
        user in argument_text(), password in argument_text(), verb in "LOGIN|login|Login",
    ) {
        let bytes = [b"a ", verb.as_bytes(), b" ", &user, b" ", &password, b"\r\n"].concat();
        let Ok((b"", command)) = CommandCodec::default().decode(&bytes) else { return Ok(()) };
        let CommandBody::Login { username, password } = command.body else { return Ok(()) };
        match ours(&bytes) {
            Ok(given) => {
                prop_assert_eq!(given.user.as_bytes(), value(&username));
                prop_assert_eq!(given.password().unwrap().expose(), value(password.declassify()));
            }
            Err(said) => {
                prop_assert!(sasl::user_name(value(&username)).is_err(), "{}: {}", bytes.escape_ascii(), said);
            }
        }
    }
}

/// An argument, or nearly.
fn argument_text() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        "[a-c%*\\]\\\\]{0,4}".prop_map(String::into_bytes),
        r#""([a-c {}]|\\"|\\\\|\\a|"){0,5}""#.prop_map(String::into_bytes),
        ("[ -~\r\n]{0,9}", 0..3_usize, any::<bool>()).prop_map(|(text, off, sync)| {
            let size = text.len().saturating_sub(off / 2);
            format!("{{{size}{}}}\r\n{text}", if sync { "" } else { "+" }).into_bytes()
        }),
    ]
}

fn value<'a>(argument: &'a AString<'_>) -> &'a [u8] {
    argument.as_ref()
}
