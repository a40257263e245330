//! Waiting for conditions.

use std::time::{Duration, Instant};

const LOOK: Duration = Duration::from_millis(5);

/// Waits until `check` finds nothing wrong; fails with what it found last.
pub async fn eventually(what: &str, within: Duration, mut check: impl AsyncFnMut() -> Result<(), String>) {
    let began = Instant::now();
    while let Err(wrong) = check().await {
        assert!(began.elapsed() < within, "waited {within:?} in vain: {what}: {wrong}");
        tokio::time::sleep(LOOK).await;
    }
}

/// Looks again and again until `over` resolves: `check` must find nothing wrong.
pub async fn throughout(
    what: &str,
    over: impl Future<Output = ()>,
    mut check: impl AsyncFnMut() -> Result<(), String>,
) {
    tokio::pin!(over);
    loop {
        if let Err(wrong) = check().await {
            panic!("{what}: {wrong}");
        }
        tokio::select! {
            () = &mut over => return,
            () = tokio::time::sleep(LOOK) => {}
        }
    }
}

/// Nothing is wrong if that is true.
pub fn whether(is: bool, wrong: impl FnOnce() -> String) -> Result<(), String> {
    if is { Ok(()) } else { Err(wrong()) }
}
