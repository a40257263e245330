//! Fields that any passdb may return, from login to backend.

use std::time::{Duration, Instant, SystemTime};

use homing::config::{FilePassdb, PassdbConfig};

use crate::parts::{Peer, Server, Site};

/// A site whose passdb knows ann, with these fields.
async fn site(fields: &str) -> (Site, tempfile::NamedTempFile) {
    let users = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(users.path(), format!("ann:{{PLAIN}}secret::::::{fields}\n")).unwrap();
    let file = FilePassdb { path: users.path().to_owned(), ..FilePassdb::default() };
    (Site::with(|config| config.passdb = vec![PassdbConfig::File(file)]).await, users)
}

#[tokio::test]
async fn a_host_with_an_address_of_its_own_is_dialled_there() {
    let outside = Server::open().await;
    let fields = format!("host=mail.invalid hostip=127.0.0.1 port={}", outside.address.port());
    let (site, _users) = site(&fields).await;
    let mut client = site.client().await;
    let backend: Peer = client.log_in("ann", &outside).await;
    assert_eq!(site.home("ann").await, None, "it is not of the table");
    drop((client, backend));
}

#[tokio::test]
async fn an_address_of_the_table_is_the_users_home_whatever_its_name() {
    let (site, _users) = site("host=mail.invalid hostip=127.0.0.1").await;
    let mut client = site.client().await;
    let _backend = client.log_in("ann", &site.server).await;
    assert_eq!(site.home("ann").await.unwrap().backend.unwrap().as_str(), "home");
}

#[tokio::test]
async fn a_login_waits_until_the_passdb_lets_it_go_on() {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
    let (site, _users) = site(&format!("delay_until={}", now + 3)).await;
    let mut client = site.client().await;
    let began = Instant::now();
    client.send("a LOGIN ann wrong\r\n").await;
    client.expect_start("a NO [AUTHENTICATIONFAILED]").await;
    let refused = began.elapsed();
    let _backend = client.log_in("ann", &site.server).await;
    let until = SystemTime::UNIX_EPOCH + Duration::from_secs(now + 3);
    assert!(SystemTime::now() >= until, "a wrong password took {refused:?}, the login {:?}", began.elapsed());
}

#[tokio::test]
async fn pop3_and_sieve_and_submission_clients_hear_the_passdbs_reason_too() {
    use homing::model::{BackendId, Protocol};
    let users = tempfile::NamedTempFile::new().unwrap();
    // A field of a passwd-file ends at a blank.
    std::fs::write(users.path(), "ann:{PLAIN}secret::::::nologin reason=Moved.\n").unwrap();
    let file = FilePassdb { path: users.path().to_owned(), ..FilePassdb::default() };
    for (protocol, greeting, login, answer) in [
        (Protocol::Pop3, "+OK ", "USER ann\r\nPASS secret\r\n", "-ERR [SYS/PERM] Moved."),
        (Protocol::Sieve, "OK ", "AUTHENTICATE \"PLAIN\" \"AGFubgBzZWNyZXQ=\"\r\n", "NO \"Moved.\""),
        (Protocol::Submission, "220 ", "EHLO x\r\nAUTH PLAIN AGFubgBzZWNyZXQ=\r\n", "525 5.7.13 Moved."),
    ] {
        let site = Site::with(|config| {
            config.passdb = vec![PassdbConfig::File(file.clone())];
            config.listeners[0].protocol = protocol;
            let backend = config.backends.get_mut(&BackendId::new("home")).unwrap();
            (backend.submission.port, backend.pop3.port, backend.sieve.port) =
                (backend.port, backend.port, backend.port);
        })
        .await;
        let mut client = site.dial().await;
        while !client.line().await.starts_with(greeting) {}
        client.send(login).await;
        let mut heard = String::new();
        while !heard.starts_with(answer) {
            heard = client.line().await;
            assert!(!heard.is_empty(), "{protocol:?} ended");
            assert!(!heard.contains("ask your administrator"), "{heard:?}");
        }
    }
}
