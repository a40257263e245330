//! One user by every protocol and in every spelling of the name: one key, one home, one kick for all.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use anyhow::{Context, ensure};
use futures_util::future::try_join_all;
use serde_json::Value;

use crate::harness::address::fresh_ip;
use crate::harness::dovecot::MASTER;
use crate::harness::letter::{letter, stuffed};
use crate::harness::{Dialect, Doveadm, Fleet, Imap, Pop3, Protocol, Result, Sieve, Smtp, User, eventually};

/// How proxies come to one key.
const RULES: &str =
    "[fleet]\naffinity_detail = \"+\"\naffinity_domain = \"example.org\"\n[moves]\nkick_delay = \"1s\"\n";
/// How the backends come to one user. By default they allow no `+` in the name of who logs in.
const DOVECOT: &str = "auth_username_chars =\nauth_username_format = %Lu\nauth_default_realm = example.org\n\
                       protocol lmtp {\n  auth_username_format = %Lu\n}\n";
/// In which one logs in. Mail is delivered, and doveadm at work, beside them.
const WITH_LOGIN: [Protocol; 4] = [Protocol::Imap, Protocol::Pop3, Protocol::Sieve, Protocol::Submission];

/// A fleet of two proxies and three backends for users with a domain, who may also log in with a detail.
async fn site() -> Result<Fleet> {
    let protocols = [&Protocol::BESIDE_IMAP[..], &[Protocol::Doveadm]].concat();
    let mut fleet = Fleet::plan().proxies(2).protocols(&protocols).config(RULES).dovecot(DOVECOT).start().await?;
    fleet.users = ["ann", "ben", "eve"].map(|name| User::named(format!("{name}@example.org"))).to_vec();
    let with_detail = |user: &User| {
        let written = format!("{}:{{PLAIN}}{}", detailed(user).to_lowercase(), user.password);
        format!("{written}::::::user={}\n", user.name)
    };
    fleet.store.write_users(&fleet.users, &fleet.users.iter().map(with_detail).collect::<String>())?;
    // Dovecot completes a master user's name, too.
    let masters = format!("{}@example.org:{{PLAIN}}{}\n", MASTER.0, MASTER.1);
    std::fs::write(fleet.store.dir.join("masters"), masters)?;
    Ok(fleet)
}

fn local(user: &User) -> &str {
    user.name.split('@').next().unwrap_or_default()
}

fn detailed(user: &User) -> String {
    format!("{}+Work@example.org", local(user))
}

/// How a name can be written where mail is addressed.
fn addresses(user: &User) -> [String; 4] {
    [user.name.clone(), user.name.to_uppercase(), detailed(user), local(user).to_owned()]
}

/// The same for a master user.
fn by_master(user: &User) -> [String; 2] {
    [local(user).to_owned(), user.name.to_uppercase()].map(|name| format!("{name}*{}", MASTER.0))
}

/// How one can log in: the same, and as master user.
fn logins(user: &User) -> Vec<User> {
    let own = addresses(user).map(|name| User { name, password: user.password.clone() });
    let by_master = by_master(user).map(|name| User { name, password: MASTER.1.to_owned() });
    own.into_iter().chain(by_master).collect()
}

/// Whom doveadm can be told to work for: the same, and a detail without a domain.
fn owners(user: &User) -> Vec<String> {
    let bare = format!("{}+Work", local(user));
    addresses(user).into_iter().chain([bare]).chain(by_master(user)).collect()
}

/// One session.
enum Session {
    Imap(Imap),
    Pop3(Pop3),
    Sieve(Sieve),
    Submission(Smtp),
}

