//! The tour: the story that homing is about, played and checked.
//!
//! Each act is a function that does something to the site, looks at what came of it, and says whether it is what was
//! promised. An error means that an act could not be played at all; that breaks a promise, too.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::{Context, ensure};
use futures_util::future::try_join_all;
use tokio::time::{Instant, sleep};

use super::PASSWORD;
use super::client::Client;
use super::proxy::Front;
use super::report::{Act, Report};
use super::site::{LEASE, RECOVERY, Site};
use crate::model::{BackendId, Key};
use crate::store::Census;

/// Users who log in; one more comes later.
const USERS: usize = 30;
const NEWCOMER: &str = "newcomer";
/// How late whatever the fleet does by the clock may be on a busy machine.
const SLACK: Duration = Duration::from_secs(15);
/// How much sooner than anybody who waits is whoever need not.
const SOONER: Duration = Duration::from_millis(500);

/// Everybody whom the tour needs an account for.
pub(super) fn users() -> impl Iterator<Item = String> {
    (1..=USERS).map(|number| format!("user{number:02}")).chain([NEWCOMER.to_owned()])
}

/// Plays all acts.
pub(super) async fn play(site: &mut Site) -> Report {
    let mut report = Report::default();
    if let Err(error) = acts(site, &mut report).await {
        report.add(Act { what: "The tour", promised: "goes on".into(), seen: format!("{error:#}"), kept: false });
    }
    report
}

async fn acts(site: &mut Site, report: &mut Report) -> anyhow::Result<()> {
    let (mut first, act) = log_in(site).await.context("first logins")?;
    report.add(act);
    let (mut second, act) = log_in_again(site, &mut first).await.context("second logins")?;
    report.add(act);
    report.add(kill(site, &mut first, &mut second).await.context("after the kill")?);
    report.add(lease_ends(site).await?);
    let mut sessions: Vec<Session> = first.into_iter().chain(second).collect();
    report.add(amnesia(site, &mut sessions).await.context("after the store forgot everything")?);
    report.add(leave(site, sessions).await.context("logouts")?);
    Ok(())
}

/// A user's session.
struct Session {
    user: String,
    /// The proxy it goes through: 0 or 1.
    proxy: usize,
    /// The backend that it reached, as that says itself.
    backend: String,
    client: Client,
}

impl Session {
    /// Logs in through a proxy, with or without TLS, and asks where that leads.
    async fn open(site: &Site, user: &str, proxy: usize, tls: bool) -> anyhow::Result<Self> {
        let Front { imap, imaps, .. } = site.fronts()[proxy];
        let mut client = match tls {
            true => Client::connect(*imaps, Some(site.tls())).await?,
            false => Client::connect(*imap, None).await?,
        };
        client.log_in(user, PASSWORD).await.with_context(|| format!("login of {user}"))?;
        let backend = client.backend().await?;
        Ok(Self { user: user.to_owned(), proxy, backend, client })
    }
}

/// Everybody at once, half through each proxy, every other with TLS.
async fn log_in(site: &Site) -> anyhow::Result<(Vec<Session>, Act)> {
    let logins = users()
        .take(USERS)
        .enumerate()
        .map(|(number, user)| async move { Session::open(site, &user, number % 2, number % 4 < 2).await });
    let sessions = try_join_all(logins).await?;
    let spread = spread(sessions.iter().map(|session| session.backend.as_str()), site);
    let act = Act {
        what: "30 users log in, half of them through each proxy",
        promised: "10 users at each backend".into(),
        kept: spread.iter().all(|&users| users == USERS / 3),
        seen: slashes(&spread),
    };
    Ok((sessions, act))
}

