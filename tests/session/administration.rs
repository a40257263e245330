//! Administering mailboxes: homes, referrals, loops and failures, with mail servers whose every word the test says.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use homing::config::{BackendConfig, Config, ListenerConfig};
use homing::model::{BackendId, Protocol, Secret};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::front::certificate;
use crate::parts::{Line, Peer, Server, Site, until};

const LOGGED_IN: &str = "VERSION\tdoveadm-client\t1\t3\n-\n+\n";

/// Takes listeners, backends and `[doveadm]` from a file; the test plays every connection that a backend gets.
pub(crate) fn administer(config: &mut Config, file: &str) {
    let given = Config::parse(file, "test.toml").unwrap();
    config.listeners = given.listeners;
    config.doveadm = given.doveadm;
    for (name, backend) in given.backends {
        config.backends.insert(name, BackendConfig { probe: false, retry_budget: Duration::ZERO, ..backend });
    }
}

/// A door for doveadm; the backend "home" and another, "away", have doveadms that the test plays.
async fn site(change: impl FnOnce(&mut Config)) -> (Site, Server, Server) {
    let [home, away] = [Server::open().await, Server::open().await];
    let site = Site::with(|config| {
        let text = format!(
            "[[listener]]\naddress = \"127.0.0.1:0\"\nprotocol = \"doveadm\"\ntls = \"none\"\n[doveadm]\npassword = \"pw\"\n\
             [backend.home]\nhost = \"127.0.0.1\"\ndoveadm = \"tcp://{}\"\ndoveadm_password = \"inner\"\n\
             [backend.away]\nhost = \"127.0.0.2\"\ndoveadm = \"tcp://{}\"\ndoveadm_password = \"inner\"\nweight = 0\n",
            home.address, away.address
        );
        administer(config, &text);
        change(config);
    })
    .await;
    (site, home, away)
}

/// A client that is let in and speaks this minor version.
async fn client(site: &Site, minor: u32) -> Peer {
    let mut client = site.dial().await;
    let login = STANDARD.encode("\0doveadm\0pw");
    client.send(format!("VERSION\tdoveadm-server\t1\t{minor}\nPLAIN\t{login}\n")).await;
    client.expect(if minor > 0 { LOGGED_IN } else { "-\n+\n" }).await;
    client
}

/// The next connection to a mail server that speaks version 1.0 and lets us in; the command that it is told.
async fn asked(server: &Server) -> (Peer, String) {
    let mut peer = server.accept().await;
    peer.expect("VERSION\tdoveadm-server\t1\t3\n").await;
    peer.send("-\n").await;
    let login = STANDARD.encode("\0doveadm\0inner");
    peer.expect(&format!("PLAIN\t{login}\n")).await;
    peer.send("+\n").await;
    let command = peer.line().await;
    (peer, command)
}

/// The lines about commands of a client's session, by the client's address.
fn commands(site: &Site, client: &Peer) -> Vec<[String; 4]> {
    let address = client.address.to_string();
    let mine = |line: &Line| line.get("message").is_some_and(|text| text == "command") && line["client"] == address;
    let told = |line: Line| ["user", "command", "backend", "exit"].map(|name| line[name].clone());
    site.lines(mine).into_iter().map(told).collect()
}

#[tokio::test]
async fn a_session_is_counted_while_a_command_runs_and_until_the_server_has_closed() {
    let (site, home, _away) = site(|_| ()).await;
    let mut client = client(&site, 0).await;
    client.send("\tAnn\tquota get\t-u\tAnn\t--\n").await;
    let (mut server, command) = asked(&home).await;
    assert_eq!(command, "\tann\tquota get\t--\n");
    assert_eq!(site.holding().sessions, 1);
    server.send("User quota\tSTORAGE\t1\t").await;
    assert_eq!(client.line_to('\t', 3).await, "User quota\tSTORAGE\t1\t");
    server.send("\n+\n").await;
    server.expect_end().await;
    assert_eq!(site.holding().sessions, 1, "the server may still be at the mailbox");
    drop(server);
    client.expect("\n+\n").await;
    site.sessions(0).await;
    assert!(site.home("ann").await.is_some(), "the binding outlives the command");
    assert_eq!(commands(&site, &client), [["Ann", "quota get", "home", "0"]]);
}

