//! What operators do to users, by the command line, over real parts: who is at work feels it as a disconnect, and finds
//! everything at the new home.

use std::process::Output;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use serde_json::Value;

use crate::harness::dovecot::DOVEADM_PASSWORD;
use crate::harness::fleet::merge;
use crate::harness::{Fleet, Imap, Result, eventually};

/// Logins that have to wait hear so soon. The kick delay is longer than a mail server on a busy machine needs to write down
/// that a session has ended.
const IMPATIENT: &str = "[fleet]\nlogin_wait = \"4s\"\n[moves]\nkick_delay = \"1s\"\ntimeout = \"30s\"";

/// Runs `homing user ...` at the first proxy; what it printed.
async fn homing(fleet: &Fleet, arguments: &[&str]) -> Result<(Option<i32>, String, String)> {
    let Output { status, stdout, stderr } = fleet.proxy().admin(arguments).await?;
    Ok((status.code(), String::from_utf8(stdout)?, String::from_utf8(stderr)?))
}

async fn json(fleet: &Fleet, arguments: &[&str]) -> Result<Value> {
    let (code, out, err) = homing(fleet, &[arguments, &["--json"]].concat()).await?;
    ensure!(code == Some(0), "{arguments:?}: {out}{err}");
    Ok(serde_json::from_str(&out)?)
}

/// A session of the first user at every proxy.
async fn at_each(fleet: &Fleet) -> Result<Vec<Imap>> {
    let mut open = Vec::new();
    for proxy in &fleet.proxies {
        open.push(proxy.log_in(&fleet.users[0]).await?);
    }
    fleet.counts_agree().await?;
    Ok(open)
}

fn other(home: &str) -> &'static str {
    if home == "mail1" { "mail2" } else { "mail1" }
}

#[tokio::test]
async fn i1_a_user_at_work_is_moved_and_finds_the_new_home_through_every_proxy() -> Result {
    let fleet = Fleet::plan().proxies(3).backends(2).config(IMPATIENT).start().await?;
    let user = &fleet.users[0];
    let mut open = at_each(&fleet).await?;
    let old = open[0].backend().await?;
    let new = other(&old);
    let moved = json(&fleet, &["user", "move", &user.name.to_uppercase(), "--to", new]).await?;
    ensure!(moved["end"] == "done" && moved["key"] == user.name && moved["home"] == new, "{moved}");
    ensure!(moved["proxies"] == 3 && moved["confirmed"] == 3 && moved["closed"] == 3, "{moved}");
    for session in &mut open {
        let last = session.read_to_end().await?;
        ensure!(last.starts_with(b"* BYE "), "{}", String::from_utf8_lossy(&last));
    }
    for proxy in &fleet.proxies {
        let mut again = proxy.log_in(user).await?;
        ensure!(again.backend().await? == new);
    }
    fleet.witness()?.swears_one_home()?;
    let (code, history, _) = homing(&fleet, &["user", "history", &user.name]).await?;
    ensure!(code == Some(0) && history.contains(&old) && history.contains("move"), "{history}");
    fleet.counts_agree().await
}

#[tokio::test]
async fn a_kick_ends_the_sessions_at_every_proxy_and_says_how_long_it_took() -> Result {
    let fleet = Fleet::plan().proxies(3).backends(2).config(IMPATIENT).start().await?;
    let mut spans = Vec::new();
    for _ in 0..5 {
        let mut open = at_each(&fleet).await?;
        for session in &mut open {
            session.idle().await?;
        }
        let began = Instant::now();
        let kicked = async {
            let kicked = json(&fleet, &["user", "kick", &fleet.users[0].name]).await?;
            ensure!(kicked["end"] == "done" && kicked["closed"] == 3 && kicked["confirmed"] == 3, "{kicked}");
            Ok(kicked["ms"].clone())
        };
        let closed = async {
            for session in &mut open {
                session.lost().await?;
            }
            Ok(began.elapsed())
        };
        let (told, closed) = tokio::try_join!(kicked, closed)?;
        println!("all closed {closed:?} after the command was started; its own report: {told} ms");
        spans.push(closed);
    }
    spans.sort();
    println!("kick of a user with sessions at 3 proxies until all are closed: median {:?}", spans[2]);
    Ok(())
}

