//! I9: passwords are in no log, in no store, and in no memory of a proxy that has forgotten its login.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use aws_lc_rs::digest;
use base64::Engine;

use crate::harness::{Fleet, Imap, Result, User, eventually};

/// A password and everything from which it could be read or guessed, by what it is.
fn traces(user: &User) -> BTreeMap<&'static str, Vec<u8>> {
    let base64 = |bytes: &[u8]| base64::engine::general_purpose::STANDARD_NO_PAD.encode(bytes).into_bytes();
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>().into_bytes();
    let password = user.password.as_bytes();
    let plain = format!("\0{}\0{}", user.name, user.password);
    let sha = digest::digest(&digest::SHA256, password);
    let sha1 = digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, password);
    BTreeMap::from([
        ("the password", password.to_vec()),
        ("its base64", base64(password)),
        // Without the last characters, which depend on what follows.
        ("its SASL PLAIN", base64(plain.as_bytes())[..plain.len()].to_vec()),
        ("its hex", hex(password)),
        ("its SHA-256", sha.as_ref().to_vec()),
        ("its SHA-256 in hex", hex(sha.as_ref())),
        ("its SHA-256 in base64", base64(sha.as_ref())),
        ("its SHA-1 in hex", hex(sha1.as_ref())),
    ])
}

fn holds_none(what: &str, haystack: &[u8], users: &[User]) -> Result {
    for user in users {
        for (trace, bytes) in traces(user) {
            let found = memchr::memmem::find(haystack, &bytes);
            ensure!(found.is_none(), "{what} holds {trace} of {} at {found:?}", user.name);
        }
    }
    Ok(())
}

fn files_below(dir: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() { found.extend(files_below(&path)?) } else { found.push(path) }
    }
    Ok(found)
}

/// Every way to log in, and to fail to.
async fn all_kinds_of_logins(fleet: &Fleet) -> Result<Vec<Imap>> {
    let base64 = |text: &str| base64::engine::general_purpose::STANDARD.encode(text);
    let mut open = vec![fleet.proxy().log_in(&fleet.users[0]).await?];
    let User { name, password } = &fleet.users[1];
    let mut imap = Imap::connect(fleet.proxy().address()).await?;
    imap.command(&format!("AUTHENTICATE PLAIN {}", base64(&format!("\0{name}\0{password}")))).await?.ok()?;
    open.push(imap);
    let User { name, password } = &fleet.users[2];
    let mut imap = Imap::connect(fleet.proxy().address()).await?;
    let tag = imap.begin("AUTHENTICATE LOGIN").await?;
    for answer in [name, password] {
        ensure!(imap.line().await?.starts_with('+'));
        imap.send(format!("{}\r\n", base64(answer)).as_bytes()).await?;
    }
    imap.answer(&tag).await?.ok()?;
    open.push(imap);
    let User { name, password } = &fleet.users[3];
    let mut imap = Imap::connect(fleet.proxy().address()).await?;
    imap.send(format!("l LOGIN {{{}+}}\r\n{name} {{{}+}}\r\n{password}\r\n", name.len(), password.len()).as_bytes())
        .await?;
    imap.answer("l").await?.ok()?;
    open.push(imap);
    // Wrong user, wrong arguments, cut off in the midst.
    let User { name, password } = &fleet.users[4];
    let mut imap = Imap::connect(fleet.proxy().address()).await?;
    imap.command(&format!("LOGIN nobody {password}")).await?;
    imap.command(&format!("LOGIN {name} {password} {password}")).await?;
    imap.command(&format!("{password} {name}")).await?;
    imap.send(format!("m LOGIN {name} \"{password}").as_bytes()).await?;
    drop(imap);
    Ok(open)
}

