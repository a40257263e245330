//! What conversations with mail clients have in common, whatever their words: TLS, the exchange of a login and the verdict
//! on it, patience. Each protocol's `frontend.rs` is a [`Dialect`]; its `reply.rs` has the [`Words`].

use std::net::IpAddr;
use std::sync::Arc;

use super::fault::Fault;
use super::line::without_end;
use super::sasl::{self, Exchange, Message, ScramGift, Terms, bearer, scram};
use super::tally::Tally;
use super::{
    BackendRefusal, Bounds, ClientWish, Farewell, Frontend, FrontendSettings, Handover, Input, Machine, Output,
    Violation,
};
use crate::model::{Credentials, Mechanism, Refusal};

/// Every word that a protocol says to clients before login, as far as all protocols have such a word.
pub(super) trait Words {
    /// What an answer repeats of the command that it answers.
    type Tag: Send;
    /// What only this protocol's commands may have wrong with them.
    type Own;

    /// Our first words.
    fn greeting(settings: &FrontendSettings, out: &mut Output);
    /// TLS follows.
    fn begin_tls(tag: &Self::Tag, out: &mut Output);
    /// A step of an exchange: the client must answer.
    fn challenge(text: &[u8], out: &mut Output);
    /// A command came to nothing. Without a tag, if none could be read.
    fn fault(tag: Option<&Self::Tag>, fault: Fault<Self::Own>, out: &mut Output);
    /// A login is refused by us.
    fn refusal(tag: &Self::Tag, why: Refusal, out: &mut Output);
    /// A login is refused by the backend, in its own words.
    fn relayed_refusal(tag: &Self::Tag, words: &BackendRefusal, out: &mut Output);
    /// The same for a client that must be shown something of its mechanism. False if the protocol has no room for that in
    /// an answer: then it was one more challenge.
    fn confirm(_shown: &[u8], _out: &mut Output) -> bool {
        false
    }
    /// A mechanism may show something together with a success.
    const CONFIRMS: bool = false;
    /// The backend took the login.
    fn welcome(tag: &Self::Tag, handover: &Handover, out: &mut Output);
    /// We close. `awaited`: the client waits for an answer.
    fn farewell(why: Farewell, awaited: bool, out: &mut Output);
    /// The client went too far. Where that was answered already, nothing is said twice.
    fn violation(what: Violation, bounds: &Bounds, out: &mut Output);
}

/// What a frontend has besides what is its protocol's own.
pub(super) struct Talk<P, T> {
    pub(super) settings: FrontendSettings,
    pub(super) tally: Tally,
    pub(super) told: Told,
    state: State<P, T>,
}

/// What a client has said about itself, and TLS makes worthless.
#[derive(Default)]
pub(super) struct Told {
    /// In its ID.
    pub(super) client_id: Vec<(String, Option<String>)>,
    /// How many more proxies may follow.
    pub(super) ttl: Option<u32>,
    /// Whom it speaks for.
    pub(super) origin: Option<IpAddr>,
    /// In EHLO or HELO.
    pub(super) helo: Option<String>,
    /// That it wants UTF-8.
    pub(super) utf8: bool,
}

/// What comes next.
pub(super) enum State<P, T> {
    /// A command, or more of it.
    Command(P),
    /// An answer to a challenge.
    Response(T, Exchange),
    /// Nothing, until the session has looked up the user's keys.
    Keys(T, scram::Waiting),
    /// Nothing, until the session says what became of the login.
    Verdict(T, Afterwards),
    /// An answer to what its mechanism showed of the refusal; whatever it is, the refusal itself follows.
    Refused(T, Why),
    /// Nothing, until TLS is up.
    Tls,
    /// Nothing at all.
    Over,
}

/// What a mechanism shows once there is a verdict.
#[derive(Default)]
pub(super) struct Afterwards {
    /// If the client is let in.
    success: Option<Vec<u8>>,
    /// By which it came: some show something of a refusal, too.
    mechanism: Option<Mechanism>,
}

