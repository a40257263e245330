//! Whether the keys of one source make sense together.

use super::{LdapPassdb, Oauth2Method, Oauth2Passdb, SqlPassdb, TokenAlgorithm};
use crate::config::check::readable;
use crate::config::fault::REFUSED;
use crate::config::reader::Reader;

/// `path` is that of the table.
pub(in crate::config) fn check_ldap(ldap: &LdapPassdb, path: &str, reader: &mut Reader<'_>) {
    let (keys, key) = (&ldap.keys, |name: &str| format!("{path}.{name}"));
    if let Some(ca) = &keys.tls_ca {
        readable(&key("tls_ca"), ca, reader);
    }
    if reader.is_given(&key("uri")) && keys.uri.is_empty() && reader.is_sound(&key("uri")) {
        reader.fault(&key("uri"), "names no server", "nobody could log in", "write at least one");
    }
    where_users_are(ldap, path, reader);
    credentials(path, reader);
    let plain = keys.uri.iter().any(|uri| uri.0.starts_with("ldap://"));
    if keys.starttls && !plain && reader.is_sound(&key("uri")) {
        let remedy = "remove it, or write ldap:// instead";
        reader.fault(&key("starttls"), "has no use without an ldap:// server", REFUSED, remedy);
    }
    if keys.tls_ca.is_some() && !keys.starttls && !keys.uri.iter().any(|uri| uri.0.starts_with("ldaps://")) {
        let consequence = "passwords would go to the directory in the clear";
        let remedy = "set starttls = true, write ldaps:// instead, or remove it";
        reader.fault(&key("tls_ca"), "has no use without TLS", consequence, remedy);
    }
}

/// A search needs a base and a filter that tells one user from another.
fn where_users_are(ldap: &LdapPassdb, path: &str, reader: &mut Reader<'_>) {
    let (keys, key) = (&ldap.keys, |name: &str| format!("{path}.{name}"));
    let remedy = "write %u for the user's name, or %n for what stands before its @";
    let everybody = "everybody would be taken for the same user";
    match &keys.user_dn {
        Some(template) if template.names_nobody() && reader.is_sound(&key("user_dn")) => {
            reader.fault(&key("user_dn"), "does not name the user", everybody, remedy);
        }
        None if keys.base.is_empty() && reader.is_sound(&key("base")) => {
            let remedy = "add base = \"ou=people,dc=example,dc=org\", or user_dn";
            reader.fault(path, "has neither base nor user_dn", "no user could be found", remedy);
        }
        _ => {}
    }
    if keys.filter.names_nobody() && reader.is_sound(&key("filter")) {
        reader.fault(&key("filter"), "does not name the user", everybody, remedy);
    }
    if keys.list_filter.is_some() && keys.base.is_empty() && reader.is_sound(&key("base")) {
        reader.fault(&key("list_filter"), "has no use without base", "no list could be made", "add base");
    }
}

fn credentials(path: &str, reader: &mut Reader<'_>) {
    let [dn, file] = ["bind_dn", "bind_password_file"].map(|name| format!("{path}.{name}"));
    match (reader.is_given(&dn), reader.is_given(&file)) {
        (true, false) => {
            let consequence = "the directory would take homing for somebody without a name";
            reader.fault(&dn, "has no password", consequence, "add bind_password_file, or remove it");
        }
        (false, true) => {
            reader.fault(&file, "has no use without bind_dn", REFUSED, "add bind_dn, or remove it");
        }
        _ => {}
    }
}

/// `path` is that of the table.
pub(in crate::config) fn check_sql(sql: &SqlPassdb, path: &str, reader: &mut Reader<'_>) {
    let key = |name: &str| format!("{path}.{name}");
    let query = key("query");
    if reader.is_given(&query) && reader.is_sound(&query) && sql.keys.query.names_nobody() {
        let remedy = "write :user where the user's name belongs";
        reader.fault(&query, "does not name the user", "everybody would be taken for the same user", remedy);
    }
    let list = key("list_query");
    if let Some(statement) = &sql.keys.list_query
        && statement.pieces().len() > 1
        && reader.is_sound(&list)
    {
        reader.fault(&list, "has a parameter", "nobody logs in when users are listed", "remove it");
    }
    let file = key("password_file");
    if reader.is_given(&file) && sql.keys.url.0.starts_with("sqlite:") && reader.is_sound(&file) {
        reader.fault(&file, "has no use with SQLite", REFUSED, "remove it");
    }
}

