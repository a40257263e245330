//! The side that faces the mail server: from its greeting until the user is logged in.
//!
//! ```text
//! greeting -> [STLS -> TLS] -> CAPA -> [XCLIENT] -> [UTF8] -> AUTH PLAIN, or USER and PASS
//! ```
//!
//! A probe says QUIT where the login would be, or behind its OK.
//!
//! A server that offers XCLIENT is a Dovecot that trusts us: it gets CAPA, XCLIENT and AUTH in one write, and what it
//! says to CAPA is looked at all the same. The login is always the last thing in a write: some servers drop what comes
//! behind it.

use zeroize::Zeroizing;

use super::response::{self, Answer, Capabilities};
use crate::model::Mechanism;
use crate::protocol::buffer::find;
use crate::protocol::step;
use crate::protocol::{
    BackendLogin, BackendRefusal, BackendWish, Errand, Handover, Input, Machine, Means, Output, Stage, Violation, sasl,
    xclient,
};

/// Bytes of a list of capabilities; Dovecot's has about a hundred.
const CAPABILITIES: usize = 16 * 1024;
/// RFC 5034 section 4: bytes of an AUTH line; a response for which that is too few waits for the prompt.
const AUTH_LINE: usize = 255;

/// What a probe says where a login would be, or behind it.
const GOODBYE: &str = "QUIT\r\n";

/// A conversation with a mail server.
pub struct Backend {
    login: BackendLogin,
    errand: Errand,
    state: State,
    stage: Stage,
    /// The greeting offered XCLIENT.
    takes_xclient: bool,
    offers: Capabilities,
    /// What of it clients are shown, once all of it has come.
    shown: Vec<String>,
    /// XCLIENT, if it is said at all, and the login went out behind CAPA.
    ahead: Option<LoggingIn>,
}

/// What is awaited.
enum State {
    Greeting,
    /// The answer to STLS.
    StartTls,
    /// That the session has done the TLS handshake.
    Tls,
    /// The answer to CAPA.
    Offers,
    /// A line of it, when so many bytes of it have come.
    Offer(usize),
    /// The answer to XCLIENT.
    Announced,
    /// The answer to UTF8.
    Utf8,
    /// The answer to USER.
    Named,
    /// The answer to PASS or AUTH.
    Login(LoggingIn),
    Over,
}

/// A login under way.
#[derive(Default)]
struct LoggingIn {
    /// The response in base64 and its CRLF, which goes out at a `+` if it has not gone already.
    response: Option<Zeroizing<Vec<u8>>>,
    /// What answers a `+` that we have nothing for.
    last: &'static str,
    /// It was said.
    cancelled: bool,
}

type Step = step::Step<State>;
type Outcome = Result<Step, Violation>;

impl Backend {
    /// For a connection that is up, with TLS if the port has TLS from the start. The server has the first word. Who only
    /// looks needs neither user nor password.
    pub fn on(errand: Errand, login: BackendLogin) -> Self {
        let (state, stage) = (State::Greeting, Stage::Greeting);
        Self {
            login,
            errand,
            state,
            stage,
            takes_xclient: false,
            offers: Capabilities::default(),
            shown: Vec::new(),
            ahead: None,
        }
    }

