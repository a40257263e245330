//! Sources in their order, behind the fleet's memory of what they said.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::cache::{About, Cache, Kind, Origin, Recall, Recalled};
use super::link::{Answer, Link};
use super::pace::Pace;
use super::{Grant, LONGEST_WAIT, Lookup, Question, Refused, SourceStats};
use crate::model::Refusal;

mod scram;
#[cfg(test)]
mod tests;

/// The sources of users, or those of master users.
#[derive(Default)]
pub(super) struct Links {
    links: Vec<Link>,
    cache: Option<Arc<Cache>>,
    /// How long it takes to find what SCRAM needs.
    pace: Pace,
}

/// What came of a question, and how.
pub(super) struct Told {
    pub(super) outcome: Result<Grant, Refused>,
    /// Which source decided, if one did, and where its answer came from.
    pub(super) by: Option<(String, Origin)>,
}

impl Told {
    /// Without asking anybody.
    pub(super) fn refused(refusal: Refusal) -> Self {
        Self { outcome: Err(refusal.into()), by: None }
    }
}

/// What is kept about one user by all these sources, once somebody has looked.
struct Memory<'a> {
    about: About<'a>,
    recalled: Option<Recalled>,
}

impl<'a> Memory<'a> {
    fn of(question: &Question<'a>, kind: Kind) -> Self {
        let Question { service, credentials, .. } = *question;
        let proof = credentials.secret();
        let about = About { user: &credentials.user, service, kind, proof, anew: false };
        Self { about, recalled: None }
    }
}

impl Links {
    pub(super) fn new(links: Vec<Link>) -> Self {
        Self { links, cache: None, pace: Pace::default() }
    }

    pub(super) fn with_cache(self, cache: &Arc<Cache>) -> Self {
        Self { cache: Some(cache.clone()), ..self }
    }

    #[cfg(test)]
    pub(super) fn cache(&self) -> Option<&Arc<Cache>> {
        self.cache.as_ref()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.links.is_empty()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Link> {
        self.links.iter()
    }

    /// What their answers are kept by.
    pub(super) fn labels(&self) -> Vec<&str> {
        self.links.iter().filter_map(Link::label).collect()
    }

    /// What answers of that kind are kept by, in the order in which they are recalled.
    fn labels_for(&self, kind: Kind) -> Vec<&str> {
        self.links.iter().filter_map(|link| kept_by(link, kind)).collect()
    }

    /// How each fares.
    pub(super) fn stats(&self, master: bool) -> impl Iterator<Item = SourceStats> {
        self.links.iter().map(move |link| link.stats(master))
    }

    /// What the fleet would be asked about a user who logs in; `None` if nothing.
    pub(super) fn to_recall(&self, about: &About<'_>) -> Option<Recall> {
        let (cache, labels) = (self.cache.as_ref()?, self.labels_for(about.kind));
        (!labels.is_empty()).then(|| cache.to_recall(&labels, about))
    }

    /// The first that knows the user decides. `recalled` is what the fleet has said, if it was asked before.
    pub(super) async fn ask(&self, question: &Question<'_>, recalled: Option<Recalled>) -> Told {
        let client = question.client;
        let kind = Kind::of(question.credentials);
        let is_token = question.credentials.token().is_some();
        let mut memory = Memory { recalled, ..Memory::of(question, kind.unwrap_or(Kind::Login)) };
        let is_asked = |link: &&Link| !is_token || link.source().takes_tokens(question.credentials.mechanism);
        for link in self.links.iter().filter(is_asked) {
            let (answer, origin) = match kind {
                Some(_) => self.answer(link, &mut memory, link.ask(question)).await,
                None => (link.ask(question).await, Origin::Source),
            };
            let outcome = match answer {
                // Nobody without a name has a home: neither the client nor the token has said one.
                Answer::Granted(grant) if grant.user.as_str().is_empty() => Err(Refusal::BadCredentials.into()),
                // Whoever answered: what is kept says only who, not from where.
                Answer::Granted(grant) if !grant.fields.admits(client.ip()) => Err(Refusal::Forbidden.into()),
                Answer::Granted(grant) => {
                    let until = grant.fields.delay_until.unwrap_or(SystemTime::UNIX_EPOCH);
                    pause(until.duration_since(SystemTime::now()).unwrap_or_default()).await;
                    Ok(*grant)
                }
                Answer::Denied(denial) => {
                    let refused = Refused::from(denial);
                    pause(refused.wait).await;
                    Err(refused)
                }
                Answer::Unknown => continue,
                Answer::Keys(_) => Err(Refusal::BadCredentials.into()), // nobody asked for them
                // Not on to the next: it might let in, with another home, a user whom this one knows.
                Answer::Unavailable => Err(Refusal::PassdbUnavailable.into()),
            };
            return Told { outcome, by: Some((link.name(), origin)) };
        }
        Told::refused(Refusal::BadCredentials)
    }

    /// The first that knows the user decides, who does not log in.
    pub(super) async fn find(&self, lookup: &Lookup<'_>) -> Result<Option<Grant>, Refusal> {
        let Lookup { user, service, .. } = *lookup;
        let about = About { user, service, kind: Kind::Lookup, proof: None, anew: false };
        let mut memory = Memory { about, recalled: None };
        for link in &self.links {
            match self.answer(link, &mut memory, link.find(lookup)).await.0 {
                Answer::Granted(grant) => return Ok(Some(*grant)),
                Answer::Denied(_) | Answer::Keys(_) | Answer::Unknown => {}
                Answer::Unavailable => return Err(Refusal::PassdbUnavailable),
            }
        }
        Ok(None)
    }

    /// What is kept, or else what the link says. Before the first link that may have something kept, all of it is recalled at once.
    async fn answer(
        &self,
        link: &Link,
        memory: &mut Memory<'_>,
        ask: impl Future<Output = Answer>,
    ) -> (Answer, Origin) {
        let kind = memory.about.kind;
        let (Some(cache), Some(label)) = (&self.cache, kept_by(link, kind)) else {
            return (ask.await, Origin::Source);
        };
        let labels = self.labels_for(kind);
        let recalled = match &mut memory.recalled {
            Some(recalled) => recalled,
            none => none.insert(cache.recall(&labels, &memory.about).await),
        };
        let place = labels.iter().position(|known| *known == label).unwrap_or(labels.len());
        cache.answer(recalled, place, &memory.about, ask).await
    }
}

/// What the link's answers are kept by. Of a token it must say when that ends: nobody shall be let in by it for longer.
fn kept_by(link: &Link, kind: Kind) -> Option<&str> {
    link.label().filter(|_| kind != Kind::Token || link.source().dates_tokens())
}

/// As long as a source says that a login is to wait. The source has done its part, and is not waited for.
async fn pause(wait: Duration) {
    if !wait.is_zero() {
        tokio::time::sleep(wait.min(LONGEST_WAIT)).await;
    }
}
