//! One caller, and what it does by its protocol.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Error, ensure};
use tokio::sync::watch;

use super::{Caller, Calls, Mail};
use crate::harness::dice::Dice;
use crate::harness::letter::{letter, stuffed};
use crate::harness::smtp::Reply;
use crate::harness::{Dialect, Doveadm, Pop3, Protocol, Result, Sieve, Smtp, User, sieve};

/// How long one tries before it counts as shut out.
const SHUT_OUT: Duration = Duration::from_secs(60);

pub(super) struct Client {
    caller: Caller,
    number: usize,
    doors: Vec<SocketAddr>,
    dice: Dice,
    told: watch::Receiver<bool>,
    /// Whether the present attempt has got so far.
    greeted: bool,
    lost_at: Option<Instant>,
    calls: Calls,
}

impl Client {
    pub(super) fn new(
        caller: Caller,
        number: usize,
        doors: Vec<SocketAddr>,
        dice: Dice,
        told: watch::Receiver<bool>,
        calls: Calls,
    ) -> Self {
        Self { caller, number, doors, dice, told, greeted: false, lost_at: None, calls }
    }

    /// Comes again and again, until it is told to come no more.
    pub(super) async fn live(mut self) -> Result<Calls> {
        while !*self.told.borrow() {
            self.write();
            self.call().await?;
            let away = self.caller.away + self.caller.away.mul_f64(self.dice.below(1000) as f64 / 1000.0);
            let _ = tokio::time::timeout(away, self.told.wait_for(|leave| *leave)).await;
        }
        Ok(self.calls)
    }

    /// The next mail, for who brings some.
    fn write(&mut self) {
        if [Protocol::Lmtp, Protocol::Submission, Protocol::Doveadm].contains(&self.caller.protocol) {
            let id = format!("called-{}-{}", self.number, self.calls.done);
            let mail = |user: &User| Mail { id: id.clone(), user: user.clone(), acknowledged: false, unanswered: 0 };
            self.calls.mails.extend(self.caller.users.iter().map(mail));
        }
    }