#[tokio::test]
async fn a_held_user_is_kept_out_and_let_in_again_and_is_listed_meanwhile() -> Result {
    let fleet = Fleet::plan().proxies(2).backends(2).config(IMPATIENT).start().await?;
    let (user, name) = (&fleet.users[0], fleet.users[0].name.as_str());
    let mut open = at_each(&fleet).await?;
    let home = open[0].backend().await?;
    let (code, held, _) = homing(&fleet, &["user", "hold", name, "--for", "5min"]).await?;
    ensure!(code == Some(0) && held.contains("not out yet: 2 sessions"), "{held}");
    let held = json(&fleet, &["user", "hold", name, "--kick"]).await?;
    ensure!(held["holders"].as_array().is_some_and(Vec::is_empty) && held["moved"]["closed"] == 2, "{held}");
    let mut refused = Imap::connect(fleet.proxies[1].address()).await?;
    let answer = refused.try_login(user).await?;
    ensure!(format!("{answer:?}").contains("UNAVAILABLE"), "{answer:?}");
    let (_, explained, _) = homing(&fleet, &["user", "explain", name]).await?;
    ensure!(explained.contains("a login would wait: an operator holds the user"), "{explained}");
    let (_, list, _) = homing(&fleet, &["user", "list", "--held", "--format", "csv"]).await?;
    let rows: Vec<Vec<&str>> = list.lines().map(|line| line.split(',').collect()).collect();
    ensure!(list.ends_with("\r\n") && rows.len() == 2);
    ensure!(rows[0] == ["user", "backend", "sessions", "idle", "pin", "hold", "moving"], "{list}");
    let (who, idle, marks) = (&rows[1][..3], rows[1][3], &rows[1][4..]);
    ensure!(who == [name, &home, "0"] && idle.ends_with(" s") && marks == ["", "until release", ""], "{list}");
    let (code, released, _) = homing(&fleet, &["user", "release", name]).await?;
    ensure!(code == Some(0) && released.contains("can log in again"), "{released}");
    fleet.proxies[1].log_in(user).await?;
    Ok(())
}

#[tokio::test]
async fn a_pin_moves_the_user_and_a_move_against_it_is_refused_with_code_1() -> Result {
    let fleet = Fleet::plan().proxies(2).backends(2).config(IMPATIENT).start().await?;
    let (user, name) = (&fleet.users[0], fleet.users[0].name.as_str());
    let old = fleet.proxy().log_in(user).await?.backend().await?;
    let new = other(&old);
    let pinned = json(&fleet, &["user", "pin", name, new]).await?;
    ensure!(pinned["home"] == new, "{pinned}");
    let (code, _, why) = homing(&fleet, &["user", "move", name, "--to", &old]).await?;
    ensure!(code == Some(1) && why.contains("is pinned to"), "{why}");
    let (code, _, why) = homing(&fleet, &["user", "pin", name, "mail9"]).await?;
    ensure!(code == Some(1) && why.contains("there is no backend mail9"), "{why}");
    let list = json(&fleet, &["user", "list", "--pinned"]).await?;
    ensure!(list["pin"] == new && list["key"] == name, "{list}");
    ensure!(fleet.proxies[1].log_in(user).await?.backend().await? == new);
    let (_, text, _) = homing(&fleet, &["user", "where", name]).await?;
    ensure!(text.contains(&format!("pinned to {new}")), "{text}");
    let (code, _, _) = homing(&fleet, &["user", "unpin", name]).await?;
    ensure!(code == Some(0));
    Ok(())
}

#[tokio::test]
async fn mailboxes_of_a_list_are_migrated_each_with_its_own_result() -> Result {
    let fleet = Fleet::plan().proxies(2).backends(2).users(4).config(IMPATIENT).start().await?;
    let mut to_second = Vec::new();
    for user in &fleet.users {
        let mut open = fleet.proxies[1].log_in(user).await?;
        if open.backend().await? == "mail1" {
            to_second.push(user);
        }
    }
    ensure!(to_second.len() == 2, "two of four are at home on mail1");
    let (list, copied) = (fleet.dir.join("list"), fleet.dir.join("copied"));
    std::fs::write(&list, format!("# all of mail1\n{}\nstranger\n\n{}\n", to_second[0].name, to_second[1].name))?;
    let hook = format!("echo $HOMING_KEY $HOMING_FROM $HOMING_TO >> {}", copied.display());
    let file = list.display().to_string();
    let arguments =
        ["user", "migrate", "--file", &file, "--to", "mail2", "--hook", &hook, "--parallel", "2", "--format", "csv"];
    let (code, out, _) = homing(&fleet, &arguments).await?;
    ensure!(code == Some(1), "one of them is not bound: {out}");
    ensure!(out.lines().filter(|line| line.contains(",migrated,mail1,mail2,")).count() == 2, "{out}");
    ensure!(out.lines().any(|line| line.starts_with("stranger,FAILED,,,check,")), "{out}");
    let copied = std::fs::read_to_string(copied)?;
    for user in to_second {
        ensure!(copied.contains(&format!("{} mail1 mail2", user.name)), "{copied}");
        ensure!(fleet.proxy().log_in(user).await?.backend().await? == "mail2");
    }
    fleet.witness()?.swears_one_home()
}

