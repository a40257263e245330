//! Web services that are asked during a login: the one way in which passdbs and the policy server are spoken to. Connections are
//! kept, answers are bounded in size and time, redirects are not followed, and no proxy of the environment is used.

use std::error::Error;
use std::path::Path;
use std::time::Duration;

use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use reqwest::redirect::Policy;
use reqwest::{Client, RequestBuilder, StatusCode};
use tokio::sync::OnceCell;
use zeroize::Zeroizing;

use crate::config::WebUrl;
use crate::model::Secret;
use crate::net::ClientTls;

/// Connections that nobody uses, and how long they stay.
const IDLE: (usize, Duration) = (64, Duration::from_secs(50));

const NO_HEADER: &str = "the header is not of the form \"Name: value\"";

/// A client of one service.
pub(super) struct Web {
    tls: ClientTls,
    secured: bool,
    timeout: Duration,
    client: OnceCell<Client>,
}

/// What came back.
pub(super) struct Reply {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Zeroizing<Vec<u8>>,
}

impl Web {
    /// Of a service whose URLs begin with https:// if it is `secured`, and with http:// if not. `timeout` is for a connection
    /// as well as for a whole answer.
    ///
    /// # Errors
    /// The authorities cannot be read.
    pub(super) fn new(ca: Option<&Path>, verify: bool, secured: bool, timeout: Duration) -> Result<Self, String> {
        let tls = ClientTls::new(ca, verify && secured).map_err(|fault| fault.to_string())?;
        Ok(Self { tls, secured, timeout, client: OnceCell::new() })
    }

    /// A POST to there.
    ///
    /// # Errors
    /// See [`Self::get`].
    pub(super) async fn post(&self, url: &WebUrl) -> Result<RequestBuilder, String> {
        self.must_fit(url)?;
        Ok(self.client().await?.post(url.full()))
    }

    /// A GET from there.
    ///
    /// # Errors
    /// No client can be made, or the service has named a URL that is protected otherwise than itself.
    pub(super) async fn get(&self, url: &WebUrl) -> Result<RequestBuilder, String> {
        self.must_fit(url)?;
        Ok(self.client().await?.get(url.full()))
    }

    /// The answer, if it has no more than `most` bytes. Errors never quote the URL, which may hold a secret.
    pub(super) async fn send(&self, request: RequestBuilder, most: usize) -> Result<Reply, String> {
        self.send_within(self.timeout, request, most).await
    }

    /// The same for a question that takes longer.
    pub(super) async fn send_within(
        &self,
        timeout: Duration,
        request: RequestBuilder,
        most: usize,
    ) -> Result<Reply, String> {
        let mut answer = request.timeout(timeout).send().await.map_err(in_full)?;
        let mut body = Zeroizing::new(Vec::new());
        while let Some(piece) = answer.chunk().await.map_err(in_full)? {
            if body.len() + piece.len() > most {
                return Err(format!("its answer is longer than {most} bytes"));
            }
            body.extend_from_slice(&piece);
        }
        Ok(Reply { status: answer.status(), headers: std::mem::take(answer.headers_mut()), body })
    }

    fn must_fit(&self, url: &WebUrl) -> Result<(), String> {
        match (url.is_tls(), self.secured) {
            (true, true) | (false, false) => Ok(()),
            (true, false) => Err(format!("{} is https:// where http:// is configured", url.place())),
            (false, true) => Err(format!("{} is not protected by https://", url.place())),
        }
    }

    async fn client(&self) -> Result<&Client, String> {
        self.client.get_or_try_init(|| self.made()).await
    }

    async fn made(&self) -> Result<Client, String> {
        let tls = self.tls.config().await.map_err(|fault| fault.to_string())?;
        Client::builder()
            .tls_backend_preconfigured((*tls).clone())
            .http1_only()
            .no_proxy()
            .redirect(Policy::none()) // a secret goes where the operator said, and nowhere else
            .connect_timeout(self.timeout)
            .pool_max_idle_per_host(IDLE.0)
            .pool_idle_timeout(IDLE.1)
            .tcp_nodelay(true)
            .build()
            .map_err(in_full)
    }
}

/// `Name: value`, of which the value is shown nowhere.
pub(super) fn header_line(line: &Secret) -> Result<(HeaderName, HeaderValue), String> {
    let at = line.expose().iter().position(|byte| *byte == b':').ok_or(NO_HEADER)?;
    let (name, value) = line.expose().split_at(at);
    secret_header(std::str::from_utf8(name).map_err(|_| NO_HEADER)?, &value[1..])
}

/// A header that is shown nowhere.
pub(super) fn secret_header(name: &str, value: &[u8]) -> Result<(HeaderName, HeaderValue), String> {
    let name = HeaderName::from_bytes(name.trim().as_bytes()).map_err(|_| NO_HEADER)?;
    let mut value = HeaderValue::from_bytes(value.trim_ascii()).map_err(|_| NO_HEADER)?;
    value.set_sensitive(true);
    Ok((name, value))
}

/// An error with its causes.
fn in_full(error: reqwest::Error) -> String {
    let error = error.without_url();
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
