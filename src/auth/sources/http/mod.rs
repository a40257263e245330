//! A web service: one made for nginx' auth_http (`nginx.rs`), or one that takes and gives JSON (`json.rs`), such as
//! Nauthilus. Connections are kept and used again.

mod json;
mod nginx;
#[cfg(test)]
mod tests;

use std::time::Duration;

use async_trait::async_trait;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use reqwest::redirect::Policy;
use reqwest::{Client, RequestBuilder, StatusCode, Url};
use zeroize::Zeroizing;

use crate::auth::{Lookup, Question, Source, Verdict};
use crate::config::{HttpFormat, HttpPassdb};
use crate::model::Secret;
use crate::net::ClientTls;

/// Longest user's or host's name in bytes.
const MAX_NAME: usize = 255;

/// Longest body of an answer about one user.
const MAX_ANSWER: usize = 64 * 1024;

/// Longest list of users.
const MAX_LIST: usize = 256 << 20;

/// How long a connection may take; the whole question has a limit of its own.
const CONNECT: Duration = Duration::from_secs(4);

/// Connections that nobody uses, and how long they stay.
const IDLE: (usize, Duration) = (64, Duration::from_secs(50));

/// How long the service may take for its list of users.
const LISTING: Duration = Duration::from_secs(120);

/// One web service.
pub struct HttpSource {
    place: String,
    /// Why it cannot be asked at all, as long as the configuration is what it is.
    service: Result<Service, String>,
}

struct Service {
    client: Client,
    url: Url,
    header: Option<(HeaderName, HeaderValue)>,
    form: Form,
}

enum Form {
    Nginx(nginx::Form),
    Json(json::Form),
}

/// What came back.
struct Reply {
    status: StatusCode,
    headers: HeaderMap,
    body: Zeroizing<Vec<u8>>,
}

/// What is wrong with what the configuration names: authorities that cannot be read, a header that is none.
pub fn check_http(keys: &HttpPassdb) -> Option<String> {
    let tls = ClientTls::new(keys.tls_ca.as_deref(), keys.tls_verify).err().map(|fault| fault.to_string());
    tls.or_else(|| header(keys.header.as_deref()?).err())
}

impl HttpSource {
    /// Reads the authorities. What is wrong then is told whenever somebody asks.
    pub async fn open(keys: &HttpPassdb) -> Self {
        let endpoint = keys.url.endpoint();
        Self { place: endpoint.place(), service: Service::new(keys).await }
    }

    async fn asked(&self, request: impl FnOnce(&Service) -> Result<RequestBuilder, Verdict>) -> Result<Reply, Verdict> {
        let service = self.service.as_ref().map_err(|why| Verdict::Unavailable(why.clone()))?;
        service.send(request(service)?, MAX_ANSWER).await.map_err(Verdict::Unavailable)
    }
}

impl Service {
    async fn new(keys: &HttpPassdb) -> Result<Self, String> {
        let verify = keys.tls_verify && keys.url.is_tls();
        let tls = ClientTls::new(keys.tls_ca.as_deref(), verify).map_err(|fault| fault.to_string())?;
        let tls = tls.config().await.map_err(|fault| fault.to_string())?.as_ref().clone();
        let client = Client::builder()
            .tls_backend_preconfigured(tls)
            .http1_only()
            .no_proxy()
            .redirect(Policy::none()) // a password goes where the operator said, and nowhere else
            .connect_timeout(CONNECT)
            .pool_max_idle_per_host(IDLE.0)
            .pool_idle_timeout(IDLE.1)
            .tcp_nodelay(true)
            .build()
            .map_err(|error| error.to_string())?;
        let form = match keys.format {
            HttpFormat::Nginx => Form::Nginx(nginx::Form { obey_server: keys.obey_server }),
            HttpFormat::Json => Form::Json(json::Form { attributes: keys.attributes.clone() }),
        };
        let url = keys.url.full().parse().map_err(|error| format!("{error}"))?;
        Ok(Self { client, url, header: keys.header.as_deref().map(header).transpose()?, form })
    }

