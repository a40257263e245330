//! Every fault: where it is found, what is said, and what is advised.

use homing::config::Config;
use proptest::prelude::*;

use super::{BACKEND, LISTENER, faults, parse_in};

/// `name: text => key, line, "part of the meaning", "part of the remedy";` for a text with one fault.
macro_rules! fault {
    ($($name:ident: $text:expr => $key:literal, $line:literal, $meaning:literal, $remedy:literal;)+) => {$(
        #[test]
        fn $name() {
            let faults = faults(&$text);
            let [fault] = &faults[..] else { panic!("one fault expected: {faults:#?}") };
            assert_eq!((fault.key.as_str(), fault.line), ($key, $line), "{fault}");
            assert!(fault.meaning.contains($meaning), "{fault}");
            assert!(fault.remedy.contains($remedy), "{fault}");
            assert!(!fault.consequence.is_empty());
        }
    )+};
}

fn listener(lines: &str) -> String {
    format!("[[listener]]\naddress = \"127.0.0.1:0\"\n{lines}\n")
}

fn backend(lines: &str) -> String {
    format!("{BACKEND}{lines}\n")
}

fn plain(address: &str) -> String {
    LISTENER.replace("127.0.0.1:0", address)
}

fn certificate(certificate: &str, key: &str) -> String {
    format!("[[tls.certificate]]\ncertificate = \"{certificate}\"\nkey = \"{key}\"\n")
}

// Form of the file
fault! {
    faulty_toml_is_named_with_its_line: "a = 1\nb = \n" => "", 2, "not TOML", "correct the line";
    a_key_given_twice_is_faulty_toml: "name = \"a\"\n\nname = \"b\"\n" => "", 3, "duplicate key", "correct the line";
    an_unknown_key_gets_a_suggestion: "\n[fleet]\nleese = \"5s\"" => "fleet.leese", 3, "is not a setting", "did you mean lease?";
    swapped_letters_are_one_mistake: "nmae = \"a\"" => "nmae", 1, "is not a setting", "did you mean name?";
    dashes_and_capitals_are_forgiven_in_suggestions: "[fleet]\nOrphan-Grace = \"1h\"" =>
        "fleet.Orphan-Grace", 2, "is not a setting", "did you mean orphan_grace?";
    a_key_of_another_table_is_recognised: "lease = \"5s\"" => "lease", 1, "is not a setting", "did you mean fleet.lease, in another table?";
    a_key_like_no_other_gets_the_reference: "[log]\nzzz = 1" => "log.zzz", 2, "is not a setting", "homing config default";
    an_unknown_table_is_one_fault: "[fleat]\nlease = \"5s\"\nmore = 1" => "fleat", 1, "is not a setting", "did you mean fleet?";
    an_unknown_key_of_a_list_is_found: format!("{LISTENER}tsl = 1") => "listener[1].tsl", 5, "is not a setting", "did you mean tls?";
    an_unknown_key_of_a_backend_is_found: format!("{BACKEND}hots = 1") => "backend.mail1.hots", 3, "is not a setting", "did you mean host?";
    an_unknown_key_of_a_backend_with_dots_is_found: "[backend.\"m1.x\"]\nhost = \"h\"\nwieght = 1" =>
        "backend.\"m1.x\".wieght", 3, "is not a setting", "did you mean weight?";
    a_value_instead_of_a_table: "fleet = 3" => "fleet", 1, "must be a table, not a whole number", "write it as [fleet]";
    a_table_instead_of_a_list: "[listener]\naddress = \"127.0.0.1:0\"" => "listener", 1, "a list of tables, not a table", "write it as [[listener]]";
    a_list_of_values_instead_of_tables: "passdb = [1, 2]" => "passdb", 1, "a list of tables, not a list", "write it as [[passdb]]";
    a_backend_that_is_no_table: "[backend]\nmail1 = \"host\"" => "backend.mail1", 2, "must be a table", "write it as [backend.mail1]";
    a_list_instead_of_the_backends: "[[backend]]\nhost = \"h\"" => "backend", 1, "must be a table, not a list", "[backend.NAME]";
}

// Values
fault! {
    a_string_for_a_number: "[limits]\nline = \"8192\"" => "limits.line", 2, "whole number, not a string", "without quotes";
    a_number_for_a_string: "name = 5" => "name", 1, "a string, not a whole number", "in quotes";
    a_string_for_a_truth: "[fleet]\nstrict = \"yes\"" => "fleet.strict", 2, "true or false, not a string", "without quotes";
    a_number_for_a_duration: "[fleet]\nlease = 15" => "fleet.lease", 2, "a duration in quotes, not a whole number", "\"15s\"";
    a_duration_without_unit: "[fleet]\nlease = \"15\"" => "fleet.lease", 2, "is no duration", "\"15s\"";
    a_duration_beyond_reason: "[fleet]\nremember = \"100years\"" => "fleet.remember", 2, "longer than ten years", "3650d";
    a_duration_beyond_arithmetic: "[fleet]\nremember = \"99999999999999999999years\"" => "fleet.remember", 2, "is no duration", "\"7d\"";
    a_string_for_a_fraction: "[fleet]\nbalance_factor = \"1.5\"" => "fleet.balance_factor", 2, "a number, not a string", "1.25";
    an_infinite_fraction: "[fleet]\nbalance_factor = inf" => "fleet.balance_factor", 2, "finite", "1.25";
    a_negative_number: "[limits]\ncommands = -1" => "limits.commands", 2, "must be 0 to", "in that range";
    a_number_too_large_for_its_type: "[limits]\ncommands = 99999999999" => "limits.commands", 2, "must be 0 to", "in that range";
    an_empty_string: "name = \"\"" => "name", 1, "is empty", "printable";
    a_control_character: "name = \"a\\nb\"" => "name", 1, "control characters", "printable";
    a_name_with_spaces: "name = \"my proxy\"" => "name", 1, "is not a name", "letters, digits";
    an_empty_path: "[admin]\nsocket = \"\"" => "admin.socket", 2, "is not a path", "path of a file";
    a_number_for_a_path: "[admin]\nsocket = 3" => "admin.socket", 2, "a path, not a whole number", "in quotes";
    a_host_name_as_listening_address: plain("localhost:143") => "listener[1].address", 2, "IP address with a port", "127.0.0.1:1143";
    an_address_without_port: plain("127.0.0.1") => "listener[1].address", 2, "IP address with a port", "127.0.0.1:1143";
    a_word_that_is_none_of_a_set: listener("tls = \"ssl\"") => "listener[1].tls", 3, "\"none\", \"starttls\", \"implicit\"", "one of these words";
    a_misspelt_word_of_a_set: listener("tls = \"start-tls\"") => "listener[1].tls", 3, "must be one of", "did you mean \"starttls\"?";
    an_unknown_store: "[store]\nkind = \"reddis\"" => "store.kind", 2, "must be one of", "did you mean \"redis\"?";
    an_unknown_format: "[log]\nformat = \"xml\"" => "log.format", 2, "must be one of", "one of these words";
    a_level_that_is_none: "[log]\nlevel = \"homing=loud\"" => "log.level", 2, "is not a log level", "\"debug\"";
    a_network_that_is_none: listener("tls = \"none\"\nplaintext_login = true\nproxy_protocol = true\ntrusted_networks = [\"10.0.0.0/8\", \"lan\"]") =>
        "listener[1].trusted_networks", 6, "(item 2) is not a network", "10.0.0.0/8";
    a_string_for_a_list: format!("{LISTENER}alpn = \"imap\"") => "listener[1].alpn", 5, "a list, not a string", "[\"one\"";
    a_name_too_long_for_alpn: format!("{LISTENER}alpn = [\"{}\"]", "x".repeat(256)) => "listener[1].alpn", 5, "255 bytes", "shorten";
    a_weight_too_heavy: format!("{BACKEND}weight = 10001") => "backend.mail1.weight", 3, "0 to 10000", "100 is usual";
    a_pool_without_a_proper_name: format!("{BACKEND}pool = \"a b\"") => "backend.mail1.pool", 3, "is not a name", "letters, digits";
    an_empty_password: format!("{BACKEND}master_user = \"m\"\nmaster_password = \"\"") => "backend.mail1.master_password", 4, "is empty", "leave the key out";
}

