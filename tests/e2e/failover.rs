//! I1, I6: the Redis master dies, or hands over as planned, under live sessions and logins.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use redis::AsyncCommands;
use serde_json::Value;

use crate::harness::crowd::seed;
use crate::harness::wait::heavy;
use crate::harness::{Cluster, Crowd, Fleet, Habit, Pulse, Redis, Result, SentinelSet, Workdir, eventually};

/// Users who stay, and users of the pulse.
const STAYING: usize = 20;
const COMING: usize = 40;
/// The fleet's own share of a pause is the recovery window of 2 s and a second or so for links; the rest is what Redis
/// needs to agree on a new master: Sentinels do nothing for 30 s once they find that their clock has jumped, as on a machine
/// that stood still. This bound is only here to tell a pause from an outage.
const BOUND: Duration = Duration::from_secs(90);
/// Longer than any pause: nobody is isolated.
const GRACE: &str = "[fleet]\norphan_grace = \"200s\"";

/// A fleet over some Redis, whose users are logged in and whose pulse beats.
struct Stage {
    fleet: Fleet,
    crowd: Crowd,
    pulse: Pulse,
}

impl Stage {
    async fn set(lines: &str, look_at: SocketAddr) -> Result<Self> {
        let plan = Fleet::plan().proxies(2).backends(2).users(STAYING + COMING).config(GRACE).store(lines, look_at);
        let fleet = plan.start().await?;
        let staying = fleet.users[..STAYING].iter().map(|user| (user.clone(), Habit::Stays));
        let mut crowd = Crowd::enter(&fleet.doors(), staying, seed());
        crowd.all_in(STAYING as i64).await?;
        let mut pulse = Pulse::begin(fleet.doors(), fleet.users[STAYING..].to_vec());
        pulse.beats(5).await?;
        Ok(Self { fleet, crowd, pulse })
    }

    /// After something happened to the master at `since`: logins resume, nobody was lost, and nobody was in two places.
    async fn survives(mut self, what: &str, since: Instant, master: SocketAddr) -> Result {
        self.fleet.redis = Redis::beside(master);
        followed(&self.fleet.redis, self.fleet.proxies.len()).await?;
        println!("{what}: every proxy is with the new master after {} ms", since.elapsed().as_millis());
        self.pulse.beats(COMING).await?;
        let pause = self.pulse.longest_pause(since);
        println!("{what}: logins paused for {} ms", pause.as_millis());
        drop(self.pulse);
        self.crowd.rest(STAYING as i64).await?;
        self.fleet.counts_agree().await?;
        let story = self.crowd.go_home().await?;
        self.fleet.witness()?.swears_one_home()?;
        let losses: Vec<_> = story.diaries.iter().flat_map(|diary| &diary.losses).collect();
        ensure!(losses.is_empty(), "{what}: sessions were dropped: {losses:?}");
        ensure!(pause < BOUND, "{what}: logins paused for {pause:?}");
        story.mail_is_whole(&self.fleet.backends[0], &self.fleet.users).await
    }
}

