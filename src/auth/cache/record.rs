//! What is kept of one source's answers about one user: the last good one, and what was wrong. Of tokens the last good ones.

use std::net::IpAddr;
use std::num::NonZeroU32;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use zeroize::{Zeroize, Zeroizing};

use super::seal::{NotSealed, Purpose, Seals};
use crate::auth::link::Answer;
use crate::auth::{Denial, FieldTls, Fields, Grant};
use crate::model::{Pool, Refusal, ScramHash, ScramKeys, Secret, User};

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
    /// One; with tokens one for each, newest last.
    good: Vec<Good>,
    /// A password that the source found wrong.
    wrong: Option<Mark>,
    /// When the source did not know the user.
    unknown: Option<Absent>,
    /// What SCRAM needs; kept apart from the rest, under a name of its own.
    #[serde(default)]
    keys: Option<KeptKeys>,
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

/// [`ScramKeys`], as a source has them.
#[derive(Debug, Serialize, Deserialize)]
struct KeptKeys {
    made: u64,
    sha256: bool,
    rounds: NonZeroU32,
    salt: Vec<u8>,
    stored_key: Wiped,
    server_key: Wiped,
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
    /// Seconds since 1970 at which it ends, whatever the times say.
    until: Option<u64>,
}

#[derive(Serialize, Deserialize)]
struct Wiped(Vec<u8>);

impl std::fmt::Debug for Wiped {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("[secret]")
    }
}

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
    pub(super) fn lasts(&self, times: &Times, now: u64) -> Duration {
        let most = times.positive + times.stale;
        let good = self.good.iter().map(|good| good.lasts(most, now)).max().unwrap_or_default();
        let keys = if self.keys.is_some() { most } else { Duration::ZERO };
        let is_bad = self.wrong.is_some() || self.unknown.is_some();
        good.max(keys).max(if is_bad { times.negative } else { Duration::ZERO })
    }

    /// What is known about somebody who shows this password or token, or of whom none is asked.
    pub(super) fn says(&self, proof: Option<&Secret>, seals: &Seals, now: u64, times: &Times) -> Said {
        let is_young = |made: u64, most: Duration| now.saturating_sub(made) < most.as_secs();
        let is_absent = |absent: &&Absent| is_young(absent.made, times.negative) && is_for(&absent.proof, proof, seals);
        if self.unknown.as_ref().is_some_and(|absent| is_absent(&absent)) {
            return Said::Fresh(Answer::Unknown);
        }
        let aged = |lasts: &dyn Fn(Duration) -> bool, answer: Answer| match answer {
            answer if lasts(times.positive) => Said::Fresh(answer),
            answer if lasts(times.positive + times.stale) => Said::Stale(answer),
            _ => Said::Nothing,
        };
        if let Some((made, keys)) = self.keys.as_ref().and_then(|kept| Some((kept.made, kept.to_keys()?))) {
            return aged(&|most| is_young(made, most), Answer::Keys(keys));
        }
        if let Some(good) = self.good.iter().find(|good| is_for(&good.proof, proof, seals)) {
            let answer = Answer::Granted(Box::new(good.grant.to_grant()));
            return aged(&|most| !good.lasts(most, now).is_zero(), answer);
        }
        let is_wrong =
            |mark: &&Mark| is_young(mark.made, times.negative) && proof.is_some_and(|p| mark.is_of(p, seals));
        match self.wrong.as_ref().filter(is_wrong) {
            Some(_) => Said::Fresh(Answer::Denied(Denial::Password)),
            None => Said::Nothing,
        }
    }

    /// Takes in what the source says now, with room for so many good answers. False if that is not worth keeping: it may be
    /// another thing next time.
    pub(super) fn learn(
        &mut self,
        answer: &Answer,
        proof: Option<&Secret>,
        seals: &Seals,
        now: u64,
        room: usize,
    ) -> Result<bool, NotSealed> {
        match answer {
            Answer::Granted(grant) if grant.unproven => return Ok(false),
            // Of a token that does not say when it ends nobody knows how long it may be kept.
            Answer::Granted(grant) if room > 1 && grant.fields.until.is_none() => return Ok(false),
            // The next login is to wait, too.
            Answer::Granted(grant) if grant.fields.delay_until.is_some_and(|until| until > SystemTime::now()) => {
                return Ok(false);
            }
            Answer::Granted(grant) => {
                let proof_mark = proof.map(|proof| Mark::new(proof, seals, now)).transpose()?;
                self.good.retain(|good| !is_for(&good.proof, proof, seals));
                self.good.push(Good { made: now, proof: proof_mark, grant: Kept::of(grant) });
                self.good.drain(..self.good.len().saturating_sub(room));
                self.unknown = None;
            }
            Answer::Keys(keys) => {
                self.keys = Some(KeptKeys::of(keys, now));
                self.unknown = None;
            }
            Answer::Denied(Denial::Password) => {
                // Who has no keys any more has another password; who was proven otherwise, and is refused, is locked.
                let Some(proof) = proof else {
                    let had = self.keys.take().is_some() || !self.good.is_empty();
                    self.good.clear();
                    return Ok(had);
                };
                // It was right once: then it was changed.
                self.good.retain(|good| !is_for(&good.proof, Some(proof), seals));
                self.unknown = None;
                self.wrong = Some(Mark::new(proof, seals, now)?);
            }
            Answer::Unknown => {
                let unknown = Absent { made: now, proof: proof.map(|proof| Mark::new(proof, seals, now)).transpose()? };
                // That a token is another's says nothing of the others that came under this name.
                self.good.retain(|good| room > 1 && !is_for(&good.proof, proof, seals));
                (self.wrong, self.unknown) = (None, Some(unknown));
            }
            // Not kept, for it may be otherwise next time; but what was granted is granted no more.
            Answer::Denied(Denial::Forbidden) => return Ok(self.good.drain(..).count() > 0),
            Answer::Denied(Denial::Told(told)) => return Ok(self.unlearn(told.refusal, proof, seals)),
            Answer::Unavailable => return Ok(false),
        }
        Ok(true)
    }

    /// A refusal in the source's own words, which are not kept; but what was granted may be granted no more. True if that
    /// has changed something.
    fn unlearn(&mut self, refusal: Refusal, proof: Option<&Secret>, seals: &Seals) -> bool {
        let before = self.good.len();
        match refusal {
            Refusal::BadCredentials => self.good.retain(|good| !is_for(&good.proof, proof, seals)),
            Refusal::Forbidden => self.good.clear(),
            _ => {}
        }
        self.good.len() < before
    }
}

