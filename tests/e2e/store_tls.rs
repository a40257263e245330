//! TLS to the store, with certificates on both sides, and users with no more rights than they need.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, ensure};
use homing::store::redis::Redis;
use homing::store::{Rules, Store};

use crate::harness::address::{free_port, free_ports, fresh_ip};
use crate::harness::certs::Issued;
use crate::harness::process::Daemon;
use crate::harness::redis::{Keep, program};
use crate::harness::{Authority, Fleet, Redis as Server, Result, Workdir, eventually};
use crate::masters::{refusal, settings};

/// What a user needs, as `homing config default` has it.
const RIGHTS: &str = "~{homing:* &{homing:* +@read +@write +@scripting +@pubsub +@transaction +@connection -@dangerous \
                      +info +time +wait +config|get +cluster|slots +cluster|keyslot";

/// A server that speaks TLS at one port, to clients with a certificate and the password of the user `homing` (`word`), and
/// in the clear at another for the test.
struct Secured {
    server: Server,
    tls: SocketAddr,
    authority: Authority,
    client: Issued,
}

impl Secured {
    async fn start(dir: &Path, extra: &[&str]) -> Result<Self> {
        let authority = Authority::new(dir, "redis-ca")?;
        let ip = fresh_ip();
        let [plain, tls] = free_ports(ip)?;
        let (own, client) = (authority.issue(&[&ip.to_string()])?, authority.issue(&["proxy.example.org"])?);
        let port = tls.port().to_string();
        let file = |path: &Path| path.display().to_string();
        let (certificate, key, ca) = (file(&own.certificate), file(&own.key), file(&authority.file));
        let mut arguments = vec!["--tls-port", &port, "--tls-cert-file", &certificate, "--tls-key-file", &key];
        arguments.extend(["--tls-ca-cert-file", &ca, "--tls-auth-clients", "yes", "--user", "homing", "on", ">word"]);
        arguments.push("resetchannels");
        arguments.extend(RIGHTS.split_whitespace());
        arguments.extend(extra);
        let server = Server::start_at(plain, &dir.join("secured"), Keep::Everything, &arguments).await?;
        Ok(Self { server, tls, authority, client })
    }

    /// The authority and homing's own certificate.
    fn files(&self) -> String {
        let Issued { certificate, key } = &self.client;
        format!("tls_ca = {:?}\ntls_certificate = {certificate:?}\ntls_key = {key:?}\n", self.authority.file)
    }
}

#[tokio::test]
async fn a_fleet_speaks_tls_to_redis_and_proves_who_it_is_and_survives_a_restart() -> Result {
    let dir = Workdir::new()?;
    let mut redis = Secured::start(dir.path(), &[]).await?;
    let lines = format!("url = \"rediss://homing:word@{}\"\n{}", redis.tls, redis.files());
    let plan = Fleet::plan().backends(2).users(4).store(&lines, redis.server.address);
    let fleet = plan.start().await?;
    let mut live = fleet.proxy().log_in(&fleet.users[0]).await?;
    fleet.counts_agree().await?;
    redis.server.kill();
    redis.server.launch().await?;
    eventually("logins are served again", Duration::from_secs(60), async || {
        fleet.proxy().log_in(&fleet.users[1]).await.map(drop)
    })
    .await?;
    fleet.counts_agree().await?;
    live.command("NOOP").await?.ok()?;
    ensure!(!fleet.proxy().log()?.contains("word@"), "the password is in the log");
    fleet.witness()?.swears_one_home()
}

#[tokio::test]
async fn a_server_that_does_not_prove_who_it_is_or_wants_to_know_who_we_are_is_not_spoken_to() -> Result {
    let dir = Workdir::new()?;
    let redis = Secured::start(dir.path(), &[]).await?;
    let other = Authority::new(dir.path(), "another")?;
    let url = format!("url = \"rediss://homing:word@{}\"\n", redis.tls);
    let anonymous = format!("tls_ca = {:?}\n", redis.authority.file);
    let wrong_name = format!("url = \"rediss://homing:word@127.0.0.1:{}\"\n{}", redis.tls.port(), redis.files());
    ensure!(refusal(&format!("{url}{}", redis.files())).await?.is_empty());
    for (lines, what) in [
        (format!("{url}{anonymous}"), "no certificate of ours"),
        (format!("{url}{}", redis.files().replace("redis-ca.pem", "another.pem")), "another authority"),
        (format!("url = \"redis://homing:word@{}\"\n", redis.tls), "in the clear"),
        (wrong_name, "another name"),
    ] {
        let said = refusal(&lines).await?;
        ensure!(!said.is_empty(), "{what}: connected");
        ensure!(!said.contains("word"), "{what}: {said}");
    }
    drop(other);
    Ok(())
}

