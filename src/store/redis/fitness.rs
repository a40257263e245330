//! Whether a server can be a store as it is configured, asked at each connect.

use redis::Value;

/// The oldest Redis whose commands the scripts use. Valkey calls itself a compatible Redis version here.
const OLDEST: (u32, u32) = (6, 2);

/// Replicas that make `min-replicas-to-write 1` safe: one may be away without stopping every write.
const ENOUGH_REPLICAS: u32 = 2;

/// What a server is for, as the configuration has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Set {
    /// It is given by its address.
    Alone,
    /// Sentinels named it.
    BySentinels,
    /// A Cluster's node.
    InCluster,
}

/// What a server said about itself.
pub(super) struct Facts<'a> {
    /// INFO, sections `server` and `replication`.
    pub(super) info: &'a str,
    /// The eviction policy, unless CONFIG is forbidden to us.
    pub(super) policy: Option<&'a str>,
    /// How many replicas must be there for a write, unless CONFIG is forbidden to us.
    pub(super) min_replicas: Option<&'a str>,
}

/// Why a server cannot be the store now.
#[derive(Debug, PartialEq)]
pub(super) enum Fault {
    /// Somebody must change something.
    Unfit(String),
    /// It is not the master any more, or not yet.
    Passing(String),
}

impl Facts<'_> {
    fn field(&self, name: &str) -> Option<&str> {
        self.info.lines().find_map(|line| line.trim_end().strip_prefix(name)?.strip_prefix(':'))
    }

    /// Replicas that are connected.
    pub(super) fn replicas(&self) -> u32 {
        self.field("connected_slaves").and_then(|text| text.parse().ok()).unwrap_or(0)
    }

    /// Why it is no store for us, with the remedy.
    pub(super) fn fault(&self, set: Set) -> Option<Fault> {
        match self.field("redis_version").map(|text| (text, version(text))) {
            Some((_, Some(version))) if version >= OLDEST => {}
            said => {
                let said = said.map_or("unknown", |(text, _)| text);
                let why = format!("its version is {said}; homing needs Redis 6.2 or newer, or Valkey");
                return Some(Fault::Unfit(why));
            }
        }
        self.misplaced(set).map(Fault::Unfit).or_else(|| self.replica(set)).or_else(|| self.evicting())
    }

    fn misplaced(&self, set: Set) -> Option<String> {
        // Valkey calls it the server's mode.
        let mode = self.field("redis_mode").or_else(|| self.field("server_mode"))?;
        let why = match (mode, set) {
            ("sentinel", _) => "it is a Sentinel; give its address in sentinels, with the name of the master in master",
            ("cluster", Set::Alone) => "it is a node of a Cluster; write cluster = [\"host:port\"] instead of url",
            ("cluster", Set::BySentinels) => {
                "it is a node of a Cluster; write cluster = [\"host:port\"] instead of sentinels"
            }
            ("standalone", Set::InCluster) => "it is no node of a Cluster; write url instead of cluster, or sentinels",
            _ => return None,
        };
        Some(why.to_owned())
    }

    /// Also one that can be written to: what is written there is gone with its next synchronisation.
    fn replica(&self, set: Set) -> Option<Fault> {
        self.field("role").filter(|role| *role == "slave")?;
        let master = self.field("master_host").unwrap_or("unknown");
        Some(match set {
            Set::Alone => {
                Fault::Unfit(format!("it is a replica; give homing the address of its master ({master}), or sentinels"))
            }
            _ => Fault::Passing(format!("it is a replica of {master}; a failover is under way")),
        })
    }

    fn evicting(&self) -> Option<Fault> {
        let policy = self.policy.filter(|policy| *policy != "noeviction")?;
        let why =
            format!("it may evict keys (maxmemory-policy {policy}), so users would lose their homes; set noeviction");
        Some(Fault::Unfit(why))
    }

    /// What would make it safer.
    pub(super) fn advice(&self) -> Option<&'static str> {
        let unguarded = self.min_replicas == Some("0") && self.replicas() >= ENOUGH_REPLICAS;
        unguarded.then_some(
            "with two or more replicas, min-replicas-to-write 1 makes a cut-off master refuse writes that would be lost",
        )
    }
}