/// Waits until all proxies have said hello to this server in its present run.
async fn followed(redis: &Redis, proxies: usize) -> Result {
    eventually("the proxies follow", Duration::from_secs(60), async || {
        let mut connection = redis.connect().await?;
        let run = redis.info("run_id").await?;
        let (there, epoch): (String, u64) = connection.hmget("{homing:0}:shard", &["run", "epoch"]).await?;
        ensure!(there == run, "nobody has said hello to {run}");
        let leases: Vec<String> = connection.zrange("{homing:0}:leases", 0, -1).await?;
        let mut welcomed = 0;
        for incarnation in &leases {
            let known: Option<u64> = connection.hget(format!("{{homing:0}}:p:{incarnation}"), "epoch").await?;
            welcomed += usize::from(known == Some(epoch));
        }
        ensure!(welcomed == proxies, "{welcomed} have said hello");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn i1_i6_a_master_that_is_killed_is_replaced_by_the_sentinels_and_no_session_notices() -> Result {
    let _turn = heavy().await;
    let dir = Workdir::new()?;
    let mut redis = SentinelSet::start(dir.path(), &[], "").await?;
    let before = redis.master().await?;
    let stage = Stage::set(&redis.store_lines(), before).await?;
    let since = Instant::now();
    redis.server(before)?.kill();
    let after = redis.switched(before).await?;
    println!("Sentinel, master killed: another is named after {} ms", since.elapsed().as_millis());
    stage.survives("Sentinel, master killed", since, after).await
}

#[tokio::test]
async fn i1_i6_a_planned_failover_is_followed_at_once_although_the_old_master_can_still_be_written_to() -> Result {
    let _turn = heavy().await;
    let dir = Workdir::new()?;
    let redis = SentinelSet::start(dir.path(), &[], "").await?;
    let before = redis.master().await?;
    let stage = Stage::set(&redis.store_lines(), before).await?;
    let since = Instant::now();
    redis.fail_over().await?;
    let after = redis.switched(before).await?;
    println!("Sentinel, planned: another is named after {} ms", since.elapsed().as_millis());
    stage.survives("Sentinel, planned", since, after).await
}

#[tokio::test]
async fn i1_i6_a_node_of_the_cluster_that_is_killed_is_replaced_by_its_replica_and_no_session_notices() -> Result {
    let _turn = heavy().await;
    let dir = Workdir::new()?;
    let mut redis = Cluster::start(dir.path()).await?;
    let shard = "{homing:0}:shard";
    let before = redis.owner(shard).await?;
    let stage = Stage::set(&redis.store_lines(), before).await?;
    let since = Instant::now();
    redis.node(before)?.kill();
    let after = redis.switched(shard, before).await?;
    println!("Cluster, node killed: another has its slots after {} ms", since.elapsed().as_millis());
    stage.survives("Cluster, node killed", since, after).await
}

#[tokio::test]
async fn a_proxy_that_is_started_without_any_sentinel_waits_and_says_for_whom() -> Result {
    let nobody = crate::harness::address::fresh_address()?;
    let lines = format!("sentinels = [\"{nobody}\"]\nmaster = \"mymaster\"\n");
    let mut fleet = Fleet::plan().backends(1).users(1).store(&lines, nobody).start_without_proxies().await?;
    let since = fleet.proxies[0].spawn()?;
    eventually("it says what it waits for", Duration::from_secs(60), async || {
        let lines = fleet.proxy().lines_since(since)?;
        let named = format!("master mymaster of the Sentinels {nobody}");
        ensure!(lines.iter().any(|line| line.to_string().contains(&named)), "{lines:?}");
        Ok(())
    })
    .await
}

/// What `homing status` at the first proxy says of all shards together: sessions at all backends.
async fn counted(fleet: &Fleet) -> Result<u64> {
    let said = fleet.proxy().admin(&["status", "--json"]).await?;
    let status: Value = serde_json::from_slice(&said.stdout)?;
    let backends = status["fleet"]["backends"].as_array().with_context(|| format!("{status}"))?;
    Ok(backends.iter().filter_map(|backend| backend["sessions"].as_u64()).sum())
}

async fn is_sound(fleet: &Fleet, sessions: usize) -> Result {
    eventually("every shard counts what exists", Duration::from_secs(60), async || {
        let counted = counted(fleet).await?;
        ensure!(counted == sessions as u64, "{counted} sessions are counted");
        let audit = fleet.proxies[1].admin(&["audit"]).await?;
        ensure!(audit.status.success(), "{}", String::from_utf8_lossy(&audit.stdout));
        Ok(())
    })
    .await
}

#[tokio::test]
async fn i1_i3_a_fleet_over_many_shards_of_a_cluster_counts_as_one_and_outlives_a_node() -> Result {
    let _turn = heavy().await;
    let dir = Workdir::new()?;
    let mut redis = Cluster::start(dir.path()).await?;
    let shard = "{homing:0}:shard";
    let before = redis.owner(shard).await?;
    let lines = format!("{}shards = 8\n", redis.store_lines());
    let fleet = Fleet::plan().proxies(2).backends(3).users(24).config(GRACE).store(&lines, before).start().await?;
    let mut open = Vec::new();
    for (n, user) in fleet.users.iter().enumerate() {
        let mut first = fleet.proxies[n % 2].log_in(user).await?;
        let mut second = fleet.proxies[(n + 1) % 2].log_in(user).await?;
        ensure!(first.backend().await? == second.backend().await?, "{} has two homes", user.name);
        open.extend([first, second]);
    }
    is_sound(&fleet, open.len()).await?;
    // What is changed in the first shard is in force in all: nobody is placed there any more.
    let drained = fleet.proxy().admin(&["backend", "drain", "mail1"]).await?;
    ensure!(drained.status.success(), "{drained:?}");

    redis.node(before)?.kill();
    redis.switched(shard, before).await?;
    is_sound(&fleet, open.len()).await?;
    for session in &mut open {
        session.command("NOOP").await?;
    }
    fleet.witness()?.swears_one_home()
}
