//! Nobody learns from a refusal, nor from the time that it takes, who is a user: measured, source by source.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use anyhow::ensure;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{ConnectOptions, Executor};

use crate::harness::{Fleet, Imap, Result, Status, User, tools};
use crate::penalties::{start, wrong};

/// Tries of each kind.
const TRIES: usize = 200;
/// Whose password is wrong, who may not log in, and whom nobody knows.
const KINDS: [&str; 3] = ["wrong password", "locked user", "unknown user"];
/// The cheapest that the scheme allows, so that nothing hides behind it: an unknown user has to be made to cost the same.
const COST: &str = "rounds=1000$measured";
/// More than a busy machine needs.
const PATIENCE: Duration = Duration::from_secs(60);

const SETTINGS: &str = "[auth]\npenalty_max = \"1ms\"\ncache_negative_ttl = \"1h\"\n\
                        [limits]\nfailures = 1000\ncommands = 10000\nlogin_timeout = \"30min\"\n";

/// The largest distance between the two empirical distributions (Kolmogorov-Smirnov), both sorted.
fn distance(a: &[Duration], b: &[Duration]) -> f64 {
    let part = |all: &[Duration], at: Duration| all.partition_point(|took| *took <= at) as f64 / all.len() as f64;
    a.iter().chain(b).map(|at| (part(a, *at) - part(b, *at)).abs()).fold(0.0, f64::max)
}

/// Of two samples of one distribution one pair in a million is farther apart (Smirnov's bound). Two distributions that are
/// twice as far apart would hardly stay unnoticed.
fn bound() -> f64 {
    (-(0.5e-6_f64).ln() / 2.0).sqrt() * (2.0 / TRIES as f64).sqrt()
}

/// Measures refusals in one dialogue, and holds those of each kind against the others. `fresh`: each password is another.
async fn measure(what: &str, fleet: &Fleet, users: &[User; 3], fresh: bool) -> Result {
    let mut imap = Imap::connect(fleet.proxy().address()).await?.with_patience(PATIENCE);
    let (mut times, mut words) = ([const { Vec::new() }; 3], BTreeSet::new());
    for round in 0..TRIES {
        for turn in 0..KINDS.len() {
            // Each comes as often at each place and behind each other: whatever else the machine does falls upon all alike.
            let turn = if round % 2 == 0 { turn } else { KINDS.len() - 1 - turn };
            let kind = (turn + round / 2) % KINDS.len();
            let guess = wrong(&users[kind], if fresh { round } else { 0 });
            let began = Instant::now();
            let answer = imap.try_login(&guess).await?;
            times[kind].push(began.elapsed());
            ensure!(answer.status == Status::No);
            words.insert(answer.text);
        }
    }
    ensure!(words.len() == 1, "{what}: {words:?}");
    for (kind, times) in KINDS.iter().zip(&mut times) {
        times.sort();
        let at = |percent: usize| times[(times.len() * percent / 100).min(times.len() - 1)];
        println!("{what}, {kind}: p5 {:?} p25 {:?} p50 {:?} p75 {:?} p95 {:?}", at(5), at(25), at(50), at(75), at(95));
    }
    for (one, other) in [(0, 1), (0, 2), (1, 2)] {
        let apart = distance(&times[one], &times[other]);
        println!("{what}, {} and {}: {apart:.3} apart, bound {:.3}", KINDS[one], KINDS[other], bound());
        ensure!(apart < bound(), "{what}: {} and {} are {apart:.3} apart", KINDS[one], KINDS[other]);
    }
    Ok(())
}

/// A database with those who are known.
async fn database(fleet: &Fleet, hash: &str) -> Result<String> {
    let file = fleet.dir.join("users.db");
    let options = SqliteConnectOptions::new().filename(&file).create_if_missing(true);
    let mut connection: SqliteConnection = options.connect().await?;
    connection.execute("CREATE TABLE users (name TEXT PRIMARY KEY, word TEXT, nologin TEXT)").await?;
    for (user, nologin) in fleet.users.iter().zip([None, Some("y")]) {
        let row = sqlx::query("INSERT INTO users VALUES (?, ?, ?)").bind(&user.name).bind(hash).bind(nologin);
        row.execute(&mut connection).await?;
    }
    Ok(format!(
        "kind = \"sql\"\nurl = \"sqlite://{}\"\nquery = \"SELECT word AS password, nologin FROM users WHERE name = :user\"",
        file.display()
    ))
}

#[tokio::test]
async fn nobody_learns_from_an_answer_or_its_time_who_is_a_user() -> Result {
    for (what, is_database, cache) in
        [("file", false, false), ("remembered file", false, true), ("remembered database", true, true)]
    {
        let mut fleet = Fleet::plan().proxies(1).backends(1).users(3).start_without_proxies().await?;
        let users: [User; 3] = [0, 1, 2].map(|number| fleet.users[number].clone());
        let mut openssl = tokio::process::Command::new("openssl");
        let hash = tools::succeed(openssl.args(["passwd", "-6", "-salt", COST, &users[0].password]), b"").await?;
        let hash = format!("{{SHA512-CRYPT}}{}", hash.trim());
        let passdb = if is_database {
            database(&fleet, &hash).await?
        } else {
            let file = fleet.dir.join("passdb");
            std::fs::write(&file, format!("{}:{hash}\n{}:{hash}::::::nologin\n", users[0].name, users[1].name))?;
            format!("kind = \"file\"\npath = {file:?}")
        };
        start(&mut fleet, &format!("[[passdb]]\n{passdb}\ncache = {cache}"), SETTINGS).await?;
        measure(&format!("{what}, new guesses"), &fleet, &users, true).await?;
        if cache {
            measure(&format!("{what}, one guess again and again"), &fleet, &users, false).await?;
        }
    }
    Ok(())
}