fn version(text: &str) -> Option<(u32, u32)> {
    let mut numbers = text.split('.').map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

/// The value in the answer to CONFIG GET of one name: an array of name and value, or a map.
pub(super) fn setting(answer: Value) -> Option<String> {
    let pairs: Vec<String> = redis::from_redis_value(answer).ok()?;
    pairs.into_iter().nth(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIT: &str = "# Server\r\nredis_version:7.0.15\r\nredis_mode:standalone\r\n# Replication\r\nrole:master\r\n";

    fn facts<'a>(info: &'a str, policy: Option<&'a str>) -> Facts<'a> {
        Facts { info, policy, min_replicas: None }
    }

    fn unfit(info: &str, policy: Option<&str>, set: Set) -> String {
        match facts(info, policy).fault(set) {
            Some(Fault::Unfit(why)) => why,
            other => format!("{other:?}"),
        }
    }

    #[test]
    fn a_master_that_evicts_nothing_is_fit() {
        assert_eq!(facts(FIT, Some("noeviction")).fault(Set::Alone), None);
        assert_eq!(facts(FIT, None).fault(Set::BySentinels), None);
        assert_eq!(facts(&FIT.replace("standalone", "cluster"), None).fault(Set::InCluster), None);
    }

    #[test]
    fn each_fault_is_said_with_its_remedy() {
        let old = FIT.replace("7.0.15", "6.0.16");
        let said = unfit(&old, None, Set::Alone);
        assert!(said.contains("6.0.16") && said.contains("6.2"), "{said}");
        assert!(unfit("# Server\r\n", None, Set::Alone).contains("unknown"));
        assert!(unfit(FIT, Some("allkeys-lru"), Set::Alone).contains("noeviction"));
    }

    #[test]
    fn a_replica_is_unfit_also_a_writable_one_but_passing_where_a_failover_may_be_under_way() {
        for read_only in ["1", "0"] {
            let lines = format!("master_host:10.0.0.1\r\nslave_read_only:{read_only}\r\n");
            let replica = format!("{}{lines}", FIT.replace("role:master", "role:slave"));
            let said = unfit(&replica, None, Set::Alone);
            assert!(said.contains("replica") && said.contains("10.0.0.1"), "{said}");
            assert!(matches!(facts(&replica, None).fault(Set::BySentinels), Some(Fault::Passing(_))));
        }
    }

    #[test]
    fn a_server_of_another_kind_than_configured_is_named_as_what_it_is() {
        let (node, sentinel) = (FIT.replace("standalone", "cluster"), FIT.replace("standalone", "sentinel"));
        assert!(unfit(&node, None, Set::Alone).contains("instead of url"));
        assert!(unfit(&node, None, Set::BySentinels).contains("instead of sentinels"));
        assert!(unfit(FIT, None, Set::InCluster).contains("instead of cluster"));
        assert!(unfit(&sentinel, None, Set::Alone).contains("is a Sentinel"));
        assert!(unfit(&node.replace("redis_mode", "server_mode"), None, Set::Alone).contains("instead of url"));
    }

    #[test]
    fn min_replicas_to_write_is_advised_from_two_replicas_up() {
        let with = |replicas: u32, least| {
            let info = format!("{FIT}connected_slaves:{replicas}\r\n");
            Facts { info: &info, policy: None, min_replicas: least }.advice().is_some()
        };
        assert!(with(2, Some("0")));
        assert!(!with(1, Some("0")) && !with(2, Some("1")) && !with(2, None));
    }

    #[test]
    fn versions_compare_by_number() {
        assert_eq!(version("10.0.1"), Some((10, 0)));
        assert!(version("6.2.0") >= Some(OLDEST));
        assert!(version("6.1.9") < Some(OLDEST));
        assert_eq!(version("nine"), None);
    }
}