// Ranges
fault! {
    a_lease_below_one_second: "[fleet]\nlease = \"999ms\"" => "fleet.lease", 2, "is \"999ms\", but must be at least \"1s\"", "\"1s\" or more";
    a_lease_above_ten_minutes: "[fleet]\nlease = \"11min\"" => "fleet.lease", 2, "at most \"10min\"", "or less";
    a_user_expire_below_ten_seconds: "[fleet]\nuser_expire = \"9s\"" => "fleet.user_expire", 2, "at least \"10s\"", "\"10s\" or more";
    an_unknown_part_of_a_name: "[fleet]\naffinity_key = \"{mailbox}\"" => "fleet.affinity_key", 2, "a brace that is not part of", "{domain}";
    a_key_without_a_name: "[fleet]\naffinity_key = \"all\"" => "fleet.affinity_key", 2, "names nothing of the user", "{user}";
    a_detail_of_two_characters: "[fleet]\naffinity_detail = \"--\"" => "fleet.affinity_detail", 2, "one character", "\"+\"";
    a_balance_factor_below_one: "[fleet]\nbalance_factor = 0.5" => "fleet.balance_factor", 2, "is 0.5, but must be at least 1", "1 or more";
    a_line_limit_too_short: "[limits]\nline = 1023\nliteral = 100" => "limits.line", 2, "is 1023, but must be at least 1024", "1024 or more";
    a_line_limit_too_long: "[limits]\nline = 65537" => "limits.line", 2, "at most 65536", "65536 or less";
    an_idle_timeout_below_the_protocols: "[limits]\nidle_timeout = \"29min\"" => "limits.idle_timeout", 2, "at least \"30min\"", "30min";
    a_kick_deadline_beyond_patience: "[limits]\nkick_deadline = \"61s\"" => "limits.kick_deadline", 2, "at most \"1min\"", "or less";
    no_moves_at_all: "[moves]\nmax_parallel_moves = 0" => "moves.max_parallel_moves", 2, "at least 1", "1 or more";
    a_share_of_errors_above_all: "[moves]\nmax_errors = 1.5" => "moves.max_errors", 2, "at most 1", "1 or less";
    no_connections_at_all: "[limits]\nconnections = 0" => "limits.connections", 2, "at least 1", "1 or more";
    port_zero_of_a_backend: format!("{BACKEND}port = 0") => "backend.mail1.port", 3, "at least 1", "1 or more";
}

// How a backend's doveadm is asked
fault! {
    a_doveadm_url_of_another_scheme: backend("doveadm = \"ftp://h:1\"\ndoveadm_password = \"p\"") => "backend.mail1.doveadm", 3, "does not start with \"tcp://\"", "\"tcp://mail1";
    a_doveadm_url_without_port: backend("doveadm = \"tcp://h\"\ndoveadm_password = \"p\"") => "backend.mail1.doveadm", 3, "no valid port", ":24245";
    a_doveadm_url_with_port_zero: backend("doveadm = \"tcp://h:0\"\ndoveadm_password = \"p\"") => "backend.mail1.doveadm", 3, "no valid port", ":24245";
    a_doveadm_url_with_a_port_too_large: backend("doveadm = \"tcp://h:70000\"\ndoveadm_password = \"p\"") => "backend.mail1.doveadm", 3, "no", ":24245";
    a_doveadm_url_with_a_broken_host: backend("doveadm = \"tcp://[::1:5\"\ndoveadm_password = \"p\"") => "backend.mail1.doveadm", 3, "no", ":24245";
    a_doveadm_url_with_a_path: backend("doveadm = \"http://h:1/x\"\ndoveadm_password = \"p\"") => "backend.mail1.doveadm", 3, "has a path", "8080";
    a_doveadm_url_with_a_user: backend("doveadm = \"http://u:p@h:1\"\ndoveadm_password = \"p\"") => "backend.mail1.doveadm", 3, "has a user or password", "8080";
    a_doveadm_without_password: backend("doveadm = \"tcp://h:1\"") => "backend.mail1.doveadm", 3, "has no password", "doveadm_password_file";
    a_doveadm_password_without_url: backend("doveadm_password = \"p\"") => "backend.mail1.doveadm_password", 3, "no use without doveadm", "add doveadm";
    two_credentials_for_doveadm: backend("doveadm = \"http://h:1\"\ndoveadm_password = \"p\"\ndoveadm_api_key = \"k\"") => "backend.mail1.doveadm_api_key", 5, "second credential", "remove one";
    an_api_key_for_the_tcp_protocol: backend("doveadm = \"tcp://h:1\"\ndoveadm_api_key = \"k\"") => "backend.mail1.doveadm_api_key", 4, "takes a password", "http://";
    a_second_doveadm_that_is_no_http: backend("doveadm = \"tcp://h:1\"\ndoveadm_http = \"tcp://h:2\"\ndoveadm_password = \"p\"") => "backend.mail1.doveadm_http", 4, "not the address of an HTTP API", "http://";
    a_second_doveadm_beside_http: backend("doveadm = \"http://h:1\"\ndoveadm_http = \"http://h:2\"\ndoveadm_password = \"p\"") => "backend.mail1.doveadm_http", 4, "no use", "tcp://";
    a_doveadm_listener_without_password: "[[listener]]\naddress = \"127.0.0.1:0\"\nprotocol = \"doveadm\"\ntls = \"none\"\n" => "listener[1].protocol", 3, "has no password", "password_file";
    plaintext_login_at_a_doveadm_listener: "[[listener]]\naddress = \"127.0.0.1:0\"\nprotocol = \"doveadm\"\ntls = \"none\"\nplaintext_login = true\n[doveadm]\npassword = \"p\"\n" => "listener[1].plaintext_login", 5, "no use", "remove it";
    two_passwords_of_our_own_doveadm: "[doveadm]\npassword = \"p\"\npassword_file = \"word\"\n" => "doveadm.password_file", 3, "second one besides doveadm.password", "remove one";
    authorities_for_a_doveadm_without_tls: backend("doveadm = \"tcp://h:1\"\ndoveadm_password = \"p\"\ntls_name = \"n\"") => "backend.mail1.tls_name", 5, "no use", "remove it";
}

