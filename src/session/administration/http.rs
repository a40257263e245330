//! A client of the HTTP API.

use std::convert::Infallible;
use std::io::{self, Cursor};
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures_util::stream::{self, Stream};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, Limited, StreamBody};
use hyper::body::{Bytes, Frame, Incoming};
use hyper::header::{AUTHORIZATION, CONNECTION, CONTENT_TYPE, HeaderMap, HeaderValue, WWW_AUTHENTICATE};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::AsyncReadExt;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use zeroize::Zeroizing;

use super::api::Api;
use super::many::PARTS;
use super::patient::Patient;
use super::{Administration, Caller};
use crate::config::ListenerTls;
use crate::model::{Ending, Phase, Refusal, Secret};
use crate::protocol::Input;
use crate::protocol::doveadm::{ApiCall, PROXY_TTL, parse_calls};
use crate::session::door::{Door, Guest};
use crate::session::ending::{End, Record};
use crate::session::entry::hops_left;

/// Where Dovecot has it.
const PATH: &str = "/doveadm/v1";
/// Bytes of a request's body: a mail that is saved stands there as a text.
const BODY_MAX: usize = 16 * 1024 * 1024;
/// Bytes of a request's head.
const HEAD_MAX: usize = 16 * 1024;

/// What requests came to, for the record.
#[derive(Clone, Copy, Default)]
struct Seen {
    let_in: bool,
    denied: bool,
}

