//! The storm's witness is put to the test: a violation that is made on purpose must not escape it among all that happens.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::ensure;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use super::fault::Climate;
use super::weather::Weather;
use super::{LATEST, fleet};
use crate::harness::apart::apart;
use crate::harness::crowd::{Dice, Temper, seed};
use crate::harness::wait::heavy;
use crate::harness::{Crowd, Habit, Imap, Result, User};

/// How long this one lasts.
const SPAN: Duration = Duration::from_secs(3);
/// Who is in when it begins, and how many of them somebody takes elsewhere.
const CLIENTS: usize = 20;
const ASTRAY: usize = 3;
/// By then a mail server that was killed or stopped lets people in again.
const PATIENCE: Duration = Duration::from_secs(30);
const ATTEMPT: Duration = Duration::from_secs(1);

/// Logs the user in as a proxy would that believes in another home.
async fn leads_astray(user: User, server: SocketAddr) -> Result<Imap> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let attempt = async {
            let mut imap = Imap::connect(server).await?;
            imap.login(&user).await?;
            Ok::<_, anyhow::Error>(imap)
        };
        if let Ok(Ok(imap)) = timeout(ATTEMPT, attempt).await {
            return Ok(imap);
        }
        ensure!(Instant::now() < deadline, "{server} lets nobody in");
        sleep(ATTEMPT / 20).await; // it was killed or stopped: between two attempts
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_user_whom_somebody_takes_to_other_mail_servers_amid_a_storm_does_not_escape_its_witness() -> Result {
    let _turn = heavy().await;
    apart!(a_user_whom_somebody_takes_to_other_mail_servers_amid_a_storm_does_not_escape_its_witness, async |lan| {
        let climate = Climate { sentinels: false, strict: true };
        let fleet = fleet(lan, climate, None).await?;
        let clients: Vec<_> = fleet.users.iter().take(CLIENTS).map(|user| (user.clone(), Habit::Stays)).collect();
        let temper = Temper { connect: Duration::from_secs(2), answer: Duration::from_secs(6), shut_out: LATEST };
        let mut crowd = Crowd::enter_with(temper, &fleet.doors(), clients, seed());
        crowd.all_in(CLIENTS as i64).await?;
        let before = fleet.witness()?;
        before.swears_one_home()?;

        let victims = fleet.users[..ASTRAY].to_vec();
        let mut leading = JoinSet::new();
        for user in &victims {
            let home = &before.last(&user.name)?.backend;
            for server in fleet.backends.iter().filter(|server| server.name != *home) {
                leading.spawn(leads_astray(user.clone(), server.address));
            }
        }
        let mut weather = Weather::new(fleet, None, climate, Dice::new(seed()));
        weather.rage(SPAN).await?;
        let astray = leading.join_all().await.into_iter().collect::<Result<Vec<_>>>()?;
        ensure!(weather.faults() > 0 && !astray.is_empty(), "that was no storm");
        drop(astray);
        crowd.go_home().await?;

        let witness = weather.fleet.witness()?;
        let victims: BTreeSet<&str> = victims.iter().map(|user| user.name.as_str()).collect();
        let found: BTreeSet<&str> = witness.overlaps().into_iter().map(|(one, _)| one.user.as_str()).collect();
        println!("{}: astray {victims:?}, found {found:?}", weather.summary());
        ensure!(found == victims, "{victims:?} were astray, {found:?} were found");
        ensure!(witness.swears_one_home().is_err(), "the witness swears although it has seen that");
        Ok(())
    })
    .await
}