    fn respond(&mut self, state: State, line: &[u8], rest: bool, out: &mut Output) -> Outcome {
        if let State::Offer(bytes) = state {
            return self.offer(bytes, line, out);
        }
        match (state, response::parse(line)?) {
            (State::Greeting, Answer::Ok(text)) => {
                self.stage = Stage::Dialogue;
                self.takes_xclient = response::takes_xclient(text);
                Ok(Step::Next(self.begin(out)))
            }
            (State::Greeting, Answer::Err(_)) => Err(Violation::TurnedAway),
            (State::StartTls, Answer::Ok(_)) => Step::tls(State::Tls, rest),
            (State::StartTls, Answer::Err(_)) => Err(Violation::Missing("STLS")),
            (State::Offers, Answer::Ok(_)) => Ok(Step::Next(State::Offer(0))),
            (State::Offers, Answer::Err(_)) => {
                self.offers = Capabilities::unknown();
                self.go_on(out)
            }
            // A server that does not take it back after all: it sees the wrong address, and its log says so.
            (State::Announced, Answer::Ok(_) | Answer::Err(_)) => match self.ahead.take() {
                Some(login) => Ok(Step::Next(State::Login(login))),
                None => self.prepare(out),
            },
            (State::Utf8, Answer::Ok(_)) => self.log_in(out),
            (State::Utf8, Answer::Err(_)) => {
                Ok(refused(b"[SYS/TEMP] Your mailbox cannot be shown in UTF-8 at the moment."))
            }
            (State::Named, Answer::Ok(_)) => Ok(self.pass(out)),
            (State::Named, Answer::Err(text)) => Ok(refused(text)),
            (State::Login(login), answer) => self.during_login(login, answer, out),
            _ => Err(Violation::Nonsense("an answer to nothing that was asked")),
        }
    }

    /// TLS is asked for without a look at what is offered: in plaintext that is worth nothing.
    fn begin(&mut self, out: &mut Output) -> State {
        if self.login.starttls {
            out.put("STLS\r\n");
            return State::StartTls;
        }
        self.ask(out)
    }

    /// Asks what must be known, and says the rest in the same write if it will be so.
    fn ask(&mut self, out: &mut Output) -> State {
        out.put("CAPA\r\n");
        let ahead = self.login.pipelining && self.takes_xclient && self.errand != Errand::Look && !self.login.utf8;
        if let Some(command) = self
            .authenticate(Mechanism::Plain)
            .filter(|command| ahead && self.login.means == Means::Password && command.len() <= AUTH_LINE)
        {
            self.announce(out);
            self.stage = Stage::Login;
            out.put(command.as_slice());
            self.ahead = Some(LoggingIn::default());
        }
        State::Offers
    }

    fn offer(&mut self, bytes: usize, line: &[u8], out: &mut Output) -> Outcome {
        if matches!(line, b".\r\n" | b".\n") {
            self.shown = std::mem::take(&mut self.offers.shown);
            return self.go_on(out);
        }
        let bytes = bytes + line.len();
        if bytes > CAPABILITIES {
            return Err(Violation::Nonsense("too many capabilities"));
        }
        self.offers.add(line);
        Ok(Step::Next(State::Offer(bytes)))
    }

    /// All is known that must be: says who the client is, then the login.
    fn go_on(&mut self, out: &mut Output) -> Outcome {
        self.possible()?;
        if self.ahead.is_some() && self.is_announced() {
            return Ok(Step::Next(State::Announced));
        }
        if let Some(login) = self.ahead.take() {
            return Ok(Step::Next(State::Login(login)));
        }
        if self.announce(out) {
            return Ok(Step::Next(State::Announced));
        }
        self.prepare(out)
    }

    /// RFC 6856 section 2.1: what the client wants must be said before the login.
    fn prepare(&mut self, out: &mut Output) -> Outcome {
        if !self.login.utf8 {
            return self.log_in(out);
        }
        out.put(format!("{}\r\n", response::UTF8));
        Ok(Step::Next(State::Utf8))
    }

    fn is_announced(&self) -> bool {
        self.takes_xclient && self.login.announce.is_some()
    }

    /// False if the server is not told.
    fn announce(&self, out: &mut Output) -> bool {
        let Some(client) = self.login.announce.as_ref().filter(|_| self.takes_xclient) else { return false };
        out.put(xclient::line(client));
        true
    }

    /// A master user needs an authzid, which USER does not have. What went out ahead was AUTH.
    fn possible(&self) -> Result<Option<Mechanism>, Violation> {
        let mechanism = self.login.mechanism(self.offers.plain, self.offers.sasl)?;
        let user = self.login.master.is_none() && self.ahead.is_none() && self.offers.user;
        if mechanism.is_some() || user { Ok(mechanism) } else { Err(Violation::Missing("SASL PLAIN")) }
    }