// What is run in a move
fault! {
    a_hook_that_is_no_list: "[moves]\nbefore_move = \"/bin/true\"" => "moves.before_move", 2, "a list, not a string", "[\"one\"";
    a_hook_by_a_relative_path: format!("{LISTENER}{BACKEND}[moves]\nbefore_move = [\"bin/no\", \"x\"]") => "moves.before_move", 8, "absolute path", "whole path";
    a_hook_that_is_not_there: format!("{LISTENER}{BACKEND}[moves]\nbefore_move = [\"/bin/no-such\"]") => "moves.before_move", 8, "no program", "executable";
    a_hook_that_cannot_be_run: format!("{LISTENER}{BACKEND}[moves]\nbefore_move = [\"/proc/version\"]") => "moves.before_move", 8, "no program", "executable";
    two_hooks: format!("{LISTENER}{BACKEND}[moves]\nbefore_move = [\"/bin/true\"]\nbefore_move_url = \"http://h\"") => "moves.before_move_url", 9, "second hook", "remove one";
    a_hook_url_of_another_scheme: "[moves]\nbefore_move_url = \"ftp://h/\"" => "moves.before_move_url", 2, "does not start with \"http://\" or \"https://\"", "http://127";
    a_hook_url_without_a_host: "[moves]\nbefore_move_url = \"/path\"" => "moves.before_move_url", 2, "does not start with", "http://127";
}

// What is missing
fault! {
    a_listener_without_address: "[[listener]]\ntls = \"none\"\nplaintext_login = true" => "listener[1].address", 1, "is missing", "add address";
    a_backend_without_host: "[backend.mail1]\nport = 143" => "backend.mail1.host", 1, "is missing", "add host";
    a_certificate_without_key: "[[tls.certificate]]\ncertificate = \"cert.pem\"" => "tls.certificate[1].key", 1, "is missing", "add key";
    a_key_without_certificate: "[[tls.certificate]]\nkey = \"key.pem\"" => "tls.certificate[1].certificate", 1, "is missing", "add certificate";
    a_prefix_longer_than_an_address: "[auth]\npenalty_ipv6_prefix = 129" => "auth.penalty_ipv6_prefix", 2, "128", "128";
    a_passdb_without_kind: "[[passdb]]" => "passdb[1].kind", 1, "is missing", "add kind";
    a_dovecot_without_socket: "[[passdb]]\nkind = \"dovecot\"" => "passdb[1].auth_socket", 1, "is missing", "add auth_socket";
    a_web_service_without_url: "[[passdb]]\nkind = \"http\"" => "passdb[1].url", 1, "is missing", "add url";
    a_passwd_file_without_path: "[[passdb]]\nkind = \"file\"" => "passdb[1].path", 1, "is missing", "add path";
    redis_without_url: "[store]\nkind = \"redis\"" => "store.url", 1, "is missing", "add url";
    a_master_user_without_password: format!("{BACKEND}master_user = \"m\"") => "backend.mail1.master_user", 3, "has no password", "master_password_file";
    a_probe_user_whom_nobody_can_log_in: format!("{BACKEND}[health]\nprobe_user = \"p\"") => "health.probe_user", 4, "mail1 has no master_user", "probe_password_file";
    an_extension_that_is_no_word: "[sieve]\nextensions = [\"fileinto reject\"]" => "sieve.extensions", 2, "is no word", "each name by itself";
    a_way_to_notify_that_is_no_word: "[sieve]\nnotify = [\"a\\\"b\"]" => "sieve.notify", 2, "is no word", "each name by itself";
    a_name_of_two_lines: "[sieve]\nimplementation = \"a\\nb\"" => "sieve.implementation", 2, "has control characters", "printable";
    a_probe_password_without_user: "[health]\nprobe_password = \"p\"" => "health.probe_password", 2, "has no probe_user", "add probe_user";
    a_doubt_that_is_slower_than_rest: "[health]\ninterval = \"1s\"\nfast_interval = \"2s\"" => "health.fast_interval", 3, "health.interval is 1s", "shorten it";
    a_master_password_without_user: format!("{BACKEND}master_password = \"m\"") => "backend.mail1.master_password", 3, "has no master_user", "add master_user";
    client_certificates_without_authorities: "[tls]\nclient_auth = \"request\"" => "tls.client_auth", 2, "client_ca is missing", "add client_ca";
    implicit_tls_without_certificate: listener("tls = \"implicit\"") => "listener[1].tls", 3, "needs a certificate", "[[tls.certificate]]";
    starttls_without_certificate: listener("") => "listener[1].tls", 1, "needs a certificate", "[[tls.certificate]]";
    proxy_headers_from_nobody: format!("{LISTENER}proxy_protocol = true") => "listener[1].proxy_protocol", 5, "needs trusted_networks", "load balancers";
}

