//! Lines, and what becomes of questions and answers.

use proptest::prelude::*;

use super::*;
use crate::auth::tests::{credentials, question};
use crate::auth::{Circumstances, Refused};
use crate::model::SessionId;
use crate::net::ProxyTls;
use crate::protocol::doveadm::escape;

fn secret(text: &str) -> Secret {
    Secret::new(text.as_bytes().to_vec())
}

fn answer(line: &[u8]) -> Answer {
    match read_auth_line(line) {
        Ok(Line::Answer(answer)) => answer,
        other => panic!("{other:?}"),
    }
}

proptest! {
    #[test]
    fn whatever_stands_in_fields_comes_back_as_it_was(fields in prop::collection::vec(any::<Vec<u8>>(), 0..5), id: u32) {
        let mut line = format!("OK\t{id}").into_bytes();
        for field in &fields {
            line.push(b'\t');
            line.extend(escape(field));
        }
        prop_assert!(!line.contains(&b'\n'));
        let answer = answer(&line);
        prop_assert_eq!(answer.id, id);
        let back: Vec<_> = answer.fields.iter().map(|field| field.whole().to_vec()).collect();
        prop_assert_eq!(back, fields);
    }

    #[test]
    fn no_name_or_password_leaves_its_place_in_a_request(user in "\\PC{0,40}|.{0,40}", password: Vec<u8>) {
        let session = SessionId::new("s1");
        let given = credentials(&user, "");
        let request = login(&question(&given, &session), &Secret::new(password.clone()), false);
        let line = request.line(7, 2).unwrap();
        let body = line.strip_suffix(b"\n").unwrap();
        prop_assert!(!body.contains(&b'\n'));
        let fields: Vec<_> = body.split(|byte| *byte == b'\t').collect();
        prop_assert_eq!(fields.len(), 12);
        let message = STANDARD.decode(fields[11].strip_prefix(b"resp=").unwrap()).unwrap();
        prop_assert_eq!(message, [b"\0", user.as_bytes(), b"\0", &password[..]].concat());
    }
}

#[test]
fn a_login_says_all_that_is_known_and_the_message_last() {
    let session = SessionId::new("s1");
    let given = credentials("ann", "x");
    let tls = ProxyTls { version: None, cipher: None, verified: true, common_name: Some("a\tb".to_owned()) };
    let around = Circumstances {
        tls: Some(&tls),
        server_name: Some("mail.test"),
        via: Some(("10.0.0.9:7".parse().unwrap(), "10.0.0.1:993".parse().unwrap())),
        attempt: 1,
        client_id: &[],
    };
    let question = Question { around, ..question(&given, &session) };
    let line = |penalty, minor| {
        String::from_utf8(login(&question, &secret("x"), penalty).line(5, minor).unwrap().to_vec()).unwrap()
    };
    assert_eq!(
        line(false, 2),
        "AUTH\t5\tPLAIN\tservice=imap\tsecured\tno-penalty\tvalid-client-cert\tcert_username=a\x01tb\tsession=s1\t\
         lip=192.0.2.1\tlport=993\trip=192.0.2.7\trport=50000\treal_lip=10.0.0.1\treal_lport=993\treal_rip=10.0.0.9\t\
         real_rport=7\tlocal_name=mail.test\tresp=AGFubgB4\n"
    );
    assert!(line(true, 3).starts_with("AUTH\t5\tPLAIN\tprotocol=imap\tsecured\tvalid-client-cert\t"));
    let long = secret(&"x".repeat(13_000));
    assert!(
        login(&question, &long, false).line(5, 2).is_none(),
        "Dovecot would hang up, and take everybody's login with it"
    );
}

#[test]
fn every_field_of_an_answer_arrives_and_its_faults_quote_no_value() {
    let line = b"OK\t1\tuser=Ann\tproxy=y\thost=mail.test\thostip=10.0.0.7\tport=1143\tdestuser=anna\tmaster=root\tpass=a\x01tb\xff\
                 \tproxy_timeout=300ms\tssl=any-cert\tdirector_tag=eu\tforward_x=1\tuser_alias=a2\tnodelay\tresp=abc";
    let (grant, _) = known(&answer(line), "ann", true).unwrap();
    let fields = &grant.fields;
    assert_eq!(grant.user.as_str(), "Ann");
    assert_eq!((fields.host.as_deref(), fields.port), (Some("mail.test"), Some(1143)));
    assert_eq!(fields.hostip, Some("10.0.0.7".parse().unwrap()));
    assert_eq!((fields.destuser.as_deref(), fields.master.as_deref()), (Some("anna"), Some("root")));
    assert_eq!(fields.pass.as_ref().unwrap().expose(), b"a\tb\xff");
    assert_eq!(fields.timeout, Some(std::time::Duration::from_millis(300)));
    assert_eq!(fields.pool.as_ref().unwrap().as_str(), "eu");
    assert_eq!(fields.forward, [("x".to_owned(), "1".to_owned())]);
    for wrong in ["port=geheim", "hostip=geheim", "delay_until=geheim", "user=ge\x01nheim", "allow_nets=geheim"] {
        let Err(why) = known(&answer(format!("OK\t1\t{wrong}").as_bytes()), "ann", true) else { panic!("{wrong}") };
        assert!(!why.contains("heim"), "{why}");
    }
    assert!(known(&answer(b"PASS\t1\tmaster=root"), "ann", false).is_ok(), "mail needs no password");
    assert!(!format!("{:?}", answer(line)).contains("pass=") && !format!("{:?}", answer(line)).contains("root"));
}

#[test]
fn codes_and_old_flags_tell_why_a_login_failed() {
    let code = |line: &str| failure_code(&answer(line.as_bytes()));
    for temporary in ["FAIL\t1\tuser=a\tcode=temp_fail", "FAIL\t1\ttemp"] {
        assert_eq!(code(temporary), Code::Temporary, "{temporary}");
    }
    for word in ["code=user_disabled", "code=pass_expired", "code=authz_fail", "user_disabled", "pass_expired", "authz"]
    {
        assert_eq!(code(&format!("FAIL\t1\tuser=a\t{word}")), Code::Forbidden, "{word}");
    }
    assert_eq!([code("FAIL\t1\tuser=a"), code("FAIL\t1\tcode=news")], [Code::Password; 2]);
}

#[test]
fn who_may_not_log_in_is_told_the_passdbs_reason() {
    let (session, given) = (SessionId::new("s"), credentials("ann", "x"));
    let judge = |line: &[u8]| allowed(&answer(line), &question(&given, &session));
    let Verdict::Denied(Denial::Told(Refused { refusal: Refusal::Forbidden, words, .. })) =
        judge(b"OK\t1\tuser=ann\tnologin\treason=Moved.")
    else {
        panic!("let in");
    };
    assert_eq!(words.as_deref(), Some("Moved."));
    assert!(matches!(judge(b"OK\t1\tallow_nets=192.0.2.0/24"), Verdict::Granted(_)));
    assert!(matches!(judge(b"OK\t1\tmaster=m"), Verdict::Faulty(_)));
}
