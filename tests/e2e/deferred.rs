//! Mail that cannot be delivered now stays with the MTA, is brought again, and is there once.

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use serde_json::Value;

use crate::harness::fleet::merge;
use crate::harness::letter::{letter, stuffed};
use crate::harness::wire::{Mode, Wire};
use crate::harness::{Dialect, Fleet, MailStore, Postfix, Protocol, Result, Smtp, User, eventually};

/// Users log in without a domain, and mail comes with one.
const ONE_KEY: &str = "[fleet]\naffinity_key = \"{local}\"\n[moves]\nkick_delay = \"200ms\"\n";

/// Twice as long as Postfix ever leaves a message alone.
const DRAINED: Duration = Duration::from_secs(120);

/// A fleet whose first mail server is at the other end of a wire, and whose users have no home yet. No probe says that it
/// cannot be reached.
async fn by_wire() -> Result<(Fleet, Wire)> {
    let plan = Fleet::plan().backends(2).protocols(&[Protocol::Lmtp]).config(ONE_KEY);
    let mut fleet = plan.start_without_proxies().await?;
    let wire = Wire::to(fleet.backends[0].serves.lmtp.plain).await?;
    let (host, port) = (wire.address.ip(), wire.address.port());
    let more = format!("[backend.mail1]\nhost = \"{host}\"\nlmtp_port = {port}\nprobe = false\n");
    let more: toml::Table = more.parse()?;
    fleet.reconfigure(|config| merge(config, more.clone()))?;
    fleet.proxies[0].start().await?;
    Ok((fleet, wire))
}

/// Runs `homing user ...`.
async fn order(fleet: &Fleet, arguments: &[&str]) -> Result<Value> {
    let output = fleet.proxy().admin(&[&["user"], arguments, &["--json"]].concat()).await?;
    ensure!(output.status.success(), "{arguments:?}: {output:?}");
    Ok(serde_json::from_slice(&output.stdout)?)
}

/// Waits until the store counts so many sessions of a user.
async fn counts(fleet: &Fleet, user: &User, sessions: i64) -> Result {
    eventually("the delivery is counted", Duration::from_secs(30), async || {
        let bindings = fleet.redis.bindings().await?;
        let binding = bindings.get(&user.name).context("no binding")?;
        ensure!(binding.sessions == sessions, "{binding:?}");
        Ok(())
    })
    .await
}

/// How often a user has the mail with that subject.
fn copies(store: &MailStore, user: &User, subject: &str) -> Result<usize> {
    let line = format!("\nSubject: {subject}\n");
    Ok(store.mail_of(&user.name)?.iter().filter(|(_, text)| text.contains(&line)).count())
}

