//! Whether the ACL user may do all that homing does, tried without doing it: commands queued behind MULTI are checked
//! against the user's rights at once, and DISCARD forgets them.

use std::collections::BTreeSet;

use redis::{Pipeline, RedisResult, Value};

use super::keys::Keys;

/// Every command that homing sends or a script calls. KEY is a key of the shard, CHANNEL a channel of it. What stands
/// behind only has to be of the right number.
const COMMANDS: &[&str] = &[
    // The connection's, and operators' questions.
    "PING",
    "UNWATCH",
    "INFO server",
    "EVALSHA sha 1 KEY",
    "SCRIPT LOAD script",
    "TIME",
    "SCAN 0",
    "WAIT 1 1",
    "SUBSCRIBE CHANNEL",
    "UNSUBSCRIBE CHANNEL",
    // The scripts'.
    "DEL KEY",
    "EXISTS KEY",
    "GET KEY",
    "GETRANGE KEY 0 1",
    "HDEL KEY field",
    "HEXISTS KEY field",
    "HGET KEY field",
    "HGETALL KEY",
    "HINCRBY KEY field 1",
    "HMGET KEY field",
    "HSET KEY field value",
    "INCR KEY",
    "LPUSH KEY value",
    "LRANGE KEY 0 1",
    "LTRIM KEY 0 1",
    "PERSIST KEY",
    "PEXPIRE KEY 1",
    "PSETEX KEY 1 value",
    "PTTL KEY",
    "PUBLISH CHANNEL message",
    "SADD KEY member",
    "SCARD KEY",
    "SETNX KEY value",
    "SISMEMBER KEY member",
    "SMEMBERS KEY",
    "SPOP KEY",
    "SRANDMEMBER KEY",
    "SREM KEY member",
    "SSCAN KEY 0",
    "ZADD KEY 1 member",
    "ZCARD KEY",
    "ZCOUNT KEY 0 1",
    "ZRANGE KEY 0 1",
    "ZRANGEBYSCORE KEY 0 1",
    "ZREM KEY member",
    "ZSCORE KEY member",
];

/// The same for the nodes of a Cluster.
const OF_A_CLUSTER: &[&str] = &["CLUSTER SLOTS", "CLUSTER KEYSLOT KEY"];

/// The trial, but for MULTI itself: that must have been answered with OK, or all this would be done.
pub(super) fn trial(keys: &Keys, cluster: bool) -> Pipeline {
    let mut pipeline = redis::pipe();
    pipeline.ignore_errors();
    for line in commands(cluster) {
        let mut words = line.split(' ');
        pipeline.cmd(words.next().unwrap_or_default());
        for word in words {
            match word {
                "KEY" => pipeline.arg(keys.scratch()),
                "CHANNEL" => pipeline.arg(keys.nudge()),
                word => pipeline.arg(word),
            };
        }
    }
    pipeline.cmd("DISCARD");
    pipeline
}

fn commands(cluster: bool) -> impl Iterator<Item = &'static str> {
    COMMANDS.iter().chain(OF_A_CLUSTER.iter().filter(move |_| cluster)).copied()
}

/// What the user lacks, and the line that grants it; `None` if nothing. `answers` are those to [`trial`].
pub(super) fn missing(
    answers: &[RedisResult<Value>],
    keys: &Keys,
    cluster: bool,
    user: Option<&str>,
) -> Option<String> {
    let mut grants = BTreeSet::new();
    let mut lacks = BTreeSet::new();
    for (line, answer) in commands(cluster).zip(answers) {
        let Err(error) = answer else { continue };
        if error.code() != Some("NOPERM") {
            continue; // out of memory, another node's slot: that is not what is asked here
        }
        let said = error.detail().unwrap_or_default();
        if said.contains("channel") {
            lacks.insert(format!("channels {}", keys.pattern()));
            grants.insert(format!("&{}", keys.pattern()));
        } else if said.contains("keys") || said.contains("a key") {
            lacks.insert(format!("keys {}", keys.pattern()));
            grants.insert(format!("~{}", keys.pattern()));
        } else {
            lacks.insert(name(line).to_uppercase().replace('|', " "));
            grants.insert(format!("+{}", name(line)));
        }
    }
    (!lacks.is_empty()).then(|| {
        let (lacks, grants) = (joined(lacks, ", "), joined(grants, " "));
        refusal(user, &lacks, &grants)
    })
}

/// Who the user is, what they lack, and the line that grants it.
pub(super) fn refusal(user: Option<&str>, lacks: &str, grants: &str) -> String {
    let user = user.unwrap_or("default");
    format!("its user \"{user}\" may not use {lacks}; run there: ACL SETUSER {user} {grants}")
}

/// A command as ACL SETUSER knows it: with its subcommand if it has any.
fn name(line: &str) -> String {
    let mut words = line.split(' ');
    let first = words.next().unwrap_or_default().to_lowercase();
    match (first.as_str(), words.next()) {
        ("script" | "cluster", Some(sub)) => format!("{first}|{}", sub.to_lowercase()),
        _ => first,
    }
}

fn joined(words: BTreeSet<String>, between: &str) -> String {
    words.into_iter().collect::<Vec<_>>().join(between)
}

#[cfg(test)]
mod tests {
    use super::super::scripts::ALL;
    use super::*;

    #[test]
    fn every_command_that_a_script_calls_is_tried() {
        let tried: BTreeSet<String> = commands(false).map(|line| name(line).to_uppercase()).collect();
        for source in ALL {
            for call in source.text.split("call('").skip(1) {
                let command = call.split('\'').next().unwrap_or_default().to_uppercase();
                assert!(tried.contains(&command), "{}: {command} is not in COMMANDS", source.name);
            }
        }
    }
}
