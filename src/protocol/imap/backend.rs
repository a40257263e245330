//! The side that faces the mail server: from its greeting until the user is logged in.
//!
//! ```text
//! greeting -> [S STARTTLS -> TLS -> C CAPABILITY] or [C CAPABILITY] -> [I ID] -> L AUTHENTICATE or LOGIN -> [C CAPABILITY]
//! ```
//!
//! A probe says `Q LOGOUT` where the login would be, or behind its OK.
//!
//! Tags are those of Dovecot's proxy, so that its people find their way in a trace. The login is always the last thing in
//! a write: some servers drop what comes behind it.

use std::collections::VecDeque;

use zeroize::Zeroizing;

use super::id;
use super::response::{self, Capabilities, Response, Status, Untagged};
use crate::model::Mechanism;
use crate::protocol::buffer::append;
use crate::protocol::line::without_end;
use crate::protocol::step::{self, Unsaid};
use crate::protocol::{
    BackendLogin, BackendRefusal, BackendWish, Errand, Handover, Input, Machine, Output, Stage, Violation, sasl,
};

/// Bytes that a server may say to the client between login and its OK.
const UNTAGGED: usize = 64 * 1024;

/// What a probe says where a login would be, or behind it.
const GOODBYE: &str = "Q LOGOUT\r\n";

/// A conversation with a mail server.
pub struct Backend {
    login: BackendLogin,
    errand: Errand,
    state: State,
    stage: Stage,
    /// What the server offers, as far as it has said.
    offers: Option<Capabilities>,
    /// TLS was not demanded, or is up.
    secured: bool,
}

/// What is awaited.
enum State {
    Greeting,
    /// The answer to CAPABILITY.
    Offers,
    /// The answer to STARTTLS.
    StartTls,
    /// That the session has done the TLS handshake.
    Tls,
    /// The answer to ID.
    Id,
    /// The answer to the login.
    Login(LoggingIn),
    /// The answer to CAPABILITY after login: the client is told what it will have.
    LastWord(Handover),
    Over,
}

/// A login under way.
#[derive(Default)]
struct LoggingIn {
    /// What goes out at each `+`.
    unsaid: Unsaid,
    /// What goes out when there is nothing more.
    last: &'static str,
    /// ID went out in the same write and has not been answered: what comes until then is not for the client.
    id_pending: bool,
    handover: Handover,
    /// An untagged CAPABILITY is among what came for the client.
    capabilities: bool,
}

type Step = step::Step<State>;
type Outcome = Result<Step, Violation>;

impl Backend {
    /// For a connection that is up, with TLS if the port has TLS from the start. The server has the first word.
    pub fn new(login: BackendLogin) -> Self {
        Self::on(Errand::Session, login)
    }

    /// The same for any errand. Who only looks needs neither user nor password.
    pub fn on(errand: Errand, login: BackendLogin) -> Self {
        let secured = !login.starttls;
        Self { login, errand, state: State::Greeting, stage: Stage::Greeting, offers: None, secured }
    }

    fn respond(&mut self, state: State, response: Response<'_>, line: &[u8], rest: bool, out: &mut Output) -> Outcome {
        match (state, response) {
            (State::Login(login), response) => self.during_login(login, response, line, out),
            (State::LastWord(handover), response) => last_word(handover, response, line),
            (State::Greeting, response) => self.greeting(response, out),
            (_, Response::Untagged(Untagged::Bye(_))) => Err(Violation::TurnedAway),
            (state, Response::Untagged(said)) => {
                self.note(said);
                Ok(Step::Next(state))
            }
            (State::Offers, Response::Tagged { tag: b"C", .. }) => {
                // A server without an answer offers nothing; `go_on` says what is missing.
                self.offers.get_or_insert_default();
                self.go_on(out)
            }
            (State::StartTls, Response::Tagged { tag: b"S", status, .. }) => start_tls(status, rest),
            (State::Id, Response::Tagged { tag: b"I", .. }) => self.log_in(false, out),
            _ => Err(Violation::Nonsense("an answer to nothing that was asked")),
        }
    }

    fn greeting(&mut self, response: Response<'_>, out: &mut Output) -> Outcome {
        match response {
            Response::Untagged(Untagged::Ok(text)) => {
                self.stage = Stage::Dialogue;
                self.offers = response::capability_code(text);
                self.go_on(out)
            }
            Response::Untagged(Untagged::Bye(_)) => Err(Violation::TurnedAway),
            // As whom? Whoever would be relayed to it would have somebody else's mailbox.
            Response::Untagged(Untagged::Preauth) => Err(Violation::Nonsense("PREAUTH")),
            _ => Err(Violation::Nonsense("no IMAP greeting")),
        }
    }

    /// Servers may say what they offer at any time.
    fn note(&mut self, said: Untagged<'_>) {
        match said {
            Untagged::Capability(list) => self.offers = Some(Capabilities::parse(list)),
            Untagged::Ok(text) => self.offers = response::capability_code(text).or(self.offers),
            _ => {}
        }
    }

