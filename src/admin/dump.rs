//! `GET /v1/dump`: the commands that bring a fleet which has forgotten it back to what operators have set.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};

use super::{Admin, failure, in_time, wire};
use crate::config::Config;
use crate::store::{BackendView, BindingView};

/// The most marks of users that are given.
const MARKS: usize = 100_000;

/// Backends first: a pin needs its backend.
pub(super) async fn dump(State(admin): State<Arc<Admin>>) -> Response {
    match commands(&admin).await {
        Ok(dump) => Json(dump).into_response(),
        Err(why) => failure(StatusCode::SERVICE_UNAVAILABLE, why),
    }
}

async fn commands(admin: &Admin) -> Result<wire::Dump, String> {
    let census = in_time(admin.fleet.store().census(0)).await?;
    let mut commands: Vec<String> = census.backends.iter().flat_map(of_backend).collect();
    let most = commands.len() + MARKS;
    for shard in admin.fleet.shards() {
        let mut cursor = Some("0".to_owned());
        while let Some(at) = cursor {
            let page = in_time(admin.fleet.store().bindings(shard.number, &at)).await?;
            commands.extend(page.bindings.iter().flat_map(|(key, view)| of_user(key.as_str(), view)));
            if commands.len() > most {
                commands.truncate(most);
                return Ok(wire::Dump { commands, cut: true });
            }
            cursor = page.next;
        }
    }
    Ok(wire::Dump { commands, cut: false })
}

fn of_backend(view: &BackendView) -> Vec<String> {
    let (name, row) = (quoted(view.backend.as_str()), &view.row);
    let command = |words: &str| format!("homing backend {words}");
    let mut commands = Vec::new();
    if row.unread.is_some() {
        commands.push(format!("# {name} was written by a newer version of homing: dump it with that one"));
    }
    if let Some(settings) = row.added.as_deref().and_then(|line| Config::added_settings(view.backend.as_str(), line)) {
        let pairs = settings.into_iter().map(|(key, value)| quoted(&format!("{key}={value}")));
        commands.push(command(&format!("add {name} {}", pairs.collect::<Vec<_>>().join(" "))));
    }
    if row.weight_set {
        commands.push(command(&format!("weight {name} {}", row.weight.get())));
    }
    if row.state_set {
        let verb = match row.state.word() {
            "removed" => "remove",
            word => word,
        };
        commands.push(command(&format!("{verb} {name}")));
    }
    if let Some(job) = &row.job {
        commands.push(command(&format!("{} {name}", job.kind.word())));
        if job.paused {
            commands.push(command(&format!("{} --pause {name}", job.kind.word())));
        }
    }
    commands
}

fn of_user(key: &str, view: &BindingView) -> Vec<String> {
    let pin = view.pin.as_ref().map(|pin| format!("homing user pin {} {}", quoted(key), quoted(pin.as_str())));
    let hold = view.hold_ms.map(|ms| match ms {
        0 => format!("homing user hold {}", quoted(key)),
        ms => format!("homing user hold {} --for {}s", quoted(key), ms.div_ceil(1000)),
    });
    pin.into_iter().chain(hold).collect()
}

/// As one word of a POSIX shell.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:@%+,=".contains(c);
    match !word.is_empty() && word.chars().all(plain) && !word.starts_with('-') {
        true => word.to_owned(),
        false => format!("'{}'", word.replace('\'', "'\\''")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_that_a_shell_would_take_apart_are_quoted() {
        assert_eq!(quoted("ann@example.org"), "ann@example.org");
        assert_eq!(quoted("it's; rm -rf /"), "'it'\\''s; rm -rf /'");
        assert_eq!(quoted("$(x)"), "'$(x)'");
        assert_eq!(quoted(""), "''");
    }
}
