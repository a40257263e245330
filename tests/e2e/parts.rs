//! The harness itself, against real servers without a proxy between: what it reports can be relied on.

use std::time::Duration;

use anyhow::ensure;

use crate::harness::crowd::seed;
use crate::harness::dovecot::{DovecotOptions, MASTER};
use crate::harness::redis::Keep;
use crate::harness::wait::eventually;
use crate::harness::{
    Authority, Crowd, Dovecot, HaProxy, Habit, Imap, MailStore, Redis, Result, Status, User, Witness, Workdir,
};

async fn dovecots(dir: &Workdir, users: &[User], count: usize) -> Result<Vec<Dovecot>> {
    let store = MailStore::new(dir.path(), users)?;
    let mut backends = Vec::new();
    for n in 1..=count {
        backends.push(Dovecot::start(dir.path(), &format!("mail{n}"), &store, DovecotOptions::default()).await?);
    }
    Ok(backends)
}

#[tokio::test]
async fn the_witness_sees_a_user_who_is_on_two_backends_at_once() -> Result {
    let (dir, users) = (Workdir::new()?, User::first(2));
    let backends = dovecots(&dir, &users, 2).await?;
    let first = backends[0].log_in(&users[0]).await?;
    let other = backends[0].log_in(&users[1]).await?;
    let second = backends[1].log_in(&users[0]).await?;
    other.logout().await?;
    eventually("one session has ended", Duration::from_secs(60), async || {
        let witness = Witness::hear(&backends)?;
        let open: i64 = witness.open().values().sum();
        ensure!(open == 2 && witness.visits.len() == 3, "{witness:?}");
        Ok(())
    })
    .await?;
    let witness = Witness::hear(&backends)?;
    ensure!(witness.overlaps().len() == 1, "{:?}", witness.overlaps());
    ensure!(witness.overlaps()[0].0.user == users[0].name);
    ensure!(witness.swears_one_home().is_err());
    ensure!(witness.moved() == 1);
    drop((first, second));
    Ok(())
}

#[tokio::test]
async fn the_witness_sees_no_fault_in_a_user_who_leaves_one_backend_before_entering_the_next() -> Result {
    let (dir, users) = (Workdir::new()?, User::first(1));
    let backends = dovecots(&dir, &users, 2).await?;
    for round in 0..10 {
        let backend = &backends[round % 2];
        let mut imap = backend.log_in(&users[0]).await?;
        ensure!(imap.backend().await? == backend.name);
        imap.append("INBOX", "Subject: one\r\n\r\nbody\r\n").await?;
        imap.logout().await?;
        eventually("the session has ended", Duration::from_secs(60), async || {
            let witness = Witness::hear(&backends)?;
            ensure!(witness.visits.len() == round + 1 && witness.open().is_empty(), "{witness:?}");
            Ok(())
        })
        .await?;
    }
    Witness::hear(&backends)?.swears_one_home()
}

#[tokio::test]
async fn a_crowd_at_one_backend_loses_nothing_and_nobody() -> Result {
    let (dir, users) = (Workdir::new()?, User::first(30));
    let mut backends = dovecots(&dir, &users, 1).await?;
    let who = users.iter().map(|user| (user.clone(), Habit::Stays));
    let mut crowd = Crowd::enter(&[backends[0].address], who, seed());
    crowd.all_in(30).await?;
    // Killed in the midst of a SELECT, Dovecot would leave locks behind that it honours for minutes.
    crowd.rest(30).await?;
    backends[0].kill();
    backends[0].launch().await?;
    crowd.rest(30).await?;
    crowd.wake();
    let story = crowd.go_home().await?;
    println!("{}", story.summary());
    let losses: Vec<_> = story.diaries.iter().flat_map(|diary| &diary.losses).collect();
    ensure!(losses.len() == 30 && story.total(|diary| diary.logins) == 60, "{losses:?}");
    story.mail_is_whole(&backends[0], &users).await
}

