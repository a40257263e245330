//! Commands of the HTTP API: each is carried out, and answered in the form that Dovecot gives it, as the answer comes.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::sync::Arc;

use hyper::body::Bytes;
use serde_json::{Value, json};
use tokio::sync::mpsc::{Receiver, Sender};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::call::{Call, Failure, Said};
use super::many::{Scope, Share, joined, scope};
use super::spool::Spool;
use super::{Caller, Trouble};
use crate::backend::Server;
use crate::model::Exit;
use crate::protocol::doveadm::{Aim, ApiCall, Kind, Rows, kind, reply};

/// Bytes of the list of connections, which must be counted before anything is said.
const WHO_MAX: usize = 16 * 1024 * 1024;

/// The commands of one request.
pub(super) struct Api {
    pub(super) caller: Caller,
    /// How many more proxies may follow.
    pub(super) ttl: u32,
    /// Where the answer goes; `None` says that it is whole.
    pub(super) out: Sender<Option<Bytes>>,
    /// Cancelled when the client has gone.
    pub(super) gone: CancellationToken,
}

/// The answer cannot be brought to its end: the client has gone, or half of it was said and cannot be taken back. Who gets
/// it then sees it break off.
#[derive(Debug)]
pub(super) struct Broken;

impl Api {
    /// One after the other.
    pub(super) async fn run(&self, calls: Vec<ApiCall>) -> Result<(), Broken> {
        self.say("[").await?;
        for (number, call) in calls.into_iter().enumerate() {
            if number > 0 {
                self.say(",").await?;
            }
            self.carry_out(call).await?;
        }
        self.say("]").await?;
        self.out.send(None).await.map_err(|_| Broken)
    }

    async fn say(&self, bytes: impl Into<Bytes>) -> Result<(), Broken> {
        self.out.send(Some(bytes.into())).await.map_err(|_| Broken)
    }

    async fn carry_out(&self, call: ApiCall) -> Result<(), Broken> {
        let began = Instant::now();
        let (name, tag) = (call.known_name(), call.tag.clone());
        let aimed = match kind(&name) {
            Kind::OfUser => {
                call.aim(self.caller.separator()).map_err(|fault| Trouble::new(Exit::USAGE, fault.to_string()))
            }
            _ => Ok((Aim::Nobody, call)),
        };
        let found = match aimed {
            Ok((aim, call)) => scope(&self.caller, &name, aim).await.map(|scope| (scope, call)),
            Err(trouble) => Err(trouble),
        };
        match found {
            Ok((Scope::One(user), call)) => {
                let mut parts = self.call(call).begin(Share::User(user));
                let first = parts.recv().await;
                self.pass_on(first, parts, &tag).await
            }
            Ok((Scope::Each(shares), call)) => match self.each(&name, call, shares).await {
                Ok(mut rows) => self.list(&mut rows, &tag).await,
                Err(failure) => self.fail(failure, &tag).await,
            },
            Ok((Scope::Any(servers), call)) => self.any(call, servers, &tag).await,
            Err(trouble) => {
                self.caller.tell(&name, None, None, began, trouble.exit);
                self.fail(trouble.into(), &tag).await
            }
        }
    }

    fn call(&self, call: ApiCall) -> Call {
        Call { caller: self.caller.clone(), call: Arc::new(call), ttl: self.ttl, gone: self.gone.clone() }
    }

    /// What one server says, as it comes.
    async fn pass_on(&self, first: Option<Said>, mut parts: Receiver<Said>, tag: &str) -> Result<(), Broken> {
        let mut said = first;
        let mut has_begun = false;
        loop {
            match said {
                Some(Said::Result(bytes)) => {
                    if !std::mem::replace(&mut has_begun, true) {
                        self.say(reply::API_RESULT).await?;
                    }
                    self.say(bytes).await?;
                }
                Some(Said::End(Ok(()))) if has_begun => return self.say(reply::api_tag(tag)).await,
                Some(Said::End(Err(failure))) if !has_begun => return self.fail(failure, tag).await,
                None if !has_begun => {
                    return self.fail(Trouble::temporary("this proxy is going down").into(), tag).await;
                }
                end => {
                    warn!(session = %self.caller.session, ?end, "an answer broke off at a backend, and so for the client");
                    return Err(Broken);
                }
            }
            said = parts.recv().await;
        }
    }

    async fn fail(&self, Failure { kind, exit, why }: Failure, tag: &str) -> Result<(), Broken> {
        let words = match kind.as_str() {
            "exitCode" => reply::api_failure(exit, why.as_deref(), tag),
            _ => reply::api_error(&kind, exit, tag),
        };
        self.say(words.to_string()).await
    }

    async fn list(&self, rows: &mut Spool, tag: &str) -> Result<(), Broken> {
        self.say(reply::API_RESULT).await?;
        self.say("[").await?;
        loop {
            match rows.next().await {
                Ok(bytes) if bytes.is_empty() => break,
                Ok(bytes) => self.say(bytes).await?,
                Err(error) => {
                    warn!(session = %self.caller.session, %error, "an answer cannot be read back");
                    return Err(Broken);
                }
            }
        }
        self.say("]").await?;
        self.say(reply::api_tag(tag)).await
    }