#[tokio::test]
async fn who_is_referred_is_followed_to_another_server_of_the_fleet_and_stays_there() {
    let (site, home, away) = site(|_| ()).await;
    let mut client = client(&site, 0).await;
    client.send("\tann\tsearch\tall\n").await;
    let (mut server, _) = asked(&home).await;
    server.send(format!("\n-REFERRAL ann@{}\n", away.address)).await;
    drop(server);
    let (mut server, command) = asked(&away).await;
    assert_eq!(command, "\tann\tsearch\tall\n");
    server.send("1\t2\t\n+\n").await;
    drop(server);
    client.expect("1\t2\t\n+\n").await;
    assert_eq!(site.home("ann").await.unwrap().backend, Some(BackendId::new("away")));
    assert_eq!(commands(&site, &client), [["ann", "search", "away", "0"]]);
}

#[tokio::test]
async fn a_referral_out_of_the_fleet_or_in_a_circle_is_a_temporary_failure() {
    let (site, home, _away) = site(|config| config.limits.max_referrals = 1).await;
    let mut client = client(&site, 0).await;
    client.send("\tann\tsearch\tall\n").await;
    let (mut server, _) = asked(&home).await;
    server.send("\n-REFERRAL ann@elsewhere.example.org\n").await;
    drop(server);
    client.expect("\n-TEMPFAIL\n").await;
    client.send("\tann\tsearch\tall\n").await;
    for _ in 0..2 {
        let (mut server, _) = asked(&home).await;
        server.send(format!("\n-REFERRAL {}\n", home.address)).await;
        drop(server);
    }
    client.expect("\n-TEMPFAIL\n").await;
    site.sessions(0).await;
}

#[tokio::test]
async fn a_ttl_is_passed_on_one_less_and_ends_a_loop() {
    let (site, home, _away) = site(|_| ()).await;
    let mut client = client(&site, 3).await;
    client.send("x\tproxy-ttl=3\x01tforward=z\tann\tsearch\tall\n").await;
    let mut server = home.accept().await;
    server.expect("VERSION\tdoveadm-server\t1\t3\n").await;
    server.send("VERSION\tdoveadm-client\t1\t3\n+\n").await;
    server.expect("\t\tOPTION\tlog-passthrough\nx\tproxy-ttl=2\x01tforward=z\tann\tsearch\tall\n").await;
    server.send("L\0\0\0\x03\x04o\n\0\0\0\0\x03\n+\n").await;
    drop(server);
    // This client has not asked for what is logged.
    client.expect("\0\0\0\0\x03\n+\n").await;
    client.send("x\tproxy-ttl=0\tann\tsearch\tall\n").await;
    client.expect("\0\0\0\0\x0b\n").await;
    client.expect("-TEMPFAIL\n").await;
    home.expect_nobody().await;
}

#[tokio::test]
async fn a_server_that_breaks_off_is_silent_or_talks_nonsense_is_a_temporary_failure_that_says_why() {
    let (site, home, _away) = site(|config| config.doveadm.silence = Duration::from_secs(1)).await;
    for (words, closes, why) in [
        ("\0\0\0\0\x02a\t", true, "broke off"),
        ("", false, "does not answer within"),
        ("\0\0\0\0\x03\n*\n", false, "cannot be understood"),
    ] {
        let mut client = client(&site, 2).await;
        client.send("\tann\tsearch\tall\n").await;
        let mut server = home.accept().await;
        server.expect("VERSION\tdoveadm-server\t1\t3\n").await;
        server.send("VERSION\tdoveadm-client\t1\t2\n+\n").await;
        server.expect("\tann\tsearch\tall\n").await;
        server.send(words).await;
        if !closes {
            server.expect_end().await;
        }
        drop(server);
        let mut said = client.line().await;
        while !said.ends_with("-TEMPFAIL\n") {
            said += &client.line().await;
        }
        assert!(said.contains(why) && said.contains("\u{4}ann: "), "{said:?}");
        assert_eq!(commands(&site, &client)[0][3], "75");
    }
    site.sessions(0).await;
}

#[tokio::test]
async fn a_client_that_goes_leaves_the_session_counted_until_the_server_has_closed() {
    let (site, home, _away) = site(|_| ()).await;
    let mut client = client(&site, 0).await;
    client.send("\tann\tsave\nSubject: x\r\n").await;
    let (mut server, _) = asked(&home).await;
    server.expect("Subject: x\r\n").await;
    drop(client);
    server.expect_end().await;
    assert_eq!(site.holding().sessions, 1);
    drop(server);
    site.sessions(0).await;
}

#[tokio::test]
async fn what_is_sent_along_is_for_one_user_and_is_never_taken_for_commands() {
    let (site, home, away) = site(|_| ()).await;
    let mut client = client(&site, 0).await;
    client.send("\t\tsave\t-A\nSubject: x\n\n\tann\tpurge\n").await;
    client.expect("\n-USAGE\n").await;
    client.expect_end().await;
    home.expect_nobody().await;
    away.expect_nobody().await;
}

