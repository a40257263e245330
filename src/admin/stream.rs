//! Answers that take their time: a line of JSON for each part, and a sign of life while there is none.

use std::convert::Infallible;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use futures_util::stream::{Stream, unfold};
use serde::Serialize;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::wire::Line;

/// Between two signs of life: well below what a client waits for.
const SIGN: Duration = Duration::from_secs(5);

/// Does the work to its end, whether or not somebody waits for it, and answers with what came of it.
pub(super) fn in_background<T: Serialize + Send + 'static>(
    work: impl Future<Output = Result<T, String>> + Send + 'static,
) -> Response {
    let step = |working: Option<JoinHandle<Result<T, String>>>| async move {
        let mut working = working?;
        Some(match timeout(SIGN, &mut working).await {
            Err(_) => (text(&[Line::<T>::Alive]), Some(working)),
            Ok(Ok(Ok(item))) => (text(&[Line::Item(item), Line::End]), None),
            Ok(Ok(Err(why))) => (text(&[Line::<T>::Failed(why)]), None),
            Ok(Err(broken)) => (text(&[Line::<T>::Failed(format!("the work broke off: {broken}"))]), None),
        })
    };
    respond(unfold(Some(tokio::spawn(work)), step))
}

/// Answers with the items of one page after the other. `turn` gives a page and where the next begins.
pub(super) fn pages<P, T, F>(first: P, turn: impl Fn(P) -> F + Send + 'static) -> Response
where
    P: Send + 'static,
    T: Serialize + Send + 'static,
    F: Future<Output = Result<(Vec<T>, Option<P>), String>> + Send + 'static,
{
    respond(unfold(Some((first, turn)), |reading| async move {
        let (page, turn) = reading?;
        Some(match turn(page).await {
            Err(why) => (text(&[Line::<T>::Failed(why)]), None),
            Ok((items, next)) => {
                let mut lines: Vec<Line<T>> = items.into_iter().map(Line::Item).collect();
                lines.push(if next.is_some() { Line::Alive } else { Line::End });
                (text(&lines), next.map(|next| (next, turn)))
            }
        })
    }))
}

fn respond(lines: impl Stream<Item = Bytes> + Send + 'static) -> Response {
    use futures_util::StreamExt;
    let body = Body::from_stream(lines.map(Ok::<_, Infallible>));
    ([(CONTENT_TYPE, "application/x-ndjson")], body).into_response()
}

fn text<T: Serialize>(lines: &[Line<T>]) -> Bytes {
    let mut text = Vec::new();
    for line in lines {
        // What cannot be said is left out; the missing end tells the client.
        if serde_json::to_writer(&mut text, line).is_ok() {
            text.push(b'\n');
        }
    }
    text.into()
}
