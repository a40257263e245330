//! What is measured. Every scenario gives each proxy its turn in every round, so that whatever else the machine does
//! meets all of them alike.

mod bulk;
pub(crate) mod delivery;
mod hashes;
mod idle;
mod large_mail;
mod logins;
mod pop3;
mod round_trip;

use std::fs;

use anyhow::Context;
use tokio::task::LocalSet;

use crate::args::{Args, Scenario};
use crate::client::Speech;
use crate::report::Table;
use crate::subjects::{Running, Subject};
use crate::world::World;
use crate::{header, machine};

/// Runs what was asked for, prints each table when it is ready, and writes all to the file that was asked for.
pub(crate) async fn tell(args: &Args) -> anyhow::Result<()> {
    let world = World::create()?;
    let mut report = header::describe("Fleet bench", &machine::PEERS, args.quick);
    println!("{report}");
    for scenario in args.scenarios() {
        let table = LocalSet::new().run_until(run(scenario, &world, args)).await?;
        println!("{}", table.markdown());
        report += &table.markdown();
    }
    report += &format!("\nLoad after the run: {}\n", header::load());
    if let Some(out) = &args.out {
        fs::write(out, report).with_context(|| format!("cannot write {}", out.display()))?;
    }
    Ok(())
}

async fn run(scenario: Scenario, world: &World, args: &Args) -> anyhow::Result<Table> {
    match scenario {
        Scenario::LoginPlain => logins::run(world, args, logins::Handshake::None).await,
        Scenario::LoginTls => logins::run(world, args, logins::Handshake::Full).await,
        Scenario::LoginResumed => logins::run(world, args, logins::Handshake::Resumed).await,
        Scenario::IdlePlain => idle::run(world, args, false).await,
        Scenario::IdleTls => idle::run(world, args, true).await,
        Scenario::BulkPlain => bulk::run(world, args, false).await,
        Scenario::BulkTls => bulk::run(world, args, true).await,
        Scenario::RoundTrip => round_trip::run(world, args).await,
        Scenario::Pop3Plain => pop3::run(world, args, logins::Handshake::None).await,
        Scenario::Pop3Tls => pop3::run(world, args, logins::Handshake::Full).await,
        Scenario::Delivery => delivery::run(world, args).await,
        Scenario::LargeMail => large_mail::run(world, args).await,
        Scenario::Hashes => hashes::run(world, args).await,
    }
}

/// The subjects that could be started, as IMAP proxies. Why others could not is told below the table.
async fn line_up(world: &World, subjects: &[Subject], table: &mut Table) -> Vec<Running> {
    line_up_for(Speech::Imap, world, subjects, table).await
}

/// The same for any protocol. Who does not speak it at all is not missed.
async fn line_up_for(speech: Speech, world: &World, subjects: &[Subject], table: &mut Table) -> Vec<Running> {
    let mut running = Vec::new();
    for &subject in subjects.iter().filter(|subject| subject.speaks(speech)) {
        match subject.start(speech, world).await {
            Ok(started) => running.push(started),
            Err(error) => table.remark(format!("Skipped {}: {error:#}.", subject.title())),
        }
    }
    running
}

/// All but the bare connection, for scenarios to which it has nothing to say.
fn proxies(args: &Args) -> Vec<Subject> {
    args.subjects().into_iter().filter(|&subject| subject != Subject::Direct).collect()
}
