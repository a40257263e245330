//! What the mechanisms take and what they refuse.

use super::*;

fn start(mechanism: &[u8], initial: Option<Result<Message, Fault>>) -> Result<Step, Fault> {
    open(mechanism, initial)?.begin(&Terms::default())
}

use crate::model::{Mechanism, Proof, Secret};

/// As an initial response.
fn said(message: &[u8]) -> Option<Result<Message, Fault>> {
    Some(Ok(Message::new(message.to_vec())))
}

fn plain(message: &[u8]) -> Result<Credentials, Fault> {
    match start(b"plain", said(message))? {
        Step::Ask(credentials) => Ok(credentials),
        _ => panic!("PLAIN has one message"),
    }
}

#[test]
fn plain_takes_name_and_password() {
    let given = plain("\0jürgen\0pass wörd".as_bytes()).unwrap();
    assert_eq!((given.user.as_str(), given.authzid.as_deref()), ("jürgen", None));
    assert_eq!(given.password().unwrap().expose(), "pass wörd".as_bytes());
    assert_eq!(given.mechanism, Mechanism::Plain);
}

#[test]
fn plain_tells_who_acts_as_whom_and_forgets_an_authzid_that_says_nothing_new() {
    let given = plain(b"anna\0root\0x").unwrap();
    assert_eq!((given.user.as_str(), given.authzid.as_deref()), ("root", Some("anna")));
    assert_eq!(plain(b"anna\0anna\0x").unwrap().authzid, None);
}

#[test]
fn plain_refuses_what_rfc_4616_forbids() {
    for message in [&b""[..], b"\0", b"\0anna", b"anna", b"\0anna\0", b"\0anna\0x\0", b"\0anna\0x\0y", b"\0\0\0\0"] {
        assert_eq!(plain(message).unwrap_err(), Fault::Malformed, "{message:?}");
    }
    for message in
        [&b"\0\0x"[..], b"anna\0\0x", b"\0\xff\0x", b"\xff\0anna\0x", b"\0an\rna\0x", "\0a\u{85}\0x".as_bytes()]
    {
        assert_eq!(plain(message).unwrap_err(), Fault::BadName, "{message:?}");
    }
}

#[test]
fn a_plain_password_may_be_any_bytes_but_nul() {
    assert_eq!(plain(b"\0anna\0\xff\xfe\r\n").unwrap().password().unwrap().expose(), b"\xff\xfe\r\n");
}

/// What the client is shown, and the exchange that awaits its answer.
fn challenged(step: Result<Step, Fault>) -> (String, Exchange) {
    match step.unwrap() {
        Step::Challenge(text, exchange) => (String::from_utf8(text).unwrap(), exchange),
        _ => panic!("it asks for no more"),
    }
}

#[test]
fn login_asks_for_name_then_password() {
    let (text, exchange) = challenged(start(b"Login", None));
    assert_eq!(text, "Username:");
    let (text, exchange) = challenged(exchange.answer(b"anna"));
    assert_eq!(text, "Password:");
    let Ok(Step::Ask(given)) = exchange.answer(b"\xe4x") else { panic!("done") };
    assert_eq!((given.user.as_str(), given.password().unwrap().expose()), ("anna", &b"\xe4x"[..]));
    assert_eq!((given.authzid, given.mechanism), (None, Mechanism::Login));
}

#[test]
fn an_initial_response_answers_the_first_challenge() {
    assert_eq!(challenged(start(b"LOGIN", said(b"anna"))).0, "Password:");
    assert_eq!(challenged(start(b"PLAIN", None)).0, "");
    assert_eq!(plain(b"\0anna\0x").unwrap().user, "anna");
}

#[test]
fn login_refuses_an_empty_name_and_an_impossible_password() {
    assert_eq!(start(b"LOGIN", said(b"")).unwrap_err(), Fault::BadName);
    for password in [&b""[..], b"a\0b"] {
        let (_, exchange) = challenged(start(b"LOGIN", said(b"anna")));
        assert_eq!(exchange.answer(password).unwrap_err(), Fault::Malformed);
    }
}

#[test]
fn a_mechanism_that_is_not_offered_is_not_begun() {
    for name in [&b""[..], b"PLAI", b"PLAINX", b"XOAUTH2", b"EXTERNAL"] {
        assert_eq!(start(name, None).unwrap_err(), Fault::UnknownMechanism, "{name:?}");
        assert_eq!(start(name, Some(initial(b"?"))).unwrap_err(), Fault::UnknownMechanism, "{name:?}");
    }
    assert!(Terms::default().names().all(|name| start(name.as_bytes(), None).is_ok()));
}

#[test]
fn only_an_initial_response_may_be_empty_by_a_sign_and_only_a_later_one_cancels() {
    assert_eq!(initial(b"=").unwrap().as_slice(), b"");
    assert_eq!(initial(b"*").unwrap_err(), Fault::NotBase64);
    assert_eq!(response(b"*").unwrap_err(), Fault::Cancelled);
    assert_eq!(response(b"=").unwrap_err(), Fault::NotBase64);
    assert_eq!(response(b"").unwrap().as_slice(), b"");
}

