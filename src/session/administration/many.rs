//! Whom a command is for, and the joined answer where it is for many.

use std::collections::VecDeque;
use std::sync::Arc;

use tokio::sync::mpsc::{self, Receiver};
use tokio::time::Instant;

use super::one::{Errand, Part};
use super::{Caller, Trouble, home};
use crate::backend::Server;
use crate::model::Exit;
use crate::protocol::doveadm::{Aim, Command, Kind, kind, reply};

/// Parts of an answer that wait for those before them: a part has 16 KiB at most.
pub(super) const PARTS: usize = 8;

/// One of many.
pub(super) enum Share {
    /// What concerns this user.
    User(String),
    /// What this server has.
    Server(Arc<Server>),
}

/// Whom a command is for.
pub(super) enum Scope {
    /// One user.
    One(String),
    /// All of these, in this order.
    Each(Vec<Share>),
    /// Whichever of these answers first.
    Any(Vec<Arc<Server>>),
}

/// Finds out whom a command is for, by its name and what it says itself.
pub(super) async fn scope(caller: &Caller, name: &str, aim: Aim) -> Result<Scope, Trouble> {
    match (kind(name), aim) {
        (Kind::OfMachine, _) => Err(Trouble::new(
            Exit::NOT_PERMITTED,
            format!("{name} concerns one machine, not the fleet's users: run it at the mail server itself"),
        )),
        (Kind::OfAll, _) => Ok(Scope::Each(caller.servers().into_iter().map(Share::Server).collect())),
        (Kind::OfAny, _) => Ok(Scope::Any(caller.servers())),
        (Kind::OfUser, _) if name == "dsync server" => Err(Trouble::new(
            Exit::NOT_PERMITTED,
            "dsync-server is a conversation between two servers, which must reach each other without this proxy",
        )),
        (Kind::OfUser, Aim::Nobody) => {
            Err(Trouble::new(Exit::USAGE, format!("{name} needs a user: add -u, or -A for all")))
        }
        (Kind::OfUser, Aim::User(user)) => Ok(Scope::One(user)),
        (Kind::OfUser, Aim::Mask(mask)) => {
            let names = home::matching(caller, &mask).await?;
            Ok(Scope::Each(names.into_iter().map(Share::User).collect()))
        }
    }
}

/// Has a command carried out, for whomever it is.
pub(super) async fn carry_out(errand: Errand) -> Exit {
    let began = Instant::now();
    let name = errand.command.known_name();
    let whole = Command::clone(&errand.command);
    let aimed = match kind(&name) {
        Kind::OfUser => {
            whole.aim(errand.caller.separator()).map_err(|fault| Trouble::new(Exit::USAGE, fault.to_string()))
        }
        _ => Ok((Aim::Nobody, Command { user: String::new(), ..whole })),
    };
    let found = match aimed {
        // What is sent along comes once, and is not kept.
        Ok((Aim::Mask(_), _)) if errand.intake.is_some() => {
            Err(Trouble::new(Exit::USAGE, format!("{name} is for one user at a time, for what is sent along")))
        }
        Ok((aim, command)) => scope(&errand.caller, &name, aim).await.map(|scope| (scope, command)),
        Err(trouble) => Err(trouble),
    };
    match found {
        Ok((scope, command)) => {
            let errand = Errand { command: Arc::new(command), ..errand };
            match scope {
                Scope::One(user) => errand.for_user(&user).await,
                Scope::Each(shares) => each(errand, shares).await,
                Scope::Any(servers) => any(errand, servers).await,
            }
        }
        Err(Trouble { exit, text }) => {
            let _ = errand.out.send(Part::Log(reply::error_line(&text))).await; // or the client has gone
            errand.caller.tell(&name, None, None, began, exit);
            exit
        }
    }
}

/// All shares, some at once, in their order: who is not the first waits when a few parts of the answer are there.
async fn each(errand: Errand, shares: Vec<Share>) -> Exit {
    let parallel = errand.caller.settings().parallel;
    let mut left = shares.into_iter();
    let mut open = VecDeque::new();
    let mut exits = Vec::new();
    loop {
        while open.len() < parallel
            && !errand.leaving.is_cancelled()
            && !errand.gone.is_cancelled()
            && let Some(share) = left.next()
        {
            open.push_back(begin(&errand, share));
        }
        let Some(parts) = open.pop_front() else { break };
        match forward(parts, &errand).await {
            Some(exit) => exits.push(exit),
            None => return Exit::TEMPORARY, // the client has gone
        }
    }
    if left.len() > 0 {
        // As with doveadm itself: who interrupts it has it stop behind the user that it is at.
        let text = format!("the client has closed: {} were not reached", left.len());
        let _ = errand.out.send(Part::Log(reply::error_line(&text))).await; // or the client has gone
        exits.push(Exit::TEMPORARY);
    }
    joined(&exits)
}

/// In a task of its own, which ends when nobody listens any more, once the mail server has done so.
fn begin(errand: &Errand, share: Share) -> Receiver<Part> {
    let (out, parts) = mpsc::channel(PARTS);
    let one = Errand {
        caller: errand.caller.clone(),
        command: errand.command.clone(),
        ttl: errand.ttl,
        out: out.clone(),
        intake: None,
        gone: errand.gone.clone(),
        leaving: errand.leaving.clone(),
    };
    errand.caller.services.tasks.spawn(async move {
        let exit = match share {
            Share::User(user) => one.for_user(&user).await,
            Share::Server(server) => one.at(&server).await,
        };
        let _ = out.send(Part::End(exit)).await; // or nobody listens
    });
    parts
}

/// Passes the parts on, up to the end; `None` if nobody listens.
async fn forward(mut parts: Receiver<Part>, errand: &Errand) -> Option<Exit> {
    while let Some(part) = parts.recv().await {
        match part {
            Part::End(exit) => return Some(exit),
            part => errand.out.send(part).await.ok()?,
        }
    }
    Some(Exit::TEMPORARY)
}

/// The worst. That something is not here is no failure if it was elsewhere.
pub(super) fn joined(exits: &[Exit]) -> Exit {
    let found = exits.contains(&Exit::DONE);
    let counts = |exit: &&Exit| !(found && **exit == Exit::NOT_FOUND);
    exits.iter().filter(counts).max().copied().unwrap_or(Exit::DONE)
}

/// The first server that can be asked.
async fn any(errand: Errand, servers: Vec<Arc<Server>>) -> Exit {
    let mut last = Exit::TEMPORARY;
    for server in servers {
        match forward(begin(&errand, Share::Server(server)), &errand).await {
            Some(Exit::TEMPORARY) => last = Exit::TEMPORARY,
            Some(exit) => return exit,
            None => break,
        }
    }
    last
}