/// Everybody once more, through the other proxy; then all sit in IDLE.
async fn log_in_again(site: &Site, first: &mut [Session]) -> anyhow::Result<(Vec<Session>, Act)> {
    let logins = first.iter().enumerate().map(|(number, session)| async move {
        Session::open(site, &session.user, 1 - session.proxy, number % 2 == 0).await
    });
    let mut second = try_join_all(logins).await?;
    let astray = first.iter().zip(&second).filter(|(one, other)| one.backend != other.backend).count();
    try_join_all(first.iter_mut().chain(&mut second).map(|session| session.client.idle())).await?;
    let shared = at_two_backends(&site.backends().users().await?);
    let act = Act {
        what: "Each logs in again, through the other proxy",
        promised: "at the backend they have; nobody at two".into(),
        kept: astray == 0 && shared == 0,
        seen: format!("{} of {USERS} there; {shared} at two, as the backends say", USERS - astray),
    };
    Ok((second, act))
}

/// Kills proxy one while all are in IDLE; its clients connect to proxy two.
async fn kill(site: &mut Site, first: &mut [Session], second: &mut [Session]) -> anyhow::Result<Act> {
    site.kill_first();
    let site = &*site;
    let killed = Instant::now();
    let cut_off: Vec<_> = first.iter_mut().chain(second).filter(|session| session.proxy == 0).collect();
    let count = cut_off.len();
    let returns = cut_off.into_iter().map(|session| async move {
        session.client.gone().await?;
        let before = std::mem::replace(session, Session::open(site, &session.user, 1, false).await?);
        let back = killed.elapsed();
        session.client.idle().await?;
        anyhow::Ok((before.backend == session.backend, back))
    });
    let returned = try_join_all(returns).await?;
    let same = returned.iter().filter(|(same, _)| *same).count();
    let slowest = returned.iter().map(|(_, back)| *back).max().unwrap_or_default();
    let shared = at_two_backends(&site.backends().users().await?);
    Ok(Act {
        what: "Proxy one is killed while all are in IDLE",
        promised: "its clients are served at once by the other, at the same backend".into(),
        kept: same == count && count == USERS && shared == 0 && slowest < SLACK,
        seen: format!("{same} of {count} there, the last after {} ms", slowest.as_millis()),
    })
}

/// The dead proxy's sessions leave the load when its lease is over.
async fn lease_ends(site: &Site) -> anyhow::Result<Act> {
    let start = Instant::now();
    // The load alone may be right by chance, while the dead one still counts and who came over is not declared yet.
    let exact = |census: &Census| {
        let live = census.proxies.iter().filter(|proxy| !proxy.orphan).count();
        live == 1 && loads(census).iter().all(|&load| load == 2 * USERS / 3)
    };
    let census = census_until(site, LEASE + SLACK, exact).await?;
    Ok(Act {
        what: "The dead proxy's lease ends",
        promised: format!("after {} s the store counts only who is there: 20 / 20 / 20", LEASE.as_secs()),
        kept: exact(&census),
        seen: format!("{}, {:.1} s later", slashes(&loads(&census)), start.elapsed().as_secs_f64()),
    })
}

/// The store forgets everything while 60 sessions are in IDLE.
async fn amnesia(site: &Site, sessions: &mut [Session]) -> anyhow::Result<Act> {
    let before = table(site).await?;
    site.shared().forget().await?;
    let forgotten = Instant::now();
    let timed = |user: &'static str| async move {
        let session = Session::open(site, user, 1, false).await?;
        anyhow::Ok((session, forgotten.elapsed()))
    };
    let ((newcomer, waited), (known, at_once)) = tokio::try_join!(timed(NEWCOMER), timed("user01"))?;
    newcomer.client.log_out().await?;
    known.client.log_out().await?;
    let deadline = Instant::now() + SLACK;
    let mut after = table(site).await?;
    while after != before && Instant::now() < deadline {
        sleep(Duration::from_millis(50)).await;
        after = table(site).await?;
    }
    let alive = try_join_all(sessions.iter_mut().map(|session| async {
        session.client.done().await?;
        anyhow::Ok(session.client.backend().await? == session.backend)
    }));
    let alive = alive.await.context("a session was dropped")?.into_iter().filter(|same| *same).count();
    let rebuilt = after == before;
    let in_window = waited + Duration::from_secs(1) > RECOVERY && waited < RECOVERY + SLACK;
    Ok(Act {
        what: "The store forgets everything, under 60 sessions",
        promised: format!(
            "nobody drops; the table comes back; a new user waits {} s, a known one does not",
            RECOVERY.as_secs()
        ),
        kept: alive == sessions.len() && rebuilt && in_window && at_once + SOONER < waited,
        seen: format!(
            "{alive} live; table {}; the new user waited {:.1} s, the known one {:.1} s",
            if rebuilt { "equal" } else { "differs" },
            waited.as_secs_f64(),
            at_once.as_secs_f64()
        ),
    })
}

