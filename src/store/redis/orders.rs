//! Orders: over a pooled connection of their own, and with a look at how many replicas have what was written.

use std::time::Duration;

use redis::aio::ConnectionLike;
use redis::{ErrorKind, RedisError, RedisResult, ServerErrorKind, Value};

use super::super::order::{Locker, MarkChange, Move, Moved, Order, Ordered, Outcome, Settle, Settled, Target};
use super::super::request::Table;
use super::super::{Rules, StoreError};
use super::doors::no_answer;
use super::keys::Keys;
use super::scripts::{self, Arguments, Source};
use super::{Redis, parse, replies};
use crate::config::StoreAddress;
use crate::model::Pool;
use crate::store::clock::Simulated;

/// How long the first replica may take to confirm an order, in milliseconds.
const CONFIRMATION: u64 = 1000;
/// Longer times are taken for that, which is some 30,000 years: the scripts' numbers are exact up to about a hundred
/// times as much.
const LONGEST: u64 = 1_000_000_000_000_000;

impl Redis {
    /// Gives an order on a connection that nobody else uses meanwhile.
    pub(super) async fn carry_out(&self, keys: &Keys, order: &Order) -> Result<Ordered, StoreError> {
        let (at, mut connection) = self.operator_of(keys).await?;
        let line = &mut Line { at: &at, connection: &mut connection, patience: self.doors.patience() };
        let (source, arguments) = script_and_arguments(order, &self.rules, self.server.as_deref());
        let stem = keys.stem();
        let answer = match line.ask(source.call(&stem, &arguments), Duration::ZERO).await? {
            Err(error) if is_unknown_script(&error) => {
                line.ask(source.teach(&stem, &arguments), Duration::ZERO).await?
            }
            answer => answer,
        };
        let value = answer.map_err(|error| no_answer(&at, &format!("{}: {error}", source.name)))?;
        let garbled = |_| no_answer(&at, &format!("{}: an answer that homing's scripts do not give", source.name));
        let outcome = replies::decode(order, value).map_err(garbled)?;
        let replicas = if has_written(order, &outcome) { line.confirmed().await } else { None };
        Ok(Ordered { outcome, replicas })
    }
}

/// A connection, for as long as an order takes.
struct Line<'a, C> {
    at: &'a StoreAddress,
    connection: &'a mut C,
    /// How long an answer may take.
    patience: Duration,
}

impl<C: ConnectionLike> Line<'_, C> {
    /// How many replicas have all that was written on this connection, and how many there are. What was ordered stands
    /// also if that cannot be found out.
    async fn confirmed(&mut self) -> Option<(u32, u32)> {
        let mut info = redis::cmd("INFO");
        info.arg("replication");
        let text: String = self.ask(info, Duration::ZERO).await.ok()?.and_then(parse).ok()?;
        let count = |line: &str| line.strip_prefix("connected_slaves:")?.trim().parse::<u32>().ok();
        let all = text.lines().find_map(count).filter(|all| *all > 0)?;
        let mut wait = redis::cmd("WAIT");
        wait.arg(1).arg(CONFIRMATION);
        let have = self.ask(wait, Duration::from_millis(CONFIRMATION)).await;
        let have: u32 = have.ok().and_then(Result::ok).and_then(|value| parse(value).ok()).unwrap_or(0);
        Some((have.min(all), all))
    }

    /// Sends one command. It may take `longer` than others may.
    async fn ask(&mut self, command: redis::Cmd, longer: Duration) -> Result<RedisResult<Value>, StoreError> {
        let patience = self.patience + longer;
        match tokio::time::timeout(patience, command.query_async(self.connection)).await {
            Ok(answer) => Ok(answer),
            Err(_) => Err(no_answer(self.at, &format!("none within {patience:?}"))),
        }
    }
}

fn is_unknown_script(error: &RedisError) -> bool {
    error.kind() == ErrorKind::Server(ServerErrorKind::NoScript)
}

/// Whether there is something that a replica might lack.
fn has_written(order: &Order, outcome: &Outcome) -> bool {
    match outcome {
        Outcome::Move(moved) => matches!(moved, Moved::Begun { .. } | Moved::Done { .. }),
        Outcome::Settle(Settled::Waiting { .. }) => matches!(order, Order::Settle(Settle { hook: Some(_), .. })),
        Outcome::Settle(settled) => !matches!(settled, Settled::Still { .. }),
        Outcome::Mark(marked) => !marked.no_backend,
        Outcome::Table(table) => table.is_ok(),
        Outcome::Done | Outcome::Asked { .. } => true,
        Outcome::Lifted(lifted) => *lifted,
        Outcome::Answers(_) | Outcome::Recovering(_) => false,
    }
}

