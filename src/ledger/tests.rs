//! The ledger alone: who joins, who asks, what is declared.

use std::sync::Arc;
use std::sync::Mutex;

use super::*;

#[derive(Default)]
struct Told(Mutex<Vec<Ending>>);

impl Stop for Told {
    fn stop(&self, why: Ending) {
        self.0.lock().unwrap().push(why);
    }
}

impl Told {
    fn reasons(&self) -> Vec<Ending> {
        self.0.lock().unwrap().clone()
    }
}

fn key(name: &str) -> Key {
    Key::new(name)
}

fn place(backend: &str, generation: u64) -> Place {
    Place { backend: BackendId::new(backend), generation: Generation(generation) }
}

/// Enters and expects to be told to ask; returns the ticket and how many sessions the claim said there are.
fn ask(ledger: &Arc<Ledger>, name: &str) -> (Ticket, u32) {
    let stop: Arc<dyn Stop> = Arc::new(Told::default());
    match ledger.enter(&key(name), &stop, |_| true, |have| have) {
        Enter::Claiming(ticket, have) => (ticket, have),
        Enter::Joined(_) => panic!("joined"),
        Enter::Wait(_) => panic!("told to wait"),
    }
}

fn settled(ledger: &Arc<Ledger>, name: &str, backend: &str, stop: &Arc<Told>) -> Slot {
    let (ticket, _) = ask(ledger, name);
    ticket.bound(place(backend, 1), stop.clone(), true).unwrap()
}

fn join(ledger: &Arc<Ledger>, name: &str, stop: &Arc<Told>) -> Slot {
    let stop: Arc<dyn Stop> = stop.clone();
    match ledger.enter(&key(name), &stop, |_| true, |_| panic!("asked the store")) {
        Enter::Joined(slot) => slot,
        _ => panic!("did not join"),
    }
}

/// Declares all that is dirty and has it confirmed; returns key and count of each.
fn declare(ledger: &Ledger) -> Vec<(String, u32)> {
    let Some((batch, counts)) = ledger.declare(100, |counts| counts) else { return Vec::new() };
    ledger.confirm(batch);
    counts.into_iter().map(|count| (count.key.to_string(), count.count)).collect()
}

#[test]
fn the_first_login_of_a_key_asks_and_the_second_joins_without_a_call() {
    let (ledger, told) = (Arc::new(Ledger::default()), Arc::new(Told::default()));
    let first = settled(&ledger, "ann", "b1", &told);
    let second = join(&ledger, "ann", &told);
    assert_eq!(second.place(), first.place());
    assert_eq!(ledger.holding(), Holding { keys: 1, sessions: 2, dirty: 1 });
    assert_eq!(declare(&ledger), [("ann".to_owned(), 2)]);
}

#[test]
fn with_the_last_session_gone_only_a_claim_opens_the_next() {
    let (ledger, told) = (Arc::new(Ledger::default()), Arc::new(Told::default()));
    drop(settled(&ledger, "ann", "b1", &told));
    let (ticket, have) = ask(&ledger, "ann");
    assert_eq!(have, 0);
    ticket.declined();
}

#[test]
fn one_login_of_a_key_asks_at_a_time_and_the_others_wait_for_it() {
    let ledger = Arc::new(Ledger::default());
    let stop: Arc<dyn Stop> = Arc::new(Told::default());
    let (ticket, _) = ask(&ledger, "ann");
    let Enter::Wait(waiting) = ledger.enter(&key("ann"), &stop, |_| true, |_| ()) else { panic!("did not wait") };
    let mut waiting = std::pin::pin!(waiting);
    let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
    assert!(waiting.as_mut().poll(&mut cx).is_pending());
    let _slot = ticket.bound(place("b1", 1), stop.clone(), true).unwrap();
    assert!(waiting.as_mut().poll(&mut cx).is_ready());
    assert!(matches!(ledger.enter(&key("ann"), &stop, |_| true, |_| ()), Enter::Joined(_)));
}

#[test]
fn a_claim_without_an_answer_leaves_the_key_to_be_declared() {
    let ledger = Arc::new(Ledger::default());
    let (ticket, _) = ask(&ledger, "ann");
    assert!(declare(&ledger).is_empty(), "nothing is declared while a claim is under way");
    drop(ticket);
    assert_eq!(declare(&ledger), [("ann".to_owned(), 0)]);
    assert!(declare(&ledger).is_empty());
}