    /// The answer, of which no more than `most` bytes are read. Its texts never quote the URL, which may hold a secret.
    async fn send(&self, mut request: RequestBuilder, most: usize) -> Result<Reply, String> {
        if let Some((name, value)) = &self.header {
            request = request.header(name, value);
        }
        let mut answer = request.send().await.map_err(in_full)?;
        let mut body = Zeroizing::new(Vec::new());
        while let Some(piece) = answer.chunk().await.map_err(in_full)? {
            if body.len() + piece.len() > most {
                return Err(format!("its answer is longer than {most} bytes"));
            }
            body.extend_from_slice(&piece);
        }
        Ok(Reply { status: answer.status(), headers: std::mem::take(answer.headers_mut()), body })
    }
}

/// An error with its causes.
fn in_full(error: reqwest::Error) -> String {
    let error = error.without_url();
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(&error);
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

/// `Name: value`.
fn header(line: &Secret) -> Result<(HeaderName, HeaderValue), String> {
    let wrong = || "the header is not of the form \"Name: value\"".to_owned();
    let text = std::str::from_utf8(line.expose()).map_err(|_| wrong())?;
    let (name, value) = text.split_once(':').ok_or_else(wrong)?;
    let name = HeaderName::from_bytes(name.trim().as_bytes()).map_err(|_| wrong())?;
    let mut value = HeaderValue::from_str(value.trim()).map_err(|_| wrong())?;
    value.set_sensitive(true);
    Ok((name, value))
}

/// It can be a user's or a host's name.
fn is_name(name: &str) -> bool {
    !name.is_empty() && name.len() <= MAX_NAME && !name.contains(char::is_control)
}

#[async_trait]
impl Source for HttpSource {
    fn name(&self) -> String {
        format!("http {}", self.place)
    }

    async fn ask(&self, question: &Question<'_>) -> Verdict {
        let reply = self.asked(|service| match &service.form {
            Form::Nginx(_) => Ok(service.client.get(service.url.clone()).headers(nginx::login(question)?)),
            Form::Json(_) => json::login(&service.client, service.url.clone(), question),
        });
        match (reply.await, self.service.as_ref().map(|service| &service.form)) {
            (Ok(reply), Ok(Form::Nginx(form))) => form.login(&reply, question),
            (Ok(reply), Ok(Form::Json(form))) => form.login(&reply, question),
            (Err(verdict), _) => verdict,
            (Ok(_), Err(why)) => Verdict::Unavailable(why.clone()),
        }
    }

    async fn find(&self, lookup: &Lookup<'_>) -> Verdict {
        let reply = self.asked(|service| match &service.form {
            Form::Nginx(_) => Ok(service.client.get(service.url.clone()).headers(nginx::lookup(lookup))),
            Form::Json(_) => json::lookup(&service.client, service.url.clone(), lookup),
        });
        match (reply.await, self.service.as_ref().map(|service| &service.form)) {
            (Ok(reply), Ok(Form::Nginx(form))) => form.lookup(&reply, lookup),
            (Ok(reply), Ok(Form::Json(form))) => form.lookup(&reply, lookup),
            (Err(verdict), _) => verdict,
            (Ok(_), Err(why)) => Verdict::Unavailable(why.clone()),
        }
    }

    async fn list(&self) -> Option<Result<Vec<String>, String>> {
        let service = match &self.service {
            Ok(service) if matches!(service.form, Form::Json(_)) => service,
            Ok(_) => return None, // nginx never asks for that
            Err(why) => return Some(Err(why.clone())),
        };
        let request = json::listing(&service.client, service.url.clone()).timeout(LISTING);
        match service.send(request, MAX_LIST).await {
            Ok(reply) => json::names(&reply),
            Err(why) => Some(Err(why)),
        }
    }
}
