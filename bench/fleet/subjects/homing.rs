//! homing itself: a passwd-file and one of the two stores.

use std::fmt::Write;
use std::net::{Ipv4Addr, SocketAddr};
use std::process::Command;
use std::time::{Duration, Instant};

use super::{Place, Started, free_port, launch};
use crate::client::Speech;
use crate::process::Process;
use crate::world::{HASHED_USERS, PASSWORD, USERS, World, hashed_user_name, user_name};

/// What a check takes: about 50 ms of a core.
const BCRYPT_COST: u32 = 10;

pub(super) fn start(world: &World, place: &Place, redis: bool) -> anyhow::Result<Started> {
    let mut config = settings(world, place)?;
    let mut store = None;
    if redis {
        let address = free_port(Ipv4Addr::new(127, 77, 2, 1))?;
        store = Some(start_redis(place, address)?);
        let state = place.file("state");
        let _ = writeln!(config, "[store]\nkind = \"redis\"\nurl = \"redis://{address}\"");
        let _ = writeln!(config, "[fleet]\nstate_file = \"{}\"", state.display());
    }
    let file = place.write("homing.toml", &config)?;
    let started = launch(Command::new(env!("CARGO_BIN_EXE_homing")).arg("serve").arg("--config").arg(file), place)?;
    Ok(Started { store, ..started })
}

/// The store, when it is in Redis, comes last.
fn settings(world: &World, place: &Place) -> anyhow::Result<String> {
    let mut users = String::new();
    for number in 0..USERS {
        let _ = writeln!(users, "{}:{{PLAIN}}{PASSWORD}", user_name(number));
    }
    let hash = bcrypt::hash(PASSWORD, BCRYPT_COST)?;
    for number in 0..HASHED_USERS {
        let _ = writeln!(users, "{}:{{BLF-CRYPT}}{hash}", hashed_user_name(number));
    }
    let users = place.write("users", &users)?;
    let protocol = match place.speech {
        Speech::Imap => "imap",
        Speech::Pop3 | Speech::Pop3Sasl => "pop3",
        Speech::Lmtp => "lmtp",
    };
    let permission = if place.speech == Speech::Lmtp { "" } else { "plaintext_login = true" };
    let mut config = format!(
        r#"name = "bench"
[[listener]]
address = "{}"
protocol = "{protocol}"
tls = "none"
{permission}
[[listener]]
address = "{}"
protocol = "{protocol}"
tls = "implicit"
[[tls.certificate]]
certificate = "{}"
key = "{}"
[[passdb]]
kind = "file"
path = "{}"
[limits]
user_ip_connections = 0
[log]
level = "info"
[admin]
socket = "{}"
"#,
        place.plain,
        place.tls,
        world.certificate.certificate.display(),
        world.certificate.key.display(),
        users.display(),
        place.file("admin.sock").display(),
    );
    for (number, backend) in world.backends.iter().enumerate() {
        let (host, port) = (backend.ip(), backend.port());
        let _ = writeln!(config, "[backend.mail{number}]\nhost = \"{host}\"\nport = {port}");
        let _ = writeln!(config, "pop3_port = {}\nlmtp_port = {}", world.pop3_port, world.lmtp_port);
    }
    Ok(config)
}

/// With nothing to do but answer: no snapshots, no append-only file.
fn start_redis(place: &Place, address: SocketAddr) -> anyhow::Result<Process> {
    let mut command = Command::new("redis-server");
    command.arg("--bind").arg(address.ip().to_string()).arg("--port").arg(address.port().to_string());
    command.args(["--save", "", "--appendonly", "no", "--maxmemory-policy", "noeviction"]).current_dir(&place.dir);
    let mut redis = Process::start(&mut command, &place.file("redis.log"))?;
    let deadline = Instant::now() + Duration::from_secs(5);
    while std::net::TcpStream::connect(address).is_err() {
        redis.check_alive()?;
        anyhow::ensure!(Instant::now() < deadline, "redis-server does not listen");
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(redis)
}
