//! I9: passwords are in no log, in no store, and in no memory of a proxy that has forgotten its login.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, ensure};
use aws_lc_rs::digest;
use base64::Engine;

use crate::harness::doveadm::DOOR_PASSWORD;
use crate::harness::dovecot::DOVEADM_PASSWORD;
use crate::harness::fleet::merge;
use crate::harness::letter::letter;
use crate::harness::mailstore::MASTER;
use crate::harness::proxy::BINARY;
use crate::harness::talk::Talk;
use crate::harness::{
    Authority, Dialect, Doveadm, Fleet, Imap, Pop3, Protocol, Result, Sieve, Smtp, User, Workdir, eventually,
};

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

/// The same by every other door, and passwords in every place where they do not belong.
async fn by_every_door(fleet: &Fleet) -> Result<(Pop3, Sieve, Smtp)> {
    let door = |protocol| fleet.proxy().door(protocol);
    let mut pop3 = Pop3::connect(door(Protocol::Pop3)?).await?;
    pop3.log_in(&fleet.users[5]).await?;
    let mut sieve = Sieve::connect(door(Protocol::Sieve)?).await?;
    sieve.log_in(&fleet.users[6]).await?.ok()?;
    let mut smtp = Smtp::connect(Dialect::Smtp, door(Protocol::Submission)?).await?;
    smtp.log_in(&fleet.users[7]).await?.ok()?;
    let lost = &fleet.users[8];
    let User { name, password } = lost;
    let plain = lost.sasl_plain();
    for said in [
        format!("AUTH PLAIN {password}\r\nAUTH {password} {name}\r\nPASS {password}\r\n"),
        format!("{password}\r\nAPOP {name} {password}\r\nXCLIENT {password}\r\nUSER nobody\r\nPASS {password}\r\n"),
        format!("AUTHENTICATE \"PLAIN\" \"{password}\"\r\nAUTHENTICATE \"{password}\"\r\nLOGIN {name} {password}\r\n"),
        format!("AUTHENTICATE \"PLAIN\" {{{}+}}\r\n{plain}x\r\n", plain.len() + 1),
        format!("EHLO me\r\nAUTH LOGIN {password}\r\nAUTH PLAIN {plain}{plain}\r\nMAIL FROM:<{password}\r\n"),
        format!("VERSION\tdoveadm-server\t1\t0\nPLAIN\t{plain}\n{password}\n"),
        format!("POST /doveadm/v1 HTTP/1.1\r\nhost: x\r\nauthorization: Basic {plain}\r\n\r\n"),
        format!("PLAIN {password}"),
    ] {
        for door in fleet.proxy().doors.values().chain([&fleet.proxy().address()]) {
            let mut talk = Talk::dial(*door).await?;
            talk.send(said.as_bytes()).await?;
            talk.half_close().await?;
            talk.lost().await?;
        }
    }
    let mail = letter("secret");
    let mut lmtp = Smtp::connect(Dialect::Lmtp, door(Protocol::Lmtp)?).await?;
    lmtp.send_mail("sender@far.test", &[name], &mail).await?.ok()?;
    Ok((pop3, sieve, smtp))
}

/// What the proxy tells of itself, and what the system tells of it.
async fn all_that_is_told(fleet: &Fleet) -> Result<Vec<u8>> {
    let name = &fleet.users[0].name;
    let mut told = Vec::new();
    for words in [
        &["status"][..],
        &["status", "--json"],
        &["user", "list"],
        &["user", "where", name, "--json"],
        &["user", "explain", name],
        &["user", "kick", name],
        &["user", "move", &fleet.users[1].name],
        &["backend", "list"],
        &["backend", "show", "mail1"],
        &["proxy", "list"],
        &["audit"],
        &["dump"],
        &["reload"],
    ] {
        let output = fleet.proxy().admin(words).await?;
        told.extend([output.stdout, output.stderr].concat());
    }
    let file = fleet.dir.join("proxy1.toml");
    let shown = tokio::process::Command::new(BINARY).args(["config", "show", "--config"]).arg(&file).output().await?;
    ensure!(shown.status.success(), "{}", String::from_utf8_lossy(&shown.stderr));
    told.extend(shown.stdout);
    for file in ["environ", "cmdline", "comm", "status"] {
        told.extend(std::fs::read(format!("/proc/{}/{file}", fleet.proxy().id()?))?);
    }
    Ok(told)
}

