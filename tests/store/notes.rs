//! Notes: kept, recalled, dropped, lapsed.

use std::time::Duration;

use homing::store::Rules;
use homing::store::notes::{MAX_NOTE, Name, Note, Noted};
use tokio::time::{Instant, sleep};

use crate::stage::{Stage, World};

contract! {
    a_note_is_recalled_until_it_is_dropped,
    a_later_note_replaces_an_earlier_one_and_its_time,
    a_note_lapses,
    a_note_that_is_empty_or_too_long_is_none,
    all_notes_of_a_shard_can_be_forgotten_and_bindings_stay,
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

async fn a_note_that_is_empty_or_too_long_is_none(stage: Stage) {
    let world = stage.empty(Rules::default()).await;
    for (length, is_note) in [(0, false), (1, true), (MAX_NOTE, true), (MAX_NOTE + 1, false), (20 * MAX_NOTE, false)] {
        let value = vec![7; length];
        note(&world, &[keep(1, &value, HOUR)]).await;
        assert_eq!(recalled(&world, 1).await, is_note.then_some(value), "{length} bytes");
    }
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

async fn all_notes_of_a_shard_can_be_forgotten_and_bindings_stay(stage: Stage) {
    let (world, mut peer) = stage.pair().await;
    let home = peer.bind("ann", 0).await;
    note(&world, &[keep(1, b"a", HOUR), keep(2, b"b", HOUR), keep(3, b"c", HOUR), Note::Drop(name(3))]).await;
    assert_eq!(world.notes.forget_all(0).await.expect("the store answers"), 2);
    assert_eq!((recalled(&world, 1).await, recalled(&world, 2).await), (None, None));
    assert_eq!(world.notes.forget_all(0).await.expect("the store answers"), 0);
    assert_eq!(world.binding("ann").await.and_then(|binding| binding.backend).expect("bound").as_str(), home);
}
