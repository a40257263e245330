//! Who ends a connection, when, and what the log says of it.

use std::time::Duration;

use homing::model::Ending;

use crate::parts::{Line, Site, until};

#[tokio::test]
async fn a_client_that_breaks_off_while_the_backend_is_silent_is_noticed() {
    let site = Site::start().await;
    let mut client = site.client().await;
    client.send("a LOGIN ann secret\r\n").await;
    let mut server = site.server.accept().await;
    server.read_login().await;
    let address = client.reset();
    server.expect_end().await;
    drop(server);
    site.expect_ending(address, ["client_lost", "client", "connect", "none"]).await;
    site.sessions(0).await;
}

#[tokio::test]
async fn a_client_that_breaks_off_while_it_waits_for_its_home_is_noticed() {
    let site = Site::with(|config| config.limits.close_timeout = Duration::from_secs(60)).await;
    let (mut one, mut two) = (site.client().await, site.client().await);
    let mut server = one.log_in("ann", &site.server).await;
    // A kick, and a backend that does not close: who comes now must wait.
    site.proxy.fleet().shards()[0].ledger.close_all(Ending::Kicked);
    one.expect_start("* BYE [UNAVAILABLE] Your mailbox has moved").await;
    server.expect_end().await;
    two.send("a LOGIN ann secret\r\n").await;
    two.expect_silence().await;
    let address = two.reset();
    site.expect_ending(address, ["client_lost", "client", "placement", "none"]).await;
    drop(server);
    site.expect_ending(one.address, ["kicked", "proxy", "relay", "home"]).await;
}

#[tokio::test]
async fn a_proxy_that_goes_down_ends_logins_and_sessions_with_a_word() {
    let site = Site::start().await;
    let (mut waiting, mut idle, mut inside) = (site.client().await, site.client().await, site.client().await);
    let mut home = inside.log_in("bob", &site.server).await;
    waiting.send("a LOGIN ann secret\r\n").await;
    let mut silent = site.server.accept().await;
    silent.read_login().await;
    let talk = async {
        waiting.expect("a NO [UNAVAILABLE] This server is going down; connect again.\r\n").await;
        for client in [&mut waiting, &mut idle, &mut inside] {
            client.expect("* BYE [UNAVAILABLE] This server is going down; connect again.\r\n").await;
        }
        home.expect_end().await;
        drop(home);
    };
    let hang_up = async {
        silent.expect_end().await;
        drop(silent);
    };
    tokio::join!(site.proxy.stop(), talk, hang_up);
    site.expect_ending(waiting.address, ["shutdown", "proxy", "connect", "shutting_down"]).await;
    site.expect_ending(idle.address, ["shutdown", "proxy", "preauth", "none"]).await;
    site.expect_ending(inside.address, ["shutdown", "proxy", "relay", "home"]).await;
    assert_eq!(site.holding().sessions, 0);
    assert!(tokio::net::TcpStream::connect(site.address()).await.is_err(), "nobody is let in any more");
}

#[tokio::test]
async fn login_timeout_counts_from_accept_to_login_whoever_is_slow() {
    let site = Site::with(|config| config.limits.login_timeout = Duration::from_secs(3)).await;
    let (mut idle, mut waiting) = (site.client().await, site.client().await);
    waiting.send("a LOGIN ann secret\r\n").await;
    let mut server = site.server.accept().await;
    server.read_login().await;
    server.expect_end().await;
    drop(server);
    waiting.expect_start("a NO [UNAVAILABLE] Your mailbox cannot be reached").await;
    for client in [&mut waiting, &mut idle] {
        client.expect("* BYE Disconnected for inactivity; log in sooner next time.\r\n").await;
        client.expect_end().await;
    }
    site.expect_ending(waiting.address, ["login_timeout", "proxy", "connect", "backend_unavailable"]).await;
    site.expect_ending(idle.address, ["client_idle", "client", "preauth", "none"]).await;
}

#[tokio::test]
async fn a_client_that_is_still_sending_hears_our_last_words() {
    let site = Site::start().await;
    let mut client = site.client().await;
    client.send(vec![b'x'; 100_000]).await;
    client.expect_start("* BYE Line too long").await;
    client.send(vec![b'x'; 1000]).await;
    client.expect_end().await;
    let line = site.expect_ending(client.address, ["client_fault", "client", "preauth", "none"]).await;
    assert_eq!((line["detail"].as_str(), line["level"].as_str()), ("line too long", "INFO"));
}

#[tokio::test]
async fn a_client_that_goes_without_a_login_is_of_no_interest() {
    let site = Site::start().await;
    let client = site.client().await;
    let address = client.address;
    drop(client);
    let line = site.expect_ending(address, ["client_closed", "client", "preauth", "none"]).await;
    assert_eq!(line["level"], "DEBUG");
}