#[test]
fn base64_is_taken_strictly() {
    assert_eq!(decode(b"AGFubmEAeA==").unwrap().as_slice(), b"\0anna\0x");
    assert_eq!(decode(b"").unwrap().as_slice(), b"");
    for text in
        [&b"AGFubmEAeA"[..], b"AGFubmEAeA=", b"AGFubmEAeB==", b"AGFu bmEAeA==", b"=", b"*", b"AGFubmEAeA==\r", b"-_=="]
    {
        assert_eq!(decode(text).unwrap_err(), Fault::NotBase64, "{text:?}");
    }
}

#[test]
fn our_own_response_is_understood_by_our_own_server() {
    let password = Secret::new(b"p\xff".to_vec());
    let given = plain(&ours(&password, None)).unwrap();
    assert_eq!((given.user.as_str(), given.authzid), ("anna", None));
    let given = plain(&ours(&password, Some("root"))).unwrap();
    assert_eq!((given.user.as_str(), given.authzid.as_deref()), ("root", Some("anna")));
    assert!(given.password() == Some(&password));

    fn ours(password: &Secret, master: Option<&str>) -> Vec<u8> {
        plain::response("anna", master, password).unwrap().to_vec()
    }
}

#[test]
fn a_response_that_cannot_be_said_is_not_said_wrongly() {
    let password = Secret::new(b"x".to_vec());
    assert!(plain::response("an\0na", None, &password).is_none());
    assert!(plain::response("", None, &password).is_none());
    assert!(plain::response("", Some("root"), &password).is_none());
    assert!(plain::response("anna", Some(""), &password).is_none());
    assert!(plain::response("anna", None, &Secret::default()).is_none());
    assert!(plain::response("anna", None, &Secret::new(b"x\0y".to_vec())).is_none());
}

/// The server's side of an exchange: what it says after the client's first message and last message.
fn scram(mechanism: Mechanism, password: &str, salt: &str, ours: &str, first: &str, last: &str) -> (String, Step) {
    let terms = Terms { mechanisms: vec![mechanism], ..Terms::default() };
    let opening = open(mechanism.name().as_bytes(), said(first.as_bytes())).unwrap();
    let Ok(Step::Keys(wanted, waiting)) = opening.begin(&terms) else { panic!("it needs keys") };
    assert_eq!(wanted.user, "user");
    let salt = STANDARD.decode(salt).unwrap();
    let rounds = std::num::NonZeroU32::new(4096).unwrap();
    let keys = crate::model::ScramKeys::derive(wanted.hash, rounds, &salt, password.as_bytes());
    let (text, exchange) = waiting.go_on(ScramGift { keys, nonce: ours.to_owned() });
    (String::from_utf8(text).unwrap(), exchange.answer(last.as_bytes()).unwrap())
}

#[test]
fn scram_speaks_as_the_examples_of_the_rfcs() {
    let (first, step) = scram(
        Mechanism::ScramSha1,
        "pencil",
        "QSXCR+Q6sek8bf92",
        "3rfcNHYJY1ZVvWVs7j",
        "n,,n=user,r=fyko+d2lbbFgONRv9qkxdawL",
        "c=biws,r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,p=v0X8v3Bz2T0CJGbJQyF0X+HI4Ts=",
    );
    assert_eq!(first, "r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,s=QSXCR+Q6sek8bf92,i=4096");
    let Step::Shown(text, given) = step else { panic!("proven") };
    assert_eq!(text, b"v=rmF9pqV8S7suAoZWja4dJRkFsKQ=");
    assert!(matches!(given.proof, Proof::Proven));
    let (_, step) = scram(
        Mechanism::ScramSha256,
        "pencil",
        "W22ZaJ0SNY7soEsUEjb6gQ==",
        "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0",
        "n,,n=user,r=rOprNGfwEbeRWgbNEkqO",
        "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=",
    );
    let Step::Shown(text, _) = step else { panic!("proven") };
    assert_eq!(text, b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=");
}

#[test]
fn a_scram_proof_of_another_password_has_failed() {
    let (_, step) = scram(
        Mechanism::ScramSha1,
        "pencils",
        "QSXCR+Q6sek8bf92",
        "3rfcNHYJY1ZVvWVs7j",
        "n,,n=user,r=fyko+d2lbbFgONRv9qkxdawL",
        "c=biws,r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,p=v0X8v3Bz2T0CJGbJQyF0X+HI4Ts=",
    );
    assert!(matches!(step, Step::Ask(Credentials { proof: Proof::Failed(_), .. })));
}

#[test]
fn scram_refuses_what_rfc_5802_forbids() {
    let terms = Terms { mechanisms: vec![Mechanism::ScramSha256], ..Terms::default() };
    let begin = |text: &str| open(b"SCRAM-SHA-256", said(text.as_bytes())).unwrap().begin(&terms);
    for text in [
        "",
        "n,,",
        "n,,n=user",
        "n,,r=x,n=user",
        "n,,m=x,n=user,r=x",
        "n,,n=us=er,r=x",
        "n,b=x,n=user,r=x",
        "n,,n=user,r=",
    ] {
        assert_eq!(begin(text).unwrap_err(), Fault::Malformed, "{text}");
    }
    assert_eq!(begin("p=tls-exporter,,n=user,r=x").unwrap_err(), Fault::Malformed);
    assert_eq!(begin("n,,n=,r=x").unwrap_err(), Fault::BadName);
    let Ok(Step::Keys(wanted, _)) = begin("y,a=b=2Cc,n=\u{2168}a=3D,r=x") else { panic!("fine") };
    assert_eq!((wanted.user.as_str(), wanted.authzid.as_deref()), ("IXa=", Some("b,c")), "by SASLprep");
}
