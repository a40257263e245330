//! `GET /v1/dump`: the commands that bring a fleet which has forgotten it back to what operators have set.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;

use super::stream::pages;
use super::{Admin, in_time, wire};
use crate::config::Config;
use crate::store::{BackendView, BindingView};

/// What the next page tells.
enum Part {
    Backends,
    /// Marks of users: of a shard, by its index, from a cursor on.
    Users(usize, String),
}

/// Backends first: a pin needs its backend. Then users, page by page, for as long as somebody reads.
pub(super) async fn dump(State(admin): State<Arc<Admin>>) -> Response {
    pages(Part::Backends, move |part| {
        let admin = admin.clone();
        async move {
            let (commands, next) = page(&admin, part).await?;
            Ok((commands.into_iter().map(|command| wire::Restoring { command }).collect(), next))
        }
    })
}

async fn page(admin: &Admin, part: Part) -> Result<(Vec<String>, Option<Part>), String> {
    let begin = |index| (index < admin.fleet.shards().len()).then(|| Part::Users(index, "0".to_owned()));
    let Part::Users(index, cursor) = part else {
        let census = in_time(admin.fleet.store().census(0)).await?;
        return Ok((census.backends.iter().flat_map(of_backend).collect(), begin(0)));
    };
    let page = in_time(admin.fleet.store().bindings(admin.fleet.shards()[index].number, &cursor)).await?;
    let commands = page.bindings.iter().flat_map(|(key, view)| of_user(key.as_str(), view)).collect();
    Ok((commands, page.next.map(|cursor| Part::Users(index, cursor)).or_else(|| begin(index + 1))))
}

fn of_backend(view: &BackendView) -> Vec<String> {
    let (name, row) = (view.backend.as_str(), &view.row);
    let mut commands = Vec::new();
    if row.unread.is_some() {
        commands.push(format!("# {} was written by a newer version of homing: dump it with that one", quoted(name)));
    }
    if let Some(settings) = row.added.as_deref().and_then(|line| Config::added_settings(name, line)) {
        let pairs = settings.into_iter().map(|(key, value)| format!("{key}={value}"));
        let words: Vec<String> = std::iter::once(name.to_owned()).chain(pairs).collect();
        commands.push(command("backend add", &words));
    }
    if row.weight_set {
        commands.push(command("backend weight", &[name, &row.weight.get().to_string()]));
    }
    if row.state_set {
        let verb = match row.state.word() {
            "removed" => "remove",
            word => word,
        };
        commands.push(command(&format!("backend {verb}"), &[name]));
    }
    if let Some(job) = &row.job {
        let work = format!("backend {}", job.kind.word());
        commands.push(command(&work, &[name]));
        if job.paused {
            commands.push(command(&format!("{work} --pause"), &[name]));
        }
    }
    commands
}

fn of_user(key: &str, view: &BindingView) -> Vec<String> {
    let pin = view.pin.as_ref().map(|pin| command("user pin --no-move", &[key, pin.as_str()]));
    let hold = view.hold_ms.map(|ms| match ms {
        0 => command("user hold", &[key]),
        ms => command(&format!("user hold --for {}s", ms.div_ceil(1000)), &[key]),
    });
    pin.into_iter().chain(hold).collect()
}

/// A command for a POSIX shell. Names may look like options: behind `--` nothing is one.
fn command(verb: &str, names: &[impl AsRef<str>]) -> String {
    let end = if names.iter().any(|name| name.as_ref().starts_with('-')) { " --" } else { "" };
    let names: String = names.iter().map(|name| format!(" {}", quoted(name.as_ref()))).collect();
    format!("homing {verb}{end}{names}")
}

/// As one word of a POSIX shell, on one line, with nothing that a terminal would obey.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:@%+,=".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    if word.chars().any(char::is_control) {
        let byte = |b: u8| if b.is_ascii_alphanumeric() { char::from(b).to_string() } else { format!("\\{b:03o}") };
        return format!("\"$(printf '{}')\"", word.bytes().map(byte).collect::<String>());
    }
    format!("'{}'", word.replace('\'', "'\\''"))
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
        assert_eq!(quoted("a\nb\u{1b}"), "\"$(printf 'a\\012b\\033')\"");
    }

    #[test]
    fn a_name_that_looks_like_an_option_is_none() {
        assert_eq!(command("user hold --for 5s", &["-rf"]), "homing user hold --for 5s -- -rf");
        assert_eq!(command("user pin", &["a-b", "mail1"]), "homing user pin a-b mail1");
    }

    #[test]
    fn a_shell_gives_every_word_back_as_it_was() {
        for word in ["it's", "$(x) `y` \"z\" \\ *", "100 %d", "tab\tand\u{7}%s\\n", "-e", "jürgen \u{85}"] {
            let said = std::process::Command::new("sh").args(["-c", &format!("printf %s {}", quoted(word))]).output();
            assert_eq!(String::from_utf8(said.unwrap().stdout).unwrap(), word);
        }
    }
}
