//! A command for one user, at home; or at one server, whoever it is about.

use std::sync::Arc;

use tokio::sync::mpsc::{Receiver, Sender};
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use super::home::{self, Home, cut_off};
use super::{Caller, Trouble};
use crate::backend::Server;
use crate::doveadm::{Doveadm, Piece, Running};
use crate::model::{BackendId, Exit};
use crate::protocol::doveadm::{Command, Verdict, reply};

/// A part of what the client is told.
#[derive(Debug)]
pub(super) enum Part {
    /// Of the answer.
    Output(Vec<u8>),
    /// Of what is logged.
    Log(Vec<u8>),
    /// The answer is over.
    End(Exit),
}

/// What is under way.
pub(super) struct Errand {
    pub(super) caller: Caller,
    pub(super) command: Arc<Command>,
    /// How many more proxies may follow.
    pub(super) ttl: u32,
    /// Who listens.
    pub(super) out: Sender<Part>,
    /// What the client sends along.
    pub(super) intake: Option<Receiver<Vec<u8>>>,
    /// Cancelled when the client has gone.
    pub(super) gone: CancellationToken,
    /// Cancelled when the client says nothing more: it may still listen, or has been interrupted. Nobody else's turn comes
    /// then.
    pub(super) leaving: CancellationToken,
}

impl Errand {
    /// For a user: looked up, brought home, and followed where the home says that the user is elsewhere.
    pub(super) async fn for_user(mut self, user: &str) -> Exit {
        let began = Instant::now();
        let mut backend = None;
        let outcome = self.at_home(user, &mut backend).await;
        self.finish(outcome, Some(user), backend.as_ref(), began).await
    }

    /// At a server, whoever is at home there.
    pub(super) async fn at(mut self, server: &Server) -> Exit {
        let began = Instant::now();
        let outcome = self.at_server(server).await;
        self.finish(outcome, None, Some(&server.id), began).await
    }

    async fn finish(
        &self,
        outcome: Result<Exit, Trouble>,
        user: Option<&str>,
        backend: Option<&BackendId>,
        began: Instant,
    ) -> Exit {
        let exit = match outcome {
            Ok(exit) => exit,
            Err(Trouble { exit, text }) => {
                let whom = user.or(backend.map(BackendId::as_str)).unwrap_or_default();
                // Who has gone need not be told.
                let _ = self.out.send(Part::Log(reply::error_line(&format!("{whom}: {text}")))).await;
                exit
            }
        };
        self.caller.tell(&self.command.known_name(), user, backend, began, exit);
        exit
    }

    async fn at_home(&mut self, user: &str, backend: &mut Option<BackendId>) -> Result<Exit, Trouble> {
        let mut grant = home::look_up(&self.caller, user).await?;
        for _ in 0..=self.caller.services.limits.load().max_referrals {
            let home = home::find(&self.caller, &grant).await?;
            *backend = Some(home.server.id.clone());
            let road = self.caller.services.administration.road(&home.server, false)?;
            let command = Command { user: grant.home_name().to_owned(), ..Command::clone(&self.command) };
            match self.converse(&road, &command, Some(&home)).await? {
                Verdict::Exit(exit) => {
                    if exit.is_done() {
                        home.prove();
                    }
                    return Ok(exit);
                }
                Verdict::Referral(referral) => home::follow(&self.caller, &mut grant, referral)?,
            }
        }
        Err(Trouble::temporary("referred once too often; see limits.max_referrals"))
    }

    async fn at_server(&mut self, server: &Server) -> Result<Exit, Trouble> {
        let road = self.caller.services.administration.road(server, false)?;
        let command = self.command.clone();
        match self.converse(&road, &command, None).await? {
            Verdict::Exit(exit) => Ok(exit),
            Verdict::Referral(_) => Err(Trouble::temporary("it refers to another server")),
        }
    }

    /// One connection, up to the server's end of it: only then it is done with the mailbox.
    async fn converse(&mut self, road: &Doveadm, command: &Command, home: Option<&Home>) -> Result<Verdict, Trouble> {
        let (caller, gone) = (self.caller.clone(), self.gone.clone());
        let mut cut_off = std::pin::pin!(cut_off(&caller, home, &gone));
        let mut running = tokio::select! {
            biased;
            trouble = cut_off.as_mut() => return Err(trouble),
            running = road.start(command, self.ttl) => running?,
        };
        let outcome = tokio::select! {
            biased;
            trouble = cut_off => Err(trouble),
            outcome = self.pass_on(road, &mut running) => outcome,
        };
        running.part(caller.services.limits.load().close_timeout).await;
        outcome
    }

    async fn pass_on(&mut self, road: &Doveadm, running: &mut Running) -> Result<Verdict, Trouble> {
        let silence = self.caller.settings().silence;
        let gone = |_| Trouble::temporary("the client has gone");
        let mut has_said = false;
        loop {
            let piece = tokio::select! {
                Some(bytes) = fed(&mut self.intake) => {
                    // A server that has heard enough says so; its answer is read next. One that takes nothing has
                    // half of what it was sent, which must not go on with a gap.
                    let fed = timeout(silence, running.feed(&bytes)).await;
                    fed.map(drop).map_err(|_| Trouble::temporary("the backend does not take what is sent to it"))?;
                    continue;
                }
                piece = road.next(running, silence) => piece?,
            };
            match piece {
                Piece::Output(bytes) => {
                    has_said = true;
                    self.out.send(Part::Output(bytes)).await.map_err(gone)?;
                }
                Piece::Log(bytes) => self.out.send(Part::Log(bytes)).await.map_err(gone)?,
                Piece::End(Verdict::Referral(_)) if has_said => {
                    return Err(Trouble::temporary("the backend refers the user after it has begun to answer"));
                }
                Piece::End(verdict) => return Ok(verdict),
            }
        }
    }
}

/// What the client sends along, if there is such a thing; `None` when that is over.
async fn fed(intake: &mut Option<Receiver<Vec<u8>>>) -> Option<Vec<u8>> {
    match intake {
        Some(intake) => intake.recv().await,
        None => None,
    }
}