#[tokio::test]
async fn above_limits_connections_clients_are_turned_away_until_one_leaves() {
    let site = Site::with(|config| config.limits.connections = 1).await;
    let first = site.client().await;
    let mut second = site.dial().await;
    second.expect("* BYE [UNAVAILABLE] Too many connections at the moment; try again in a minute.\r\n").await;
    second.expect_end().await;
    site.expect_ending(second.address, ["overloaded", "proxy", "header", "none"]).await;
    assert!(!site.lines(|line| line["level"] == "WARN" && line.contains_key("turned_away")).is_empty());
    drop(first);
    until("the first has gone", || site.proxy.services().connections.open() == 0).await;
    site.client().await;
}

#[tokio::test]
async fn a_backend_that_breaks_off_is_to_blame() {
    let site = Site::start().await;
    let mut client = site.client().await;
    let server = client.log_in("ann", &site.server).await;
    server.reset();
    client.expect_end().await;
    let line: Line = site.expect_ending(client.address, ["backend_lost", "backend", "relay", "home"]).await;
    assert_eq!(line["message"], "session");
}

#[tokio::test]
async fn an_isolated_proxy_ends_sessions_with_a_reset() {
    let site = Site::start().await;
    let mut client = site.client().await;
    let mut server = client.log_in("ann", &site.server).await;
    site.proxy.fleet().shards()[0].ledger.close_all(Ending::Isolated);
    client.expect_start("* BYE [UNAVAILABLE] This server is cut off").await;
    site.expect_ending(client.address, ["isolated", "proxy", "relay", "home"]).await;
    server.expect_reset().await;
    site.sessions(0).await;
}

/// Everybody is told to go, as by a move.
fn kick(site: &Site) {
    site.proxy.fleet().shards()[0].ledger.close_all(Ending::Kicked);
}

#[tokio::test]
async fn a_user_who_is_kicked_gets_the_whole_message_first() {
    let site = Site::start().await;
    let mut client = site.client().await;
    let mut server = client.log_in("ann", &site.server).await;
    client.send("b FETCH 1 BODY[]\r\n").await;
    server.expect("b FETCH 1 BODY[]\r\n").await;
    server.send("* 1 FETCH (BODY[] {14}\r\nDear").await;
    client.expect("* 1 FETCH (BODY[] {14}\r\n").await;
    kick(&site);
    client.expect_silence().await;
    server.send(" Ann,\r\nhi)\r\nb OK done\r\n").await;
    client.expect("Dear Ann,\r\nhi)\r\nb OK done\r\n").await;
    client.expect_start("* BYE [UNAVAILABLE] Your mailbox has moved").await;
    server.expect_end().await;
    drop(server);
    site.expect_ending(client.address, ["kicked", "proxy", "relay", "home"]).await;
}

#[tokio::test]
async fn a_user_who_is_kicked_waits_for_a_slow_answer_no_longer_than_the_kick_deadline() {
    let site = Site::with(|config| config.limits.kick_deadline = Duration::from_millis(200)).await;
    let mut client = site.client().await;
    let mut server = client.log_in("ann", &site.server).await;
    client.send("b SEARCH TEXT hay\r\n").await;
    server.expect("b SEARCH TEXT hay\r\n").await;
    kick(&site);
    client.expect_start("* BYE [UNAVAILABLE] Your mailbox has moved").await;
    server.expect_end().await;
    drop(server);
    site.expect_ending(client.address, ["kicked", "proxy", "relay", "home"]).await;
}

#[tokio::test]
async fn a_proxy_that_is_isolated_does_not_wait_for_those_it_has_kicked() {
    let site = Site::with(|config| config.limits.kick_deadline = Duration::from_secs(60)).await;
    let mut client = site.client().await;
    let mut server = client.log_in("ann", &site.server).await;
    client.send("b SEARCH TEXT hay\r\n").await;
    server.expect("b SEARCH TEXT hay\r\n").await;
    kick(&site);
    client.expect_silence().await;
    site.proxy.fleet().shards()[0].ledger.close_all(Ending::Isolated);
    server.expect_reset().await;
    site.expect_ending(client.address, ["isolated", "proxy", "relay", "home"]).await;
}

#[tokio::test]
async fn a_proxy_that_goes_down_lets_commands_under_way_finish() {
    let site = Site::start().await;
    let mut client = site.client().await;
    let mut server = client.log_in("ann", &site.server).await;
    client.send("b SEARCH TEXT hay\r\n").await;
    server.expect("b SEARCH TEXT hay\r\n").await;
    let talk = async {
        client.expect_silence().await;
        server.send("b OK done\r\n").await;
        client.expect("b OK done\r\n").await;
        client.expect("* BYE [UNAVAILABLE] This server is going down; connect again.\r\n").await;
        server.expect_end().await;
        drop(server);
    };
    tokio::join!(site.proxy.stop(), talk);
    site.expect_ending(client.address, ["shutdown", "proxy", "relay", "home"]).await;
}