#[tokio::test]
async fn a_killed_dovecot_leaves_no_session_behind() -> Result {
    let (dir, users) = (Workdir::new()?, User::first(1));
    let mut backends = dovecots(&dir, &users, 1).await?;
    let mut imap = backends[0].log_in(&users[0]).await?;
    eventually("the login is in the log", Duration::from_secs(60), async || {
        ensure!(Witness::hear(&backends)?.open().len() == 1);
        Ok(())
    })
    .await?;
    backends[0].kill();
    imap.lost().await?;
    ensure!(Imap::dial(backends[0].address).await.is_err());
    // It had no time to say so: its death is the session's end.
    let witness = Witness::hear(&backends)?;
    ensure!(witness.open().is_empty() && witness.visits.len() == 1, "{witness:?}");
    backends[0].launch().await?;
    let _second = backends[0].log_in(&users[0]).await?;
    eventually("the next session goes on", Duration::from_secs(60), async || {
        let witness = Witness::hear(&backends)?;
        ensure!(witness.open().len() == 1 && witness.visits.len() == 2, "{witness:?}");
        Ok(())
    })
    .await?;
    Ok(())
}

#[tokio::test]
async fn dovecot_speaks_tls_and_knows_the_master_user() -> Result {
    let (dir, users) = (Workdir::new()?, User::first(1));
    let store = MailStore::new(dir.path(), &users)?;
    let authority = Authority::new(dir.path(), "ca")?;
    let issued = authority.issue(&["mail.test"])?;
    let options = DovecotOptions { tls: Some(&issued), ..DovecotOptions::default() };
    let backend = Dovecot::start(dir.path(), "mail1", &store, options).await?;
    let client = authority.client()?;
    let mut imap = Imap::connect_tls(backend.tls_address, "mail.test", &client).await?;
    let master = User { name: format!("{}*{}", users[0].name, MASTER.0), password: MASTER.1.to_owned() };
    imap.login(&master).await?;
    imap.logout().await?;
    let mut imap = Imap::connect(backend.address).await?.starttls("mail.test", &client).await?;
    imap.login(&users[0]).await?;
    ensure!(Imap::connect_tls(backend.tls_address, "other.test", &client).await.is_err());
    Ok(())
}

#[tokio::test]
async fn haproxy_announces_the_client_to_dovecot() -> Result {
    let (dir, users) = (Workdir::new()?, User::first(1));
    let backends = dovecots(&dir, &users, 1).await?;
    let haproxy = HaProxy::start(dir.path(), &[backends[0].proxied_address]).await?;
    let client = crate::harness::address::fresh_ip();
    let mut imap = Imap::connect_from(client, haproxy.address).await?;
    imap.login(&users[0]).await?;
    let visit = eventually("the login is in the log", Duration::from_secs(60), async || {
        Ok(Witness::hear(&backends)?.last(&users[0].name)?.clone())
    })
    .await?;
    ensure!(visit.field("rip") == Some(&client.to_string()), "{visit:?}");
    ensure!(visit.field("rport") == Some(&imap.local_address()?.port().to_string()), "{visit:?}");
    Ok(())
}

#[tokio::test]
async fn a_durable_redis_remembers_and_another_forgets() -> Result {
    for (keep, expected) in [(Keep::Everything, 1), (Keep::Nothing, 0)] {
        let dir = Workdir::new()?;
        let mut redis = Redis::start(dir.path(), keep).await?;
        let mut connection = redis.connect().await?;
        let _: () = redis::cmd("HSET").arg("{homing:0}:load").arg("mail1").arg(3).query_async(&mut connection).await?;
        ensure!(redis.load().await?.get("mail1") == Some(&3));
        ensure!(redis.calls("hset").await? == 1);
        redis.kill();
        redis.launch().await?;
        ensure!(redis.keys().await?.len() == expected, "{keep:?}");
    }
    Ok(())
}

#[tokio::test]
async fn a_refused_login_costs_no_time_and_keeps_the_connection() -> Result {
    let (dir, users) = (Workdir::new()?, User::first(1));
    let backends = dovecots(&dir, &users, 1).await?;
    let wrong = User { password: "wrong".into(), ..users[0].clone() };
    let mut spans = Vec::new();
    for _ in 0..5 {
        let mut imap = Imap::connect(backends[0].address).await?;
        let begun = std::time::Instant::now();
        ensure!(imap.try_login(&wrong).await?.status == Status::No);
        spans.push(begun.elapsed());
        imap.login(&users[0]).await?;
    }
    // Dovecot would make each of them wait for 2 s; this machine may be busy, but not every time.
    ensure!(spans.iter().any(|span| *span < Duration::from_millis(1500)), "{spans:?}");
    Ok(())
}
