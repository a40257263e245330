//! Whether a server can be a store as it is configured, asked at each connect.

use redis::Value;

/// The oldest Redis whose commands the scripts use. Valkey calls itself a compatible Redis version here.
const OLDEST: (u32, u32) = (6, 2);

/// What a server said about itself.
pub(super) struct Facts<'a> {
    /// INFO, sections `server` and `replication`.
    pub(super) info: &'a str,
    /// The eviction policy, unless CONFIG is forbidden to us.
    pub(super) policy: Option<&'a str>,
}

/// Why the server is unfit, with the remedy.
pub(super) fn fault(facts: &Facts<'_>) -> Option<String> {
    let field = |name: &str| {
        let mut lines = facts.info.lines();
        lines.find_map(|line| line.trim_end().strip_prefix(name)?.strip_prefix(':'))
    };
    match field("redis_version").map(|text| (text, version(text))) {
        Some((_, Some(version))) if version >= OLDEST => {}
        said => {
            let said = said.map_or("unknown", |(text, _)| text);
            return Some(format!("its version is {said}; homing needs Redis 6.2 or newer, or Valkey"));
        }
    }
    if field("role") == Some("slave") && field("slave_read_only") != Some("0") {
        let master = field("master_host").unwrap_or("unknown");
        return Some(format!("it is a read-only replica; give homing the address of its master ({master})"));
    }
    let policy = facts.policy.filter(|policy| *policy != "noeviction")?;
    Some(format!("it may evict keys (maxmemory-policy {policy}), so users would lose their homes; set noeviction"))
}

fn version(text: &str) -> Option<(u32, u32)> {
    let mut numbers = text.split('.').map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

/// The policy in the answer to CONFIG GET: an array of name and value, or a map.
pub(super) fn policy(answer: Value) -> Option<String> {
    let pairs: Vec<String> = redis::from_redis_value(answer).ok()?;
    pairs.into_iter().nth(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIT: &str = "# Server\r\nredis_version:7.0.15\r\nrun_id:abc\r\n# Replication\r\nrole:master\r\n";

    fn fault_of(info: &str, policy: Option<&str>) -> Option<String> {
        fault(&Facts { info, policy })
    }

    #[test]
    fn a_master_that_evicts_nothing_is_fit() {
        assert_eq!(fault_of(FIT, Some("noeviction")), None);
        assert_eq!(fault_of(FIT, None), None);
    }

    #[test]
    fn each_fault_is_said_with_its_remedy() {
        let old = FIT.replace("7.0.15", "6.0.16");
        assert!(fault_of(&old, None).is_some_and(|why| why.contains("6.0.16") && why.contains("6.2")));
        assert!(fault_of("# Server\r\n", None).is_some_and(|why| why.contains("unknown")));
        assert!(fault_of(FIT, Some("allkeys-lru")).is_some_and(|why| why.contains("noeviction")));
        let replica = format!("{}master_host:10.0.0.1\r\nslave_read_only:1\r\n", FIT.replace("master", "slave"));
        let replica = replica.replace("slave_host", "master_host");
        assert!(fault_of(&replica, None).is_some_and(|why| why.contains("replica") && why.contains("10.0.0.1")));
    }

    #[test]
    fn versions_compare_by_number() {
        assert_eq!(version("10.0.1"), Some((10, 0)));
        assert!(version("6.2.0") >= Some(OLDEST));
        assert!(version("6.1.9") < Some(OLDEST));
        assert_eq!(version("nine"), None);
    }
}
