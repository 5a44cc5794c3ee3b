//! Who runs next, by hand: futures are polled, and no time passes.

use std::future::Future;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use crate::gateway::admission::{Admission, AdmissionLimits, NoRoom, Room};

const LIMITS: AdmissionLimits = AdmissionLimits {
    running: 2,
    running_of_one: 2,
    waiting: 100,
    waiting_of_one: 100,
    patience: Duration::from_hours(1),
};

type Asked<'a> = Pin<Box<dyn Future<Output = Result<Room, NoRoom>> + 'a>>;

fn ask<'a>(admission: &'a Admission, consumer: &'a str) -> Asked<'a> {
    Box::pin(admission.room(consumer))
}

fn poll(asked: &mut Asked<'_>) -> Option<Result<Room, NoRoom>> {
    // The runtime would let one task poll some hundred times only.
    let asked = pin!(tokio::task::unconstrained(asked.as_mut()));
    match asked.poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(outcome) => Some(outcome),
        Poll::Pending => None,
    }
}

/// Room that is there at once.
fn now(admission: &Admission, consumer: &str) -> Room {
    poll(&mut ask(admission, consumer)).unwrap().unwrap()
}

#[tokio::test]
async fn one_question_goes_before_the_rest_of_anothers_fifty() {
    let admission = Admission::new(LIMITS);
    let (first, _second) = (now(&admission, "a"), now(&admission, "a"));
    let mut flood: Vec<Asked<'_>> = (0..48).map(|_| ask(&admission, "a")).collect();
    assert!(flood.iter_mut().all(|asked| poll(asked).is_none()));
    let mut light = ask(&admission, "b");
    assert!(poll(&mut light).is_none());
    drop(first);
    // `a` was first to wait, and has the turn; `b` has the next, before the 47 that came before it.
    let third = poll(&mut flood[0]).unwrap().unwrap();
    assert!(poll(&mut light).is_none());
    drop(third);
    let room = poll(&mut light).unwrap().unwrap();
    assert!(flood[1..].iter_mut().all(|asked| poll(asked).is_none()));
    drop(room);
    assert!(poll(&mut flood[1]).unwrap().is_ok());
}

#[tokio::test]
async fn a_consumer_at_its_own_limit_leaves_room_for_others() {
    let admission = Admission::new(AdmissionLimits { running_of_one: 1, ..LIMITS });
    let first = now(&admission, "a");
    let mut second = ask(&admission, "a");
    assert!(poll(&mut second).is_none());
    let of_b = now(&admission, "b");
    drop(of_b);
    assert!(poll(&mut second).is_none());
    drop(first);
    assert!(poll(&mut second).unwrap().is_ok());
}

#[tokio::test]
async fn lines_take_turns() {
    let admission = Admission::new(AdmissionLimits { running: 1, running_of_one: 1, ..LIMITS });
    let mut running = now(&admission, "z");
    let mut asked: Vec<(&str, Asked<'_>)> =
        ["a", "a", "a", "b", "c", "c", "b"].into_iter().map(|name| (name, ask(&admission, name))).collect();
    assert!(asked.iter_mut().all(|(_, asked)| poll(asked).is_none()));
    let mut order = String::new();
    while !asked.is_empty() {
        drop(running);
        let next = asked.iter_mut().enumerate().find_map(|(at, (name, asked))| Some((at, *name, poll(asked)?)));
        let (at, name, room) = next.unwrap();
        order.push_str(name);
        running = room.unwrap();
        drop(asked.remove(at));
    }
    assert_eq!(order, "abcabca");
    drop(running);
    assert_eq!(admission.load(), (0, 0));
}

#[tokio::test]
async fn lines_have_ends() {
    let admission = Admission::new(AdmissionLimits { waiting: 3, waiting_of_one: 2, ..LIMITS });
    let _running = (now(&admission, "a"), now(&admission, "a"));
    let mut waiting: Vec<Asked<'_>> = (0..2).map(|_| ask(&admission, "a")).collect();
    assert!(waiting.iter_mut().all(|asked| poll(asked).is_none()));
    assert_eq!(poll(&mut ask(&admission, "a")).unwrap().unwrap_err(), NoRoom::FullOfOne);
    waiting.push(ask(&admission, "b"));
    assert!(poll(&mut waiting[2]).is_none());
    assert_eq!(poll(&mut ask(&admission, "c")).unwrap().unwrap_err(), NoRoom::Full);
    // Whoever goes away leaves its place.
    drop(waiting.remove(0));
    assert_eq!(admission.load(), (2, 2));
    assert!(poll(&mut ask(&admission, "c")).is_none());
    drop(waiting);
    assert_eq!(admission.load(), (2, 0));
}

#[tokio::test]
async fn what_waits_too_long_is_refused_and_leaves_its_place() {
    let admission = Admission::new(AdmissionLimits { patience: Duration::ZERO, ..LIMITS });
    let running = (now(&admission, "a"), now(&admission, "b"));
    assert_eq!(admission.room("c").await.unwrap_err(), NoRoom::TimedOut);
    assert_eq!(admission.load(), (2, 0));
    drop(running);
    assert!(admission.room("c").await.is_ok());
    assert_eq!(admission.load(), (0, 0));
}

#[tokio::test]
async fn room_that_is_granted_to_one_who_has_gone_goes_on_to_the_next() {
    let admission = Admission::new(AdmissionLimits { running: 1, running_of_one: 1, ..LIMITS });
    let running = now(&admission, "a");
    let (mut gone, mut next) = (ask(&admission, "b"), ask(&admission, "c"));
    assert!(poll(&mut gone).is_none() && poll(&mut next).is_none());
    // Granted to `b`, which does not look any more.
    drop(running);
    assert_eq!(admission.load(), (1, 1));
    drop(gone);
    assert!(poll(&mut next).unwrap().is_ok());
    assert_eq!(admission.load(), (0, 0));
}

/// Many tasks on several threads, each with a few questions: never more than may run, and all of them do.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn never_more_run_than_may() {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    let admission = Admission::new(AdmissionLimits { running: 3, running_of_one: 2, waiting: 1000, ..LIMITS });
    let (running, done) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let tasks: Vec<_> = (0..40)
        .map(|task| {
            let (admission, running, done) = (admission.clone(), Arc::clone(&running), Arc::clone(&done));
            tokio::spawn(async move {
                for _ in 0..25 {
                    let room = admission.room(["a", "b", "c", "d"][task % 4]).await.unwrap();
                    assert!(running.fetch_add(1, Ordering::SeqCst) < 3);
                    tokio::task::yield_now().await;
                    running.fetch_sub(1, Ordering::SeqCst);
                    done.fetch_add(1, Ordering::SeqCst);
                    drop(room);
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    assert_eq!((done.load(Ordering::SeqCst), admission.load()), (1000, (0, 0)));
}

/// A caller that is dropped in every state leaves nothing behind.
#[tokio::test]
async fn nothing_is_left_of_those_who_went_away() {
    let admission = Admission::new(AdmissionLimits { running: 1, running_of_one: 1, ..LIMITS });
    for _ in 0..3 {
        let running = now(&admission, "a");
        let mut waiting = pin!(admission.room("b"));
        assert!(waiting.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        drop(running);
        // The room of `b` lies in its channel when it goes.
        assert_eq!(admission.load(), (1, 0));
    }
    assert_eq!(admission.load(), (0, 0));
}