// Files
fault! {
    a_certificate_that_is_not_there: certificate("none.pem", "key.pem") => "tls.certificate[1].certificate", 2, "cannot be read", "correct the path";
    a_key_that_is_not_there: certificate("cert.pem", "none.pem") => "tls.certificate[1].key", 3, "cannot be read", "correct the path";
    authorities_of_clients_that_are_not_there: "[tls]\nclient_ca = \"none\"" => "tls.client_ca", 2, "cannot be read", "correct the path";
    a_passwd_file_that_is_not_there: "[[passdb]]\nkind = \"file\"\npath = \"none\"" => "passdb[1].path", 3, "cannot be read", "correct the path";
    a_passwd_file_that_is_a_directory: "[[passdb]]\nkind = \"file\"\npath = \".\"" => "passdb[1].path", 3, "it is a directory", "correct the path";
    authorities_of_a_backend_that_are_not_there: format!("{BACKEND}tls = \"implicit\"\ntls_ca = \"none\"") => "backend.mail1.tls_ca", 4, "cannot be read", "correct the path";
    a_password_file_that_is_not_there: "[store]\nkind = \"redis\"\nurl = \"redis://h\"\npassword_file = \"none\"" => "store.password_file", 4, "cannot be read", "first line";
    a_password_file_without_password: "[store]\nkind = \"redis\"\nurl = \"redis://h\"\npassword_file = \"empty\"" => "store.password_file", 4, "first line is empty", "first line";
    a_master_password_file_that_is_too_long: format!("{BACKEND}master_user = \"m\"\nmaster_password_file = \"long\"") =>
        "backend.mail1.master_password_file", 4, "longer than 4096 bytes", "first line";
}

// Relations
fault! {
    a_grace_shorter_than_the_lease: "[fleet]\nlease = \"20s\"\norphan_grace = \"19s\"" => "fleet.orphan_grace", 3, "at least 20s, because of fleet.lease", "\"20s\" or more";
    a_recovery_shorter_than_two_heartbeats: "[fleet]\nlease = \"15s\"\nrecovery = \"1900ms\"" => "fleet.recovery", 3, "at least 2s, because of fleet.lease", "\"2s\" or more";
    a_memory_shorter_than_the_stay: "[fleet]\nremember = \"14min\"" => "fleet.remember", 2, "at least 15min, because of fleet.user_expire", "\"15min\" or more";
    a_literal_longer_than_a_line: "[limits]\nline = 2000" => "limits.literal", 1, "is 4096, but limits.line is only 2000", "at most limits.line";
    a_listener_on_which_nobody_can_log_in: listener("tls = \"none\"") => "listener[1].tls", 3, "without plaintext_login", "plaintext_login = true";
    the_same_address_twice: format!("{}{}", plain("127.0.0.1:99"), plain("127.0.0.1:99")) => "listener[2].address", 6, "same port as listener[1].address", "another";
    an_address_within_a_wildcard: format!("{}{}", plain("127.0.0.1:99"), plain("0.0.0.0:99")) => "listener[2].address", 6, "same port as listener[1].address", "another";
    a_delimiter_of_two_characters: format!("{LISTENER}{BACKEND}[lmtp]\nrecipient_delimiter = \"+-\"") => "lmtp.recipient_delimiter", 8, "one character", "\"+\"";
    a_mode_that_is_not_octal: "[[listener]]\naddress = \"unix:x\"\nprotocol = \"lmtp\"\ntls = \"none\"\nmode = \"0888\"" => "listener[1].mode", 5, "octal", "0660";
    a_mode_without_a_unix_socket: format!("{LISTENER}mode = \"0660\"") => "listener[1].mode", 5, "without a Unix socket", "remove it";
    a_unix_socket_for_others_than_lmtp: "[[listener]]\naddress = \"unix:x\"\ntls = \"none\"\nplaintext_login = true" => "listener[1].address", 2, "for LMTP only", "protocol = \"lmtp\"";
    a_unix_socket_with_tls: ("[[listener]]\naddress = \"unix:x\"\nprotocol = \"lmtp\"\ntls = \"starttls\"\n[[tls.certificate]]\ncertificate = \"cert.pem\"\nkey = \"key.pem\"") => "listener[1].tls", 4, "no use on a Unix socket", "\"none\"";
    a_unix_socket_with_a_proxy_header: "[[listener]]\naddress = \"unix:x\"\nprotocol = \"lmtp\"\ntls = \"none\"\nproxy_protocol = true\ntrusted_networks = [\"10.0.0.0/8\"]" => "listener[1].proxy_protocol", 5, "no use on a Unix socket", "remove it";
    a_unix_socket_without_a_path: "[[listener]]\naddress = \"unix:\"\nprotocol = \"lmtp\"\ntls = \"none\"" => "listener[1].address", 2, "not a path", "unix:/run/homing/lmtp";
    the_same_unix_socket_twice: "[[listener]]\naddress = \"unix:x\"\nprotocol = \"lmtp\"\ntls = \"none\"\n[[listener]]\naddress = \"unix:x\"\nprotocol = \"lmtp\"\ntls = \"none\"" => "listener[2].address", 6, "same socket as listener[1].address", "another";
    trusted_networks_without_use: format!("{LISTENER}trusted_networks = [\"10.0.0.0/8\"]") => "listener[1].trusted_networks", 5, "without proxy_protocol", "proxy_protocol = true";
    a_source_behind_the_backends: "[[passdb]]\nkind = \"backend\"\n[[passdb]]\nkind = \"file\"\npath = \"users.passwd\"" => "passdb[1]", 1, "is not the last", "move it to the end";
    a_socket_of_another_scheme: "[[passdb]]\nkind = \"dovecot\"\nauth_socket = \"http://h:1\"" => "passdb[1].auth_socket", 3, "does not start with \"tcp://\"", "/run/dovecot/auth-client";
    a_socket_without_port: "[[passdb]]\nkind = \"dovecot\"\nauth_socket = \"tcp://h\"" => "passdb[1].auth_socket", 3, "no valid port", "tcp://";
    a_socket_with_a_path: "[[passdb]]\nkind = \"dovecot\"\nauth_socket = \"tcp://h:1/x\"" => "passdb[1].auth_socket", 3, "path behind its port", "tcp://";
    a_service_that_speaks_something_else: "[[passdb]]\nkind = \"http\"\nurl = \"ftp://h\"" => "passdb[1].url", 3, "does not start with", "https://";
    a_format_that_is_none: "[[passdb]]\nkind = \"http\"\nurl = \"http://h\"\nformat = \"xml\"" => "passdb[1].format", 4, "must be one of", "quotes";
    an_attribute_for_no_field: "[[passdb]]\nkind = \"http\"\nurl = \"http://h\"\nformat = \"json\"\nattributes = [\"host\"]" => "passdb[1].attributes", 5, "no pair", "mailHost=host";
    attributes_for_headers: "[[passdb]]\nkind = \"http\"\nurl = \"http://h\"\nattributes = [\"a=host\"]" => "passdb[1].attributes", 4, "no use with this format", "remove it";
    authorities_without_tls: "[[passdb]]\nkind = \"http\"\nurl = \"http://h\"\ntls_ca = \"ca.pem\"" => "passdb[1].tls_ca", 4, "no use with \"http://\"", "https://";
    two_headers: "[[passdb]]\nkind = \"http\"\nurl = \"http://h\"\nheader = \"a: b\"\nheader_file = \"word\"" => "passdb[1].header_file", 5, "second header", "remove one";
    a_path_for_a_source_without_file: "[[passdb]]\nkind = \"backend\"\npath = \"users.passwd\"" => "passdb[1].path", 3, "is not a setting", "remove it";
    a_scheme_for_a_source_without_file: "[[passdb]]\nkind = \"backend\"\ndefault_scheme = \"PLAIN\"" => "passdb[1].default_scheme", 3, "is not a setting", "remove it";
    a_server_for_the_embedded_store: "[store]\nurl = \"redis://h\"" => "store.url", 2, "no use with store.kind \"memory\"", "kind = \"redis\"";
    a_password_for_the_embedded_store: "[store]\npassword_file = \"word\"" => "store.password_file", 2, "no use", "kind = \"redis\"";
    two_passwords_for_the_store: "[store]\nkind = \"redis\"\nurl = \"redis://:a@h\"\npassword_file = \"word\"" => "store.password_file", 4, "second password", "remove one";
    two_probe_passwords: "[health]\nprobe_user = \"p\"\nprobe_password = \"a\"\nprobe_password_file = \"word\"" =>
        "health.probe_password_file", 4, "second password of probe_user", "remove one";
    two_master_passwords: format!("{BACKEND}master_user = \"m\"\nmaster_password = \"a\"\nmaster_password_file = \"word\"") =>
        "backend.mail1.master_password_file", 5, "second master password", "remove one";
    authorities_for_a_backend_without_tls: format!("{BACKEND}tls_ca = \"ca.pem\"") => "backend.mail1.tls_ca", 3, "no use with tls \"none\"", "starttls";
    a_certificate_for_a_backend_without_tls: format!("{BACKEND}tls_certificate = \"ca.pem\"\ntls_key = \"ca.pem\"") =>
        "backend.mail1.tls_certificate", 3, "no use with tls \"none\"", "starttls";
    a_certificate_for_a_backend_without_its_key: format!("{BACKEND}tls = \"implicit\"\ntls_certificate = \"ca.pem\"") =>
        "backend.mail1.tls_certificate", 4, "has no key", "add tls_key";
    a_key_for_a_backend_without_its_certificate: format!("{BACKEND}tls = \"implicit\"\ntls_key = \"ca.pem\"") =>
        "backend.mail1.tls_key", 4, "has no certificate", "add tls_certificate";
    a_certificate_for_a_backend_that_is_not_there: format!("{BACKEND}tls = \"implicit\"\ntls_certificate = \"none\"\ntls_key = \"ca.pem\"") =>
        "backend.mail1.tls_certificate", 4, "cannot be read", "correct the path";
    a_login_by_certificate_without_one: format!("{BACKEND}tls = \"implicit\"\nlogin_external = true") =>
        "backend.mail1.login_external", 4, "no certificate to log in by", "add tls_certificate";
    a_login_by_certificate_beside_a_master: format!("{BACKEND}tls = \"implicit\"\ntls_certificate = \"ca.pem\"\ntls_key = \"ca.pem\"\nlogin_external = true\nmaster_user = \"m\"\nmaster_password = \"a\"") =>
        "backend.mail1.login_external", 6, "second way", "remove it";
    a_login_by_certificate_without_tls_for_one_protocol: format!("{BACKEND}tls = \"implicit\"\ntls_certificate = \"ca.pem\"\ntls_key = \"ca.pem\"\nlogin_external = true\npop3_tls = \"none\"") =>
        "backend.mail1.login_external", 6, "no use without TLS", "starttls";
    too_few_rounds_of_scram: "[auth]\nscram_rounds = 1000" => "auth.scram_rounds", 2, "must be at least 4096", "write 4096 or more";
    a_name_to_verify_without_tls: format!("{BACKEND}tls_name = \"m\"") => "backend.mail1.tls_name", 3, "no use with tls \"none\"", "starttls";
    a_backend_with_the_port_in_its_host: "[backend.mail1]\nhost = \"mail1:143\"" => "backend.mail1.host", 2, "not a host name", "key of its own";
    a_backend_with_an_impossible_name: "[backend.\"mail 1\"]\nhost = \"mail1\"" => "backend.\"mail 1\"", 1, "is not a name", "letters, digits";
    a_namespace_with_braces: "[store]\nnamespace = \"{a}\"" => "store.namespace", 2, "is not a name", "letters, digits";
}

