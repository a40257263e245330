//! A test in a network namespace of its own, where it may lay cables and pull them out.
//!
//! The test binary runs that one test again as a child in a new namespace: its servers, its clients and the test itself
//! are the hub of a small network ([`super::lan`]), in which each proxy has a namespace to itself. Everything in it ends
//! with its processes. Where the machine permits no namespaces, forwarders stand in the cables' place.

use std::process::Stdio;

use anyhow::{Context, ensure};
use tokio::process::Command;

use super::Result;
use super::lan::Lan;

/// Set for the child.
const INSIDE: &str = "HOMING_APART";
/// "no" does without namespaces even where they are permitted.
const PERMITTED: &str = "HOMING_NAMESPACES";

/// How to get a network namespace and every right in it: as root, and as anybody else where the kernel lets them.
const WAYS: [&[&str]; 2] = [&["unshare", "-n", "--"], &["unshare", "-c", "-n", "--keep-caps", "--"]];

/// All that a test does there, in small.
const TRIAL: &str = "ip link set lo up && ip link add name t0 type bridge && ip link add name t1 type veth peer name t2 && \
                     unshare -n -- ip link set lo up";

/// Runs `story` in a namespace of its own. `name` is the path of the test that calls this, its crate first.
pub async fn run(name: &str, story: impl AsyncFnOnce(Lan) -> Result) -> Result {
    if std::env::var_os(INSIDE).is_some() {
        return story(Lan::of_namespaces()?).await;
    }
    match permitted().await {
        Some(way) => again(way, name).await,
        None => {
            println!("no network namespaces here: cables are forwarders in this process");
            story(Lan::of_wires()).await
        }
    }
}

/// `apart!(test, story)`: [`run`] with the path of `test`, a function of this module.
macro_rules! apart {
    ($test:ident, $story:expr) => {
        $crate::harness::apart::run(concat!(module_path!(), "::", stringify!($test)), $story)
    };
}
pub(crate) use apart;

async fn permitted() -> Option<&'static [&'static str]> {
    if std::env::var(PERMITTED).is_ok_and(|word| word == "no") {
        return None;
    }
    for way in WAYS {
        let mut trial = Command::new(way[0]);
        trial
            .args(&way[1..])
            .args(["sh", "-c", TRIAL])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        if trial.status().await.is_ok_and(|status| status.success()) {
            return Some(way);
        }
    }
    None
}

/// Runs the test `name` again, as a child that ends with this process.
async fn again(way: &[&str], name: &str) -> Result {
    let (_, name) = name.split_once("::").context("a path begins with its crate")?;
    let output = Command::new(way[0])
        .args(&way[1..])
        .args(["setpriv", "--pdeathsig", "KILL", "--"])
        .arg(std::env::current_exe()?)
        .args([name, "--exact", "--nocapture", "--test-threads=1"])
        .env(INSIDE, "1")
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await?;
    let said = String::from_utf8_lossy(&output.stdout);
    println!("in a network namespace of its own:\n{said}{}", String::from_utf8_lossy(&output.stderr));
    ensure!(output.status.success(), "{name} ended with {}", output.status);
    // Of a name that does not exist, all tests pass.
    ensure!(said.contains("1 passed"), "{name} was not found");
    Ok(())
}
