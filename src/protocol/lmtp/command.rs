//! What LMTP clients say (RFC 2033, 5321, 3030, 3207, 3461, 6531), a line at a time. A line is understood or refused as a
//! whole; it must end with CRLF, for a peer that disagrees about line ends may disagree about where a message ends.

use super::address::Mailbox;

/// A command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Command {
    /// The name that the client gives itself.
    Lhlo(String),
    Mail(Mail),
    Rcpt(Rcpt),
    Data,
    Bdat {
        size: u64,
        last: bool,
    },
    Rset,
    Noop,
    Vrfy,
    Quit,
    StartTls,
    /// How many more proxies may follow, if it said.
    Xclient(Option<u32>),
}

/// What is wrong with a command, in itself or where it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    LineEnd,
    Unknown,
    /// HELO or EHLO (RFC 2033 4.1).
    NotLmtp,
    Syntax,
    Sender,
    Recipient,
    Parameter,
    NotAscii,
    NoHello,
    Nested,
    NoSender,
    NoRecipient,
    MidMessage,
    NoTls,
    TooLarge,
    TooManyRecipients,
}

impl Fault {
    /// The client does what no client does; a usual refusal, which any mail may meet, is none.
    pub(super) fn is_the_clients(self) -> bool {
        !matches!(self, Self::TooLarge | Self::TooManyRecipients | Self::NotAscii | Self::NoRecipient)
    }
}

/// MAIL FROM.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mail {
    /// As it stood between the brackets; empty for a bounce.
    pub sender: String,
    /// SIZE, in bytes.
    pub size: Option<u64>,
    /// BODY=8BITMIME or 7BIT, as it was given.
    pub body: Option<&'static str>,
    /// SMTPUTF8 was said.
    pub smtputf8: bool,
    /// RET and ENVID (RFC 3461), as they were given.
    pub dsn: Vec<String>,
}

/// RCPT TO.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rcpt {
    /// The address.
    pub mailbox: Mailbox,
    /// NOTIFY and ORCPT (RFC 3461), as they were given.
    pub dsn: Vec<String>,
}

/// Understands a line, its end included.
pub(super) fn parse(line: &[u8]) -> Result<Command, Fault> {
    let line = line.strip_suffix(b"\r\n").ok_or(Fault::LineEnd)?;
    let line = std::str::from_utf8(line).map_err(|_| Fault::Syntax)?;
    if line.chars().any(|c| c.is_control()) {
        return Err(Fault::Syntax);
    }
    let line = line.trim_end_matches(' ');
    let (verb, rest) = line.split_once(' ').unwrap_or((line, ""));
    let none = |command| if rest.is_empty() { Ok(command) } else { Err(Fault::Syntax) };
    match verb.to_ascii_uppercase().as_str() {
        "LHLO" => lhlo(rest),
        "HELO" | "EHLO" => Err(Fault::NotLmtp),
        "MAIL" => mail(rest),
        "RCPT" => rcpt(rest),
        "DATA" => none(Command::Data),
        "BDAT" => bdat(rest),
        "RSET" => none(Command::Rset),
        "QUIT" => none(Command::Quit),
        "STARTTLS" => none(Command::StartTls),
        "NOOP" => Ok(Command::Noop),
        "VRFY" if !rest.is_empty() => Ok(Command::Vrfy),
        "VRFY" => Err(Fault::Syntax),
        "XCLIENT" => xclient(rest),
        _ => Err(Fault::Unknown),
    }
}

/// Any printable name will do: it is for logs.
fn lhlo(name: &str) -> Result<Command, Fault> {
    let fits = !name.is_empty() && name.len() <= 255 && !name.contains(' ');
    if fits { Ok(Command::Lhlo(name.to_owned())) } else { Err(Fault::Syntax) }
}

