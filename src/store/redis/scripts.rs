//! The Lua scripts: their text, joined with their includes when homing is compiled, and how a call becomes an EVALSHA.

use std::sync::LazyLock;

use redis::{Cmd, Script};

use super::super::Rules;
use super::super::clock::Simulated;
use super::super::request::{Call, Claim, Declared, Heartbeat, Hello, Request, Row};

/// One file of `lua/`.
pub(super) struct Source {
    pub(super) name: &'static str,
    /// The file itself; the includes stand before it.
    #[cfg(test)]
    pub(super) body: &'static str,
    #[cfg(test)]
    pub(super) includes: &'static [&'static str],
    /// Both joined.
    text: &'static str,
    script: LazyLock<Script>,
}

/// The text of a script behind its includes.
macro_rules! joined {
    ($name:literal, $($include:literal),+) => {
        concat!(
            $(include_str!(concat!("../../../lua/include/", $include, ".lua")), "\n",)+
            include_str!(concat!("../../../lua/", $name, ".lua"))
        )
    };
}

macro_rules! source {
    ($name:literal, $($include:literal),+) => {
        Source {
            name: $name,
            #[cfg(test)]
            body: include_str!(concat!("../../../lua/", $name, ".lua")),
            #[cfg(test)]
            includes: &[$($include),+],
            text: joined!($name, $($include),+),
            script: LazyLock::new(|| Script::new(joined!($name, $($include),+))),
        }
    };
}

static HELLO: Source = source!("hello", "keys", "clock", "window", "gather", "add");
static HEARTBEAT: Source = source!("heartbeat", "keys", "clock", "enter", "window", "kick");
static CLAIM: Source = source!(
    "claim", "keys", "clock", "enter", "window", "alive", "gather", "add", "enlist", "save", "fetch", "bind", "prove",
    "count", "rest", "oust", "row", "fields", "turn", "rank", "place"
);
static DECLARE: Source = source!(
    "declare", "keys", "clock", "enter", "alive", "gather", "add", "enlist", "save", "fetch", "bind", "prove", "count",
    "rest", "oust", "kick", "spill"
);
static HELD: Source = source!("held", "keys", "clock", "enter");
static REAP: Source = source!(
    "reap", "keys", "clock", "enter", "alive", "gather", "add", "enlist", "save", "fetch", "count", "rest", "orphan",
    "spill"
);
static FORGET: Source = source!("forget", "keys", "clock", "enter", "gather", "add", "orphan");
static TABLE: Source = source!("table", "keys", "clock", "enter", "row");

/// All scripts, as they are loaded when a connection is opened.
pub(super) static ALL: [&Source; 8] = [&HELLO, &HEARTBEAT, &CLAIM, &DECLARE, &HELD, &REAP, &FORGET, &TABLE];

impl Source {
    /// SCRIPT LOAD.
    pub(super) fn load(&self) -> Cmd {
        let mut command = redis::cmd("SCRIPT");
        command.arg("LOAD").arg(self.text);
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
    fn put(&mut self, _name: &'static str, value: impl ToString) -> &mut Self {
        #[cfg(test)]
        self.names.push(_name);
        self.values.push(value.to_string());
        self
    }

    fn flag(&mut self, name: &'static str, value: bool) -> &mut Self {
        self.put(name, u8::from(value))
    }
}

/// The EVALSHA of a call.
pub(super) fn command(call: &Call, keys: &[String], rules: &Rules, server: Option<&Simulated>) -> Cmd {
    let (source, arguments) = script_and_arguments(call, rules, server);
    let mut command = redis::cmd("EVALSHA");
    command.arg(source.script.get_hash()).arg(keys.len()).arg(keys).arg(arguments.values);
    command
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
            &REAP
        }
        Request::Forget { dead } => {
            a.put("dead", dead);
            &FORGET
        }
        Request::Table { based_on, rows } => {
            a.put("based_on", based_on);
            for (backend, row) in rows {
                a.put("backend", backend).put("row", row_text(row));
            }
            &TABLE
        }
    };
    (source, a)
}

fn greet(a: &mut Arguments, hello: &Hello, rules: &Rules) -> &'static Source {
    a.put("acked", hello.acked).put("name", &hello.name).put("version", &hello.version);
    a.put("lease", rules.lease).put("orphan_grace", rules.orphan_grace);
    a.put("recovery", rules.recovery).put("recovery_max", rules.recovery_max);
    &HELLO
}

fn renew(a: &mut Arguments, beat: &Heartbeat, rules: &Rules) -> &'static Source {
    a.flag("asserted", beat.asserted).put("table_version", beat.table_version).put("lease", rules.lease);
    a.put("recovery", rules.recovery).put("recovery_max", rules.recovery_max).put("remember", rules.remember);
    &HEARTBEAT
}

fn find_home(a: &mut Arguments, claim: &Claim, rules: &Rules) -> &'static Source {
    let pin = claim.pin.as_ref().map_or("", |pin| pin.as_str());
    a.put("key", &claim.key).put("have", claim.have).put("pool", &claim.pool).put("pin", pin);
    a.put("limit", claim.limit).flag("unproven", claim.unproven);
    a.put("recovery", rules.recovery).put("recovery_max", rules.recovery_max);
    a.put("user_expire", rules.user_expire).put("remember", rules.remember);
    a.put("balance_factor", rules.balance_factor).put("slow_start", rules.slow_start).flag("strict", rules.strict);
    &CLAIM
}

fn tell(a: &mut Arguments, lines: &[Declared], rules: &Rules) -> &'static Source {
    a.put("remember", rules.remember);
    for line in lines {
        a.put("key", &line.key).put("backend", &line.backend).put("generation", line.generation);
        a.put("count", line.count).flag("unproven", line.unproven);
    }
    &DECLARE
}

/// A row as it stands in the store; `lua/include/row.lua` reads it.
fn row_text(row: &Row) -> String {
    format!("{} {} {} {}", row.weight.get(), row.state.word(), row.since, row.pool)
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