#[tokio::test]
async fn a_command_that_runs_too_long_is_cut_off_when_its_user_must_leave() {
    let (site, home, _away) = site(|config| config.limits.kick_deadline = Duration::from_millis(100)).await;
    let mut client = client(&site, 0).await;
    client.send("\tann\tforce-resync\t*\n").await;
    let (mut server, _) = asked(&home).await;
    site.proxy.fleet().shards()[0].ledger.close_all(homing::model::Ending::Kicked);
    server.expect_end().await;
    drop(server);
    client.expect("\n-TEMPFAIL\n").await;
    site.sessions(0).await;
}

#[tokio::test]
async fn commands_for_many_come_out_in_order_whoever_is_ready_first_and_the_worst_code_counts() {
    let (site, home, away) = site(|config| config.doveadm.parallel = 2).await;
    let mut client = client(&site, 0).await;
    client.send("\t\tsearch\t-A\tall\n").await;
    // The names are asked for at the first server, which is "away".
    let (mut names, question) = asked_old(&away).await;
    assert_eq!(question, "\t\tuser\t*\n");
    names.send("{\"userList\":[\"cat\",\"ann\",\"bob\"]}\n+\n").await;
    drop(names);
    let (one, two) = (asked(&home).await, asked(&home).await);
    home.expect_nobody().await;
    let (mut ann, mut bob) = if one.1.contains("ann") { (one.0, two.0) } else { (two.0, one.0) };
    bob.send("b\t\n-NOUSER\n").await;
    drop(bob);
    ann.send("a\t\n+\n").await;
    drop(ann);
    let (mut cat, command) = asked(&home).await;
    assert_eq!(command, "\tcat\tsearch\t-A\tall\n", "the server names the user in each row");
    cat.send("c\t\n+\n").await;
    drop(cat);
    client.expect("a\tb\tc\t\n-NOUSER\n").await;
    let mut told = commands(&site, &client);
    told.sort();
    assert_eq!(told.iter().map(|line| line[3].as_str()).collect::<Vec<_>>(), ["0", "67", "0"]);
}

/// The same as [`asked`], of a question of the proxy's own, which speaks version 1.0.
async fn asked_old(server: &Server) -> (Peer, String) {
    let mut peer = server.accept().await;
    peer.expect("VERSION\tdoveadm-server\t1\t0\n").await;
    peer.send("+\n").await;
    let command = peer.line().await;
    (peer, command)
}

#[tokio::test]
async fn where_starttls_is_asked_for_no_password_is_taken_before_it_by_either_way() {
    let directory = tempfile::tempdir().unwrap();
    let (site, _home, _away) = site(|config| {
        config.tls.certificates = vec![certificate(directory.path(), "door")];
        config.listeners[0].tls = homing::config::ListenerTls::StartTls;
    })
    .await;
    let login = STANDARD.encode("\0doveadm\0pw");
    let mut hasty = site.dial().await;
    hasty.send(format!("VERSION\tdoveadm-server\t1\t0\nPLAIN\t{login}\n")).await;
    hasty.expect("-\n-\n").await;
    hasty.expect_end().await;
    let mut browser = site.dial().await;
    browser.send("POST /doveadm/v1 HTTP/1.1\r\nHost: x\r\nAuthorization: Basic ZG92ZWFkbTpwdw==\r\n\r\n").await;
    browser.expect_start("HTTP/1.1 403 ").await;
    let mut client = site.dial().await;
    client.send("VERSION\tdoveadm-server\t1\t2\nSTARTTLS\n").await;
    client.expect("VERSION\tdoveadm-client\t1\t3\n-\n").await;
    client.start_tls().await;
    client.send(format!("PLAIN\t{login}\n\t\treload\n")).await;
    client.expect("+\n").await;
    assert!(client.line().await.contains("concerns one machine"));
}

#[tokio::test]
async fn a_wrong_password_ends_the_connection_and_stands_in_the_log_without_the_password() {
    let (site, home, _away) = site(|_| ()).await;
    let mut client = site.dial().await;
    client.send(format!("VERSION\tdoveadm-server\t1\t2\nPLAIN\t{}\n", STANDARD.encode("\0doveadm\0PW-wrong"))).await;
    client.expect("VERSION\tdoveadm-client\t1\t3\n-\n-\n").await;
    client.expect_end().await;
    let line = site.expect_ending(client.address, ["too_many_failures", "client", "preauth", "bad_credentials"]).await;
    assert!(!format!("{line:?}").contains("PW-wrong"));
    home.expect_nobody().await;
}

