//! What the fleet's memory of passdbs costs a login, beside its round trip: names, seals and marks, over notes in this process.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::ensure;
use arc_swap::ArcSwap;
use homing::auth::cache::seal::Seals;
use homing::auth::cache::{Cache, Times};
use homing::auth::{Chain, Circumstances, Question};
use homing::config::{AuthConfig, FilePassdb, PassdbConfig};
use homing::model::{Credentials, Mechanism, Proof, Protocol, Secret, SessionId};
use homing::store::Rules;
use homing::store::memory::Memory;

/// Logins in one slice; the cheapest slice counts.
const LOGINS: u32 = 500;
const SLICES: usize = 10;
const WORD: &str = "a password of usual length";

/// Two figures, as a table: a login that is remembered, and one that a passwd-file with plain passwords answers.
pub(crate) async fn cost() -> anyhow::Result<String> {
    let (remembered, read) = (login(true).await?, login(false).await?);
    let micros = |span: Duration| span.as_secs_f64() * 1e6;
    Ok(format!(
        "\n| login, without the store's round trip | microseconds |\n|---|---:|\n| answered by what the fleet remembers | {:.1} |\n\
         | answered by a passwd-file with {{PLAIN}} | {:.1} |\n",
        micros(remembered),
        micros(read)
    ))
}

async fn login(cache: bool) -> anyhow::Result<Duration> {
    let file = tempfile::NamedTempFile::new()?;
    std::fs::write(file.path(), format!("ann@example.org:{{PLAIN}}{WORD}::::::pool=blue\n"))?;
    let passdb = FilePassdb { path: file.path().to_owned(), cache, ..FilePassdb::default() };
    let hour = Duration::from_secs(3600);
    let times = Times { positive: hour, negative: hour, stale: hour };
    let seals = Seals::random().ok_or_else(|| anyhow::anyhow!("no random bytes"))?;
    let memory = Arc::new(Cache::new(
        Arc::new(Memory::embedded(Rules::default())),
        1,
        Arc::new(ArcSwap::from_pointee(seals)),
        times,
    ));
    let chain = Chain::open(&[PassdbConfig::File(passdb)], &AuthConfig::default(), 1).await.with_cache(&memory);
    let mut least = Duration::MAX;
    for _ in 0..SLICES {
        let begun = Instant::now();
        for _ in 0..LOGINS {
            log_in(&chain).await?;
        }
        least = least.min(begun.elapsed() / LOGINS);
    }
    let stats = memory.stats();
    ensure!(!cache || stats.fresh + 10 > u64::from(LOGINS) * SLICES as u64, "it was not remembered: {stats:?}");
    Ok(least)
}

async fn log_in(chain: &Chain) -> anyhow::Result<()> {
    let proof = Proof::Password(Secret::new(WORD.as_bytes().to_vec()));
    let user = "ann@example.org".to_owned();
    let credentials = Credentials { user, authzid: None, proof, mechanism: Mechanism::Plain };
    let somewhere = SocketAddr::from(([192, 0, 2, 7], 50_000));
    let session = SessionId::random();
    let question = Question {
        credentials: &credentials,
        service: Protocol::Imap,
        client: somewhere,
        local: somewhere,
        secured: true,
        session: &session,
        around: Circumstances::default(),
    };
    ensure!(chain.authenticate(&question).await.is_ok(), "ann is refused");
    tokio::task::yield_now().await; // the note of the first login is written by a task of its own
    Ok(())
}
