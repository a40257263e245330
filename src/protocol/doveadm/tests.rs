//! What is said, and what is understood; however the bytes are cut.

use serde_json::json;

use super::*;
use crate::model::{Exit, Secret};
use crate::protocol::{Input, Machine, Output, Referral, Violation};

const SETTINGS: FrontendSettings = FrontendSettings { starttls: false, line: 100, command: 200 };

/// What a client wants that sends this in pieces of so many bytes, and what it is told; the password is always right.
fn dialogue(settings: FrontendSettings, words: &str, piece: usize) -> (Vec<String>, String) {
    let (mut frontend, mut input, mut out) = (Frontend::new(settings), Input::with_capacity(200), Output::new());
    let mut wishes = Vec::new();
    let mut left = words.as_bytes();
    loop {
        match frontend.advance(&mut input, &mut out) {
            Ok(None) if left.is_empty() => break,
            Ok(None) => left = &left[input.push(&left[..piece.min(left.len())])..],
            Ok(Some(FrontendWish::StartTls)) => {
                wishes.push("STARTTLS".to_owned());
                frontend.secured();
            }
            Ok(Some(FrontendWish::Check(password))) => {
                wishes.push(format!("check {}", password.expose().escape_ascii()));
                frontend.welcome(&mut out);
            }
            Ok(Some(FrontendWish::Run(command))) => {
                wishes.push(format!("{} for {:?} log {}", command.name, command.user, frontend.takes_log()));
            }
            Ok(Some(FrontendWish::Refuse(why))) => wishes.push(why.to_string()),
            Err(violation) => {
                wishes.push(violation.to_string());
                break;
            }
        }
    }
    (wishes, String::from_utf8_lossy(out.bytes()).into_owned())
}

#[test]
fn a_client_is_greeted_let_in_and_understood_however_its_bytes_are_cut() {
    let v1_2 = "VERSION\tdoveadm-client\t1\t3\n-\n";
    for (settings, words, wishes, said) in [
        (
            SETTINGS,
            "VERSION\tdoveadm-server\t1\t2\nPLAIN\tAGRvdmVhZG0AeA==\n\tann\tquota get\t-u\tann\t--\n",
            vec!["check x", "quota get for \"ann\" log true"],
            format!("{v1_2}+\n"),
        ),
        // Old ones get no version, newer ones ask for what is logged.
        (
            SETTINGS,
            "VERSION\tdoveadm-server\t1\t0\nPLAIN\tAGRvdmVhZG0AeA==\n\tann\twho\n",
            vec!["check x", "who for \"ann\" log false"],
            "-\n+\n".to_owned(),
        ),
        (
            SETTINGS,
            "VERSION\tdoveadm-server\t1\t9\nPLAIN\tAGRvdmVhZG0AeA==\n\t\twho\n\t\tOPTION\tnew\tlog-passthrough\n\t\twho\n",
            vec!["check x", "who for \"\" log false", "who for \"\" log true"],
            format!("{v1_2}+\n"),
        ),
        (
            SETTINGS,
            "VERSION\tdoveadm-server\t1\t2\nPLAIN\tAGRvdmVhZG0AeA==\nq\tann\twho\n\tann\t\n\tann\twho\r\n",
            vec!["check x", "a flag is none of D, v and x", "no command is given", "who for \"ann\" log true"],
            format!("{v1_2}+\n"),
        ),
        (
            FrontendSettings { starttls: true, ..SETTINGS },
            "VERSION\tdoveadm-server\t1\t2\nPLAIN\tAGRvdmVhZG0AeA==\n",
            vec!["not this protocol: a password before STARTTLS, which this listener demands"],
            format!("{v1_2}-\n"),
        ),
        (
            SETTINGS,
            "VERSION\tdoveadm-server\t1\t2\nSTARTTLS\n",
            vec!["not this protocol: STARTTLS where it is not offered"],
            format!("{v1_2}-\n"),
        ),
        (
            SETTINGS,
            "VERSION\tdoveadm-server\t1\t2\nPLAIN\tAG90aGVyAHg=\n",
            vec!["not this protocol: the password is not said as PLAIN of the user doveadm"],
            format!("{v1_2}-\n"),
        ),
        (
            SETTINGS,
            "VERSION\tdoveadm-server\t2\t0\n",
            vec!["not this protocol: the greeting is not that of doveadm"],
            String::new(),
        ),
        (
            SETTINGS,
            "VERSION\tdoveadm-server\t1\n",
            vec!["not this protocol: the greeting names no version"],
            String::new(),
        ),
    ] {
        for piece in [1, 2, 7, 200] {
            assert_eq!(
                dialogue(settings, words, piece),
                (wishes.iter().map(ToString::to_string).collect(), said.clone()),
                "{words:?} by {piece}"
            );
        }
    }
}

