//! The backend learns who the client truly is, whichever way that was told to us, and both logs name a session alike.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use anyhow::ensure;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::harness::address::fresh_ip;
use crate::harness::fleet::PLAIN;
use crate::harness::proxy::text;
use crate::harness::witness::Visit;
use crate::harness::{Fleet, HaProxy, Imap, Result, User, eventually};

/// A listener behind a load balancer at a loopback address.
const BALANCED: &str =
    "tls = \"none\"\nplaintext_login = true\nproxy_protocol = true\ntrusted_networks = [\"127.0.0.1/32\"]\n";

/// Waits for the user's visit in the backends' logs.
async fn visit_of(fleet: &Fleet, user: &User) -> Result<Visit> {
    eventually("the login is in the backend's log", Duration::from_secs(60), async || {
        Ok(fleet.witness()?.last(&user.name)?.clone())
    })
    .await
}

/// Holds that the backend's log and ours know the client by `address`, and the session by one name.
async fn both_logs_say(fleet: &Fleet, user: &User, address: SocketAddr) -> Result {
    let visit = visit_of(fleet, user).await?;
    ensure!(visit.field("rip") == Some(&address.ip().to_string()), "{visit:?}");
    ensure!(visit.field("rport") == Some(&address.port().to_string()), "{visit:?}");
    let ending = fleet.proxy().ending_of(&user.name).await?;
    ensure!(text(&ending, "client") == address.to_string(), "{ending}");
    ensure!(text(&ending, "backend") == visit.backend, "{ending}");
    Ok(())
}

#[tokio::test]
async fn the_true_client_arrives_in_the_backends_log_by_id_under_our_session_name() -> Result {
    let fleet = Fleet::plan().start().await?;
    let user = &fleet.users[0];
    let mut imap = Imap::connect_from(fresh_ip(), fleet.proxy().address()).await?;
    let address = imap.local_address()?;
    imap.login(user).await?;
    imap.logout().await?;
    both_logs_say(&fleet, user, address).await?;
    let (visit, ending) = (visit_of(&fleet, user).await?, fleet.proxy().ending_of(&user.name).await?);
    ensure!(visit.session == text(&ending, "session"), "{visit:?} {ending}");
    // And where the client connected to.
    ensure!(visit.field("lip") == Some(&fleet.proxy().address().ip().to_string()), "{visit:?}");
    ensure!(visit.field("lport") == Some(&fleet.proxy().address().port().to_string()), "{visit:?}");
    Ok(())
}

#[tokio::test]
async fn the_true_client_arrives_in_the_backends_log_by_proxy_header() -> Result {
    let mut plan = Fleet::plan().backends(1).start_without_proxies().await?;
    let proxied = plan.backends[0].proxied_address.port();
    plan.reconfigure(|config| {
        let more = format!("[backend.mail1]\nport = {proxied}\nannounce_proxy = true\nannounce_id = false");
        crate::harness::fleet::merge(config, more.parse().unwrap());
    })?;
    plan.proxies[0].start().await?;
    let user = &plan.users[0];
    let mut imap = Imap::connect_from(fresh_ip(), plan.proxy().address()).await?;
    let address = imap.local_address()?;
    imap.login(user).await?;
    imap.logout().await?;
    both_logs_say(&plan, user, address).await
}

#[tokio::test]
async fn the_true_client_arrives_through_haproxy_and_us_and_health_checks_do_not_log_in() -> Result {
    let fleet = Fleet::plan().proxies(2).listener(PLAIN).listener(BALANCED).start().await?;
    let behind: Vec<SocketAddr> = fleet.proxies.iter().map(|proxy| proxy.addresses[1]).collect();
    let haproxy = HaProxy::start(fleet.dir.path(), &behind).await?;
    let mut open = Vec::new();
    for user in &fleet.users {
        let mut imap = Imap::connect_from(fresh_ip(), haproxy.address).await?;
        imap.login(user).await?;
        let visit = visit_of(&fleet, user).await?;
        let address = imap.local_address()?;
        ensure!(visit.field("rip") == Some(&address.ip().to_string()), "{visit:?}");
        ensure!(visit.field("rport") == Some(&address.port().to_string()), "{visit:?}");
        open.push(imap);
    }
    for imap in open {
        imap.logout().await?;
    }
    eventually("both proxies have told of all sessions", Duration::from_secs(60), async || {
        let told = [fleet.proxies[0].endings()?.len(), fleet.proxies[1].endings()?.len()];
        ensure!(told[0] + told[1] == 10 && !told.contains(&0), "{told:?}");
        Ok(())
    })
    .await?;
    ensure!(fleet.witness()?.visits.len() == 10);
    Ok(())
}