fn store(url: &str) -> String {
    format!("[store]\nkind = \"redis\"\nurl = \"{url}\"")
}

// URLs of the store
fault! {
    a_url_of_another_kind: store("http://h") => "store.url", 3, "does not start with \"redis://\"", "redis://user:password@host";
    a_url_without_host: store("redis://") => "store.url", 3, "no valid host", "redis://user:password@host";
    a_url_with_port_zero: store("redis://h:0") => "store.url", 3, "no valid host and port", "host:6379";
    a_url_with_a_broken_address: store("redis://[::g]:1") => "store.url", 3, "no valid host", "host:6379";
    a_url_with_a_broken_escape: store("redis://:%4@h") => "store.url", 3, "broken %-escape", "%XX";
    a_url_with_a_named_database: store("redis://h/main") => "store.url", 3, "no valid database", "6379/0";
    a_socket_with_a_relative_path: store("unix://redis.sock") => "store.url", 3, "no absolute path", "unix:///run";
    a_url_that_is_a_number: "[store]\nkind = \"redis\"\nurl = 5" => "store.url", 3, "must be a URL in quotes", "redis://";
}

fn redis(lines: &str) -> String {
    format!("[store]\nkind = \"redis\"\n{lines}")
}

// Sentinel, Cluster and TLS
fault! {
    no_shard_at_all: redis("url = \"redis://h\"\nshards = 0") => "store.shards", 4, "at least 1", "1 or more";
    more_shards_than_there_may_be: redis("url = \"redis://h\"\nshards = 1025") => "store.shards", 4, "at most 1024", "1024 or less";
    shards_of_the_embedded_store: "[store]\nshards = 2" => "store.shards", 2, "no use with store.kind \"memory\"", "kind = \"redis\"";
    sentinels_for_the_embedded_store: "[store]\nsentinels = [\"h\"]" => "store.sentinels", 2, "no use with store.kind \"memory\"", "kind = \"redis\"";
    sentinels_beside_a_url: redis("url = \"redis://h\"\nsentinels = [\"s\"]\nmaster = \"m\"") => "store.sentinels", 4, "second time besides store.url", "remove one";
    a_cluster_beside_sentinels: redis("cluster = [\"n\"]\nsentinels = [\"s\"]\nmaster = \"m\"") => "store.cluster", 3, "second time besides store.sentinels", "remove one";
    sentinels_without_a_master: redis("sentinels = [\"s\"]") => "store.master", 1, "is missing", "master = \"mymaster\"";
    a_master_without_sentinels: redis("url = \"redis://h\"\nmaster = \"m\"") => "store.master", 4, "no use without store.sentinels", "add sentinels";
    a_login_for_no_sentinels: redis("cluster = [\"n\"]\nsentinel_password_file = \"word\"") => "store.sentinel_password_file", 4, "no use without store.sentinels", "remove it";
    two_passwords_for_the_sentinels: redis("sentinels = [\"s\"]\nmaster = \"m\"\nsentinel_password = \"a\"\nsentinel_password_file = \"word\"") =>
        "store.sentinel_password_file", 6, "second password", "remove one";
    two_passwords_for_the_cluster: redis("cluster = [\"n\"]\npassword = \"a\"\npassword_file = \"word\"") => "store.password_file", 5, "second password", "remove one";
    a_user_beside_that_of_the_url: redis("url = \"redis://ada@h\"\nusername = \"bob\"") => "store.username", 4, "second username", "redis://user@host";
    a_password_beside_that_of_the_url: redis("url = \"redis://:a@h\"\npassword = \"b\"") => "store.password", 4, "second password", "redis://:password@host";
    a_database_beside_the_url: redis("url = \"redis://h\"\ndatabase = 2") => "store.database", 4, "second database", "redis://host/1";
    a_database_in_a_cluster: redis("cluster = [\"n\"]\ndatabase = 2") => "store.database", 4, "no database but 0", "namespace";
    a_sentinel_that_is_a_url: redis("sentinels = [\"redis://s\"]\nmaster = \"m\"") => "store.sentinels", 3, "(item 1) is not a host", "host.example.org:26379";
    a_node_with_port_zero: redis("cluster = [\"n\", \"n:0\"]") => "store.cluster", 3, "(item 2) is not a host", "host.example.org:6379";
    tls_beside_a_url_without: redis("url = \"redis://h\"\ntls = true") => "store.tls", 4, "says itself", "rediss://";
    authorities_of_a_store_without_tls: redis("url = \"redis://h\"\ntls_ca = \"ca.pem\"") => "store.tls_ca", 4, "no use without TLS", "rediss://";
    authorities_of_the_store_that_are_not_there: redis("url = \"rediss://h\"\ntls_ca = \"none\"") => "store.tls_ca", 4, "cannot be read", "correct the path";
    a_certificate_for_the_store_without_key: redis("cluster = [\"n\"]\ntls = true\ntls_certificate = \"cert.pem\"") => "store.tls_certificate", 5, "needs store.tls_key", "add tls_key";
    a_key_for_the_store_without_certificate: redis("cluster = [\"n\"]\ntls = true\ntls_key = \"key.pem\"") => "store.tls_key", 5, "needs store.tls_certificate", "add tls_certificate";
}

