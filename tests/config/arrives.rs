//! Every key: a value other than its default arrives in `Config`.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use homing::config::{
    Attributes, AuthSocket, BackendTls, ClientAuth, Config, Delimiter, DoveadmConfig, DoveadmCredential, DovecotPassdb,
    FilePassdb, HttpFormat, HttpPassdb, LdapMethod, LdapPassdb, LdapScope, LdapUri, ListenAddress, ListenerTls,
    LogFormat, Oauth2Method, Oauth2Passdb, Parameter, PassdbConfig, Piece, PolicyHash, PolicyPiece, PolicyVariable,
    Reach, RedisConfig, RedisLogin, RedisServers, RedisTls, RemoteKeys, SocketMode, SqlPassdb, SqlUrl, StoreAddress,
    StoreConfig, TlsVersion, TokenAlgorithm,
};
use homing::model::{Protocol, Secret};

use super::{BACKEND, LISTENER, files, parse_in};

/// Table, key, what to write into the table, and whether it arrived (the path is the file's directory).
type Case = (&'static str, &'static str, &'static str, fn(&Config, &Path) -> bool);

const SECOND: Duration = Duration::from_secs(1);

/// The key of a name that every part of the template would change.
fn key(config: &Config) -> String {
    config.fleet.key_template().key_of("Ann+x@Ex+y.org").to_string()
}

const CASES: &[Case] = &[
    ("", "name", "name = \"p7\"", |c, _| c.name == "p7"),
    ("store", "kind", REDIS, |c, _| matches!(c.store, StoreConfig::Redis(_))),
    ("store", "url", REDIS, |c, _| {
        redis(c).is_some_and(|redis| {
            redis.servers == RedisServers::One(at("r.example.org", 6400))
                && redis.database == 3
                && redis.login == login("us/er", "p@ss")
                && redis.tls.is_none()
        })
    }),
    ("store", "sentinels", SENTINEL, |c, _| {
        sentinel(c).is_some_and(|(sentinels, ..)| *sentinels == [at("s1", 26379), at("fd00::1", 7)])
    }),
    ("store", "master", SENTINEL, |c, _| sentinel(c).is_some_and(|(_, master, _)| master == "mymaster")),
    ("store", "sentinel_username", SENTINEL, |c, _| {
        sentinel(c).is_some_and(|(_, _, who)| *who == login("guard", "gw"))
    }),
    ("store", "sentinel_password", SENTINEL, |c, _| {
        sentinel(c).is_some_and(|(_, _, who)| *who == login("guard", "gw"))
    }),
    ("store", "sentinel_password_file", SENTINEL_FILE, |c, _| {
        sentinel(c).is_some_and(|(_, _, who)| *who == login("guard", "from-a-file"))
    }),
    ("store", "cluster", CLUSTER, |c, _| {
        let nodes = RedisServers::Cluster(vec![at("n1", 6379), at("n2", 7001)]);
        redis(c).is_some_and(|redis| redis.servers == nodes)
    }),
    ("store", "username", CLUSTER, |c, _| redis(c).is_some_and(|redis| redis.login == login("ada", "word"))),
    ("store", "password", CLUSTER, |c, _| redis(c).is_some_and(|redis| redis.login == login("ada", "word"))),
    ("store", "password_file", REDIS_FILE, |c, _| {
        redis(c).is_some_and(|redis| redis.login.password.as_ref().is_some_and(|word| word.expose() == b"from-a-file"))
    }),
    ("store", "database", SENTINEL, |c, _| redis(c).is_some_and(|redis| redis.database == 5)),
    ("store", "tls", CLUSTER, |c, _| redis(c).is_some_and(|redis| redis.tls.is_some())),
    ("store", "tls_ca", TLS, |c, dir| tls(c).is_some_and(|tls| tls.ca == Some(dir.join("ca.pem")))),
    ("store", "tls_certificate", TLS, identified),
    ("store", "tls_key", TLS, identified),
    ("store", "shards", CLUSTER, |c, _| c.store.shards() == 16),
    ("store", "namespace", REDIS, |c, _| redis(c).is_some_and(|redis| redis.namespace == "n2")),
    ("store", "timeout", REDIS, |c, _| redis(c).is_some_and(|redis| redis.timeout == SECOND / 4)),
    ("fleet", "lease", "lease = \"3s\"", |c, _| c.fleet.lease == 3 * SECOND),
    ("fleet", "orphan_grace", "orphan_grace = \"1h 30min\"", |c, _| c.fleet.orphan_grace == 5400 * SECOND),
    ("fleet", "recovery", "recovery = \"2s\"", |c, _| c.fleet.recovery == 2 * SECOND),
    ("fleet", "user_expire", "user_expire = \"10s\"", |c, _| c.fleet.user_expire == 10 * SECOND),
    ("fleet", "remember", "remember = \"2d\"", |c, _| c.fleet.remember == 172_800 * SECOND),
    ("fleet", "balance_factor", "balance_factor = 2", |c, _| c.fleet.balance_factor == 2.0),
    ("fleet", "slow_start", "slow_start = \"5min\"", |c, _| c.fleet.slow_start == 300 * SECOND),
    ("fleet", "max_down", "max_down = 0.25", |c, _| c.fleet.max_down == 0.25),
    ("fleet", "strict", "strict = true", |c, _| c.fleet.strict),
    ("fleet", "affinity_key", "affinity_key = \"{domain}\"", |c, _| key(c) == "ex+y.org"),
    ("fleet", "affinity_lower_case", "affinity_lower_case = false", |c, _| key(c) == "Ann+x@Ex+y.org"),
    ("fleet", "affinity_domain", "affinity_domain = \"y\"", |c, _| c.fleet.affinity_domain.as_deref() == Some("y")),
    ("fleet", "affinity_detail", "affinity_detail = \"+\"", |c, _| key(c) == "ann@ex+y.org"),
    ("fleet", "login_wait", "login_wait = \"7s\"", |c, _| c.fleet.login_wait == 7 * SECOND),
    ("fleet", "state_file", "state_file = \"st\"", |c, dir| c.fleet.state_file == Some(dir.join("st"))),
    ("moves", "timeout", "timeout = \"90s\"", |c, _| c.moves.timeout == 90 * SECOND),
    ("moves", "kick_delay", "kick_delay = \"0s\"", |c, _| c.moves.kick_delay == Duration::ZERO),
    ("listener", "address", LISTEN, |c, _| c.listeners[0].address.to_string() == "[::1]:1430"),
    ("listener", "mode", "address = \"unix:lmtp\"\nprotocol = \"lmtp\"\ntls = \"none\"\nmode = \"0660\"", |c, dir| {
        c.listeners[0].mode == Some(SocketMode(0o660))
            && c.listeners[0].address == ListenAddress::Unix(dir.join("lmtp"))
    }),
    ("listener", "protocol", "address = \"[::1]:1430\"\nprotocol = \"pop3\"", |c, _| {
        c.listeners[0].protocol == Protocol::Pop3
    }),
    ("listener", "tls", LISTEN, |c, _| c.listeners[0].tls == ListenerTls::StartTls),
    ("listener", "plaintext_login", LISTEN, |c, _| !c.listeners[0].plaintext_login),
    ("listener", "proxy_protocol", LISTEN, |c, _| c.listeners[0].proxy_protocol),
    ("listener", "trusted_networks", LISTEN, |c, _| {
        let networks: Vec<_> = c.listeners[0].trusted_networks.iter().map(ToString::to_string).collect();
        networks == ["10.0.0.0/8", "192.0.2.7/32", "fd00::/8"]
    }),
    ("listener", "proxy_timeout", LISTEN, |c, _| c.listeners[0].proxy_timeout == 4 * SECOND),
    ("listener", "alpn", LISTEN, |c, _| c.listeners[0].alpn == ["imap"]),
    ("tls", "min_version", "min_version = \"1.3\"", |c, _| c.tls.min_version == TlsVersion::V13),
    ("tls", "client_auth", CLIENT_AUTH, |c, _| c.tls.client_auth == ClientAuth::Require),
    ("tls", "client_name", "client_name = \"cn\"", |c, _| c.tls.client_name == homing::config::ClientName::Cn),
    ("tls", "client_ca", CLIENT_AUTH, |c, dir| c.tls.client_ca == Some(dir.join("ca.pem"))),
    ("tls.certificate", "certificate", CERTIFICATE, |c, dir| {
        c.tls.certificates.first().is_some_and(|pair| pair.certificate == dir.join("cert.pem"))
    }),
    ("tls.certificate", "key", CERTIFICATE, |c, dir| {
        c.tls.certificates.first().is_some_and(|pair| pair.key == dir.join("key.pem"))
    }),
    ("lmtp", "recipient_delimiter", "recipient_delimiter = \"\"", |c, _| c.lmtp.recipient_delimiter == Delimiter(None)),
    ("lmtp", "max_message_size", "max_message_size = 7", |c, _| c.lmtp.max_message_size == 7),
    ("lmtp", "max_recipients", "max_recipients = 7", |c, _| c.lmtp.max_recipients == 7),
    ("lmtp", "max_messages", "max_messages = 7", |c, _| c.lmtp.max_messages == 7),
    ("lmtp", "user_concurrency", "user_concurrency = 7", |c, _| c.lmtp.user_concurrency == 7),
    ("lmtp", "client_timeout", "client_timeout = \"7s\"", |c, _| c.lmtp.client_timeout == 7 * SECOND),
    ("lmtp", "backend_timeout", "backend_timeout = \"7s\"", |c, _| c.lmtp.backend_timeout == 7 * SECOND),
    ("limits", "connections", "connections = 5_000", |c, _| c.limits.connections == 5000),
    ("limits", "sessions_per_key", "sessions_per_key = 20", |c, _| c.limits.sessions_per_key == 20),
    ("limits", "login_timeout", "login_timeout = \"3min\"", |c, _| c.limits.login_timeout == 180 * SECOND),
    ("limits", "tls_timeout", "tls_timeout = \"500ms\"", |c, _| c.limits.tls_timeout == SECOND / 2),
    ("limits", "line", "line = 0x4000", |c, _| c.limits.line == 16384),
    ("limits", "literal", "literal = 1000", |c, _| c.limits.literal == 1000),
    ("limits", "commands", "commands = 51", |c, _| c.limits.commands == 51),
    ("limits", "errors", "errors = 11", |c, _| c.limits.errors == 11),
    ("limits", "failures", "failures = 4", |c, _| c.limits.failures == 4),
    ("limits", "max_referrals", "max_referrals = 1", |c, _| c.limits.max_referrals == 1),
    ("limits", "idle_timeout", "idle_timeout = \"1h\"", |c, _| c.limits.idle_timeout == 3600 * SECOND),
    ("limits", "close_timeout", "close_timeout = \"6s\"", |c, _| c.limits.close_timeout == 6 * SECOND),
    ("limits", "kick_deadline", "kick_deadline = \"0s\"", |c, _| c.limits.kick_deadline == Duration::ZERO),
    ("limits", "shutdown_grace", "shutdown_grace = \"0s\"", |c, _| c.limits.shutdown_grace == Duration::ZERO),
    ("limits", "hash_threads", "hash_threads = 777", |c, _| c.limits.hash_threads == 777),
    ("moves", "max_parallel_migrations", "max_parallel_migrations = 7", |c, _| c.moves.max_parallel_migrations == 7),
    ("moves", "max_parallel_moves", "max_parallel_moves = 7", |c, _| c.moves.max_parallel_moves == 7),
    ("moves", "move_rate", "move_rate = 8", |c, _| c.moves.move_rate == 8),
    ("moves", "rebalance_tolerance", "rebalance_tolerance = 0.25", |c, _| c.moves.rebalance_tolerance == 0.25),
    ("moves", "max_errors", "max_errors = 0.5", |c, _| c.moves.max_errors == 0.5),
    ("passdb", "kind", PASSDB, |c, _| matches!(c.passdb[0], PassdbConfig::File(FilePassdb { .. }))),
    (
        "passdb",
        "path",
        PASSDB,
        |c, dir| matches!(&c.passdb[0], PassdbConfig::File(FilePassdb { path, .. }) if *path == dir.join("users.passwd")),
    ),
    (
        "passdb",
        "default_scheme",
        PASSDB,
        |c, _| matches!(&c.passdb[0], PassdbConfig::File(FilePassdb { default_scheme, .. }) if default_scheme == "PLAIN"),
    ),
    ("passdb", "master", "kind = \"file\"\npath = \"users.passwd\"\nmaster = true", |c, _| {
        matches!(c.passdb[..], [PassdbConfig::File(FilePassdb { master: true, .. }), PassdbConfig::Backend])
    }),
    ("passdb", "cache", "kind = \"file\"\npath = \"users.passwd\"\ncache = true", |c, _| c.passdb[0].is_cached()),
    ("passdb", "uri", LDAP, |c, _| {
        ldap(c).is_some_and(|l| l.keys.uri == ["ldap://a", "ldaps://b:7"].map(|uri| LdapUri(uri.into())))
    }),
    ("passdb", "starttls", LDAP, |c, _| ldap(c).is_some_and(|l| l.keys.starttls)),
    ("passdb", "tls_ca", LDAP, |c, dir| ldap(c).is_some_and(|l| l.keys.tls_ca == Some(dir.join("ca.pem")))),
    ("passdb", "bind_dn", LDAP, |c, _| ldap(c).is_some_and(|l| l.keys.bind_dn.as_deref() == Some("cn=h"))),
    ("passdb", "bind_password_file", LDAP, |c, _| {
        ldap(c).is_some_and(|l| exposed(&l.bind_password) == Some(b"from-a-file"))
    }),
    ("passdb", "method", LDAP, |c, _| ldap(c).is_some_and(|l| l.keys.method == LdapMethod::Password)),
    ("passdb", "user_dn", LDAP, |c, _| {
        ldap(c).is_some_and(|l| l.keys.user_dn.as_ref().is_some_and(|dn| dn.fill("a@b", Into::into) == "uid=a,dc=b"))
    }),
    ("passdb", "base", LDAP, |c, _| ldap(c).is_some_and(|l| l.keys.base == "dc=x")),
    ("passdb", "scope", LDAP, |c, _| ldap(c).is_some_and(|l| l.keys.scope == LdapScope::One)),
    ("passdb", "filter", LDAP, |c, _| ldap(c).is_some_and(|l| l.keys.filter.fill("a", Into::into) == "(mail=a)")),
    ("passdb", "password_attribute", LDAP, |c, _| ldap(c).is_some_and(|l| l.keys.password_attribute == "word")),
    ("passdb", "fields", LDAP, |c, _| {
        ldap(c).is_some_and(|l| {
            l.keys.fields == Attributes(vec![("host".into(), "mailHost".into()), ("user".into(), "uid".into())])
        })
    }),
    ("passdb", "list_filter", LDAP, |c, _| ldap(c).is_some_and(|l| l.keys.list_filter.as_deref() == Some("(mail=*)"))),
    ("passdb", "list_attribute", LDAP, |c, _| ldap(c).is_some_and(|l| l.keys.list_attribute == "mail")),
    ("passdb", "timeout", LDAP, |c, _| ldap(c).is_some_and(|l| l.remote.timeout == 3 * SECOND)),
    ("passdb", "parallel", LDAP, |c, _| ldap(c).is_some_and(|l| l.remote.parallel == 7)),
    ("passdb", "failures", LDAP, |c, _| ldap(c).is_some_and(|l| l.remote.failures == 9)),
    ("passdb", "pause", LDAP, |c, _| ldap(c).is_some_and(|l| l.remote.pause == SECOND / 4)),
    ("passdb", "url", SQL, |c, _| sql(c).is_some_and(|s| s.keys.url == SqlUrl("postgres://h@db/mail".into()))),
    ("passdb", "password_file", SQL, |c, _| sql(c).is_some_and(|s| exposed(&s.password) == Some(b"from-a-file"))),
    ("passdb", "query", SQL, |c, _| {
        sql(c).is_some_and(|s| {
            s.keys.query.pieces()
                == [
                    Piece::Text("SELECT p FROM u WHERE n = ".into()),
                    Piece::Parameter(Parameter::User),
                    Piece::Text("".into()),
                ]
        })
    }),
    ("passdb", "list_query", SQL, |c, _| sql(c).is_some_and(|s| s.keys.list_query.is_some())),
    ("auth", "mechanisms", "mechanisms = [\"plain\"]", |c, _| c.auth.mechanisms.0 == [homing::model::Mechanism::Plain]),
    ("passdb", "method", INTROSPECTION, |c, _| oauth2(c).is_some_and(|o| o.keys.method == Oauth2Method::Introspection)),
    ("passdb", "issuer", OAUTH2, |c, _| oauth2(c).is_some_and(|o| o.keys.issuer.as_deref() == Some("https://i"))),
    ("passdb", "jwks_url", OAUTH2, |c, _| {
        oauth2(c).is_some_and(|o| o.keys.jwks_url.as_ref().is_some_and(|url| url.full() == "https://i:443/jwks"))
    }),
    ("passdb", "jwks_file", "kind = \"oauth2\"\njwks_file = \"word\"", |c, dir| {
        oauth2(c).is_some_and(|o| o.keys.jwks_file == Some(dir.join("word")))
    }),
    ("passdb", "refresh", OAUTH2, |c, _| oauth2(c).is_some_and(|o| o.keys.refresh == 7 * SECOND)),
    ("passdb", "unknown_key_interval", OAUTH2, |c, _| {
        oauth2(c).is_some_and(|o| o.keys.unknown_key_interval == 3 * SECOND)
    }),
    ("passdb", "keys_expire", OAUTH2, |c, _| oauth2(c).is_some_and(|o| o.keys.keys_expire == 9 * SECOND)),
    ("passdb", "hmac_key_file", OAUTH2, |c, _| {
        oauth2(c).is_some_and(|o| exposed(&o.hmac_key) == Some(b"from-a-file-with-more-than-32-bytes"))
    }),
    ("passdb", "algorithms", OAUTH2, |c, _| {
        oauth2(c).is_some_and(|o| o.keys.algorithms == [TokenAlgorithm::Hs256, TokenAlgorithm::EdDsa])
    }),
    ("passdb", "audience", OAUTH2, |c, _| oauth2(c).is_some_and(|o| o.keys.audience == ["mail"])),
    ("passdb", "scope", OAUTH2, |c, _| oauth2(c).is_some_and(|o| o.keys.scope == ["imap"])),
    ("passdb", "leeway", OAUTH2, |c, _| oauth2(c).is_some_and(|o| o.keys.leeway == 5 * SECOND)),
    ("passdb", "user_claim", OAUTH2, |c, _| oauth2(c).is_some_and(|o| o.keys.user_claim == "sub")),
    ("passdb", "tls_verify", OAUTH2, |c, _| oauth2(c).is_some_and(|o| !o.keys.tls_verify)),
    ("passdb", "introspection_url", INTROSPECTION, |c, _| {
        oauth2(c).is_some_and(|o| o.keys.introspection_url.as_ref().is_some_and(|url| url.full() == "http://i:80/ask"))
    }),
    ("passdb", "client_id", INTROSPECTION, |c, _| {
        oauth2(c).is_some_and(|o| o.keys.client_id.as_deref() == Some("homing"))
    }),
    ("passdb", "client_secret_file", INTROSPECTION, |c, _| {
        oauth2(c).is_some_and(|o| exposed(&o.client_secret) == Some(b"from-a-file"))
    }),
    ("auth_policy", "server_url", POLICY, |c, _| {
        c.auth_policy.server_url.as_ref().is_some_and(|url| url.full() == "https://p:443/x")
    }),
    ("auth_policy", "server_api_header", POLICY, |c, _| exposed(&c.auth_policy.server_api_header) == Some(b"A: b")),
    ("auth_policy", "server_timeout", POLICY, |c, _| c.auth_policy.server_timeout == 3 * SECOND),
    ("auth_policy", "tls_ca", POLICY, |c, dir| c.auth_policy.tls_ca == Some(dir.join("ca.pem"))),
    ("auth_policy", "tls_verify", POLICY, |c, _| !c.auth_policy.tls_verify),
    ("auth_policy", "hash_mech", POLICY, |c, _| c.auth_policy.hash_mech == PolicyHash::Sha512),
    ("auth_policy", "hash_nonce", POLICY, |c, _| exposed(&c.auth_policy.hash_nonce) == Some(b"salt")),
    ("auth_policy", "hash_truncate", POLICY, |c, _| c.auth_policy.hash_truncate == 8),
    ("auth_policy", "request_attributes", POLICY, |c, _| {
        c.auth_policy.request_attributes.all()
            == [(vec!["a".into(), "b".into()], vec![PolicyPiece::Variable(PolicyVariable::RemoteIp)])]
    }),
    ("auth_policy", "check_before_auth", POLICY, |c, _| !c.auth_policy.check_before_auth),
    ("auth_policy", "check_after_auth", POLICY, |c, _| !c.auth_policy.check_after_auth),
    ("auth_policy", "report_after_auth", POLICY, |c, _| !c.auth_policy.report_after_auth),
    ("auth_policy", "reject_on_fail", POLICY, |c, _| c.auth_policy.reject_on_fail),
    ("auth_policy", "log_only", POLICY, |c, _| c.auth_policy.log_only),
    ("auth_policy", "max_delay", POLICY, |c, _| c.auth_policy.max_delay == SECOND),
    ("auth", "cache_ttl", "cache_ttl = \"0s\"", |c, _| c.auth.cache_ttl == Duration::ZERO),
    ("auth", "cache_negative_ttl", "cache_negative_ttl = \"7s\"", |c, _| c.auth.cache_negative_ttl == 7 * SECOND),
    ("auth", "cache_stale", "cache_stale = \"0s\"", |c, _| c.auth.cache_stale == Duration::ZERO),
    ("auth", "secret_file", "secret_file = \"word\"", |c, dir| c.auth.secret_file == Some(dir.join("word"))),
    ("auth", "weak_schemes", "weak_schemes = true", |c, _| c.auth.weak_schemes),
    ("passdb", "auth_socket", DOVECOT, |c, dir| {
        dovecot(c).is_some_and(|(keys, _)| keys.auth_socket == AuthSocket::Unix(dir.join("run/auth-client")))
    }),
    ("passdb", "lookup_socket", DOVECOT, |c, _| {
        dovecot(c).is_some_and(|(keys, _)| match &keys.lookup_socket {
            Some(AuthSocket::Tcp(endpoint)) => endpoint.authority() == "[fd00::1]:7",
            _ => false,
        })
    }),
    ("passdb", "penalty", DOVECOT, |c, _| dovecot(c).is_some_and(|(keys, _)| keys.penalty)),
    ("passdb", "timeout", DOVECOT, |c, _| dovecot(c).is_some_and(|(_, remote)| remote.timeout == 20 * SECOND)),
    ("passdb", "parallel", DOVECOT, |c, _| dovecot(c).is_some_and(|(_, remote)| remote.parallel == 7)),
    ("passdb", "failures", DOVECOT, |c, _| dovecot(c).is_some_and(|(_, remote)| remote.failures == 8)),
    ("passdb", "pause", DOVECOT, |c, _| dovecot(c).is_some_and(|(_, remote)| remote.pause == 9 * SECOND)),
    ("passdb", "url", WEB, |c, _| web(c).is_some_and(|keys| keys.url.full() == "https://auth.test:443/x?y=1")),
    ("passdb", "format", WEB, |c, _| web(c).is_some_and(|keys| keys.format == HttpFormat::Json)),
    ("passdb", "header", WEB, |c, _| header(c).is_some_and(|header| header == b"X-Key: geheim")),
    ("passdb", "header_file", "kind = \"http\"\nurl = \"http://h\"\nheader_file = \"word\"", |c, _| {
        header(c).is_some_and(|header| header == b"from-a-file")
    }),
    ("passdb", "obey_server", "kind = \"http\"\nurl = \"http://h\"\nobey_server = false", |c, _| {
        web(c).is_some_and(|keys| !keys.obey_server)
    }),
    ("passdb", "attributes", WEB, |c, _| {
        web(c).is_some_and(|keys| {
            keys.attributes.iter().any(|pair| (&*pair.attribute, &*pair.field) == ("mailHost", "host"))
        })
    }),
    ("passdb", "tls_ca", WEB, |c, dir| web(c).is_some_and(|keys| keys.tls_ca == Some(dir.join("ca.pem")))),
    ("passdb", "tls_verify", WEB, |c, _| web(c).is_some_and(|keys| !keys.tls_verify)),
    ("auth", "master_separator", "master_separator = \"\"", |c, _| c.auth.master_separator.0.is_none()),
    ("auth", "penalty_max", "penalty_max = \"0s\"", |c, _| c.auth.penalty_max == Duration::ZERO),
    ("auth", "penalty_forget", "penalty_forget = \"7s\"", |c, _| c.auth.penalty_forget == 7 * SECOND),
    ("auth", "penalty_known", "penalty_known = \"7s\"", |c, _| c.auth.penalty_known == 7 * SECOND),
    ("auth", "penalty_ipv6_prefix", "penalty_ipv6_prefix = 48", |c, _| c.auth.penalty_ipv6_prefix == 48),
    ("auth", "penalty_exempt", "penalty_exempt = [\"192.0.2.7\"]", |c, _| {
        c.auth.penalty_exempt.iter().map(ToString::to_string).eq(["192.0.2.7/32"])
    }),
    ("limits", "user_ip_connections", "user_ip_connections = 7", |c, _| c.limits.user_ip_connections == 7),
    ("limits", "address_connections", "address_connections = 7", |c, _| c.limits.address_connections == 7),
    ("limits", "logins_per_minute", "logins_per_minute = 7", |c, _| c.limits.logins_per_minute == 7),
    ("health", "interval", "interval = \"10s\"", |c, _| c.health.interval == 10 * SECOND),
    ("health", "fast_interval", "fast_interval = \"500ms\"", |c, _| c.health.fast_interval == SECOND / 2),
    ("health", "timeout", "timeout = \"3s\"", |c, _| c.health.timeout == 3 * SECOND),
    ("health", "rise", "rise = 4", |c, _| c.health.rise == 4),
    ("health", "fall", "fall = 5", |c, _| c.health.fall == 5),
    ("health", "concurrency", "concurrency = 7", |c, _| c.health.concurrency == 7),
    ("health", "vital", "vital = [\"sieve\"]", |c, _| c.health.vital == [Protocol::Sieve]),
    ("health", "probe_user", PROBE, |c, _| c.health.login.as_ref().is_some_and(|login| login.user == "probe")),
    ("health", "probe_password", PROBE, |c, _| probe_password(c) == Some(b"open sesame")),
    ("health", "probe_password_file", "probe_user = \"probe\"\nprobe_password_file = \"word\"", |c, _| {
        probe_password(c) == Some(b"from-a-file")
    }),
    ("sieve", "implementation", "implementation = \"Pigeon \\\"7\\\"\"", |c, _| {
        c.sieve.implementation.as_deref() == Some("Pigeon \"7\"")
    }),
    ("sieve", "extensions", "extensions = [\"fileinto\", \"x-y\"]", |c, _| c.sieve.extensions == ["fileinto", "x-y"]),
    ("sieve", "notify", "notify = [\"mailto\"]", |c, _| c.sieve.notify == ["mailto"]),
    ("backend", "host", "host = \"2001:db8::1\"", |c, _| first(c).host == "2001:db8::1"),
    ("backend", "port", "port = 1430", |c, _| first(c).port == 1430),
    ("backend", "tls", "tls = \"starttls\"", |c, _| first(c).tls == BackendTls::StartTls),
    ("backend", "pop3_port", "pop3_port = 1100", |c, _| first(c).pop3.port == 1100),
    ("backend", "pop3_tls", "pop3_tls = \"implicit\"", |c, _| first(c).pop3 == reach(995, BackendTls::Implicit)),
    ("backend", "sieve_port", "sieve_port = 2000", |c, _| first(c).sieve.port == 2000),
    ("backend", "sieve_tls", "sieve_tls = \"starttls\"", |c, _| first(c).sieve == reach(4190, BackendTls::StartTls)),
    ("backend", "submission_port", "submission_port = 5870", |c, _| first(c).submission.port == 5870),
    ("backend", "submission_tls", "submission_tls = \"implicit\"", |c, _| {
        first(c).submission == reach(465, BackendTls::Implicit)
    }),
    ("backend", "submission_noauth", "submission_noauth = true", |c, _| first(c).submission_noauth),
    ("backend", "lmtp_port", "lmtp_port = 2400", |c, _| first(c).lmtp.port == 2400),
    ("backend", "lmtp_tls", "lmtp_tls = \"starttls\"", |c, _| {
        first(c).lmtp == reach(24, BackendTls::StartTls) && first(c).tls == BackendTls::None
    }),
    ("backend", "tls_ca", "tls = \"implicit\"\ntls_ca = \"ca.pem\"", |c, dir| {
        first(c).tls_ca == Some(dir.join("ca.pem"))
    }),
    ("backend", "tls_ca", "pop3_tls = \"starttls\"\ntls_ca = \"ca.pem\"", |c, dir| {
        first(c).tls == BackendTls::None && first(c).tls_ca == Some(dir.join("ca.pem"))
    }),
    ("backend", "tls_name", "tls = \"implicit\"\ntls_name = \"m\"", |c, _| first(c).tls_name.as_deref() == Some("m")),
    ("backend", "tls_verify", "tls_verify = false", |c, _| !first(c).tls_verify),
    ("backend", "weight", "weight = 50", |c, _| first(c).weight.get() == 50),
    ("backend", "pool", "pool = \"ssd\"", |c, _| first(c).pool.as_str() == "ssd"),
    ("backend", "max_sessions", "max_sessions = 7", |c, _| first(c).max_sessions == 7),
    ("backend", "drain", "drain = true", |c, _| first(c).drain),
    ("backend", "announce_id", "announce_id = false", |c, _| !first(c).announce.id),
    ("backend", "announce_xclient", "announce_xclient = false", |c, _| !first(c).announce.xclient),
    ("backend", "announce_proxy", "announce_proxy = true", |c, _| first(c).announce.proxy),
    ("backend", "master_user", MASTER, |c, _| first(c).master.as_ref().is_some_and(|master| master.user == "boss")),
    ("backend", "master_password", MASTER, |c, _| master_password(c) == Some(b"open sesame")),
    ("backend", "master_password_file", "master_user = \"boss\"\nmaster_password_file = \"word\"", |c, _| {
        master_password(c) == Some(b"from-a-file")
    }),
    ("backend", "pipelining", "pipelining = false", |c, _| !first(c).pipelining),
    ("backend", "connect_timeout", "connect_timeout = \"1s\"", |c, _| first(c).connect_timeout == SECOND),
    ("backend", "login_timeout", "login_timeout = \"2s\"", |c, _| first(c).login_timeout == 2 * SECOND),
    ("backend", "probe", "probe = false", |c, _| !first(c).probe),
    ("backend", "retry_budget", "retry_budget = \"3s\"", |c, _| first(c).retry_budget == 3 * SECOND),
    ("backend", "doveadm", DOVEADM, |c, _| {
        doveadm(c).is_some_and(|d| d.url.is_tls() && !d.url.is_http() && d.url.endpoint().authority() == "[::1]:24245")
    }),
    (
        "backend",
        "doveadm_http",
        "doveadm = \"tcp://h:1\"\ndoveadm_http = \"http://h:8080\"\ndoveadm_password = \"p\"",
        |c, _| doveadm(c).and_then(|d| d.speaking(true)).is_some_and(|d| d.url.endpoint().authority() == "h:8080"),
    ),
    ("backend", "doveadm_password", DOVEADM, |c, _| doveadm(c).and_then(password) == Some(b"pass word")),
    ("backend", "doveadm_password_file", "doveadm = \"tcp://h:1\"\ndoveadm_password_file = \"word\"", |c, _| {
        doveadm(c).and_then(password) == Some(b"from-a-file")
    }),
    ("backend", "doveadm_api_key", "doveadm = \"http://h:8080\"\ndoveadm_api_key = \"k\"", |c, _| {
        doveadm(c).and_then(api_key) == Some(b"k")
    }),
    ("backend", "doveadm_api_key_file", "doveadm = \"https://h:8080/\"\ndoveadm_api_key_file = \"word\"", |c, _| {
        doveadm(c).and_then(api_key) == Some(b"from-a-file")
    }),
    ("backend", "doveadm_timeout", DOVEADM, |c, _| doveadm(c).is_some_and(|d| d.timeout == 2 * SECOND)),
    ("doveadm", "password", "password = \"open\"", |c, _| exposed(&c.doveadm.password) == Some(b"open")),
    ("doveadm", "password_file", "password_file = \"word\"", |c, _| {
        exposed(&c.doveadm.password) == Some(b"from-a-file")
    }),
    ("doveadm", "api_key", "api_key = \"open\"", |c, _| exposed(&c.doveadm.api_key) == Some(b"open")),
    ("doveadm", "api_key_file", "api_key_file = \"word\"", |c, _| exposed(&c.doveadm.api_key) == Some(b"from-a-file")),
    ("doveadm", "parallel", "parallel = 3", |c, _| c.doveadm.parallel == 3),
    ("doveadm", "silence", "silence = \"2s\"", |c, _| c.doveadm.silence == 2 * SECOND),
    ("moves", "before_move", "before_move = [\"/bin/true\", \"x y\"]", |c, _| {
        c.moves.before_move == ["/bin/true", "x y"]
    }),
    ("moves", "before_move_url", "before_move_url = \"https://h/p?q=1\"", |c, _| {
        c.moves.before_move_url.as_ref().is_some_and(|url| {
            let endpoint = url.endpoint();
            url.is_tls() && (endpoint.authority().as_str(), endpoint.path.as_str()) == ("h:443", "/p?q=1")
        })
    }),
    ("moves", "hook_timeout", "hook_timeout = \"1s\"", |c, _| c.moves.hook_timeout == SECOND),
    ("log", "format", "format = \"json\"", |c, _| c.log.format == LogFormat::Json),
    ("log", "level", "level = \"warn,homing=debug\"", |c, _| c.log.level == "warn,homing=debug"),
    ("admin", "socket", "socket = \"a.sock\"", |c, dir| c.admin.socket == dir.join("a.sock")),
];

const REDIS: &str = "kind = \"redis\"\nurl = \"redis://us%2Fer:p%40ss@r.example.org:6400/3\"\nnamespace = \"n2\"\n\
                     timeout = \"250ms\"";
const REDIS_FILE: &str = "kind = \"redis\"\nurl = \"unix:///run/redis.sock\"\npassword_file = \"word\"";
const SENTINEL: &str = "kind = \"redis\"\nsentinels = [\"s1\", \"[fd00::1]:7\"]\nmaster = \"mymaster\"\ndatabase = 5\n\
                        sentinel_username = \"guard\"\nsentinel_password = \"gw\"";
const SENTINEL_FILE: &str = "kind = \"redis\"\nsentinels = [\"s1\"]\nmaster = \"m\"\nsentinel_username = \"guard\"\n\
                             sentinel_password_file = \"word\"";
const CLUSTER: &str = "kind = \"redis\"\ncluster = [\"n1\", \"n2:7001\"]\nusername = \"ada\"\npassword = \"word\"\n\
                       tls = true\nshards = 16";
const TLS: &str = "kind = \"redis\"\nurl = \"rediss://r\"\ntls_ca = \"ca.pem\"\ntls_certificate = \"cert.pem\"\n\
                   tls_key = \"key.pem\"";
const LISTEN: &str = "address = \"[::1]:1430\"\ntls = \"starttls\"\nplaintext_login = false\nproxy_protocol = true\nproxy_timeout = \"4s\"\nalpn = [\"imap\"]\n\
                      trusted_networks = [\"10.0.0.0/8\", \"192.0.2.7\", \"fd00::/8\"]";
const CLIENT_AUTH: &str = "client_auth = \"require\"\nclient_ca = \"ca.pem\"";
const CERTIFICATE: &str = "certificate = \"cert.pem\"\nkey = \"key.pem\"";
const DOVECOT: &str = "kind = \"dovecot\"\nauth_socket = \"run/auth-client\"\nlookup_socket = \"tcp://[fd00::1]:7\"\n\
                       penalty = true\ntimeout = \"20s\"\nparallel = 7\nfailures = 8\npause = \"9s\"";
const WEB: &str = "kind = \"http\"\nurl = \"https://auth.test/x?y=1\"\nformat = \"json\"\nheader = \"X-Key: geheim\"\n\
                   attributes = [\"mailHost=host\"]\ntls_ca = \"ca.pem\"\ntls_verify = false";
const PASSDB: &str = "kind = \"file\"\npath = \"users.passwd\"\ndefault_scheme = \"PLAIN\"";
const LDAP: &str = "kind = \"ldap\"\nuri = [\"ldap://a\", \"ldaps://b:7\"]\nstarttls = true\ntls_ca = \"ca.pem\"\nbind_dn = \"cn=h\"\n\
                    bind_password_file = \"word\"\nmethod = \"password\"\nuser_dn = \"uid=%n,dc=%d\"\nbase = \"dc=x\"\n\
                    scope = \"one\"\nfilter = \"(mail=%u)\"\npassword_attribute = \"word\"\n\
                    fields = { host = \"mailHost\", user = \"uid\" }\nlist_filter = \"(mail=*)\"\nlist_attribute = \"mail\"\n\
                    timeout = \"3s\"\nparallel = 7\nfailures = 9\npause = \"250ms\"";
const SQL: &str = "kind = \"sql\"\nurl = \"postgres://h@db/mail\"\npassword_file = \"word\"\n\
                   query = \"SELECT p FROM u WHERE n = :user\"\nlist_query = \"SELECT n FROM u\"";
const OAUTH2: &str = "kind = \"oauth2\"\nissuer = \"https://i\"\njwks_url = \"https://i/jwks\"\nrefresh = \"7s\"\n\
                      unknown_key_interval = \"3s\"\nkeys_expire = \"9s\"\nhmac_key_file = \"hmac\"\n\
                      algorithms = [\"HS256\", \"EdDSA\"]\naudience = [\"mail\"]\nscope = [\"imap\"]\nleeway = \"5s\"\n\
                      user_claim = \"sub\"\ntls_verify = false";
const INTROSPECTION: &str = "kind = \"oauth2\"\nmethod = \"introspection\"\nintrospection_url = \"http://i/ask\"\n\
                             client_id = \"homing\"\nclient_secret_file = \"word\"";
const POLICY: &str = "server_url = \"https://p/x\"\nserver_api_header = \"A: b\"\nserver_timeout = \"3s\"\ntls_ca = \"ca.pem\"\n\
                      tls_verify = false\nhash_mech = \"sha512\"\nhash_nonce = \"salt\"\nhash_truncate = 8\n\
                      request_attributes = \"a/b=%{rip}\"\ncheck_before_auth = false\ncheck_after_auth = false\n\
                      report_after_auth = false\nreject_on_fail = true\nlog_only = true\nmax_delay = \"1s\"";
const DOVEADM: &str =
    "doveadm = \"tls://[::1]:24245\"\ndoveadm_password = \"pass word\"\ndoveadm_timeout = \"2s\"\ntls_ca = \"ca.pem\"";
const MASTER: &str = "master_user = \"boss\"\nmaster_password = \"open sesame\"";

const PROBE: &str = "probe_user = \"probe\"\nprobe_password = \"open sesame\"";

fn ldap(config: &Config) -> Option<&LdapPassdb> {
    match &config.passdb[0] {
        PassdbConfig::Ldap(ldap) => Some(ldap),
        _ => None,
    }
}

fn sql(config: &Config) -> Option<&SqlPassdb> {
    match &config.passdb[0] {
        PassdbConfig::Sql(sql) => Some(sql),
        _ => None,
    }
}

fn oauth2(config: &Config) -> Option<&Oauth2Passdb> {
    match &config.passdb[0] {
        PassdbConfig::Oauth2(oauth2) => Some(oauth2),
        _ => None,
    }
}

fn redis(config: &Config) -> Option<&RedisConfig> {
    match &config.store {
        StoreConfig::Redis(redis) => Some(redis),
        StoreConfig::Memory => None,
    }
}

fn sentinel(config: &Config) -> Option<(&Vec<StoreAddress>, &str, &RedisLogin)> {
    match &redis(config)?.servers {
        RedisServers::Sentinel { sentinels, master, login } => Some((sentinels, master, login)),
        _ => None,
    }
}

fn tls(config: &Config) -> Option<&RedisTls> {
    redis(config)?.tls.as_ref()
}

fn identified(config: &Config, dir: &Path) -> bool {
    tls(config).is_some_and(|tls| tls.identity == Some((dir.join("cert.pem"), dir.join("key.pem"))))
}

fn at(host: &str, port: u16) -> StoreAddress {
    StoreAddress::Tcp(host.to_owned(), port)
}

fn login(user: &str, password: &str) -> RedisLogin {
    let password = Arc::new(Secret::new(password.as_bytes().to_vec()));
    RedisLogin { username: Some(user.to_owned()), password: Some(password) }
}

fn first(config: &Config) -> &homing::config::BackendConfig {
    config.backends.values().next().unwrap()
}

fn reach(port: u16, tls: BackendTls) -> Reach {
    Reach { port, tls }
}

fn probe_password(config: &Config) -> Option<&[u8]> {
    config.health.login.as_ref()?.password.as_ref().map(|word| word.expose())
}

fn master_password(config: &Config) -> Option<&[u8]> {
    first(config).master.as_ref().map(|master| master.password.expose())
}

fn exposed(secret: &Option<Arc<Secret>>) -> Option<&[u8]> {
    secret.as_ref().map(|secret| secret.expose())
}

fn doveadm(config: &Config) -> Option<&DoveadmConfig> {
    first(config).doveadm.as_ref()
}

fn dovecot(config: &Config) -> Option<(&DovecotPassdb, &RemoteKeys)> {
    match &config.passdb[0] {
        PassdbConfig::Dovecot(keys, remote) => Some((keys, remote)),
        _ => None,
    }
}

fn web(config: &Config) -> Option<&HttpPassdb> {
    match &config.passdb[0] {
        PassdbConfig::Http(keys, _) => Some(keys),
        _ => None,
    }
}

fn header(config: &Config) -> Option<&[u8]> {
    web(config)?.header.as_ref().map(|header| header.expose())
}

fn password(doveadm: &DoveadmConfig) -> Option<&[u8]> {
    match &doveadm.credential {
        DoveadmCredential::Password(password) => Some(password.expose()),
        DoveadmCredential::ApiKey(_) => None,
    }
}

fn api_key(doveadm: &DoveadmConfig) -> Option<&[u8]> {
    match &doveadm.credential {
        DoveadmCredential::ApiKey(key) => Some(key.expose()),
        DoveadmCredential::Password(_) => None,
    }
}

/// A whole file in which `table` has these lines.
fn file(table: &str, lines: &str) -> String {
    let certificate = format!("[[tls.certificate]]\n{CERTIFICATE}\n");
    match table {
        "" => format!("{lines}\n{LISTENER}{BACKEND}"),
        "listener" => format!("[[listener]]\n{lines}\n{certificate}{BACKEND}"),
        "backend" if lines.starts_with("host") => format!("{LISTENER}[backend.mail1]\n{lines}\n"),
        "backend" => format!("{LISTENER}{BACKEND}{lines}\n"),
        "passdb" | "tls.certificate" => format!("{LISTENER}{BACKEND}[[{table}]]\n{lines}\n"),
        table => format!("{LISTENER}{BACKEND}[{table}]\n{lines}\n"),
    }
}

#[test]
fn a_value_other_than_the_default_arrives_for_every_key() {
    let dir = files();
    let default = parse_in(dir.path(), &format!("{LISTENER}{BACKEND}")).unwrap();
    for (table, key, lines, arrived) in CASES {
        assert!(lines.contains(&format!("{key} = ")), "{table}.{key} is not in its own test");
        assert!(!arrived(&default, dir.path()), "{table}.{key}: the test's value is the default");
        let config =
            parse_in(dir.path(), &file(table, lines)).unwrap_or_else(|faults| panic!("{table}.{key}: {faults}"));
        assert!(arrived(&config, dir.path()), "{table}.{key} did not arrive");
    }
}

#[test]
fn every_key_of_the_default_file_is_tested_here() {
    let tested: BTreeSet<String> = CASES.iter().map(|(table, key, ..)| format!("{table}.{key}")).collect();
    let mut table = String::new();
    let mut printed = BTreeSet::new();
    for line in Config::default_file().lines() {
        let line = line.strip_prefix('#').unwrap_or(line);
        if let Some(header) = line.strip_prefix('[') {
            table = header.trim_matches(['[', ']']).split(".mail").next().unwrap_or_default().to_owned();
        } else if let Some((key, _)) = line.split_once(" = ").filter(|(key, _)| !key.contains(' ') && !key.is_empty()) {
            printed.insert(format!("{table}.{key}"));
        }
    }
    assert_eq!(printed, tested);
}

#[test]
fn the_probe_user_needs_no_password_where_every_probed_backend_has_a_master() {
    let dir = files();
    let text = file("backend", &format!("{MASTER}\n[backend.m2]\nhost = \"m2\"\nprobe = false"));
    let config = parse_in(dir.path(), &format!("{text}\n[health]\nprobe_user = \"probe\"\n")).unwrap();
    assert!(config.health.login.is_some_and(|login| login.password.is_none()));
}

#[test]
fn implicit_tls_towards_a_backend_has_a_port_of_its_own() {
    let dir = files();
    let port = |lines| first(&parse_in(dir.path(), &file("backend", lines)).unwrap()).port;
    assert_eq!(port("tls = \"none\""), 143);
    assert_eq!(port("tls = \"starttls\""), 143);
    assert_eq!(port("tls = \"implicit\""), 993);
    assert_eq!(port("tls = \"implicit\"\nport = 1993"), 1993);
}

#[test]
fn store_urls_may_leave_out_what_is_usual() {
    let dir = files();
    let address = |url: &str| {
        let lines = format!("kind = \"redis\"\nurl = \"{url}\"");
        let config = parse_in(dir.path(), &file("store", &lines)).unwrap();
        let redis = redis(&config).unwrap();
        let RedisServers::One(address) = &redis.servers else { panic!("{url} is a server") };
        assert_eq!(redis.tls.is_some(), url.starts_with("rediss:"), "{url}");
        let password = redis.login.password.as_ref().map(|word| word.expose().to_vec());
        (address.clone(), redis.database, redis.login.username.clone(), password)
    };
    let tcp = at;
    assert_eq!(address("rediss://r:7/1"), (tcp("r", 7), 1, None, None));
    assert_eq!(address("redis://r"), (tcp("r", 6379), 0, None, None));
    assert_eq!(address("redis://r:7/"), (tcp("r", 7), 0, None, None));
    assert_eq!(address("redis://[::1]:7/2"), (tcp("::1", 7), 2, None, None));
    assert_eq!(address("redis://[::1]"), (tcp("::1", 6379), 0, None, None));
    assert_eq!(address("redis://:word@r"), (tcp("r", 6379), 0, None, Some(b"word".to_vec())));
    assert_eq!(address("redis://ada@r"), (tcp("r", 6379), 0, Some("ada".to_owned()), None));
    assert_eq!(address("redis://ada:a@b@r"), (tcp("r", 6379), 0, Some("ada".to_owned()), Some(b"a@b".to_vec())));
    assert_eq!(address("unix:///run/r.sock").0, StoreAddress::Unix("/run/r.sock".into()));
}

#[test]
fn what_is_asked_over_the_network_is_remembered_unless_it_says_otherwise_or_asks_where_the_client_is() {
    let dir = files();
    let cached = |lines: &str| parse_in(dir.path(), &file("passdb", lines)).unwrap().passdb[0].is_cached();
    let query = |query: &str| format!("kind = \"sql\"\nurl = \"sqlite:///x\"\nquery = \"{query}\"");
    assert!(cached(LDAP) && cached(&query("SELECT p FROM u WHERE n = :user")));
    assert!(!cached(&format!("{}\ncache = false", query("SELECT p FROM u WHERE n = :user"))));
    assert!(!cached(&query("SELECT p FROM u WHERE n = :user AND h = :client")));
    assert!(!cached(&query("SELECT p FROM u WHERE n = :user AND h = :server")));
    assert!(!cached("kind = \"file\"\npath = \"users.passwd\"") && !cached("kind = \"backend\""));
}

#[test]
fn without_a_passdb_the_backends_decide() {
    let config = parse_in(files().path(), &format!("{LISTENER}{BACKEND}")).unwrap();
    assert_eq!(config.passdb, [PassdbConfig::Backend]);
}

#[test]
fn sources_listeners_and_backends_keep_their_order_and_names() {
    let text = format!(
        "{LISTENER}[[listener]]\naddress = \"[::1]:0\"\ntls = \"none\"\nplaintext_login = true\n{BACKEND}\
         [backend.\"m2.example.org\"]\nhost = \"m2\"\n[[passdb]]\nkind = \"file\"\npath = \"users.passwd\"\n[[passdb]]\n\
         kind = \"backend\"\n"
    );
    let config = parse_in(files().path(), &text).unwrap();
    assert_eq!(config.listeners[1].address.to_string(), "[::1]:0");
    assert_eq!(config.passdb[1], PassdbConfig::Backend);
    let names: Vec<_> = config.backends.keys().map(|name| name.as_str()).collect();
    assert_eq!(names, ["m2.example.org", "mail1"]);
}
