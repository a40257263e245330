//! What the store inside a process has beyond the contract.

use homing::model::Incarnation;
use homing::store::memory::Memory;
use homing::store::*;

use crate::stage::{claim, table, up};

fn call(incarnation: &str, run: &str, seq: u64, request: Request) -> Call {
    Call { incarnation: Incarnation::new(incarnation), run: run.to_owned(), seq, request }
}

fn hello() -> Request {
    Request::Hello(Hello { acked: 0, errand: 0, name: "n".to_owned(), version: "v".to_owned() })
}

async fn exchange(store: &Memory, call: Call) -> Reply {
    let mut connection = store.connect(0).await.expect("connection");
    connection.exchange(&[call]).await.expect("answer").remove(0)
}

async fn welcome(store: &Memory, incarnation: &str) -> Welcome {
    match exchange(store, call(incarnation, "", 1, hello())).await {
        Reply::Hello(welcome) => welcome,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_fresh_one_makes_nobody_wait() {
    let store = Memory::embedded(Rules::default());
    let run = welcome(&store, "x").await.run;
    let rows = table(&[("a", up())]);
    exchange(&store, call("x", &run, 2, Request::Table { based_on: 0, rows })).await;
    let home = exchange(&store, call("x", &run, 3, Request::Claim(claim("anna")))).await;
    assert!(matches!(home, Reply::Claim(Home::Bound { .. })), "{home:?}");
}

#[tokio::test]
async fn clones_are_one_store_and_two_of_them_a_fleet() {
    let store = Memory::embedded(Rules::default());
    assert_eq!(welcome(&store, "x").await.peers, 0);
    assert_eq!(welcome(&store.clone(), "y").await.peers, 1);
    assert_eq!(welcome(&Memory::embedded(Rules::default()), "y").await.peers, 0);
}

#[tokio::test]
async fn flushed_it_has_forgotten_everybody_and_opens_a_window() {
    let store = Memory::embedded(Rules::default());
    let run = welcome(&store, "x").await.run;
    store.flush();
    assert_eq!(exchange(&store, call("x", &run, 2, Request::Claim(claim("anna")))).await, Reply::Lost);
    let welcome = welcome(&store, "x").await;
    assert!(welcome.assert);
    assert_eq!((welcome.run, welcome.recovering_ms), (run, 4000));
}
