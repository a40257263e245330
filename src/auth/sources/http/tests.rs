//! What is said in headers and JSON, and what answers mean.

use proptest::prelude::*;
use reqwest::StatusCode;
use zeroize::Zeroizing;

use super::*;
use crate::auth::tests::{credentials, question};
use crate::auth::{Denial, Refused};
use crate::config::AttributeField;
use crate::model::{Refusal, SessionId};

fn reply(status: u16, headers: &[(&'static str, &str)], body: &str) -> Reply {
    let pairs = headers.iter();
    let headers = pairs.map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_str(value).unwrap()));
    let body = Zeroizing::new(body.as_bytes().to_vec());
    Reply { status: StatusCode::from_u16(status).unwrap(), headers: headers.collect(), body }
}

proptest! {
    #[test]
    fn whatever_is_escaped_can_stand_in_a_header_and_comes_back(value: Vec<u8>) {
        let escaped = nginx::escaped(&value);
        prop_assert!(HeaderValue::from_bytes(&escaped).is_ok());
        let (mut back, mut bytes) = (Vec::new(), escaped.iter().copied());
        while let Some(byte) = bytes.next() {
            back.push(match byte {
                b'%' => {
                    let hex = [bytes.next().unwrap(), bytes.next().unwrap()];
                    u8::from_str_radix(std::str::from_utf8(&hex).unwrap(), 16).unwrap()
                }
                other => other,
            });
        }
        prop_assert_eq!(back, value);
    }

    #[test]
    fn no_answer_of_a_service_is_too_much(status in 200_u16..600, auth in "[ -~]{0,20}", body in "\\PC{0,80}") {
        let (session, given) = (SessionId::new("s"), credentials("ann", "x"));
        let reply = reply(status, &[("auth-status", &auth), ("auth-wait", &auth), ("auth-port", &auth)], &body);
        let question = question(&given, &session);
        let nginx = nginx::Form { obey_server: true }.login(&reply, &question);
        prop_assert!(!matches!(nginx, Verdict::Granted(_)) || auth.trim() == "OK");
        let json = json::Form { attributes: Vec::new() }.login(&reply, &question);
        prop_assert!(!matches!(json, Verdict::Granted(_)));
    }
}

#[test]
fn nginx_answers_mean_what_they_mean_to_nginx() {
    let (session, given) = (SessionId::new("s"), credentials("Ann", "x"));
    let judge = |headers: &[(&'static str, &str)]| {
        nginx::Form { obey_server: true }.login(&reply(200, headers, ""), &question(&given, &session))
    };
    let Verdict::Granted(grant) = judge(&[("auth-status", "OK"), ("auth-server", "10.0.0.7"), ("auth-port", "1143")])
    else {
        panic!("refused");
    };
    assert_eq!((grant.fields.host.as_deref(), grant.fields.port), (Some("10.0.0.7"), Some(1143)));
    assert_eq!(grant.user.as_str(), "ann");
    let Verdict::Granted(grant) = judge(&[("auth-status", "OK"), ("auth-user", "anna"), ("auth-pass", "y")]) else {
        panic!("refused");
    };
    assert_eq!((grant.user.as_str(), grant.fields.pass.unwrap().expose()), ("anna", &b"y"[..]));
    let told = |verdict| match verdict {
        Verdict::Denied(Denial::Told(Refused { refusal, words, wait })) => (refusal, words, wait.as_secs()),
        other => panic!("{other:?}"),
    };
    let no = judge(&[("auth-status", "No such mailbox"), ("auth-wait", "3")]);
    assert_eq!(told(no), (Refusal::BadCredentials, Some("No such mailbox".to_owned()), 3));
    let wait = judge(&[("auth-status", "WAIT"), ("auth-wait", "2")]);
    assert_eq!(told(wait), (Refusal::PassdbUnavailable, None, 2));
    let temporary = [("auth-status", "Try later"), ("auth-error-code", "451 4.3.0")];
    assert!(matches!(judge(&temporary), Verdict::Unavailable(_)));
    assert!(matches!(judge(&[]), Verdict::Unavailable(_)));
    assert!(matches!(judge(&[("auth-status", "OK"), ("auth-port", "0")]), Verdict::Faulty(_)));
}

#[test]
fn a_json_answer_grants_only_by_saying_so() {
    let (session, given) = (SessionId::new("s"), credentials("Ann", "x"));
    let attributes = vec![AttributeField { attribute: "mailHost".to_owned(), field: "host".to_owned() }];
    let form = json::Form { attributes };
    let judge = |status, headers: &[(&'static str, &str)], body: &str| {
        form.login(&reply(status, headers, body), &question(&given, &session))
    };
    let nauthilus = r#"{"ok":true,"account_field":"mail","attributes":{"mail":["ann@x.org"],"mailHost":["m1"],"host":["no"]},"backend":1}"#;
    let Verdict::Granted(grant) = judge(200, &[], nauthilus) else { panic!("refused") };
    assert_eq!((grant.user.as_str(), grant.fields.host.as_deref()), ("ann@x.org", Some("m1")));
    let own = r#"{"ok":true,"user":"anna","fields":{"pool":"eu","pass":"geheim","master":"root"}}"#;
    let Verdict::Granted(grant) = judge(200, &[], own) else { panic!("refused") };
    assert_eq!((grant.user.as_str(), grant.fields.pool.unwrap().as_str()), ("anna", "eu"));
    let Verdict::Granted(grant) = judge(200, &[("auth-status", "OK"), ("auth-user", "a@x")], "{}") else {
        panic!("refused")
    };
    assert_eq!(grant.user.as_str(), "a@x");
    assert!(matches!(judge(200, &[], "{}"), Verdict::Unavailable(_)));
    assert!(matches!(judge(200, &[], "<html>"), Verdict::Unavailable(_)));
    assert!(matches!(judge(200, &[("auth-status", "FAIL")], "{}"), Verdict::Denied(Denial::Password)));
    assert!(matches!(judge(200, &[], r#"{"ok":false}"#), Verdict::Denied(Denial::Password)));
    assert!(matches!(judge(403, &[], "no JSON"), Verdict::Denied(Denial::Password)));
    assert!(matches!(judge(403, &[], r#"{"code":"unknown"}"#), Verdict::Unknown));
    assert!(matches!(judge(401, &[], r#"{"code":"temporary"}"#), Verdict::Unavailable(_)));
    assert!(matches!(judge(404, &[], ""), Verdict::Unknown));
    assert!(matches!(judge(429, &[], ""), Verdict::Faulty(_)));
    assert!(matches!(judge(502, &[], nauthilus), Verdict::Unavailable(_)));
    assert!(matches!(judge(200, &[], r#"{"ok":true,"fields":{"master":"m"}}"#), Verdict::Faulty(_)));
    let forbidden = judge(200, &[], r#"{"ok":false,"code":"forbidden","reason":"Moved."}"#);
    let Verdict::Denied(Denial::Told(told)) = forbidden else { panic!("let in") };
    assert_eq!((told.refusal, told.words.as_deref()), (Refusal::Forbidden, Some("Moved.")));
    let nologin = judge(200, &[], r#"{"ok":true,"fields":{"nologin":"y","reason":"Gone."}}"#);
    assert!(matches!(nologin, Verdict::Denied(Denial::Told(_))));
}