#[test]
fn a_key_that_is_settled_and_gone_leaves_nothing_behind() {
    let (ledger, told) = (Arc::new(Ledger::default()), Arc::new(Told::default()));
    drop(settled(&ledger, "ann", "b1", &told));
    declare(&ledger);
    assert_eq!(ledger.holding(), Holding::default());
    assert_eq!(ledger.audit(&[(key("ann"), 0)], false), 1, "the entry is gone");
}

#[test]
fn an_unconfirmed_declaration_is_repeated_with_the_present_count() {
    let (ledger, told) = (Arc::new(Ledger::default()), Arc::new(Told::default()));
    let first = settled(&ledger, "ann", "b1", &told);
    let _second = join(&ledger, "ann", &told);
    let (batch, _) = ledger.declare(100, |counts| counts).unwrap();
    drop(first);
    assert!(ledger.declare(100, |counts| counts).is_none(), "one declaration of a key at a time");
    ledger.unconfirmed(batch);
    assert_eq!(declare(&ledger), [("ann".to_owned(), 1)]);
}

#[test]
fn kicked_sessions_close_and_nobody_joins_or_asks_until_they_have() {
    let (ledger, told) = (Arc::new(Ledger::default()), Arc::new(Told::default()));
    let slot = settled(&ledger, "ann", "b1", &told);
    ledger.kick(&key("ann"), Some(&BackendId::new("b2")), Generation(2));
    assert_eq!(told.reasons(), [Ending::Kicked]);
    let stop: Arc<dyn Stop> = told.clone();
    assert!(matches!(ledger.enter(&key("ann"), &stop, |_| true, |_| ()), Enter::Wait(_)));
    drop(slot);
    assert_eq!(declare(&ledger), [("ann".to_owned(), 0)]);
    ask(&ledger, "ann").0.declined();
}

#[test]
fn a_kick_for_the_home_that_the_sessions_have_closes_nothing_and_is_answered() {
    let (ledger, told) = (Arc::new(Ledger::default()), Arc::new(Told::default()));
    let _slot = settled(&ledger, "ann", "b1", &told);
    ledger.kick(&key("ann"), Some(&BackendId::new("b1")), Generation(1));
    assert!(told.reasons().is_empty());
    assert_eq!(declare(&ledger), [("ann".to_owned(), 1)]);
}

#[test]
fn a_kick_at_the_same_generation_but_another_backend_closes() {
    let (ledger, told) = (Arc::new(Ledger::default()), Arc::new(Told::default()));
    let _slot = settled(&ledger, "ann", "b1", &told);
    ledger.kick(&key("ann"), Some(&BackendId::new("b2")), Generation(1));
    assert_eq!(told.reasons(), [Ending::Kicked]);
}

#[test]
fn a_claim_answered_with_another_home_than_the_live_sessions_have_closes_those_first() {
    let (ledger, told) = (Arc::new(Ledger::default()), Arc::new(Told::default()));
    let _slot = settled(&ledger, "ann", "b1", &told);
    let stop: Arc<dyn Stop> = told.clone();
    let Enter::Claiming(ticket, have) = ledger.enter(&key("ann"), &stop, |_| false, |have| have) else {
        panic!("did not ask")
    };
    assert_eq!(have, 1);
    assert!(ticket.bound(place("b2", 5), stop, true).is_none());
    assert_eq!(told.reasons(), [Ending::Kicked]);
    assert_eq!(declare(&ledger), [("ann".to_owned(), 1)], "the old session lives until its backend has closed");
}

#[test]
fn an_assertion_owes_every_key_until_it_is_declared_anew() {
    let (ledger, told) = (Arc::new(Ledger::default()), Arc::new(Told::default()));
    let _ann = settled(&ledger, "ann", "b1", &told);
    let bob = settled(&ledger, "bob", "b2", &told);
    drop(bob);
    let (before, _) = ledger.declare(100, |counts| counts).unwrap();
    ledger.begin_assertion();
    ledger.confirm(before);
    assert!(!ledger.asserted(), "what was counted before the assertion began does not settle it");
    let mut declared = declare(&ledger);
    declared.sort();
    assert_eq!(declared, [("ann".to_owned(), 1), ("bob".to_owned(), 0)]);
    assert!(ledger.asserted());
}

