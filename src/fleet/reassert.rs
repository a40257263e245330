//! Tells a store that may have forgotten what this proxy holds, and checks that it believes nothing else.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tracing::{debug, info};

use super::{Shard, Standing};
use crate::store::link::{LinkState, NoAnswer};
use crate::store::{Reply, Request};

/// Between two looks at what is still owed: the declarations themselves go out every 50 ms.
const LOOK: Duration = Duration::from_millis(20);

/// Asserts whenever a hello demands it, until the link is gone.
pub(super) async fn keep(shard: Shard, news: Arc<watch::Sender<Standing>>) {
    let mut state = shard.link.state();
    loop {
        let asserted = news.borrow().asserted;
        let due = |state: &LinkState| state.welcome.is_some() && state.assert_owed > asserted;
        let Ok(hello) = state.wait_for(due).await.map(|state| state.hellos) else { return };
        match assert(&shard, hello).await {
            Ok(()) => news.send_modify(|standing| standing.asserted = hello),
            Err(why) => {
                debug!(%why, "not all could be asserted; beginning again");
                tokio::time::sleep(LOOK).await;
            }
        }
    }
}

/// Declares all of the ledger, and 0 for what the store holds beyond it.
async fn assert(shard: &Shard, hello: u64) -> Result<(), NoAnswer> {
    shard.ledger.begin_assertion();
    let mut cursor = Some("0".to_owned());
    while let Some(at) = cursor {
        cursor = audit(shard, at, Some(hello)).await?;
    }
    while !shard.ledger.asserted() {
        let now = shard.link.state().borrow().clone();
        if now.hellos != hello || now.welcome.is_none() {
            return Err(NoAnswer::Unknown);
        }
        tokio::time::sleep(LOOK).await;
    }
    info!(sessions = shard.ledger.holding().sessions, "told the store all that is here");
    Ok(())
}

/// The audit that always runs, a page a heartbeat: it finds what no protocol can, such as a key deleted by hand.
pub(super) async fn audit_page(shard: &Shard, cursor: &mut String) {
    if let Ok(next) = audit(shard, std::mem::take(cursor), None).await {
        *cursor = next.unwrap_or_default();
    }
    if cursor.is_empty() {
        "0".clone_into(cursor);
    }
}

async fn audit(shard: &Shard, cursor: String, hello: Option<u64>) -> Result<Option<String>, NoAnswer> {
    let request = Request::Held { cursor };
    let answer = match hello {
        Some(hello) => shard.link.call_under(hello, request).await?,
        None => shard.link.call(request).await?,
    };
    let Reply::Held(keys, next) = answer.reply else { return Err(NoAnswer::Unknown) };
    let different = shard.ledger.audit(&keys, hello.is_some());
    if different > 0 {
        debug!(keys = different, "the store counts other sessions here than there are; declaring them");
    }
    Ok(next)
}
