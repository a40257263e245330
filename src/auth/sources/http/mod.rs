//! A web service: one made for nginx' auth_http (`nginx.rs`), or one that takes and gives JSON (`json.rs`), such as
//! Nauthilus. Connections are kept and used again.

mod json;
mod nginx;
#[cfg(test)]
mod tests;

use std::time::Duration;

use async_trait::async_trait;
use reqwest::RequestBuilder;
use reqwest::header::{HeaderName, HeaderValue};

use crate::auth::web::{Reply, Web, header_line};
use crate::auth::{Lookup, Question, Source, Verdict};
use crate::config::{HttpFormat, HttpPassdb, WebUrl};

/// Longest user's or host's name in bytes.
const MAX_NAME: usize = 255;

/// Longest body of an answer about one user.
const MAX_ANSWER: usize = 64 * 1024;

/// Longest list of users.
const MAX_LIST: usize = 256 << 20;

/// How long the service may take for its list of users.
const LISTING: Duration = Duration::from_secs(120);

/// One web service.
pub struct HttpSource {
    web: Web,
    url: WebUrl,
    header: Option<(HeaderName, HeaderValue)>,
    form: Form,
}

enum Form {
    Nginx(nginx::Form),
    Json(json::Form),
}

impl HttpSource {
    /// Connects when it is asked for the first time. `timeout` is for an answer about one user.
    ///
    /// # Errors
    /// Its authorities cannot be read, or its header is none.
    pub fn new(keys: &HttpPassdb, timeout: Duration) -> Result<Self, String> {
        let form = match keys.format {
            HttpFormat::Nginx => Form::Nginx(nginx::Form { obey_server: keys.obey_server }),
            HttpFormat::Json => Form::Json(json::Form { attributes: keys.attributes.clone() }),
        };
        Ok(Self {
            web: Web::new(keys.tls_ca.as_deref(), keys.tls_verify, keys.url.is_tls(), timeout)?,
            url: keys.url.clone(),
            header: keys.header.as_deref().map(header_line).transpose()?,
            form,
        })
    }

    /// Kind and place.
    pub(in crate::auth) fn name_of(keys: &HttpPassdb) -> String {
        format!("http {}", keys.url.place())
    }

    fn with_header(&self, request: RequestBuilder) -> RequestBuilder {
        match &self.header {
            Some((name, value)) => request.header(name, value),
            None => request,
        }
    }

    async fn send(&self, request: RequestBuilder) -> Result<Reply, Verdict> {
        self.web.send(self.with_header(request), MAX_ANSWER).await.map_err(Verdict::Unavailable)
    }

    async fn log_in(&self, question: &Question<'_>) -> Result<Verdict, Verdict> {
        let (web, url) = (&self.web, &self.url);
        Ok(match &self.form {
            Form::Nginx(form) => {
                let headers = nginx::login(question)?;
                let request = web.get(url).await.map_err(Verdict::Unavailable)?.headers(headers);
                form.login(&self.send(request).await?, question)
            }
            Form::Json(form) => {
                let body = json::login(question)?;
                let request = web.post(url).await.map_err(Verdict::Unavailable)?;
                form.login(&self.send(body.put_into(request)).await?, question)
            }
        })
    }

    async fn look_up(&self, lookup: &Lookup<'_>) -> Result<Verdict, Verdict> {
        let (web, url) = (&self.web, &self.url);
        Ok(match &self.form {
            Form::Nginx(form) => {
                let request = web.get(url).await.map_err(Verdict::Unavailable)?.headers(nginx::lookup(lookup));
                form.lookup(&self.send(request).await?, lookup)
            }
            Form::Json(form) => {
                let request = web.post(&url.with("mode=no-auth")).await.map_err(Verdict::Unavailable)?;
                form.lookup(&self.send(json::lookup(lookup).put_into(request)).await?, lookup)
            }
        })
    }
}

/// It can be a user's or a host's name.
fn is_name(name: &str) -> bool {
    !name.is_empty() && name.len() <= MAX_NAME && !name.contains(char::is_control)
}

#[async_trait]
impl Source for HttpSource {
    fn name(&self) -> String {
        format!("http {}", self.url.place())
    }

    async fn ask(&self, question: &Question<'_>) -> Verdict {
        self.log_in(question).await.unwrap_or_else(|verdict| verdict)
    }

    async fn find(&self, lookup: &Lookup<'_>) -> Verdict {
        self.look_up(lookup).await.unwrap_or_else(|verdict| verdict)
    }

    async fn list(&self) -> Option<Result<Vec<String>, String>> {
        if let Form::Nginx(_) = self.form {
            return None; // nginx never asks for that
        }
        let request = match self.web.post(&self.url.with("mode=list-accounts")).await {
            Ok(request) => json::listing().put_into(self.with_header(request)),
            Err(why) => return Some(Err(why)),
        };
        match self.web.send_within(LISTING, request, MAX_LIST).await {
            Ok(reply) => json::names(&reply),
            Err(why) => Some(Err(why)),
        }
    }
}
