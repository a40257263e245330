//! A link over a store that is scripted to fail.

use std::collections::VecDeque;
use std::sync::Mutex;

use super::*;
use crate::model::Key;
use crate::store::{Beat, BindingPage, BindingView, Census, Heartbeat, Nudges, Order, Ordered};

/// Long enough for a scripted answer on a busy machine.
const PATIENCE: Duration = Duration::from_millis(300);

/// What the store does with the next pipeline.
enum Act {
    /// Answers each call.
    Answer(fn(&Call) -> Reply),
    /// Breaks the connection.
    Break,
    /// Never answers.
    Hang,
}

#[derive(Default)]
struct Script {
    acts: Mutex<VecDeque<Act>>,
    seen: Mutex<Vec<Call>>,
    hellos: Mutex<VecDeque<bool>>,
    /// Nobody picks up.
    unreachable: std::sync::atomic::AtomicBool,
}

struct Scripted(Arc<Script>);
struct Line(Arc<Script>);

#[async_trait::async_trait]
impl Store for Scripted {
    async fn connect(&self, _: u16) -> Result<Box<dyn Connection>, StoreError> {
        if self.0.unreachable.load(std::sync::atomic::Ordering::Relaxed) {
            std::future::pending().await
        }
        Ok(Box::new(Line(self.0.clone())))
    }
    async fn order(&self, _: u16, _: &Order) -> Result<Ordered, StoreError> {
        Err(StoreError::Unfit { at: "here".into(), why: "scripted".into() })
    }
    async fn nudges(&self, _: u16, _: &Incarnation) -> Result<Box<dyn Nudges>, StoreError> {
        std::future::pending().await
    }
    async fn bindings(&self, _: u16, _: &str) -> Result<BindingPage, StoreError> {
        Ok(BindingPage::default())
    }
    async fn binding(&self, _: u16, _: &Key) -> Result<Option<BindingView>, StoreError> {
        Ok(None)
    }
    async fn census(&self, _: u16) -> Result<Census, StoreError> {
        Ok(Census::default())
    }
}

#[async_trait::async_trait]
impl Connection for Line {
    async fn exchange(&mut self, calls: &[Call]) -> Result<Vec<Reply>, StoreError> {
        self.0.seen.lock().unwrap().extend_from_slice(calls);
        if let Request::Hello(_) = &calls[0].request {
            let assert = self.0.hellos.lock().unwrap().pop_front().unwrap_or(false);
            let run = format!("run{}", calls[0].seq);
            return Ok(vec![Reply::Hello(Welcome { run, table_version: 0, assert, recovering_ms: 0, peers: 0 })]);
        }
        let act = self.0.acts.lock().unwrap().pop_front();
        match act {
            Some(Act::Break) => Err(StoreError::NoAnswer { at: "here".into(), why: "scripted".into() }),
            Some(Act::Hang) => std::future::pending().await,
            Some(Act::Answer(answer)) => Ok(calls.iter().map(answer).collect()),
            None => Ok(calls.iter().map(|_| Reply::Declare(Vec::new())).collect()),
        }
    }
}

fn start(acts: impl IntoIterator<Item = Act>, asserts: &[bool]) -> (Link, Arc<Script>) {
    let script = Arc::new(Script::default());
    script.acts.lock().unwrap().extend(acts);
    script.hellos.lock().unwrap().extend(asserts);
    let identity = Identity { incarnation: Incarnation::new("AAAAAAAAAA"), name: "p".into(), version: "0".into() };
    let tasks = crate::model::Tasks::new(|task| drop(tokio::spawn(task)));
    let store = Arc::new(Scripted(script.clone()));
    (Link::start(store, 0, identity, PATIENCE, crate::model::Clock::boottime(), &tasks), script)
}

async fn up(link: &Link, hellos: u64) -> LinkState {
    let mut state = link.state();
    state.wait_for(|state| state.welcome.is_some() && state.hellos >= hellos).await.unwrap().clone()
}

fn nothing() -> Request {
    Request::Declare(Vec::new())
}

fn seqs(script: &Script) -> Vec<u64> {
    script.seen.lock().unwrap().iter().map(|call| call.seq).collect()
}