#[test]
fn tls_is_started_before_the_password_and_nothing_is_taken_from_behind_the_word() {
    let settings = FrontendSettings { starttls: true, ..SETTINGS };
    let words = "VERSION\tdoveadm-server\t1\t2\nSTARTTLS\n";
    assert_eq!(dialogue(settings, words, 200).0, ["STARTTLS"]);
    let injected = format!("{words}PLAIN\tAGRvdmVhZG0AeA==\n");
    assert_eq!(dialogue(settings, &injected, 200).0, ["plaintext behind STARTTLS"]);
}

#[test]
fn a_line_is_no_longer_than_allowed_before_and_behind_the_password() {
    let (hello, plain) = ("VERSION\tdoveadm-server\t1\t2\n", "PLAIN\tAGRvdmVhZG0AeA==\n");
    for words in [
        format!("V{}\n", "x".repeat(120)),
        format!("{hello}PLAIN\t{}\n", "A".repeat(120)),
        format!("{hello}{plain}\t{}\n", "x".repeat(199)),
    ] {
        assert_eq!(dialogue(SETTINGS, &words, 7).0.last().unwrap(), "line too long");
    }
    assert_eq!(dialogue(SETTINGS, &format!("{hello}{plain}\t\twho\t{}\n", "x".repeat(150)), 7).0.len(), 2);
}

#[test]
fn a_wrong_password_is_the_end() {
    let (mut frontend, mut out) = (Frontend::new(SETTINGS), Output::new());
    assert_eq!(frontend.refuse(&mut out), Violation::TooManyFailures);
    assert_eq!(out.bytes(), b"-\n");
    assert_ne!(Secret::new(b"right".to_vec()), Secret::new(b"rigHt".to_vec()));
}

#[test]
fn a_command_is_passed_on_as_it_was_said_to_a_server_of_any_version() {
    let odd =
        b"x\tproxy-ttl=3\x01tforward=a\x01\x01tb\tt\x01t\xc3\xa4b\tmailbox status\t-f\t\tmessages vsize\t\xff\x01n";
    let command = Command::parse(odd).unwrap();
    assert_eq!((command.ttl, command.user.as_str()), (Some(3), "t\täb"));
    assert_eq!(command.arguments, [&b"-f"[..], b"", b"messages vsize", b"\xff\n"]);
    let tail = "\tt\u{1}tb\tmailbox status\t".replace("tb", "t\u{e4}b");
    assert!(command.line(2, 1).starts_with(tail.as_bytes()), "{}", command.line(2, 1).escape_ascii());
    let line = command.line(3, 1);
    let again = Command::parse(line.strip_suffix(b"\n").unwrap()).unwrap();
    assert_eq!(again, Command { ttl: Some(1), ..command });
    assert_eq!(Command::parse(b"D\ta\tw").unwrap().line(0, 0), b"D\ta\tw\n");
    assert_eq!(Command::parse(b"v\ta\tw").unwrap().line(2, 0), b"v\ta\tw\n");
    // A TTL that cannot be read is none.
    assert_eq!(Command::parse(b"x\tproxy-ttl=much\ta\tw").unwrap().ttl, Some(0));
    for fault in [&b""[..], b"\t", b"\ta", b"\ta\t", b"\t\xff\tw", b"\ta\t\xff", b"z\ta\tw"] {
        assert!(Command::parse(fault).is_err(), "{}", fault.escape_ascii());
    }
}

