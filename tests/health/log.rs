//! The log of this process, kept for the tests: each finds its lines by its backend's name, which no other test has.

use std::sync::{Mutex, OnceLock};

use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};

static LINES: Mutex<Vec<String>> = Mutex::new(Vec::new());
static STARTED: OnceLock<()> = OnceLock::new();

struct Keep;

struct Words(String);

impl Visit for Words {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        self.0 += &format!(" {}={value:?}", field.name());
    }
}

impl<S: Subscriber> Layer<S> for Keep {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut words = Words(event.metadata().level().to_string());
        event.record(&mut words);
        LINES.lock().unwrap().push(words.0);
    }
}

/// Starts keeping, once.
pub(crate) fn keep() {
    STARTED.get_or_init(|| {
        tracing::subscriber::set_global_default(tracing_subscriber::registry().with(Keep)).unwrap();
    });
}

/// All lines about a backend, of whatever level.
pub(crate) fn about(backend: &str) -> Vec<String> {
    let field = format!(" backend={backend} ");
    LINES.lock().unwrap().iter().filter(|line| line.contains(&field)).cloned().collect()
}
