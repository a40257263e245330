//! Backends that misbehave: what clients hear, how long they wait, and what is counted meanwhile.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::ensure;
use tokio::sync::{Notify, mpsc};

use crate::harness::fleet::merge;
use crate::harness::imap::Answer;
use crate::harness::scripted::{GREETING, Peer, Scripted};
use crate::harness::{Fleet, Imap, Result, Status, eventually};

/// A fleet of one proxy whose only backend, `mail1`, plays a script.
async fn before<F, Fut>(script: F) -> Result<(Fleet, Scripted)>
where
    F: Fn(usize, Peer) -> Fut + Send + 'static,
    Fut: Future<Output = Result> + Send + 'static,
{
    let scripted = Scripted::start(script).await?;
    let mut fleet = Fleet::plan().backends(0).start_without_proxies().await?;
    let (host, port) = (scripted.address.ip(), scripted.address.port());
    let entry = format!(
        "[backend.mail1]\nhost = \"{host}\"\nport = {port}\nlogin_timeout = \"2s\"\nretry_budget = \"3s\"\n\
         probe = false\n\
         [limits]\nclose_timeout = \"1s\"\n"
    );
    let entry: toml::Table = entry.parse()?;
    fleet.reconfigure(|config| merge(config, entry.clone()))?;
    fleet.proxies[0].start().await?;
    Ok((fleet, scripted))
}

/// Logs the first user in; the answer may be any.
async fn attempt(fleet: &Fleet) -> Result<(Imap, Answer)> {
    let mut imap = Imap::connect(fleet.proxy().address()).await?;
    let answer = imap.try_login(&fleet.users[0]).await?;
    Ok((imap, answer))
}

async fn counted(fleet: &Fleet, sessions: i64) -> Result {
    eventually(&format!("{sessions} sessions are counted"), Duration::from_secs(60), async || {
        let now = fleet.redis.sessions().await?;
        ensure!(now == sessions, "{now}");
        fleet.redis.audit().await
    })
    .await
}

