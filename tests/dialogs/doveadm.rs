//! The transcripts of doveadm. A file is written as `script.rs` has it, but that a line ends with LF, and played whole, cut
//! at each byte, and byte by byte.
//!
//! `frontend:` a client of the TCP protocol; the password is `pw`. `W:` shows `starttls`, `run` with flags, TTL, extra fields,
//! whom it is about and the command, and `refuse`. Settings: `starttls`, `line=`, `command=`.
//!
//! `backend:` the answer of a mail server over TCP, of this `minor=`. `W:` shows `output` and `log`, each whole up to the next,
//! and `end`.
//!
//! `client:` a body of the HTTP API, a line each. `W:` shows the kind of each command, whom it is about, and the body that a
//! mail server gets.
//!
//! `server:` the answer of a mail server over HTTP; `W:` shows `result` and, where the line `N:` says that it is over, `end`.
//!
//! `rows:` results that are joined, each for the user whom `U:` names before; `W:` shows `rows` when `N:` says it is over.

use std::fmt::Write as _;

use homing::protocol::doveadm::{
    Answer, ApiAnswer, Command, Demultiplexer, Event, Frontend, FrontendSettings, FrontendWish, Rows, kind,
    parse_calls, reply,
};
use homing::protocol::{Input, Machine, Output};

use crate::escape::unescaped;
use crate::files::play_all;

#[test]
fn every_doveadm_dialogue_goes_the_same_however_it_is_cut() {
    play_all("doveadm", first_fault);
}

fn first_fault(dialogue: &str) -> Option<String> {
    let mut lines = dialogue.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    let (name, header) = (lines.next().unwrap(), lines.next().unwrap());
    let steps: Vec<&str> = lines.collect();
    let total: usize = steps.iter().filter_map(|step| from_peer(header, step)).map(|bytes| bytes.len()).sum();
    let cuts = [usize::MAX].into_iter().chain(0..total);
    cuts.into_iter().find_map(|cut| play(header, &steps, cut).err().map(|fault| format!("{name}, cut {cut}\n{fault}")))
}

/// What the peer says in this line.
fn from_peer(header: &str, step: &str) -> Option<Vec<u8>> {
    let (mark, text) = step.split_at(2);
    let text = unescaped(text.strip_prefix(' ').unwrap_or(text));
    let theirs = if header.starts_with("frontend:") || header.starts_with("client:") { 'C' } else { 'S' };
    match mark.strip_prefix(theirs) {
        Some(":") => Some([text, b"\n".to_vec()].concat()),
        Some("|") => Some(text),
        _ => None,
    }
}

/// Plays it with the peer's bytes cut behind the first `cut` (everywhere if 0). What is expected so far must have been seen
/// before the peer says more.
fn play(header: &str, steps: &[&str], cut: usize) -> Result<(), String> {
    let mut side = Side::new(header);
    let (mut seen, mut expected) = (String::new(), String::new());
    let (mut waiting, mut fed) = (Vec::new(), 0);
    for step in steps {
        if let Some(bytes) = from_peer(header, step) {
            waiting.extend(bytes);
            continue;
        }
        side.feed(&std::mem::take(&mut waiting), cut, &mut fed, &mut seen);
        let (mark, text) = step.split_at(2);
        let text = text.strip_prefix(' ').unwrap_or(text);
        match mark {
            "N:" | "U:" => {
                side.next(text, &mut seen);
                continue;
            }
            "S:" => writeln!(expected, "{}", [&unescaped(text)[..], b"\n"].concat().escape_ascii()).unwrap(),
            "S|" => writeln!(expected, "{}", unescaped(text).escape_ascii()).unwrap(),
            mark => writeln!(expected, "{mark}{text}").unwrap(),
        }
        if !seen.starts_with(&expected) {
            return Err(format!("expected:\n{expected}\nseen:\n{seen}"));
        }
    }
    side.feed(&waiting, cut, &mut fed, &mut seen);
    if seen == expected { Ok(()) } else { Err(format!("expected:\n{expected}\nseen:\n{seen}")) }
}

enum Machinery {
    Front(Frontend),
    Back(Demultiplexer, Answer),
    Client,
    Server(Option<ApiAnswer>),
    Rows(Rows),
}