#[test]
fn a_file_without_listener_and_backend_says_both() {
    let faults = Config::parse("name = \"a\"\n", "homing.toml").unwrap_err();
    let said: Vec<_> = faults.list().iter().map(|fault| (fault.line, fault.meaning.as_str())).collect();
    assert_eq!(said, [(1, "there is no [[listener]]"), (1, "there is no [backend.NAME]")]);
    assert!(faults.list()[0].remedy.contains("[[listener]]"));
    assert!(faults.list()[1].remedy.contains("[backend.mail1]"));
}

#[test]
fn all_faults_are_told_at_once_in_the_order_of_the_file() {
    let text = "nmae = \"x\"\n[fleet]\nlease = \"5\"\nstrict = 1\n[limits]\nline = 1\n[backend.mail1]\nwheight = 3\n[log]\nlevel = \"a=b=c\"\n";
    let lines: Vec<_> = faults(text).into_iter().map(|fault| (fault.line, fault.column, fault.key)).collect();
    let expected = [
        (1, 1, "nmae"),
        (3, 9, "fleet.lease"),
        (4, 10, "fleet.strict"),
        (6, 8, "limits.line"),
        (7, 1, "backend.mail1.host"),
        (8, 1, "backend.mail1.wheight"),
        (10, 9, "log.level"),
    ];
    assert_eq!(lines, expected.map(|(line, column, key)| (line, column, key.to_owned())));
}

#[test]
fn columns_count_characters() {
    let faults = faults("äöü = 1\n");
    assert_eq!((faults[0].line, faults[0].column), (1, 1));
    let faults = self::faults("name = \"ß\"; x = 1\n");
    assert_eq!((faults[0].line, faults[0].column), (1, 11));
}

#[test]
fn different_ports_families_and_ports_chosen_by_the_system_do_not_collide() {
    let listeners = ["0.0.0.0:143", "[::]:143", "127.0.0.1:144", "127.0.0.1:0", "127.0.0.1:0", "127.0.0.2:144"];
    let text: String = listeners.iter().map(|address| plain(address)).collect();
    assert!(Config::parse(&format!("{text}{BACKEND}"), "homing.toml").is_ok());
}

#[test]
fn the_report_shows_the_line_with_a_caret_the_consequence_and_the_remedy() {
    let text = format!("{LISTENER}{BACKEND}[fleet]\nlease = \"500ms\" # short\n");
    let report = Config::parse(&text, "homing.toml").unwrap_err().report(false);
    for part in [
        "fleet.lease is \"500ms\"",
        "homing.toml:8:9",
        "8 | lease = \"500ms\" # short",
        "^^^|^^^",
        "homing does not start",
        "help: write \"1s\" or more",
        "homing.toml: 1 fault",
    ] {
        assert!(report.contains(part), "{part} is not in\n{report}");
    }
    assert!(!report.contains("mail1"), "only the line at fault is shown:\n{report}");
}

#[test]
fn the_log_form_has_a_line_for_each_fault() {
    let text = format!("{LISTENER}{BACKEND}[fleet]\nlease = \"500ms\"\nstrict = 1\n");
    let lines = Config::parse(&text, "homing.toml").unwrap_err().to_string();
    let starts: Vec<_> = lines.lines().map(|line| line.split(' ').next().unwrap()).collect();
    assert_eq!(starts, ["homing.toml:8:9:", "homing.toml:9:10:"]);
}

#[test]
fn a_file_that_cannot_be_read_says_so() {
    let faults = Config::load(std::path::Path::new("/nowhere/homing.toml")).unwrap_err();
    assert!(faults.report(false).contains("/nowhere/homing.toml cannot be read"));
    assert!(faults.list()[0].remedy.contains("--config"));
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("homing.toml");
    std::fs::write(&path, [b'#', 0xff, 0xfe]).unwrap();
    assert!(Config::load(&path).unwrap_err().to_string().contains("UTF-8"));
    std::fs::write(&path, " ".repeat((1 << 20) + 1)).unwrap();
    assert!(Config::load(&path).unwrap_err().to_string().contains("more than"));
}

