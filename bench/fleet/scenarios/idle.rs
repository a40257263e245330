//! Idle sessions: what a logged-in client costs that says nothing.

use std::time::Duration;

use futures_util::StreamExt;

use super::{line_up, proxies};
use crate::args::Args;
use crate::client::{Client, Door};
use crate::report::Table;
use crate::subjects::{Running, Subject};
use crate::world::World;
use crate::{kernel, machine};

/// Clients that connect at once.
const CONNECTING: usize = 100;

/// Sessions that come and go before the first look, so that what a proxy sets up once is not charged to sessions.
const WARM_UP: u32 = 200;

/// Memory spreads so little that more rounds tell nothing.
const MOST_ROUNDS: u32 = 3;

/// Relayed by each session before the last look.
const BUSY: usize = 256 * 1024;

pub(super) async fn run(world: &World, args: &Args, tls: bool) -> anyhow::Result<Table> {
    let sessions = args.sessions().min(affordable());
    let title = format!("Memory of {sessions} idle sessions, {}", if tls { "TLS 1.3" } else { "plain" });
    let columns = ["KiB per session", "user space", "kernel", "all, after 256 KiB each", "user space then"];
    let mut table = Table::new(title, &columns);
    for _ in 0..args.rounds().min(MOST_ROUNDS) {
        let bare = measure(world, &mut table, Subject::Direct, sessions, false).await?;
        for subject in proxies(args) {
            let (Some(cost), Some(bare)) = (measure(world, &mut table, subject, sessions, tls).await?, bare) else {
                continue;
            };
            table.add(subject, cost.per_session(bare, sessions));
        }
    }
    Ok(table)
}

/// A session takes two descriptors in the proxy and two here.
fn affordable() -> u32 {
    u32::try_from(machine::open_files() / 2 - 500).unwrap_or(u32::MAX)
}

/// Bytes on top of those before the sessions.
#[derive(Clone, Copy, Default)]
struct Look {
    user: u64,
    kernel: u64,
}

/// Both looks of a turn.
#[derive(Clone, Copy)]
struct Cost {
    idle: Look,
    busy_once: Look,
}

impl Cost {
    /// The sockets of clients and servers are the bench's own: a run without proxy shows what they take.
    fn per_session(self, bare: Self, sessions: u32) -> Vec<f64> {
        let kib = |bytes: u64| f64::from(u32::try_from(bytes / 1024).unwrap_or(u32::MAX)) / f64::from(sessions);
        let kernel = |with: Look, without: Look| kib(with.kernel.saturating_sub(without.kernel));
        let idle = (kib(self.idle.user), kernel(self.idle, bare.idle));
        let busy = (kib(self.busy_once.user), kernel(self.busy_once, bare.busy_once));
        vec![idle.0 + idle.1, idle.0, idle.1, busy.0 + busy.1, busy.0]
    }
}

/// One turn, with a fresh process. None if it cannot be started.
async fn measure(
    world: &World,
    table: &mut Table,
    subject: Subject,
    sessions: u32,
    tls: bool,
) -> anyhow::Result<Option<Cost>> {
    let Some(running) = line_up(world, &[subject], table).await.pop() else { return Ok(None) };
    let door = if tls { running.tls(world, false)? } else { running.plain() };
    for client in open(&door, WARM_UP).await? {
        client.logout().await?;
    }
    let before = settled(&running).await;
    let mut clients = open(&door, sessions).await?;
    let idle = settled(&running).await;
    for client in &mut clients {
        client.bulk(BUSY).await?;
    }
    let busy_once = settled(&running).await;
    drop(clients);
    Ok(Some(Cost { idle: idle.since(before), busy_once: busy_once.since(before) }))
}

async fn open(door: &Door, sessions: u32) -> anyhow::Result<Vec<Client>> {
    let logins = (0..sessions).map(|user| async move {
        let mut client = Client::connect(door).await?;
        client.login(user as usize).await?;
        Ok::<_, std::io::Error>(client)
    });
    let opened: Vec<_> = futures_util::stream::iter(logins).buffer_unordered(CONNECTING).collect().await;
    Ok(opened.into_iter().collect::<Result<_, _>>()?)
}

/// Looks until two looks in a row agree within half a percent: allocators and the kernel give back late.
async fn settled(running: &Running) -> Look {
    let mut last = Look::take(running);
    for _ in 0..20 {
        tokio::time::sleep(Duration::from_millis(500)).await;
        let now = Look::take(running);
        if now.total().abs_diff(last.total()) <= last.total() / 200 {
            return now;
        }
        last = now;
    }
    last
}

impl Look {
    fn take(running: &Running) -> Self {
        let memory = running.memory();
        Self { user: memory.user, kernel: memory.kernel + kernel::connection_memory() }
    }

    fn total(self) -> u64 {
        self.user + self.kernel
    }

    fn since(self, before: Self) -> Self {
        Self { user: self.user.saturating_sub(before.user), kernel: self.kernel.saturating_sub(before.kernel) }
    }
}
