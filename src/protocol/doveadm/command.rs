//! One command, as a line of the TCP protocol says it.

use super::{MINOR_EXTRA_FIELDS, normal};

/// The extra field that says how many more proxies may follow.
pub const PROXY_TTL: &str = "proxy-ttl";

/// One command for one server.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Command {
    /// How much shall be logged.
    pub flags: Flags,
    /// Extra fields, as they came, without the TTL.
    pub extra: Vec<Vec<u8>>,
    /// How many more proxies may follow, if a proxy has said so.
    pub ttl: Option<u32>,
    /// For whom, by name. Empty for a command that is about nobody, or that tells in its arguments.
    pub user: String,
    /// What: "quota get".
    pub name: String,
    /// With what.
    pub arguments: Vec<Vec<u8>>,
}

/// `D` and `v`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flags {
    /// Log everything.
    pub debug: bool,
    /// Log more.
    pub verbose: bool,
}

/// Whom a command is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Aim {
    /// Nobody is named.
    Nobody,
    /// One user.
    User(String),
    /// All whose names fit; `*` for everybody.
    Mask(String),
}

/// A line that is no command, or one that cannot be carried out here; the text is for whoever sent it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct NotForUs(pub &'static str);

impl Command {
    /// Reads a line, without its end.
    pub fn parse(line: &[u8]) -> Result<Self, NotForUs> {
        let mut fields = line.split(|byte| *byte == b'\t').map(unescape);
        let mut command = Self::default();
        let mut has_extra = false;
        for flag in fields.next().unwrap_or_default() {
            match flag {
                b'D' => command.flags = Flags { debug: true, verbose: true },
                b'v' => command.flags.verbose = true,
                b'x' => has_extra = true,
                _ => return Err(NotForUs("a flag is none of D, v and x")),
            }
        }
        if has_extra {
            command.take_extra(&fields.next().unwrap_or_default());
        }
        command.user = text(fields.next(), "the user is not UTF-8")?;
        command.name = text(fields.next(), "the command is not UTF-8")?;
        command.arguments = fields.collect();
        if command.name.is_empty() { Err(NotForUs("no command is given")) } else { Ok(command) }
    }

    fn take_extra(&mut self, fields: &[u8]) {
        for field in fields.split(|byte| *byte == b'\t').map(unescape) {
            let ttl = field.strip_prefix(PROXY_TTL.as_bytes()).and_then(|rest| rest.strip_prefix(b"="));
            match ttl {
                // What cannot be read is no permission to go on for ever.
                Some(ttl) => {
                    self.ttl = Some(std::str::from_utf8(ttl).ok().and_then(|ttl| ttl.parse().ok()).unwrap_or(0))
                }
                None if field.is_empty() => {}
                None => self.extra.push(field),
            }
        }
    }

    /// The line for a server that speaks this minor version, with its end.
    pub fn line(&self, minor: u32, ttl: u32) -> Vec<u8> {
        let mut line = Vec::new();
        line.extend(if self.flags.debug { &b"D"[..] } else { b"" });
        line.extend(if self.flags.verbose && !self.flags.debug { &b"v"[..] } else { b"" });
        if minor >= MINOR_EXTRA_FIELDS {
            line.extend(b"x\t");
            let own = format!("{PROXY_TTL}={ttl}").into_bytes();
            let all: Vec<Vec<u8>> = [own].iter().chain(&self.extra).map(|field| escape(field)).collect();
            line.extend(escape(&all.join(&b'\t')));
        }
        for field in
            [self.user.as_bytes(), self.name.as_bytes()].into_iter().chain(self.arguments.iter().map(Vec::as_slice))
        {
            line.push(b'\t');
            line.extend(escape(field));
        }
        line.push(b'\n');
        line
    }

