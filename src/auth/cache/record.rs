//! What is kept of one source's answers about one user: the last good one, and what was wrong.

use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use zeroize::{Zeroize, Zeroizing};

use super::seal::{NotSealed, Purpose, Seals};
use crate::auth::link::Answer;
use crate::auth::{Denial, FieldTls, Fields, Grant};
use crate::model::{Pool, Refusal, Secret, User};

/// Room for what most records need, so that growing leaves no copy of a password behind.
const ROOM: usize = 4096;

/// How long what was kept is good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Times {
    /// A good answer, before the source is asked again.
    pub positive: Duration,
    /// A wrong password, or a user who is not known.
    pub negative: Duration,
    /// A good answer that is older than `positive`, while the source cannot answer.
    pub stale: Duration,
}

/// All that is kept. Times are seconds since 1970, for proxies have not started together.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Record {
    good: Option<Good>,
    /// A password that the source found wrong.
    wrong: Option<Mark>,
    /// When the source did not know the user.
    unknown: Option<Absent>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Good {
    made: u64,
    /// Of the password that was right; `None` if none was asked for.
    proof: Option<Mark>,
    grant: Kept,
}

/// Somebody whom the source does not know.
#[derive(Debug, Serialize, Deserialize)]
struct Absent {
    made: u64,
    /// Of the password that was given: were others answered for, too, that would be faster than a wrong password of
    /// somebody who is known, and names could be told by it.
    proof: Option<Mark>,
}

/// What tells a password from others, for those who have the secret.
#[derive(Debug, Serialize, Deserialize)]
struct Mark {
    made: u64,
    salt: [u8; 16],
    mark: [u8; 32],
}

/// A [`Grant`], as a source gives it.
#[derive(Debug, Serialize, Deserialize)]
struct Kept {
    user: Box<str>,
    pool: Option<Pool>,
    host: Option<String>,
    hostip: Option<IpAddr>,
    port: Option<u16>,
    destuser: Option<String>,
    master: Option<String>,
    pass: Option<Wiped>,
    /// STARTTLS, and whether the certificate is verified.
    tls: Option<(bool, bool)>,
    timeout_ms: Option<u64>,
    no_pipelining: bool,
    not_trusted: bool,
    no_auth: bool,
    forward: Vec<(String, String)>,
    allow_nets: Option<Vec<IpNet>>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Wiped(Vec<u8>);

impl Drop for Wiped {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

/// What a record says to a question.
#[derive(Debug)]
pub(super) enum Said {
    /// This, without asking anybody.
    Fresh(Answer),
    /// This, if the source cannot answer.
    Stale(Answer),
    /// Nothing.
    Nothing,
}

impl Record {
    /// Of a body that was opened. `None` if another version of homing wrote it.
    pub(super) fn read(body: &[u8]) -> Option<Self> {
        serde_json::from_slice(body).ok()
    }

    pub(super) fn write(&self) -> Zeroizing<Vec<u8>> {
        let mut body = Zeroizing::new(Vec::with_capacity(ROOM));
        // Nothing in a record can fail to be written, and a Vec takes everything.
        let _ = serde_json::to_writer(&mut *body, self);
        body
    }

    /// How long the note has to be there.
    pub(super) fn lasts(&self, times: &Times) -> Duration {
        let good = self.good.as_ref().map_or(Duration::ZERO, |_| times.positive + times.stale);
        good.max(times.negative)
    }

    /// What is known about somebody who shows this password, or of whom none is asked.
    pub(super) fn says(&self, proof: Option<&Secret>, seals: &Seals, now: u64, times: &Times) -> Said {
        let is_young = |made: u64, most: Duration| now.saturating_sub(made) < most.as_secs();
        let is_absent = |absent: &&Absent| is_young(absent.made, times.negative) && is_for(&absent.proof, proof, seals);
        if self.unknown.as_ref().is_some_and(|absent| is_absent(&absent)) {
            return Said::Fresh(Answer::Unknown);
        }
        if let Some(good) = self.good.as_ref().filter(|good| is_for(&good.proof, proof, seals)) {
            let answer = || Answer::Granted(Box::new(good.grant.to_grant()));
            return match good.made {
                made if is_young(made, times.positive) => Said::Fresh(answer()),
                made if is_young(made, times.positive + times.stale) => Said::Stale(answer()),
                _ => Said::Nothing,
            };
        }
        let is_wrong =
            |mark: &&Mark| is_young(mark.made, times.negative) && proof.is_some_and(|p| mark.is_of(p, seals));
        match self.wrong.as_ref().filter(is_wrong) {
            Some(_) => Said::Fresh(Answer::Denied(Denial::Password)),
            None => Said::Nothing,
        }
    }

