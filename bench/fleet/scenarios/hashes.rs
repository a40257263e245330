//! Logins by plain passwords, one after the other, while password hashes queue: does one login's hash delay another's events?

use std::cell::Cell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use super::line_up;
use crate::args::Args;
use crate::client::{Client, Door};
use crate::report::{Table, percentile};
use crate::subjects::Subject;
use crate::world::{HASHED_USERS, World, hashed_user_name};

const COLUMNS: [&str; 5] = ["p99 ms", "p50 ms", "p90 ms", "logins", "hashes checked"];
/// The first is what the other is compared with.
const ALONE: &str = "alone, no hashes";
const BESIDE: &str = "while 50 bcrypt checks queue";

pub(super) async fn run(world: &World, args: &Args) -> anyhow::Result<Table> {
    let title = "Login by a plain password, beside bcrypt (cost 10), through homing with the memory store";
    let mut table = Table::new(title, &COLUMNS).against(ALONE);
    let Some(running) = line_up(world, &[Subject::HomingMemory], &mut table).await.pop() else { return Ok(table) };
    let (door, period) = (running.plain(), Duration::from_secs(if args.quick { 1 } else { 3 }));
    for _ in 0..args.short_rounds() {
        let alone = measure(&door, period).await?;
        table.add_to(ALONE, [alone, vec![0.0]].concat());
        let hashes = Hashes::begin(&door);
        hashes.reach(2).await; // the queue is as long as it gets
        let before = hashes.checked();
        let beside = measure(&door, period).await?;
        table.add_to(BESIDE, [beside, vec![f64::from(hashes.checked() - before)]].concat());
        hashes.end().await;
    }
    Ok(table)
}

/// One client, again and again, for so long.
async fn measure(door: &Door, period: Duration) -> anyhow::Result<Vec<f64>> {
    let (until, mut times) = (Instant::now() + period, Vec::new());
    while Instant::now() < until {
        let began = Instant::now();
        let mut client = Client::connect(door).await?;
        client.login(times.len()).await?;
        times.push(began.elapsed().as_secs_f64() * 1000.0);
        client.logout().await?;
    }
    times.sort_by(f64::total_cmp);
    let at = |share| percentile(&times, share);
    Ok(vec![at(0.99), at(0.5), at(0.9), f64::from(u32::try_from(times.len())?)])
}

/// Clients whose passwords are kept as hashes, each of whom logs in again and again.
struct Hashes {
    clients: JoinSet<std::io::Result<()>>,
    checked: Rc<Cell<u32>>,
    over: Rc<Cell<bool>>,
}

impl Hashes {
    fn begin(door: &Door) -> Self {
        let mut hashes = Self { clients: JoinSet::new(), checked: Default::default(), over: Default::default() };
        for number in 0..HASHED_USERS {
            let (door, checked, over) = (door.clone(), hashes.checked.clone(), hashes.over.clone());
            hashes.clients.spawn_local(async move {
                while !over.get() {
                    let mut client = Client::connect(&door).await?;
                    client.login_as(&hashed_user_name(number)).await?;
                    checked.set(checked.get() + 1);
                    client.logout().await?;
                }
                Ok(())
            });
        }
        hashes
    }

    fn checked(&self) -> u32 {
        self.checked.get()
    }

    /// Waits until so many were checked.
    async fn reach(&self, count: u32) {
        while self.checked() < count && !self.clients.is_empty() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    /// Waits until the queue is empty.
    async fn end(self) {
        self.over.set(true);
        for outcome in self.clients.join_all().await {
            if let Err(error) = outcome {
                eprintln!("fleet: a login by bcrypt failed: {error}");
            }
        }
    }
}
