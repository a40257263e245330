//! What the fleet remembers of a passdb: logins go on without it, nobody gets in by it, and it tells nobody anything.

use std::time::Duration;

use anyhow::{Context, ensure};
use futures_util::future::join_all;
use redis::AsyncCommands;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection, SqliteJournalMode};
use sqlx::{ConnectOptions, Executor};

use crate::harness::fleet::{Plan, merge};
use crate::harness::imap::Status;
use crate::harness::passdbs::{asked, stats};
use crate::harness::{Fleet, Imap, Pop3, Protocol, Proxy, Result, User, Workdir, eventually};

/// The database with the passwords, from the administrator's side.
struct Database {
    dir: Workdir,
    connection: SqliteConnection,
}

impl Database {
    async fn new(users: usize) -> Result<Self> {
        let dir = Workdir::new()?;
        let options = SqliteConnectOptions::new().filename(dir.join("users.db")).create_if_missing(true);
        let mut connection = options.journal_mode(SqliteJournalMode::Delete).connect().await?;
        connection.execute("CREATE TABLE users (name TEXT PRIMARY KEY, word TEXT)").await?;
        for user in User::first(users) {
            let row = sqlx::query("INSERT INTO users VALUES (?, ?)").bind(user.name);
            row.bind(format!("{{PLAIN}}{}", user.password)).execute(&mut connection).await?;
        }
        Ok(Self { dir, connection })
    }

    /// `[[passdb]]` and `[auth]` of the proxies.
    fn config(&self) -> String {
        format!(
            "[auth]\ncache_ttl = \"1h\"\n[[passdb]]\nkind = \"sql\"\nurl = \"sqlite://{}\"\ntimeout = \"1s\"\n\
             query = \"SELECT word AS password FROM users WHERE name = :user\"\n",
            self.dir.join("users.db").display()
        )
    }

    async fn set(&mut self, user: &User) -> Result {
        let word = format!("{{PLAIN}}{}", user.password);
        let row = sqlx::query("UPDATE users SET word = ? WHERE name = ?").bind(word).bind(&user.name);
        row.execute(&mut self.connection).await?;
        Ok(())
    }

    /// Nobody gets an answer any more.
    async fn hang(&mut self) -> Result {
        self.connection.execute("BEGIN EXCLUSIVE").await?;
        Ok(())
    }
}

fn plan(database: &Database, proxies: usize, users: usize) -> Plan {
    Fleet::plan().proxies(proxies).users(users).config(&database.config())
}

async fn try_login(proxy: &Proxy, user: &User) -> Result<(Status, String)> {
    let answer = Imap::connect(proxy.address()).await?.try_login(user).await?;
    Ok((answer.status, answer.text))
}

/// Notes are written behind the login's back.
async fn notes(fleet: &Fleet, count: usize) -> Result<Vec<String>> {
    eventually("answers are noted", Duration::from_secs(30), async || {
        let keys: Vec<_> = fleet.redis.keys().await?.into_iter().filter(|key| key.contains(":note:")).collect();
        ensure!(keys.len() == count, "{keys:?}");
        Ok(keys)
    })
    .await
}

