//! The log of this process, kept for the tests: each finds its lines by the client's address, which no other test has.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Mutex, OnceLock};

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};

use super::until;

/// Fields of one line, `message` and `level` among them.
pub(crate) type Line = BTreeMap<String, String>;

static LINES: Mutex<Vec<Line>> = Mutex::new(Vec::new());
static STARTED: OnceLock<()> = OnceLock::new();

struct Keep;

struct Fields<'a>(&'a mut Line);

impl Visit for Fields<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        self.0.insert(field.name().to_owned(), format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.insert(field.name().to_owned(), value.to_owned());
    }
}

impl<S: Subscriber> Layer<S> for Keep {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        if *event.metadata().level() <= Level::DEBUG && event.metadata().target().starts_with("homing") {
            let mut line = Line::from([("level".to_owned(), event.metadata().level().to_string())]);
            event.record(&mut Fields(&mut line));
            LINES.lock().unwrap().push(line);
        }
    }
}

/// Starts keeping, once.
pub(crate) fn keep() {
    STARTED.get_or_init(|| {
        tracing::subscriber::set_global_default(tracing_subscriber::registry().with(Keep)).unwrap();
    });
}

/// All lines of which `wanted` is true.
pub(crate) fn lines(wanted: impl Fn(&Line) -> bool) -> Vec<Line> {
    LINES.lock().unwrap().iter().filter(|line| wanted(line)).cloned().collect()
}

/// Waits for the one line about a connection. A client's port may be another client's at another site.
pub(crate) async fn end_of(client: SocketAddr, local: SocketAddr) -> Line {
    let between = [client.to_string(), local.to_string()];
    let found = || lines(|line| is_end(line) && [&line["client"], &line["local"]] == [&between[0], &between[1]]);
    until("the line about the connection", || !found().is_empty()).await;
    let found = found();
    assert_eq!(found.len(), 1, "one line for each connection: {found:#?}");
    found.into_iter().next().unwrap()
}

fn is_end(line: &Line) -> bool {
    matches!(line["message"].as_str(), "session" | "no login")
}
