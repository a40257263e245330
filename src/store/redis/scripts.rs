//! The Lua scripts, and how a call becomes an EVALSHA.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

use redis::{Cmd, Script};
use serde::Serialize;

use super::super::Rules;
use super::super::clock::Simulated;
use super::super::request::{Call, Claim, Declared, Heartbeat, Hello, Request, Row};
use super::{includes, rows};
use crate::model::BackendId;

/// One file of `lua/`, and what becomes of it.
pub(super) struct Source {
    pub(super) name: &'static str,
    /// The file itself.
    #[cfg(test)]
    pub(super) body: &'static str,
    /// The same with the files that it includes.
    pub(super) text: LazyLock<String>,
    script: LazyLock<Script>,
}

macro_rules! source {
    ($name:literal) => {
        Source {
            name: $name,
            #[cfg(test)]
            body: include_str!(concat!("../../../lua/", $name, ".lua")),
            text: LazyLock::new(|| includes::joined(include_str!(concat!("../../../lua/", $name, ".lua")))),
            script: LazyLock::new(|| {
                Script::new(&includes::joined(include_str!(concat!("../../../lua/", $name, ".lua"))))
            }),
        }
    };
}

static HELLO: Source = source!("hello");
static HEARTBEAT: Source = source!("heartbeat");
static CLAIM: Source = source!("claim");
static DECLARE: Source = source!("declare");
static HELD: Source = source!("held");
static REAP: Source = source!("reap");
static FORGET: Source = source!("forget");
static TABLE: Source = source!("table");
pub(super) static MOVE: Source = source!("move");
pub(super) static SETTLE: Source = source!("settle");
pub(super) static MARK: Source = source!("mark");
pub(super) static REVISE: Source = source!("revise");
pub(super) static COPY: Source = source!("copy");
pub(super) static LIFT: Source = source!("lift");
pub(super) static ASK: Source = source!("ask");
pub(super) static ANSWER: Source = source!("answer");
pub(super) static ANSWERS: Source = source!("answers");

pub(super) static TRACE: Source = source!("trace");
pub(super) static TALLY: Source = source!("tally");
pub(super) static OCCUPY: Source = source!("occupy");

/// All scripts, as they are loaded when a connection is opened.
pub(super) static ALL: [&Source; 20] = [
    &HELLO, &HEARTBEAT, &CLAIM, &DECLARE, &HELD, &REAP, &FORGET, &TABLE, &MOVE, &SETTLE, &MARK, &REVISE, &COPY, &LIFT,
    &ASK, &ANSWER, &ANSWERS, &TRACE, &TALLY, &OCCUPY,
];

impl Source {
    /// SCRIPT LOAD.
    pub(super) fn load(&self) -> Cmd {
        let mut command = redis::cmd("SCRIPT");
        command.arg("LOAD").arg(self.text.as_str());
        command
    }

    /// EVALSHA of a script that the server is thought to know.
    pub(super) fn call(&self, stem: &str, arguments: &Arguments) -> Cmd {
        let mut command = redis::cmd("EVALSHA");
        command.arg(self.script.get_hash()).arg(1).arg(stem).arg(&arguments.values);
        command
    }

    /// EVAL, for a server that does not know it.
    pub(super) fn teach(&self, stem: &str, arguments: &Arguments) -> Cmd {
        let mut command = redis::cmd("EVAL");
        command.arg(self.text.as_str()).arg(1).arg(stem).arg(&arguments.values);
        command
    }
}

/// What a script is given as ARGV, each with the name by which its header knows it.
#[derive(Default)]
pub(super) struct Arguments {
    #[cfg(test)]
    pub(super) names: Vec<&'static str>,
    values: Vec<String>,
}

impl Arguments {
    pub(super) fn put(&mut self, _name: &'static str, value: impl ToString) -> &mut Self {
        #[cfg(test)]
        self.names.push(_name);
        self.values.push(value.to_string());
        self
    }

    pub(super) fn flag(&mut self, name: &'static str, value: bool) -> &mut Self {
        self.put(name, u8::from(value))
    }

    pub(super) fn rows(&mut self, rows: &BTreeMap<BackendId, Row>) -> &mut Self {
        for (backend, row) in rows {
            self.put("backend", backend).put("row", rows::text(row));
        }
        self
    }
}

/// The EVALSHA of a call.
pub(super) fn command(call: &Call, stem: &str, rules: &Rules, server: Option<&Simulated>) -> Cmd {
    let (source, arguments) = script_and_arguments(call, rules, server);
    source.call(stem, &arguments)
}

