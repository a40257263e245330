//! Commands of the HTTP API: each is carried out, and answered in the form that Dovecot gives it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use futures_util::stream::{self, StreamExt};
use serde_json::{Map, Value, json};
use tokio::task::JoinError;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::home::{self, Home};
use super::many::{Scope, Share, joined, scope};
use super::{Caller, Trouble};
use crate::backend::Server;
use crate::model::{BackendId, Exit};
use crate::protocol::doveadm::{Aim, ApiCall, Kind, kind, reply, split_answer};

/// Bytes of all answers to one command, and of those of one request.
const ANSWER_MAX: usize = 16 * 1024 * 1024;
/// Bytes of the answer for one of many: so many of them are in memory at once as `doveadm.parallel` says.
const SHARE_MAX: usize = 1024 * 1024;

/// The commands of one request.
#[derive(Clone)]
pub(super) struct Api {
    pub(super) caller: Caller,
    /// How many more proxies may follow.
    pub(super) ttl: u32,
}

/// A command that failed: the kind of failure in Dovecot's words, and our own why, if there is one.
#[derive(Debug)]
struct Failure {
    kind: String,
    exit: Exit,
    why: Option<String>,
}

impl From<Trouble> for Failure {
    fn from(Trouble { exit, text }: Trouble) -> Self {
        Self { kind: "exitCode".to_owned(), exit, why: Some(text) }
    }
}

impl From<JoinError> for Failure {
    fn from(_: JoinError) -> Self {
        Trouble::temporary("this proxy is going down").into()
    }
}

impl Api {
    /// One after the other.
    pub(super) async fn run(&self, calls: Vec<ApiCall>) -> Vec<Value> {
        let mut answers = Vec::with_capacity(calls.len());
        let mut size = 0;
        for call in calls {
            let tag = call.tag.clone();
            let outcome = if size > ANSWER_MAX { Err(too_long()) } else { self.carry_out(call).await };
            answers.push(match outcome {
                Ok(result) => {
                    size += result.to_string().len();
                    reply::api_response(result, &tag)
                }
                Err(Failure { kind, exit, why }) if kind == "exitCode" => {
                    reply::api_failure(exit, why.as_deref(), &tag)
                }
                Err(Failure { kind, exit, .. }) => reply::api_error(&kind, exit, &tag),
            });
        }
        answers
    }

    async fn carry_out(&self, call: ApiCall) -> Result<Value, Failure> {
        let began = Instant::now();
        let name = call.known_name();
        let aimed = match kind(&name) {
            Kind::OfUser => call.aim(self.caller.separator()).map_err(|fault| Trouble::new(Exit::USAGE, fault.to_string())),
            _ => Ok((Aim::Nobody, call)),
        };
        let found = match aimed {
            Ok((aim, call)) => scope(&self.caller, &name, aim).await.map(|scope| (scope, call)),
            Err(trouble) => Err(trouble),
        };
        match found {
            Ok((Scope::One(user), call)) => self.one(Arc::new(call), Share::User(user), ANSWER_MAX).await,
            Ok((Scope::Each(shares), call)) => self.each(&name, call, shares).await,
            Ok((Scope::Any(servers), call)) => self.any(call, servers).await,
            Err(trouble) => {
                self.caller.tell(&name, None, None, began, trouble.exit);
                Err(trouble.into())
            }
        }
    }

    /// In a task of its own, which, if the client goes, still waits until the mail server is done with the mailbox.
    async fn one(&self, call: Arc<ApiCall>, share: Share, most: usize) -> Result<Value, Failure> {
        let api = self.clone();
        let gone = CancellationToken::new();
        let _gone = gone.clone().drop_guard();
        self.caller.services.tasks.spawn(async move { api.share(&call, &share, most, &gone).await }).await?
    }

    async fn share(
        &self,
        call: &ApiCall,
        share: &Share,
        most: usize,
        gone: &CancellationToken,
    ) -> Result<Value, Failure> {
        let began = Instant::now();
        let mut backend = None;
        let (user, outcome) = match share {
            Share::User(user) => (Some(user.as_str()), self.at_home(call, user, most, gone, &mut backend).await),
            Share::Server(server) => {
                backend = Some(server.id.clone());
                (None, self.ask(server, call.body(None), most).await)
            }
        };
        let exit = outcome.as_ref().map_or_else(|failure| failure.exit, |_| Exit::DONE);
        self.caller.tell(&call.known_name(), user, backend.as_ref(), began, exit);
        outcome
    }

