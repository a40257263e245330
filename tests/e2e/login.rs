//! Logging in: what is refused and in whose words, what a passdb says, and clients with odd habits.

use std::time::Duration;

use anyhow::{Context, ensure};

use crate::harness::fleet::merge;
use crate::harness::proxy::text;
use crate::harness::{Fleet, Imap, Result, Status, User, eventually};

#[tokio::test]
async fn a_wrong_password_is_refused_in_the_backends_words_and_leaves_no_binding() -> Result {
    let fleet = Fleet::plan().start().await?;
    let wrong = User { password: "wrong".into(), ..fleet.users[0].clone() };
    let mut direct = Imap::connect(fleet.backends[0].address).await?;
    let theirs = direct.try_login(&wrong).await?;
    let mut imap = Imap::connect(fleet.proxy().address()).await?;
    let ours = imap.try_login(&wrong).await?;
    ensure!(ours.status == Status::No && ours.text == theirs.text, "{:?} is not {:?}", ours.text, theirs.text);
    eventually("no binding is left", Duration::from_secs(30), async || {
        ensure!(fleet.redis.bindings().await?.is_empty(), "{:?}", fleet.redis.bindings().await?);
        Ok(())
    })
    .await?;
    // The connection is still good for the right password.
    imap.login(&fleet.users[0]).await?;
    ensure!(fleet.redis.bindings().await?.len() == 1);
    imap.logout().await?;
    fleet.empty().await
}

#[tokio::test]
async fn a_wrong_password_does_not_shake_the_home_of_a_user_who_is_logged_in() -> Result {
    let fleet = Fleet::plan().proxies(2).start().await?;
    let user = &fleet.users[0];
    let mut live = fleet.proxy().log_in(user).await?;
    let wrong = User { password: "wrong".into(), ..user.clone() };
    for proxy in &fleet.proxies {
        let mut imap = Imap::connect(proxy.address()).await?;
        ensure!(imap.try_login(&wrong).await?.status == Status::No);
    }
    fleet.counts_agree().await?;
    let home = live.backend().await?;
    ensure!(fleet.redis.bindings().await?.get(&user.name).is_some_and(|b| b.sessions == 1 && b.backend == home));
    Ok(())
}

#[tokio::test]
async fn after_three_wrong_passwords_the_connection_is_closed() -> Result {
    let fleet = Fleet::plan().start().await?;
    let mut imap = Imap::connect(fleet.proxy().address()).await?;
    for _ in 0..2 {
        let answer = imap.command("LOGIN nobody wrong").await?;
        ensure!(answer.status == Status::No, "{answer:?}");
    }
    imap.send(b"z LOGIN nobody wrong\r\n").await?;
    let rest = String::from_utf8_lossy(&imap.read_to_end().await?).into_owned();
    ensure!(rest.contains("* BYE"), "{rest:?}");
    Ok(())
}

/// Replaces the proxies' passdb by a file and starts them.
async fn with_passdb(fleet: &mut Fleet, text: &str) -> Result<std::path::PathBuf> {
    let file = fleet.dir.join("passdb");
    std::fs::write(&file, text)?;
    let passdb: toml::Table = format!("[[passdb]]\nkind = \"file\"\npath = {file:?}").parse()?;
    fleet.reconfigure(|config| merge(config, passdb.clone()))?;
    for proxy in &mut fleet.proxies {
        proxy.start().await?;
    }
    Ok(file)
}

#[tokio::test]
async fn a_passdb_file_decides_by_itself_and_is_read_again_when_it_changes() -> Result {
    let mut fleet = Fleet::plan().start_without_proxies().await?;
    let (known, newcomer) = (fleet.users[0].clone(), fleet.users[1].clone());
    let line = |user: &User| format!("{}:{{PLAIN}}{}\n", user.name, user.password);
    let file = with_passdb(&mut fleet, &line(&known)).await?;
    let mut live = fleet.proxy().log_in(&known).await?;
    let mut imap = Imap::connect(fleet.proxy().address()).await?;
    let answer = imap.try_login(&newcomer).await?;
    ensure!(answer.status == Status::No && answer.text.starts_with("[AUTHENTICATIONFAILED]"), "{answer:?}");
    ensure!(
        fleet.backends.iter().all(|backend| !backend.log().unwrap().contains(&newcomer.name)),
        "a backend was asked"
    );

    std::fs::write(&file, format!("{}{}", line(&known), line(&newcomer)))?;
    eventually("the newcomer is known", Duration::from_secs(60), async || {
        fleet.proxy().log_in(&newcomer).await.map(drop)
    })
    .await?;
    std::fs::write(&file, line(&newcomer))?;
    eventually("the other is forgotten", Duration::from_secs(60), async || {
        let mut imap = Imap::connect(fleet.proxy().address()).await?;
        ensure!(imap.try_login(&known).await?.status == Status::No);
        Ok(())
    })
    .await?;
    live.command("NOOP").await?.ok()?;
    Ok(())
}

#[tokio::test]
async fn hashed_passwords_and_a_pinned_host_are_honoured() -> Result {
    let mut fleet = Fleet::plan().start_without_proxies().await?;
    let user = fleet.users[0].clone();
    let mut openssl = tokio::process::Command::new("openssl");
    let hash = crate::harness::tools::succeed(openssl.args(["passwd", "-6", &user.password]), b"").await?;
    let line = format!("{}:{{SHA512-CRYPT}}{}::::::proxy=y host=mail3\n", user.name, hash.trim());
    with_passdb(&mut fleet, &line).await?;
    let mut imap = fleet.proxy().log_in(&user).await?;
    ensure!(imap.backend().await? == "mail3");
    Ok(())
}