#[test]
fn keys_that_only_the_store_holds_are_declared_gone() {
    let (ledger, told) = (Arc::new(Ledger::default()), Arc::new(Told::default()));
    let _ann = settled(&ledger, "ann", "b1", &told);
    ledger.begin_assertion();
    declare(&ledger);
    assert_eq!(ledger.audit(&[(key("ann"), 1), (key("ghost"), 2)], true), 1);
    assert!(!ledger.asserted());
    assert_eq!(declare(&ledger), [("ghost".to_owned(), 0)]);
    assert!(ledger.asserted());
}

#[test]
fn a_session_is_declared_unproven_until_its_login_is_accepted() {
    let ledger = Arc::new(Ledger::default());
    let (ticket, _) = ask(&ledger, "ann");
    let slot = ticket.bound(place("b1", 1), Arc::new(Told::default()), false).unwrap();
    ledger.begin_assertion();
    let unproven = |counts: Vec<Count>| counts[0].unproven;
    let (batch, was) = ledger.declare(100, unproven).unwrap();
    ledger.confirm(batch);
    assert!(was);
    slot.prove();
    assert!(!ledger.declare(100, unproven).unwrap().1);
}

#[test]
fn sessions_at_a_backend_that_is_gone_are_told_to_end() {
    let (ledger, told, other) = (Arc::new(Ledger::default()), Arc::new(Told::default()), Arc::new(Told::default()));
    let _ann = settled(&ledger, "ann", "b1", &told);
    let _bob = settled(&ledger, "bob", "b2", &other);
    assert_eq!(ledger.close_at(|backend| backend.as_str() == "b1", Ending::Kicked), 1);
    assert_eq!((told.reasons().len(), other.reasons().len()), (1, 0));
}

#[test]
fn a_shutdown_ends_sessions_in_portions_and_none_twice() {
    let (ledger, told) = (Arc::new(Ledger::default()), Arc::new(Told::default()));
    let slots: Vec<Slot> = (0..10).map(|n| settled(&ledger, &format!("user{n}"), "b1", &told)).collect();
    let closed: Vec<usize> = (0..4).map(|_| ledger.close_some(4, Ending::Shutdown)).collect();
    assert_eq!(closed, [4, 4, 2, 0]);
    assert_eq!(told.reasons().len(), slots.len());
}

#[test]
fn the_calls_go_out_in_the_order_in_which_the_counts_were_read() {
    // A declaration of 0 that is counted before a claim must also be sent before it, whatever the tasks do.
    let ledger = Arc::new(Ledger::default());
    let sent: Arc<Mutex<Vec<(bool, u32)>>> = Arc::default();
    let workers: Vec<_> = (0..4)
        .map(|_| {
            let (ledger, sent) = (ledger.clone(), sent.clone());
            std::thread::spawn(move || {
                let stop: Arc<dyn Stop> = Arc::new(Told::default());
                for _ in 0..500 {
                    let claim = |have| sent.lock().unwrap().push((true, have + 1));
                    match ledger.enter(&key("ann"), &stop, |_| true, claim) {
                        Enter::Claiming(ticket, ()) => drop(ticket.bound(place("b1", 1), stop.clone(), true)),
                        Enter::Joined(slot) => drop(slot),
                        Enter::Wait(_) => {}
                    }
                    let tell = |counts: Vec<Count>| {
                        sent.lock().unwrap().extend(counts.iter().map(|count| (false, count.count)));
                    };
                    if let Some((batch, ())) = ledger.declare(100, tell) {
                        ledger.confirm(batch);
                    }
                }
            })
        })
        .collect();
    workers.into_iter().for_each(|worker| worker.join().unwrap());
    while ledger.declare(100, |counts| sent.lock().unwrap().extend(counts.iter().map(|c| (false, c.count)))).is_some() {
    }
    assert_eq!(sent.lock().unwrap().last(), Some(&(false, 0)), "the last word is that nothing is left");
    assert_eq!(ledger.holding().sessions, 0);
}

#[test]
fn a_key_whose_sessions_are_closing_is_not_declared_again_and_again() {
    let (ledger, told) = (Arc::new(Ledger::default()), Arc::new(Told::default()));
    let slot = settled(&ledger, "ann", "b1", &told);
    declare(&ledger);
    for _ in 0..3 {
        // The store repeats it with every heartbeat, and in the answer to every declaration.
        ledger.kick(&key("ann"), Some(&BackendId::new("b2")), Generation(2));
        assert_eq!(ledger.dirty(), 0);
    }
    drop(slot);
    assert_eq!(declare(&ledger), [("ann".to_owned(), 0)]);
}