/// Why a login was refused.
pub(super) enum Why {
    Ours(Refusal),
    Backends(BackendRefusal),
}

impl Why {
    /// It is about who the client is, not about what we lack.
    fn is_about_the_proof(&self) -> bool {
        match self {
            Self::Ours(why) => matches!(why, Refusal::BadCredentials | Refusal::Forbidden),
            Self::Backends(words) => !words.temporary,
        }
    }
}

/// What an event led to.
pub(super) enum Step<P, T> {
    /// There may be more to do with what is in the input.
    Next(State<P, T>),
    /// What is awaited is not complete.
    Incomplete(State<P, T>),
    Wish(State<P, T>, ClientWish),
}

pub(super) type Outcome<D> = Result<Step<<D as Dialect>::Place, <D as Words>::Tag>, Violation>;

impl<P: Default, T> Talk<P, T> {
    pub(super) fn new(settings: FrontendSettings) -> Self {
        let state = State::Command(P::default());
        Self { settings, tally: Tally::default(), told: Told::default(), state }
    }

    pub(super) fn bounds(&self) -> &Bounds {
        &self.settings.bounds
    }

    /// The tag of the login that the session has a verdict on: the next command may come. `None`, and nothing changes, if
    /// there was no login.
    fn judged(&mut self) -> Option<(T, Afterwards)> {
        match std::mem::replace(&mut self.state, State::Command(P::default())) {
            State::Verdict(tag, afterwards) => Some((tag, afterwards)),
            State::Keys(tag, _) => Some((tag, Afterwards::default())),
            other => {
                self.state = other;
                None
            }
        }
    }
}

impl<P: Default, T> Step<P, T> {
    /// On to the next command.
    pub(super) fn next() -> Self {
        Self::Next(State::Command(P::default()))
    }

    /// The rest of this one must come first.
    pub(super) fn more(place: P) -> Self {
        Self::Incomplete(State::Command(place))
    }

    /// The client has gone.
    pub(super) fn logout() -> Self {
        Self::Wish(State::Over, ClientWish::Logout)
    }

    /// The session must judge.
    pub(super) fn ask(tag: T, given: Credentials) -> Self {
        Self::asked(tag, given, None)
    }

    /// The same; `success` is what the mechanism shows of one.
    fn asked(tag: T, given: Credentials, success: Option<Vec<u8>>) -> Self {
        let afterwards = Afterwards { success, mechanism: Some(given.mechanism) };
        Self::Wish(State::Verdict(tag, afterwards), ClientWish::Authenticate(given))
    }
}

/// What a client answers to a challenge, out of its frame.
pub(super) type Answer<D> = Result<Message, Fault<<D as Words>::Own>>;

/// How a protocol's clients are understood.
pub(super) trait Dialect: Words + Send + Sized {
    /// How much of a command has come.
    type Place: Default + Send;

    fn talk(&mut self) -> &mut Talk<Self::Place, Self::Tag>;

    fn told(&self) -> &Told;

    /// Takes what has come of a command, and carries it out when it is complete.
    fn command(&mut self, place: Self::Place, input: &mut Input, out: &mut Output) -> Outcome<Self>;

    /// The answer to a challenge, once it has come.
    fn response(&mut self, input: &mut Input) -> Result<Option<Answer<Self>>, Violation> {
        let Some(length) = input.line(self.talk().bounds().line)? else { return Ok(None) };
        let message = sasl::response(without_end(&input.filled()[..length]));
        input.consume(length);
        Ok(Some(message.map_err(Fault::from)))
    }

    /// TLS is up: what of its own it knows of the client is worthless, too.
    fn forget(&mut self) {}

    /// Starts the mechanism that the client has chosen.
    fn begin(&mut self, tag: Self::Tag, opening: sasl::Opening, out: &mut Output) -> Outcome<Self> {
        let step = opening.begin(&self.talk().settings.sasl);
        self.exchange(tag, step, out)
    }

