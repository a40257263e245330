//! A hook that is a URL.

use std::time::Duration;

use http_body_util::Full;
use hyper::Request;
use hyper::body::Bytes;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use serde_json::json;
use tokio::time::timeout;

use super::{HookFailure, MoveArguments, SAID_MAX, printable};
use crate::net::Target;

/// Posts, and takes 2xx for a yes.
pub(super) async fn post(target: &Target, arguments: &MoveArguments, limit: Duration) -> Result<(), HookFailure> {
    let place = target.place();
    let mut request = Request::new(Full::new(Bytes::from(json!(arguments).to_string())));
    request.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    match timeout(limit, target.post(request, SAID_MAX)).await {
        Err(_) => Err(HookFailure::TimedOut { what: place, limit, said: String::new() }),
        Ok(Err(source)) => Err(HookFailure::Unanswered { place, source }),
        Ok(Ok((status, _))) if status.is_success() => Ok(()),
        Ok(Ok((status, body))) => Err(HookFailure::Refused { place, status: status.as_u16(), said: printable(&body) }),
    }
}