fn mail(rest: &str) -> Result<Command, Fault> {
    let (mailbox, rest) = path(rest, "FROM:").ok_or(Fault::Sender)?;
    let mut mail =
        Mail { sender: mailbox.map_or_else(String::new, |path| path.as_given().to_owned()), ..Mail::default() };
    for parameter in parameters(rest)? {
        let (key, value) = parameter.split_once('=').unwrap_or((parameter, ""));
        match key.to_ascii_uppercase().as_str() {
            "SIZE" if mail.size.is_none() => mail.size = Some(number(value).ok_or(Fault::Syntax)?),
            "BODY" if mail.body.is_none() => mail.body = Some(body(value)?),
            "SMTPUTF8" if value.is_empty() => mail.smtputf8 = true,
            "RET" | "ENVID" if is_xtext(value) => mail.dsn.push(parameter.to_owned()),
            "SIZE" | "BODY" | "SMTPUTF8" | "RET" | "ENVID" => return Err(Fault::Syntax),
            _ => return Err(Fault::Parameter),
        }
    }
    if !mail.smtputf8 && !mail.sender.is_ascii() {
        return Err(Fault::NotAscii);
    }
    Ok(Command::Mail(mail))
}

fn rcpt(rest: &str) -> Result<Command, Fault> {
    let (mailbox, rest) = path(rest, "TO:").ok_or(Fault::Recipient)?;
    let mailbox = mailbox.ok_or(Fault::Recipient)?;
    let mut dsn = Vec::new();
    for parameter in parameters(rest)? {
        let (key, value) = parameter.split_once('=').unwrap_or((parameter, ""));
        match key.to_ascii_uppercase().as_str() {
            "NOTIFY" | "ORCPT" if is_xtext(value) => dsn.push(parameter.to_owned()),
            "NOTIFY" | "ORCPT" => return Err(Fault::Syntax),
            _ => return Err(Fault::Parameter),
        }
    }
    Ok(Command::Rcpt(Rcpt { mailbox, dsn }))
}

/// RFC 5321 allows no space behind the colon; many send one.
fn path<'a>(rest: &'a str, word: &str) -> Option<(Option<Mailbox>, &'a str)> {
    let given = rest.get(..word.len())?;
    given.eq_ignore_ascii_case(word).then(|| Mailbox::path(rest[word.len()..].trim_start_matches(' ')))?
}

/// Words behind an address, each after a space.
fn parameters(rest: &str) -> Result<impl Iterator<Item = &str>, Fault> {
    if !rest.is_empty() && !rest.starts_with(' ') {
        return Err(Fault::Syntax);
    }
    Ok(rest.split(' ').filter(|word| !word.is_empty()))
}

/// BINARYMIME (RFC 3030) is not offered: a backend that lacks it could not be given such a message.
fn body(value: &str) -> Result<&'static str, Fault> {
    match value.to_ascii_uppercase().as_str() {
        "7BIT" => Ok("7BIT"),
        "8BITMIME" => Ok("8BITMIME"),
        _ => Err(Fault::Parameter),
    }
}

fn bdat(rest: &str) -> Result<Command, Fault> {
    let (size, last) = rest.split_once(' ').unwrap_or((rest, ""));
    let last = match last {
        "" => false,
        last if last.eq_ignore_ascii_case("LAST") => true,
        _ => return Err(Fault::Syntax),
    };
    Ok(Command::Bdat { size: number(size).ok_or(Fault::Syntax)?, last })
}

/// Of its attributes only the loop guard is believed.
fn xclient(rest: &str) -> Result<Command, Fault> {
    if rest.is_empty() {
        return Err(Fault::Syntax);
    }
    let mut ttl = None;
    for attribute in rest.split(' ').filter(|word| !word.is_empty()) {
        let (name, value) = attribute.split_once('=').ok_or(Fault::Syntax)?;
        if name.eq_ignore_ascii_case("TTL") {
            ttl = Some(value.parse().map_err(|_| Fault::Syntax)?);
        }
    }
    Ok(Command::Xclient(ttl))
}

/// RFC 1870: up to 20 digits, of which we can count those that fit.
fn number(text: &str) -> Option<u64> {
    let sound = (1..=20).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
    sound.then(|| text.parse().unwrap_or(u64::MAX))
}

/// RFC 3461 section 4, and the comma of NOTIFY and the semicolon of ORCPT, which xtext holds as well.
fn is_xtext(text: &str) -> bool {
    (1..=1000).contains(&text.len()) && text.chars().all(|c| !c.is_whitespace() && !c.is_control())
}