#[test]
fn i9_no_report_shows_a_password_whatever_is_wrong_around_it() {
    let texts = [
        "[store]\nurl = \"redis://:hunter2@h\"\n".to_owned(),
        "[store]\nkind = \"redis\"\nurl = \"http://:hunter2@h\"\n".to_owned(),
        "[store]\nkind = \"redis\"\nurl = 'redis://:hunter2@h:x'\n".to_owned(),
        "[store]\npasword = \"hunter2\"\n".to_owned(),
        "[store]\npassword = \"hunter2\"\nsentinel_password = \"hunter2\"\n".to_owned(),
        "store = { pasword = \"hunter2\" }\n".to_owned(),
        "secret = { of = { mine = \"hunter2\" } }\n".to_owned(),
        format!("{BACKEND}master_password = \"hunter2\"\n"),
        format!("{BACKEND}master_password = [\"hunter2\"]\n"),
        format!("{BACKEND}master_password = \"hunter2\n"),
        format!("{BACKEND}master_password = \"\"\"\nhunter2\"\"\"\n"),
        "[store]\nurl = \"redis://:hunter2@h\n".to_owned(),
        "x = \"\"\"\nhunter2 \\q\"\"\"\n".to_owned(),
        "x = \'\'\'\nhunter2 \u{1}\'\'\'\n".to_owned(),
        "backend = { mail1 = { port = 0, master_password = \"hunter2\", host = 5 } }\n".to_owned(),
    ];
    for text in texts {
        let faults = Config::parse(&text, "homing.toml").unwrap_err();
        for shown in [faults.report(false), faults.report(true), faults.to_string(), format!("{faults:?}")] {
            assert!(!shown.contains("hunter2"), "{shown}");
        }
    }
}

proptest! {
    #[test]
    fn arbitrary_text_is_refused_without_a_panic(text in "\\PC*") {
        if let Err(faults) = Config::parse(&text, "homing.toml") {
            prop_assert!(!faults.list().is_empty());
            faults.report(false);
        }
    }

    #[test]
    fn settings_shuffled_and_broken_anywhere_are_answered_without_a_panic(
        lines in prop::collection::vec(line(), 0..30), cut in 0_usize..2000,
    ) {
        let text = lines.join("\n");
        let text = &text[..text.floor_char_boundary(cut)];
        if let Err(faults) = parse_in(std::path::Path::new("/nowhere"), text) {
            for fault in faults.list() {
                prop_assert!(fault.line >= 1 && fault.line <= text.lines().count().max(1) + 1);
            }
            faults.report(true);
        }
    }
}

/// A line of the default file, commented in, or something close to one.
fn line() -> impl Strategy<Value = String> {
    let lines: Vec<_> = Config::default_file().lines().map(|line| line.trim_start_matches('#').to_owned()).collect();
    let values =
        prop::sample::select(vec!["5", "\"ä\"", "[", "{}", "[[1]]", "1979-05-27", "\"-1s\"", "nan", "'''", ""]);
    let known = prop::sample::select(lines);
    (known, values, 0..4).prop_map(|(line, value, kind)| match (kind, line.split_once(" = ")) {
        (0, Some((key, _))) => format!("{key} = {value}"),
        _ => line,
    })
}

fn ldap(keys: &str) -> String {
    format!("[[passdb]]\nkind = \"ldap\"\nuri = [\"ldap://h\"]\n{keys}\n")
}

fn sql(keys: &str) -> String {
    format!("[[passdb]]\nkind = \"sql\"\nurl = \"postgres://h@db/m\"\n{keys}\n")
}

// Directories and databases
fault! {
    a_directory_without_uri: "[[passdb]]\nkind = \"ldap\"\nbase = \"dc=x\"" => "passdb[1].uri", 1, "is missing", "add uri";
    a_directory_without_any_server: ldap("base = \"dc=x\"").replace("\"ldap://h\"", "") => "passdb[1].uri", 3, "names no server", "at least one";
    a_directory_of_another_scheme: ldap("base = \"dc=x\"").replace("ldap://h", "http://h") => "passdb[1].uri", 3, "not the address of a directory", "ldaps://";
    a_directory_without_a_place_to_search: ldap("") => "passdb[1]", 1, "neither base nor user_dn", "add base";
    a_filter_that_names_nobody: ldap("base = \"dc=x\"\nfilter = \"(uid=ann)\"") => "passdb[1].filter", 5, "does not name the user", "%u";
    a_filter_with_an_unknown_variable: ldap("base = \"dc=x\"\nfilter = \"(uid=%x)\"") => "passdb[1].filter", 5, "a % that is none of", "%u";
    an_entry_name_that_names_nobody: ldap("user_dn = \"dc=x\"") => "passdb[1].user_dn", 4, "does not name the user", "%u";
    a_bind_dn_without_password: ldap("base = \"dc=x\"\nbind_dn = \"cn=h\"") => "passdb[1].bind_dn", 5, "has no password", "bind_password_file";
    a_bind_password_of_nobody: ldap("base = \"dc=x\"\nbind_password_file = \"word\"") => "passdb[1].bind_password_file", 5, "without bind_dn", "add bind_dn";
    a_bind_password_file_that_is_not_there: ldap("base = \"dc=x\"\nbind_dn = \"cn=h\"\nbind_password_file = \"none\"") => "passdb[1].bind_password_file", 6, "cannot be read", "first line";
    starttls_without_a_plain_server: ldap("base = \"dc=x\"\nstarttls = true").replace("ldap://", "ldaps://") => "passdb[1].starttls", 5, "without an ldap:// server", "remove it";
    an_authority_without_tls: ldap("base = \"dc=x\"\ntls_ca = \"ca.pem\"") => "passdb[1].tls_ca", 5, "no use without TLS", "starttls = true";
    a_list_without_base: ldap("user_dn = \"uid=%n\"\nlist_filter = \"(a=*)\"") => "passdb[1].list_filter", 5, "no use without base", "add base";
    a_method_that_is_none: ldap("base = \"dc=x\"\nmethod = \"compare\"") => "passdb[1].method", 5, "\"bind\", \"password\"", "one of these words";
    a_scope_that_is_none: ldap("base = \"dc=x\"\nscope = \"subtree\"") => "passdb[1].scope", 5, "\"sub\", \"one\", \"base\"", "";
    fields_that_are_no_table: ldap("base = \"dc=x\"\nfields = [\"uid=user\"]") => "passdb[1].fields", 5, "must be a table of fields", "{ user = \"uid\"";
    a_field_without_attribute: ldap("base = \"dc=x\"\nfields = { host = 5 }") => "passdb[1].fields", 5, "without a proper attribute", "{ user = \"uid\"";
    an_answer_that_may_take_no_time: ldap("base = \"dc=x\"\ntimeout = \"0s\"") => "passdb[1].timeout", 5, "at least \"10ms\"", "or more";
    no_questions_at_once: ldap("base = \"dc=x\"\nparallel = 0") => "passdb[1].parallel", 5, "at least 1", "or more";
    no_failures_before_a_pause: ldap("base = \"dc=x\"\nfailures = 0") => "passdb[1].failures", 5, "at least 1", "or more";
    a_pause_beyond_patience: ldap("base = \"dc=x\"\npause = \"11min\"") => "passdb[1].pause", 5, "at most \"10min\"", "or less";
    a_database_without_query: sql("") => "passdb[1].query", 1, "is missing", "add query";
    a_database_without_url: "[[passdb]]\nkind = \"sql\"\nquery = \"SELECT :user\"" => "passdb[1].url", 1, "is missing", "add url";
    a_database_of_another_kind: sql("query = \"SELECT :user\"").replace("postgres:", "oracle:") => "passdb[1].url", 3, "not the address of a database", "sqlite://";
    a_password_in_a_url: sql("query = \"SELECT :user\"").replace("h@db", "h:word@db") => "passdb[1].url", 3, "has a password", "password_file";
    a_query_that_names_nobody: sql("query = \"SELECT p FROM u\"") => "passdb[1].query", 4, "does not name the user", ":user";
    a_query_with_an_unknown_parameter: sql("query = \"SELECT :user, :password\"") => "passdb[1].query", 4, "unknown parameter :password", ":user";
    a_parameter_in_quotes: sql("query = \"SELECT p FROM u WHERE n = ':user'\"") => "passdb[1].query", 4, "in quotes", "remove the quotes";
    a_query_as_dovecot_writes_it: sql("query = \"SELECT p FROM u WHERE n = '%u'\"") => "passdb[1].query", 4, "as Dovecot writes it", ":user";
    a_list_of_one_user: sql("query = \"SELECT :user\"\nlist_query = \"SELECT :user\"") => "passdb[1].list_query", 5, "has a parameter", "remove it";
    a_password_for_a_file: sql("query = \"SELECT :user\"\npassword_file = \"word\"").replace("postgres://h@db", "sqlite:///x") => "passdb[1].password_file", 5, "no use with SQLite", "remove it";
}