#[tokio::test]
async fn a_login_sent_byte_by_byte_is_understood() -> Result {
    let fleet = Fleet::plan().start().await?;
    let user = &fleet.users[0];
    let mut imap = Imap::connect(fleet.proxy().address()).await?;
    for byte in format!("a LOGIN {{{}}}\r\n", user.name.len()).bytes() {
        imap.send(&[byte]).await?;
    }
    ensure!(imap.line().await?.starts_with('+'));
    for byte in format!("{} {{{}+}}\r\n{}\r\nb NOOP\r\n", user.name, user.password.len(), user.password).bytes() {
        imap.send(&[byte]).await?;
    }
    imap.answer("a").await?.ok()?;
    imap.answer("b").await?.ok()?;
    imap.logout().await
}

#[tokio::test]
async fn everything_pipelined_behind_the_login_is_answered_in_order() -> Result {
    let fleet = Fleet::plan().start().await?;
    let user = &fleet.users[0];
    let mut imap = Imap::dial(fleet.proxy().address()).await?;
    let message = "Subject: early\r\n\r\nbody\r\n";
    let all = format!(
        "a ID NIL\r\nb CAPABILITY\r\nc LOGIN {} {}\r\nd APPEND INBOX {{{}+}}\r\n{message}\r\ne SELECT INBOX\r\n\
         f FETCH 1 BODY[]\r\ng LOGOUT\r\n",
        user.name,
        user.password,
        message.len()
    );
    imap.send(all.as_bytes()).await?;
    imap.greet().await?;
    for tag in ["a", "b", "c", "d", "e"] {
        imap.answer(tag).await.with_context(|| tag.to_owned())?.ok()?;
    }
    let fetched = imap.answer("f").await?.ok()?;
    ensure!(fetched.untagged[0].contains(message), "{fetched:?}");
    imap.answer("g").await?.ok()?;
    imap.closed().await
}

#[tokio::test]
async fn a_client_that_closes_its_sending_side_still_gets_all_answers() -> Result {
    let fleet = Fleet::plan().start().await?;
    let user = &fleet.users[0];
    let said = |text: &[u8]| String::from_utf8_lossy(text).lines().filter(|line| line.starts_with("b ")).count();
    let commands = format!("a LOGIN {} {}\r\nb SELECT INBOX\r\nb NOOP\r\nb LOGOUT\r\n", user.name, user.password);
    for address in [fleet.backends[0].address, fleet.proxy().address()] {
        let mut imap = Imap::connect(address).await?;
        imap.send(commands.as_bytes()).await?;
        imap.half_close().await?;
        let answers = imap.read_to_end().await?;
        ensure!(said(&answers) == 3, "{address}: {}", String::from_utf8_lossy(&answers));
    }
    fleet.empty().await
}

#[tokio::test]
async fn a_client_that_closes_without_logout_ends_its_session_at_the_backend_at_once() -> Result {
    let fleet = Fleet::plan().start().await?;
    let mut imap = fleet.proxy().log_in(&fleet.users[0]).await?;
    imap.idle().await?;
    drop(imap);
    eventually("the backend's session is over", Duration::from_secs(60), async || {
        ensure!(fleet.witness()?.open().is_empty());
        Ok(())
    })
    .await?;
    let ending = fleet.proxy().ending_of(&fleet.users[0].name).await?;
    ensure!(text(&ending, "who") == "client" && text(&ending, "phase") == "relay", "{ending}");
    fleet.empty().await
}

#[tokio::test]
async fn a_client_that_says_nothing_is_sent_away_in_time() -> Result {
    let fleet = Fleet::plan().config("[limits]\nlogin_timeout = \"1s\"").start().await?;
    let mut imap = Imap::connect(fleet.proxy().address()).await?;
    let last = String::from_utf8_lossy(&imap.read_to_end().await?).into_owned();
    ensure!(last.starts_with("* BYE"), "{last:?}");
    Ok(())
}

#[tokio::test]
async fn the_session_line_counts_what_was_relayed_and_says_who_ended_it() -> Result {
    let fleet = Fleet::plan().start().await?;
    let user = &fleet.users[0];
    let mut imap = fleet.proxy().log_in(user).await?;
    let body = "x".repeat(100_000);
    imap.append("INBOX", &format!("Subject: long\r\n\r\n{body}\r\n")).await?;
    imap.logout().await?;
    let line = fleet.proxy().ending_of(&user.name).await?;
    let number = |field: &str| text(&line, field).parse::<u64>().unwrap_or(0);
    ensure!((100_000..102_000).contains(&number("in_bytes")), "{line}");
    ensure!((20..2_000).contains(&number("out_bytes")), "{line}");
    for (field, word) in [("protocol", "imap"), ("phase", "relay"), ("key", &user.name), ("user", &user.name)] {
        ensure!(text(&line, field) == word, "{field} in {line}");
    }
    ensure!(!text(&line, "duration_ms").is_empty() && !text(&line, "who").is_empty(), "{line}");
    Ok(())
}

#[tokio::test]
async fn a_user_may_have_as_many_sessions_as_the_limit_says_in_the_whole_fleet() -> Result {
    let fleet = Fleet::plan().proxies(2).config("[limits]\nsessions_per_key = 3").start().await?;
    let user = &fleet.users[0];
    let mut open = Vec::new();
    for n in 0..3 {
        open.push(fleet.proxies[n % 2].log_in(user).await?);
    }
    let mut imap = Imap::connect(fleet.proxies[1].address()).await?;
    let answer = imap.try_login(user).await?;
    ensure!(answer.status == Status::No && answer.text.starts_with("[LIMIT]"), "{answer:?}");
    open.remove(0).logout().await?;
    eventually("one more fits", Duration::from_secs(60), async || fleet.proxy().log_in(user).await.map(drop)).await
}
