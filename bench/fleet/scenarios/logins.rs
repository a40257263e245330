//! Logins: clients connect, log in, log out and wait for the close, over and over.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use super::{line_up, proxies};
use crate::args::Args;
use crate::client::{Client, Door};
use crate::report::{Table, percentile};
use crate::subjects::Running;
use crate::world::World;

/// Clients at work at once: enough to keep two cores busy, few enough to queue nowhere.
const CLIENTS: usize = 64;

/// What [`measure`] gives.
pub(super) const COLUMNS: [&str; 9] =
    ["CPU ms per login", "user", "system", "store's CPU", "logins/s", "p50 ms", "p99 ms", "resumed %", "failed"];

/// How connections are protected.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Handshake {
    None,
    Full,
    Resumed,
}

pub(super) async fn run(world: &World, args: &Args, handshake: Handshake) -> anyhow::Result<Table> {
    let title = match handshake {
        Handshake::None => "Login, plain",
        Handshake::Full => "Login, full TLS 1.3 handshake",
        Handshake::Resumed => "Login, resumed TLS 1.3 session",
    };
    let mut table = Table::new(title, &COLUMNS);
    let lineup = line_up(world, &proxies(args), &mut table).await;
    let period = Duration::from_secs(if args.quick { 1 } else { 4 });
    for _ in 0..args.rounds() {
        for running in &lineup {
            let doors = doors(world, running, handshake)?;
            table.add(running.subject, measure(running, &doors, period).await?);
        }
    }
    Ok(table)
}

/// One turn: every client logs in once to warm up (and to get its first ticket), then again and again.
pub(super) async fn measure(running: &Running, doors: &[Door], period: Duration) -> anyhow::Result<Vec<f64>> {
    let counts = Rc::new(Counts::default());
    storm(doors, &counts, Instant::now()).await;
    counts.reset();

    let (cpu, store_cpu, began) = (running.cpu(), running.store_cpu(), Instant::now());
    storm(doors, &counts, began + period).await;
    let elapsed = began.elapsed();
    let (cpu, store_cpu) = (running.cpu() - cpu, running.store_cpu() - store_cpu);

    let mut times = counts.times.take();
    times.sort_by(f64::total_cmp);
    let logins = f64::from(counts.logins.get());
    let per_login = |time: Duration| time.as_secs_f64() * 1000.0 / logins;
    Ok(vec![
        per_login(cpu.total()),
        per_login(cpu.user),
        per_login(cpu.system),
        per_login(store_cpu.total()),
        logins / elapsed.as_secs_f64(),
        percentile(&times, 0.5),
        percentile(&times, 0.99),
        f64::from(counts.resumed.get()) * 100.0 / logins,
        f64::from(counts.failed.get()),
    ])
}

/// A ticket store for each client, since each is used by one connection at a time.
pub(super) fn doors(world: &World, running: &Running, handshake: Handshake) -> anyhow::Result<Vec<Door>> {
    let door = || match handshake {
        Handshake::None => Ok(running.plain()),
        Handshake::Full => running.tls(world, false),
        Handshake::Resumed => running.tls(world, true),
    };
    (0..CLIENTS).map(|_| door()).collect()
}

/// What all clients of a turn saw.
#[derive(Default)]
struct Counts {
    next_user: Cell<usize>,
    logins: Cell<u32>,
    resumed: Cell<u32>,
    failed: Cell<u32>,
    /// From connect to the OK of LOGIN, in ms.
    times: RefCell<Vec<f64>>,
}

impl Counts {
    fn reset(&self) {
        self.logins.set(0);
        self.resumed.set(0);
        self.failed.set(0);
        self.times.take();
    }
}

/// Every client logs in at least once, and until the time is up.
async fn storm(doors: &[Door], counts: &Rc<Counts>, until: Instant) {
    let mut clients = JoinSet::new();
    for door in doors {
        let (door, counts) = (door.clone(), counts.clone());
        clients.spawn_local(async move {
            loop {
                if let Err(error) = visit(&door, &counts).await {
                    complain(&counts, &error);
                }
                if Instant::now() >= until {
                    return;
                }
            }
        });
    }
    clients.join_all().await;
}

async fn visit(door: &Door, counts: &Counts) -> std::io::Result<()> {
    let user = counts.next_user.replace(counts.next_user.get() + 1);
    let began = Instant::now();
    let mut client = Client::connect(door).await?;
    client.login(user).await?;
    counts.times.borrow_mut().push(began.elapsed().as_secs_f64() * 1000.0);
    let resumed = client.resumed;
    client.logout().await?;
    counts.logins.set(counts.logins.get() + 1);
    counts.resumed.set(counts.resumed.get() + u32::from(resumed));
    Ok(())
}

/// The first failure of a turn is shown; all are counted.
fn complain(counts: &Counts, error: &std::io::Error) {
    if counts.failed.replace(counts.failed.get() + 1) == 0 {
        eprintln!("fleet: a login failed: {error}");
    }
}