#[tokio::test]
async fn calls_are_numbered_without_gaps_in_the_order_in_which_they_were_queued() {
    let (link, script) = start([], &[]);
    up(&link, 1).await;
    let held = |n: u32| Request::Held { cursor: n.to_string() };
    let pending: Vec<_> = (0..250).map(|n| link.send(held(n))).collect();
    for one in pending {
        answer(one).await.unwrap();
    }
    assert_eq!(seqs(&script), (1..=251).collect::<Vec<_>>());
    let cursors: Vec<_> = script.seen.lock().unwrap()[1..].iter().map(|call| call.request.clone()).collect();
    assert_eq!(cursors, (0..250).map(held).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_broken_connection_answers_nothing_and_the_next_hello_is_numbered_beyond_all_that_was_sent() {
    let (link, script) = start([Act::Break], &[]);
    up(&link, 1).await;
    assert_eq!(link.call(nothing()).await.unwrap_err(), NoAnswer::Unknown);
    up(&link, 2).await;
    assert_eq!(seqs(&script), [1, 2, 3]);
    let seen = script.seen.lock().unwrap();
    let Request::Hello(hello) = &seen[2].request else { panic!("no hello") };
    assert_eq!(hello.acked, 1, "the call in between was never answered");
}

#[tokio::test]
async fn a_store_that_does_not_answer_in_time_is_left_and_called_anew() {
    let (link, _) = start([Act::Hang], &[]);
    up(&link, 1).await;
    assert!(link.call(nothing()).await.is_err());
    up(&link, 2).await;
    assert!(link.call(nothing()).await.is_ok());
}

#[tokio::test]
async fn lost_is_no_answer_and_leads_to_a_hello_under_a_new_run() {
    let (link, script) = start([Act::Answer(|_| Reply::Lost)], &[]);
    up(&link, 1).await;
    assert!(link.call(nothing()).await.is_err());
    up(&link, 2).await;
    link.call(nothing()).await.unwrap();
    let seen = script.seen.lock().unwrap();
    assert_eq!(seen.last().unwrap().run, format!("run{}", seen[2].seq));
}

#[tokio::test]
async fn stale_is_no_answer_but_the_line_stays() {
    let (link, script) = start([Act::Answer(|_| Reply::Stale)], &[]);
    up(&link, 1).await;
    assert!(link.call(nothing()).await.is_err());
    assert!(link.call(nothing()).await.is_ok());
    assert_eq!(seqs(&script), [1, 2, 3]);
    assert_eq!(link.state().borrow().hellos, 1);
}

#[tokio::test]
async fn a_hello_names_the_highest_errand_that_an_answer_has_brought() {
    let given = |_: &Call| {
        let errands = vec![(7, "x".to_owned()), (9, "y".to_owned())];
        let beat = Beat { errands, ..Beat::default() };
        Reply::Heartbeat(beat)
    };
    let (link, script) = start([Act::Answer(given), Act::Break], &[]);
    up(&link, 1).await;
    link.call(Request::Heartbeat(Heartbeat::default())).await.unwrap();
    link.call(nothing()).await.unwrap_err();
    up(&link, 2).await;
    let seen = script.seen.lock().unwrap();
    let hellos = seen.iter().filter_map(|call| match &call.request {
        Request::Hello(hello) => Some(hello.errand),
        _ => None,
    });
    assert_eq!(hellos.collect::<Vec<_>>(), [0, 9]);
}

#[tokio::test]
async fn a_demand_to_assert_outlives_a_second_hello_that_does_not_repeat_it() {
    let (link, _) = start([Act::Break], &[true, false]);
    up(&link, 1).await;
    let _ = link.call(nothing()).await;
    let state = up(&link, 2).await;
    assert_eq!((state.hellos, state.assert_owed), (2, 1));
}

#[tokio::test]
async fn what_was_true_under_one_hello_is_not_said_under_the_next() {
    let (link, script) = start([Act::Break], &[]);
    up(&link, 1).await;
    let _ = link.call(nothing()).await;
    up(&link, 2).await;
    let asserted = Request::Heartbeat(Heartbeat { asserted: true, table_version: 0, ..Heartbeat::default() });
    assert!(link.call_under(1, asserted).await.is_err());
    assert!(!script.seen.lock().unwrap().iter().any(|call| matches!(call.request, Request::Heartbeat(_))));
    assert!(link.call_under(2, nothing()).await.is_ok());
}

#[tokio::test]
async fn while_a_silent_server_is_dialled_whoever_asks_hears_at_once_that_nothing_is_sent() {
    let (link, script) = start([Act::Break], &[]);
    up(&link, 1).await;
    script.unreachable.store(true, std::sync::atomic::Ordering::Relaxed);
    assert_eq!(link.call(nothing()).await.unwrap_err(), NoAnswer::Unknown);
    // Longer than the pause before dialling, shorter than dialling may take.
    let (began, mut quickest) = (tokio::time::Instant::now(), Duration::MAX);
    while began.elapsed() < PATIENCE {
        let asked = tokio::time::Instant::now();
        assert_eq!(link.call(nothing()).await.unwrap_err(), NoAnswer::Unsent);
        quickest = quickest.min(asked.elapsed());
        tokio::task::yield_now().await;
    }
    assert!(quickest < PATIENCE / 3, "{quickest:?}");
    assert_eq!(seqs(&script), [1, 2], "nothing was sent but the hello and the call that broke the line");
}

#[tokio::test]
async fn behind_the_last_call_nothing_is_sent_and_nobody_says_hello_again() {
    let (link, script) = start([], &[]);
    up(&link, 1).await;
    let before = link.send(nothing());
    let last = link.part_with(Request::Forget { dead: Incarnation::new("AAAAAAAAAA") });
    let (last, after) = tokio::join!(last, link.call(nothing()));
    assert!(last.is_ok() && answer(before).await.is_ok());
    assert_eq!(after.unwrap_err(), NoAnswer::Unknown);
    let mut state = link.state();
    while state.changed().await.is_ok() {}
    assert!(state.borrow().welcome.is_none());
    assert!(link.call(nothing()).await.is_err());
    assert_eq!(seqs(&script), [1, 2, 3]);
}