#[test]
fn whom_a_command_is_about_is_told_by_the_users_field_else_by_its_arguments() {
    let aim = |line: &str| {
        Command::parse(line.as_bytes()).unwrap().aim(Some('*')).map(|(aim, command)| (aim, command.arguments.len()))
    };
    let user = |name: &str| Aim::User(name.to_owned());
    assert_eq!(aim("\tann\tquota get\t-u\tbob\t--"), Ok((user("ann"), 1)));
    assert_eq!(aim("\tann*boss\tquota get"), Ok((user("ann"), 0)));
    assert_eq!(aim("\t\tquota get\t-u\tbob\tx"), Ok((user("bob"), 1)));
    assert_eq!(aim("\t\tquota get\t--user\tb*\tx"), Ok((Aim::Mask("b*".into()), 2)));
    assert_eq!(aim("\t\tquota get\t-A"), Ok((Aim::Mask("*".into()), 1)));
    assert_eq!(aim("\t\tsearch\t--\t-A"), Ok((Aim::Nobody, 2)));
    assert!(aim("\t\tsearch\t-F\tfile").is_err());
    let api = |parameters| {
        let call = ApiCall {
            name: "quotaGet".into(),
            parameters: serde_json::from_value(parameters).unwrap(),
            tag: String::new(),
        };
        call.aim(Some('%')).map(|(aim, call)| (aim, call.parameters.len()))
    };
    assert_eq!(api(json!({ "user": "ann", "x": 1 })), Ok((user("ann"), 1)));
    assert_eq!(api(json!({ "user": "ann%boss" })), Ok((user("ann"), 0)));
    assert_eq!(api(json!({ "user": "a?n" })), Ok((Aim::Mask("a?n".into()), 0)));
    assert_eq!(api(json!({ "allUsers": true })), Ok((Aim::Mask("*".into()), 0)));
    assert_eq!(api(json!({ "allUsers": false })), Ok((Aim::Nobody, 0)));
    assert!(api(json!({ "userFile": "x" })).is_err() && api(json!({ "user": 7 })).is_err());
}

#[test]
fn a_command_that_was_given_for_many_has_the_server_name_the_user_in_each_row() {
    for given in ["-A", "-u\ta*", "-F\t", "--user-file\t/etc/passwd"] {
        let command = Command::parse(format!("\tann\tmailbox list\t{given}\t--\t*").as_bytes()).unwrap();
        let (aim, command) = command.aim(None).unwrap();
        assert_eq!((aim, command.line(0, 1)), (Aim::User("ann".into()), b"\tann\tmailbox list\t-A\t--\t*\n".to_vec()));
    }
}

#[test]
fn a_masters_name_is_cut_off_at_the_configured_separator_and_nowhere_else() {
    let aim = |line: &str, separator| Command::parse(line.as_bytes()).unwrap().aim(separator).unwrap().0;
    let user = |name: &str| Aim::User(name.to_owned());
    assert_eq!(aim("\tann%boss\tsearch", Some('%')), user("ann"));
    assert_eq!(aim("\tann*boss\tsearch", Some('%')), user("ann*boss"));
    assert_eq!(aim("\tann*boss\tsearch", None), user("ann*boss"));
    assert_eq!(aim("\t%boss\tsearch", Some('%')), user("%boss"));
    assert_eq!(aim("\t\tsearch\t-u\tann%boss", Some('%')), user("ann"));
    assert_eq!(aim("\t\tsearch\t-u\ta*%boss", Some('%')), Aim::Mask("a*%boss".into()));
}