impl Good {
    /// How much longer it is good, of so long at most.
    fn lasts(&self, most: Duration, now: u64) -> Duration {
        let end = self.made.saturating_add(most.as_secs()).min(self.grant.until.unwrap_or(u64::MAX));
        Duration::from_secs(end.saturating_sub(now))
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

impl KeptKeys {
    fn of(keys: &ScramKeys, made: u64) -> Self {
        Self {
            made,
            sha256: keys.hash == ScramHash::Sha256,
            rounds: keys.rounds,
            salt: keys.salt.to_vec(),
            stored_key: Wiped(keys.stored_key.to_vec()),
            server_key: Wiped(keys.server_key.to_vec()),
        }
    }

    fn to_keys(&self) -> Option<ScramKeys> {
        let hash = if self.sha256 { ScramHash::Sha256 } else { ScramHash::Sha1 };
        let Self { rounds, salt, stored_key: Wiped(stored_key), server_key: Wiped(server_key), .. } = self;
        let is_whole = stored_key.len() == hash.length() && server_key.len() == hash.length();
        let keys = || ScramKeys {
            hash,
            rounds: *rounds,
            salt: salt.as_slice().into(),
            stored_key: stored_key.as_slice().into(),
            server_key: server_key.as_slice().into(),
        };
        is_whole.then(keys)
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
            until,
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
            until: until.map(|until| until.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())),
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
            until: self.until.and_then(|until| UNIX_EPOCH.checked_add(Duration::from_secs(until))),
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
                let fields = Fields { delay_until: grant.fields.delay_until, ..copy.fields };
                Self::Granted(Box::new(Grant { user: copy.user, unproven, master, fields }))
            }
            Self::Denied(denial) => Self::Denied(denial.clone()),
            Self::Keys(keys) => Self::Keys(keys.clone()),
            Self::Unknown => Self::Unknown,
            Self::Unavailable => Self::Unavailable,
        }
    }
}
