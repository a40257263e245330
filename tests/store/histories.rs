//! Seeded random histories of several proxies, played over both stores: every answer must be equal, what operators see
//! too, and the sums must be those of what is held. What fails is cut down to the fewest steps that still fail.

use std::collections::BTreeMap;
use std::fmt::Debug;

use homing::model::{BackendId, Generation, Incarnation, Key, Pool, Weight};
use homing::store::*;

use crate::stage::*;
use crate::sums;

const PROXIES: u64 = 4;
const KEYS: u64 = 10;
const BACKENDS: [&str; 4] = ["a", "b", "c", "gone"];
const STEPS: usize = 300;

/// One step. It is resolved against what the proxies know when it is played, so any part of a history is one, too.
#[derive(Clone, Debug)]
enum Step {
    Hello(usize),
    Beat {
        who: usize,
        asserted: bool,
        knows_table: bool,
    },
    Claim {
        who: usize,
        claim: Claim,
    },
    /// `true`: with the home that this proxy was told, as a ledger would.
    Declare(usize, Vec<(Declared, bool)>),
    Held(usize),
    Reap {
        who: usize,
        whom: usize,
    },
    Forget {
        who: usize,
        whom: usize,
    },
    Table {
        who: usize,
        rows: BTreeMap<BackendId, Row>,
        late: bool,
    },
    /// The last call arrives once more.
    Again(usize),
    /// So many calls never arrive.
    Lost(usize, u64),
    /// The proxy is started anew.
    Reborn(usize),
    /// The server's clock moves.
    Clock(i64),
    /// Seconds in which everybody who can sends heartbeats.
    Quiet(u64),
    /// The server is started anew, with its data.
    Restart,
    Flush,
    Save,
    /// Back to what was saved.
    Rollback,
}

/// SplitMix64: a seed gives the same history for ever.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ (z >> 31)) % bound
    }

    fn once_in(&mut self, times: u64) -> bool {
        self.below(times) == 0
    }

    fn count(&mut self, bound: u64) -> u32 {
        u32::try_from(self.below(bound)).expect("a small number")
    }

    fn one_of<'a>(&mut self, all: &[&'a str]) -> &'a str {
        all[usize::try_from(self.below(all.len() as u64)).expect("an index")]
    }

    fn proxy(&mut self) -> usize {
        usize::try_from(self.below(PROXIES)).expect("an index")
    }

    fn key(&mut self) -> Key {
        Key::new(format!("k{}", self.below(KEYS)))
    }

    fn step(&mut self) -> Step {
        let who = self.proxy();
        match self.below(100) {
            0..34 => Step::Claim { who, claim: self.claim() },
            34..56 => Step::Declare(who, (0..=self.below(4)).map(|_| self.line()).collect()),
            56..68 => Step::Beat { who, asserted: !self.once_in(4), knows_table: self.once_in(2) },
            68..76 => Step::Hello(who),
            76..80 => Step::Reap { who, whom: self.proxy() },
            80..82 => Step::Held(who),
            82..84 => Step::Table { who, rows: self.rows(), late: self.once_in(5) },
            84..86 => Step::Again(who),
            86..87 => Step::Lost(who, 1 + self.below(3)),
            87..88 => Step::Forget { who, whom: self.proxy() },
            88..89 => Step::Reborn(who),
            89..93 => Step::Clock(i64::try_from(self.below(6000)).expect("ms")),
            93..94 => Step::Clock([-3_600_000, 3_600_000][usize::from(self.once_in(2))]),
            94..97 => Step::Quiet(1 + self.below(25)),
            97 => [Step::Restart, Step::Flush][usize::from(self.once_in(3))].clone(),
            98 => Step::Save,
            _ => Step::Rollback,
        }
    }

    fn claim(&mut self) -> Claim {
        Claim {
            key: self.key(),
            have: if self.once_in(3) { self.count(4) } else { 0 },
            pool: Pool::new(if self.once_in(8) { "gold" } else { Pool::DEFAULT }),
            pin: self.once_in(10).then(|| BackendId::new(self.one_of(&BACKENDS))),
            limit: if self.once_in(4) { 1 + self.count(5) } else { 0 },
            unproven: self.once_in(3),
        }
    }

    fn line(&mut self) -> (Declared, bool) {
        let line = Declared {
            key: self.key(),
            backend: BackendId::new(self.one_of(&BACKENDS)),
            generation: Generation(DAWN + self.below(120_000)),
            count: if self.once_in(2) { 0 } else { self.count(5) },
            unproven: self.once_in(3),
        };
        (line, !self.once_in(3))
    }

    fn rows(&mut self) -> BTreeMap<BackendId, Row> {
        let mut rows = BTreeMap::new();
        for name in &BACKENDS[..3] {
            if self.once_in(8) {
                continue;
            }
            let state = match self.below(6) {
                0 => BackendState::Down,
                1 => BackendState::Drain,
                _ => BackendState::Up,
            };
            let weight = Weight::new([0, 50, 100, 300][self.proxy()]);
            let pool = Pool::new(if self.once_in(5) { "gold" } else { Pool::DEFAULT });
            let since = if self.once_in(2) { 0 } else { DAWN + self.below(60_000) };
            rows.insert(BackendId::new(name), Row { weight: weight.expect("weight"), pool, state, since });
        }
        rows
    }
}

