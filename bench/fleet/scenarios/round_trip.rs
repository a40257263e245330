//! Round trip: one client at a time says NOOP and waits for the answer.

use std::time::Instant;

use super::line_up;
use crate::args::Args;
use crate::client::{Client, Door};
use crate::report::{Table, percentile};
use crate::subjects::{Running, Subject};
use crate::world::World;

/// Commands of a session before another has its turn: a few milliseconds, so that what disturbs one disturbs all.
const BURST: usize = 100;

/// What a round trip takes without a proxy is the bench's share, and is taken off the others.
const YARDSTICK: Subject = Subject::Direct;

pub(super) async fn run(world: &World, args: &Args) -> anyhow::Result<Table> {
    let columns = ["added us", "median us", "p99 us", "TLS: added us", "TLS: p99 us"];
    let mut table = Table::new("Round trip of a NOOP", &columns);
    let mut subjects = args.subjects();
    subjects.retain(|&subject| subject != YARDSTICK);
    subjects.insert(0, YARDSTICK);
    let lineup = line_up(world, &subjects, &mut table).await;
    let bursts = if args.quick { 10 } else { 50 };
    for _ in 0..args.rounds() {
        let mut talks = open(world, &lineup).await?;
        for _ in 0..bursts {
            for talk in &mut talks {
                talk.plain.burst().await?;
                if let Some(tls) = &mut talk.tls {
                    tls.burst().await?;
                }
            }
        }
        tabulate(talks, &mut table).await?;
    }
    Ok(table)
}

/// A session with each subject, and one with TLS where there is a proxy.
async fn open(world: &World, lineup: &[Running]) -> anyhow::Result<Vec<Talk>> {
    let mut talks = Vec::new();
    for running in lineup {
        let tls = match running.subject {
            YARDSTICK => None,
            _ => Some(Session::open(&running.tls(world, false)?).await?),
        };
        talks.push(Talk { subject: running.subject, plain: Session::open(&running.plain()).await?, tls });
    }
    Ok(talks)
}

/// Adds a row for each talk and ends it.
async fn tabulate(talks: Vec<Talk>, table: &mut Table) -> anyhow::Result<()> {
    let mut direct = f64::NAN;
    for talk in talks {
        let plain = talk.plain.end().await?;
        if talk.subject == YARDSTICK {
            direct = plain.median;
        }
        let mut sample = vec![plain.median - direct, plain.median, plain.p99];
        if let Some(tls) = talk.tls {
            let tls = tls.end().await?;
            sample.extend([tls.median - direct, tls.p99]);
        }
        table.add(talk.subject, sample);
    }
    Ok(())
}

/// The sessions with one subject.
struct Talk {
    subject: Subject,
    plain: Session,
    tls: Option<Session>,
}

/// A logged-in client and how long its commands took, in microseconds.
struct Session {
    client: Client,
    times: Vec<f64>,
}

/// In microseconds.
struct Spread {
    median: f64,
    p99: f64,
}

impl Session {
    async fn open(door: &Door) -> std::io::Result<Self> {
        let mut client = Client::connect(door).await?;
        client.login(0).await?;
        Ok(Self { client, times: Vec::new() })
    }

    /// The first command of a burst finds everybody asleep: it is not counted.
    async fn burst(&mut self) -> std::io::Result<()> {
        self.client.command("NOOP").await?;
        for _ in 0..BURST {
            let began = Instant::now();
            self.client.command("NOOP").await?;
            self.times.push(began.elapsed().as_secs_f64() * 1e6);
        }
        Ok(())
    }

    async fn end(mut self) -> std::io::Result<Spread> {
        self.client.logout().await?;
        self.times.sort_by(f64::total_cmp);
        Ok(Spread { median: percentile(&self.times, 0.5), p99: percentile(&self.times, 0.99) })
    }
}
