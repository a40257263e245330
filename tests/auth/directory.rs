//! OpenLDAP.

use std::fmt::Write;
use std::time::Duration;

use homing::model::Refusal;

use super::servers::{Server, slapd};
use super::site::Site;

/// One below ou=people.
fn person(uid: &str, rest: &str) -> String {
    format!(
        "dn: uid={uid},ou=people,dc=x\nobjectClass: inetOrgPerson\nobjectClass: posixAccount\nuid: {uid}\ncn: {uid}\nsn: x\n\
         uidNumber: 1\ngidNumber: 1\nhomeDirectory: /\nmail: {uid}@x.org\n{rest}\n\n"
    )
}

fn people() -> String {
    let mut ldif = String::new();
    ldif.push_str(&person("ann", "userPassword: secret-ann\nphysicalDeliveryOfficeName: mail7\nroomNumber: ssd"));
    // {SSHA} of "secret-bob", salt "salt".
    ldif.push_str(&person("bob", &format!("userPassword: {}\ndescription: yes", ssha("secret-bob", b"salt"))));
    ldif.push_str(&person("two1", "userPassword: secret-two\nemployeeNumber: two"));
    ldif.push_str(&person("two2", "userPassword: secret-two\nemployeeNumber: two"));
    ldif.push_str(&person("none", "title: x"));
    ldif
}

fn ssha(password: &str, salt: &[u8]) -> String {
    use aws_lc_rs::digest;
    use base64::Engine;
    let sum = digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, &[password.as_bytes(), salt].concat());
    format!("{{SSHA}}{}", base64::engine::general_purpose::STANDARD.encode([sum.as_ref(), salt].concat()))
}

fn passdb(server: &Server, uri: &str, keys: &str) -> String {
    let word = server.file("service", "service-word\n");
    format!(
        "[[passdb]]\nkind = \"ldap\"\nuri = [\"{uri}\"]\nbind_dn = \"cn=homing,dc=x\"\nbind_password_file = \"{word}\"\n\
         base = \"ou=people,dc=x\"\nfilter = \"(|(mail=%u)(employeeNumber=%u))\"\ntimeout = \"4s\"\nfailures = 3\npause = \"200ms\"\n{keys}\n"
    )
}

fn plain(server: &Server, keys: &str) -> String {
    passdb(server, &format!("ldap://127.0.0.1:{}", server.port), keys)
}

const FIELDS: &str = "fields = { user = \"mail\", host = \"physicalDeliveryOfficeName\", pool = \"roomNumber\", nologin = \"description\" }";

#[tokio::test]
async fn the_directory_or_homing_checks_the_password_and_attributes_become_fields() {
    let server = slapd(&people());
    for method in ["bind", "password"] {
        let site =
            Site::new(&plain(&server, &format!("method = \"{method}\"\ndefault_scheme = \"PLAIN\"\n{FIELDS}"))).await;
        let ann = site.ask("ANN@x.org", "secret-ann").await.unwrap();
        assert_eq!((ann.user.as_str(), ann.unproven), ("ann@x.org", false));
        assert_eq!((ann.fields.host.as_deref(), ann.fields.pool.unwrap().as_str()), (Some("mail7"), "ssd"));
        for wrong in ["secret-bob", "", " ", "*"] {
            assert_eq!(site.refuses("ann@x.org", wrong).await, Refusal::BadCredentials, "{method} {wrong:?}");
            assert_eq!(site.refuses("none@x.org", wrong).await, Refusal::BadCredentials, "{method} {wrong:?}");
        }
        assert!(site.ask_with("ann@x.org", b"\xff").await.is_err());
        assert_eq!(site.refuses("bob@x.org", "secret-bob").await, Refusal::Forbidden, "nologin");
        assert_eq!(site.refuses("bob@x.org", "secret-ann").await, Refusal::BadCredentials);
        for nobody in ["eve@x.org", "*", "ann*", "*)(uid=ann", "ann@x.org)(uid=*", "\\2a", "x)(|(uid=*))"] {
            assert_eq!(site.refuses(nobody, "secret-ann").await, Refusal::BadCredentials, "{nobody}");
        }
        let bob = site.find("bob@x.org").await.unwrap().unwrap();
        assert_eq!(bob.user.as_str(), "bob@x.org");
        assert!(site.find("eve@x.org").await.unwrap().is_none());
    }
}