fn oauth2(keys: &str) -> String {
    format!("[[passdb]]\nkind = \"oauth2\"\n{keys}\n")
}

fn policy(keys: &str) -> String {
    format!("[auth_policy]\nserver_url = \"http://h/\"\n{keys}\n")
}

// Tokens and policies
fault! {
    tokens_without_any_key: oauth2("") => "passdb[1]", 1, "no keys to verify tokens with", "add issuer";
    keys_in_two_places: oauth2("jwks_url = \"https://h/\"\njwks_file = \"word\"") => "passdb[1].jwks_file", 4, "stands beside jwks_url", "remove one";
    keys_in_a_file_that_is_not_there: oauth2("jwks_file = \"none\"") => "passdb[1].jwks_file", 3, "cannot be read", "";
    keys_at_no_url: oauth2("jwks_url = \"ftp://h/\"") => "passdb[1].jwks_url", 3, "does not start with", "https://";
    an_issuer_without_a_name: oauth2("issuer = \"\"") => "passdb[1].issuer", 3, "is empty", "printable";
    no_algorithm_at_all: oauth2("issuer = \"https://h\"\nalgorithms = []") => "passdb[1].algorithms", 4, "is empty", "at least one";
    an_algorithm_that_signs_nothing: oauth2("issuer = \"https://h\"\nalgorithms = [\"none\"]") => "passdb[1].algorithms", 4, "must be one of", "";
    a_shared_secret_that_is_not_given: oauth2("issuer = \"https://h\"\nalgorithms = [\"HS256\"]") => "passdb[1].algorithms", 4, "without hmac_key_file", "add hmac_key_file";
    a_shared_secret_for_nothing: oauth2("hmac_key_file = \"hmac\"") => "passdb[1].hmac_key_file", 3, "has no use without HS256", "HS256";
    a_shared_secret_that_can_be_guessed: oauth2("algorithms = [\"HS256\"]\nhmac_key_file = \"word\"") => "passdb[1].hmac_key_file", 4, "less than 32 bytes", "longer";
    a_claim_without_name: oauth2("issuer = \"https://h\"\nuser_claim = \"\"") => "passdb[1].user_claim", 4, "is empty", "printable";
    a_client_that_nobody_asks_for: oauth2("issuer = \"https://h\"\nclient_id = \"x\"") => "passdb[1].client_id", 4, "no use with method \"local\"", "introspection";
    nobody_to_ask_about_tokens: oauth2("method = \"introspection\"") => "passdb[1]", 1, "nobody to ask", "introspection_url";
    a_client_without_password: oauth2("method = \"introspection\"\nissuer = \"https://h\"\nclient_id = \"x\"") => "passdb[1].client_id", 5, "no use without client_secret_file", "add client_secret_file";
    keys_that_nobody_uses: oauth2("method = \"introspection\"\nissuer = \"https://h\"\njwks_url = \"https://h/\"") => "passdb[1].jwks_url", 5, "no use with method \"introspection\"", "local";
    a_policy_server_without_nonce: policy("") => "auth_policy.server_url", 2, "needs hash_nonce", "add hash_nonce";
    a_policy_attribute_without_value: policy("hash_nonce = \"x\"\nrequest_attributes = \"login\"") => "auth_policy.request_attributes", 4, "without a value", "login=%{user}";
    a_policy_attribute_of_nothing: policy("hash_nonce = \"x\"\nrequest_attributes = \"a=%{password}\"") => "auth_policy.request_attributes", 4, "unknown variable password", "%{user}";
    a_policy_attribute_said_twice: policy("hash_nonce = \"x\"\nrequest_attributes = \"a=1 a/b=2\"") => "auth_policy.request_attributes", 4, "says twice", "";
    a_policy_authority_without_tls: policy("hash_nonce = \"x\"\ntls_ca = \"ca.pem\"") => "auth_policy.tls_ca", 4, "no use with an http:// server", "https://";
    a_policy_hash_that_is_none: policy("hash_nonce = \"x\"\nhash_mech = \"md5\"") => "auth_policy.hash_mech", 4, "must be one of", "";
}
