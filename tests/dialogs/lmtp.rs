//! The transcripts of LMTP, in which nobody logs in: the player is the session, too. A file is written as `script.rs` has it,
//! and played whole, cut at each byte, and byte by byte, but for dialogues that say `whole`.
//!
//! `client_*.txt`: recipients are taken, but for `nobody` (550) and `later` (451); so is every message, by the last recipient
//! first, unless the header says `down`. `W:` shows what was wished for: `starttls`, `forget`, `quit`, and the content of a
//! message or chunk. Settings: `starttls`, `secured`, `offers=A,B`, `line=`, `commands=`, `errors=`, `recipients=`,
//! `messages=`, `size=`.
//!
//! `server_*.txt`: as for other protocols; `W:` shows `starttls`, `ready` with what is offered, and `seen`. Settings:
//! `starttls`, `announce`, `look`.

use std::sync::Arc;

use homing::model::{Secret, SessionId};
use homing::protocol::lmtp::{Backend, Content, Frontend, Limits, Reply, Wish};
use homing::protocol::{
    Announcement, Backend as _, BackendLogin, BackendWish, Bounds, Errand, FrontendSettings, Input, Machine, Output,
    Violation,
};

use crate::escape::unescaped;
use crate::files::play_all;

#[test]
fn every_lmtp_dialogue_goes_the_same_however_it_is_cut() {
    play_all("lmtp", first_fault);
}

fn first_fault(dialogue: &str) -> Option<String> {
    let mut lines = dialogue.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    let (name, header) = (lines.next().unwrap(), lines.next().unwrap());
    let steps: Vec<&str> = lines.collect();
    let total: usize = steps.iter().map(|step| from_peer(header, step).map_or(0, |bytes| bytes.len())).sum();
    let whole = header.split(' ').any(|word| word == "whole");
    let cuts = [usize::MAX].into_iter().chain((0..total).filter(|_| !whole));
    cuts.into_iter().find_map(|cut| play(header, &steps, cut).err().map(|fault| format!("{name}, cut {cut}\n{fault}")))
}

/// What the peer says in this line.
fn from_peer(header: &str, step: &str) -> Option<Vec<u8>> {
    let (mark, text) = step.split_at(2);
    let text = unescaped(text.strip_prefix(' ').unwrap_or(text));
    let ours = if header.starts_with("frontend:") { 'S' } else { 'C' };
    match (mark.starts_with(ours), mark) {
        (false, "C:" | "S:") => Some([text, b"\r\n".to_vec()].concat()),
        (false, "C|" | "S|") => Some(text),
        _ => None,
    }
}

/// Plays it with the peer's bytes cut behind the first `cut` (everywhere if 0). What is expected so far must have been seen
/// before the peer says more.
fn play(header: &str, steps: &[&str], cut: usize) -> Result<(), String> {
    let mut side = Side::new(header);
    let mut seen = String::new();
    let mut expected = String::new();
    let (mut waiting, mut fed) = (Vec::new(), 0);
    for step in steps {
        match from_peer(header, step) {
            Some(bytes) => waiting.extend(bytes),
            None => {
                side.feed(&std::mem::take(&mut waiting), cut, &mut fed, &mut seen);
                let (mark, text) = step.split_at(2);
                let text = text.strip_prefix(' ').unwrap_or(text);
                let mark = if matches!(mark, "S:" | "C:") { "" } else { mark };
                expected.push_str(&format!("{mark}{}\n", unescaped(text).escape_ascii()));
                if !seen.starts_with(&expected) {
                    return Err(format!("expected:\n{expected}\nseen:\n{seen}"));
                }
            }
        }
    }
    side.feed(&waiting, cut, &mut fed, &mut seen);
    if seen == expected { Ok(()) } else { Err(format!("expected:\n{expected}\nseen:\n{seen}")) }
}

enum Machinery {
    Front(Box<Frontend>, Vec<u8>),
    Back(Box<Backend>),
}

struct Side {
    machine: Machinery,
    input: Input,
    out: Output,
    down: bool,
    over: bool,
}

impl Side {
    fn new(header: &str) -> Self {
        let has = |word: &str| header.split(' ').any(|found| found == word);
        let value = |name: &str| header.split(' ').find_map(|word| word.strip_prefix(name)?.strip_prefix('='));
        let number = |name: &str, default: usize| value(name).map_or(default, |text| text.parse().unwrap());
        let mut out = Output::new();
        let machine = if header.starts_with("frontend:") {
            let offers: Vec<String> =
                value("offers").into_iter().flat_map(|list| list.split(',')).map(str::to_owned).collect();
            let small = |name, default| u32::try_from(number(name, default)).unwrap();
            let bounds = Bounds {
                line: number("line", 512),
                literal: 0,
                commands: small("commands", 50),
                errors: small("errors", 10),
                failures: 3,
            };
            let settings = FrontendSettings {
                secured: has("secured"),
                starttls: has("starttls"),
                plaintext_login: false,
                banner: String::new(),
                host: "proxy.example".to_owned(),
                offers: Arc::from(offers),
                sasl: std::sync::Arc::default(),
                bounds,
            };
            let limits = Limits {
                recipients: number("recipients", 100),
                messages: small("messages", 0),
                size: number("size", 0) as u64,
            };
            let mut frontend = Frontend::new(settings, limits);
            frontend.greet(&mut out);
            Machinery::Front(Box::new(frontend), Vec::new())
        } else {
            let errand = if has("look") { Errand::Look } else { Errand::Session };
            let login = BackendLogin {
                user: String::new(),
                master: None,
                password: Secret::default(),
                announce: has("announce").then(announcement),
                starttls: has("starttls"),
                pipelining: true,
                ..BackendLogin::default()
            };
            Machinery::Back(Box::new(Backend::on(errand, login)))
        };
        Self { machine, input: Input::with_capacity(512), out, down: has("down"), over: false }
    }

