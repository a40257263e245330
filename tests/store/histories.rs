//! Seeded random histories of several proxies, played over both stores: every answer must be equal, what operators see
//! too, and the sums must be those of what is held. What fails is cut down to the fewest steps that still fail.

mod steps;

use std::collections::BTreeMap;
use std::fmt::Debug;

use homing::model::{BackendId, Generation, Incarnation, Key};
use homing::store::*;

use self::steps::*;
use crate::stage::*;
use crate::sums;

const STEPS: usize = 300;

/// What one proxy knows.
struct Knowing {
    incarnation: Incarnation,
    run: String,
    seq: u64,
    acked: u64,
    table_version: u64,
    errand: u64,
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
            errand: 0,
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
            (_, Reply::Heartbeat(beat)) => {
                self.table_version = beat.table_version;
                self.errand = beat.errands.last().map_or(self.errand, |(number, _)| *number);
            }
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
    /// Keys whose move has begun, and who was told to run its hook.
    moves: Vec<(Key, Option<Incarnation>)>,
    errands: Vec<u64>,
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
        Self { memory, redis, connections, saved: None, proxies, births: 0, runs: 1, moves: vec![], errands: vec![] }
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

    /// One heartbeat: of the table and the errands that this proxy knows, or of none.
    async fn beat(
        &mut self,
        who: usize,
        knows_table: bool,
        takes_errands: bool,
        beat: Heartbeat,
    ) -> Result<(), String> {
        let table_version = if knows_table { self.proxies[who].table_version } else { 0 };
        let errand = if takes_errands { self.proxies[who].errand } else { 0 };
        self.call(who, Request::Heartbeat(Heartbeat { table_version, errand, ..beat })).await
    }

    async fn order(&mut self, order: Order) -> Result<Outcome, String> {
        let mut outcomes = Vec::new();
        for world in [&self.memory, &self.redis] {
            outcomes.push(world.store.order(0, &order).await.map_err(|error| error.to_string())?);
        }
        let redis = outcomes.pop().expect("two");
        same(&format!("{order:?}"), outcomes.remove(0), redis).map(|ordered| ordered.outcome)
    }

    async fn begin_move(&mut self, order: Move, seen: bool) -> Result<(), String> {
        let home = self.memory.binding(order.key.as_str()).await.filter(|home| seen && home.backend.is_some());
        let order = Move { seen: home.map(|home| home.generation), ..order };
        let key = order.key.clone();
        if let Outcome::Move(Moved::Begun { .. }) = self.order(Order::Move(order)).await? {
            self.moves.push((key, None));
        }
        Ok(())
    }

    async fn settle(&mut self, which: usize, who: usize, told: bool, hook: Option<bool>) -> Result<(), String> {
        let Some(at) = which.checked_rem(self.moves.len()) else { return Ok(()) };
        let (key, runner) = self.moves[at].clone();
        let who = self.proxies[who].incarnation.clone();
        let incarnation = if told { runner.unwrap_or(who) } else { who };
        let order = Settle { key, incarnation: incarnation.clone(), hook };
        match self.order(Order::Settle(order)).await? {
            Outcome::Settle(Settled::Run { .. }) => self.moves[at].1 = Some(incarnation),
            Outcome::Settle(Settled::Waiting { .. }) | Outcome::Recovering(_) => {}
            _ => drop(self.moves.remove(at)),
        }
        Ok(())
    }

    async fn leave(&mut self, which: usize) -> Result<(), String> {
        let Some(at) = which.checked_rem(self.moves.len()) else { return Ok(()) };
        let line = declared(self.moves[at].0.as_str(), "", 0, 0);
        for who in 0..self.proxies.len() {
            self.call(who, Request::Declare(vec![line.clone()])).await?;
        }
        Ok(())
    }