#[test]
fn commands_about_a_machine_are_told_from_those_about_users_however_they_are_spelt() {
    for (name, expected) in [
        ("quotaGet", Kind::OfUser),
        ("force-resync", Kind::OfUser),
        ("logical", Kind::OfUser),
        ("who", Kind::OfAll),
        ("kick", Kind::OfAll),
        ("user", Kind::OfAny),
        ("serviceStop", Kind::OfMachine),
        ("log errors", Kind::OfMachine),
        ("stop", Kind::OfMachine),
        ("Reload", Kind::OfMachine),
        ("director-map", Kind::OfMachine),
        ("mailboxMutf7", Kind::OfMachine),
    ] {
        assert_eq!(kind(&normal(name)), expected, "{name}");
    }
    assert_eq!(normal("mailboxCacheDecision"), "mailbox cache decision");
    assert_eq!(Command::parse(b"\t\tmailbox\tmutf7").unwrap().known_name(), "mailbox mutf7");
}

/// Everything that an answer means: output, log, and how it ends.
fn heard(minor: u32, bytes: &[u8], piece: usize) -> (Vec<u8>, Vec<u8>, Option<Result<Verdict, Violation>>) {
    let (mut frames, mut answer) = (Demultiplexer::new(minor), Answer::default());
    let (mut output, mut log) = (Vec::new(), Vec::new());
    for mut piece in bytes.chunks(piece) {
        while !piece.is_empty() {
            let (channel, content, done) = frames.next(piece);
            piece = &piece[done..];
            if channel != reply::ANSWER {
                log.extend(content);
                continue;
            }
            let mut content = content;
            while !content.is_empty() {
                match answer.next(content) {
                    Err(violation) => return (output, log, Some(Err(violation))),
                    Ok((event, read)) => {
                        content = &content[read..];
                        match event {
                            Some(Event::Output(bytes)) => output.extend(bytes),
                            Some(Event::End(verdict)) => return (output, log, Some(Ok(verdict))),
                            None => {}
                        }
                    }
                }
            }
        }
    }
    (output, log, None)
}

#[test]
fn an_answer_is_taken_apart_the_same_however_it_is_cut() {
    let framed = b"\0\0\0\0\x06INBOX\tL\0\0\0\x05\x04oh!\n\0\0\0\0\0\0\0\0\0\x0a\n-NOUSER\n\0";
    for piece in [1, 2, 3, 7, 100] {
        let verdict = Some(Ok(Verdict::Exit(Exit::NO_USER)));
        assert_eq!(heard(2, framed, piece), (b"INBOX\t".to_vec(), b"\x04oh!\n".to_vec(), verdict), "by {piece}");
        let verdict = Some(Ok(Verdict::Exit(Exit::DONE)));
        assert_eq!(heard(0, b"a\tb\x01n\t\n+\n", piece), (b"a\tb\x01n\t".to_vec(), Vec::new(), verdict), "by {piece}");
        assert_eq!(heard(0, b"a\tb", piece).2, None);
        assert_eq!(heard(0, b"a\n", piece).2, None);
        assert!(matches!(heard(0, b"a\n*\n", piece).2, Some(Err(Violation::Nonsense(_)))));
        let endless = [b"\n-", &[b'x'; 2000][..]].concat();
        assert_eq!(heard(0, &endless, piece).2, Some(Err(Violation::LineTooLong)));
    }
}

#[test]
fn a_referral_names_a_server_and_perhaps_a_port_and_another_name() {
    let of = |target: &str| match heard(0, format!("\n-REFERRAL {target}\n").as_bytes(), 100).2 {
        Some(Ok(Verdict::Referral(Referral { user, host, port }))) => Some((user.unwrap_or_default(), host, port)),
        _ => None,
    };
    let expected = |user: &str, host: &str, port| Some((user.to_owned(), host.to_owned(), port));
    assert_eq!(of("ann@example.org@m2:24245"), expected("ann@example.org", "m2", Some(24245)));
    assert_eq!(of("ann@[fd00::1]:7"), expected("ann", "fd00::1", Some(7)));
    assert_eq!(of("fd00::1"), expected("", "fd00::1", None));
    assert_eq!(of("m2"), expected("", "m2", None));
    for fault in ["", "ann@", "ann@m2:", "ann@m2:0", "ann@m2:70000", "ann@[::1", "ann@[::1]7", "a b@m2", "ann@:7"] {
        assert_eq!(of(fault), None, "{fault}");
    }
}