    fn log_in(&mut self, out: &mut Output) -> Outcome {
        if self.errand == Errand::Look {
            return Ok(Step::goodbye(State::Over, GOODBYE, out));
        }
        self.stage = Stage::Login;
        let Some(mechanism) = self.possible()? else { return Ok(self.user(out)) };
        let Some(command) = self.authenticate(mechanism) else { return Ok(unsayable()) };
        let begin = begin_of(mechanism);
        // The response alone, for a server that takes none in the line (RFC 1734), or for which the line is too long.
        let response = Zeroizing::new(command[begin.len() + 1..].to_vec());
        if command.len() <= AUTH_LINE {
            out.put(command.as_slice());
        } else {
            out.put(begin);
            out.put("\r\n");
        }
        let last = self.login.nothing_more(mechanism);
        Ok(Step::Next(State::Login(LoggingIn { response: Some(response), last, cancelled: false })))
    }

    /// The line that logs in; `None` if that cannot be said.
    fn authenticate(&self, mechanism: Mechanism) -> Option<Zeroizing<Vec<u8>>> {
        let response = sasl::encode(&self.login.message(mechanism)?);
        Some(Zeroizing::new([begin_of(mechanism).as_bytes(), b" ", response.as_bytes(), b"\r\n"].concat()))
    }

    fn user(&mut self, out: &mut Output) -> Step {
        let (user, password) = (self.login.user.as_bytes(), self.login.password.expose());
        let breaks = |text: &[u8]| text.is_empty() || [b'\r', b'\n', 0].iter().any(|end| find(*end, text).is_some());
        if breaks(user) || breaks(password) {
            return unsayable();
        }
        out.put("USER ");
        out.put(user);
        out.put("\r\n");
        Step::Next(State::Named)
    }

    fn pass(&mut self, out: &mut Output) -> Step {
        out.put("PASS ");
        out.put(self.login.password.expose());
        out.put("\r\n");
        Step::Next(State::Login(LoggingIn { cancelled: true, ..LoggingIn::default() }))
    }

    fn during_login(&self, login: LoggingIn, answer: Answer<'_>, out: &mut Output) -> Outcome {
        match answer {
            Answer::Ok(_) if self.errand == Errand::Try => Ok(Step::goodbye(State::Over, GOODBYE, out)),
            Answer::Ok(text) => {
                let handover = Handover { untagged: Vec::new(), text: text.to_vec() };
                Ok(Step::Wish(State::Over, BackendWish::LoggedIn(handover)))
            }
            Answer::Err(text) => Ok(refused(text)),
            Answer::Continue(text) => login.go_on(text, out),
        }
    }
}

/// How a login with SASL begins.
fn begin_of(mechanism: Mechanism) -> String {
    format!("AUTH {}", mechanism.name())
}

impl LoggingIn {
    /// An empty prompt asks for the response; any other wants more than the mechanism has. Then the exchange is ended,
    /// and its -ERR follows.
    fn go_on(mut self, prompt: &[u8], out: &mut Output) -> Outcome {
        match self.response.take().filter(|_| prompt.is_empty()) {
            Some(response) => out.put(response.as_slice()),
            None if !self.cancelled => {
                self.cancelled = true;
                out.put(self.last);
                out.put("\r\n");
            }
            None => return Err(Violation::Nonsense("it asks on after all was said")),
        }
        Ok(Step::Next(State::Login(self)))
    }
}

/// A refusal without a code gets the one that lets clients ask for another password: we have told them that a wrong one
/// is never refused without it (RFC 3206 section 6).
fn refused(text: &[u8]) -> Step {
    let coded = text.starts_with(b"[");
    let refusal = BackendRefusal {
        text: if coded { text.to_vec() } else { [b"[AUTH] ", text].concat() },
        temporary: response::is_temporary(text),
        referral: response::referral(text),
    };
    Step::Wish(State::Over, BackendWish::Refused(refusal))
}

fn unsayable() -> Step {
    refused(b"[AUTH] This name or password cannot be passed on.")
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
            let step = self.respond(state, line, !rest.is_empty(), out);
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

    fn secured(&mut self, out: &mut Output) {
        self.state = self.ask(out);
    }

    fn offers(&self) -> &[String] {
        &self.shown
    }
}
