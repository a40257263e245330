//! `homing backend`: which mail servers there are, and what is done to them.

use std::time::Duration;

use anyhow::anyhow;
use clap::Subcommand;

use super::status::{Door, for_people, table};
use super::{Failure, count, runtime, say};
use crate::admin::wire::{BackendLine, BackendShown, Backends, Changed, JobLine, Planned, PlannedAt};

/// Show and change the fleet's backends. Changes hold for all proxies, win over their files, and outlive every restart
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// All backends with weight, users, pool, state, sessions and work
    List {
        /// Address, weight, users, pool, U or D, and seconds in that state, with tabs between, as the Director's host list
        #[arg(long, conflicts_with = "json")]
        tabs: bool,
        #[command(flatten)]
        door: Door,
    },
    /// One backend, with the progress of work at it
    Show {
        #[arg(value_name = "NAME")]
        name: String,
        #[command(flatten)]
        door: Door,
    },
    /// Bring a backend to the fleet: one that no file has, or one that was removed
    Add {
        #[arg(value_name = "NAME")]
        name: String,
        /// Any key of [backend.NAME] but passwords, such as host=mail3.example.org. None for a backend of the file
        #[arg(value_name = "KEY=VALUE")]
        settings: Vec<String>,
        #[command(flatten)]
        door: Door,
    },
    /// Take backends from the fleet, whatever files say, until `add` or `reset`. Their sessions end
    Remove(Named),
    /// Let backends take users
    Up(Named),
    /// Let backends take no new users; users without sessions leave at their next login
    Drain(Named),
    /// Take backends out of service at once: their sessions end
    Down(Named),
    /// Set a backend's share of new users
    Weight {
        #[arg(value_name = "NAME")]
        name: String,
        /// 0 to 10000; 100 is usual, and 0 takes no new users
        #[arg(value_name = "WEIGHT")]
        weight: u32,
        #[command(flatten)]
        door: Door,
    },
    /// Forget what was set here: backends are what files say
    Reset(Named),
    /// Drain backends and move their users elsewhere, at the pace of [moves]
    Evict(Work),
    /// Place the users of backends anew; all backends if none is named
    Flush(Work),
    /// Move users away until backends have no more than their share; all backends if none is named
    Rebalance(Work),
}

/// Some backends.
#[derive(Debug, clap::Args)]
struct Named {
    #[arg(value_name = "NAME", required = true)]
    names: Vec<String>,
    #[command(flatten)]
    door: Door,
}

/// Bulk work at some backends.
#[derive(Debug, clap::Args)]
struct Work {
    #[arg(value_name = "NAME")]
    names: Vec<String>,
    #[command(flatten)]
    instead: Instead,
    #[command(flatten)]
    door: Door,
}

/// What to do instead of beginning.
#[derive(Debug, clap::Args)]
#[group(multiple = false)]
struct Instead {
    /// Let the work there rest
    #[arg(long)]
    pause: bool,
    /// Let it go on
    #[arg(long)]
    resume: bool,
    /// End it as it is
    #[arg(long)]
    abort: bool,
    /// Only say how many users would be moved, how long that would take, and where they would go
    #[arg(long)]
    dry_run: bool,
}

impl Args {
    pub(super) fn run(self) -> Result<(), Failure> {
        match self.action {
            Action::List { tabs, door } => list(tabs, &door),
            Action::Show { name, door } => show(&name, &door),
            Action::Add { name, settings, door } => add(&name, &settings, &door),
            Action::Remove(named) => named.change("remove"),
            Action::Up(named) => named.change("up"),
            Action::Drain(named) => named.change("drain"),
            Action::Down(named) => named.change("down"),
            Action::Reset(named) => named.change("reset"),
            Action::Weight { name, weight, door } => {
                change(&door, &[("verb", "weight"), ("name", &name), ("to", &weight.to_string())])
            }
            Action::Evict(work) => work.run("evict"),
            Action::Flush(work) => work.run("flush"),
            Action::Rebalance(work) => work.run("rebalance"),
        }
    }
}

impl Named {
    fn change(&self, verb: &str) -> Result<(), Failure> {
        change(&self.door, &asked(verb, &self.names))
    }
}

impl Work {
    fn run(&self, verb: &str) -> Result<(), Failure> {
        let Instead { pause, resume, abort, dry_run } = self.instead;
        let others = [(pause, "pause"), (resume, "resume"), (abort, "abort")];
        let verb = others.iter().find(|(wanted, _)| *wanted).map_or(verb, |(_, other)| other);
        let mut asked = asked(verb, &self.names);
        if !dry_run {
            return change(&self.door, &asked);
        }
        asked.push(("dry", "1"));
        let planned: Planned = ask(&self.door, &asked)?;
        self.door.print(&planned, |planned| planned.at.iter().map(plan_text).collect::<Vec<_>>().join("\n"))
    }
}

