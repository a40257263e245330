//! Deliveries by LMTP: clients bring small messages, some on each connection, over and over.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use super::{line_up_for, proxies};
use crate::args::Args;
use crate::client::{Client, Door, Form, Message, Speech};
use crate::report::{Table, percentile};
use crate::subjects::Running;
use crate::world::{World, user_name};

/// Clients at work at once: enough to keep two cores busy, and no more than a mail transfer agent has for one destination.
pub(crate) const CLIENTS: usize = 8;

/// Messages of one connection, each to one user.
const MESSAGES: usize = 20;

/// Bytes of a message.
const SIZE: usize = 2048;

pub(super) async fn run(world: &World, args: &Args) -> anyhow::Result<Table> {
    let title = format!("Delivery by LMTP, {MESSAGES} messages of {SIZE} bytes on a connection");
    let columns = ["CPU ms per message", "user", "system", "store's CPU", "messages/s", "p50 ms", "p99 ms", "failed"];
    let mut table = Table::new(title, &columns);
    let lineup = line_up_for(Speech::Lmtp, world, &proxies(args), &mut table).await;
    let period = Duration::from_secs(if args.quick { 1 } else { 2 });
    let counts = Rc::new(Counts::default());
    for running in &lineup {
        storm(&running.plain(), &counts, Instant::now() + period).await; // everybody gets a home, and caches are filled
    }
    for _ in 0..args.short_rounds() {
        for running in &lineup {
            table.add(running.subject, measure(running, period).await);
        }
    }
    Ok(table)
}

/// One turn.
async fn measure(running: &Running, period: Duration) -> Vec<f64> {
    let counts = Rc::new(Counts::default());
    let (cpu, store_cpu, began) = (running.cpu(), running.store_cpu(), Instant::now());
    storm(&running.plain(), &counts, began + period).await;
    let elapsed = began.elapsed();
    let (cpu, store_cpu) = (running.cpu() - cpu, running.store_cpu() - store_cpu);

    let mut times = counts.times.take();
    times.sort_by(f64::total_cmp);
    let messages = f64::from(u32::try_from(times.len()).unwrap_or(u32::MAX));
    let per_message = |time: Duration| time.as_secs_f64() * 1000.0 / messages;
    vec![
        per_message(cpu.total()),
        per_message(cpu.user),
        per_message(cpu.system),
        per_message(store_cpu.total()),
        messages / elapsed.as_secs_f64(),
        percentile(&times, 0.5),
        percentile(&times, 0.99),
        f64::from(counts.failed.get()),
    ]
}

/// What all clients of a turn saw.
#[derive(Default)]
struct Counts {
    next_user: Cell<usize>,
    failed: Cell<u32>,
    /// From the envelope to the word on the message, in ms.
    times: RefCell<Vec<f64>>,
}

/// Every client comes at least once, and until the time is up.
async fn storm(door: &Door, counts: &Rc<Counts>, until: Instant) {
    let message = Rc::new(Message::of(SIZE, 1));
    let mut clients = JoinSet::new();
    for _ in 0..CLIENTS {
        let (door, counts, message) = (door.clone(), counts.clone(), message.clone());
        clients.spawn_local(async move {
            loop {
                if let Err(error) = visit(&door, &counts, &message).await {
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

/// One connection.
async fn visit(door: &Door, counts: &Counts, message: &Message) -> std::io::Result<()> {
    let mut client = Client::connect(door).await?;
    client.hello().await?;
    for _ in 0..MESSAGES {
        let user = counts.next_user.replace(counts.next_user.get() + 1);
        let began = Instant::now();
        client.deliver(&[user_name(user)], message, Form::Data).await?;
        counts.times.borrow_mut().push(began.elapsed().as_secs_f64() * 1000.0);
    }
    client.logout().await
}

/// The first failure of a turn is shown; all are counted.
fn complain(counts: &Counts, error: &std::io::Error) {
    if counts.failed.replace(counts.failed.get() + 1) == 0 {
        eprintln!("fleet: a delivery failed: {error}");
    }
}