/// Whatever must be told nowhere: of users, of masters, of doors.
fn all_secrets(fleet: &Fleet) -> Vec<User> {
    let other = [MASTER.1, DOOR_PASSWORD, DOVEADM_PASSWORD];
    let other = other.map(|password| User { name: "doveadm".to_owned(), password: password.to_owned() });
    fleet.users.iter().cloned().chain(other).collect()
}

const DOORS: [Protocol; 5] = [Protocol::Pop3, Protocol::Sieve, Protocol::Submission, Protocol::Lmtp, Protocol::Doveadm];

/// Backends with a password of a master, a hook that writes down all that it is given, and every word of the log.
fn talkative(dir: &Path) -> String {
    let masters = ["mail1", "mail2", "mail3"].map(|name| {
        let (user, password) = MASTER;
        format!("[backend.{name}]\nmaster_user = {user:?}\nmaster_password = {password:?}\n")
    });
    let hook = format!("(env; echo \"$@\") >> {}", dir.join("hooked").display());
    format!(
        "[log]\nlevel = \"trace\"\n{}[moves]\nbefore_move = [\"/bin/sh\", \"-c\", {hook:?}, \"hook\"]\n",
        masters.concat()
    )
}

#[tokio::test]
async fn i9_no_password_is_in_any_log_or_in_anything_that_redis_is_ever_told() -> Result {
    let dir = Workdir::new()?;
    let plan = Fleet::plan().proxies(1).durable().protocols(&DOORS).config(&talkative(dir.path()));
    let mut fleet = plan.start().await?;
    let secrets = all_secrets(&fleet);
    let monitor = fleet.redis.monitor().await?;
    let open = all_kinds_of_logins(&fleet).await?;
    let others = by_every_door(&fleet).await?;
    let mut doveadm = Doveadm::connect(fleet.proxy().door(Protocol::Doveadm)?).await?;
    doveadm.command(&fleet.users[0].name, "who").await?;
    fleet.counts_agree().await?;
    holds_none("what is told to operators", &all_that_is_told(&fleet).await?, &secrets)?;
    drop((open, others, doveadm));
    fleet.empty().await?;
    // Nobody is at home, and then the store is away.
    for backend in &mut fleet.backends {
        backend.kill();
    }
    let user = &fleet.users[9];
    ensure!(Imap::connect(fleet.proxy().address()).await?.try_login(user).await?.ok().is_err());
    let heard = monitor.stop().await?;
    ensure!(heard.contains("EVALSHA") && heard.contains(&fleet.users[0].name), "nothing was heard");
    holds_none("what Redis was told", heard.as_bytes(), &secrets)?;
    let saved = fleet.redis.save().await?;
    ensure!(saved.exists());
    for file in files_below(fleet.redis.dir())? {
        holds_none(&file.display().to_string(), &std::fs::read(&file)?, &secrets)?;
    }
    fleet.redis.kill();
    Imap::connect(fleet.proxy().address()).await?.try_login(user).await?;
    holds_none("what is told to operators", &all_that_is_told(&fleet).await?, &secrets)?;
    let log = fleet.proxy().log()?;
    ensure!(log.contains(&fleet.users[0].name), "nothing was logged");
    holds_none("the log", log.as_bytes(), &secrets)?;
    let hooked = std::fs::read(dir.path().join("hooked"))?;
    ensure!(memchr::memmem::find(&hooked, b"HOMING_KEY=").is_some(), "the hook did not run");
    holds_none("what hooks are told", &hooked, &secrets)?;
    let state = fleet.dir.join("proxy1.state");
    holds_none("the state file", &std::fs::read(state)?, &secrets)
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

/// Long pieces of what users said: base64 of a piece depends on where in the text it begins.
fn pieces(user: &User) -> Vec<Vec<u8>> {
    let base64 = |text: &str| base64::engine::general_purpose::STANDARD.encode(text).as_bytes()[..200].to_vec();
    // The part that is the user's own, and more of the rest than may be left.
    let password = user.password.as_bytes()[..200].to_vec();
    vec![password, base64(&user.password), user.sasl_plain().as_bytes()[..200].to_vec()]
}

/// Waits until nothing of what those users said is in the memory of the process.
async fn forgets(process: u32, users: &[User]) -> Result {
    eventually("no password is left in memory", Duration::from_secs(30), async || {
        let memory = memory_of(process)?;
        let mut left = Vec::new();
        for user in users {
            for (number, piece) in pieces(user).iter().enumerate() {
                for at in memchr::memmem::find_iter(&memory, piece) {
                    let around = &memory[at.saturating_sub(60)..(at + 220).min(memory.len())];
                    left.push(format!("{} (form {number}): {}", user.name, around.escape_ascii()));
                }
            }
        }
        ensure!(left.is_empty(), "{} are still there:\n{}", left.len(), left.join("\n"));
        Ok(())
    })
    .await
}

fn may_look() -> bool {
    let is_root = rustix::process::geteuid().is_root();
    if !is_root {
        println!("only root may look into the memory of a process that refuses to be dumped");
    }
    is_root
}

#[tokio::test]
async fn i9_a_proxy_forgets_passwords_once_they_are_used() -> Result {
    if !may_look() {
        return Ok(());
    }
    let plan = Fleet::plan().protocols(&DOORS);
    let mut fleet = plan.start_without_proxies().await?;
    fleet.users = with_long_passwords(&fleet.users);
    fleet.store.write_users(&fleet.users, "")?;
    fleet.proxies[0].start().await?;
    let process = fleet.proxy().id()?;
    let open = all_kinds_of_logins(&fleet).await?;
    let others = by_every_door(&fleet).await?;
    fleet.counts_agree().await?;
    // The search works: user names are there.
    let names = memory_of(process)?;
    ensure!(memchr::memmem::find(&names, fleet.users[0].name.as_bytes()).is_some());
    forgets(process, &fleet.users).await?;
    drop((open, others));
    Ok(())
}

fn locked(process: u32) -> Result<bool> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmLck:")).context("no VmLck")?;
    Ok(line.trim() != "0 kB")
}

