//! Naming recipients at their backend: the connection, the sender, and an answer for each.

use tokio::sync::Barrier;
use tracing::debug;

use super::leg::Leg;
use super::patience::{Stop, within};
use super::recipient::Delivery;
use super::upstream::Answers;
use super::way::Shared;
use crate::protocol::lmtp::{Mail, Reply, reply};

impl Leg {
    /// Names more recipients there. Gives each one's reply by its number; those that are refused are forgotten.
    pub(super) async fn ask(
        &mut self,
        shared: &Shared<'_>,
        all: &Barrier,
        mail: &Mail,
        more: Vec<Delivery>,
    ) -> Vec<(usize, Reply)> {
        let told = if more.is_empty() { Vec::new() } else { self.name_all(shared, mail, more).await };
        self.await_others(shared.services, all).await;
        told
    }

    async fn name_all(&mut self, shared: &Shared<'_>, mail: &Mail, more: Vec<Delivery>) -> Vec<(usize, Reply)> {
        let known = self.deliveries.len();
        self.deliveries.extend(more);
        let answers = match &self.fate {
            Some(fate) => Err(fate.clone()),
            None => self.name(shared, mail, known).await,
        };
        let asked = self.deliveries.split_off(known);
        let replies: Vec<Reply> = match answers {
            Ok(replies) => replies.into_iter().map(Reply::for_recipient).collect(),
            Err(refusal) => vec![refusal; asked.len()],
        };
        let told: Vec<_> =
            asked.iter().zip(&replies).map(|(delivery, reply)| (delivery.number, reply.clone())).collect();
        for (delivery, reply) in asked.into_iter().zip(replies) {
            if reply.is_good() {
                delivery.prove();
                self.deliveries.push(delivery);
            } else {
                delivery.tell(&shared.announcement, &self.way.server, &reply, 0);
            }
        }
        told
    }

    /// The replies to those behind the first `known`; or the one for all of them.
    async fn name(&mut self, shared: &Shared<'_>, mail: &Mail, known: usize) -> Result<Vec<Reply>, Reply> {
        loop {
            if self.up.is_none() {
                let up = self.way.connect(shared, &self.deliveries).await;
                self.up = Some(up.inspect_err(|refusal| self.end_with(refusal.clone()))?);
            }
            let sender = (!self.has_sender).then_some(mail);
            let stale = self.up.as_ref().is_some_and(|up| up.is_used) && sender.is_some();
            let (Some(mut up), to) = (self.up.take(), &self.deliveries[known..]) else {
                return Err(reply::BACKEND_LOST);
            };
            let answers = within(shared, &self.deliveries, &mut self.doom, up.envelope(sender, to)).await;
            match answers {
                Ok(Answers::Recipients(replies)) => {
                    (self.up, self.has_sender) = (Some(up), true);
                    return Ok(replies);
                }
                Ok(Answers::Sender(refusal)) => {
                    self.up = Some(up);
                    return Err(refusal.for_recipient());
                }
                // It was idle since the last message, and may have been closed: that is no trouble of the backend's.
                Err(Stop::Lost(lost)) if stale => debug!(backend = %self.way.server.id, %lost, "connecting again"),
                Err(stop) => return Err(self.give_up(shared, up, stop)),
            }
        }
    }
}