    async fn defy(&mut self, who: usize, order: Move, line: Declared) -> Result<(), String> {
        let Some((key, (home, generation))) = self.proxies[who].homes.iter().next_back() else { return Ok(()) };
        let (backend, generation) = (home.clone(), *generation);
        let (order, line) =
            (Move { key: key.clone(), ..order }, Declared { key: key.clone(), backend, generation, ..line });
        self.begin_move(order, false).await?;
        self.declare(who, vec![(line, false)]).await
    }

    /// The version in force, or one before.
    async fn version(&self, late: bool) -> u64 {
        self.memory.census().await.table_version.saturating_sub(u64::from(late))
    }

    async fn give_order(&mut self, step: Step) -> Result<(), String> {
        let order = match step {
            Step::Move { order, seen } => return self.begin_move(order, seen).await,
            Step::Settle { which, who, told, hook } => return self.settle(which, who, told, hook).await,
            Step::Leave(which) => return self.leave(which).await,
            Step::Defy(who, order, line) => return self.defy(who, order, line).await,
            Step::Mark(mark) => Order::Mark(mark),
            Step::Revise { rows, late } => Order::Table { based_on: self.version(late).await, rows },
            Step::Copy { rows, newer } => Order::Copy(Table { version: self.version(false).await + newer, rows }),
            Step::Ask(ask) => Order::Ask(ask),
            Step::Answer(who) => {
                let errand = self.errands.last().copied().unwrap_or(7);
                let (incarnation, text) = (self.proxies[who].incarnation.clone(), format!("done by {who}"));
                Order::Answer { errand, incarnation, text }
            }
            Step::Answers { before } => {
                let errand = self.errands.iter().rev().nth(usize::from(before)).copied().unwrap_or(7);
                Order::Answers { errand }
            }
            calamity => {
                self.strike(calamity).await;
                return Ok(());
            }
        };
        if let Outcome::Asked { errand, .. } = self.order(order).await? {
            self.errands.push(errand);
        }
        Ok(())
    }

    async fn step(&mut self, step: Step) -> Result<(), String> {
        match step {
            Step::Hello(who) => {
                let errand = self.errands.last().copied().unwrap_or(0);
                let (acked, name) = (self.proxies[who].acked, format!("n{who}"));
                let hello = Hello { acked, errand, name, version: "1".to_owned() };
                self.call(who, Request::Hello(hello)).await
            }
            Step::Beat { who, asserted, knows_table, failing, left, takes_errands } => {
                let beat = Heartbeat { asserted, failing, left, ..Heartbeat::default() };
                self.beat(who, knows_table, takes_errands, beat).await
            }
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
                let based_on = self.version(late).await;
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
            other => self.give_order(other).await,
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
        let lines: Vec<Declared> = lines.into_iter().map(told).collect();
        let before = self.generations(&lines).await;
        self.call(who, Request::Declare(lines.clone())).await?;
        for (key, after) in self.generations(&lines).await {
            if before.get(&key).is_some_and(|before| *before > after) {
                return Err(format!("{key}: the generation went back from {:?} to {after:?}", before[&key]));
            }
        }
        Ok(())
    }

    /// Of those keys that are bound. Not of one that is declared twice: in between it may be forgotten.
    async fn generations(&self, lines: &[Declared]) -> BTreeMap<Key, Generation> {
        let mut all = BTreeMap::new();
        let once = |line: &&Declared| lines.iter().filter(|other| other.key == line.key).count() == 1;
        for line in lines.iter().filter(once) {
            let view = self.memory.binding(line.key.as_str()).await.filter(|view| view.backend.is_some());
            all.extend(view.map(|view| (line.key.clone(), view.generation)));
        }
        all
    }

    async fn quiet(&mut self, seconds: u64) -> Result<(), String> {
        for _ in 0..seconds {
            self.shift(1000);
            for who in 0..self.proxies.len() {
                let beat = Heartbeat { asserted: true, failing: Some(vec![]), ..Heartbeat::default() };
                self.beat(who, true, true, beat).await?;
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
        hook_lease: 4000,
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
        let rows = table(&[("a", up()), ("b", up()), ("c", up()), ("d", Row { max_sessions: 3, ..up() })]);
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