#[tokio::test]
async fn backends_that_fail_before_the_login_are_unavailable_to_the_client_and_not_counted() -> Result {
    // Each opens with something that is no use, and then keeps quiet.
    let openings = [
        "",
        "HTTP/1.1 400 Bad Request\r\n\r\n",
        "* BYE too busy\r\n",
        "* NO not today\r\n",
        "* OK [CAPABILITY IMAP4rev1 LOGINDISABLED] no passwords here\r\n",
        "220 mail ESMTP\r\n",
        "\u{0}\u{1}\u{2}\r\n",
    ];
    for opening in openings.map(str::to_owned).into_iter().chain([format!("* OK {}", "x".repeat(1_000_000))]) {
        let shown: String = opening.chars().take(40).collect();
        let (fleet, scripted) = before(move |_, mut peer| {
            let opening = opening.clone();
            async move {
                peer.say(&opening).await?;
                peer.is_closed_in_order().await;
                Ok(())
            }
        })
        .await?;
        let begun = Instant::now();
        let (_imap, answer) = attempt(&fleet).await?;
        ensure!(answer.status == Status::No && answer.text.starts_with("[UNAVAILABLE]"), "{shown:?}: {answer:?}");
        ensure!(begun.elapsed() < Duration::from_secs(25), "{shown:?}: {:?}", begun.elapsed());
        ensure!(scripted.connections() > 0);
        counted(&fleet, 0).await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_backend_that_hangs_up_once_is_tried_again() -> Result {
    let (fleet, scripted) = before(|number, mut peer| async move {
        match number {
            0 => Ok(()),
            1 => peer.say(GREETING).await,
            2 => peer.until_login().await.map(drop),
            _ => {
                let tag = peer.until_login().await?;
                peer.say(&format!("{tag} OK [CAPABILITY IMAP4rev1] at last\r\n")).await?;
                peer.is_closed_in_order().await;
                Ok(())
            }
        }
    })
    .await?;
    let (_imap, answer) = attempt(&fleet).await?;
    ensure!(answer.status == Status::Ok && answer.text.ends_with("at last"), "{answer:?}");
    ensure!(scripted.connections() == 4, "{}", scripted.connections());
    counted(&fleet, 1).await
}

#[tokio::test]
async fn a_backend_that_speaks_byte_by_byte_is_understood_and_its_last_bytes_arrive() -> Result {
    let (fleet, _scripted) = before(|_, mut peer| async move {
        let tag = peer.until_login().await?;
        peer.spell(&format!("* CAPABILITY IMAP4rev1 IDLE\r\n{tag} OK done\r\n* 3 EXISTS\r\n* BYE that was all\r\n"))
            .await
    })
    .await?;
    let (mut imap, answer) = attempt(&fleet).await?;
    ensure!(answer.status == Status::Ok, "{answer:?}");
    let told = format!("{:?} {}", answer.untagged, answer.text);
    ensure!(told.contains("CAPABILITY IMAP4rev1 IDLE"), "the backend's capabilities are lost: {told}");
    let rest = String::from_utf8_lossy(&imap.read_to_end().await?).into_owned();
    ensure!(rest == "* 3 EXISTS\r\n* BYE that was all\r\n", "{rest:?}");
    counted(&fleet, 0).await
}

#[tokio::test]
async fn what_a_backend_says_in_one_packet_with_its_ok_reaches_the_client() -> Result {
    let (fleet, _scripted) = before(|_, mut peer| async move {
        let tag = peer.until_login().await?;
        peer.say(&format!("{tag} OK [CAPABILITY IMAP4rev1] in\r\n* OK [ALERT] full soon\r\n* 1 RECENT\r\n")).await?;
        peer.is_closed_in_order().await;
        Ok(())
    })
    .await?;
    let (mut imap, answer) = attempt(&fleet).await?;
    ensure!(answer.status == Status::Ok, "{answer:?}");
    ensure!(imap.line().await? == "* OK [ALERT] full soon");
    ensure!(imap.line().await? == "* 1 RECENT");
    Ok(())
}

#[tokio::test]
async fn a_temporary_refusal_of_the_backend_is_passed_on_in_its_words() -> Result {
    let (fleet, _scripted) = before(|_, mut peer| async move {
        let tag = peer.until_login().await?;
        peer.say(&format!("{tag} NO [INUSE] mailbox is being packed\r\n")).await?;
        peer.is_closed_in_order().await;
        Ok(())
    })
    .await?;
    let (_imap, answer) = attempt(&fleet).await?;
    ensure!(answer.status == Status::No && answer.text == "[INUSE] mailbox is being packed", "{answer:?}");
    counted(&fleet, 0).await
}

#[tokio::test]
async fn i1_a_session_is_counted_until_its_backend_has_closed() -> Result {
    let close = Arc::new(Notify::new());
    let closing = Arc::clone(&close);
    let (fleet, _scripted) = before(move |_, mut peer| {
        let close = Arc::clone(&closing);
        async move {
            let tag = peer.until_login().await?;
            peer.say(&format!("{tag} OK [CAPABILITY IMAP4rev1] in\r\n")).await?;
            // The client is gone; this server is still writing its indexes.
            peer.is_closed_in_order().await;
            close.notified().await;
            Ok(())
        }
    })
    .await?;
    fleet.reconfigure(|config| merge(config, "[limits]\nclose_timeout = \"60s\"".parse().unwrap()))?;
    ensure!(fleet.proxy().admin(&["reload"]).await?.status.success());
    for resets in [false, true] {
        let (imap, answer) = attempt(&fleet).await?;
        answer.ok()?;
        counted(&fleet, 1).await?;
        if resets {
            imap.reset()?
        } else {
            drop(imap)
        }
        // Longer than any batch or heartbeat takes.
        tokio::time::sleep(Duration::from_secs(1)).await;
        ensure!(fleet.redis.sessions().await? == 1, "let go before the backend did, the client resets: {resets}");
        close.notify_one();
        counted(&fleet, 0).await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_backend_that_never_closes_is_reset_after_close_timeout() -> Result {
    let (report, mut reports) = mpsc::unbounded_channel();
    let (fleet, _scripted) = before(move |_, mut peer| {
        let report = report.clone();
        async move {
            let tag = peer.until_login().await?;
            peer.say(&format!("{tag} OK [CAPABILITY IMAP4rev1] in\r\n")).await?;
            peer.is_closed_in_order().await;
            // The end of what we may read has come; a reset shows when we go on writing.
            loop {
                tokio::time::sleep(Duration::from_millis(20)).await;
                if peer.say("* OK still here\r\n").await.is_err() {
                    report.send(Instant::now())?;
                    return Ok(());
                }
            }
        }
    })
    .await?;
    let (imap, answer) = attempt(&fleet).await?;
    answer.ok()?;
    let left = Instant::now();
    drop(imap);
    let reset = tokio::time::timeout(Duration::from_secs(60), reports.recv()).await?;
    let after = reset.map(|at| at - left).unwrap_or_default();
    ensure!(after > Duration::from_millis(900) && after < Duration::from_secs(30), "reset after {after:?}");
    counted(&fleet, 0).await
}