struct Side {
    machine: Machinery,
    input: Input,
    out: Output,
    /// What came of the last bytes and may go on: its name, and what it is.
    run: (&'static str, Vec<u8>),
    over: bool,
}

impl Side {
    fn new(header: &str) -> Self {
        let value = |name: &str| header.split(' ').find_map(|word| word.strip_prefix(name)?.strip_prefix('='));
        let number = |name: &str, default: usize| value(name).map_or(default, |text| text.parse().unwrap());
        let (line, command) = (number("line", 128), number("command", 256));
        let starttls = header.contains("starttls");
        let machine = match header.split(':').next().unwrap() {
            "frontend" => Machinery::Front(Frontend::new(FrontendSettings { starttls, line, command })),
            "backend" => {
                let minor = u32::try_from(number("minor", 3)).unwrap();
                Machinery::Back(Demultiplexer::new(minor), Answer::default())
            }
            "client" => Machinery::Client,
            "server" => Machinery::Server(Some(ApiAnswer::default())),
            "rows" => Machinery::Rows(Rows::default()),
            other => panic!("{other} is nobody"),
        };
        Self { machine, input: Input::with_capacity(1024), out: Output::new(), run: ("", Vec::new()), over: false }
    }

    /// Feeds bytes, as many at once as the cut allows, and notes what comes of it, a line each.
    fn feed(&mut self, mut bytes: &[u8], cut: usize, fed: &mut usize, seen: &mut String) {
        while !bytes.is_empty() && !self.over {
            let room = match *fed {
                _ if cut == 0 => 1,
                fed if fed < cut => cut - fed,
                _ => usize::MAX,
            };
            let taken = self.input.push(&bytes[..room.min(bytes.len())]);
            assert!(taken > 0, "the machine leaves a full input as it is");
            *fed += taken;
            bytes = &bytes[taken..];
            self.pump(seen);
        }
        self.flush(seen);
    }

    fn pump(&mut self, seen: &mut String) {
        let outcome = match &mut self.machine {
            Machinery::Front(_) => return self.front(seen),
            Machinery::Client => return self.calls(seen),
            Machinery::Back(..) => self.answer(seen),
            Machinery::Server(_) => self.result(),
            Machinery::Rows(rows) => {
                rows.put(self.input.filled(), &mut self.run.1);
                self.run.0 = "rows";
                self.input.consume(usize::MAX);
                Ok(())
            }
        };
        if let Err(fault) = outcome {
            self.flush(seen);
            self.over = true;
            writeln!(seen, "E:{fault}").unwrap();
        }
    }

    /// More of what may go on.
    fn go_on(&mut self, name: &'static str, bytes: &[u8], seen: &mut String) {
        if self.run.0 != name {
            self.flush(seen);
        }
        self.run.0 = name;
        self.run.1.extend(bytes);
    }

    fn flush(&mut self, seen: &mut String) {
        let (name, bytes) = std::mem::take(&mut self.run);
        if !bytes.is_empty() {
            writeln!(seen, "W:{name} {}", shown(&bytes)).unwrap();
        }
    }

    fn answer(&mut self, seen: &mut String) -> Result<(), String> {
        while !self.input.is_empty() && !self.over {
            let bytes = self.input.filled().to_vec();
            let Machinery::Back(frames, answer) = &mut self.machine else { return Ok(()) };
            let (channel, content, mut done) = frames.next(&bytes);
            match channel {
                _ if content.is_empty() => {}
                reply::ANSWER => {
                    let (event, read) = answer.next(content).map_err(|violation| violation.to_string())?;
                    let rest = content.len() - read;
                    frames.put_back(rest);
                    done -= rest;
                    match event {
                        Some(Event::Output(bytes)) => self.go_on("output", bytes, seen),
                        Some(Event::End(verdict)) => {
                            self.flush(seen);
                            self.over = true;
                            writeln!(seen, "W:end {verdict:?}").unwrap();
                        }
                        None => {}
                    }
                }
                reply::LOG => self.go_on("log", content, seen),
                _ => {}
            }
            self.input.consume(done);
        }
        Ok(())
    }

