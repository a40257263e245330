//! A command of the HTTP API for one user, at home; or at one server, whoever it is about.

use std::sync::Arc;

use hyper::body::Bytes;
use tokio::sync::mpsc::{self, Receiver, Sender};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::home::{self, Home, cut_off};
use super::many::{PARTS, Share};
use super::{Caller, Trouble};
use crate::backend::Server;
use crate::doveadm::{Calling, Doveadm, Portion};
use crate::model::{BackendId, Exit};
use crate::protocol::doveadm::ApiCall;

/// A part of an answer.
#[derive(Debug)]
pub(super) enum Said {
    /// Of the result.
    Result(Bytes),
    /// It is over.
    End(Result<(), Failure>),
}

/// A command that failed: the kind of failure in Dovecot's words, and our own why, if there is one.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) kind: String,
    pub(super) exit: Exit,
    pub(super) why: Option<String>,
}

/// What is under way.
#[derive(Clone)]
pub(super) struct Call {
    pub(super) caller: Caller,
    pub(super) call: Arc<ApiCall>,
    /// How many more proxies may follow.
    pub(super) ttl: u32,
    /// Cancelled when the client has gone.
    pub(super) gone: CancellationToken,
}

impl From<Trouble> for Failure {
    fn from(Trouble { exit, text }: Trouble) -> Self {
        Self { kind: "exitCode".to_owned(), exit, why: Some(text) }
    }
}

impl Call {
    /// In a task of its own, which, if the client goes, still waits until the mail server is done with the mailbox.
    pub(super) fn begin(&self, share: Share) -> Receiver<Said> {
        let (out, parts) = mpsc::channel(PARTS);
        let call = self.clone();
        self.caller.services.tasks.spawn(async move {
            let end = call.share(&share, &out).await;
            let _ = out.send(Said::End(end)).await; // or nobody listens
        });
        parts
    }

    async fn share(&self, share: &Share, out: &Sender<Said>) -> Result<(), Failure> {
        let began = Instant::now();
        let mut backend = None;
        let (user, outcome) = match share {
            Share::User(user) => (Some(user.as_str()), self.at_home(user, out, &mut backend).await),
            Share::Server(server) => {
                backend = Some(server.id.clone());
                (None, self.converse(server, self.call.body(None), None, out).await)
            }
        };
        let exit = outcome.as_ref().map_or_else(|failure| failure.exit, |()| Exit::DONE);
        self.caller.tell(&self.call.known_name(), user, backend.as_ref(), began, exit);
        outcome
    }

    async fn at_home(&self, user: &str, out: &Sender<Said>, backend: &mut Option<BackendId>) -> Result<(), Failure> {
        let grant = home::look_up(&self.caller, user).await?;
        let home: Home = home::find(&self.caller, &grant).await?;
        *backend = Some(home.server.id.clone());
        self.converse(&home.server, self.call.body(Some(grant.home_name())), Some(&home), out).await?;
        home.prove();
        Ok(())
    }

    /// One connection, up to the server's end of it: only then it is done with the mailbox.
    async fn converse(
        &self,
        server: &Server,
        body: Vec<u8>,
        home: Option<&Home>,
        out: &Sender<Said>,
    ) -> Result<(), Failure> {
        let road = self.caller.services.administration.road(server, true)?;
        let mut cut_off = std::pin::pin!(cut_off(&self.caller, home, &self.gone));
        let mut calling = tokio::select! {
            biased;
            trouble = cut_off.as_mut() => return Err(trouble.into()),
            calling = road.call(body, self.ttl) => calling.map_err(Trouble::from)?,
        };
        let outcome = tokio::select! {
            biased;
            trouble = cut_off => Err(trouble.into()),
            outcome = self.pass_on(&road, &mut calling, out) => outcome,
        };
        calling.part(self.caller.services.limits.load().close_timeout).await;
        outcome
    }

    async fn pass_on(&self, road: &Doveadm, calling: &mut Calling, out: &Sender<Said>) -> Result<(), Failure> {
        let silence = self.caller.settings().silence;
        loop {
            match road.portion(calling, silence).await.map_err(Trouble::from)? {
                Portion::Result(bytes) => {
                    let sent = out.send(Said::Result(bytes)).await;
                    sent.map_err(|_| Trouble::temporary("the client has gone"))?;
                }
                Portion::End(end) => return end.map_err(|(kind, exit)| Failure { kind, exit, why: None }),
            }
        }
    }
}