    /// The name by which the command's [`kind`](super::kind) is known. doveadm takes both words in one field or in two.
    pub fn known_name(&self) -> String {
        let next = self.arguments.first().and_then(|next| std::str::from_utf8(next).ok());
        let next = next.filter(|next| !next.starts_with('-') && !self.name.contains(' '));
        match next.map(|next| normal(&format!("{} {next}", self.name))) {
            Some(both) if both == "mailbox mutf7" => both,
            _ => normal(&self.name),
        }
    }

    /// Whom it is about, and the command without those of its arguments that say so. A name in the user's field is just
    /// that: who has a mask says it by `-u`, which then stands alone. Dovecot's own clients look for the users themselves,
    /// and send a command for each, with the `-A`, `-u` or `-F` that they were given: it has the server put the user's name
    /// before each row, so for all three an `-A` is left. `separator`: what stands between a user's name and a master's.
    pub fn aim(mut self, separator: Option<char>) -> Result<(Aim, Self), NotForUs> {
        let mut aim = Aim::Nobody;
        let mut kept = Vec::with_capacity(self.arguments.len());
        let mut arguments = std::mem::take(&mut self.arguments).into_iter();
        while let Some(argument) = arguments.next() {
            let aimed = match argument.as_slice() {
                b"--" => {
                    kept.push(argument);
                    kept.extend(arguments.by_ref());
                    continue;
                }
                b"-A" | b"--all-users" => Aim::Mask("*".to_owned()),
                b"-u" | b"--user" => named(arguments.next(), separator)?,
                b"-F" | b"--user-file" if self.user.is_empty() => {
                    return Err(NotForUs("-F names a file, which must be read where the command is given"));
                }
                b"-F" | b"--user-file" => {
                    arguments.next();
                    Aim::Mask("*".to_owned())
                }
                _ => {
                    kept.push(argument);
                    continue;
                }
            };
            if matches!(aimed, Aim::Mask(_)) {
                kept.push(b"-A".to_vec());
            }
            aim = aimed;
        }
        self.arguments = kept;
        let aim = if self.user.is_empty() { aim } else { Aim::User(without_master(&self.user, separator).to_owned()) };
        Ok((aim, self))
    }
}

impl Aim {
    /// What `-u` or the HTTP API's `user` means: a mask before all, so `*` never separates a master here.
    pub fn of(name: String, separator: Option<char>) -> Self {
        match name {
            name if name.is_empty() => Self::Nobody,
            mask if mask.contains(['*', '?']) => Self::Mask(mask),
            name => Self::User(without_master(&name, separator).to_owned()),
        }
    }
}

/// `user*master` is the user: whoever administers needs no master.
fn without_master(name: &str, separator: Option<char>) -> &str {
    let parts = separator.and_then(|separator| name.split_once(separator));
    parts.map(|(user, _)| user).filter(|user| !user.is_empty()).unwrap_or(name)
}

fn named(name: Option<Vec<u8>>, separator: Option<char>) -> Result<Aim, NotForUs> {
    text(name, "the user is not UTF-8").map(|name| Aim::of(name, separator))
}

fn text(field: Option<Vec<u8>>, fault: &'static str) -> Result<String, NotForUs> {
    String::from_utf8(field.unwrap_or_default()).map_err(|_| NotForUs(fault))
}

/// Dovecot's escaping: a field may hold neither tab nor end of line.
pub fn escape(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    for byte in text {
        match byte {
            0 => out.extend(b"\x010"),
            1 => out.extend(b"\x011"),
            b'\t' => out.extend(b"\x01t"),
            b'\r' => out.extend(b"\x01r"),
            b'\n' => out.extend(b"\x01n"),
            other => out.push(*other),
        }
    }
    out
}

/// The reverse. What was never escaped so is taken as it is.
pub fn unescape(field: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(field.len());
    let mut bytes = field.iter();
    while let Some(byte) = bytes.next() {
        out.push(match byte {
            1 => match bytes.next() {
                Some(b'0') => 0,
                Some(b'1') => 1,
                Some(b't') => b'\t',
                Some(b'r') => b'\r',
                Some(b'n') => b'\n',
                Some(other) => *other,
                None => break,
            },
            other => *other,
        });
    }
    out
}
