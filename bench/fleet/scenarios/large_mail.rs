//! A large message by LMTP to many recipients on all servers, one of which is slow: what a proxy holds of it.

use std::sync::atomic::Ordering;
use std::time::Instant;

use super::{line_up_for, proxies};
use crate::args::Args;
use crate::client::{Client, Form, Message, Speech};
use crate::report::Table;
use crate::subjects::Subject;
use crate::world::{World, user_name};

/// Of one message.
const RECIPIENTS: usize = 50;

/// Bytes sent at once, and bytes of a chunk.
const PIECE: usize = 1_000_000;

/// Memory spreads so little that more rounds tell nothing.
const MOST_ROUNDS: u32 = 3;

pub(super) async fn run(world: &World, args: &Args) -> anyhow::Result<Table> {
    let megabytes = if args.quick { 20 } else { 100 };
    let title = format!("Memory for {megabytes} MB by LMTP to {RECIPIENTS} recipients");
    let columns = ["peak growth MiB", "RSS before", "CPU s", "seconds", "servers", "MB sent on", "failed"];
    let mut table = Table::new(title, &columns).against(row(Subject::HomingMemory, Form::Data));
    for _ in 0..args.rounds().min(MOST_ROUNDS) {
        for subject in proxies(args) {
            for form in [Form::Data, Form::Chunks] {
                measure(world, &mut table, subject, form, megabytes).await?;
            }
        }
    }
    Ok(table)
}

/// One turn, with a fresh process.
async fn measure(
    world: &World,
    table: &mut Table,
    subject: Subject,
    form: Form,
    megabytes: usize,
) -> anyhow::Result<()> {
    let Some(running) = line_up_for(Speech::Lmtp, world, &[subject], table).await.pop() else { return Ok(()) };
    let to: Vec<String> = (0..RECIPIENTS).map(user_name).collect();
    let mut client = Client::connect(&running.plain()).await?;
    client.hello().await?;
    // The connections to all servers are up then.
    client.deliver(&to, &Message::of(2048, 1), form).await?;

    let (before, cpu, began) = (running.begin_peak(), running.cpu(), Instant::now());
    let outcome = client.deliver(&to, &Message::of(PIECE, megabytes), form).await;
    let (elapsed, cpu, growth) = (began.elapsed(), running.cpu() - cpu, running.peak().saturating_sub(before));
    let words = outcome.inspect_err(|error| eprintln!("fleet: {}: {error}", subject.title())).unwrap_or_default();
    let sent: Vec<u64> = world.taken.iter().map(|taken| taken.swap(0, Ordering::Relaxed)).collect();
    let servers = sent.iter().filter(|&&bytes| bytes > 0).count();
    let mebibytes = |bytes: u64| f64::from(u32::try_from(bytes / 1024).unwrap_or(u32::MAX)) / 1024.0;
    let count = |number: usize| f64::from(u32::try_from(number).unwrap_or(u32::MAX));
    let sample = vec![
        mebibytes(growth),
        mebibytes(before),
        cpu.total().as_secs_f64(),
        elapsed.as_secs_f64(),
        count(servers),
        mebibytes(sent.iter().sum()) * 1.048576,
        count(RECIPIENTS - words.len()),
    ];
    table.add_to(&row(subject, form), sample);
    Ok(())
}

fn row(subject: Subject, form: Form) -> String {
    format!("{}, {}", subject.title(), if form == Form::Data { "DATA" } else { "BDAT" })
}