/// Serves requests until the client closes. `input`: what was read already.
pub(super) async fn serve(door: &Door, guest: Guest, input: &Input, record: &mut Record) -> End {
    let needs_tls = door.listener.tls == ListenerTls::StartTls && !guest.is_secured();
    let Guest { stream, session, client, local, .. } = guest;
    let caller = Caller { services: door.services.clone(), session, client, local };
    let seen = Arc::new(std::sync::Mutex::new(Seen::default()));
    let service = service_fn(|request| {
        let (caller, seen) = (caller.clone(), seen.clone());
        async move { Ok::<_, Infallible>(answer(&caller, needs_tls, request, &seen).await) }
    });
    let (reading, writing) = tokio::io::split(stream);
    let writing = Patient::new(writing, door.services.administration.settings.load().silence);
    let head = Zeroizing::new(input.filled().to_vec());
    let stream = TokioIo::new(tokio::io::join(Cursor::new(head).chain(reading), writing));
    let limit = door.services.limits.load().login_timeout;
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(limit).max_buf_size(HEAD_MAX.max(super::COMMAND_MAX));
    let mut connection = std::pin::pin!(http.serve_connection(stream, service));
    let outcome = tokio::select! {
        outcome = connection.as_mut() => outcome,
        () = door.services.closing.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    let seen = *seen.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    if seen.let_in {
        record.reached(Phase::Relay);
    }
    record.refusal = seen.denied.then_some(Refusal::BadCredentials);
    match outcome {
        Ok(()) => (Ending::ClientClosed, None),
        Err(error) if error.is_timeout() => (Ending::ClientIdle, None),
        Err(error) if error.is_parse() => (Ending::ClientFault, Some(error.to_string())),
        Err(error) => (Ending::ClientLost, Some(error.to_string())),
    }
}

type Answer = Response<UnsyncBoxBody<Bytes, io::Error>>;

async fn answer(caller: &Caller, needs_tls: bool, request: Request<Incoming>, seen: &std::sync::Mutex<Seen>) -> Answer {
    if needs_tls {
        let mut answer = text(StatusCode::FORBIDDEN, "This listener takes no password without TLS");
        answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        return answer;
    }
    let administration = &caller.services.administration;
    let is_in = lets_in(administration, request.headers());
    {
        let mut seen = seen.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        (seen.let_in, seen.denied) = (seen.let_in || is_in, seen.denied || !is_in);
    }
    if !is_in {
        return unauthorized(caller);
    }
    if request.uri().path() != PATH {
        return text(StatusCode::NOT_FOUND, "Path Not Found");
    }
    if request.method() != Method::POST {
        return text(StatusCode::METHOD_NOT_ALLOWED, "Commands are sent by POST");
    }
    let ttl =
        request.headers().get(PROXY_TTL).map(|ttl| ttl.to_str().ok().and_then(|ttl| ttl.parse().ok()).unwrap_or(0));
    let Ok(ttl) = hops_left(&caller.session, caller.client, ttl) else {
        return text(StatusCode::LOOP_DETECTED, "proxies in a loop: a backend leads back to a proxy");
    };
    let limit = caller.services.limits.load().login_timeout;
    let body = match timeout(limit, Limited::new(request.into_body(), BODY_MAX).collect()).await {
        Ok(Ok(body)) => body.to_bytes(),
        Ok(Err(_)) => return text(StatusCode::PAYLOAD_TOO_LARGE, "The body is longer than 16 MiB, or broke off"),
        Err(_) => return text(StatusCode::REQUEST_TIMEOUT, "The body did not come in time"),
    };
    let calls = match parse_calls(&body) {
        Ok(calls) => calls,
        Err(fault) => return text(StatusCode::BAD_REQUEST, &fault.to_string()),
    };
    drop(body);
    let mut answer = Response::new(UnsyncBoxBody::new(StreamBody::new(carry_out(caller, ttl, calls))));
    let kind = HeaderValue::from_static("application/json; charset=utf-8");
    answer.headers_mut().insert(CONTENT_TYPE, kind);
    answer
}

/// Has the commands carried out, in a task that ends when nobody takes the answer any more.
fn carry_out(
    caller: &Caller,
    ttl: u32,
    calls: Vec<ApiCall>,
) -> impl Stream<Item = io::Result<Frame<Bytes>>> + Send + use<> {
    let (out, said) = mpsc::channel(PARTS);
    let gone = CancellationToken::new();
    let api = Api { caller: caller.clone(), ttl, out: out.clone(), gone: gone.clone() };
    caller.services.tasks.spawn(async move {
        let _gone = gone.drop_guard();
        tokio::select! {
            _ = api.run(calls) => {} // what broke off is seen, for its end is not said
            () = out.closed() => {}
        }
    });
    stream::unfold(Some(said), |said| async {
        let mut said = said?;
        match said.recv().await {
            Some(Some(bytes)) => Some((Ok(Frame::data(bytes)), Some(said))),
            Some(None) => None,
            None => Some((Err(io::ErrorKind::UnexpectedEof.into()), None)),
        }
    })
}

/// Whether the client knows the password, or the key.
fn lets_in(administration: &Administration, headers: &HeaderMap) -> bool {
    let Some((scheme, given)) = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok()?.split_once(' '))
    else {
        return false;
    };
    let Ok(given) = STANDARD.decode(given.trim()).map(Zeroizing::new) else { return false };
    if scheme.eq_ignore_ascii_case("X-Dovecot-API") {
        return administration.knows_key(&Secret::new(given.to_vec()));
    }
    let password = given.strip_prefix(b"doveadm:").filter(|_| scheme.eq_ignore_ascii_case("Basic"));
    password.is_some_and(|password| administration.knows_password(&Secret::new(password.to_vec())))
}

fn unauthorized(caller: &Caller) -> Answer {
    let settings = caller.settings();
    let mut answer = text(StatusCode::UNAUTHORIZED, "Authentication required");
    // Who guesses has one guess for each connection, as over TCP.
    answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    if settings.api_key.is_some() {
        answer.headers_mut().append(WWW_AUTHENTICATE, HeaderValue::from_static("X-Dovecot-API"));
    }
    if settings.password.is_some() {
        answer.headers_mut().append(WWW_AUTHENTICATE, HeaderValue::from_static("Basic Realm=\"doveadm\""));
    }
    answer
}

fn text(status: StatusCode, text: &str) -> Answer {
    let body = Full::new(Bytes::from(format!("{text}\n"))).map_err(|never| match never {});
    let mut answer = Response::new(UnsyncBoxBody::new(body));
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    answer
}