    /// All shares, some at once; what they say is joined in their order. It is kept until the last has gone well: one
    /// failure is the failure of all, as with Dovecot.
    async fn each(&self, name: &str, mut call: ApiCall, shares: Vec<Share>) -> Result<Spool, Failure> {
        let told_apart = call.parameters.get("separateConnections").is_some_and(|value| *value == Value::Bool(true));
        if name == "who" {
            // Dovecot 2.3 writes no JSON without that.
            call.parameters.insert("separateConnections".to_owned(), Value::Bool(true));
        }
        let call = self.call(call);
        let parallel = self.caller.settings().parallel;
        let mut left = shares.into_iter();
        let mut open = VecDeque::new();
        let mut joint = Joint { counts: name == "who" && !told_apart, ..Joint::default() };
        loop {
            while open.len() < parallel
                && let Some(share) = left.next()
            {
                open.push_back((label(&share), call.begin(share)));
            }
            let Some(((user, whom), parts)) = open.pop_front() else { return joint.end().await };
            joint.take(user.as_deref(), &whom, parts).await.map_err(unkept)?;
        }
    }

    /// The first server that can be asked.
    async fn any(&self, call: ApiCall, servers: Vec<Arc<Server>>, tag: &str) -> Result<(), Broken> {
        let call = self.call(call);
        let mut last = Trouble::temporary("no backend could be asked").into();
        for server in servers {
            let mut parts = call.begin(Share::Server(server));
            match parts.recv().await {
                Some(Said::End(Err(failure))) if failure.exit == Exit::TEMPORARY => last = failure,
                first => return self.pass_on(first, parts, tag).await,
            }
        }
        self.fail(last, tag).await
    }
}

/// What many say.
#[derive(Default)]
struct Joint {
    rows: Rows,
    spool: Spool,
    exits: Vec<Exit>,
    whys: Vec<String>,
    /// Connections are counted, so that nothing goes on as it comes.
    counts: bool,
    connections: Vec<Value>,
}

impl Joint {
    async fn take(&mut self, user: Option<&str>, whom: &str, mut parts: Receiver<Said>) -> io::Result<()> {
        self.rows.begin(user);
        let (mut text, mut size) = (Vec::new(), 0);
        let end = loop {
            match parts.recv().await {
                Some(Said::Result(bytes)) if self.counts => {
                    size += bytes.len();
                    if size > WHO_MAX {
                        return Err(io::Error::other("too many connections to count"));
                    }
                    text.extend(bytes);
                }
                Some(Said::Result(bytes)) => {
                    text.clear();
                    self.rows.put(&bytes, &mut text);
                    self.spool.put(&text).await?;
                }
                Some(Said::End(end)) => break end,
                None => break Err(Trouble::temporary("this proxy is going down").into()),
            }
        };
        if self.counts {
            let found: Value = serde_json::from_slice(&text).unwrap_or_default();
            self.connections.extend(by_service(&found));
        } else {
            text.clear();
            self.rows.end(&mut text);
            self.spool.put(&text).await?;
        }
        self.exits.push(end.as_ref().map_or_else(|failure| failure.exit, |()| Exit::DONE));
        if let Err(failure) = end {
            self.whys.push(format!("{whom}: {}", failure.why.unwrap_or_else(|| failure.exit.word().to_owned())));
        }
        Ok(())
    }

    async fn end(mut self) -> Result<Spool, Failure> {
        let exit = joined(&self.exits);
        if !exit.is_done() {
            return Err(Failure { kind: "exitCode".to_owned(), exit, why: Some(self.whys.join("; ")) });
        }
        let connections: Vec<String> = self.connections.iter().map(Value::to_string).collect();
        self.spool.put(connections.join(",").as_bytes()).await.map_err(unkept)?;
        self.spool.rewind().await.map_err(unkept)?;
        Ok(self.spool)
    }
}

fn unkept(error: io::Error) -> Failure {
    Trouble::temporary(format!("the joined answer cannot be kept: {error}")).into()
}

/// The user, if it is one, and what to call it.
fn label(share: &Share) -> (Option<String>, String) {
    match share {
        Share::User(user) => (Some(user.clone()), user.clone()),
        Share::Server(server) => (None, server.id.to_string()),
    }
}

/// Connections counted by user and service, as `who` does without `separateConnections`.
fn by_service(result: &Value) -> Vec<Value> {
    let mut counted: BTreeMap<[String; 2], (Vec<String>, BTreeSet<String>)> = BTreeMap::new();
    for row in result.as_array().into_iter().flatten() {
        let text = |name: &str| match row.get(name) {
            Some(Value::String(text)) => text.clone(),
            Some(other) => other.to_string(),
            None => String::new(),
        };
        let (pids, ips) = counted.entry([text("username"), text("service")]).or_default();
        pids.push(text("pid"));
        ips.insert(text("ip"));
    }
    let row = |([user, service], (pids, ips)): ([String; 2], (Vec<String>, BTreeSet<String>))| {
        let ips: Vec<String> = ips.into_iter().collect();
        json!({ "username": user, "connections": pids.len().to_string(), "service": service,
            "pids": format!("({})", pids.join(" ")), "ips": format!("({})", ips.join(" ")) })
    };
    counted.into_iter().map(row).collect()
}
