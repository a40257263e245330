//! What a login goes through because of others that failed, and what it leaves for those to come.

use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;

use tokio::time::sleep;

use super::Services;
use super::door::Guest;
use super::refusing::Failure;
use crate::auth::penalty::{Attempt, Penalties, Seat, Seats, Standing};
use crate::model::{Credentials, Ending, Phase, Refusal};
use crate::protocol::Announcement;

/// Who keeps passwords from being guessed, and one client from taking all there is.
pub struct Guards {
    /// What failures cost.
    pub penalties: Penalties,
    /// Sessions by user and address.
    pub seats: Arc<Seats>,
}

/// How an exempt client says whom it speaks for, in IMAP's ID.
const ANNOUNCED: &str = "x-originating-ip";

/// The address that counts for a guest; `None` if nobody can tell.
pub(super) fn counted(services: &Services, guest: &Guest, announcement: &Announcement) -> Option<IpAddr> {
    let announced = announcement.client_id.iter().find(|(name, _)| name.eq_ignore_ascii_case(ANNOUNCED));
    let announced = announced.and_then(|(_, value)| value.as_deref()?.trim().parse::<IpAddr>().ok());
    services.guards.penalties.counted(guest.client.ip(), announced.map(|address| address.to_canonical()))
}

/// Waits as long as failures demand. `over` resolves when the connection is.
pub(super) async fn wait_out(
    services: &Services,
    attempt: &Attempt<'_>,
    over: Pin<&mut impl Future<Output = Ending>>,
) -> Result<Standing, Failure> {
    let waited = async {
        let standing = services.guards.penalties.look(attempt).await;
        if standing.too_fast {
            return Err(Refusal::TooManyLogins.into());
        }
        if !standing.delay.is_zero() {
            sleep(standing.delay).await;
        }
        Ok(standing)
    };
    tokio::select! {
        biased;
        why = over => Err(Failure::Over(why)),
        standing = waited => standing,
    }
}

/// Notes how it went, if it was about the password.
pub(super) async fn settle<T>(
    services: &Services,
    attempt: &Attempt<'_>,
    standing: &Standing,
    outcome: &Result<T, Failure>,
    phase: Phase,
) {
    match outcome {
        Ok(_) => services.guards.penalties.succeeded(attempt, standing),
        Err(failure) if failure.refusal(phase) == Some(Refusal::BadCredentials) => {
            services.guards.penalties.failed(attempt).await;
        }
        Err(_) => {}
    }
}

/// Who tries.
pub(super) fn attempt(credentials: &Credentials, client: Option<IpAddr>) -> Attempt<'_> {
    Attempt { user: &credentials.user, client, password: &credentials.password }
}

/// A seat for one more session of the user at that address, where they are limited.
pub(super) async fn sit(services: &Services, user: &str, client: Option<IpAddr>) -> Result<Option<Seat>, Refusal> {
    let most = services.limits.load().user_ip_connections;
    let Some(client) = client.filter(|_| most > 0) else { return Ok(None) };
    let prefix = services.guards.penalties.ipv6_prefix();
    let seat = services.guards.seats.take(user, client, prefix, most).await;
    seat.map(Some).ok_or(Refusal::TooManyFromAddress)
}
