//! What sort of command it is: by its name alone.

/// Who can carry a command out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The server where the user is at home. Also what has a name that is not known here: plugins bring commands.
    OfUser,
    /// Every server, each for what it has: `who` and `kick`.
    OfAll,
    /// Any server, for all of them know the users: `user`.
    OfAny,
    /// It concerns one machine, and must be given there.
    OfMachine,
}

/// Commands about a server and not about a user, by their first words.
const OF_MACHINE: [&str; 22] = [
    "auth",
    "config",
    "director",
    "dump",
    "exec",
    "fs",
    "help",
    "instance",
    "log",
    "oldstats",
    "penalty",
    "process",
    "proxy",
    "pw",
    "reload",
    "replicator",
    "service",
    "sis",
    "stats",
    "stop",
    "zlibconnect",
    "mailbox mutf7",
];

/// The kind of a command that is named as [`normal`] says.
pub fn kind(name: &str) -> Kind {
    let begins = |words: &str| name.strip_prefix(words).is_some_and(|rest| rest.is_empty() || rest.starts_with(' '));
    match name {
        "who" | "kick" => Kind::OfAll,
        "user" => Kind::OfAny,
        _ if OF_MACHINE.iter().any(|words| begins(words)) => Kind::OfMachine,
        _ => Kind::OfUser,
    }
}

/// The one spelling of a name: "quota get" for `quotaGet`, `quota-get` and `quota get`, all of which Dovecot takes.
pub fn normal(name: &str) -> String {
    let mut out = String::with_capacity(name.len() + 4);
    for c in name.chars() {
        match c {
            '-' | ' ' | '_' => out.push(' '),
            c if c.is_ascii_uppercase() => {
                out.push(' ');
                out.push(c.to_ascii_lowercase());
            }
            c => out.push(c),
        }
    }
    out.split_ascii_whitespace().collect::<Vec<_>>().join(" ")
}