/// Waits until Postfix has put a mail off with these words.
async fn deferred(postfix: &Postfix, words: &str) -> Result {
    eventually("Postfix defers", Duration::from_secs(60), async || {
        let told = postfix.outcomes("deferred")?;
        ensure!(told.iter().any(|line| line.contains(words)), "{words} is not in {told:#?}");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_kick_or_a_move_amid_a_delivery_leaves_the_mail_with_the_mta_which_brings_it_once() -> Result {
    if !Postfix::permitted() {
        println!("Postfix needs root: nothing is tried");
        return Ok(());
    }
    let (fleet, wire) = by_wire().await?;
    let postfix = Postfix::start(fleet.dir.path(), &[fleet.proxy().door(Protocol::Lmtp)?]).await?;
    for (user, command) in fleet.users.iter().zip(["kick", "move"]) {
        order(&fleet, &["pin", &user.name, "mail1"]).await?;
        wire.set(Mode::Still);
        postfix.take("sender@far.test", &[&format!("{}@test", user.name)], &letter(command)).await?;
        // Its backend says nothing, so it stays under way until it is given up.
        counts(&fleet, user, 1).await?;
        let done = if command == "kick" {
            order(&fleet, &["kick", &user.name]).await?
        } else {
            order(&fleet, &["unpin", &user.name]).await?;
            order(&fleet, &["move", &user.name, "--to", "mail2"]).await?
        };
        ensure!(done["end"] == "done" && done["closed"] == 1, "{done}");
        deferred(&postfix, "451 4.3.2").await?;
        ensure!(copies(&fleet.store, user, command)? == 0 && postfix.queued()?.len() == 1, "{}", postfix.log()?);
        wire.set(Mode::Open);
        postfix.drained(DRAINED).await?;
        ensure!(copies(&fleet.store, user, command)? == 1, "{}", postfix.log()?);
        let home = if command == "kick" { "mail1" } else { "mail2" };
        let seen = eventually("the backend tells", Duration::from_secs(10), async || {
            fleet.witness()?.last(&user.name).cloned()
        });
        ensure!(seen.await?.backend == home);
    }
    fleet.witness()?.swears_one_home()?;
    fleet.empty().await
}

#[tokio::test]
async fn a_move_amid_a_message_defers_its_user_alone_and_the_next_attempt_goes_to_the_new_home() -> Result {
    let fleet = Fleet::plan().backends(2).protocols(&[Protocol::Lmtp]).config(ONE_KEY).start().await?;
    let [moved, stays] = [&fleet.users[0], &fleet.users[1]];
    order(&fleet, &["move", &moved.name, "--to", "mail1"]).await?;
    let mut lmtp = Smtp::connect(Dialect::Lmtp, fleet.proxy().door(Protocol::Lmtp)?).await?;
    for reply in lmtp.envelope("sender@far.test", &[&moved.name, &stays.name]).await? {
        reply.ok()?;
    }
    lmtp.command("DATA").await?.ok()?;
    let text = stuffed(&letter("half-way"));
    let (half, rest) = text.split_at(text.len() / 2);
    lmtp.send(half.as_bytes()).await?;
    let done = order(&fleet, &["move", &moved.name, "--to", "mail2"]).await?;
    ensure!(done["end"] == "done" && done["closed"] == 1, "{done}");
    lmtp.send(rest.as_bytes()).await?;
    let (first, second) = (lmtp.reply().await?, lmtp.reply().await?);
    ensure!(first.code == 451 && first.lines[0].starts_with("4.3.2 "), "{first:?}");
    second.ok()?;
    ensure!(copies(&fleet.store, moved, "half-way")? == 0, "half a message is none");
    // As an MTA does, to whom it was not delivered.
    lmtp.send_mail("sender@far.test", &[&moved.name], &letter("half-way")).await?.ok()?;
    lmtp.quit().await?;
    for user in [moved, stays] {
        ensure!(copies(&fleet.store, user, "half-way")? == 1, "{}", user.name);
    }
    let witness = fleet.witness()?;
    witness.swears_one_home()?;
    ensure!(witness.backends_of(&moved.name) == ["mail2"].into(), "{:?}", witness.visits);
    fleet.empty().await
}

#[tokio::test]
async fn i6_without_redis_mail_is_put_off_or_joins_its_user_and_nothing_is_lost() -> Result {
    if !Postfix::permitted() {
        println!("Postfix needs root: nothing is tried");
        return Ok(());
    }
    let plan = Fleet::plan().protocols(&[Protocol::Lmtp]).config(ONE_KEY);
    let mut fleet = plan.config("[store]\ntimeout = \"1s\"\n[fleet]\nlogin_wait = \"2s\"").start().await?;
    let (known, strangers) = (fleet.users[0].clone(), fleet.users[1..8].to_vec());
    let live = fleet.proxy().log_in(&known).await?;
    let door = fleet.proxy().door(Protocol::Lmtp)?;
    let postfix = Postfix::start(fleet.dir.path(), &[door]).await?;
    fleet.redis.kill();
    for (number, user) in strangers.iter().enumerate() {
        let to = [format!("{}@test", known.name), format!("{}@test", user.name)];
        let to = to.each_ref().map(String::as_str);
        postfix.take("sender@far.test", &to, &letter(&format!("without-{number}"))).await?;
    }
    let mut lmtp = Smtp::connect(Dialect::Lmtp, door).await?;
    let begun = Instant::now();
    let replies = lmtp.envelope("sender@far.test", &[&strangers[0].name, "nobody-else@test"]).await?;
    for reply in replies {
        ensure!(reply.code == 451 && reply.lines[0].starts_with("4."), "{reply:?}");
    }
    ensure!(begun.elapsed() < Duration::from_secs(30), "kept waiting for {:?}", begun.elapsed());
    lmtp.quit().await?;
    deferred(&postfix, "451 4.").await?;
    eventually("mail for who is here goes on", Duration::from_secs(60), async || {
        for number in 0..strangers.len() {
            ensure!(copies(&fleet.store, &known, &format!("without-{number}"))? == 1, "{number}");
        }
        Ok(())
    })
    .await?;
    fleet.redis.launch().await?;
    postfix.drained(DRAINED).await?;
    ensure!(postfix.outcomes("bounced")?.is_empty(), "{}", postfix.log()?);
    for (number, user) in strangers.iter().enumerate() {
        for user in [user, &known] {
            let copies = copies(&fleet.store, user, &format!("without-{number}"))?;
            ensure!(copies == 1, "{} has mail {number} {copies} times: {}", user.name, postfix.log()?);
        }
    }
    live.logout().await?;
    fleet.witness()?.swears_one_home()?;
    fleet.empty().await
}