    /// Asks what must be known, then TLS, then who the client is, then the login.
    fn go_on(&mut self, out: &mut Output) -> Outcome {
        let Some(offers) = self.offers else {
            out.put("C CAPABILITY\r\n");
            return Ok(Step::Next(State::Offers));
        };
        if !self.secured {
            if !offers.starttls {
                return Err(Violation::Missing("STARTTLS"));
            }
            out.put("S STARTTLS\r\n");
            return Ok(Step::Next(State::StartTls));
        }
        let Some(client) = self.login.announce.as_ref().filter(|_| offers.id) else {
            return self.log_in(false, out);
        };
        out.put(format!("I ID {}\r\n", id::list(client)));
        if self.login.pipelining && offers.sasl_ir {
            return self.log_in(true, out);
        }
        Ok(Step::Next(State::Id))
    }

    /// A master user needs an authzid, which LOGIN does not have. Asked at the last moment: what a server offers may have
    /// changed with its answer to ID, and a master's password must never go out in a LOGIN.
    fn possible(&self, offers: Capabilities) -> Result<Option<Mechanism>, Violation> {
        let mechanism = self.login.mechanism(offers.plain, offers.sasl)?;
        if mechanism.is_some() || (self.login.master.is_none() && !offers.login_disabled) {
            return Ok(mechanism);
        }
        Err(Violation::Missing("AUTH=PLAIN"))
    }

    fn log_in(&mut self, id_pending: bool, out: &mut Output) -> Outcome {
        let offers = self.offers.unwrap_or_default();
        let mechanism = self.possible(offers)?;
        if self.errand == Errand::Look {
            return Ok(Step::goodbye(State::Over, GOODBYE, out));
        }
        let pieces = match mechanism {
            Some(mechanism) => self.authenticate(mechanism, offers.sasl_ir),
            None => self.login_command(),
        };
        let Some(mut pieces) = pieces else {
            let text = b"[AUTHENTICATIONFAILED] This name or password cannot be passed on.".to_vec();
            let refusal = BackendRefusal { text, ..BackendRefusal::default() };
            return Ok(Step::Wish(State::Over, BackendWish::Refused(refusal)));
        };
        self.stage = Stage::Login;
        out.put(pieces.pop_front().unwrap_or_default().as_slice());
        let unsaid = Unsaid::pieces(pieces);
        let last = mechanism.map_or("*", |mechanism| self.login.nothing_more(mechanism));
        Ok(Step::Next(State::Login(LoggingIn { unsaid, last, id_pending, ..LoggingIn::default() })))
    }

    /// RFC 4959: with the response in the same line, if the server takes that.
    fn authenticate(&self, mechanism: Mechanism, initial_response: bool) -> Option<VecDeque<Zeroizing<Vec<u8>>>> {
        let response = sasl::encode(&self.login.message(mechanism)?);
        let command = format!("L AUTHENTICATE {}", mechanism.name());
        let command = command.as_bytes();
        Some(if initial_response {
            [joined(&[command, b" ", response.as_bytes(), b"\r\n"])].into()
        } else {
            [joined(&[command, b"\r\n"]), joined(&[response.as_bytes(), b"\r\n"])].into()
        })
    }

    fn login_command(&self) -> Option<VecDeque<Zeroizing<Vec<u8>>>> {
        let mut pieces = VecDeque::from([joined(&[b"L LOGIN"])]);
        for argument in [self.login.user.as_bytes(), self.login.password.expose()] {
            if argument.contains(&0) {
                return None;
            }
            put_argument(&mut pieces, argument);
        }
        append(pieces.back_mut()?, b"\r\n");
        Some(pieces)
    }

    fn during_login(&mut self, mut login: LoggingIn, response: Response<'_>, line: &[u8], out: &mut Output) -> Outcome {
        match response {
            Response::Untagged(Untagged::Bye(text)) => Ok(refused(unavailable(text), true)),
            Response::Untagged(said) => {
                if !login.id_pending {
                    login.capabilities |= matches!(said, Untagged::Capability(_));
                    collect(&mut login.handover, line)?;
                }
                Ok(Step::Next(State::Login(login)))
            }
            Response::Tagged { tag: b"I", .. } if login.id_pending => {
                login.id_pending = false;
                Ok(Step::Next(State::Login(login)))
            }
            Response::Tagged { tag: b"L", status: Status::Ok, .. }
                if self.errand == Errand::Try && !login.id_pending =>
            {
                Ok(Step::goodbye(State::Over, GOODBYE, out))
            }
            Response::Tagged { tag: b"L", status, text } if !login.id_pending => login.done(status, text, out),
            Response::Continue => {
                login.unsaid.go_on(&format!("{}\r\n", login.last), out)?;
                Ok(Step::Next(State::Login(login)))
            }
            Response::Tagged { .. } => Err(Violation::Nonsense("an answer to nothing that was asked")),
        }
    }
}