async fn reload(fleet: &Fleet) -> Result {
    for proxy in &fleet.proxies {
        let output = proxy.admin(&["reload"]).await?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(())
}

fn with_password(user: &User, password: &str) -> User {
    User { password: password.to_owned(), ..user.clone() }
}

#[tokio::test]
async fn who_logged_in_at_one_proxy_logs_in_at_another_without_the_passdb() -> Result {
    let mut database = Database::new(3).await?;
    let fleet = plan(&database, 2, 3).start().await?;
    let (first, second) = (&fleet.proxies[0], &fleet.proxies[1]);
    let (ann, bob) = (&fleet.users[0], &fleet.users[1]);
    first.log_in(ann).await?;
    first.log_in(bob).await?;
    notes(&fleet, 2).await?;
    second.log_in(ann).await?;
    ensure!(asked(second).await? == 0, "{}", stats(second).await?);

    // Another password is shown to the passdb: wrong ones are refused, a new one is good at once, the old one no more.
    ensure!(try_login(second, &with_password(ann, "wrong")).await?.0 == Status::No);
    ensure!(asked(second).await? == 1);
    let mut users = fleet.users.clone();
    users[0].password = "new-word-of-ann".to_owned();
    database.set(&users[0]).await?;
    fleet.store.write_users(&users, "")?;
    // Its server has to have noticed, too, and looks once a second.
    eventually("the new password is good", Duration::from_secs(30), async || second.log_in(&users[0]).await).await?;
    ensure!(try_login(second, ann).await?.0 == Status::No, "the old password");
    second.log_in(&users[0]).await?;

    // The passdb hangs, and what is remembered is old.
    fleet.reconfigure(|config| merge(config, "[auth]\ncache_ttl = \"0s\"".parse().unwrap()))?;
    reload(&fleet).await?;
    database.hang().await?;
    second.log_in(bob).await?;
    let counts = stats(second).await?;
    ensure!(counts["cache"]["stale"] == 1, "{counts}");
    let (status, text) = try_login(second, &with_password(bob, "wrong")).await?;
    ensure!(status == Status::No && text.starts_with("[UNAVAILABLE]"), "{text}");
    let file = fleet.dir.join("word");
    std::fs::write(&file, format!("{}\n", bob.password))?;
    let file = file.display().to_string();
    let output = second.admin(&["auth", "test", &bob.name, "--password-file", &file]).await?;
    let said = String::from_utf8(output.stdout)?;
    ensure!(output.status.success() && said.contains("stale cache"), "{said}");
    ensure!(!said.contains(&bob.password), "{said}");

    // Who is forgotten needs the passdb.
    let output = first.admin(&["auth", "flush", &bob.name]).await?;
    let said = String::from_utf8(output.stdout)?;
    ensure!(said.trim() == "forgot 1 record", "{said}");
    let (_, text) = try_login(second, bob).await?;
    ensure!(text.starts_with("[UNAVAILABLE]"), "{text}");
    Ok(())
}

#[tokio::test]
async fn i9_who_writes_to_redis_gets_nobody_in_and_who_reads_it_learns_no_name_and_no_password() -> Result {
    let mut database = Database::new(3).await?;
    let fleet = plan(&database, 1, 3).durable().start().await?;
    let monitor = fleet.redis.monitor().await?;
    let (ann, eve) = (&fleet.users[0], &fleet.users[1]);
    fleet.proxy().log_in(ann).await?;
    let anns = notes(&fleet, 1).await?.remove(0);
    fleet.proxy().log_in(eve).await?;
    let eves = notes(&fleet, 2).await?.into_iter().find(|key| *key != anns).context("none of eve")?;
    let mut redis = fleet.redis.connect().await?;
    let (of_ann, of_eve): (Vec<u8>, Vec<u8>) = (redis.get(&anns).await?, redis.get(&eves).await?);

    // Only what is remembered could let anybody in now.
    database.hang().await?;
    let eve_as_ann = with_password(ann, &eve.password);
    let mut broken = of_ann.clone();
    let middle = broken.len() / 2;
    broken[middle] ^= 1;
    for poison in [of_eve.clone(), broken, vec![7; of_ann.len()], b"{\"good\":{}}".to_vec(), Vec::new()] {
        let _: () = redis.set(&anns, &poison).await?;
        for user in [&eve_as_ann, ann] {
            let (status, text) = try_login(fleet.proxy(), user).await?;
            ensure!(status == Status::No && text.starts_with("[UNAVAILABLE]"), "{text} with {poison:?}");
        }
    }
    let _: () = redis.set(&eves, &of_ann).await?;
    ensure!(try_login(fleet.proxy(), &with_password(eve, &ann.password)).await?.0 == Status::No);
    let _: () = redis.set(&anns, &of_ann).await?;
    ensure!(try_login(fleet.proxy(), &eve_as_ann).await?.0 == Status::No);
    fleet.proxy().log_in(ann).await?;

    let heard = monitor.stop().await?;
    ensure!(heard.contains(":note:"), "nothing was heard");
    let saved = std::fs::read(fleet.redis.save().await?)?;
    for user in [ann, eve] {
        for text in [heard.as_bytes(), &saved] {
            ensure!(memchr::memmem::find(text, user.password.as_bytes()).is_none(), "the password of {}", user.name);
        }
        let told = heard.lines().filter(|line| line.contains(":note:")).any(|line| line.contains(&user.name));
        ensure!(!told, "a note names {}", user.name);
    }
    Ok(())
}

/// What an operator is told about a login with that password.
async fn tried(fleet: &Fleet, user: &User) -> Result<(bool, String)> {
    let file = fleet.dir.join("word");
    std::fs::write(&file, format!("{}\n", user.password))?;
    let file = file.display().to_string();
    let output = fleet.proxy().admin(&["auth", "test", &user.name, "--password-file", &file]).await?;
    Ok((output.status.success(), String::from_utf8(output.stdout)?))
}

#[tokio::test]
async fn i9_a_record_that_is_put_back_is_good_for_its_own_time_and_by_its_own_protocol_only() -> Result {
    let mut database = Database::new(1).await?;
    let fleet = plan(&database, 1, 1).protocols(&[Protocol::Pop3]).start().await?;
    let old = fleet.users[0].clone();
    fleet.proxy().log_in(&old).await?;
    let by_imap = notes(&fleet, 1).await?.remove(0);
    Pop3::connect(fleet.proxy().door(Protocol::Pop3)?).await?.log_in(&old).await?;
    let by_pop3 = notes(&fleet, 2).await?.into_iter().find(|key| *key != by_imap).context("none by POP3")?;
    let mut redis = fleet.redis.connect().await?;
    let record: Vec<u8> = redis.get(&by_imap).await?;

    // The password is changed, and used.
    let new = with_password(&old, "new-word-of-ann");
    database.set(&new).await?;
    ensure!(tried(&fleet, &new).await?.0);
    eventually("it is noted", Duration::from_secs(30), async || {
        let now: Vec<u8> = redis.get(&by_imap).await?;
        ensure!(now != record);
        Ok(())
    })
    .await?;
    ensure!(!tried(&fleet, &old).await?.0);
    // Whoever puts the old record back has the old password taken, as the manual says, until its own time is over.
    let _: () = redis.set(&by_imap, &record).await?;
    let (granted, said) = tried(&fleet, &old).await?;
    ensure!(granted && said.contains("cache"), "{said}");
    fleet.reconfigure(|config| merge(config, "[auth]\ncache_ttl = \"0s\"".parse().unwrap()))?;
    reload(&fleet).await?;
    let (granted, said) = tried(&fleet, &old).await?;
    ensure!(!granted, "{said}");

    // By another protocol it is worth nothing.
    fleet.reconfigure(|config| merge(config, "[auth]\ncache_ttl = \"1h\"".parse().unwrap()))?;
    reload(&fleet).await?;
    database.hang().await?;
    let _: () = redis.set(&by_pop3, &record).await?;
    let told = Pop3::connect(fleet.proxy().door(Protocol::Pop3)?).await?.try_log_in(&old).await?;
    ensure!(!told.positive && told.text.starts_with("[SYS/TEMP] "), "{told:?}");
    Ok(())
}

/// Most memory that the process has had, in bytes.
fn peak(proxy: &Proxy) -> Result<usize> {
    let status = std::fs::read_to_string(format!("/proc/{}/status", proxy.id()?))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("no VmHWM")?;
    Ok(line.trim().trim_end_matches(" kB").parse::<usize>()? * 1024)
}

#[tokio::test]
async fn i9_what_could_be_no_record_is_not_read_and_keeps_nobody_else_out() -> Result {
    const HUGE: usize = 256 << 20;
    let mut database = Database::new(2).await?;
    let fleet = plan(&database, 1, 2).start().await?;
    let (ann, bob) = (&fleet.users[0], &fleet.users[1]);
    fleet.proxy().log_in(ann).await?;
    let anns = notes(&fleet, 1).await?.remove(0);
    fleet.proxy().log_in(bob).await?;
    notes(&fleet, 2).await?;
    database.hang().await?;
    let mut redis = fleet.redis.connect().await?;
    let record: Vec<u8> = redis.get(&anns).await?;
    let before = peak(fleet.proxy())?;
    let mut list = redis::cmd("RPUSH");
    list.arg(&anns).arg("x");
    let mut hash = redis::cmd("HSET");
    hash.arg(&anns).arg("x").arg("y");
    let mut huge = redis::cmd("SETRANGE");
    huge.arg(&anns).arg(HUGE).arg("x");
    for poison in [list, hash, huge] {
        let _: () = redis.del(&anns).await?;
        let _: () = poison.query_async(&mut redis).await?;
        let (status, text) = try_login(fleet.proxy(), ann).await?;
        ensure!(status == Status::No && text.starts_with("[UNAVAILABLE]"), "{text}");
        fleet.proxy().log_in(bob).await?;
    }
    let grown = peak(fleet.proxy())?.saturating_sub(before);
    ensure!(grown < HUGE / 8, "it has grown by {grown} bytes");
    let _: () = redis.set(&anns, &record).await?;
    fleet.proxy().log_in(ann).await.map(drop)
}

#[tokio::test]
async fn a_remembered_login_takes_one_look_at_redis_and_writes_nothing() -> Result {
    const LOGINS: u64 = 20;
    let database = Database::new(1).await?;
    let fleet = plan(&database, 1, 1).start().await?;
    let commands = ["getrange", "psetex", "setex", "set", "get", "del"];
    let user = &fleet.users[0];
    fleet.proxy().log_in(user).await?.logout().await?;
    notes(&fleet, 1).await?;
    let count = async || -> Result<Vec<u64>> {
        let mut counts = Vec::new();
        for command in commands {
            counts.push(fleet.redis.calls(command).await?);
        }
        Ok(counts)
    };
    let before = count().await?;
    for _ in 0..LOGINS {
        fleet.proxy().log_in(user).await?.logout().await?;
    }
    let spent: Vec<u64> = count().await?.iter().zip(before).map(|(now, before)| now - before).collect();
    ensure!(spent == [LOGINS, 0, 0, 0, 0, 0], "{commands:?}: {spent:?}");
    Ok(())
}

/// Questions that went to the passdb, of all proxies since their start.
async fn missed(fleet: &Fleet) -> Result<u64> {
    let mut sum = 0;
    for proxy in &fleet.proxies {
        sum += stats(proxy).await?["cache"]["missed"].as_u64().context("no count")?;
    }
    Ok(sum)
}

/// Does `change` while everybody logs in again and again, by each proxy in turn; afterwards each comes a few times more.
async fn under_load(fleet: &Fleet, change: impl AsyncFnOnce() -> Result) -> Result {
    let (done, is_done) = tokio::sync::watch::channel(false);
    let load = join_all(fleet.users.iter().enumerate().map(async |(number, user)| {
        let mut more = 4;
        for login in number.. {
            fleet.proxies[login % fleet.proxies.len()].log_in(user).await?;
            more -= usize::from(*is_done.borrow());
            if more == 0 {
                break;
            }
        }
        anyhow::Ok(())
    }));
    let change = async {
        let changed = change().await;
        done.send_replace(true);
        changed
    };
    let (logins, changed) = tokio::join!(load, change);
    changed?;
    logins.into_iter().collect()
}

#[tokio::test]
async fn the_secret_is_replaced_under_load_and_no_login_fails() -> Result {
    let database = Database::new(8).await?;
    let fleet = plan(&database, 2, 8).start().await?;
    let secret = fleet.dir.join("secret");
    let old = std::fs::read_to_string(&secret).context("the proxies have made a secret")?;
    for user in &fleet.users {
        fleet.proxy().log_in(user).await?;
    }
    notes(&fleet, 8).await?;

    // The new one in front of the old one: nobody notices.
    let new = "new-secret-of-the-fleet-new-secret-of-the-fleet";
    let missed = missed(&fleet).await?;
    under_load(&fleet, async || {
        std::fs::write(&secret, format!("{new}\n{old}"))?;
        reload(&fleet).await
    })
    .await?;
    ensure!(self::missed(&fleet).await? == missed, "the passdb was asked again");

    // Without the old one: what it has sealed is not found any more, and everybody is looked up again, by each proxy at most once.
    let old_notes = notes(&fleet, 8).await?;
    under_load(&fleet, async || {
        std::fs::write(&secret, format!("{new}\n"))?;
        reload(&fleet).await
    })
    .await?;
    let again = self::missed(&fleet).await? - missed;
    ensure!((8..=16).contains(&again), "{again} questions for 8 users of 2 proxies");
    eventually("the new secret has sealed everybody's answer", Duration::from_secs(30), async || {
        let new_notes =
            fleet.redis.keys().await?.into_iter().filter(|key| key.contains(":note:") && !old_notes.contains(key));
        ensure!(new_notes.count() == 8);
        Ok(())
    })
    .await?;

    // Others may read it: refused, and the one in force stays.
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(&secret, std::fs::Permissions::from_mode(0o644))?;
    let output = fleet.proxy().admin(&["reload"]).await?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(!output.status.success() && said.contains("has mode 0644"), "{said}");
    let missed = self::missed(&fleet).await?;
    fleet.proxy().log_in(&fleet.users[0]).await?;
    ensure!(self::missed(&fleet).await? == missed);
    Ok(())
}
