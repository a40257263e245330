//! What an issuer publishes about itself (OpenID Connect Discovery 1.0), and its keys.

use std::path::{Path, PathBuf};

use serde_json::Value;
use tokio::io::AsyncReadExt;

use super::jwks::KeySet;
use crate::auth::web::Web;
use crate::config::{Oauth2Keys, WebUrl};

/// Longest document about an issuer, or of its keys.
const MAX_DOCUMENT: usize = 512 * 1024;

/// Where the issuer is found.
pub(super) enum Whereabouts {
    /// The URL itself.
    Url(WebUrl),
    /// A file.
    File(PathBuf),
    /// It says so itself.
    Discovered {
        /// As it writes its name.
        issuer: String,
        /// Where its description lies.
        description: WebUrl,
    },
}

impl Whereabouts {
    /// Of the keys; `None` if none are named.
    pub(super) fn of_keys(keys: &Oauth2Keys) -> Result<Option<Self>, String> {
        match (&keys.jwks_url, &keys.jwks_file, &keys.issuer) {
            (Some(url), _, _) => Ok(Some(Self::Url(url.clone()))),
            (_, Some(path), _) => Ok(Some(Self::File(path.clone()))),
            // With a shared secret the issuer is only a name.
            (_, _, Some(_)) if keys.hmac_key_file.is_some() => Ok(None),
            (_, _, Some(issuer)) => Self::discovered(issuer).map(Some),
            _ => Ok(None),
        }
    }

    /// Of who answers questions about tokens.
    pub(super) fn of_introspection(keys: &Oauth2Keys) -> Result<Self, String> {
        match (&keys.introspection_url, &keys.issuer) {
            (Some(url), _) => Ok(Self::Url(url.clone())),
            (None, Some(issuer)) => Self::discovered(issuer),
            (None, None) => Err("neither introspection_url nor issuer is set".to_owned()),
        }
    }

    fn discovered(issuer: &str) -> Result<Self, String> {
        let text = format!("{}/.well-known/openid-configuration", issuer.trim_end_matches('/'));
        let description = WebUrl::parse(&text).map_err(|what| format!("the issuer {issuer} {what}"))?;
        Ok(Self::Discovered { issuer: issuer.to_owned(), description })
    }

    /// For logs.
    pub(super) fn place(&self) -> String {
        match self {
            Self::Url(url) => url.place(),
            Self::File(path) => path.display().to_string(),
            Self::Discovered { issuer, .. } => issuer.clone(),
        }
    }

    /// TLS from the first byte.
    pub(super) fn is_tls(&self) -> bool {
        match self {
            Self::Url(url) | Self::Discovered { description: url, .. } => url.is_tls(),
            Self::File(_) => false,
        }
    }

    /// The keys as they are now.
    pub(super) async fn keys(&self, web: &Web) -> Result<KeySet, String> {
        let text = match self {
            Self::File(path) => read(path).await?,
            Self::Url(url) => fetch(web, url).await?,
            Self::Discovered { issuer, description } => {
                fetch(web, &named(web, issuer, description, "jwks_uri").await?).await?
            }
        };
        KeySet::parse(&text)
    }

    /// Who answers questions about tokens.
    pub(super) async fn introspection(&self, web: &Web) -> Result<WebUrl, String> {
        match self {
            Self::Url(url) => Ok(url.clone()),
            Self::Discovered { issuer, description } => named(web, issuer, description, "introspection_endpoint").await,
            Self::File(path) => Err(format!("{} answers no questions", path.display())),
        }
    }
}

/// What the issuer says of itself under this name.
async fn named(web: &Web, issuer: &str, description: &WebUrl, name: &str) -> Result<WebUrl, String> {
    let text = fetch(web, description).await?;
    let document: Value = serde_json::from_slice(&text).map_err(|_| "its description is not JSON".to_owned())?;
    // Section 4.3: else one issuer could speak for another.
    if document.get("issuer").and_then(Value::as_str) != Some(issuer) {
        return Err("its description is that of another issuer".to_owned());
    }
    let url = document.get(name).and_then(Value::as_str).ok_or_else(|| format!("its description has no {name}"))?;
    WebUrl::parse(url).map_err(|what| format!("its {name} {what}"))
}

async fn fetch(web: &Web, url: &WebUrl) -> Result<Vec<u8>, String> {
    let request = web.get(url).await?.header("Accept", "application/json");
    let reply = web.send(request, MAX_DOCUMENT).await?;
    if !reply.status.is_success() {
        return Err(format!("{} answers {}", url.place(), reply.status));
    }
    Ok(reply.body.to_vec())
}

async fn read(path: &Path) -> Result<Vec<u8>, String> {
    let broken = |error: std::io::Error| format!("{} cannot be read: {error}", path.display());
    let mut text = Vec::new();
    let file = tokio::fs::File::open(path).await.map_err(broken)?;
    file.take(MAX_DOCUMENT as u64 + 1).read_to_end(&mut text).await.map_err(broken)?;
    if text.len() > MAX_DOCUMENT {
        return Err(format!("{} is longer than {MAX_DOCUMENT} bytes", path.display()));
    }
    Ok(text)
}
