//! Mail through the fleet: real Dovecots store it, a real Postfix brings it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::time::Duration;

use anyhow::{Context, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tokio::time::{Instant, sleep};

use crate::harness::address::fresh_ip;
use crate::harness::dice::{Dice, seed};
use crate::harness::fleet::merge;
use crate::harness::letter::letter;
use crate::harness::{
    Dialect, Fleet, MailStore, Postfix, Protocol, Result, Secured, Smtp, User, Witness, eventually, programs,
};

/// Users log in without a domain, and mail comes with one.
const ONE_KEY: &str = "[fleet]\naffinity_key = \"{local}\"\n";

#[tokio::test]
async fn mail_goes_where_its_user_reads_it_and_the_backends_know_who_brought_it() -> Result {
    let fleet = Fleet::plan().protocols(&[Protocol::Lmtp]).config(ONE_KEY).start().await?;
    let mut sessions = Vec::new();
    for user in &fleet.users[..5] {
        sessions.push(fleet.proxy().log_in(user).await?);
    }
    let door = fleet.proxy().door(Protocol::Lmtp)?;
    let ip = fresh_ip();
    let mut lmtp = Smtp::connect_from(ip, Dialect::Lmtp, door).await?;
    let everybody: Vec<String> = fleet.users.iter().map(|user| format!("{}+work@test", user.name)).collect();
    let mut to: Vec<&str> = everybody.iter().map(String::as_str).collect();
    to.insert(3, "nobody@test");
    let delivery = lmtp.send_pipelined("sender@far.test", &to, &letter("to-all")).await?;
    let codes: Vec<u16> = delivery.recipients.iter().map(|reply| reply.code).collect();
    ensure!(codes[3] == 550 && codes.iter().filter(|code| **code == 250).count() == 10, "{delivery:?}");
    ensure!(delivery.outcome.len() == 10 && delivery.outcome.iter().all(|reply| reply.code == 250), "{delivery:?}");
    lmtp.send_chunks("", &["user001"], &letter("in-chunks"), 40).await?.ok()?;
    programs::swaks_lmtp(door, "USER002+swaks@test", "by-swaks", &[]).await?;
    lmtp.quit().await?;
    for user in &fleet.users {
        let mail = fleet.store.mail_of(&user.name)?;
        let sent = letter("to-all").replace("\r\n", "\n");
        let found = mail.iter().filter(|(mailbox, text)| mailbox == "work" && text.ends_with(&sent)).count();
        ensure!(found == 1, "{}: {mail:?}", user.name);
    }
    ensure!(fleet.store.mail_of("user002")?.iter().any(|(mailbox, _)| mailbox == "swaks"));
    let witness = came(&fleet, Protocol::Lmtp, &ip.to_string(), 11).await?;
    witness.swears_one_home()?;
    for user in &fleet.users {
        ensure!(witness.backends_of(&user.name).len() == 1, "{} was on several backends", user.name);
    }
    ensure!(fleet.users.iter().flat_map(|user| witness.backends_of(&user.name)).collect::<BTreeSet<_>>().len() == 3);
    for session in sessions {
        session.logout().await?;
    }
    fleet.empty().await
}

#[tokio::test]
async fn mail_comes_under_tls_and_goes_to_the_backend_so() -> Result {
    for road in ["starttls", "implicit"] {
        let site = Secured::start(Protocol::Lmtp, road).await?;
        let (user, tls) = (&site.fleet.users[0], site.authority.client()?);
        let [by_command, at_once] = site.fleet.proxy().addresses[..] else { panic!("two listeners") };
        let lmtp = Smtp::connect(Dialect::Lmtp, by_command).await?;
        ensure!(lmtp.extension("STARTTLS").is_some(), "{:?}", lmtp.extensions);
        let mut lmtp = lmtp.starttls("mail.test", &tls).await?;
        ensure!(lmtp.extension("STARTTLS").is_none(), "{:?}", lmtp.extensions);
        let client = lmtp.local_address()?.ip().to_string();
        lmtp.send_pipelined("sender@far.test", &[&user.name], &letter("starttls")).await?.ok()?;
        lmtp.quit().await?;
        let mut lmtp = Smtp::connect_tls(Dialect::Lmtp, at_once, "mail.test", &tls).await?;
        lmtp.send_chunks("sender@far.test", &[&user.name], &letter("implicit"), 40).await?.ok()?;
        lmtp.quit().await?;
        programs::swaks_lmtp(by_command, &user.name, "swaks-starttls", &["--tls"]).await?;
        programs::swaks_lmtp(at_once, &user.name, "swaks-implicit", &["--tls-on-connect"]).await?;
        let found = subjects(&site.fleet.store, &user.name)?;
        let all = ["starttls", "implicit", "swaks-starttls", "swaks-implicit"];
        ensure!(found == all.map(|subject| (subject.to_owned(), 1)).into(), "{found:?}");
        // The backend tells at the end of each connection by which way it came: in the log only TLS can have been meant.
        eventually("the backend tells who brought it", Duration::from_secs(10), async || {
            let visits = site.witness()?.visits;
            let told = visits.iter().filter(|visit| visit.field("rip") == Some(&client)).count();
            ensure!(told == all.len(), "{visits:#?}");
            Ok(())
        })
        .await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_backend_is_told_what_the_passdb_forwards_of_each_recipient() -> Result {
    let plan = Fleet::plan().backends(1).protocols(&[Protocol::Lmtp]).config(ONE_KEY).dovecot("auth_debug = yes\n");
    let mut fleet = plan.start_without_proxies().await?;
    // In base64 these have a plus sign, and all lengths of padding.
    let recipients: Vec<(String, &str)> =
        fleet.users.iter().map(|user| format!("{}@test", user.name)).zip(["~~~", "1", "12", "123"]).collect();
    let list = fleet.dir.join("passdb");
    let line = |(name, note): &(String, &str)| format!("{name}:{{PLAIN}}x::::::forward_note={note}\n");
    fs::write(&list, recipients.iter().map(line).collect::<String>())?;
    let passdb: toml::Table = format!("[[passdb]]\nkind = \"file\"\npath = {list:?}\n").parse()?;
    fleet.reconfigure(|config| merge(config, passdb.clone()))?;
    fleet.proxies[0].start().await?;
    let mut lmtp = Smtp::connect(Dialect::Lmtp, fleet.proxy().door(Protocol::Lmtp)?).await?;
    let to: Vec<&str> = recipients.iter().map(|(name, _)| name.as_str()).collect();
    lmtp.send_pipelined("sender@far.test", &to, &letter("forwarded")).await?.ok()?;
    for (name, note) in &recipients {
        let told = eventually("Dovecot asks for its user", Duration::from_secs(10), async || {
            forwarded(&fleet.backends[0].log()?, name)
        });
        ensure!(told.await? == format!("note={note}"), "{name}");
    }
    lmtp.quit().await?;
    fleet.empty().await
}

/// What Dovecot's own lookup of a recipient knows from before.
fn forwarded(log: &str, name: &str) -> Result<String> {
    let lookup = |line: &&str| line.contains("master in: USER\t") && line.contains(&format!("\t{name}\t"));
    let line = log.lines().find(lookup).context("no lookup")?;
    let fields = line.split('\t').find_map(|field| field.strip_prefix("forward_fields="));
    Ok(String::from_utf8(STANDARD.decode(fields.context("nothing is forwarded")?)?)?)
}

/// Waits until the backends have seen so many visits from there.
async fn came(fleet: &Fleet, protocol: Protocol, client: &str, count: usize) -> Result<Witness> {
    eventually("the visits", Duration::from_secs(10), async || {
        let witness = fleet.witness()?;
        let from_there =
            |visit: &&crate::harness::witness::Visit| visit.protocol == protocol && visit.field("rip") == Some(client);
        let found = witness.visits.iter().filter(from_there).count();
        ensure!(found == count, "{found} of {count}: {:#?}", witness.visits);
        Ok(witness)
    })
    .await
}

/// One mail that was given to Postfix.
struct Sent {
    subject: String,
    to: Vec<usize>,
}

#[tokio::test]
async fn a_queue_is_delivered_once_while_proxies_and_backends_are_killed() -> Result {
    if !Postfix::permitted() {
        println!("Postfix needs root: nothing is tried");
        return Ok(());
    }
    let plan = Fleet::plan().proxies(2).backends(3).users(300).protocols(&[Protocol::Lmtp]).mortal_backends();
    let mut fleet =
        plan.config(ONE_KEY).config("[health]\ninterval = \"1s\"\nfast_interval = \"300ms\"\n").start().await?;
    let doors = fleet.proxies.iter().map(|proxy| proxy.door(Protocol::Lmtp)).collect::<Result<Vec<_>>>()?;
    let postfix = Postfix::start(fleet.dir.path(), &doors).await?;
    let mut dice = Dice::new(seed());
    let mails: Vec<Sent> = (0..1000)
        .map(|number| {
            let count = 1 + dice.below(3);
            let to: BTreeSet<usize> = (0..count).map(|_| dice.below(300) as usize).collect();
            Sent { subject: format!("mail-{number:04}"), to: to.into_iter().collect() }
        })
        .collect();
    let (given, storm) = tokio::join!(give(&postfix, &mails), storm(&mut fleet, &mut dice));
    given?;
    storm?;
    if let Err(error) = postfix.drained(Duration::from_secs(90)).await {
        println!("{error:#}"); // what is still there is in the queue, and that is held against the store below
    }
    let bounced = postfix.outcomes("bounced")?;
    ensure!(bounced.is_empty(), "mail was bounced: {bounced:#?}");
    let doubles = held_against(&fleet.store, &postfix, &mails)?;
    println!("{} recipients, {doubles} got a mail twice", mails.iter().map(|mail| mail.to.len()).sum::<usize>());
    fleet.empty().await
}

async fn give(postfix: &Postfix, mails: &[Sent]) -> Result {
    for mail in mails {
        let to: Vec<String> = mail.to.iter().map(|number| format!("{}@test", User::nth(*number).name)).collect();
        let to: Vec<&str> = to.iter().map(String::as_str).collect();
        postfix.take("sender@far.test", &to, &letter(&mail.subject)).await?;
    }
    Ok(())
}

/// Kills, in turn, a proxy and a backend at random, and brings them back.
async fn storm(fleet: &mut Fleet, dice: &mut Dice) -> Result {
    let end = Instant::now() + Duration::from_secs(20);
    while Instant::now() < end {
        sleep(Duration::from_millis(500 + dice.below(1000))).await;
        let proxy = dice.below(fleet.proxies.len() as u64) as usize;
        fleet.proxies[proxy].kill();
        sleep(Duration::from_millis(300)).await;
        fleet.proxies[proxy].start().await?;
        let backend = dice.below(fleet.backends.len() as u64) as usize;
        fleet.backends[backend].kill();
        sleep(Duration::from_millis(1000)).await;
        fleet.backends[backend].launch().await?;
    }
    Ok(())
}

/// Every recipient has every mail, or it is still in the queue. Whoever has one twice had it before a failure that Postfix
/// was told of, or saw: a server died between storing and answering, and nobody could know. Gives the number of these.
fn held_against(store: &MailStore, postfix: &Postfix, mails: &[Sent]) -> Result<usize> {
    let (log, queued) = (postfix.log()?, postfix.queued()?);
    let ids = queue_ids(&log);
    let failures = failures(&log);
    let mut doubles = 0;
    let stored: Vec<BTreeMap<String, usize>> =
        (0..300).map(|number| subjects(store, &User::nth(number).name)).collect::<Result<_>>()?;
    for mail in mails {
        let id = ids.get(mail.subject.as_str()).with_context(|| format!("Postfix never had {}", mail.subject))?;
        for number in &mail.to {
            let user = User::nth(*number).name;
            let copies = stored[*number].get(&mail.subject).copied().unwrap_or(0);
            ensure!(copies > 0 || queued.contains(*id), "{} to {user} ({id}) is lost", mail.subject);
            let failed = failures.get(id).copied().unwrap_or(0);
            ensure!(copies <= 1 + failed, "{} to {user} ({id}): {copies} copies, {failed} failures", mail.subject);
            doubles += copies.saturating_sub(1);
        }
    }
    Ok(doubles)
}

/// How often a user has each subject.
fn subjects(store: &MailStore, user: &str) -> Result<BTreeMap<String, usize>> {
    let mut found = BTreeMap::new();
    for (_, text) in store.mail_of(user)? {
        if let Some(subject) = text.lines().find_map(|line| line.strip_prefix("Subject: ")) {
            *found.entry(subject.to_owned()).or_default() += 1;
        }
    }
    Ok(found)
}

/// Postfix's names of the mails, by the left side of their Message-ID.
fn queue_ids(log: &str) -> BTreeMap<&str, &str> {
    let id = |line: &'_ str| -> Option<(usize, usize, usize, usize)> {
        let at = line.find(": message-id=<")?;
        let begin = line[..at].rfind(' ')? + 1;
        let from = at + ": message-id=<".len();
        Some((begin, at, from, from + line[from..].find('@')?))
    };
    log.lines().filter_map(|line| id(line).map(|(begin, at, from, to)| (&line[from..to], &line[begin..at]))).collect()
}

/// How often the delivery of a mail has failed in a way that leaves open whether it was stored: the connection broke, or the
/// reply to the message was a temporary failure, whether Postfix then tried another server or later.
fn failures(log: &str) -> BTreeMap<&str, usize> {
    let mut found = BTreeMap::new();
    let open = ["while sending end of data", "(in reply to end of DATA command)"];
    for line in log.lines().filter(|line| open.iter().any(|words| line.contains(words))) {
        let Some((_, rest)) = line.split_once("postfix/lmtp[").and_then(|(_, rest)| rest.split_once("]: ")) else {
            continue;
        };
        let Some((id, _)) = rest.split_once(": ") else { continue };
        *found.entry(id).or_default() += 1;
    }
    found
}