/// Everybody logs out.
async fn leave(site: &Site, sessions: Vec<Session>) -> anyhow::Result<Act> {
    try_join_all(sessions.into_iter().map(|session| session.client.log_out())).await?;
    let empty = |census: &Census| loads(census).iter().all(|&load| load == 0);
    let census = census_until(site, SLACK, empty).await?;
    let bound: usize = table(site).await?.values().map(|(_, sessions)| sessions).sum();
    let deadline = Instant::now() + SLACK;
    let mut left = site.backends().users().await?.concat().len();
    while left > 0 && Instant::now() < deadline {
        sleep(Duration::from_millis(50)).await;
        left = site.backends().users().await?.concat().len();
    }
    Ok(Act {
        what: "Everybody logs out",
        promised: "all counts end at zero".into(),
        kept: empty(&census) && bound == 0 && left == 0,
        seen: format!("store: {}; its bindings: {bound}; the backends: {left}", slashes(&loads(&census))),
    })
}

/// Each user's home, and the sessions there that living proxies hold.
async fn table(site: &Site) -> anyhow::Result<BTreeMap<String, (Option<BackendId>, usize)>> {
    let store = site.shared().store();
    let census = store.census(0).await?;
    let living: BTreeSet<_> = census.proxies.iter().filter(|proxy| !proxy.orphan).map(|p| &p.incarnation).collect();
    let mut table = BTreeMap::new();
    for user in users().take(USERS) {
        let binding = store.binding(0, &Key::new(&user)).await?;
        let sessions = binding.iter().flat_map(|binding| &binding.holders);
        let sessions: u32 = sessions.filter(|(holder, _)| living.contains(holder)).map(|(_, count)| count).sum();
        table.insert(user, (binding.and_then(|binding| binding.backend), usize::try_from(sessions)?));
    }
    Ok(table)
}

/// The store's numbers as soon as they are as they should be, or when time is up.
async fn census_until(site: &Site, patience: Duration, right: impl Fn(&Census) -> bool) -> anyhow::Result<Census> {
    let deadline = Instant::now() + patience;
    loop {
        let census = site.shared().store().census(0).await?;
        ensure!(census.backends.len() == 3, "the store has {} backends", census.backends.len());
        if right(&census) || Instant::now() >= deadline {
            return Ok(census);
        }
        sleep(Duration::from_millis(50)).await;
    }
}

fn loads(census: &Census) -> Vec<usize> {
    census.backends.iter().map(|backend| usize::try_from(backend.sessions).unwrap_or(usize::MAX)).collect()
}

/// How many of these are at each backend.
fn spread<'a>(homes: impl Iterator<Item = &'a str>, site: &Site) -> Vec<usize> {
    let homes: Vec<_> = homes.collect();
    let at = |name| homes.iter().filter(|home| **home == name).count();
    site.backends().list().into_iter().map(|(name, _)| at(name)).collect()
}

/// Users who have sessions at more than one backend: there must be none, ever.
pub(super) fn at_two_backends(users: &[Vec<String>]) -> usize {
    let mut homes: BTreeMap<&str, BTreeSet<usize>> = BTreeMap::new();
    for (backend, users) in users.iter().enumerate() {
        for user in users {
            homes.entry(user).or_default().insert(backend);
        }
    }
    homes.values().filter(|backends| backends.len() > 1).count()
}

fn slashes(numbers: &[usize]) -> String {
    numbers.iter().map(usize::to_string).collect::<Vec<_>>().join(" / ")
}