/// What one proxy knows.
struct Knowing {
    incarnation: Incarnation,
    run: String,
    seq: u64,
    acked: u64,
    table_version: u64,
    homes: BTreeMap<Key, (BackendId, Generation)>,
    last: Option<Call>,
}

impl Knowing {
    fn born(name: &str) -> Self {
        Self {
            incarnation: Incarnation::new(name),
            run: String::new(),
            seq: 0,
            acked: 0,
            table_version: 0,
            homes: BTreeMap::new(),
            last: None,
        }
    }

    fn number(&mut self, request: Request) -> Call {
        self.seq += 1;
        let run = if matches!(request, Request::Hello(_)) { String::new() } else { self.run.clone() };
        let call = Call { incarnation: self.incarnation.clone(), run, seq: self.seq, request };
        self.last = Some(call.clone());
        call
    }

    fn hear(&mut self, call: &Call, reply: &Reply) {
        if !matches!(reply, Reply::Lost | Reply::Stale) {
            self.acked = call.seq;
        }
        match (&call.request, reply) {
            (_, Reply::Hello(welcome)) => self.run.clone_from(&welcome.run),
            (_, Reply::Heartbeat(beat)) => self.table_version = beat.table_version,
            (Request::Claim(claim), Reply::Claim(Home::Bound { backend, generation })) => {
                self.homes.insert(claim.key.clone(), (backend.clone(), *generation));
            }
            _ => {}
        }
    }
}

/// Both stores and those who use them.
struct Play {
    memory: World,
    redis: World,
    connections: [Box<dyn Connection>; 2],
    saved: Option<[Copy; 2]>,
    proxies: Vec<Knowing>,
    births: usize,
    runs: usize,
}

fn same<T: PartialEq + Debug>(what: &str, memory: T, redis: T) -> Result<T, String> {
    if memory == redis { Ok(memory) } else { Err(format!("{what}\n  memory: {memory:?}\n  redis:  {redis:?}")) }
}

/// A page of a set has no order.
fn ordered(mut reply: Reply) -> Reply {
    if let Reply::Held(keys, _) = &mut reply {
        keys.sort();
    }
    reply
}

impl Play {
    async fn begin(rules: Rules) -> Self {
        let (memory, redis) = (Stage::Memory.empty(rules).await, Stage::Redis.empty(rules).await);
        let connections = [memory.store.connect(0).await, redis.store.connect(0).await].map(|c| c.expect("connection"));
        let proxies = (0..PROXIES).map(|n| Knowing::born(&format!("p{n}"))).collect();
        Self { memory, redis, connections, saved: None, proxies, births: 0, runs: 1 }
    }

    async fn exchange(&mut self, call: Call) -> Result<Reply, String> {
        let mut replies = Vec::new();
        for connection in &mut self.connections {
            let answer = connection.exchange(std::slice::from_ref(&call)).await;
            replies.push(ordered(answer.map_err(|error| error.to_string())?.remove(0)));
        }
        let redis = replies.pop().expect("two");
        same(&format!("{call:?}"), replies.remove(0), redis)
    }

    async fn call(&mut self, who: usize, request: Request) -> Result<(), String> {
        let call = self.proxies[who].number(request);
        let reply = self.exchange(call.clone()).await?;
        self.proxies[who].hear(&call, &reply);
        Ok(())
    }

    async fn beat(&mut self, who: usize, asserted: bool, knows_table: bool) -> Result<(), String> {
        let table_version = if knows_table { self.proxies[who].table_version } else { 0 };
        self.call(who, Request::Heartbeat(Heartbeat { asserted, table_version })).await
    }

    async fn step(&mut self, step: Step) -> Result<(), String> {
        match step {
            Step::Hello(who) => {
                let hello = Hello { acked: self.proxies[who].acked, name: format!("n{who}"), version: "1".to_owned() };
                self.call(who, Request::Hello(hello)).await
            }
            Step::Beat { who, asserted, knows_table } => self.beat(who, asserted, knows_table).await,
            Step::Claim { who, claim } => self.call(who, Request::Claim(claim)).await,
            Step::Declare(who, lines) => self.declare(who, lines).await,
            Step::Held(who) => self.call(who, Request::Held { cursor: "0".to_owned() }).await,
            Step::Reap { who, whom } => {
                let orphan = self.proxies[whom].incarnation.clone();
                self.call(who, Request::Reap { orphan }).await
            }
            Step::Forget { who, whom } => {
                let dead = self.proxies[whom].incarnation.clone();
                self.call(who, Request::Forget { dead }).await
            }
            Step::Table { who, rows, late } => {
                let version = self.memory.census().await.table_version;
                let based_on = version.saturating_sub(u64::from(late));
                self.call(who, Request::Table { based_on, rows }).await
            }
            Step::Again(who) => match self.proxies[who].last.clone() {
                Some(call) => self.exchange(call).await.map(drop),
                None => Ok(()),
            },
            Step::Lost(who, calls) => {
                self.proxies[who].seq += calls;
                Ok(())
            }
            Step::Reborn(who) => {
                self.births += 1;
                self.proxies[who] = Knowing::born(&format!("q{}", self.births));
                Ok(())
            }
            Step::Quiet(seconds) => self.quiet(seconds).await,
            calamity => {
                self.strike(calamity).await;
                Ok(())
            }
        }
    }

