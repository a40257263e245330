//! Answers that take their time: a line of JSON for each part, and a sign of life while there is none.

use std::convert::Infallible;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use futures_util::stream::{Stream, StreamExt, unfold};
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
    with_signs(SIGN, work)
}

fn with_signs<T: Serialize + Send + 'static>(
    every: Duration,
    work: impl Future<Output = Result<T, String>> + Send + 'static,
) -> Response {
    let step = move |working: Option<JoinHandle<Result<T, String>>>| async move {
        let mut working = working?;
        Some(match timeout(every, &mut working).await {
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

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use http_body_util::BodyExt;
    use tokio::sync::oneshot;

    use super::*;

    async fn next(body: &mut Body) -> String {
        let data = body.frame().await.unwrap().unwrap().into_data().unwrap();
        String::from_utf8(data.to_vec()).unwrap()
    }

    #[tokio::test]
    async fn while_it_works_there_are_signs_of_life_and_then_the_answer() {
        let (finish, finished) = oneshot::channel::<u32>();
        let work = async { finished.await.map_err(|error| error.to_string()) };
        let mut body = with_signs(Duration::from_millis(1), work).into_body();
        for _ in 0..3 {
            assert_eq!(next(&mut body).await, "\"alive\"\n");
        }
        finish.send(7).unwrap();
        let mut last = next(&mut body).await;
        while last.starts_with("\"alive\"") {
            last = next(&mut body).await;
        }
        assert_eq!(last, "{\"item\":7}\n\"end\"\n");
        assert!(body.frame().await.is_none());
    }

    #[tokio::test]
    async fn what_was_begun_is_finished_although_nobody_waits() {
        let (go, went) = oneshot::channel::<()>();
        let (done, is_done) = oneshot::channel::<()>();
        let work = async {
            let _ = went.await;
            let _ = done.send(());
            Ok(())
        };
        drop(in_background(work));
        go.send(()).unwrap();
        is_done.await.unwrap();
    }

    #[tokio::test]
    async fn pages_follow_each_other_until_one_is_the_last_or_fails() {
        let page = |number: u32| async move {
            if number < 2 { Ok((vec![number], Some(number + 1))) } else { Err("no more".to_owned()) }
        };
        let body = pages(0, page).into_body().collect().await.unwrap().to_bytes();
        let text = String::from_utf8(body.to_vec()).unwrap();
        assert_eq!(text, "{\"item\":0}\n\"alive\"\n{\"item\":1}\n\"alive\"\n{\"failed\":\"no more\"}\n");
    }
}