    /// Goes on with a login as its mechanism wants.
    fn exchange(&mut self, tag: Self::Tag, step: Result<sasl::Step, sasl::Fault>, out: &mut Output) -> Outcome<Self> {
        let step = if Self::CONFIRMS { step } else { step.map(sasl::Step::in_rounds) };
        match step {
            Ok(sasl::Step::Challenge(text, exchange)) => {
                Self::challenge(&text, out);
                Ok(Step::Next(State::Response(tag, exchange)))
            }
            Ok(sasl::Step::Keys(wanted, waiting)) => {
                Ok(Step::Wish(State::Keys(tag, waiting), ClientWish::Keys(wanted)))
            }
            Ok(sasl::Step::Ask(given)) => Ok(Step::ask(tag, given)),
            Ok(sasl::Step::Shown(text, given)) => Ok(Step::asked(tag, given, Some(text))),
            Err(fault) => self.wrong(Some(&tag), fault.into(), out),
        }
    }

    fn start_tls(&mut self, tag: &Self::Tag, input: &Input, out: &mut Output) -> Outcome<Self> {
        if self.talk().settings.secured {
            return self.wrong(Some(tag), Fault::TlsIsOn, out);
        }
        if !self.talk().settings.starttls {
            return self.wrong(Some(tag), Fault::NoTls, out);
        }
        if !input.is_empty() {
            // Somebody on the way put these in front of what the client will say under TLS (CVE-2011-0411).
            return Err(Violation::InjectionBehindStartTls);
        }
        Self::begin_tls(tag, out);
        Ok(Step::Wish(State::Tls, ClientWish::StartTls))
    }

    /// Answers a faulty command and goes on, unless it was one too many.
    fn wrong(&mut self, tag: Option<&Self::Tag>, fault: Fault<Self::Own>, out: &mut Output) -> Outcome<Self> {
        Self::fault(tag, fault, out);
        let Talk { tally, settings, .. } = self.talk();
        tally.error(&settings.bounds)?;
        Ok(Step::next())
    }
}

/// Goes on with a login when the client's answer has come.
fn respond<D: Dialect>(
    dialect: &mut D,
    tag: D::Tag,
    exchange: Exchange,
    input: &mut Input,
    out: &mut Output,
) -> Outcome<D> {
    match dialect.response(input)? {
        None => Ok(Step::Incomplete(State::Response(tag, exchange))),
        Some(Ok(message)) => dialect.exchange(tag, exchange.answer(&message), out),
        Some(Err(fault)) => dialect.wrong(Some(&tag), fault, out),
    }
}

/// Says the refusal once the client has answered what its mechanism showed of it.
fn refuse_at_last<D: Dialect>(
    dialect: &mut D,
    tag: D::Tag,
    why: Why,
    input: &mut Input,
    out: &mut Output,
) -> Outcome<D> {
    if dialect.response(input)?.is_none() {
        return Ok(Step::Incomplete(State::Refused(tag, why)));
    }
    say_refusal::<D>(&tag, &why, out);
    let Talk { tally, settings, .. } = dialect.talk();
    tally.failure(&settings.bounds)?;
    Ok(Step::next())
}

fn say_refusal<D: Dialect>(tag: &D::Tag, why: &Why, out: &mut Output) {
    match why {
        Why::Ours(why) => D::refusal(tag, *why, out),
        Why::Backends(words) => D::relayed_refusal(tag, words, out),
    }
}

/// Refuses the login, now or after one more round.
fn refused<D: Dialect>(dialect: &mut D, why: Why, out: &mut Output) -> Result<(), Violation> {
    let Some((tag, afterwards)) = dialect.talk().judged() else { return Ok(()) };
    let shown = afterwards.mechanism.filter(|_| why.is_about_the_proof());
    if let Some(text) = shown.and_then(|mechanism| bearer::refusal(mechanism, &dialect.talk().settings.sasl)) {
        D::challenge(text.as_bytes(), out);
        dialect.talk().state = State::Refused(tag, why);
        return Ok(());
    }
    say_refusal::<D>(&tag, &why, out);
    failed(dialect, out)
}