fn asked<'a>(verb: &'a str, names: &'a [String]) -> Vec<(&'static str, &'a str)> {
    let names = names.iter().map(|name| ("name", name.as_str()));
    [("verb", verb)].into_iter().chain(names).collect()
}

fn add(name: &str, settings: &[String], door: &Door) -> Result<(), Failure> {
    let pair = |setting: &String| {
        let (key, value) = setting.split_once('=')?;
        Some((format!("set.{key}"), value.to_owned()))
    };
    let settings: Vec<_> = settings
        .iter()
        .map(|setting| {
            pair(setting).ok_or_else(|| Failure::Usage(anyhow!("write settings as KEY=VALUE, not {setting:?}")))
        })
        .collect::<Result<_, _>>()?;
    let settings = settings.iter().map(|(key, value)| (key.as_str(), value.as_str()));
    change(door, &[("verb", "add"), ("name", name)].into_iter().chain(settings).collect::<Vec<_>>())
}

fn ask<T: serde::de::DeserializeOwned>(door: &Door, words: &[(&str, &str)]) -> Result<T, Failure> {
    let query = form_urlencoded::Serializer::new(String::new()).extend_pairs(words).finish();
    Ok(runtime()?.block_on(door.client().post(&format!("/v1/backends?{query}"))).map_err(anyhow::Error::from)?)
}

fn change(door: &Door, words: &[(&str, &str)]) -> Result<(), Failure> {
    let done: Changed = ask(door, words)?;
    door.print(&done, changed_text)?;
    // Nobody could even be asked.
    let unasked = done.live == 0;
    if unasked || done.confirmed < done.live || !done.complaints.is_empty() {
        return Err(Failure::Runtime(anyhow!("the change is made, but not in force everywhere yet")));
    }
    Ok(())
}

fn changed_text(done: &Changed) -> String {
    let mut lines =
        vec![format!("In force at {} of {} proxies (backend table {})", done.confirmed, done.live, done.version)];
    if !done.silent.is_empty() {
        lines.push(format!("Not heard of: {}; they follow when they hear the store again", done.silent.join(", ")));
    }
    lines.extend(done.complaints.iter().map(|complaint| format!("Cannot be used everywhere: {complaint}")));
    if let Some((0, replicas)) = done.replicas {
        lines
            .push(format!("Warning: none of the store's {replicas} replicas has it yet; a failover now would lose it"));
    }
    lines.extend(done.notes.iter().cloned());
    lines.join("\n")
}

fn plan_text(at: &PlannedAt) -> String {
    let pinned = match at.pinned_here {
        0 => String::new(),
        users => format!(". {users} users at this proxy are pinned there by the passdb, and would stay"),
    };
    if at.users == 0 {
        return format!("{}: nobody would be moved{pinned}", at.backend);
    }
    let to = at.to.iter().map(|to| format!("{} to {}", to.users, to.backend)).collect::<Vec<_>>().join(", ");
    format!(
        "{}: {} with {} would be moved within about {}: {to}. Users without sessions leave at their next login{pinned}",
        at.backend,
        count(at.users, "user"),
        count(at.sessions, "session"),
        for_people(at.takes_s)
    )
}

fn list(tabs: bool, door: &Door) -> Result<(), Failure> {
    let answer: Backends = runtime()?.block_on(door.client().get("/v1/backends")).map_err(anyhow::Error::from)?;
    if tabs {
        return answer.backends.iter().try_for_each(|line| say(&tabbed(line)));
    }
    door.print(&answer, |answer| {
        let header = ["backend", "weight", "users", "pool", "state", "since", "sessions", "votes", "work"];
        let mut table = table(&header, &[1, 2, 6, 7]);
        table.add_rows(answer.backends.iter().map(|line| columns(line, answer.voters)));
        table.to_string()
    })
}

/// U takes new users, D does not.
fn letter(line: &BackendLine) -> &'static str {
    if line.state == "up" { "U" } else { "D" }
}

fn tabbed(line: &BackendLine) -> String {
    let address = line.address.as_deref().unwrap_or(&line.name);
    let since = line.since_s.map(|seconds| seconds.to_string()).unwrap_or_default();
    [address, &line.weight.to_string(), &line.users.to_string(), &line.pool, letter(line), &since].join("\t")
}

