//! POP3 logins beside IMAP's, both through homing.

use std::time::Duration;

use super::line_up_for;
use super::logins::{COLUMNS, Handshake, doors, measure};
use crate::args::Args;
use crate::client::{Door, Speech};
use crate::report::Table;
use crate::subjects::Subject;
use crate::world::World;

/// The first is what the others are compared with. Each is a conversation that ends logged in.
const WAYS: [(Speech, &str); 3] = [
    (Speech::Imap, "IMAP, LOGIN"),
    (Speech::Pop3Sasl, "POP3, AUTH PLAIN"),
    (Speech::Pop3, "POP3, USER and PASS: one round trip more"),
];

pub(super) async fn run(world: &World, args: &Args, handshake: Handshake) -> anyhow::Result<Table> {
    let kind = if handshake == Handshake::None { "plain" } else { "full TLS 1.3 handshake" };
    let title = format!("POP3 login beside IMAP's, through homing with the memory store, {kind}");
    let mut table = Table::new(title, &COLUMNS).against(WAYS[0].1);
    let period = Duration::from_secs(if args.quick { 1 } else { 2 });
    let imap = line_up_for(Speech::Imap, world, &[Subject::HomingMemory], &mut table).await.pop();
    let pop3 = line_up_for(Speech::Pop3, world, &[Subject::HomingMemory], &mut table).await.pop();
    let (Some(imap), Some(pop3)) = (imap, pop3) else { return Ok(table) };
    for _ in 0..args.short_rounds() {
        for (speech, name) in WAYS {
            let running = if speech == Speech::Imap { &imap } else { &pop3 };
            let doors = doors(world, running, handshake)?;
            let doors: Vec<Door> = doors.into_iter().map(|door| Door { speech, ..door }).collect();
            table.add_to(name, measure(running, &doors, period).await?);
        }
    }
    Ok(table)
}