impl Session {
    async fn open(protocol: Protocol, from: IpAddr, door: SocketAddr, user: &User) -> Result<Self> {
        Ok(match protocol {
            Protocol::Imap => {
                let mut imap = Imap::connect_from(from, door).await?;
                imap.login(user).await?;
                Self::Imap(imap)
            }
            Protocol::Pop3 => {
                let mut pop3 = Pop3::connect_from(from, door).await?;
                pop3.log_in(user).await?;
                Self::Pop3(pop3)
            }
            Protocol::Submission => {
                let mut smtp = Smtp::connect_from(from, Dialect::Smtp, door).await?;
                smtp.log_in(user).await?;
                Self::Submission(smtp)
            }
            _ => {
                let mut sieve = Sieve::connect_from(from, door).await?;
                sieve.log_in(user).await?;
                Self::Sieve(sieve)
            }
        })
    }

    /// Waits until it is ended from the other side, with that protocol's words.
    async fn ended(self) -> Result {
        let (last, words) = match self {
            Self::Imap(mut imap) => (imap.lost().await?, "* BYE "),
            Self::Pop3(mut pop3) => (pop3.lost().await?, ""),
            Self::Sieve(mut sieve) => (sieve.lost().await?, "BYE (TRYLATER) "),
            Self::Submission(mut smtp) => (smtp.lost().await?, "421 4.3.2 "),
        };
        let last = String::from_utf8_lossy(&last).into_owned();
        ensure!(last.starts_with(words) && last.is_empty() == words.is_empty(), "{last:?} for {words:?}");
        Ok(())
    }

    async fn leave(self) -> Result {
        match self {
            Self::Imap(imap) => imap.logout().await,
            Self::Pop3(pop3) => pop3.quit().await,
            Self::Sieve(sieve) => sieve.logout().await,
            Self::Submission(smtp) => smtp.quit().await,
        }
    }
}

/// All that one user has open at once.
struct Presence {
    sessions: Vec<Session>,
    /// At each proxy, all recipients named and the message not yet begun.
    deliveries: Vec<Smtp>,
    /// Commands that wait for the mail that they shall save.
    commands: Vec<Doveadm>,
}

impl Presence {
    /// Every login of a user by every protocol, mail to every address by way of every proxy, and work for every name, all
    /// at once: whichever comes first binds.
    async fn of(fleet: &Fleet, user: &User, from: IpAddr) -> Result<Self> {
        let ways = logins(user).into_iter().flat_map(|login| WITH_LOGIN.map(|protocol| (protocol, login.clone())));
        let sessions = ways.enumerate().map(|(number, (protocol, login))| async move {
            let door = fleet.proxies[number % 2].door(protocol)?;
            let session = Session::open(protocol, from, door, &login).await;
            session.with_context(|| format!("{} by {}", login.name, protocol.word()))
        });
        let deliveries = fleet.proxies.iter().map(|proxy| async move {
            let mut lmtp = Smtp::connect_from(from, Dialect::Lmtp, proxy.door(Protocol::Lmtp)?).await?;
            let to = addresses(user);
            for reply in lmtp.envelope("sender@far.test", &to.each_ref().map(String::as_str)).await? {
                reply.ok()?;
            }
            anyhow::Ok(lmtp)
        });
        let commands = owners(user).into_iter().enumerate().map(|(number, owner)| async move {
            let mut doveadm = Doveadm::connect(fleet.proxies[number % 2].door(Protocol::Doveadm)?).await?;
            doveadm.begin(&owner, "save").await?;
            anyhow::Ok(doveadm)
        });
        let all = (try_join_all(sessions), try_join_all(deliveries), try_join_all(commands));
        let (sessions, deliveries, commands) = tokio::try_join!(all.0, all.1, all.2)?;
        Ok(Self { sessions, deliveries, commands })
    }

    /// How many sessions the store should count: each recipient of a message under way is one, and so is each command.
    fn count(&self) -> i64 {
        (self.sessions.len() + 4 * self.deliveries.len() + self.commands.len()) as i64
    }

    /// Sends the messages, `SUBJECT-0` and `SUBJECT-1` by their proxies, which must be taken for all, and `SUBJECT-saved`
    /// by doveadm.
    async fn deliver(&mut self, subject: &str) -> Result {
        for (number, mut lmtp) in self.deliveries.drain(..).enumerate() {
            lmtp.command("DATA").await?.ok()?;
            lmtp.send(stuffed(&letter(&format!("{subject}-{number}"))).as_bytes()).await?;
            for _ in 0..4 {
                lmtp.reply().await?.ok()?;
            }
            lmtp.quit().await?;
        }
        for mut doveadm in self.commands.drain(..) {
            doveadm.send(stuffed(&letter(&format!("{subject}-saved"))).as_bytes()).await?;
            doveadm.outcome().await?.ok()?;
        }
        Ok(())
    }

