//! Bulk: a few clients fetch much.

use std::time::Instant;

use super::line_up;
use crate::args::Args;
use crate::client::Client;
use crate::report::Table;
use crate::subjects::{Running, Subject};
use crate::world::World;

/// Sessions that fetch at once.
const CLIENTS: usize = 4;

/// A GB has a thousand.
const MEGABYTE: usize = 1_000_000;

pub(super) async fn run(world: &World, args: &Args, tls: bool) -> anyhow::Result<Table> {
    let title = format!("Relayed bytes, server to client, {}", if tls { "TLS 1.3" } else { "plain" });
    let mut table = Table::new(title, &["CPU s per GB", "user", "system", "GB/s"]);
    let subjects: Vec<Subject> =
        args.subjects().into_iter().filter(|&subject| !(tls && subject == Subject::Direct)).collect();
    let lineup = line_up(world, &subjects, &mut table).await;
    let megabytes = if args.quick { 50 } else { 500 };
    for _ in 0..args.rounds() {
        for running in &lineup {
            table.add(running.subject, measure(world, running, tls, megabytes * MEGABYTE).await?);
        }
    }
    Ok(table)
}

/// One turn: every client fetches so many bytes.
async fn measure(world: &World, running: &Running, tls: bool, bytes: usize) -> anyhow::Result<Vec<f64>> {
    let door = if tls { running.tls(world, false)? } else { running.plain() };
    let mut clients = Vec::new();
    for user in 0..CLIENTS {
        let mut client = Client::connect(&door).await?;
        client.login(user).await?;
        clients.push(client);
    }
    let (cpu, began) = (running.cpu(), Instant::now());
    futures_util::future::try_join_all(clients.iter_mut().map(|client| client.bulk(bytes))).await?;
    let elapsed = began.elapsed();
    let cpu = running.cpu() - cpu;
    for client in clients {
        client.logout().await?;
    }
    let gigabytes = f64::from(u32::try_from(CLIENTS * bytes / MEGABYTE)?) / 1000.0;
    Ok(vec![
        cpu.total().as_secs_f64() / gigabytes,
        cpu.user.as_secs_f64() / gigabytes,
        cpu.system.as_secs_f64() / gigabytes,
        gigabytes / elapsed.as_secs_f64(),
    ])
}
