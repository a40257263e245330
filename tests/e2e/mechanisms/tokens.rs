//! OAUTHBEARER and XOAUTH2: tokens that the mail server verifies, for users whom the proxy does not know.

use anyhow::{Context, ensure};
use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::{Value, json};
use tokio::process::Command;

use super::site::{PROTOCOLS, Site};
use crate::harness::{Protocol, Result, tools};

const KEY: &[u8] = b"a key of the issuer that only the mail server has";

/// A token for somebody, as an issuer makes it.
fn token(user: &str, key: &[u8]) -> String {
    let part = |value: Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let signed = format!(
        "{}.{}",
        part(json!({ "alg": "HS256", "typ": "JWT" })),
        part(json!({ "sub": user, "iat": 1_600_000_000, "exp": 4_000_000_000_u32 }))
    );
    let signature = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), signed.as_bytes());
    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature.as_ref()))
}

/// A mail server that verifies tokens by a key; the proxy does not.
async fn site(auth: &str) -> Result<Site> {
    Site::with(|fleet, _| {
        let keys = fleet.dir.join("keys/default/HS256");
        std::fs::create_dir_all(&keys)?;
        std::fs::write(keys.join("default"), STANDARD.encode(KEY))?;
        let settings = fleet.dir.join("oauth2.conf");
        let place = fleet.dir.join("keys");
        std::fs::write(
            &settings,
            format!(
                "introspection_mode = local\nlocal_validation_key_dict = fs:posix:prefix={}/\nusername_attribute = sub\n",
                place.display()
            ),
        )?;
        let dovecot = format!(
            "auth_mechanisms = plain oauthbearer xoauth2\n\
             passdb {{\n  driver = oauth2\n  mechanisms = xoauth2 oauthbearer\n  args = {}\n}}\n",
            settings.display()
        );
        Ok([auth.to_owned(), String::new(), dovecot])
    })
    .await
}

const NAMED: &str = "[auth]\nmechanisms = [\"OAUTHBEARER\", \"XOAUTH2\", \"PLAIN\"]\noauth_scope = \"mail\"\n\
                     openid_configuration = \"https://id.test/.well-known/openid-configuration\"";

#[tokio::test]
async fn a_token_is_passed_on_to_the_mail_server_by_every_protocol_and_its_refusal_comes_in_json() -> Result {
    let site = site(NAMED).await?;
    let ann = &site.fleet.users[0];
    let (good, bad) = (token(&ann.name, KEY), token(&ann.name, b"another key"));
    for protocol in PROTOCOLS {
        for mechanism in ["OAUTHBEARER", "XOAUTH2"] {
            let before = site.visits()?;
            let login =
                site.log_in(protocol, "implicit", mechanism, json!({ "user": ann.name, "token": good })).await?;
            login
                .is_in()
                .with_context(|| format!("{protocol:?} {mechanism}\n{}", site.backend.log().unwrap_or_default()))?;
            ensure!(site.visits()? > before && site.last(&ann.name)?.user == ann.name);
            let login = site.log_in(protocol, "starttls", mechanism, json!({ "user": ann.name, "token": bad })).await?;
            login.is_refused("")?;
            let shown = &login.0["shown"][0];
            let status = if mechanism == "XOAUTH2" { "401" } else { "invalid_token" };
            ensure!(shown["status"] == status && shown["scope"] == "mail", "{}", login.0);
            ensure!(shown["openid-configuration"] == "https://id.test/.well-known/openid-configuration");
            ensure!(login.offered() == ["OAUTHBEARER", "XOAUTH2", "PLAIN"], "{:?}", login.offered());
        }
    }
    let log = site.fleet.proxy().log()?;
    ensure!(!log.contains(&good) && !log.contains(&bad), "tokens are secrets");
    Ok(())
}

#[tokio::test]
async fn curl_logs_in_by_a_token() -> Result {
    let site = site(NAMED).await?;
    let ann = &site.fleet.users[0];
    let good = token(&ann.name, KEY);
    for mechanism in ["OAUTHBEARER", "XOAUTH2"] {
        for (protocol, scheme) in
            [(Protocol::Imap, "imaps"), (Protocol::Pop3, "pop3s"), (Protocol::Submission, "smtps")]
        {
            let before = site.visits()?;
            let address = site.address(protocol, "implicit")?;
            let mut command = Command::new("curl");
            command.args(["--silent", "--show-error", "--insecure", "--max-time", "60", "--user", &ann.name]);
            command.args(["--oauth2-bearer", &good, "--login-options", &format!("AUTH={mechanism}")]);
            command.arg(format!("{scheme}://{address}/"));
            let output = tools::run(&mut command, b"").await?;
            ensure!(site.visits()? > before, "{scheme} {mechanism}: {}", String::from_utf8_lossy(&output.stderr));
        }
    }
    Ok(())
}

#[tokio::test]
async fn without_a_word_from_the_operator_no_token_is_asked_for_that_nobody_may_take() -> Result {
    let site = site("").await?;
    let ann = &site.fleet.users[0];
    let given = json!({ "user": ann.name, "password": ann.password });
    let login = site.log_in(Protocol::Imap, "implicit", "PLAIN", given).await?;
    login.is_in()?;
    ensure!(login.offered() == ["PLAIN", "LOGIN"], "{:?}", login.offered());
    // A token without a name cannot be placed by a passdb that has nothing to ask it.
    let given = json!({ "user": "", "token": token(&ann.name, KEY) });
    site.log_in(Protocol::Imap, "implicit", "OAUTHBEARER", given).await?.is_refused("")
}