    /// Holds that everything ends, and that the mail shall be brought later.
    async fn ended(self) -> Result {
        for session in self.sessions {
            session.ended().await?;
        }
        for mut lmtp in self.deliveries {
            let reply = lmtp.command("DATA").await?;
            ensure!(reply.code == 451 && reply.lines[0].starts_with("4.3.2 "), "{reply:?}");
            lmtp.quit().await?;
        }
        for mut doveadm in self.commands {
            let outcome = doveadm.outcome().await?;
            ensure!(outcome.verdict == "-TEMPFAIL", "{outcome:?}");
        }
        Ok(())
    }
}

/// Runs `homing user ...` at the first proxy.
async fn order(fleet: &Fleet, arguments: &[&str]) -> Result<Value> {
    let output = fleet.proxy().admin(&[&["user"], arguments, &["--json"]].concat()).await?;
    ensure!(output.status.success(), "{arguments:?}: {output:?}");
    Ok(serde_json::from_slice(&output.stdout)?)
}

/// Holds that the store has one key for the user, with so many sessions; gives its backend.
async fn home_of(fleet: &Fleet, user: &User, count: i64) -> Result<String> {
    eventually("the store counts all as one key's", Duration::from_secs(30), async || {
        let bindings = fleet.redis.bindings().await?;
        let others: Vec<&String> = bindings.keys().filter(|key| key.starts_with(local(user))).collect();
        ensure!(others == [&user.name], "keys of one user: {others:?}");
        let binding = &bindings[&user.name];
        ensure!(binding.sessions == count, "{} of {count} sessions: {binding:?}", binding.sessions);
        Ok(binding.backend.clone())
    })
    .await
}

/// Holds that `homing user where` says so for every spelling.
async fn is_said_to_be_at(fleet: &Fleet, user: &User, home: &str) -> Result {
    for name in addresses(user) {
        let found = order(fleet, &["where", &name]).await?;
        ensure!(found["key"] == user.name.as_str() && found["home"]["backend"] == home, "{name}: {found}");
    }
    Ok(())
}

/// Where mail with a subject lies, sorted.
fn mailboxes_with(fleet: &Fleet, user: &User, subject: &str) -> Result<Vec<String>> {
    let line = format!("\nSubject: {subject}\n");
    let mail = fleet.store.mail_of(&user.name)?.into_iter().filter(|(_, text)| text.contains(&line));
    let mut mailboxes: Vec<String> = mail.map(|(mailbox, _)| mailbox).collect();
    mailboxes.sort();
    Ok(mailboxes)
}

/// Waits until the backends have told of `sessions` logins and `mails` deliveries of a user in all, and holds that each
/// came from `from`; and of doveadm's work, of which they do not say whence, for every name. Gives the backends where
/// that was.
async fn was_seen(fleet: &Fleet, user: &User, from: IpAddr, sessions: usize, mails: usize) -> Result<BTreeSet<String>> {
    eventually("the backends have seen it all", Duration::from_secs(30), async || {
        let witness = fleet.witness()?;
        witness.swears_one_home()?;
        let visits: Vec<_> = witness.visits.iter().filter(|visit| visit.user == user.name).collect();
        let by = |protocol| visits.iter().filter(|visit| visit.protocol == protocol).count();
        let (by_mail, by_doveadm) = (by(Protocol::Lmtp), by(Protocol::Doveadm));
        let logins = visits.len() - by_mail - by_doveadm;
        ensure!((logins, by_mail) == (sessions, mails), "{} visits, {by_mail} by LMTP", visits.len());
        ensure!(by_doveadm >= owners(user).len(), "{by_doveadm} visits by doveadm");
        let from = from.to_string();
        let visits = visits.iter().filter(|visit| visit.protocol != Protocol::Doveadm);
        let astray: Vec<_> = visits.filter(|visit| visit.field("rip") != Some(&from)).collect();
        ensure!(astray.is_empty(), "not from {from}: {astray:?}");
        Ok(witness.backends_of(&user.name).into_iter().map(str::to_owned).collect())
    })
    .await
}

