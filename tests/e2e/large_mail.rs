//! A mail that is larger than anybody would want to hold, for many users on many backends.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, ensure};

use crate::harness::fleet::merge;
use crate::harness::scripted::{Peer, Scripted};
use crate::harness::wait::heavy;
use crate::harness::{Dialect, Fleet, Protocol, Proxy, Result, Smtp};

const BACKENDS: usize = 5;
const RECIPIENTS: usize = 50;
const SIZE: usize = 100 << 20;
/// What the proxy may need for it beyond what it needs anyway: a few buffers for the client and for each backend.
const ROOM: usize = 8 << 20;

/// What the backends were given: for how many, and how many bytes with the dot.
type Taken = Arc<Mutex<Vec<(usize, usize)>>>;

/// An LMTP server that takes everything and keeps nothing.
async fn swallow(mut peer: Peer, taken: Taken) -> Result {
    peer.say("220 mail LMTP\r\n").await?;
    let mut recipients = 0;
    loop {
        let line = peer.line().await?;
        match line.split(' ').next().unwrap_or("") {
            "LHLO" => peer.say("250-mail\r\n250-PIPELINING\r\n250-8BITMIME\r\n250 SIZE\r\n").await?,
            "RCPT" => {
                recipients += 1;
                peer.say("250 2.1.5 known\r\n").await?;
            }
            "DATA" => {
                peer.say("354 go on\r\n").await?;
                let bytes = peer.message().await?;
                taken.lock().unwrap_or_else(PoisonError::into_inner).push((recipients, bytes));
                peer.say(&"250 2.0.0 taken\r\n".repeat(recipients)).await?;
            }
            "QUIT" => return peer.say("221 2.0.0 bye\r\n").await,
            _ => peer.say("250 2.0.0 as you like\r\n").await?,
        }
    }
}

/// The memory that the proxy has at present, in bytes.
fn memory(proxy: &Proxy) -> Result<usize> {
    let status = std::fs::read_to_string(format!("/proc/{}/status", proxy.id()?))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    Ok(line.trim().trim_end_matches(" kB").parse::<usize>()? * 1024)
}

#[tokio::test]
async fn a_hundred_megabytes_for_fifty_users_on_five_backends_pass_through_a_few_buffers() -> Result {
    let _turn = heavy().await;
    let taken = Taken::default();
    let mut fleet = Fleet::plan().backends(0).protocols(&[Protocol::Lmtp]).start_without_proxies().await?;
    let known = fleet.dir.join("known");
    let entry = |number: usize| format!("user{number:03}:{{PLAIN}}x::::::host=mail{}\n", number % BACKENDS);
    std::fs::write(&known, (0..RECIPIENTS).map(entry).collect::<String>())?;
    let (mut servers, mut more) = (Vec::new(), format!("passdb = [{{ kind = \"file\", path = {known:?} }}]\n"));
    for number in 0..BACKENDS {
        let into = Arc::clone(&taken);
        let server = Scripted::start(move |_, peer| swallow(peer, Arc::clone(&into))).await?;
        let (host, port) = (server.address.ip(), server.address.port());
        more += &format!("[backend.mail{number}]\nhost = \"{host}\"\nlmtp_port = {port}\nprobe = false\n");
        servers.push(server);
    }
    let more: toml::Table = more.parse()?;
    fleet.reconfigure(|config| merge(config, more.clone()))?;
    fleet.proxies[0].start().await?;

    let mut lmtp = Smtp::connect(Dialect::Lmtp, fleet.proxy().door(Protocol::Lmtp)?).await?;
    lmtp.be_patient(Duration::from_secs(120));
    let to: Vec<String> = (0..RECIPIENTS).map(|number| format!("user{number:03}")).collect();
    let to: Vec<&str> = to.iter().map(String::as_str).collect();
    for reply in lmtp.envelope("sender@far.test", &to).await? {
        reply.ok()?;
    }
    lmtp.command("DATA").await?.ok()?;
    let (before, mut most) = (memory(fleet.proxy())?, 0);
    let piece = format!("{}\r\n", "x".repeat(1022)).repeat(64);
    for _ in 0..SIZE / piece.len() {
        lmtp.send(piece.as_bytes()).await?;
        most = most.max(memory(fleet.proxy())?);
    }
    lmtp.send(b".\r\n").await?;
    for _ in &to {
        lmtp.reply().await?.ok()?;
    }
    lmtp.quit().await?;
    println!("{} KiB before the message, {} at most while it came", before >> 10, most >> 10);
    ensure!(most < before + ROOM, "{} KiB more than before the message", (most - before) >> 10);
    let taken = taken.lock().unwrap_or_else(PoisonError::into_inner).clone();
    ensure!(taken == [(RECIPIENTS / BACKENDS, SIZE + 3); BACKENDS], "{taken:?}");
    fleet.empty().await
}
