//! One connection to a built-in server, greeting to close.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use tokio::net::TcpStream;

use super::command::{Argument, Command, Malformed};
use super::mail::Account;
use super::message::quote;
use super::wire::{Read, Wire};
use super::{Entered, Live, Shared};

mod folder;

use folder::Folder;

const BEFORE_LOGIN: &str = "IMAP4rev1 LITERAL+ SASL-IR ID IDLE AUTH=PLAIN";
const AFTER_LOGIN: &str = "IMAP4rev1 LITERAL+ ID IDLE UIDPLUS UNSELECT";
/// How long a peer may take for its next command before login, and after it (RFC 3501 5.4: at least 30 min).
const PATIENCE: Duration = Duration::from_secs(60);
const LOGGED_IN_PATIENCE: Duration = Duration::from_secs(31 * 60);
/// Commands that could not be understood before the connection is closed.
const FAULTS: u32 = 20;

/// The text of an OK, or why not.
type Verdict = Result<String, Refused>;

enum Refused {
    No(&'static str),
    Bad(&'static str),
    Broken(io::Error),
}

impl From<io::Error> for Refused {
    fn from(error: io::Error) -> Self {
        Self::Broken(error)
    }
}

/// One connection.
pub(super) struct Session {
    shared: Arc<Shared>,
    wire: Wire,
    /// Untagged answers that have not been sent.
    out: Vec<u8>,
    id: Option<Announced>,
    user: Option<LoggedIn>,
    folder: Option<Folder>,
}

/// What the first ID said about the true client.
#[derive(Clone, Default)]
struct Announced {
    client: String,
    session: String,
}

struct LoggedIn {
    account: Arc<Account>,
    _entered: Entered,
}

impl Session {
    pub(super) fn new(stream: TcpStream, shared: Arc<Shared>) -> Self {
        let wire = Wire::new(stream, PATIENCE);
        Self { shared, wire, out: Vec::new(), id: None, user: None, folder: None }
    }

    pub(super) async fn run(mut self) -> io::Result<()> {
        let greeting =
            format!("* OK [CAPABILITY {BEFORE_LOGIN}] {} of the homing demo is ready.\r\n", self.shared.name);
        self.wire.send(greeting.as_bytes()).await?;
        let mut faults = 0;
        while faults < FAULTS {
            let bytes = match self.wire.command().await? {
                Read::Command(bytes) => bytes,
                Read::TooLong => return self.wire.send(b"* BYE That was too long.\r\n").await,
                Read::End => return Ok(()),
            };
            match Command::parse(&bytes) {
                Ok(command) => {
                    let last = command.verb == "LOGOUT";
                    faults += u32::from(!self.obey(command).await?);
                    if last {
                        return Ok(());
                    }
                }
                Err(Malformed(tag)) => {
                    faults += 1;
                    let answer = format!("{} BAD That is not a command.\r\n", tag.as_deref().unwrap_or("*"));
                    self.wire.send(answer.as_bytes()).await?;
                }
            }
        }
        self.wire.send(b"* BYE Too many commands that make no sense.\r\n").await
    }

    /// Answers one command; false if it made no sense.
    async fn obey(&mut self, command: Command) -> io::Result<bool> {
        let verdict = match self.act(&command).await {
            Err(Refused::Broken(error)) => return Err(error),
            Err(Refused::No(text)) => format!("NO {text}"),
            Err(Refused::Bad(text)) => format!("BAD {text}"),
            Ok(text) => format!("OK {text}"),
        };
        self.say(&format!("{} {verdict}", command.tag));
        self.flush().await?;
        Ok(!verdict.starts_with("BAD"))
    }

    async fn act(&mut self, command: &Command) -> Verdict {
        let arguments = &command.arguments[..];
        match (command.verb.as_str(), self.user.is_some()) {
            ("CAPABILITY", logged_in) => {
                self.say(&format!("* CAPABILITY {}", if logged_in { AFTER_LOGIN } else { BEFORE_LOGIN }));
                Ok("Done.".to_owned())
            }
            ("NOOP" | "CHECK", _) => {
                self.sync();
                Ok(format!("This is {}.", self.shared.name))
            }
            ("LOGOUT", _) => {
                self.say(&format!("* BYE {} says goodbye.", self.shared.name));
                Ok("Done.".to_owned())
            }
            ("ID", _) => self.identify(arguments),
            ("LOGIN", false) => match arguments {
                [user, password] => self.log_in(user.text(), bytes(password)),
                _ => Err(Refused::Bad("LOGIN takes a user and a password.")),
            },
            ("AUTHENTICATE", false) => self.authenticate(arguments).await,
            ("LOGIN" | "AUTHENTICATE", true) => Err(Refused::Bad("You are logged in.")),
            (_, false) => Err(Refused::Bad("Log in first.")),
            (verb, true) => self.act_logged_in(verb, arguments).await,
        }
    }

    async fn act_logged_in(&mut self, verb: &str, arguments: &[Argument]) -> Verdict {
        match verb {
            "LIST" | "LSUB" => self.list(verb, arguments),
            "SELECT" | "EXAMINE" => self.select(arguments, verb == "EXAMINE"),
            "STATUS" => self.status(arguments),
            "APPEND" => self.append(arguments),
            "SUBSCRIBE" | "UNSUBSCRIBE" => named_inbox(arguments.first()).map(|()| "Done.".to_owned()),
            "IDLE" => self.idle().await,
            "CLOSE" | "UNSELECT" => {
                let folder = self.folder.take().ok_or(Refused::Bad("Nothing is selected."))?;
                if verb == "CLOSE" {
                    folder.expunge(None);
                }
                Ok("Done.".to_owned())
            }
            "CREATE" | "DELETE" | "RENAME" | "COPY" | "UID COPY" => Err(Refused::No("There is only INBOX here.")),
            _ => {
                let folder = self.folder.as_mut().ok_or(Refused::Bad("Unknown here, or nothing is selected."))?;
                folder.act(verb, arguments, &mut self.out)
            }
        }
    }

    /// RFC 2971. Only the first ID of a connection can announce a client; all are told which backend this is.
    fn identify(&mut self, arguments: &[Argument]) -> Verdict {
        let pairs = match arguments {
            [Argument::List(pairs)] => &pairs[..],
            [Argument::Atom(nil)] if nil.eq_ignore_ascii_case("NIL") => &[],
            _ => return Err(Refused::Bad("ID takes NIL or a list of pairs.")),
        };
        if self.id.is_none() {
            let value = |wanted: &str| {
                let mut pairs = pairs.chunks_exact(2);
                let pair = pairs.find(|pair| pair[0].text().is_some_and(|name| name.eq_ignore_ascii_case(wanted)));
                pair.and_then(|pair| pair[1].text()).unwrap_or_default().chars().take(200).collect::<String>()
            };
            self.id = Some(Announced { client: value("x-originating-ip"), session: value("x-session-id") });
        }
        let Announced { client, session } = self.id.clone().unwrap_or_default();
        let answer = format!(
            "* ID (\"name\" \"homing demo\" \"backend\" {} \"client\" {} \"session\" {})",
            quote(&self.shared.name),
            quote(&client),
            quote(&session)
        );
        self.say(&answer);
        Ok("Done.".to_owned())
    }

    fn log_in(&mut self, user: Option<&str>, password: &[u8]) -> Verdict {
        let account = user
            .and_then(|user| self.shared.mail.log_in(user, password))
            .ok_or(Refused::No("[AUTHENTICATIONFAILED] Wrong user or password."))?;
        let Announced { client, session } = self.id.clone().unwrap_or_default();
        let entered = self.shared.enter(Live { user: account.user.clone(), client, session });
        self.user = Some(LoggedIn { account, _entered: entered });
        self.wire.set_patience(LOGGED_IN_PATIENCE);
        Ok(format!("[CAPABILITY {AFTER_LOGIN}] You are logged in at {}.", self.shared.name))
    }

    /// AUTHENTICATE PLAIN (RFC 4616), with (RFC 4959) or without initial response.
    async fn authenticate(&mut self, arguments: &[Argument]) -> Verdict {
        let (mechanism, initial) = match arguments {
            [mechanism] => (mechanism, None),
            [mechanism, initial] => (mechanism, initial.text()),
            _ => return Err(Refused::Bad("AUTHENTICATE takes a mechanism.")),
        };
        if !mechanism.text().is_some_and(|name| name.eq_ignore_ascii_case("PLAIN")) {
            return Err(Refused::No("Only PLAIN is known here."));
        }
        let response = match initial {
            Some(initial) => initial.as_bytes().to_vec(),
            None => {
                self.wire.send(b"+ \r\n").await?;
                match self.wire.line().await? {
                    Read::Command(line) => line,
                    Read::TooLong | Read::End => return Err(Refused::Broken(io::ErrorKind::UnexpectedEof.into())),
                }
            }
        };
        let decoded = BASE64_STANDARD.decode(response).map_err(|_| Refused::Bad("That is not base64."))?;
        let mut parts = decoded.split(|&byte| byte == 0);
        match (parts.next(), parts.next(), parts.next(), parts.next()) {
            (Some(other), Some(user), Some(password), None) if other.is_empty() || other == user => {
                self.log_in(std::str::from_utf8(user).ok(), password)
            }
            _ => Err(Refused::No("[AUTHENTICATIONFAILED] Wrong user or password.")),
        }
    }

    fn list(&mut self, verb: &str, arguments: &[Argument]) -> Verdict {
        let [Some(reference), Some(pattern)] =
            [arguments.first(), arguments.get(1)].map(|a| a.and_then(Argument::text))
        else {
            return Err(Refused::Bad("LIST takes a reference and a pattern."));
        };
        if pattern.is_empty() {
            self.say(&format!("* {verb} (\\Noselect) \"/\" \"\""));
        } else if matches(format!("{reference}{pattern}").to_ascii_uppercase().as_bytes(), b"INBOX") {
            self.say(&format!("* {verb} (\\HasNoChildren) \"/\" INBOX"));
        }
        Ok("Done.".to_owned())
    }

    fn select(&mut self, arguments: &[Argument], read_only: bool) -> Verdict {
        self.folder = None; // RFC 3501 6.3.1: also if this fails
        named_inbox(arguments.first())?;
        let folder = Folder::open(self.account()?, read_only, &mut self.out);
        self.folder = Some(folder);
        Ok(format!("[{}] Done.", if read_only { "READ-ONLY" } else { "READ-WRITE" }))
    }

    fn status(&mut self, arguments: &[Argument]) -> Verdict {
        let [name, Argument::List(items)] = arguments else {
            return Err(Refused::Bad("STATUS takes a mailbox and a list."));
        };
        named_inbox(Some(name))?;
        let account = self.account()?;
        let status = folder::status(&account, items).ok_or(Refused::Bad("An unknown status item."))?;
        self.say(&format!("* STATUS INBOX ({status})"));
        Ok("Done.".to_owned())
    }

    fn append(&mut self, arguments: &[Argument]) -> Verdict {
        named_inbox(arguments.first())?;
        let account = self.account()?;
        let uid = folder::append(&account, arguments.get(1..).unwrap_or_default())?;
        self.sync();
        Ok(format!("[APPENDUID {} {uid}] Kept, for all backends to see.", folder::UID_VALIDITY))
    }

    /// RFC 2177: tells of new mail until the client says DONE.
    async fn idle(&mut self) -> Verdict {
        self.say("+ idling");
        let mut changes = self.account()?.changes();
        loop {
            self.sync();
            self.flush().await?;
            tokio::select! {
                // Fails only if the account went away, which it does not before this session.
                _ = changes.changed() => {}
                line = self.wire.line() => return match line? {
                    Read::Command(line) if line.eq_ignore_ascii_case(b"DONE") => Ok(format!("This was {}.", self.shared.name)),
                    Read::Command(_) | Read::TooLong => Err(Refused::Bad("Only DONE ends IDLE.")),
                    Read::End => Err(Refused::Broken(io::ErrorKind::UnexpectedEof.into())),
                },
            }
        }
    }

    fn account(&self) -> Result<Arc<Account>, Refused> {
        self.user.as_ref().map(|user| user.account.clone()).ok_or(Refused::Bad("Log in first."))
    }

    /// Tells what came and went in the selected mailbox.
    fn sync(&mut self) {
        if let Some(folder) = &mut self.folder {
            folder.sync(&mut self.out);
        }
    }

    fn say(&mut self, line: &str) {
        self.out.extend_from_slice(line.as_bytes());
        self.out.extend_from_slice(b"\r\n");
    }

    async fn flush(&mut self) -> io::Result<()> {
        let out = std::mem::take(&mut self.out);
        self.wire.send(&out).await
    }
}

fn bytes(argument: &Argument) -> &[u8] {
    match argument {
        Argument::Atom(atom) => atom.as_bytes(),
        Argument::Text(text) => text,
        Argument::List(_) => b"",
    }
}

fn named_inbox(name: Option<&Argument>) -> Result<(), Refused> {
    let name = name.and_then(Argument::text).ok_or(Refused::Bad("A mailbox name is missing."))?;
    if name.eq_ignore_ascii_case("INBOX") { Ok(()) } else { Err(Refused::No("[TRYCREATE] There is only INBOX here.")) }
}

/// Whether a LIST pattern, in which `*` and `%` stand for anything (INBOX has no hierarchy), matches a name. Goes back
/// to the last wildcard alone, so that a long pattern costs no more than its length times the name's.
fn matches(pattern: &[u8], name: &[u8]) -> bool {
    let (mut p, mut n, mut retry) = (0, 0, None);
    while n < name.len() {
        match pattern.get(p) {
            Some(b'*' | b'%') => {
                p += 1;
                retry = Some((p, n));
            }
            Some(byte) if *byte == name[n] => (p, n) = (p + 1, n + 1),
            _ => match retry {
                Some((after, from)) => {
                    retry = Some((after, from + 1));
                    (p, n) = (after, from + 1);
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|byte| matches!(byte, b'*' | b'%'))
}