    /// Tries the doors in random order, again and again, until it has what it came for.
    async fn call(&mut self) -> Result {
        let begun = Instant::now();
        loop {
            for door in self.dice.shuffled(&self.doors) {
                self.greeted = false;
                let Err(lost) = self.attempt(door).await else {
                    self.calls.done += 1;
                    return Ok(());
                };
                if self.greeted {
                    self.calls.losses.push(format!("{lost:#}"));
                    self.lost_at.get_or_insert_with(Instant::now); // the first of several
                }
                ensure!(begun.elapsed() < SHUT_OUT, "shut out: {lost:#}; {:?} {:?}", self.caller, self.calls.refusals);
            }
            // All doors are shut: what a mail client does then, only faster.
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    async fn attempt(&mut self, door: SocketAddr) -> Result {
        match self.caller.protocol {
            Protocol::Pop3 => self.look_for_mail(door).await,
            Protocol::Sieve => self.list_scripts(door).await,
            Protocol::Submission => self.submit_mail(door).await,
            Protocol::Doveadm => self.save_mail(door).await,
            _ => self.bring_mail(door).await,
        }
    }

    async fn look_for_mail(&mut self, door: SocketAddr) -> Result {
        let mut pop3 = Pop3::connect(door).await?;
        self.greeted = true;
        let verdict = pop3.try_log_in(&self.login()).await.context("PASS")?;
        if !verdict.positive {
            return Err(self.refused(verdict.text));
        }
        self.let_in();
        pop3.count().await.context("STAT")?;
        self.dwell().await;
        pop3.quit().await.context("QUIT")
    }

    async fn list_scripts(&mut self, door: SocketAddr) -> Result {
        let mut client = Sieve::connect(door).await?;
        self.greeted = true;
        let answer = client.try_log_in(&self.login()).await.context("AUTHENTICATE")?;
        if answer.verdict != sieve::Verdict::Ok {
            return Err(self.refused(answer.text));
        }
        self.let_in();
        client.command("LISTSCRIPTS").await.context("LISTSCRIPTS")?.ok()?;
        self.dwell().await;
        client.logout().await.context("LOGOUT")
    }

    /// Sends the last mail away.
    async fn submit_mail(&mut self, door: SocketAddr) -> Result {
        let mut smtp = Smtp::connect(Dialect::Smtp, door).await?;
        self.greeted = true;
        let reply = smtp.try_log_in(&self.login()).await.context("AUTH")?;
        self.wants(235, &reply)?;
        self.let_in();
        for command in ["MAIL FROM:<user@test>", "RCPT TO:<far@far.test>"] {
            let reply = smtp.command(command).await.context("envelope")?;
            self.wants(250, &reply)?;
        }
        self.dwell().await;
        self.send_mail(&mut smtp, &[self.calls.mails.len() - 1]).await?;
        // The relay has it, whatever becomes of the connection.
        let _ = smtp.quit().await;
        Ok(())
    }

    /// Asks for the state of the mailbox, and puts the last mail into it.
    async fn save_mail(&mut self, door: SocketAddr) -> Result {
        let mut doveadm = Doveadm::connect(door).await?;
        self.greeted = true;
        let user = self.address(&self.caller.users[0].name.clone());
        let status = doveadm.command(&user, "mailbox status\tmessages\tINBOX").await.context("mailbox status")?;
        if !status.is_done() {
            return Err(self.refused(format!("{status:?}")));
        }
        self.let_in();
        let at = self.calls.mails.len() - 1;
        doveadm.begin(&user, "save").await.context("save")?;
        self.dwell().await;
        self.calls.mails[at].unanswered += 1;
        doveadm.send(stuffed(&letter(&self.calls.mails[at].id)).as_bytes()).await.context("message")?;
        let saved = doveadm.outcome().await.context("answer to the message")?;
        if !saved.is_done() {
            return Err(self.refused(format!("{saved:?}")));
        }
        self.answered(at);
        Ok(())
    }

    /// Brings the last mail to those who have not got it yet.
    async fn bring_mail(&mut self, door: SocketAddr) -> Result {
        let mut lmtp = Smtp::connect(Dialect::Lmtp, door).await?;
        self.greeted = true;
        let first = self.calls.mails.len() - self.caller.users.len();
        let open: Vec<usize> =
            (first..self.calls.mails.len()).filter(|at| !self.calls.mails[*at].acknowledged).collect();
        let names: Vec<String> = open.iter().map(|at| self.calls.mails[*at].user.name.clone()).collect();
        let to: Vec<String> = names.iter().map(|name| self.address(name)).collect();
        let to: Vec<&str> = to.iter().map(String::as_str).collect();
        for reply in lmtp.envelope("sender@far.test", &to).await.context("RCPT")? {
            self.wants(250, &reply)?;
        }
        self.let_in();
        self.dwell().await;
        self.send_mail(&mut lmtp, &open).await?;
        // They have it, whatever becomes of the connection.
        let _ = lmtp.quit().await;
        Ok(())
    }

    /// The text of one mail behind its envelope, and an answer for each of those whose it is.
    async fn send_mail(&mut self, smtp: &mut Smtp, whose: &[usize]) -> Result {
        let reply = smtp.command("DATA").await.context("DATA")?;
        self.wants(354, &reply)?;
        whose.iter().for_each(|at| self.calls.mails[*at].unanswered += 1);
        smtp.send(stuffed(&letter(&self.calls.mails[whose[0]].id)).as_bytes()).await.context("message")?;
        for at in whose {
            let reply = smtp.reply().await.context("answer to the message")?;
            self.wants(250, &reply)?;
            self.answered(*at);
        }
        Ok(())
    }

    /// A server has said that it has a mail.
    fn answered(&mut self, at: usize) {
        self.calls.mails[at].acknowledged = true;
        self.calls.mails[at].unanswered -= 1;
    }

    /// Any other reply is a refusal.
    fn wants(&mut self, code: u16, reply: &Reply) -> Result {
        if reply.code == code { Ok(()) } else { Err(self.refused(format!("{reply:?}"))) }
    }

    /// Its login, or all of its recipients, were accepted.
    fn let_in(&mut self) {
        self.calls.returns.extend(self.lost_at.take().map(|at| at.elapsed()));
    }

    /// Takes its time amid a visit, up to half a second, so that a proxy may die meanwhile.
    async fn dwell(&mut self) {
        tokio::time::sleep(Duration::from_millis(self.dice.below(500))).await;
    }

    fn refused(&mut self, words: String) -> Error {
        self.calls.refusals.push(words.clone());
        Error::msg(words)
    }

    /// A name as it comes.
    fn login(&mut self) -> User {
        let user = self.caller.users[0].clone();
        let name = match self.dice.below(3) {
            0 => user.name,
            1 => user.name.to_uppercase(),
            _ => format!("{}@Test", user.name),
        };
        User { name, ..user }
    }

    /// An address as it comes.
    fn address(&mut self, name: &str) -> String {
        match self.dice.below(3) {
            0 => format!("{name}@test"),
            1 => format!("{}@TEST", name.to_uppercase()),
            _ => format!("{name}+folder@test"),
        }
    }
}