/// Nothing more is taken from this client; tells it why.
fn violated<D: Dialect>(dialect: &mut D, what: Violation, out: &mut Output) -> Violation {
    let talk = dialect.talk();
    talk.state = State::Over;
    D::violation(what, talk.bounds(), out);
    what
}

/// The client was told that its login is refused.
fn failed<D: Dialect>(dialect: &mut D, out: &mut Output) -> Result<(), Violation> {
    let Talk { tally, settings, .. } = dialect.talk();
    tally.failure(&settings.bounds).map_err(|violation| violated(dialect, violation, out))
}

impl<D: Dialect> Machine for D {
    type Wish = ClientWish;

    fn advance(&mut self, input: &mut Input, out: &mut Output) -> Result<Option<ClientWish>, Violation> {
        loop {
            let step = match std::mem::replace(&mut self.talk().state, State::Over) {
                State::Command(place) => self.command(place, input, out),
                State::Response(tag, exchange) => respond(self, tag, exchange, input, out),
                State::Refused(tag, why) => refuse_at_last(self, tag, why, input, out),
                waits => Ok(Step::Incomplete(waits)),
            };
            let (state, outcome) = match step {
                Ok(Step::Next(state)) => (state, None),
                Ok(Step::Incomplete(state)) => (state, Some(None)),
                Ok(Step::Wish(state, wish)) => (state, Some(Some(wish))),
                Err(violation) => return Err(violated(self, violation, out)),
            };
            self.talk().state = state;
            if let Some(wish) = outcome {
                return Ok(wish);
            }
        }
    }
}

impl<D: Dialect> Frontend for D {
    fn greet(&mut self, out: &mut Output) {
        D::greeting(&self.talk().settings, out);
    }

    /// The counters stay; else STARTTLS would reset them.
    fn secured(&mut self) {
        let talk = self.talk();
        talk.settings.secured = true;
        talk.told = Told::default();
        talk.state = State::Command(D::Place::default());
        self.forget();
    }

    fn set_terms(&mut self, terms: Arc<Terms>) {
        self.talk().settings.sasl = terms;
    }

    fn give_keys(&mut self, gift: ScramGift, out: &mut Output) {
        match std::mem::replace(&mut self.talk().state, State::Over) {
            State::Keys(tag, waiting) => {
                let (text, exchange) = waiting.go_on(gift);
                D::challenge(&text, out);
                self.talk().state = State::Response(tag, exchange);
            }
            other => self.talk().state = other,
        }
    }

    fn refuse(&mut self, why: Refusal, out: &mut Output) -> Result<(), Violation> {
        refused(self, Why::Ours(why), out)
    }

    fn relay_refusal(&mut self, words: &BackendRefusal, out: &mut Output) -> Result<(), Violation> {
        refused(self, Why::Backends(words.clone()), out)
    }

    fn welcome(&mut self, handover: &Handover, out: &mut Output) {
        if let Some((tag, Afterwards { success, .. })) = self.talk().judged() {
            self.talk().state = State::Over;
            if !success.is_some_and(|shown| D::confirm(&shown, out)) {
                D::welcome(&tag, handover, out);
            }
        }
    }

    fn farewell(&mut self, why: Farewell, out: &mut Output) {
        let state = std::mem::replace(&mut self.talk().state, State::Over);
        let awaited = matches!(state, State::Response(..) | State::Keys(..) | State::Verdict(..) | State::Refused(..));
        D::farewell(why, awaited, out);
    }

    fn client_id(&self) -> &[(String, Option<String>)] {
        &self.told().client_id
    }

    fn proxy_ttl(&self) -> Option<u32> {
        self.told().ttl
    }

    fn origin(&self) -> Option<IpAddr> {
        self.told().origin
    }

    fn helo(&self) -> Option<&str> {
        self.told().helo.as_deref()
    }

    fn utf8(&self) -> bool {
        self.told().utf8
    }
}
