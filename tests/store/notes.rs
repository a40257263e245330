//! Notes: kept, recalled, dropped, lapsed.

use std::time::Duration;

use homing::model::Incarnation;
use homing::store::Rules;
use homing::store::notes::{Name, Note, Noted, Trace};
use tokio::time::{Instant, sleep};

use crate::stage::{Stage, World};

contract! {
    a_note_is_recalled_until_it_is_dropped,
    a_later_note_replaces_an_earlier_one_and_its_time,
    a_note_lapses,
    traces_are_a_bounded_set_and_each_counts_once,
    a_count_lapses_after_its_first,
    what_is_occupied_is_counted_of_those_who_live,
    all_that_is_kept_in_a_shard_can_be_forgotten_and_bindings_and_failures_stay,
}

const HOUR: u64 = 3_600_000;

fn name(number: u8) -> Name {
    Name([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, number])
}

fn keep(number: u8, value: &[u8], ttl: u64) -> Note {
    Note::Keep { name: name(number), value: value.to_vec(), ttl }
}

async fn note(world: &World, notes: &[Note]) -> Vec<Noted> {
    world.notes.exchange(0, notes).await.expect("the store answers")
}

async fn recalled(world: &World, number: u8) -> Option<Vec<u8>> {
    match &note(world, &[Note::Recall(name(number))]).await[..] {
        [Noted::Kept(value)] => value.clone(),
        other => panic!("not the answer to a recall: {other:?}"),
    }
}

async fn a_note_is_recalled_until_it_is_dropped(stage: Stage) {
    let world = stage.empty(Rules::default()).await;
    let bytes: Vec<u8> = (0..=255).collect();
    let answers = note(&world, &[Note::Recall(name(1)), keep(1, &bytes, HOUR), Note::Recall(name(1))]).await;
    assert_eq!(answers, [Noted::Kept(None), Noted::Done, Noted::Kept(Some(bytes.clone()))]);
    assert_eq!(recalled(&world, 2).await, None);
    let answers = note(&world, &[Note::Drop(name(1)), Note::Drop(name(1)), Note::Recall(name(1))]).await;
    assert_eq!(answers, [Noted::Dropped(true), Noted::Dropped(false), Noted::Kept(None)]);
}

async fn a_later_note_replaces_an_earlier_one_and_its_time(stage: Stage) {
    let world = stage.empty(Rules::default()).await;
    note(&world, &[keep(1, b"old", 1), keep(1, b"new", HOUR), keep(2, b"gone", 1)]).await;
    until_lapsed(&world, 2).await;
    assert_eq!(recalled(&world, 1).await.as_deref(), Some(&b"new"[..]));
}

async fn a_note_lapses(stage: Stage) {
    let world = stage.empty(Rules::default()).await;
    note(&world, &[keep(1, b"soon gone", 20), keep(2, b"stays", HOUR)]).await;
    until_lapsed(&world, 1).await;
    assert_eq!(note(&world, &[Note::Drop(name(1))]).await, [Noted::Dropped(false)]);
    assert_eq!(recalled(&world, 2).await.as_deref(), Some(&b"stays"[..]));
}

/// Notes lapse by the server's own clock, so a test must let it run.
async fn until_lapsed(world: &World, number: u8) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while recalled(world, number).await.is_some() {
        assert!(Instant::now() < deadline, "the note never lapses");
        world.server.set_ms(world.server.ms() + 1);
        sleep(Duration::from_millis(1)).await;
    }
}

async fn all_that_is_kept_in_a_shard_can_be_forgotten_and_bindings_and_failures_stay(stage: Stage) {
    let (world, mut peer) = stage.pair().await;
    let home = peer.bind("ann", 0).await;
    let tally = Note::Tally { name: name(5), ttl: HOUR };
    note(&world, &[keep(1, b"a", HOUR), keep(2, b"b", HOUR), keep(3, b"c", HOUR), Note::Drop(name(3))]).await;
    note(&world, &[leave(4, 7, HOUR), tally.clone(), Note::Drop(name(4))]).await;
    assert_eq!(world.notes.forget_all(0).await.expect("the store answers"), 2);
    assert_eq!((recalled(&world, 1).await, recalled(&world, 2).await), (None, None));
    assert_eq!(world.notes.forget_all(0).await.expect("the store answers"), 0);
    assert_eq!(world.binding("ann").await.and_then(|binding| binding.backend).expect("bound").as_str(), home);
    assert_eq!(traces(&world, 4).await, [Trace([7; 16])], "failures are not what passdbs said");
    assert_eq!(note(&world, &[tally]).await, [Noted::Counted(2)]);
}