#[tokio::test]
async fn a_copy_that_fails_is_told_and_the_user_is_at_the_old_home_at_once() -> Result {
    let fleet = Fleet::plan().proxies(2).backends(2).config(IMPATIENT).start().await?;
    let (user, name) = (&fleet.users[0], fleet.users[0].name.as_str());
    let old = fleet.proxy().log_in(user).await?.backend().await?;
    let hook = "echo no space left >&2; false";
    let (code, out, _) = homing(&fleet, &["user", "migrate", name, "--to", other(&old), "--hook", hook]).await?;
    ensure!(code == Some(1) && out.contains("copy") && out.contains("no space left"), "{out}");
    ensure!(fleet.proxies[1].log_in(user).await?.backend().await? == old);
    Ok(())
}

#[tokio::test]
async fn a_migration_can_ask_the_old_backend_itself_whether_the_user_has_gone() -> Result {
    let fleet = Fleet::plan().proxies(2).backends(2).config(IMPATIENT).start().await?;
    let (user, name) = (&fleet.users[0], fleet.users[0].name.as_str());
    let mut open = fleet.proxies[1].log_in(user).await?;
    let old = open.backend().await?;
    let migrate = ["user", "migrate", name, "--to", other(&old), "--confirm"];
    let (code, out, _) = homing(&fleet, &migrate).await?;
    ensure!(code == Some(1) && out.contains("has no doveadm"), "{out}");

    for backend in &fleet.backends {
        let entry = format!(
            "[backend.{}]\ndoveadm = \"tcp://{}\"\ndoveadm_password = \"{DOVEADM_PASSWORD}\"\n",
            backend.name, backend.doveadm_address
        );
        fleet.reconfigure(|config| merge(config, entry.parse().unwrap()))?;
    }
    ensure!(fleet.proxy().admin(&["reload"]).await?.status.success());
    // Somebody whom no proxy knows of: the mail server does.
    let backend = fleet.backends.iter().find(|backend| backend.name == old).context("no such backend")?;
    let beside = backend.log_in(user).await?;
    let open = fleet.proxies[1].log_in(user).await?;
    let migrating = fleet.proxy().admin(&migrate);
    let leaving = async {
        let mut open = open;
        open.read_to_end().await?;
        beside.logout().await
    };
    let (done, left) = tokio::join!(migrating, leaving);
    left?;
    let done = done?;
    ensure!(done.status.success(), "{}", String::from_utf8_lossy(&done.stdout));
    ensure!(fleet.proxies[1].log_in(user).await?.backend().await? == other(&old));
    Ok(())
}

#[tokio::test]
async fn a_dead_proxy_is_named_and_forgotten_and_a_living_one_is_not() -> Result {
    let brief = "[moves]\ntimeout = \"8s\"";
    let mut fleet = Fleet::plan().proxies(2).backends(2).config(IMPATIENT).config(brief).start().await?;
    let name = fleet.users[0].name.clone();
    let _open = at_each(&fleet).await?;
    let (code, said, _) = homing(&fleet, &["proxy", "forget", "proxy2"]).await?;
    ensure!(code == Some(1) && said.contains("left alone"), "{said}");
    fleet.proxies[1].kill();
    eventually("it is an orphan", Duration::from_secs(25), async || {
        let list = json(&fleet, &["proxy", "list"]).await?;
        let list = list.as_array().context("no list")?;
        ensure!(list.iter().any(|proxy| proxy["name"] == "proxy2" && proxy["state"] == "orphan"), "{list:?}");
        Ok(())
    })
    .await?;
    let (code, said, _) = homing(&fleet, &["user", "move", &name]).await?;
    ensure!(
        code == Some(1) && said.contains("NOT been moved") && said.contains("homing proxy forget proxy2"),
        "{said}"
    );
    let (code, said, _) = homing(&fleet, &["proxy", "forget", "proxy2"]).await?;
    ensure!(code == Some(0) && said.contains("freed what proxy2 held"), "{said}");
    let (code, said, _) = homing(&fleet, &["user", "move", &name]).await?;
    ensure!(code == Some(0), "{said}");
    let (code, _, why) = homing(&fleet, &["proxy", "forget", "proxy9"]).await?;
    ensure!(code == Some(1) && why.contains("knows no proxy proxy9"), "{why}");
    Ok(())
}