#[tokio::test]
async fn two_entries_for_a_user_let_nobody_in_and_stop_nobody_else() {
    let server = slapd(&people());
    let site = Site::new(&plain(&server, "")).await;
    for _ in 0..10 {
        assert_eq!(site.refuses("two", "secret-two").await, Refusal::PassdbUnavailable);
    }
    assert_eq!(site.lets_in("ann@x.org", "secret-ann").await.as_deref(), Some("ann@x.org"));
    assert_eq!((site.stats().unavailable, site.stats().refused), (10, 0));
}

#[tokio::test]
async fn an_entry_that_the_users_name_tells_needs_no_search() {
    let server = slapd(&people());
    let uri = format!("ldapi://{}", server.dir.path().join("ldapi").display().to_string().replace('/', "%2F"));
    let uri = uri.replacen("ldapi:%2F%2F", "ldapi://", 1);
    let site =
        Site::new(&format!("[[passdb]]\nkind = \"ldap\"\nuri = [\"{uri}\"]\nuser_dn = \"uid=%n,ou=people,dc=x\"\n"))
            .await;
    assert_eq!(site.lets_in("ann@x.org", "secret-ann").await.as_deref(), Some("ann@x.org"));
    assert_eq!(site.refuses("ann@x.org", "").await, Refusal::BadCredentials);
    for nobody in ["eve", "ann,ou=people", "ann+cn=ann", "cn=homing,dc=x"] {
        assert_eq!(site.refuses(nobody, "secret-ann").await, Refusal::BadCredentials, "{nobody}");
    }
}

#[tokio::test]
async fn all_users_are_listed_however_few_a_page_has() {
    let mut ldif = people();
    for i in 0..1300 {
        let _ = write!(ldif, "{}", person(&format!("u{i}"), "title: x")); // a String takes everything
    }
    let server = slapd(&ldif);
    let site =
        Site::new(&plain(&server, "list_filter = \"(objectClass=posixAccount)\"\nlist_attribute = \"mail\"")).await;
    let names = site.list().await;
    assert_eq!(names.len(), 1305);
    assert!(names.contains(&"u1299@x.org".to_owned()));
}

#[tokio::test]
async fn connections_are_encrypted_if_that_is_asked_for_and_only_with_the_right_authority() {
    let server = slapd(&people());
    let ca = server.dir.path().join("ca.pem").display().to_string();
    let site = Site::new(&plain(&server, &format!("starttls = true\ntls_ca = \"{ca}\""))).await;
    assert!(site.lets_in("ann@x.org", "secret-ann").await.is_some());
    let other = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).unwrap().cert.pem();
    let other = server.file("other.pem", &other);
    let site = Site::new(&plain(&server, &format!("starttls = true\ntls_ca = \"{other}\""))).await;
    assert_eq!(site.refuses("ann@x.org", "secret-ann").await, Refusal::PassdbUnavailable);
}

#[tokio::test]
async fn a_directory_that_dies_or_hangs_is_a_temporary_failure_and_is_used_again_when_it_is_back() {
    let mut server = slapd(&people());
    let site = Site::new(&plain(&server, "").replace("4s", "600ms")).await;
    assert!(site.lets_in("ann@x.org", "secret-ann").await.is_some());
    server.kill();
    site.is_without_its_server(Duration::from_millis(600)).await;
    server.start();
    site.recovers("ann@x.org", "secret-ann").await;
    server.hang();
    site.is_without_its_server(Duration::from_millis(600)).await;
    server.go_on();
    site.recovers("ann@x.org", "secret-ann").await;
}

#[tokio::test]
async fn the_second_directory_is_asked_while_the_first_is_dead_or_hangs() {
    let (mut first, second) = (slapd(&people()), slapd(&people()));
    let uris = format!("ldap://127.0.0.1:{}\", \"ldap://127.0.0.1:{}", first.port, second.port);
    let site = Site::new(&passdb(&first, &uris, "")).await;
    assert!(site.lets_in("ann@x.org", "secret-ann").await.is_some());
    first.hang();
    site.recovers("ann@x.org", "secret-ann").await;
    first.go_on();
    first.kill();
    site.recovers("ann@x.org", "secret-ann").await;
    assert!(site.lets_in("ann@x.org", "secret-ann").await.is_some());
}