    /// Feeds bytes, as many at once as the cut allows, and notes what comes of it, a line each.
    fn feed(&mut self, mut bytes: &[u8], cut: usize, fed: &mut usize, seen: &mut String) {
        loop {
            self.pump(seen);
            if bytes.is_empty() || self.over {
                return;
            }
            let room = if cut == 0 {
                1
            } else if *fed < cut {
                cut - *fed
            } else {
                usize::MAX
            };
            let taken = self.input.push(&bytes[..room.min(bytes.len())]);
            assert!(taken > 0, "the machine leaves a full input as it is");
            *fed += taken;
            bytes = &bytes[taken..];
        }
    }

    fn pump(&mut self, seen: &mut String) {
        while !self.over {
            let step = match &mut self.machine {
                Machinery::Front(machine, content) => {
                    front(machine, content, &mut self.input, &mut self.out, self.down)
                }
                Machinery::Back(machine) => back(machine, &mut self.input, &mut self.out),
            };
            let said = String::from_utf8(self.out.bytes().to_vec()).expect("text");
            for line in said.split_terminator("\r\n") {
                seen.push_str(&format!("{}\n", line.as_bytes().escape_ascii()));
            }
            self.out.clear();
            match step {
                Ok(Step::Wait) => return,
                Ok(Step::On) => {}
                Ok(Step::Wish(text)) => {
                    self.over = matches!(text.as_str(), "quit" | "seen") || text.starts_with("ready");
                    seen.push_str(&format!("W:{text}\n"));
                    if let (Machinery::Back(machine), "starttls") = (&mut self.machine, text.as_str()) {
                        machine.secured(&mut self.out);
                    }
                }
                Err(violation) => {
                    self.over = true;
                    seen.push_str(&format!("E:{violation}\n"));
                }
            }
        }
    }
}

enum Step {
    Wait,
    On,
    Wish(String),
}

fn back(machine: &mut Backend, input: &mut Input, out: &mut Output) -> Result<Step, Violation> {
    Ok(match machine.advance(input, out)? {
        None => Step::Wait,
        Some(BackendWish::StartTls) => Step::Wish("starttls".to_owned()),
        Some(BackendWish::Seen) => Step::Wish("seen".to_owned()),
        Some(_) => Step::Wish(format!("ready {}", machine.offers().join(", "))),
    })
}

/// The session's part: nobody else answers.
fn front(
    machine: &mut Frontend,
    content: &mut Vec<u8>,
    input: &mut Input,
    out: &mut Output,
    down: bool,
) -> Result<Step, Violation> {
    match machine.content(input, content, out) {
        Content::More => {}
        Content::ChunkTaken => return Ok(Step::Wish(format!("chunk {}", std::mem::take(content).escape_ascii()))),
        Content::End => {
            let count = machine.transaction().map_or(0, |transaction| transaction.accepted());
            let size = if machine.is_too_large() { " (too large)" } else { "" };
            for number in (0..count).rev() {
                machine.settle(
                    number,
                    Reply::new(250, ["2.0.0 first", "2.0.0 second", "2.0.0 another"][number.min(2)]),
                    out,
                );
            }
            return Ok(Step::Wish(format!("message {}{size}", std::mem::take(content).escape_ascii())));
        }
    }
    let Some(wish) = machine.advance(input, out)? else { return Ok(Step::Wait) };
    Ok(match wish {
        Wish::Recipients(list) => {
            let replies: Vec<_> = list.iter().map(|rcpt| answer(rcpt.mailbox.as_given())).collect();
            machine.answer(&replies, out);
            Step::On
        }
        Wish::Data if down => {
            machine.refuse(&Reply::new(451, "4.4.1 down"), out);
            Step::On
        }
        Wish::Data => {
            machine.go_on(out);
            Step::On
        }
        Wish::Chunk { .. } => Step::On,
        Wish::StartTls => {
            machine.secured();
            Step::Wish("starttls".to_owned())
        }
        Wish::Forget => Step::Wish("forget".to_owned()),
        Wish::Quit => Step::Wish("quit".to_owned()),
    })
}

fn answer(address: &str) -> Reply {
    match address.split(['@', '+']).next() {
        Some("nobody") => Reply::new(550, "5.1.1 nobody"),
        Some("later") => Reply::new(451, "4.4.1 later"),
        _ => Reply::new(250, "2.1.5 yes"),
    }
}

fn announcement() -> Announcement {
    Announcement {
        client: "[2001:db8::7]:4711".parse().unwrap(),
        local: "192.0.2.1:24".parse().unwrap(),
        session: SessionId::new("s1:P1"),
        ttl: 4,
        secured: false,
        server_name: None,
        helo: Some("mx.example".to_owned()),
        client_id: Vec::new(),
    }
}