/// Which script does a call, and with which arguments.
pub(super) fn script_and_arguments(
    call: &Call,
    rules: &Rules,
    server: Option<&Simulated>,
) -> (&'static Source, Arguments) {
    let mut a = Arguments::default();
    let run = match (&call.request, server) {
        (Request::Hello(_), Some(server)) => server.run(),
        _ => call.run.clone(),
    };
    let clock = server.map_or_else(String::new, |server| server.ms().to_string());
    a.put("inc", &call.incarnation).put("run", run).put("seq", call.seq).put("clock", clock);
    let source = match &call.request {
        Request::Hello(hello) => greet(&mut a, hello, rules),
        Request::Heartbeat(beat) => renew(&mut a, beat, rules),
        Request::Claim(claim) => find_home(&mut a, claim, rules),
        Request::Declare(lines) => tell(&mut a, lines, rules),
        Request::Held { cursor } => {
            a.put("cursor", cursor);
            &HELD
        }
        Request::Reap { orphan } => {
            a.put("whose", orphan).put("orphan_grace", rules.orphan_grace).put("remember", rules.remember);
            a.put("kick_delay", rules.kick_delay);
            &REAP
        }
        Request::Forget { dead } => {
            a.put("dead", dead);
            &FORGET
        }
        Request::Table { based_on, rows } => {
            a.put("based_on", based_on).rows(rows);
            &TABLE
        }
    };
    (source, a)
}

fn greet(a: &mut Arguments, hello: &Hello, rules: &Rules) -> &'static Source {
    a.put("acked", hello.acked).put("errand", hello.errand).put("name", &hello.name).put("version", &hello.version);
    a.put("lease", rules.lease).put("orphan_grace", rules.orphan_grace);
    a.put("recovery", rules.recovery).put("recovery_max", rules.recovery_max);
    &HELLO
}

fn renew(a: &mut Arguments, beat: &Heartbeat, rules: &Rules) -> &'static Source {
    let failing = beat.failing.as_ref().map(|failing| list(&failing.iter().collect::<BTreeSet<_>>()));
    a.flag("asserted", beat.asserted).put("table_version", beat.table_version);
    let left: Vec<_> = beat.left.iter().map(|left| (&left.backend, left.keys)).collect();
    let pinned: Vec<_> = beat.left.iter().map(|left| (&left.backend, left.pinned)).collect();
    a.put("failing", failing.unwrap_or_default()).put("left", list(&left)).put("pinned", list(&pinned));
    a.put("errand", beat.errand);
    a.put("lease", rules.lease).put("recovery", rules.recovery).put("recovery_max", rules.recovery_max);
    a.put("remember", rules.remember).put("max_down", rules.max_down);
    &HEARTBEAT
}

/// Names as JSON, which any text can be written in.
fn list(names: &impl Serialize) -> String {
    // Lists of texts and numbers: nothing in them that JSON could not say.
    serde_json::to_string(names).unwrap_or_default()
}

fn find_home(a: &mut Arguments, claim: &Claim, rules: &Rules) -> &'static Source {
    let pin = claim.pin.as_ref().map_or("", |pin| pin.as_str());
    a.put("key", &claim.key).put("have", claim.have).put("pool", &claim.pool).put("pin", pin);
    a.put("limit", claim.limit).flag("unproven", claim.unproven);
    a.put("hint", claim.hint.as_ref().map_or("", |hint| hint.as_str()));
    a.put("recovery", rules.recovery).put("recovery_max", rules.recovery_max);
    a.put("user_expire", rules.user_expire).put("remember", rules.remember);
    a.put("balance_factor", rules.balance_factor).put("slow_start", rules.slow_start).flag("strict", rules.strict);
    a.put("kick_delay", rules.kick_delay);
    &CLAIM
}

fn tell(a: &mut Arguments, lines: &[Declared], rules: &Rules) -> &'static Source {
    a.put("remember", rules.remember).put("kick_delay", rules.kick_delay);
    for line in lines {
        a.put("key", &line.key).put("backend", &line.backend).put("generation", line.generation);
        a.put("count", line.count).flag("unproven", line.unproven);
    }
    &DECLARE
}

/// The name of the script that does a request, for messages.
pub(super) fn name(request: &Request) -> &'static str {
    match request {
        Request::Hello(_) => HELLO.name,
        Request::Heartbeat(_) => HEARTBEAT.name,
        Request::Claim(_) => CLAIM.name,
        Request::Declare(_) => DECLARE.name,
        Request::Held { .. } => HELD.name,
        Request::Reap { .. } => REAP.name,
        Request::Forget { .. } => FORGET.name,
        Request::Table { .. } => TABLE.name,
    }
}