#[tokio::test]
async fn a_certificate_that_was_renewed_is_read_with_the_next_connection() -> Result {
    let dir = Workdir::new()?;
    let redis = Secured::start(dir.path(), &[]).await?;
    let lines = format!("url = \"rediss://homing:word@{}\"\n{}", redis.tls, redis.files());
    let good = std::fs::read(&redis.client.certificate)?;
    std::fs::write(&redis.client.certificate, "not a certificate")?;
    let store = Redis::new(settings(&lines)?, Rules::default());
    ensure!(store.connect(0).await.is_err());
    std::fs::write(&redis.client.certificate, good)?;
    store.connect(0).await.map(drop).context("with the renewed certificate")
}

#[tokio::test]
async fn sentinels_and_what_they_watch_can_both_ask_for_tls_and_a_password() -> Result {
    let dir = Workdir::new()?;
    let redis = Secured::start(dir.path(), &["--tls-replication", "yes"]).await?;
    let own = redis.authority.issue(&[&redis.tls.ip().to_string(), "sentinel"])?;
    let at = free_port(redis.tls.ip())?;
    let home = dir.join("sentinel");
    std::fs::create_dir_all(&home)?;
    let text = format!(
        "bind {ip}\nport 0\ntls-port {port}\ndir {dir}\ntls-replication yes\ntls-cert-file {certificate}\n\
         tls-key-file {key}\ntls-ca-cert-file {ca}\nuser default off\nuser guard on >gw ~* &* +@all\n\
         sentinel announce-ip {ip}\nsentinel monitor mymaster {ip} {master} 1\n",
        ip = at.ip(),
        port = at.port(),
        dir = home.display(),
        certificate = own.certificate.display(),
        key = own.key.display(),
        ca = redis.authority.file.display(),
        master = redis.tls.port(),
    );
    std::fs::write(home.join("sentinel.conf"), text)?;
    let file = home.join("sentinel.conf").display().to_string();
    let _sentinel = Daemon::start(&program(), [file, "--sentinel".to_owned()], &home.join("log"))?;
    let servers = format!("sentinels = [\"{at}\"]\nmaster = \"mymaster\"\ntls = true\nusername = \"homing\"\n");
    let lines = |word: &str| {
        let guard = format!("sentinel_username = \"guard\"\nsentinel_password = \"{word}\"\n");
        format!("{servers}{guard}password = \"word\"\n{}", redis.files())
    };
    eventually("the Sentinel names its master", Duration::from_secs(60), async || {
        let said = refusal(&lines("gw")).await?;
        ensure!(said.is_empty(), "{said}");
        Ok(())
    })
    .await?;
    let said = refusal(&lines("s3cr3t")).await?;
    ensure!(said.contains("Sentinels") && !said.contains("s3cr3t"), "{said}");
    Ok(())
}

#[tokio::test]
async fn nodes_of_a_cluster_can_ask_for_tls_and_a_password() -> Result {
    let dir = Workdir::new()?;
    let bus = free_port(fresh_ip())?.port().to_string();
    let extra = ["--cluster-enabled", "yes", "--tls-cluster", "yes", "--cluster-port", &bus];
    let redis = Secured::start(dir.path(), &extra).await?;
    let mut side = redis.server.connect().await?;
    let _: () = redis::cmd("CLUSTER").arg("ADDSLOTSRANGE").arg(0).arg(16_383).query_async(&mut side).await?;
    let lines = format!(
        "cluster = [\"{}\"]\nshards = 3\ntls = true\nusername = \"homing\"\npassword = \"word\"\n{}",
        redis.tls,
        redis.files()
    );
    eventually("the Cluster takes us in", Duration::from_secs(60), async || {
        let said = refusal(&lines).await?;
        ensure!(said.is_empty(), "{said}");
        Ok(())
    })
    .await?;
    let said = refusal(&lines.replace("\"word\"", "\"s3cr3t\"")).await?;
    ensure!(!said.is_empty() && !said.contains("s3cr3t"), "{said}");
    Ok(())
}