fn leave(number: u8, trace: u8, ttl: u64) -> Note {
    Note::Leave { name: name(number), trace: Trace([trace; 16]), ttl, most: 3 }
}

async fn traces(world: &World, number: u8) -> Vec<Trace> {
    match &note(world, &[Note::Traces(name(number))]).await[..] {
        [Noted::Traces(traces)] => traces.clone(),
        other => panic!("not the answer about traces: {other:?}"),
    }
}

async fn traces_are_a_bounded_set_and_each_counts_once(stage: Stage) {
    let world = stage.empty(Rules::default()).await;
    let answers = note(&world, &[leave(1, 0, HOUR), leave(1, 0xff, HOUR), leave(1, 0, HOUR), leave(2, 7, 1)]).await;
    assert_eq!(answers, [1, 2, 2, 1].map(Noted::Counted));
    let mut left = traces(&world, 1).await;
    left.sort();
    assert_eq!(left, [Trace([0; 16]), Trace([0xff; 16])]);
    let wipe = |traces: &[u8]| Note::Wipe { name: name(1), traces: traces.iter().map(|t| Trace([*t; 16])).collect() };
    assert_eq!(note(&world, &[wipe(&[0, 9]), wipe(&[0])]).await, [1, 0].map(Noted::Counted));
    assert_eq!(note(&world, &[leave(1, 1, HOUR), leave(1, 2, HOUR)]).await, [2, 3].map(Noted::Counted));
    assert_eq!(note(&world, &[leave(1, 3, HOUR), leave(1, 4, HOUR)]).await, [3, 3].map(Noted::Counted), "bounded");
    assert!(traces(&world, 1).await.contains(&Trace([4; 16])), "the newest is always there");
    let deadline = Instant::now() + Duration::from_secs(10);
    while !traces(&world, 2).await.is_empty() {
        assert!(Instant::now() < deadline, "traces never lapse");
        world.server.set_ms(world.server.ms() + 1);
        sleep(Duration::from_millis(1)).await;
    }
}

async fn a_count_lapses_after_its_first(stage: Stage) {
    let world = stage.empty(Rules::default()).await;
    let tally = |ttl| Note::Tally { name: name(1), ttl };
    assert_eq!(note(&world, &[tally(200), tally(HOUR), tally(HOUR)]).await, [1, 2, 3].map(Noted::Counted));
    let deadline = Instant::now() + Duration::from_secs(10);
    while note(&world, &[tally(HOUR)]).await != [Noted::Counted(1)] {
        assert!(Instant::now() < deadline, "the count never lapses");
        world.server.set_ms(world.server.ms() + 10);
        sleep(Duration::from_millis(10)).await;
    }
}

async fn what_is_occupied_is_counted_of_those_who_live(stage: Stage) {
    let (world, mut steward) = stage.pair().await;
    let (_p, _q) = (world.welcome("p").await, world.welcome("q").await);
    let occupy = |holder: &str, count| Note::Occupy {
        name: name(1),
        holder: Incarnation::new(holder),
        count,
        most: 3,
        ttl: HOUR,
    };
    let occupied = |fits, others| Noted::Occupied { fits, others };
    let answers = note(&world, &[occupy("p", 2), occupy("q", 1), occupy("q", 2), occupy("p", 1), occupy("q", 2)]).await;
    assert_eq!(
        answers,
        [occupied(true, 0), occupied(true, 2), occupied(false, 2), occupied(true, 1), occupied(true, 1)]
    );
    assert_eq!(note(&world, &[occupy("p", 2)]).await, [occupied(false, 2)]);
    // p is killed: as soon as that is known, its share is gone.
    steward.forget("p").await;
    assert_eq!(note(&world, &[occupy("q", 3), occupy("q", 4)]).await, [occupied(true, 0), occupied(false, 0)]);
    assert_eq!(note(&world, &[occupy("q", 0), occupy("q", 3)]).await, [occupied(true, 0), occupied(true, 0)]);
}