#[tokio::test]
async fn i9_nothing_of_a_proxy_gets_into_swap_if_it_may_lock_as_much_as_it_likes() -> Result {
    let mut fleet = Fleet::plan().backends(1).start_without_proxies().await?;
    let raise = ["prlimit", "--memlock=unlimited:unlimited"];
    let is_possible = std::process::Command::new(raise[0]).args(&raise[1..]).arg("true").status()?.success();
    if !is_possible {
        println!("this user may not raise the limit");
        return Ok(());
    }
    for (runner, is_locked) in [(&raise[..], true), (&["prlimit", "--memlock=1048576:1048576"], false)] {
        let proxy = &mut fleet.proxies[0];
        proxy.runner = runner.iter().map(|word| (*word).to_owned()).collect();
        proxy.start().await?;
        ensure!(locked(proxy.id()?)? == is_locked);
        fleet.proxies[0].log_in(&fleet.users[0]).await?;
        fleet.proxies[0].kill();
    }
    Ok(())
}

/// The library for TLS keeps a client's last record, decrypted, until the next one comes in its place.
#[tokio::test]
async fn i9_a_password_that_came_under_tls_is_gone_when_the_client_has_gone_on() -> Result {
    if !may_look() {
        return Ok(());
    }
    let plan = Fleet::plan().backends(1).listener("tls = \"implicit\"");
    let mut fleet = plan.start_without_proxies().await?;
    fleet.users = with_long_passwords(&fleet.users);
    fleet.store.write_users(&fleet.users, "")?;
    let authority = Authority::new(fleet.dir.path(), "ca")?;
    let issued = authority.issue(&["mail.test"])?;
    let tls = format!("[[tls.certificate]]\ncertificate = {:?}\nkey = {:?}\n", issued.certificate, issued.key);
    fleet.reconfigure(|config| merge(config, tls.parse().expect("it is TOML")))?;
    fleet.proxies[0].start().await?;
    let filler = format!("ID (\"name\" \"{}\")\r\n", "x".repeat(900)).repeat(3);
    let mut open = Vec::new();
    for user in &fleet.users {
        let mut imap = Imap::connect_tls(fleet.proxy().address(), "mail.test", &authority.client()?).await?;
        // In one record that is larger than what homing itself needs for a login and wipes: it would hide what is left of it.
        let record = |words: &str| format!("{}{words}\r\n", filler.replace("ID", "f ID"));
        imap.send(record(&format!("l LOGIN {} {}", user.name, user.password)).as_bytes()).await?;
        imap.answer("l").await?.ok()?;
        imap.send(record(&format!("n NOOP{}", "\r\nf NOOP".repeat(100))).as_bytes()).await?;
        imap.answer("n").await?.ok()?;
        open.push(imap);
    }
    // Half of the connections are there while it is looked at.
    open.truncate(fleet.users.len() / 2);
    forgets(fleet.proxy().id()?, &fleet.users).await
}