    async fn declare(&mut self, who: usize, lines: Vec<(Declared, bool)>) -> Result<(), String> {
        let homes = &self.proxies[who].homes;
        let told = |(line, from_ledger): (Declared, bool)| match homes.get(&line.key) {
            Some((backend, generation)) if from_ledger => {
                Declared { backend: backend.clone(), generation: *generation, ..line }
            }
            _ => line,
        };
        let lines = lines.into_iter().map(told).collect();
        self.call(who, Request::Declare(lines)).await
    }

    async fn quiet(&mut self, seconds: u64) -> Result<(), String> {
        for _ in 0..seconds {
            self.shift(1000);
            for who in 0..self.proxies.len() {
                self.beat(who, true, true).await?;
            }
        }
        Ok(())
    }

    async fn strike(&mut self, calamity: Step) {
        match calamity {
            Step::Clock(ms) => self.shift(ms),
            Step::Restart => {
                self.runs += 1;
                let run = format!("run{}", self.runs);
                self.memory.server.restart(&run);
                self.redis.server.restart(&run);
            }
            Step::Flush => {
                self.memory.flush().await;
                self.redis.flush().await;
            }
            Step::Save => self.saved = Some([self.memory.save().await, self.redis.save().await]),
            _ => {
                if let Some([memory, redis]) = &self.saved {
                    self.memory.restore(memory).await;
                    self.redis.restore(redis).await;
                }
            }
        }
    }

    fn shift(&self, ms: i64) {
        for world in [&self.memory, &self.redis] {
            world.server.set_ms(world.server.ms().saturating_add_signed(ms));
        }
    }

    /// What operators see is equal, and every sum is that of what is held.
    async fn check(&mut self) -> Result<(), String> {
        let census = same("census", self.memory.census().await, self.redis.census().await)?;
        let mut bindings = BTreeMap::new();
        for n in 0..KEYS {
            let key = format!("k{n}");
            let binding = same(&key, self.memory.binding(&key).await, self.redis.binding(&key).await)?;
            bindings.extend(binding.map(|binding| (Key::new(&key), binding)));
        }
        sums::check(&census, &bindings)?;
        let Back::Redis(namespace) = &mut self.redis.back else { return Ok(()) };
        sums::check_index(namespace, &bindings).await
    }
}

async fn play(seed: u64, history: &[Step]) -> Result<(), String> {
    let rules = Rules {
        orphan_grace: 20_000,
        recovery_max: 10_000,
        user_expire: 10_000,
        remember: 60_000, // also the time to live in Redis, whose clock is the real one
        slow_start: if seed.is_multiple_of(2) { 30_000 } else { 0 },
        strict: seed.is_multiple_of(4),
        ..Rules::default()
    };
    let mut play = Play::begin(rules).await;
    for (number, step) in history.iter().enumerate() {
        let at = |why: String| format!("step {number}, {step:?}\n{why}");
        play.step(step.clone()).await.map_err(at)?;
        if number % 10 == 9 || number + 1 == history.len() {
            play.check().await.map_err(at)?;
        }
    }
    Ok(())
}

/// The fewest steps found that still fail: leaves out ever smaller parts as long as what is left does.
async fn shortest(seed: u64, mut history: Vec<Step>) -> Vec<Step> {
    let mut part = history.len() / 2;
    while part > 0 {
        let mut from = 0;
        while from < history.len() {
            let mut shorter = history.clone();
            shorter.drain(from..(from + part).min(history.len()));
            if play(seed, &shorter).await.is_err() {
                history = shorter;
            } else {
                from += part;
            }
        }
        part /= 2;
    }
    history
}

fn number_of(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

#[tokio::test]
async fn random_histories_agree() {
    let one = number_of("HOMING_SEED");
    let seeds = one.map_or(0..number_of("HOMING_SEEDS").unwrap_or(40), |seed| seed..seed + 1);
    for seed in seeds {
        let mut dice = Dice(seed);
        // Begins with a table, else most of the history would have no backend to talk about.
        let rows = table(&[("a", up()), ("b", up()), ("c", up())]);
        let mut history = vec![Step::Hello(0), Step::Hello(1), Step::Hello(2)];
        history.extend([Step::Table { who: 0, rows, late: false }, Step::Quiet(5)]);
        history.extend((0..STEPS).map(|_| dice.step()));
        if play(seed, &history).await.is_err() {
            let history = shortest(seed, history).await;
            let why = play(seed, &history).await.expect_err("it failed before");
            let steps: Vec<String> = history.iter().map(|step| format!("  {step:?}")).collect();
            panic!("HOMING_SEED={seed}: {why}\nafter these steps:\n{}", steps.join("\n"));
        }
    }
}
