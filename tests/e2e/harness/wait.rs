//! Waiting for conditions instead of sleeping.

use std::time::{Duration, Instant};

use super::Result;

/// Tries until `attempt` succeeds and returns what it gave. Fails with its last reason after `deadline`.
pub async fn eventually<T>(what: &str, deadline: Duration, mut attempt: impl AsyncFnMut() -> Result<T>) -> Result<T> {
    let begun = Instant::now();
    let mut pause = Duration::from_millis(2);
    loop {
        let reason = match attempt().await {
            Ok(value) => return Ok(value),
            Err(reason) => reason,
        };
        if begun.elapsed() > deadline {
            return Err(reason.context(format!("waited {deadline:?} in vain: {what}")));
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(Duration::from_millis(50));
    }
}

/// Lets one heavy test run at a time: two crowds on two cores would only measure each other.
pub async fn heavy() -> tokio::sync::MutexGuard<'static, ()> {
    static TURN: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());
    TURN.lock().await
}