/// Which script carries out an order, and with which arguments.
pub(super) fn script_and_arguments(
    order: &Order,
    rules: &Rules,
    server: Option<&Simulated>,
) -> (&'static Source, Arguments) {
    let mut a = Arguments::default();
    let clock = server.map_or_else(String::new, |server| server.ms().to_string());
    a.put("clock", clock).put("recovery", rules.recovery);
    let source = match order {
        Order::Move(order) => begin(&mut a, order, rules),
        Order::Settle(order) => go_on(&mut a, order, rules),
        Order::Mark(order) => {
            let (change, value, locker) = change(&order.change);
            a.put("key", &order.key).put("change", change).put("value", value).put("remember", rules.remember);
            a.put("locker", locker.map(Locker::to_string).unwrap_or_default());
            &scripts::MARK
        }
        Order::Table { based_on, rows } => {
            a.put("recovery_max", rules.recovery_max).put("based_on", based_on).rows(rows);
            &scripts::REVISE
        }
        Order::Copy(Table { version, rows }) => {
            a.put("version", version).rows(rows);
            &scripts::COPY
        }
        Order::Lift { seen, to } => {
            a.put("seen", seen).put("to", to);
            &scripts::LIFT
        }
        Order::Ask(order) => {
            a.put("text", &order.text).put("ttl", order.ttl.min(LONGEST));
            &scripts::ASK
        }
        Order::Answer { errand, incarnation, text } => {
            a.put("errand", errand).put("incarnation", incarnation).put("text", text);
            &scripts::ANSWER
        }
        Order::Answers { errand } => {
            a.put("errand", errand);
            &scripts::ANSWERS
        }
    };
    (source, a)
}

fn begin(a: &mut Arguments, order: &Move, rules: &Rules) -> &'static Source {
    let seen = order.seen.map(|seen| seen.to_string()).unwrap_or_default();
    a.put("recovery_max", rules.recovery_max).put("key", &order.key).put("seen", seen).put("to", to(&order.to));
    a.flag("force", order.force).flag("hook", order.hook).put("timeout", order.timeout.min(LONGEST));
    let parallel = order.pace.map(|pace| pace.parallel.to_string()).unwrap_or_default();
    a.put("parallel", parallel).put("per_second", order.pace.map_or(0, |pace| pace.per_second));
    a.put("remember", rules.remember).put("kick_delay", rules.kick_delay).put("slow_start", rules.slow_start);
    a.put("pool", Pool::DEFAULT);
    &scripts::MOVE
}

fn go_on(a: &mut Arguments, order: &Settle, rules: &Rules) -> &'static Source {
    let verdict = order.hook.map(|succeeded| u8::from(succeeded).to_string()).unwrap_or_default();
    a.put("recovery_max", rules.recovery_max).put("key", &order.key).put("incarnation", &order.incarnation);
    a.put("hook", verdict).put("remember", rules.remember).put("slow_start", rules.slow_start);
    a.put("hook_lease", rules.hook_lease).put("pool", Pool::DEFAULT);
    &scripts::SETTLE
}

/// A target as it stands in the store; [`target`] reads it.
fn to(target: &Target) -> String {
    match target {
        Target::Backend(backend) => format!("={backend}"),
        Target::Elsewhere => "elsewhere".to_owned(),
        Target::Anywhere => "anywhere".to_owned(),
        Target::Stay => "stay".to_owned(),
    }
}

/// A target from its text in the store.
pub(super) fn target(text: &str) -> Option<Target> {
    match text {
        "elsewhere" => Some(Target::Elsewhere),
        "anywhere" => Some(Target::Anywhere),
        "stay" => Some(Target::Stay),
        named => named.strip_prefix('=').map(|name| Target::Backend(crate::model::BackendId::new(name))),
    }
}

/// The word of a change, its value, and who locks.
fn change(change: &MarkChange) -> (&'static str, String, Option<&Locker>) {
    let span = |ms: &u64| (*ms).min(LONGEST).to_string();
    match change {
        MarkChange::Pin(backend) => ("pin", backend.to_string(), None),
        MarkChange::Unpin => ("unpin", String::new(), None),
        MarkChange::Hold(ms) => ("hold", span(ms), None),
        MarkChange::Release => ("release", String::new(), None),
        MarkChange::Lock(locker, ms) => ("lock", span(ms), Some(locker)),
        MarkChange::Renew(locker, ms) => ("renew", span(ms), Some(locker)),
        MarkChange::Unlock(locker) => ("unlock", String::new(), Some(locker)),
    }
}
