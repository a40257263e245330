//! What one run is like: its rules, its people and its troubles, and what is wrong with it on purpose.

use std::time::Duration;

use homing::config::FleetConfig;
use homing::store::Rules;

use super::Dice;

/// A fault of the protocol, made on purpose: a simulation that does not find it proves nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mutation {
    /// None: this is the protocol.
    Sound,
    /// A session leaves the ledger before its backend has said that it is over.
    NoFinWait,
    /// The end of the lease frees the keys.
    OneStageReap,
    /// A store that lost its memory gives homes at once.
    NoWindow,
    /// The recovery window does not wait for those who have said hello and not told all yet.
    ImpatientWindow,
    /// Calls carry what has changed, not what there is.
    Increments,
    /// Nobody minds that calls are missing.
    GapsAccepted,
    /// A claim's answer is used however old it is.
    OldAnswers,
    /// A login joins where its key was last, though no session of it is there any more.
    JoinsTheDead,
    /// The store's clock is its server's.
    ServersClock,
}

impl Mutation {
    pub const ALL: [Self; 9] = [
        Self::NoFinWait,
        Self::OneStageReap,
        Self::NoWindow,
        Self::ImpatientWindow,
        Self::Increments,
        Self::GapsAccepted,
        Self::OldAnswers,
        Self::JoinsTheDead,
        Self::ServersClock,
    ];

    /// The trouble in which it shows.
    fn shows_in(self) -> Option<Trouble> {
        match self {
            Self::OldAnswers => Some(Trouble::Ambush),
            Self::ImpatientWindow => Some(Trouble::TellsLate),
            Self::OneStageReap => Some(Trouble::Cut),
            Self::GapsAccepted => Some(Trouble::GoesBack),
            Self::ServersClock => Some(Trouble::ClockSteps),
            _ => None,
        }
    }
}

/// A kind of trouble.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    Ambush,
    TellsLate,
    Cut,
    GoesBack,
    ClockSteps,
    Moves,
}

impl Trouble {
    const ALL: [Self; 6] = [Self::Ambush, Self::TellsLate, Self::Cut, Self::GoesBack, Self::ClockSteps, Self::Moves];
}

/// What a run is like.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Half of its troubles are of one kind: what seldom happens is found where it happens often.
    pub focus: Option<Trouble>,
    pub mutation: Mutation,
    /// As the proxies believe.
    pub rules: Rules,
    pub shards: u16,
    /// Operators give bulk work.
    pub jobs: bool,
    pub proxies: usize,
    pub backends: usize,
    pub keys: usize,
    pub clients: usize,
    /// How long there is trouble.
    pub storm: Duration,
    /// The longest pause between two troubles, in milliseconds.
    pub calm: u64,
    /// Homes change seldom: I2 can be seen.
    pub sticky: bool,
    /// Proxies know which of their runs are dead.
    pub state_files: bool,
    /// Data go back under a live server: E5.
    pub rollbacks: bool,
}

/// How long an answer of the store may take.
pub const PATIENCE: Duration = Duration::from_millis(300);
/// How long a login waits for its home.
pub const LOGIN_WAIT: Duration = Duration::from_secs(4);
/// How long the move of one of many users may take.
pub const MOVE: Duration = Duration::from_secs(3);
/// How long a backend may take to let somebody in.
pub const CONNECT: Duration = Duration::from_millis(400);
/// How long a backend may take to end a session.
pub const CLOSE: Duration = Duration::from_millis(500);

impl Plan {
    /// Of that seed.
    pub fn of(dice: &Dice, mutation: Mutation) -> Self {
        let any = dice.pick(&Trouble::ALL).copied().filter(|_| dice.percent(50));
        let focus = mutation.shows_in().or(any);
        let sticky = dice.percent(40) && mutation == Mutation::Sound;
        // The mutants know of one.
        let shards = if mutation == Mutation::Sound && dice.percent(12) { 2 } else { 1 };
        let rules = Rules {
            lease: 4_000,
            orphan_grace: 12_000, // a clock may step once between two heartbeats: 2 s of the 3 s that the deadline lies before it
            recovery: 2_500,
            recovery_max: 20_000,
            // Homes change as often as can be, or as seldom.
            user_expire: if sticky { 8_000 } else { 1 },
            remember: 60_000,
            balance_factor: if sticky { 1.25 } else { 0.0 },
            strict: dice.percent(50),
            kick_delay: 300,
            hook_lease: 2_000,
            ..Rules::default()
        };
        Self {
            focus,
            mutation,
            rules,
            sticky,
            state_files: dice.percent(15),
            shards,
            jobs: dice.percent(25),
            proxies: dice.between(3, 5) as usize,
            backends: dice.between(2, 4) as usize,
            keys: dice.between(2, 6) as usize,
            clients: dice.between(4, 12) as usize,
            storm: dice.span(6_000, if shards > 1 { 10_000 } else { 15_000 }), // each shard costs as much as a fleet
            calm: dice.between(200, 1400),
            rollbacks: mutation == Mutation::GapsAccepted || dice.percent(12),
        }
    }

    /// As the store goes by.
    pub fn store_rules(&self) -> Rules {
        match self.mutation {
            Mutation::OneStageReap => Rules { orphan_grace: 0, ..self.rules },
            Mutation::NoWindow => Rules { recovery: 0, recovery_max: 0, ..self.rules },
            Mutation::ImpatientWindow => Rules { recovery_max: self.rules.recovery, ..self.rules },
            _ => self.rules,
        }
    }

    pub fn config(&self) -> FleetConfig {
        FleetConfig {
            lease: Duration::from_millis(self.rules.lease),
            orphan_grace: Duration::from_millis(self.rules.orphan_grace),
            recovery: Duration::from_millis(self.rules.recovery),
            ..FleetConfig::default()
        }
    }

    /// The longest age of a claim's answer.
    pub fn fresh(&self) -> Duration {
        match self.mutation {
            Mutation::OldAnswers => Duration::MAX,
            _ => Duration::from_millis(self.rules.recovery / 2),
        }
    }
}
