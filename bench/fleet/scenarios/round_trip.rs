//! Round trip: one client says NOOP and waits for the answer, alone on the machine.

use std::time::Instant;

use super::line_up;
use crate::args::Args;
use crate::client::{Client, Door};
use crate::report::{Table, percentile};
use crate::subjects::Subject;
use crate::world::World;

/// Commands before the first that is timed.
const WARM_UP: usize = 200;

/// The first in the round; what it takes is the wire's and the bench's share, and is taken off the others.
const YARDSTICK: Subject = Subject::Direct;

pub(super) async fn run(world: &World, args: &Args) -> anyhow::Result<Table> {
    let columns = ["added us", "median us", "p99 us", "added by TLS session us", "TLS p99 us"];
    let mut table = Table::new("Round trip of a NOOP", &columns);
    table.remark("Without the proxy, which the added times are measured from, there is no TLS.");
    let mut subjects = args.subjects();
    subjects.retain(|&subject| subject != YARDSTICK);
    subjects.insert(0, YARDSTICK);
    let lineup = line_up(world, &subjects, &mut table).await;
    let commands = if args.quick { 1000 } else { 5000 };
    for _ in 0..args.rounds() {
        let mut direct = 0.0;
        for running in &lineup {
            let plain = time_noops(&running.plain(), commands).await?;
            if running.subject == YARDSTICK {
                direct = plain.0;
                table.add(YARDSTICK, vec![0.0, plain.0, plain.1]);
                continue;
            }
            let tls = time_noops(&running.tls(world, false)?, commands).await?;
            table.add(running.subject, vec![plain.0 - direct, plain.0, plain.1, tls.0 - direct, tls.1]);
        }
    }
    Ok(table)
}

/// Median and 99th percentile in microseconds.
async fn time_noops(door: &Door, commands: usize) -> anyhow::Result<(f64, f64)> {
    let mut client = Client::connect(door).await?;
    client.login(0).await?;
    for _ in 0..WARM_UP {
        client.command("NOOP").await?;
    }
    let mut times = Vec::with_capacity(commands);
    for _ in 0..commands {
        let began = Instant::now();
        client.command("NOOP").await?;
        times.push(began.elapsed().as_secs_f64() * 1e6);
    }
    client.logout().await?;
    times.sort_by(f64::total_cmp);
    Ok((percentile(&times, 0.5), percentile(&times, 0.99)))
}
