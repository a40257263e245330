//! A client of the TCP protocol.

use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::sync::mpsc::{self, Receiver, Sender};
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use super::many::{PARTS, carry_out};
use super::one::{Errand, Part};
use super::{COMMAND_MAX, Caller, idle};
use crate::config::ListenerTls;
use crate::model::{Ending, Exit, Phase, Refusal};
use crate::net::{Stream, drive, flush};
use crate::protocol::doveadm::{Command, Frontend, FrontendSettings, FrontendWish, Text, reply};
use crate::protocol::{Input, Output};
use crate::session::door::{Door, Guest, LAST_WORDS};
use crate::session::ending::{End, Record};
use crate::session::entry::hops_left;
use crate::session::login::end_of;

/// Commands that the client sends something along with: the text of a mail, of a script.
const WITH_INPUT: [&str; 2] = ["save", "sieve put"];
/// Bytes of that which are read at once.
const INTAKE: usize = 16 * 1024;

/// A client who is let in.
struct Session {
    caller: Caller,
    frontend: Frontend,
    reading: ReadHalf<Stream>,
    writing: WriteHalf<Stream>,
    input: Input,
}

/// Lets the client in, and carries out what it wants.
pub(super) async fn serve(door: &Door, guest: Guest, mut input: Input, deadline: Instant, record: &mut Record) -> End {
    let settings = FrontendSettings {
        starttls: door.listener.tls == ListenerTls::StartTls && !guest.is_secured(),
        line: door.services.limits.load().line.min(COMMAND_MAX),
        command: COMMAND_MAX,
    };
    let mut frontend = Frontend::new(settings);
    let mut out = Output::new();
    let guest = match let_in(door, guest, &mut frontend, &mut input, &mut out, deadline, record).await {
        Ok(guest) => guest,
        Err(end) => return end,
    };
    record.reached(Phase::Relay);
    let Guest { stream, session, client, local, .. } = guest;
    let caller = Caller { services: door.services.clone(), session, client, local };
    let (reading, writing) = tokio::io::split(stream);
    let mut session = Session { caller, frontend, reading, writing, input };
    let end = session.run(door, &mut out).await;
    session.part().await;
    end
}

/// TLS and password.
async fn let_in(
    door: &Door,
    mut guest: Guest,
    frontend: &mut Frontend,
    input: &mut Input,
    out: &mut Output,
    deadline: Instant,
    record: &mut Record,
) -> Result<Guest, End> {
    loop {
        let wish = tokio::select! {
            wish = drive(frontend, &mut guest.stream, input, out) => wish.map_err(end_of),
            why = door.over(deadline) => Err(idle(why)),
        };
        match wish {
            Ok(FrontendWish::StartTls) => {
                guest = tokio::select! {
                    guest = door.encrypt(guest, record) => guest?,
                    why = door.over(deadline) => return Err((why, None)),
                };
                frontend.secured();
            }
            Ok(FrontendWish::Check(password)) if door.services.administration.knows_password(&password) => {
                frontend.welcome(out);
                return Ok(guest);
            }
            Ok(FrontendWish::Check(_)) => {
                record.refusal = Some(Refusal::BadCredentials);
                let violation = frontend.refuse(out);
                let _ = timeout(LAST_WORDS, flush(&mut guest.stream, out)).await; // or the client has gone
                guest.stream.part(LAST_WORDS).await;
                return Err(end_of(violation.into()));
            }
            // The machine does not take commands before that.
            Ok(FrontendWish::Run(_) | FrontendWish::Refuse(_)) => return Err((Ending::ClientFault, None)),
            Err(end) => {
                guest.stream.part(LAST_WORDS).await;
                return Err(end);
            }
        }
    }
}

impl Session {
    /// Commands, one after the other.
    async fn run(&mut self, door: &Door, out: &mut Output) -> End {
        loop {
            let patience = Instant::now() + door.services.limits.load().idle_timeout;
            let mut ends = tokio::io::join(&mut self.reading, &mut self.writing);
            let wish = tokio::select! {
                wish = drive(&mut self.frontend, &mut ends, &mut self.input, out) => wish.map_err(end_of),
                why = door.over(patience) => Err(idle(why)),
            };
            let outcome = match wish {
                Ok(FrontendWish::Run(command)) => self.carry_out(*command).await,
                Ok(FrontendWish::Refuse(fault)) => self.refuse(&fault.to_string(), Exit::USAGE).await,
                // The machine is past that.
                Ok(FrontendWish::StartTls | FrontendWish::Check(_)) => return (Ending::ClientFault, None),
                Err(end) => return end,
            };
            if let Err(error) = outcome {
                return (Ending::ClientLost, Some(error.to_string()));
            }
        }
    }