fn columns(line: &BackendLine, voters: u32) -> [String; 9] {
    let set = |what: &str| if line.set.iter().any(|set| set == what) { "*" } else { "" };
    let place = line.address.as_ref().map_or_else(String::new, |address| format!(" ({address})"));
    let state = match line.state.as_str() {
        "up" => format!("U{}", set("state")),
        "unreadable" => "D unreadable: written by a newer version".to_owned(),
        state => format!("D {state}{}", set("state")),
    };
    let sessions = match line.max_sessions {
        0 => line.sessions.to_string(),
        most => format!("{} of {most}", line.sessions),
    };
    [
        format!("{}{place}{}", line.name, set("added")),
        format!("{}{}", line.weight, set("weight")),
        line.users.to_string(),
        line.pool.clone(),
        state,
        line.since_s.map_or_else(|| "-".to_owned(), for_people),
        sessions,
        format!("{} of {voters}", line.votes),
        line.job.as_ref().map(job_text).unwrap_or_default(),
    ]
}

fn job_text(job: &JobLine) -> String {
    let rest = match (job.paused, job.why.as_str()) {
        (false, _) => String::new(),
        (true, "") => ", paused".to_owned(),
        (true, why) => format!(", paused: {why}"),
    };
    let pinned = if job.pinned > 0 { format!(", {} stay pinned", job.pinned) } else { String::new() };
    format!("{}, {} users left{pinned}{rest}", job.kind, job.left)
}

fn show(name: &str, door: &Door) -> Result<(), Failure> {
    let name: String = form_urlencoded::byte_serialize(name.as_bytes()).collect();
    let path = format!("/v1/backends/{}", name.replace('+', "%20"));
    let shown: BackendShown = runtime()?.block_on(door.client().get(&path)).map_err(anyhow::Error::from)?;
    door.print(&shown, shown_text)
}

fn shown_text(shown: &BackendShown) -> String {
    let line = &shown.backend;
    let set = if line.set.is_empty() { "nothing".to_owned() } else { line.set.join(", ") };
    let mut lines = vec![
        format!(
            "{}: {} (pool {}), {}",
            line.name,
            line.address.as_deref().unwrap_or("address unknown here"),
            line.pool,
            line.state
        ),
        format!(
            "  weight {}, {} with {}, {} against it",
            line.weight,
            count(line.users, "user"),
            count(line.sessions, "session"),
            count(line.votes.into(), "vote")
        ),
        format!("  set by operators: {set}"),
    ];
    if let Some(job) = &line.job {
        lines.push(format!(
            "  {} for {}; being moved in the fleet: {}",
            job_text(job),
            for_people(job.since_s),
            shown.moving
        ));
        lines.extend(shown.rate.map(|rate| rate_text(rate, shown.left_s)));
        lines.push("  Users without sessions leave at their next login".to_owned());
    }
    lines.join("\n")
}

fn rate_text(rate: f64, left_s: Option<u64>) -> String {
    match left_s.map(Duration::from_secs) {
        Some(left) => format!("  {rate:.0} users a second, about {} to go", for_people(left.as_secs())),
        None => "  nobody was moved in the last second".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line() -> BackendLine {
        BackendLine {
            name: "mail1".to_owned(),
            address: Some("10.0.0.1:143".to_owned()),
            weight: 50,
            users: 7,
            pool: "ssd".to_owned(),
            state: "drain".to_owned(),
            since_s: Some(60),
            sessions: 9,
            max_sessions: 10,
            votes: 1,
            set: vec!["state".to_owned()],
            job: Some(JobLine {
                kind: "evict".to_owned(),
                paused: true,
                why: "b fails".to_owned(),
                since_s: 5,
                left: 7,
                pinned: 2,
            }),
        }
    }

    #[test]
    fn the_columns_of_the_directors_host_list_keep_their_order() {
        assert_eq!(tabbed(&line()), "10.0.0.1:143\t50\t7\tssd\tD\t60");
        let up = BackendLine { state: "up".to_owned(), since_s: None, address: None, ..line() };
        assert_eq!(tabbed(&up), "mail1\t50\t7\tssd\tU\t");
        let [name, weight, users, pool, state, since, rest @ ..] = columns(&line(), 3);
        assert_eq!([name, weight, users, pool], ["mail1 (10.0.0.1:143)", "50", "7", "ssd"]);
        assert_eq!([state, since], ["D drain*", "1 min"]);
        assert_eq!(rest, ["9 of 10", "1 of 3", "evict, 7 users left, 2 stay pinned, paused: b fails"]);
    }

    #[test]
    fn a_report_names_who_does_not_follow_and_what_a_failover_would_lose() {
        let done = Changed {
            version: 5,
            live: 3,
            confirmed: 2,
            silent: vec!["p3 (AAAAAAAAAA)".to_owned()],
            complaints: Vec::new(),
            replicas: Some((0, 2)),
            notes: vec!["mind this".to_owned()],
        };
        let text = changed_text(&done);
        for part in ["In force at 2 of 3 proxies", "p3 (AAAAAAAAAA)", "none of the store's 2 replicas", "mind this"] {
            assert!(text.contains(part), "{text}");
        }
    }
}
