//! What clients of doveadm, and mail servers that answer them, may say: no panic, bounded words, and a command that is
//! passed on means what was said.

use homing::protocol::Input;
use homing::protocol::doveadm::{
    Answer, ApiAnswer, Command, Demultiplexer, Frontend, FrontendSettings, FrontendWish, Rows, Text, parse_calls,
    split_answer,
};

use super::{PIECES, Peer, choice};

/// Takes the bytes for everything that may come in.
pub fn run(data: &[u8]) {
    let (choice, data) = choice(data);
    let settings = FrontendSettings { starttls: choice & 1 != 0, line: 256, command: 512 };
    let dialogues = PIECES.map(|piece| dialogue(settings, data, piece));
    assert!(dialogues.iter().all(|dialogue| *dialogue == dialogues[0]), "it depends on how the bytes come");
    for line in data.split(|byte| *byte == b'\n') {
        command(line);
    }
    if let Ok(calls) = parse_calls(data) {
        for call in calls {
            let again = parse_calls(&call.body(None)).map(|mut again| again.remove(0));
            assert_eq!(
                again.map(|again| (again.name, again.parameters)),
                Ok((call.name.clone(), call.parameters.clone()))
            );
            drop(call.aim(Some('*')));
        }
    }
    drop(split_answer(data));
    let results = PIECES.map(|piece| result(data, piece));
    assert!(results.iter().all(|result| *result == results[0]), "it depends on how the bytes come");
    rows(data);
    let answers = PIECES.map(|piece| answer(u32::from(choice & 3), data, piece));
    assert!(answers.iter().all(|answer| *answer == answers[0]), "it depends on how the bytes come");
    let (taken, whole) = Text::default().take(data);
    assert!(taken <= data.len() && (whole || taken == data.len()));
}

/// What is wished and said; each password is right.
fn dialogue(settings: FrontendSettings, data: &[u8], piece: usize) -> (Vec<String>, Vec<u8>) {
    let mut frontend = Frontend::new(settings);
    let mut peer = Peer::new(data, piece, 512);
    let mut wishes = Vec::new();
    while let Some(step) = peer.advance(&mut frontend) {
        match step {
            // What was pipelined behind STARTTLS is refused only where it has come already.
            Ok(FrontendWish::StartTls) => return Default::default(),
            Err(violation) if violation.contains("behind STARTTLS") => return Default::default(),
            Err(violation) => {
                wishes.push(violation);
                break;
            }
            Ok(FrontendWish::Check(_)) => peer.hear(|out| frontend.welcome(out)),
            Ok(wish) => wishes.push(format!("{wish:?} {} {}", frontend.minor(), frontend.takes_log())),
        }
    }
    assert!(peer.said.len() <= 40, "a greeting and a verdict are all that is said");
    (wishes, peer.said)
}

fn command(line: &[u8]) {
    let Ok(command) = Command::parse(line) else { return };
    let passed = command.line(3, 4);
    let again = Command::parse(passed.strip_suffix(b"\n").unwrap()).unwrap();
    assert_eq!(again, Command { ttl: Some(4), ..command.clone() });
    assert!(!passed[..passed.len() - 1].contains(&b'\n'), "one line is passed on as one");
    let old = command.line(0, 4);
    let again = Command::parse(old.strip_suffix(b"\n").unwrap()).unwrap();
    assert_eq!((&again.user, &again.name, &again.arguments), (&command.user, &command.name, &command.arguments));
    assert!(!command.known_name().contains(char::is_uppercase) || !command.name.is_ascii());
    drop(command.aim(Some('%')));
}

/// What is passed on of an answer over HTTP, and how it ends.
fn result(data: &[u8], piece: usize) -> (Vec<u8>, String) {
    let (mut answer, mut passed) = (ApiAnswer::default(), Vec::new());
    for mut rest in data.chunks(piece.min(data.len().max(1))) {
        while !rest.is_empty() {
            match answer.next(rest) {
                Err(fault) => return (passed, fault.to_string()),
                Ok((result, done)) => {
                    passed.extend_from_slice(result);
                    rest = &rest[done..];
                }
            }
        }
    }
    (passed, format!("{:?}", answer.end()))
}

/// Whatever sound JSON is the result for each of two users, their rows are sound JSON together.
fn rows(data: &[u8]) {
    let Ok(value) = serde_json::from_slice::<serde_json::Value>(data) else { return };
    let (mut rows, mut list) = (Rows::default(), b"[".to_vec());
    for user in ["ann", "b\"ob"] {
        rows.begin(Some(user));
        rows.put(data, &mut list);
        rows.end(&mut list);
    }
    list.push(b']');
    let list: Vec<serde_json::Value> = serde_json::from_slice(&list).unwrap();
    let count = value.as_array().map_or(1, Vec::len);
    assert_eq!(list.len(), 2 * count);
    assert!(list.iter().all(|row| row["username"].is_string()));
}

fn answer(minor: u32, data: &[u8], piece: usize) -> (Vec<u8>, Vec<u8>, String) {
    let (mut frames, mut answer, mut input) = (Demultiplexer::new(minor), Answer::default(), Input::with_capacity(64));
    let (mut output, mut other, mut rest) = (Vec::new(), Vec::new(), data);
    while !rest.is_empty() {
        let taken = input.push(&rest[..piece.min(rest.len())]);
        rest = &rest[taken..];
        while !input.is_empty() {
            let (channel, content, done) = frames.next(input.filled());
            if channel != 0 || content.is_empty() {
                other.extend_from_slice(content);
                input.consume(done);
                continue;
            }
            match answer.next(content) {
                Err(violation) => return (output, other, violation.to_string()),
                Ok((event, read)) => {
                    let left = content.len() - read;
                    let end = match event {
                        Some(homing::protocol::doveadm::Event::Output(bytes)) => {
                            output.extend_from_slice(bytes);
                            None
                        }
                        Some(homing::protocol::doveadm::Event::End(verdict)) => Some(format!("{verdict:?}")),
                        None => None,
                    };
                    if let Some(end) = end {
                        return (output, other, end);
                    }
                    frames.put_back(left);
                    input.consume(done - left);
                }
            }
        }
    }
    (output, other, String::new())
}