    async fn carry_out(&mut self, command: Command) -> io::Result<()> {
        let Ok(ttl) = hops_left(&self.caller.session, self.caller.client, command.ttl) else {
            return self.refuse("proxies in a loop: a backend leads back to a proxy", Exit::TEMPORARY).await;
        };
        let (out, parts) = mpsc::channel(PARTS);
        let (feed, intake) = mpsc::channel(1);
        let has_input = WITH_INPUT.contains(&command.known_name().as_str());
        let (gone, leaving) = (CancellationToken::new(), CancellationToken::new());
        let _gone = gone.clone().drop_guard();
        let errand = Errand {
            caller: self.caller.clone(),
            command: Arc::new(command),
            ttl,
            out,
            intake: has_input.then_some(intake),
            gone,
            leaving: leaving.clone(),
        };
        // A task of its own: if the client goes, it still waits until the mail server is done with the mailbox.
        self.caller.services.tasks.spawn(async move {
            let out = errand.out.clone();
            let exit = carry_out(errand).await;
            let _ = out.send(Part::End(exit)).await; // or the client has gone
        });
        let Self { caller, frontend, reading, writing, input } = self;
        let deliver = deliver(parts, writing, frontend, caller.settings().silence);
        if has_input {
            return with_input(deliver, pump(reading, input, feed)).await;
        }
        drop(feed);
        tokio::select! {
            answered = deliver => answered,
            error = watch(reading, input, &leaving) => Err(error),
        }
    }

    async fn refuse(&mut self, text: &str, exit: Exit) -> io::Result<()> {
        let minor = self.frontend.minor();
        let mut words = Vec::new();
        if self.frontend.takes_log() {
            words.extend(reply::framed(minor, reply::LOG, &reply::error_line(text)));
        }
        words.extend(reply::framed(minor, reply::ANSWER, &reply::verdict(exit)));
        send(&mut self.writing, &words, self.caller.settings().silence).await
    }

    async fn part(self) {
        if self.reading.is_pair_of(&self.writing) {
            self.reading.unsplit(self.writing).part(LAST_WORDS).await;
        }
    }
}

/// Passes the answer on as it comes.
async fn deliver(
    mut parts: Receiver<Part>,
    writing: &mut WriteHalf<Stream>,
    frontend: &Frontend,
    patience: Duration,
) -> io::Result<()> {
    let minor = frontend.minor();
    loop {
        let words = match parts.recv().await {
            Some(Part::Output(bytes)) => reply::framed(minor, reply::ANSWER, &bytes),
            Some(Part::Log(bytes)) if frontend.takes_log() => reply::framed(minor, reply::LOG, &bytes),
            Some(Part::Log(_)) => continue,
            Some(Part::End(exit)) => {
                return send(writing, &reply::framed(minor, reply::ANSWER, &reply::verdict(exit)), patience).await;
            }
            // The task was cut off, because the process goes down.
            None => return Err(io::ErrorKind::Interrupted.into()),
        };
        send(writing, &words, patience).await?;
    }
}

async fn send(writing: &mut (impl AsyncWrite + Unpin), words: &[u8], patience: Duration) -> io::Result<()> {
    let sending = async {
        writing.write_all(words).await?;
        writing.flush().await
    };
    timeout(patience, sending).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

/// The answer, while what belongs to the command goes the other way. Once an answer has come before the end of that, the
/// rest cannot be told from commands.
async fn with_input(
    answer: impl Future<Output = io::Result<()>>,
    pump: impl Future<Output = io::Result<()>>,
) -> io::Result<()> {
    let (mut answer, mut pump) = (pin!(answer), pin!(pump));
    tokio::select! {
        sent = pump.as_mut() => {
            sent?;
            answer.await
        }
        answered = answer.as_mut() => answered.and(Err(io::Error::other("answered before its input was whole"))),
    }
}

/// Looks whether the client is still there while it waits for its answer; what it says ahead is kept, as far as there is
/// room. A command may have nothing to say for long, and one for many must not go on for somebody who has interrupted it.
/// Resolves only when the connection has broken.
async fn watch(reading: &mut ReadHalf<Stream>, input: &mut Input, leaving: &CancellationToken) -> io::Error {
    while !input.spare().is_empty() {
        match reading.read(input.spare()).await {
            Ok(0) => {
                leaving.cancel();
                break;
            }
            Ok(count) => input.advance(count),
            Err(error) => return error,
        }
    }
    std::future::pending().await
}

/// Sends on what the client says, up to the line with nothing but a dot.
async fn pump(reading: &mut ReadHalf<Stream>, input: &mut Input, feed: Sender<Vec<u8>>) -> io::Result<()> {
    let mut text = Text::default();
    loop {
        let (taken, is_whole) = text.take(input.filled());
        let bytes = input.filled()[..taken].to_vec();
        input.consume(taken);
        // A mail server that has had enough has answered, and that is heard elsewhere.
        let _ = feed.send(bytes).await;
        if is_whole {
            return Ok(());
        }
        let room = input.spare();
        let most = room.len().min(INTAKE);
        match reading.read(&mut room[..most]).await? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            count => input.advance(count),
        }
    }
}
