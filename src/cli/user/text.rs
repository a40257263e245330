//! What people are told about users.

use std::time::{Duration, SystemTime};

use super::super::count;
use super::super::status::{for_people, table};
use crate::admin::wire::{Explained, History, Holder, Home, Marked, Marks, Moved, Whereabouts};

pub(super) fn whereabouts(answer: &Whereabouts) -> String {
    let mut lines = vec![match &answer.home {
        Some(home) => format!("{} is at home on {}", answer.key, home_text(home)),
        None => format!("{} is not bound: the next login is placed", answer.key),
    }];
    lines.extend(marks(&answer.marks));
    lines.join("\n")
}

fn home_text(home: &Home) -> String {
    match home.idle_s {
        Some(seconds) => format!("{} (generation {}), idle for {seconds} s", home.backend, home.generation),
        None => format!(
            "{} (generation {}), {}: {}",
            home.backend,
            home.generation,
            sessions(home.sessions),
            home.holders.iter().map(at).collect::<Vec<_>>().join(", ")
        ),
    }
}

fn at(holder: &Holder) -> String {
    let orphan = if holder.orphan_ms.is_some() { ", an orphan" } else { "" };
    format!("{} at {}{orphan}", holder.sessions, proxy(holder))
}

fn proxy(holder: &Holder) -> &str {
    holder.proxy.as_deref().unwrap_or(&holder.incarnation)
}

fn sessions(number: u32) -> String {
    count(number.into(), "session")
}

fn marks(marks: &Marks) -> Vec<String> {
    let mut lines = Vec::new();
    if let Some(pin) = &marks.pin {
        lines.push(format!("pinned to {pin}"));
    }
    match marks.hold_ms {
        Some(0) => lines.push("held until it is released".to_owned()),
        Some(ms) => lines.push(format!("held for {} more", for_people(ms.div_ceil(1000)))),
        None => {}
    }
    if let (Some(proxy), Some(ms)) = (&marks.locked_by, marks.locked_ms) {
        let left = for_people(ms.div_ceil(1000));
        lines.push(format!(
            "locked by {proxy} for a migration or a confirmed move; if that breaks off, for {left} more"
        ));
    }
    if let (Some(to), Some(left)) = (&marks.moving, marks.moving_left_ms) {
        let hook = marks.hook.as_deref().filter(|hook| *hook != "none");
        let hook = hook.map_or_else(String::new, |hook| format!(", its hook is {hook}"));
        lines.push(format!("being moved {to}, given up in {} s{hook}", left.div_ceil(1000)));
    }
    lines
}

pub(super) fn moved(moved: &Moved) -> String {
    let (key, home) = (&moved.key, moved.home.as_deref().unwrap_or("nowhere"));
    let head = match (moved.end.as_str(), &moved.from) {
        ("done", Some(from)) if from == home => format!("{key} is at home on {home} already"),
        ("done", Some(from)) => format!("{key} has been moved from {from} to {home}"),
        ("done", None) => format!("{key} is at home on {home} now"),
        ("begun", _) => format!("{key} is being moved; see how far it is with: homing user explain {key}"),
        ("cancelled", _) => format!("{key} has NOT been moved: {}", why(moved)),
        _ => format!("nobody knows whether {key} has been moved: {}", why(moved)),
    };
    with_details(head, moved)
}

pub(super) fn kicked(moved: &Moved) -> String {
    let head = match moved.end.as_str() {
        "done" if moved.proxies == 0 => format!("{} has no session to end", moved.key),
        "done" => format!("{} has been kicked", moved.key),
        "begun" => format!("{} is being kicked", moved.key),
        "cancelled" => format!("{} has NOT been kicked everywhere: {}", moved.key, why(moved)),
        _ => format!("nobody knows whether {} has been kicked: {}", moved.key, why(moved)),
    };
    with_details(head, moved)
}

fn why(moved: &Moved) -> &str {
    moved.why.as_deref().unwrap_or("no reason was given")
}

fn with_details(head: String, moved: &Moved) -> String {
    let Moved { confirmed, proxies, closed, ms, .. } = moved;
    if *proxies == 0 {
        return head; // nobody had to be asked
    }
    let mut lines = vec![head];
    let plural = if *proxies == 1 { "proxy" } else { "proxies" };
    lines.push(format!("{confirmed} of {proxies} {plural} confirmed, {} closed, {ms} ms", sessions(*closed)));
    let backend = moved.from.as_deref().unwrap_or("the backend");
    match moved.backend_let_go {
        Some(true) => lines.push(format!("{backend} itself has no process of the user any more")),
        Some(false) => lines.push(format!("{backend} itself was not heard to have let go of the user: {}", why(moved))),
        None => {}
    }
    lines.extend(moved.left.iter().map(left));
    lines.join("\n")
}