#[test]
fn what_we_frame_is_what_a_client_takes_apart() {
    let said = [
        reply::framed(2, reply::LOG, &reply::error_line("o\nh\tno")),
        reply::framed(2, reply::ANSWER, b"x\t"),
        reply::framed(2, reply::ANSWER, &reply::verdict(Exit::TEMPORARY)),
    ];
    let (output, log, verdict) = heard(2, &said.concat(), 3);
    assert_eq!(
        (output, log, verdict),
        (b"x\t".to_vec(), b"\x04o h no\n".to_vec(), Some(Ok(Verdict::Exit(Exit::TEMPORARY))))
    );
    assert_eq!(reply::framed(0, reply::LOG, b"x"), b"");
    assert_eq!(reply::framed(0, reply::ANSWER, b"x"), b"x");
}

#[test]
fn what_is_sent_along_ends_at_a_line_with_nothing_but_a_dot() {
    for (text, end) in [
        ("a\r\n.\r\nb", Some(6)),
        (".\nb", Some(2)),
        ("..\r\n.x\r\n.\r\n", Some(11)),
        (".\rx\n.\n", Some(6)),
        ("a.\r\n", None),
        ("\r\n.", None),
    ] {
        for piece in [1, 2, 100] {
            let (mut state, mut taken, mut whole) = (Text::default(), 0, false);
            for piece in text.as_bytes().chunks(piece) {
                let (read, is_whole) = state.take(piece);
                (taken, whole) = (taken + read, is_whole);
                if whole {
                    break;
                }
            }
            assert_eq!(whole.then_some(taken), end, "{text:?} by {piece}");
        }
    }
}

#[test]
fn a_body_of_the_http_api_is_taken_or_refused_in_dovecots_words() {
    let calls = parse_calls(br#"[["quotaGet",{"user":"ann"},"t1"],["who",{},"t2"]]"#).unwrap();
    assert_eq!(calls.iter().map(|call| call.tag.as_str()).collect::<Vec<_>>(), ["t1", "t2"]);
    assert_eq!(parse_calls(b"[]"), Ok(vec![]));
    assert_eq!(calls[0].body(Some("bob")), br#"[["quotaGet",{"user":"bob"},"homing"]]"#);
    for (body, why) in [
        ("{}", "Request must be a JSON array"),
        ("[{}]", "Command must be a JSON array"),
        ("[[1]]", "Command name must be a string"),
        (r#"[["a",[],"t"]]"#, "Parameters must be contained in a JSON object"),
        (r#"[["a",{}]]"#, "Command ID must be a string"),
        (r#"[["a",{},"t",1]]"#, "Unexpected JSON element at end of command"),
        ("x", "JSON parse error: expected value at line 1 column 1"),
    ] {
        assert_eq!(parse_calls(body.as_bytes()).unwrap_err().to_string(), why, "{body}");
    }
    assert!(parse_calls("[".repeat(10_000).as_bytes()).is_err());
}

#[test]
fn the_answer_of_a_servers_http_api_is_a_result_or_a_code() {
    let of = |body: &str| split_answer(body.as_bytes()).ok().map(|answer| answer.map_err(|(_, exit)| exit.code()));
    assert_eq!(of(r#"[["doveadmResponse",[{"a":"b"}],"homing"]]"#), Some(Ok(json!([{ "a": "b" }]))));
    assert_eq!(of(r#"[["error",{"type":"exitCode", "exitCode":67},"homing"]]"#), Some(Err(67)));
    assert_eq!(of(r#"[["error",{"type":"unknownMethod", "exitCode":0},"homing"]]"#), Some(Err(64)));
    assert_eq!(of(r#"[["error",{"type":"internalError", "exitCode":0},"homing"]]"#), Some(Err(75)));
    for body in ["", "[]", "[[]]", "{}", r#"[["other",[],"t"]]"#, r#"[["doveadmResponse",1,"t"],[]]"#] {
        assert_eq!(of(body), None, "{body}");
    }
}