    /// Takes in what the source says now. False if that is not worth keeping: it may be another thing next time.
    pub(super) fn learn(
        &mut self,
        answer: &Answer,
        proof: Option<&Secret>,
        seals: &Seals,
        now: u64,
    ) -> Result<bool, NotSealed> {
        match answer {
            Answer::Granted(grant) if grant.unproven => return Ok(false),
            Answer::Granted(grant) => {
                let proof = proof.map(|proof| Mark::new(proof, seals, now)).transpose()?;
                self.good = Some(Good { made: now, proof, grant: Kept::of(grant) });
                self.unknown = None;
            }
            Answer::Denied(Denial::Password) => {
                let Some(proof) = proof else { return Ok(false) };
                // It was right once: then it was changed.
                self.good = self.good.take().filter(|good| !is_for(&good.proof, Some(proof), seals));
                self.unknown = None;
                self.wrong = Some(Mark::new(proof, seals, now)?);
            }
            Answer::Unknown => {
                let proof = proof.map(|proof| Mark::new(proof, seals, now)).transpose()?;
                *self = Self { unknown: Some(Absent { made: now, proof }), ..Self::default() };
            }
            // Not kept, for it may be otherwise next time; but what was granted is granted no more.
            Answer::Denied(Denial::Forbidden) => return Ok(self.good.take().is_some()),
            Answer::Denied(Denial::Told(told)) => return Ok(self.unlearn(told.refusal, proof, seals)),
            Answer::Unavailable => return Ok(false),
        }
        Ok(true)
    }

    /// A refusal in the source's own words, which are not kept; but what was granted may be granted no more. True if that
    /// has changed something.
    fn unlearn(&mut self, refusal: Refusal, proof: Option<&Secret>, seals: &Seals) -> bool {
        let is_over = match (&self.good, refusal) {
            (Some(good), Refusal::BadCredentials) => is_for(&good.proof, proof, seals),
            (Some(_), Refusal::Forbidden) => true,
            _ => false,
        };
        if is_over {
            self.good = None;
        }
        is_over
    }
}

/// What was noted is of this password; or there was none, and is none.
fn is_for(noted: &Option<Mark>, proof: Option<&Secret>, seals: &Seals) -> bool {
    match (noted, proof) {
        (Some(mark), Some(proof)) => mark.is_of(proof, seals),
        (None, None) => true,
        _ => false,
    }
}

impl Mark {
    fn new(proof: &Secret, seals: &Seals, made: u64) -> Result<Self, NotSealed> {
        let mut salt = [0; 16];
        aws_lc_rs::rand::fill(&mut salt).map_err(|_| NotSealed)?;
        let mark = seals.mark(Purpose::Proof, &[&salt, proof.expose()]);
        Ok(Self { made, salt, mark })
    }

    fn is_of(&self, proof: &Secret, seals: &Seals) -> bool {
        seals.bears(&self.mark, Purpose::Proof, &[&self.salt, proof.expose()])
    }
}

impl Kept {
    fn of(grant: &Grant) -> Self {
        let Fields {
            pool,
            host,
            hostip,
            port,
            destuser,
            master,
            pass,
            tls,
            timeout,
            no_pipelining,
            not_trusted,
            no_auth,
            forward,
            allow_nets,
            delay_until: _, // over by the next time
        } = &grant.fields;
        Self {
            user: grant.user.as_str().into(),
            pool: pool.clone(),
            host: host.clone(),
            hostip: *hostip,
            port: *port,
            destuser: destuser.clone(),
            master: master.clone(),
            pass: pass.as_ref().map(|pass| Wiped(pass.expose().to_vec())),
            tls: tls.map(|tls| (tls.starttls, tls.verify)),
            timeout_ms: timeout.map(|timeout| u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX)),
            no_pipelining: *no_pipelining,
            not_trusted: *not_trusted,
            no_auth: *no_auth,
            forward: forward.clone(),
            allow_nets: allow_nets.clone(),
        }
    }

    fn to_grant(&self) -> Grant {
        let fields = Fields {
            pool: self.pool.clone(),
            host: self.host.clone(),
            hostip: self.hostip,
            port: self.port,
            destuser: self.destuser.clone(),
            master: self.master.clone(),
            pass: self.pass.as_ref().map(|pass| Secret::new(pass.0.clone())),
            tls: self.tls.map(|(starttls, verify)| FieldTls { starttls, verify }),
            timeout: self.timeout_ms.map(Duration::from_millis),
            no_pipelining: self.no_pipelining,
            not_trusted: self.not_trusted,
            no_auth: self.no_auth,
            forward: self.forward.clone(),
            allow_nets: self.allow_nets.clone(),
            delay_until: None,
        };
        Grant { user: User::new(self.user.clone()), unproven: false, master: None, fields }
    }
}

impl Answer {
    /// The same once more, for another who asked the same.
    pub(super) fn duplicate(&self) -> Self {
        match self {
            Self::Granted(grant) => {
                let copy = Kept::of(grant).to_grant();
                let (unproven, master) = (grant.unproven, grant.master.clone());
                Self::Granted(Box::new(Grant { unproven, master, ..copy }))
            }
            Self::Denied(denial) => Self::Denied(denial.clone()),
            Self::Unknown => Self::Unknown,
            Self::Unavailable => Self::Unavailable,
        }
    }
}
