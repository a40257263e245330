//! What a login goes through because of others that failed, and what it leaves for those to come.

use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;

use tokio::time::sleep;

use super::Services;
use super::door::Guest;
use super::ending::Record;
use super::refusing::Failure;
use crate::auth::penalty::{Attempt, Penalties, Seat, Seats, Standing};
use crate::auth::{Chain, Recalled};
use crate::model::{Credentials, Ending, Proof, Protocol, Refusal};

/// Who keeps passwords from being guessed, and one client from taking all there is.
pub struct Guards {
    /// What failures cost.
    pub penalties: Penalties,
    /// Sessions by user and address.
    pub seats: Arc<Seats>,
}

/// One try to log in: who tries, and who is asked.
pub(super) struct Try<'a> {
    pub(super) credentials: &'a Credentials,
    pub(super) protocol: Protocol,
    /// The address that counts; `None` if nobody can tell.
    pub(super) client: Option<IpAddr>,
    /// The passdb: the same from the first question to the last, whatever a reload does meanwhile.
    pub(super) chain: Arc<Chain>,
}

impl Try<'_> {
    fn attempt(&self) -> Attempt<'_> {
        let user = self.chain.claimant(self.credentials);
        Attempt { user, client: self.client, proof: &self.credentials.proof }
    }
}

/// The address that counts for a guest; `None` if nobody can tell.
pub(super) fn counted(services: &Services, guest: &Guest) -> Option<IpAddr> {
    services.guards.penalties.counted(guest.client.ip(), guest.origin)
}

/// Waits as long as failures demand. `over` resolves when the connection is. What the fleet remembers of the user is asked
/// for in the same round trip as the failures.
pub(super) async fn wait_out(
    services: &Services,
    tried: &Try<'_>,
    over: Pin<&mut impl Future<Output = Ending>>,
) -> Result<(Standing, Option<Recalled>), Failure> {
    tokio::select! {
        biased;
        why = over => Err(Failure::Over(why)),
        waited = look_and_wait(&services.guards.penalties, tried) => Ok(waited?),
    }
}

async fn look_and_wait(penalties: &Penalties, tried: &Try<'_>) -> Result<(Standing, Option<Recalled>), Refusal> {
    if !penalties.is_watching() {
        return Ok((Standing::default(), None));
    }
    let recall = tried.chain.to_recall(tried.credentials, tried.protocol);
    let (standing, answers) = penalties.look(&tried.attempt(), recall.as_ref()).await;
    if standing.too_fast {
        return Err(Refusal::TooManyLogins);
    }
    if standing.delay.is_zero() {
        let recalled = recall.and_then(|recall| tried.chain.recalled(recall, answers));
        return Ok((standing, recalled));
    }
    let turn = tried.client.map(|client| penalties.queue(client).ok_or(Refusal::TooManyLogins)).transpose()?;
    sleep(standing.delay).await;
    drop(turn);
    Ok((standing, None)) // what was remembered before may be forgotten by now
}

/// Notes how it went, if it was about the password.
pub(super) async fn settle<T>(
    services: &Services,
    tried: &Try<'_>,
    standing: &Standing,
    outcome: &Result<T, Failure>,
    record: &Record,
) {
    let is_guess = match outcome {
        Ok(_) => return services.guards.penalties.succeeded(&tried.attempt(), standing),
        // Who was right here and is refused there has guessed nothing: the fleet is not welcome at that server.
        Err(Failure::Backend(_)) if record.proven => false,
        // Whoever hangs up once the proof has failed has learnt that.
        Err(Failure::Over(_)) if matches!(tried.credentials.proof, Proof::Failed(_)) => true,
        Err(failure) => failure.refusal(record.phase()) == Some(Refusal::BadCredentials),
    };
    if is_guess {
        services.guards.penalties.failed(&tried.attempt(), standing).await;
    }
}

/// A seat for one more session of the user at that address, where they are limited.
pub(super) async fn sit(services: &Services, user: &str, client: Option<IpAddr>) -> Result<Option<Seat>, Refusal> {
    let most = services.limits.load().user_ip_connections;
    let Some(client) = client.filter(|_| most > 0) else { return Ok(None) };
    let prefix = services.guards.penalties.ipv6_prefix();
    let seat = services.guards.seats.take(user, client, prefix, most).await;
    seat.map(Some).ok_or(Refusal::TooManyFromAddress)
}

/// A place among the connections of a client's address, where those are limited.
pub(super) async fn come_in(services: &Services, client: Option<IpAddr>) -> Result<Option<Seat>, Refusal> {
    let most = services.limits.load().address_connections;
    let Guards { penalties, seats } = &services.guards;
    let client = client.filter(|_| most > 0).and_then(|client| penalties.counted(client, None));
    let Some(client) = client else { return Ok(None) };
    let seat = seats.take_connection(client, penalties.ipv6_prefix(), most).await;
    seat.map(Some).ok_or(Refusal::TooManyFromAddress)
}