impl LoggingIn {
    fn done(mut self, status: Status, text: &[u8], out: &mut Output) -> Outcome {
        if status != Status::Ok {
            return Ok(refused(text.to_vec(), response::is_temporary(text)));
        }
        self.handover.text = text.to_vec();
        if self.capabilities || response::capability_code(text).is_some() {
            return Ok(Step::Wish(State::Over, BackendWish::LoggedIn(self.handover)));
        }
        // What we showed before login is not what the client has now, and nobody has told it yet.
        out.put("C CAPABILITY\r\n");
        Ok(Step::Next(State::LastWord(self.handover)))
    }
}

fn last_word(mut handover: Handover, response: Response<'_>, line: &[u8]) -> Outcome {
    match response {
        // No refusal: the login was taken, and the session at the backend must be seen to end.
        Response::Untagged(Untagged::Bye(_)) => Err(Violation::TurnedAway),
        Response::Untagged(_) => {
            collect(&mut handover, line)?;
            Ok(Step::Next(State::LastWord(handover)))
        }
        // Refused or not: the user is logged in.
        Response::Tagged { tag: b"C", .. } => Ok(Step::Wish(State::Over, BackendWish::LoggedIn(handover))),
        _ => Err(Violation::Nonsense("an answer to nothing that was asked")),
    }
}

fn start_tls(status: Status, rest: bool) -> Outcome {
    if status != Status::Ok {
        return Err(Violation::Missing("STARTTLS"));
    }
    Step::tls(State::Tls, rest)
}

fn refused(text: Vec<u8>, temporary: bool) -> Step {
    let referral = response::referral(&text);
    Step::Wish(State::Over, BackendWish::Refused(BackendRefusal { text, temporary, referral }))
}

/// The words of a BYE, with a code that tells clients not to ask for another password.
fn unavailable(text: &[u8]) -> Vec<u8> {
    if response::code(text).is_some() {
        return text.to_vec();
    }
    [b"[UNAVAILABLE] ", text].concat()
}

/// Keeps an untagged line for the client.
fn collect(handover: &mut Handover, line: &[u8]) -> Result<(), Violation> {
    let line = without_end(line);
    if handover.untagged.len() + line.len() + 2 > UNTAGGED {
        return Err(Violation::Nonsense("too much before login is complete"));
    }
    handover.untagged.extend_from_slice(line);
    handover.untagged.extend_from_slice(b"\r\n");
    Ok(())
}

/// Quoted, or as a literal if it is not 7-bit text (RFC 3501 section 4.3). Not every server that lacks AUTH=PLAIN takes
/// literals without asking, so each of these costs a round trip.
fn put_argument(pieces: &mut VecDeque<Zeroizing<Vec<u8>>>, argument: &[u8]) {
    let mut argument_text = Zeroizing::new(Vec::with_capacity(argument.len() * 2 + 3));
    let quotable = argument.iter().all(|byte| matches!(byte, b' '..=b'~'));
    if !quotable {
        if let Some(before) = pieces.back_mut() {
            append(before, format!(" {{{}}}\r\n", argument.len()).as_bytes());
        }
        pieces.push_back(joined(&[argument]));
        return;
    }
    argument_text.extend_from_slice(b" \"");
    for byte in argument {
        if matches!(byte, b'"' | b'\\') {
            argument_text.push(b'\\');
        }
        argument_text.push(*byte);
    }
    argument_text.push(b'"');
    if let Some(before) = pieces.back_mut() {
        append(before, &argument_text);
    }
}

/// In a buffer of its own, of the right size.
fn joined(parts: &[&[u8]]) -> Zeroizing<Vec<u8>> {
    Zeroizing::new(parts.concat())
}

impl Machine for Backend {
    type Wish = BackendWish;

    fn advance(&mut self, input: &mut Input, out: &mut Output) -> Result<Option<BackendWish>, Violation> {
        loop {
            if matches!(self.state, State::Tls | State::Over) {
                return Ok(None);
            }
            let Some(length) = input.line(usize::MAX)? else { return Ok(None) };
            let state = std::mem::replace(&mut self.state, State::Over);
            let (line, rest) = input.filled().split_at(length);
            let step = response::parse(line).and_then(|said| self.respond(state, said, line, !rest.is_empty(), out));
            input.consume(length);
            if let Some(wish) = step?.enter(&mut self.state) {
                return Ok(Some(wish));
            }
        }
    }
}

impl crate::protocol::Backend for Backend {
    fn stage(&self) -> Stage {
        self.stage
    }

    /// RFC 9051 6.2.1: what it offered before is worthless.
    fn secured(&mut self, out: &mut Output) {
        self.secured = true;
        self.offers = None;
        out.put("C CAPABILITY\r\n");
        self.state = State::Offers;
    }
}