#[tokio::test]
async fn i1_all_protocols_and_all_spellings_of_a_name_are_one_key_at_one_home() -> Result {
    let fleet = site().await?;
    for user in &fleet.users {
        let from = fresh_ip();
        let mut presence = Presence::of(&fleet, user, from).await?;
        let home = home_of(&fleet, user, presence.count()).await?;
        is_said_to_be_at(&fleet, user, &home).await?;
        let sessions = presence.sessions.len();
        ensure!(fleet.witness()?.open().get(&home) == Some(&(sessions as i64)), "{:?}", fleet.witness()?.open());
        presence.deliver("all").await?;
        ensure!(was_seen(&fleet, user, from, sessions, 8).await? == BTreeSet::from([home]));
        for subject in ["all-0", "all-1"] {
            let mailboxes = mailboxes_with(&fleet, user, subject)?;
            ensure!(mailboxes == ["INBOX", "INBOX", "INBOX", "Work"], "{subject}: {mailboxes:?}");
        }
        let mailboxes = mailboxes_with(&fleet, user, "all-saved")?;
        ensure!(mailboxes == ["INBOX"; 7], "for {:?}: {mailboxes:?}", owners(user));
        fleet.counts_agree().await?;
        for session in presence.sessions {
            session.leave().await?;
        }
        fleet.empty().await?;
    }
    let homes: BTreeSet<String> = fleet.witness()?.visits.into_iter().map(|visit| visit.backend).collect();
    ensure!(homes.len() == 3, "three users on {homes:?}");
    Ok(())
}

#[tokio::test]
async fn i1_a_kick_and_a_move_reach_a_user_by_every_protocol_at_every_proxy() -> Result {
    let fleet = site().await?;
    let (user, from) = (&fleet.users[0], fresh_ip());
    let presence = Presence::of(&fleet, user, from).await?;
    let (count, sessions) = (presence.count(), presence.sessions.len());
    let old = home_of(&fleet, user, count).await?;
    let kicked = order(&fleet, &["kick", &detailed(user)]).await?;
    ensure!(kicked["end"] == "done" && kicked["closed"] == count && kicked["confirmed"] == 2, "{kicked}");
    presence.ended().await?;
    ensure!(home_of(&fleet, user, 0).await? == old, "a kick leaves the user at home");

    let presence = Presence::of(&fleet, user, from).await?;
    ensure!(home_of(&fleet, user, count).await? == old, "back at home after the kick");
    let new = if old == "mail1" { "mail2" } else { "mail1" };
    let moved = order(&fleet, &["move", local(user), "--to", new]).await?;
    ensure!(moved["end"] == "done" && moved["closed"] == count && moved["home"] == new, "{moved}");
    presence.ended().await?;

    let mut presence = Presence::of(&fleet, user, from).await?;
    ensure!(home_of(&fleet, user, count).await? == new);
    is_said_to_be_at(&fleet, user, new).await?;
    ensure!(fleet.witness()?.open().get(new) == Some(&(sessions as i64)), "{:?}", fleet.witness()?.open());
    presence.deliver("moved").await?;
    // What was ended has delivered nothing.
    ensure!(was_seen(&fleet, user, from, 3 * sessions, 8).await? == BTreeSet::from([old, new.to_owned()]));
    let witness = fleet.witness()?;
    let mut mails = witness.visits.iter().filter(|visit| visit.protocol == Protocol::Lmtp);
    ensure!(mails.all(|visit| visit.backend == new), "{:?}", witness.visits);
    for session in presence.sessions {
        session.leave().await?;
    }
    fleet.empty().await
}