/// Somebody who has not confirmed, and what can be done about it.
fn left(holder: &Holder) -> String {
    let name = proxy(holder);
    match holder.orphan_ms {
        None => format!("{name}: {}", sessions(holder.sessions)),
        Some(ms) => format!(
            "{name}: {}; orphan {name}, freed at {}, or: homing proxy forget {name}",
            sessions(holder.sessions),
            clock(SystemTime::now() + Duration::from_millis(ms))
        ),
    }
}

/// Hours and minutes, in UTC.
fn clock(at: SystemTime) -> String {
    let seconds = at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
    format!("{:02}:{:02} UTC", seconds / 3600 % 24, seconds / 60 % 60)
}

pub(super) fn held(marked: &Marked) -> String {
    let left: u32 = marked.holders.iter().map(|holder| holder.sessions).sum();
    let mut lines = vec![if left == 0 {
        format!("{} is held, and has no session", marked.key)
    } else {
        let at = marked.holders.iter().map(at).collect::<Vec<_>>().join(", ");
        format!("{} is held, but not out yet: {} ({at}); end them with --kick", marked.key, sessions(left))
    }];
    lines.extend(marked.moved.as_ref().map(kicked));
    lines.join("\n")
}

pub(super) fn released(marked: &Marked) -> String {
    format!("{} can log in again", marked.key)
}

pub(super) fn pinned(marked: &Marked, backend: &str) -> String {
    let mut lines = vec![match &marked.home {
        Some(home) if home != backend && marked.moved.is_none() => {
            format!("{} is pinned to {backend}, and stays on {home} until the last session has ended", marked.key)
        }
        _ => format!("{} is pinned to {backend}", marked.key),
    }];
    lines.extend(marked.moved.as_ref().map(moved));
    lines.join("\n")
}

pub(super) fn unpinned(marked: &Marked) -> String {
    match &marked.home {
        Some(home) => format!("{} is not pinned; the home is {home}", marked.key),
        None => format!("{} is not pinned, and not bound: the next login is placed", marked.key),
    }
}

pub(super) fn explained(answer: &Explained) -> String {
    let mut lines = vec![format!("{} makes the key {}, of shard {}", answer.name, answer.key, answer.shard)];
    lines.push(match &answer.home {
        Some(home) => format!("at home on {}, since {}", home_text(home), for_people(answer.age_ms / 1000)),
        None => "not bound".to_owned(),
    });
    lines.extend(marks(&answer.marks));
    lines.push(match (answer.next.as_str(), &answer.next_backend) {
        ("goes", Some(backend)) => format!("a login would go to {backend}: {}", answer.why),
        ("waits", _) => format!("a login would wait: {}", answer.why),
        _ => format!("a login would get a temporary failure: {}", answer.why),
    });
    let mut candidates = table(&["candidate", "sessions", "users", "share", "load"], &[1, 2, 3, 4]);
    for candidate in &answer.candidates {
        candidates.add_row([
            candidate.backend.clone(),
            candidate.sessions.to_string(),
            candidate.users.to_string(),
            format!("{:.0} %", candidate.share_percent),
            format!("{:.2}", candidate.load_per_share),
        ]);
    }
    lines.push(candidates.to_string());
    lines.join("\n")
}

pub(super) fn history(answer: &History) -> String {
    if answer.home.is_none() && answer.past.is_empty() {
        return format!("{} has had no home, as far as the fleet remembers", answer.key);
    }
    let mut homes = table(&["home", "began", "ended", "why it ended"], &[]);
    if let Some(home) = &answer.home {
        homes.add_row([home.backend.clone(), ago(answer.age_ms), String::new(), String::new()]);
    }
    for past in &answer.past {
        homes.add_row([past.backend.clone(), ago(past.began_ms_ago), ago(past.ended_ms_ago), past.why.clone()]);
    }
    format!("{}\n{homes}", answer.key)
}

fn ago(ms: u64) -> String {
    format!("{} ago", for_people(ms / 1000))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_orphan_is_named_with_the_time_when_it_is_freed_and_the_way_to_do_it_now() {
        let at = |seconds| clock(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds));
        assert_eq!(at(14 * 3600 + 2 * 60 + 59), "14:02 UTC");
        assert_eq!(at(86_400 + 60), "00:01 UTC");
        let orphan = |orphan_ms| Holder { proxy: Some("P3".into()), incarnation: "i".into(), sessions: 1, orphan_ms };
        assert_eq!(left(&orphan(None)), "P3: 1 session");
        let text = left(&orphan(Some(1)));
        assert!(
            text.starts_with("P3: 1 session; orphan P3, freed at ") && text.ends_with("homing proxy forget P3"),
            "{text}"
        );
    }
}
