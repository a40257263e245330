//! The side that faces the mail server, until it takes envelopes.
//!
//! ```text
//! greeting -> LHLO -> [STARTTLS -> TLS -> LHLO] -> [XCLIENT, perhaps several -> LHLO]
//! ```
//!
//! A probe says QUIT there. What follows (envelopes, messages) is for whoever brings mail, by [`Replies`].

use std::time::Duration;

use super::reply::Reply;
use super::response::Replies;
use super::xclient;
use crate::protocol::{BackendLogin, BackendWish, Errand, Handover, Input, Machine, Output, Stage, Violation};

/// A conversation with a mail server.
pub struct Backend {
    login: BackendLogin,
    errand: Errand,
    /// The name that we give ourselves.
    host: String,
    /// How long we wait for the server, which it is told if it wants to know.
    timeout: Option<Duration>,
    state: State,
    stage: Stage,
    replies: Replies,
    offers: Vec<String>,
    secured: bool,
    announced: bool,
}

/// What is awaited.
#[derive(Clone, Copy)]
enum State {
    Greeting,
    Hello,
    StartTls,
    /// That the TLS handshake was done.
    Tls,
    /// The answers to so many XCLIENT commands.
    Xclient(usize),
    Over,
}

impl Backend {
    /// For a connection that is up, with TLS if the port has TLS from the start. `host` is the name that we give ourselves;
    /// `timeout` is how long a server may be silent.
    pub fn new(login: BackendLogin, host: &str, timeout: Duration) -> Self {
        Self { timeout: Some(timeout), ..Self::on(Errand::Session, BackendLogin { host: host.to_owned(), ..login }) }
    }

    /// The same for any errand. Nobody logs in, so a probe can but look.
    pub fn on(errand: Errand, login: BackendLogin) -> Self {
        Self {
            secured: !login.starttls,
            host: if login.host.is_empty() { "homing".to_owned() } else { login.host.clone() },
            login,
            errand,
            timeout: None,
            state: State::Greeting,
            stage: Stage::Greeting,
            replies: Replies::default(),
            offers: Vec::new(),
            announced: false,
        }
    }

    fn respond(&mut self, reply: &Reply, rest: bool, out: &mut Output) -> Result<Option<BackendWish>, Violation> {
        match (self.state, reply.code()) {
            (_, 421) => return Err(Violation::TurnedAway),
            (State::Greeting, 220) => {
                self.stage = Stage::Dialogue;
                self.hello(out);
            }
            (State::Greeting, 400..=599) => return Err(Violation::TurnedAway),
            (State::Greeting, _) => return Err(Violation::Nonsense("no LMTP greeting")),
            (State::Hello, 250) => {
                self.offers = reply.lines().skip(1).map(|line| line.trim().to_owned()).collect();
                return self.go_on(out);
            }
            (State::Hello, _) => return Err(Violation::Nonsense("LHLO is refused")),
            (State::StartTls, 220) if rest => return Err(Violation::InjectionBehindStartTls),
            (State::StartTls, 220) => {
                self.state = State::Tls;
                return Ok(Some(BackendWish::StartTls));
            }
            (State::StartTls, _) => return Err(Violation::Missing("STARTTLS")),
            // Refused or not: without it the server knows our address for the client's, and mail still comes in.
            (State::Xclient(1), _) => self.hello(out),
            (State::Xclient(left), _) => self.state = State::Xclient(left - 1),
            (State::Tls | State::Over, _) => return Err(Violation::Nonsense("an answer to nothing that was asked")),
        }
        Ok(None)
    }

    fn hello(&mut self, out: &mut Output) {
        out.put(format!("LHLO {}\r\n", self.host));
        self.state = State::Hello;
    }

    /// TLS, then who the client is, then all is ready.
    fn go_on(&mut self, out: &mut Output) -> Result<Option<BackendWish>, Violation> {
        if !self.secured {
            if !self.offered("STARTTLS").is_some_and(str::is_empty) {
                return Err(Violation::Missing("STARTTLS"));
            }
            out.put("STARTTLS\r\n");
            self.state = State::StartTls;
            return Ok(None);
        }
        if self.errand != Errand::Session {
            out.put("QUIT\r\n");
            self.state = State::Over;
            return Ok(Some(BackendWish::Seen));
        }
        let commands = match (&self.login.announce, self.offered("XCLIENT")) {
            (Some(client), Some(listed)) if !self.announced => xclient::commands(listed, client, self.timeout),
            _ => Vec::new(),
        };
        self.announced = true;
        if commands.is_empty() {
            self.state = State::Over;
            return Ok(Some(BackendWish::LoggedIn(Handover::default())));
        }
        self.state = State::Xclient(commands.len());
        commands.iter().for_each(|command| out.put(command));
        Ok(None)
    }

    /// What the server says behind a keyword.
    fn offered(&self, keyword: &str) -> Option<&str> {
        offered(&self.offers, keyword)
    }
}

/// What stands behind a keyword in what a server offers; `None` if it does not offer that.
pub fn offered<'a>(offers: &'a [String], keyword: &str) -> Option<&'a str> {
    offers.iter().find_map(|line| {
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        word.eq_ignore_ascii_case(keyword).then_some(rest)
    })
}

impl Machine for Backend {
    type Wish = BackendWish;

    fn advance(&mut self, input: &mut Input, out: &mut Output) -> Result<Option<BackendWish>, Violation> {
        loop {
            if matches!(self.state, State::Tls | State::Over) {
                return Ok(None);
            }
            let Some(reply) = self.replies.next(input)? else { return Ok(None) };
            let wish = self.respond(&reply, !input.is_empty(), out)?;
            if wish.is_some() {
                return Ok(wish);
            }
        }
    }
}

impl crate::protocol::Backend for Backend {
    fn stage(&self) -> Stage {
        self.stage
    }

    fn secured(&mut self, out: &mut Output) {
        self.secured = true;
        self.offers.clear();
        self.hello(out);
    }

    fn offers(&self) -> &[String] {
        &self.offers
    }
}