    fn result(&mut self) -> Result<(), String> {
        while !self.input.is_empty() {
            let Machinery::Server(Some(answer)) = &mut self.machine else { return Ok(()) };
            let (result, done) = answer.next(self.input.filled()).map_err(|fault| fault.to_string())?;
            self.run.0 = "result";
            self.run.1.extend(result);
            self.input.consume(done);
        }
        Ok(())
    }

    /// The next user's result, or the end of the answer.
    fn next(&mut self, user: &str, seen: &mut String) {
        match &mut self.machine {
            Machinery::Rows(rows) => {
                rows.end(&mut self.run.1);
                self.run.0 = "rows";
                rows.begin((user != "nobody").then_some(user));
            }
            Machinery::Server(answer) if !self.over => {
                let end = answer.take().unwrap().end();
                writeln!(seen, "W:end {end:?}").unwrap();
            }
            _ => {}
        }
        self.flush(seen);
    }

    /// A body that has come whole.
    fn calls(&mut self, seen: &mut String) {
        let Some(body) = self.input.filled().strip_suffix(b"\n") else { return };
        match parse_calls(body) {
            Err(fault) => writeln!(seen, "E:{fault}").unwrap(),
            Ok(calls) => {
                for call in calls {
                    let (kind, tag) = (kind(&call.known_name()), call.tag.clone());
                    match call.aim(Some('%')) {
                        Err(fault) => writeln!(seen, "W:{tag} {fault}").unwrap(),
                        Ok((aim, call)) => {
                            let body = String::from_utf8(call.body(Some("home"))).unwrap();
                            writeln!(seen, "W:{tag} {kind:?} {aim:?} {body}").unwrap();
                        }
                    }
                }
            }
        }
        self.input.consume(usize::MAX);
    }

    fn front(&mut self, seen: &mut String) {
        loop {
            let Machinery::Front(machine) = &mut self.machine else { return };
            let mut step = machine.advance(&mut self.input, &mut self.out);
            let mut wish = None;
            match step {
                Ok(Some(FrontendWish::Check(password))) if password.expose() == b"pw" => {
                    machine.welcome(&mut self.out);
                    step = Ok(None);
                    wish = Some("in".to_owned());
                }
                Ok(Some(FrontendWish::Check(_))) => step = Err(machine.refuse(&mut self.out)),
                Ok(Some(FrontendWish::StartTls)) => {
                    machine.secured();
                    wish = Some("starttls".to_owned());
                }
                Ok(Some(FrontendWish::Run(ref command))) => wish = Some(told(machine, command)),
                Ok(Some(FrontendWish::Refuse(fault))) => wish = Some(format!("refuse {fault}")),
                _ => {}
            }
            let said = self.out.bytes().to_vec();
            for line in said.split_inclusive(|byte| *byte == b'\n') {
                writeln!(seen, "{}", line.escape_ascii()).unwrap();
            }
            self.out.clear();
            if let Some(wish) = &wish {
                writeln!(seen, "W:{wish}").unwrap();
            }
            if let Err(violation) = &step {
                writeln!(seen, "E:{violation}").unwrap();
                self.over = true;
            }
            if self.over || wish.is_none() && matches!(step, Ok(None)) {
                return;
            }
        }
    }
}

fn told(machine: &Frontend, command: &Command) -> String {
    let log = if machine.takes_log() { "log" } else { "quiet" };
    let line = command.line(3, command.ttl.unwrap_or(9)).escape_ascii().to_string();
    match command.clone().aim(Some('%')) {
        Ok((aim, command)) => {
            let arguments: Vec<_> =
                command.arguments.iter().map(|argument| argument.escape_ascii().to_string()).collect();
            format!("run {log} {aim:?} {} {arguments:?} {line}", command.known_name())
        }
        Err(fault) => format!("run {log} {fault}"),
    }
}

/// Quotes and backslashes are left as they are: JSON has many of its own.
fn shown(bytes: &[u8]) -> String {
    let show = |byte: &u8| match byte {
        b' '..=b'~' => char::from(*byte).to_string(),
        byte => byte.escape_ascii().to_string(),
    };
    bytes.iter().map(show).collect()
}