#[tokio::test]
async fn a_reload_changes_the_password_and_the_door_takes_the_new_one() {
    let (site, _home, _away) = site(|_| ()).await;
    let mut new = site.config.clone();
    new.doveadm.password = Some(std::sync::Arc::new(Secret::new(b"new".to_vec())));
    let changes = site.proxy.reload(new).await.unwrap();
    assert_eq!(changes.applied, ["doveadm.password"]);
    let mut old = site.dial().await;
    old.send(format!("VERSION\tdoveadm-server\t1\t0\nPLAIN\t{}\n", STANDARD.encode("\0doveadm\0pw"))).await;
    old.expect("-\n-\n").await;
    let mut client = site.dial().await;
    client.send(format!("VERSION\tdoveadm-server\t1\t0\nPLAIN\t{}\n", STANDARD.encode("\0doveadm\0new"))).await;
    client.expect("-\n+\n").await;
}

#[tokio::test]
async fn behind_a_load_balancer_the_true_client_stands_in_the_log() {
    let (site, _home, _away) = site(|config| {
        let listener = ListenerConfig {
            proxy_protocol: true,
            trusted_networks: vec!["127.0.0.0/8".parse().unwrap()],
            ..config.listeners[0].clone()
        };
        assert_eq!(listener.protocol, Protocol::Doveadm);
        config.listeners = vec![listener];
    })
    .await;
    let mut client = site.dial().await;
    let login = STANDARD.encode("\0doveadm\0pw");
    client.send("PROXY TCP4 203.0.113.77 198.51.100.1 4711 143\r\n").await;
    client.send(format!("VERSION\tdoveadm-server\t1\t0\nPLAIN\t{login}\n\t\treload\n")).await;
    client.expect("-\n+\n\n-NOPERM\n").await;
    let told = || site.lines(|line| line.get("client").is_some_and(|client| client == "203.0.113.77:4711"));
    until("the line about the command", || {
        told().iter().any(|line| line["message"] == "command" && line["exit"] == "77")
    })
    .await;
}

#[tokio::test]
async fn a_command_for_many_reaches_nobody_more_once_its_client_has_closed() {
    let (site, home, away) = site(|config| config.doveadm.parallel = 1).await;
    let mut client = client(&site, 2).await;
    client.send("\t\texpunge\t-A\tall\n").await;
    let (mut names, _) = asked_old(&away).await;
    client.half_close().await;
    // By the time that the names come, the end has come as well.
    names.send("{\"userList\":[\"ann\",\"bob\"]}\n+\n").await;
    drop(names);
    client.expect_start("L\0\0\0").await;
    home.expect_nobody().await;
    until("the end of the command", || site.holding().sessions == 0).await;
}

#[tokio::test]
async fn a_command_that_says_nothing_ends_when_its_clients_connection_breaks() {
    let (site, home, _away) = site(|_| ()).await;
    let mut client = client(&site, 0).await;
    client.send("\tann\tforce-resync\t*\n").await;
    let (mut server, _) = asked(&home).await;
    client.reset();
    server.expect_end().await;
    assert_eq!(site.holding().sessions, 1, "the server may still be at the mailbox");
    drop(server);
    site.sessions(0).await;
}

#[tokio::test]
async fn a_mail_that_a_server_does_not_take_is_given_up_and_never_sent_on_with_a_gap() {
    let (site, home, _away) = site(|config| {
        config.doveadm.silence = Duration::from_millis(300);
        config.limits.close_timeout = Duration::from_millis(100);
    })
    .await;
    let mut client = client(&site, 0).await;
    client.send("\tann\tsave\n").await;
    let (server, _) = asked(&home).await;
    // More than the kernel keeps on the way. Whoever sends it is told before the end of it.
    let (mut reading, mut writing) = client.into_tcp().into_split();
    let sending = tokio::spawn(async move {
        let lines = [b'x'; 64 * 1024];
        while writing.write_all(&lines).await.is_ok() {}
    });
    let mut said = String::new();
    reading.read_to_string(&mut said).await.unwrap();
    assert_eq!(said, "\n-TEMPFAIL\n");
    sending.await.unwrap();
    drop(server);
    site.sessions(0).await;
}

#[tokio::test]
async fn a_command_at_a_server_ends_when_the_proxy_goes_down() {
    let (site, home, away) = site(|_| ()).await;
    let mut client = client(&site, 0).await;
    client.send("\t\twho\n").await;
    let (mut one, mut two) = (asked(&home).await.0, asked(&away).await.0);
    let talk = async {
        one.expect_end().await;
        two.expect_end().await;
        drop((one, two));
        client.expect("\n-TEMPFAIL\n").await;
    };
    tokio::join!(site.proxy.stop(), talk);
}