#[test]
fn a_kick_that_speaks_of_an_older_binding_or_none_closes_nothing_but_the_count_is_told() {
    let (ledger, told) = (Arc::new(Ledger::default()), Arc::new(Told::default()));
    let (ticket, _) = ask(&ledger, "ann");
    let _slot = ticket.bound(place("b1", 7), told.clone(), true).unwrap();
    declare(&ledger);
    ledger.kick(&key("ann"), Some(&BackendId::new("b2")), Generation(6));
    assert_eq!(declare(&ledger), [("ann".to_owned(), 1)]);
    ledger.kick(&key("ann"), None, Generation(0));
    assert_eq!(declare(&ledger), [("ann".to_owned(), 1)]);
    assert!(told.reasons().is_empty());
}

#[test]
fn nobody_is_added_to_sessions_that_were_told_to_end_while_the_claim_was_under_way() {
    let (ledger, told) = (Arc::new(Ledger::default()), Arc::new(Told::default()));
    let old = settled(&ledger, "ann", "b1", &told);
    let stop: Arc<dyn Stop> = told.clone();
    let Enter::Claiming(ticket, 1) = ledger.enter(&key("ann"), &stop, |_| false, |have| have) else {
        panic!("did not ask")
    };
    assert_eq!(ledger.close_all(Ending::Kicked), 1);
    assert!(ticket.bound(place("b1", 1), stop.clone(), true).is_none());
    assert_eq!(declare(&ledger), [("ann".to_owned(), 1)], "the store has counted one too many");
    drop(old);
    let _new = settled(&ledger, "ann", "b1", &told);
    join(&ledger, "ann", &told);
}

#[test]
fn a_declaration_is_not_put_off_for_ever_by_logins_that_claim_one_after_another() {
    let ledger = Arc::new(Ledger::default());
    let stop: Arc<dyn Stop> = Arc::new(Told::default());
    let enter = || ledger.enter(&key("ann"), &stop, |_| true, |have| have);
    let (first, _) = ask(&ledger, "ann");
    ledger.begin_assertion();
    assert!(declare(&ledger).is_empty(), "the claim carries the count");
    first.declined();
    assert!(matches!(enter(), Enter::Wait(_)), "now the declaration comes first");
    assert_eq!(declare(&ledger), [("ann".to_owned(), 0)]);
    assert!(ledger.asserted());
    let Enter::Claiming(second, 0) = enter() else { panic!("did not ask") };
    second.declined();
}

#[test]
fn no_login_waits_for_a_declaration_that_cannot_be_sent() {
    let ledger = Arc::new(Ledger::default());
    let stop: Arc<dyn Stop> = Arc::new(Told::default());
    let (first, _) = ask(&ledger, "ann");
    ledger.begin_assertion();
    declare(&ledger);
    first.declined();
    let Enter::Wait(waiting) = ledger.enter(&key("ann"), &stop, |_| true, |_| ()) else { panic!("did not wait") };
    ledger.stand_back();
    let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
    assert!(std::pin::pin!(waiting).poll(&mut cx).is_ready());
    ask(&ledger, "ann").0.declined();
}

#[test]
fn a_claim_that_was_never_sent_leaves_nothing_behind() {
    let ledger = Arc::new(Ledger::default());
    ask(&ledger, "ann").0.declined();
    assert_eq!(ledger.holding(), Holding::default());
    assert_eq!(ledger.audit(&[(key("ann"), 0)], false), 1, "there is no entry");
}

#[test]
fn a_count_that_the_store_has_wrong_is_declared_again_unless_it_is_about_to_be() {
    let (ledger, told) = (Arc::new(Ledger::default()), Arc::new(Told::default()));
    let _ann = settled(&ledger, "ann", "b1", &told);
    assert_eq!(ledger.audit(&[(key("ann"), 1)], false), 0, "the store is right");
    assert_eq!(ledger.audit(&[(key("ann"), 0)], false), 1, "the binding was deleted by hand");
    assert_eq!(ledger.audit(&[(key("ann"), 0)], false), 0, "it is in line already");
    assert_eq!(declare(&ledger), [("ann".to_owned(), 1)]);
}