/// Connects to the balanced listener from 127.0.0.1 or another address, says `header`, and gives the first line.
async fn greeting_after(fleet: &Fleet, from: IpAddr, header: &[u8]) -> Result<String> {
    let socket = tokio::net::TcpSocket::new_v4()?;
    socket.bind((from, 0).into())?;
    let mut tcp = socket.connect(fleet.proxy().address()).await?;
    tcp.write_all(header).await?;
    let mut answer = vec![0; 200];
    // A reset is a refusal like any other.
    let count = tokio::time::timeout(Duration::from_secs(60), tcp.read(&mut answer)).await?.unwrap_or(0);
    Ok(String::from_utf8_lossy(&answer[..count]).into_owned())
}

#[tokio::test]
async fn a_header_is_believed_only_from_trusted_networks_and_required_from_them() -> Result {
    let fleet = Fleet::plan().listener(BALANCED).config("[limits]\nlogin_timeout = \"5s\"").start().await?;
    let balancer: IpAddr = "127.0.0.1".parse()?;
    let header = b"PROXY TCP4 192.0.2.7 198.51.100.1 4711 143\r\n";
    ensure!(greeting_after(&fleet, balancer, header).await?.starts_with("* OK"));
    ensure!(greeting_after(&fleet, fresh_ip(), header).await?.is_empty(), "a stranger was believed");
    ensure!(greeting_after(&fleet, balancer, b"a1 NOOP\r\n").await?.is_empty(), "served without a header");
    ensure!(greeting_after(&fleet, balancer, b"PROXY TCP4 192.0.2.7\r\n").await?.is_empty(), "took a broken one");
    ensure!(greeting_after(&fleet, balancer, b"").await?.is_empty(), "served without a word");
    Ok(())
}

#[tokio::test]
async fn a_version_one_header_and_the_login_behind_it_in_one_packet_are_both_understood() -> Result {
    let fleet = Fleet::plan().listener(BALANCED).start().await?;
    let user = &fleet.users[0];
    let mut imap = Imap::dial(fleet.proxy().address()).await?;
    let all = format!(
        "PROXY TCP4 192.0.2.7 198.51.100.1 4711 143\r\na LOGIN {} {}\r\nb LOGOUT\r\n",
        user.name, user.password
    );
    imap.send(all.as_bytes()).await?;
    imap.greet().await?;
    imap.answer("a").await?.ok()?;
    imap.answer("b").await?.ok()?;
    both_logs_say(&fleet, user, "192.0.2.7:4711".parse()?).await?;
    let visit = visit_of(&fleet, user).await?;
    ensure!(visit.field("lip") == Some("198.51.100.1") && visit.field("lport") == Some("143"), "{visit:?}");
    Ok(())
}

#[tokio::test]
async fn clients_are_served_over_ipv6() -> Result {
    let mut fleet = Fleet::plan().start_without_proxies().await?;
    let free = std::net::TcpListener::bind("[::1]:0")?.local_addr()?;
    fleet.reconfigure(|config| {
        config["listener"][0]["address"] = toml::Value::String(free.to_string());
    })?;
    fleet.proxies[0].start().await?;
    let user = &fleet.users[0];
    let mut imap = Imap::connect(free).await?;
    let address = imap.local_address()?;
    imap.login(user).await?;
    imap.logout().await?;
    both_logs_say(&fleet, user, address).await
}