    async fn at_home(
        &self,
        call: &ApiCall,
        user: &str,
        most: usize,
        gone: &CancellationToken,
        backend: &mut Option<BackendId>,
    ) -> Result<Value, Failure> {
        let grant = home::look_up(&self.caller, user).await?;
        let home: Home = home::find(&self.caller, &grant).await?;
        *backend = Some(home.server.id.clone());
        let limits = self.caller.services.limits.load_full();
        // The connection ends with the answer, or here: a mail server that still works for it is not waited for.
        let result = tokio::select! {
            biased;
            trouble = home.cut_off(limits.kick_deadline) => return Err(trouble.into()),
            () = gone.cancelled() => return Err(Trouble::temporary("the client has gone").into()),
            result = self.ask(&home.server, call.body(Some(grant.home_name())), most) => result?,
        };
        home.prove();
        Ok(result)
    }

    async fn ask(&self, server: &Server, body: Vec<u8>, most: usize) -> Result<Value, Failure> {
        let road = self.caller.services.administration.road(server, true)?;
        let silence = self.caller.settings().silence;
        let answer = road.call(body, self.ttl, silence, most).await.map_err(Trouble::from)?;
        match split_answer(&answer) {
            Ok(Ok(result)) => Ok(result),
            Ok(Err((kind, exit))) => Err(Failure { kind, exit, why: None }),
            Err(fault) => Err(Trouble::temporary(format!("[backend.{}] {fault}", server.id)).into()),
        }
    }

    /// All shares, some at once; what they say is joined in their order.
    async fn each(&self, name: &str, mut call: ApiCall, shares: Vec<Share>) -> Result<Value, Failure> {
        let told_apart = call.parameters.get("separateConnections").is_some_and(|value| *value == Value::Bool(true));
        if name == "who" {
            // Dovecot 2.3 writes no JSON without that.
            call.parameters.insert("separateConnections".to_owned(), Value::Bool(true));
        }
        let call = Arc::new(call);
        let labels: Vec<_> = shares.iter().map(label).collect();
        let outcomes = stream::iter(shares.into_iter().map(|share| self.one(call.clone(), share, SHARE_MAX)));
        let mut outcomes = std::pin::pin!(outcomes.buffered(self.caller.settings().parallel).zip(stream::iter(labels)));
        let (mut rows, mut exits, mut whys, mut size) = (Vec::new(), Vec::new(), Vec::new(), 0);
        while let Some((outcome, (user, whom))) = outcomes.next().await {
            match outcome {
                Ok(result) => {
                    size += result.to_string().len();
                    exits.push(Exit::DONE);
                    rows.extend(if name == "who" && !told_apart { by_service(result) } else { named(result, user) });
                }
                Err(failure) => {
                    exits.push(failure.exit);
                    whys.push(format!("{whom}: {}", failure.why.unwrap_or_else(|| failure.exit.word().to_owned())));
                }
            }
            if size > ANSWER_MAX {
                return Err(too_long());
            }
        }
        match joined(&exits) {
            Exit::DONE => Ok(Value::Array(rows)),
            exit => Err(Failure { kind: "exitCode".to_owned(), exit, why: Some(whys.join("; ")) }),
        }
    }

    /// The first server that can be asked.
    async fn any(&self, call: ApiCall, servers: Vec<Arc<Server>>) -> Result<Value, Failure> {
        let call = Arc::new(call);
        let mut last = Trouble::temporary("no backend could be asked").into();
        for server in servers {
            match self.one(call.clone(), Share::Server(server), ANSWER_MAX).await {
                Err(failure) if failure.exit == Exit::TEMPORARY => last = failure,
                outcome => return outcome,
            }
        }
        Err(last)
    }
}

fn too_long() -> Failure {
    Trouble::temporary("the answer is too long: ask for less, or by the TCP protocol").into()
}

/// The user, if it is one, and what to call it.
fn label(share: &Share) -> (Option<String>, String) {
    match share {
        Share::User(user) => (Some(user.clone()), user.clone()),
        Share::Server(server) => (None, server.id.to_string()),
    }
}

/// The rows of one answer, each with the user's name, as Dovecot has it where there are several.
fn named(result: Value, user: Option<String>) -> Vec<Value> {
    let rows = match result {
        Value::Array(rows) => rows,
        other => vec![other],
    };
    let Some(user) = user else { return rows };
    let name = |row| match row {
        Value::Object(fields) => {
            let mut named = Map::from_iter([("username".to_owned(), Value::from(user.clone()))]);
            named.extend(fields);
            Value::Object(named)
        }
        other => json!({ "username": user, "result": other }),
    };
    rows.into_iter().map(name).collect()
}

/// Connections counted by user and service, as `who` does without `separateConnections`.
fn by_service(result: Value) -> Vec<Value> {
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