/// `path` is that of the table.
pub(in crate::config) fn check_oauth2(oauth2: &Oauth2Passdb, path: &str, reader: &mut Reader<'_>) {
    let (keys, key) = (&oauth2.keys, |name: &str| format!("{path}.{name}"));
    for (name, file) in [("tls_ca", &keys.tls_ca), ("jwks_file", &keys.jwks_file)] {
        if let Some(file) = file {
            readable(&key(name), file, reader);
        }
    }
    match keys.method {
        Oauth2Method::Local => verified_here(oauth2, path, reader),
        Oauth2Method::Introspection => introspected(oauth2, path, reader),
    }
}

/// A JWT needs a key.
fn verified_here(oauth2: &Oauth2Passdb, path: &str, reader: &mut Reader<'_>) {
    let (keys, key) = (&oauth2.keys, |name: &str| format!("{path}.{name}"));
    let [url, file, hmac] = ["jwks_url", "jwks_file", "hmac_key_file"].map(key);
    let key = |name: &str| format!("{path}.{name}");
    let any = [&url, &file, &hmac, &key("issuer")].iter().any(|key| reader.is_given(key));
    if !any {
        let remedy = "add issuer, jwks_url, jwks_file or hmac_key_file";
        reader.fault(path, "has no keys to verify tokens with", "nobody could log in", remedy);
    }
    if keys.jwks_url.is_some() && keys.jwks_file.is_some() && reader.is_sound(&file) {
        reader.fault(&file, "stands beside jwks_url", REFUSED, "remove one of them");
    }
    let algorithms = key("algorithms");
    if keys.algorithms.is_empty() && reader.is_sound(&algorithms) {
        reader.fault(&algorithms, "is empty", "no token could be verified", "name at least one");
    }
    let shared = keys.algorithms.iter().copied().any(TokenAlgorithm::is_shared_secret);
    if shared && !reader.is_given(&hmac) && reader.is_sound(&algorithms) {
        let consequence = "tokens signed so could not be verified";
        reader.fault(&algorithms, "has HS256, HS384 or HS512 without hmac_key_file", consequence, "add hmac_key_file");
    }
    if !shared && keys.hmac_key_file.is_some() && reader.is_sound(&hmac) && reader.is_sound(&algorithms) {
        let remedy = "add \"HS256\" to algorithms, or remove it";
        reader.fault(&hmac, "has no use without HS256, HS384 or HS512 in algorithms", REFUSED, remedy);
    }
    // RFC 7518 section 3.2: as long as the hash. Whoever guesses it can be anybody.
    if let Some(secret) = &oauth2.hmac_key
        && secret.expose().len() < 32
        && reader.is_sound(&hmac)
    {
        reader.fault(&hmac, "holds a key of less than 32 bytes", "it could be guessed", "make a longer one");
    }
    for name in ["introspection_url", "client_id", "client_secret_file"] {
        if reader.is_given(&key(name)) && reader.is_sound(&key(name)) {
            let remedy = "set method = \"introspection\", or remove it";
            reader.fault(&key(name), "has no use with method \"local\"", REFUSED, remedy);
        }
    }
}

/// The issuer answers only those whom it knows.
fn introspected(oauth2: &Oauth2Passdb, path: &str, reader: &mut Reader<'_>) {
    let (keys, key) = (&oauth2.keys, |name: &str| format!("{path}.{name}"));
    if keys.introspection_url.is_none() && keys.issuer.is_none() && reader.is_sound(&key("introspection_url")) {
        let remedy = "add introspection_url, or issuer";
        reader.fault(path, "has nobody to ask about tokens", "nobody could log in", remedy);
    }
    let [id, secret] = ["client_id", "client_secret_file"].map(key);
    let key = |name: &str| format!("{path}.{name}");
    if reader.is_given(&id) != reader.is_given(&secret) {
        let (given, missing) = if reader.is_given(&id) { (&id, "client_secret_file") } else { (&secret, "client_id") };
        let meaning = format!("has no use without {missing}");
        reader.fault(given, &meaning, "the issuer would not answer", &format!("add {missing}"));
    }
    for name in ["jwks_url", "jwks_file", "hmac_key_file", "algorithms"] {
        if reader.is_given(&key(name)) && reader.is_sound(&key(name)) {
            let remedy = "set method = \"local\", or remove it";
            reader.fault(&key(name), "has no use with method \"introspection\"", REFUSED, remedy);
        }
    }
}