#[tokio::test]
async fn i9_no_password_is_in_any_log_or_in_anything_that_redis_is_ever_told() -> Result {
    let plan = Fleet::plan().proxies(1).durable().config("[log]\nlevel = \"trace\"");
    let fleet = plan.start().await?;
    let monitor = fleet.redis.monitor().await?;
    let open = all_kinds_of_logins(&fleet).await?;
    fleet.counts_agree().await?;
    drop(open);
    fleet.empty().await?;
    let heard = monitor.stop().await?;
    ensure!(heard.contains("EVALSHA") && heard.contains(&fleet.users[0].name), "nothing was heard");
    holds_none("what Redis was told", heard.as_bytes(), &fleet.users)?;
    let saved = fleet.redis.save().await?;
    ensure!(saved.exists());
    for file in files_below(fleet.redis.dir())? {
        holds_none(&file.display().to_string(), &std::fs::read(&file)?, &fleet.users)?;
    }
    let log = fleet.proxy().log()?;
    ensure!(log.contains(&fleet.users[0].name), "nothing was logged");
    holds_none("the log", log.as_bytes(), &fleet.users)?;
    let state = fleet.dir.join("proxy1.state");
    holds_none("the state file", &std::fs::read(state)?, &fleet.users)
}

/// All that a process could write into a core dump: its writable memory, as far as it has any behind it.
fn memory_of(process: u32) -> Result<Vec<u8>> {
    use std::os::unix::fs::FileExt;
    let at = |name: &str| format!("/proc/{process}/{name}");
    let maps = std::fs::read_to_string(at("maps"))?;
    let (memory, pages) = (std::fs::File::open(at("mem"))?, std::fs::File::open(at("pagemap"))?);
    let page: u64 =
        String::from_utf8(std::process::Command::new("getconf").arg("PAGESIZE").output()?.stdout)?.trim().parse()?;
    let mut all = Vec::new();
    for line in maps.lines().filter(|line| line.contains(" rw")) {
        let range = line.split_once(' ').and_then(|(range, _)| range.split_once('-')).context("no range")?;
        let (from, to) = (u64::from_str_radix(range.0, 16)?, u64::from_str_radix(range.1, 16)?);
        let mut entries = vec![0; ((to - from) / page * 8) as usize];
        pages.read_exact_at(&mut entries, from / page * 8)?;
        // The allocator reserves gigabytes; the top bit says which pages there are (proc_pid_pagemap(5)).
        for (number, _) in entries.chunks_exact(8).enumerate().filter(|(_, entry)| entry[7] & 0x80 != 0) {
            let mut part = vec![0; page as usize];
            if memory.read_exact_at(&mut part, from + number as u64 * page).is_ok() {
                all.extend(part);
            }
        }
    }
    Ok(all)
}

/// The same users with passwords of 400 bytes. An unoptimised memchr, which looks through 128 bytes at a time, leaves
/// that much on its stack, where nobody can wipe it; anything longer is a buffer that was forgotten.
fn with_long_passwords(users: &[User]) -> Vec<User> {
    let long = |user: &User| format!("{}+{}", user.password, "0123456789abcdefghijklmnopqrstuvwxyz".repeat(12));
    users.iter().map(|user| User { password: long(user)[..400].to_owned(), ..user.clone() }).collect()
}

#[tokio::test]
async fn i9_a_proxy_forgets_passwords_once_they_are_used() -> Result {
    if !rustix::process::geteuid().is_root() {
        println!("only root may look into the memory of a process that refuses to be dumped");
        return Ok(());
    }
    let mut fleet = Fleet::plan().start_without_proxies().await?;
    fleet.users = with_long_passwords(&fleet.users);
    fleet.store.write_users(&fleet.users, "")?;
    fleet.proxies[0].start().await?;
    let process = fleet.proxy().id()?;
    let open = all_kinds_of_logins(&fleet).await?;
    fleet.counts_agree().await?;
    // The search works: user names are there.
    let names = memory_of(process)?;
    ensure!(memchr::memmem::find(&names, fleet.users[0].name.as_bytes()).is_some());
    eventually("no password is left in memory", Duration::from_secs(30), async || {
        let memory = memory_of(process)?;
        for user in &fleet.users {
            // The part that is the user's own, and more of the rest than may be left.
            if let Some(at) = memchr::memmem::find(&memory, &user.password.as_bytes()[..200]) {
                let around = &memory[at.saturating_sub(100)..(at + 250).min(memory.len())];
                bail!("the password of {} is still there: {}", user.name, around.escape_ascii());
            }
        }
        Ok(())
    })
    .await?;
    drop(open);
    Ok(())
}
