//! The log as operators see it.

use std::io::{self, Write};
use std::sync::{Arc, Mutex, PoisonError};

use super::*;

/// Keeps what is logged.
#[derive(Clone, Default)]
struct Kept(Arc<Mutex<Vec<u8>>>);

impl Write for Kept {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Kept {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

/// Runs `story` with a log of this form, and returns what it wrote.
fn logged(format: LogFormat, level: &str, story: impl FnOnce(&LogHandle)) -> String {
    let kept = Kept::default();
    let out = kept.clone();
    let config = LogConfig { format, level: level.to_owned() };
    let (subscriber, handle) = subscriber(&config, move || out.clone()).unwrap();
    let guard = subscriber.set_default();
    story(&handle);
    drop(guard);
    kept.text()
}

#[test]
fn text_lines_start_with_the_time_in_utc() {
    let text = logged(LogFormat::Text, "info", |_| tracing::info!({ names::USER } = "ada", "login"));
    let time = text.split_whitespace().next().unwrap();
    assert!(time.ends_with('Z') && time.contains('T'), "{text}");
    assert!(text.contains("ada") && text.contains("login"), "{text}");
}

#[test]
fn json_lines_have_their_fields_at_the_top() {
    let text = logged(LogFormat::Json, "info", |_| {
        tracing::info!({ names::USER } = "ada", { names::IN_BYTES } = 17_u64, "login");
    });
    let line: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(line[names::USER], "ada");
    assert_eq!(line[names::IN_BYTES], 17);
    assert_eq!(line["message"], "login");
    assert!(line["timestamp"].as_str().unwrap().ends_with('Z'));
}

#[test]
fn the_level_can_be_changed_while_the_log_runs() {
    let text = logged(LogFormat::Text, "warn", |handle| {
        tracing::info!("first");
        handle.set_level("info").unwrap();
        tracing::info!("second");
        handle.clone().set_level("error").unwrap();
        tracing::info!("third");
    });
    assert!(!text.contains("first") && text.contains("second") && !text.contains("third"), "{text}");
}

#[test]
fn what_strangers_make_the_tls_library_say_is_logged_only_if_it_is_asked_for() {
    let story = |_: &LogHandle| tracing::warn!(target: "rustls::msgs::handshake", "Illegal SNI extension");
    assert_eq!(logged(LogFormat::Text, "info", story), "");
    assert!(logged(LogFormat::Text, "info,rustls=warn", story).contains("Illegal"));
}

#[test]
fn a_level_that_is_none_leaves_the_old_one() {
    let text = logged(LogFormat::Text, "info", |handle| {
        assert!(matches!(handle.set_level("homing=loud"), Err(LogError::Level { .. })));
        tracing::info!("still here");
    });
    assert!(text.contains("still here"), "{text}");
}
