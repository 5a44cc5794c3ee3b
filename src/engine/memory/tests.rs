//! Shares of memory, by hand.

use std::sync::Arc;

use datafusion::execution::memory_pool::{MemoryConsumer, MemoryPool, MemoryReservation};

use super::{QueryMemory, SharedMemory};

fn reserve(pool: &Arc<QueryMemory>, name: &str, can_spill: bool) -> MemoryReservation {
    let pool: Arc<dyn MemoryPool> = Arc::clone(pool) as _;
    MemoryConsumer::new(name).with_can_spill(can_spill).register(&pool)
}

/// The most that `reservation` is given, one byte at a time from what it has.
fn fill(reservation: &mut MemoryReservation) -> usize {
    while reservation.try_grow(1).is_ok() {}
    reservation.size()
}

#[test]
fn one_that_runs_alone_has_its_own_and_the_common_half() {
    // 3 queries may run: 4 parts of 100 are their own and that of what is beside them, and 400 are common.
    let shared = SharedMemory::new(800, 3);
    let one = shared.query();
    assert_eq!(fill(&mut reserve(&one, "a", false)), 500);
}

#[test]
fn one_that_holds_all_it_may_leaves_others_their_own() {
    let shared = SharedMemory::new(800, 3);
    let heavy = shared.query();
    let mut all = reserve(&heavy, "heavy", true);
    assert_eq!(fill(&mut all), 500);
    let (second, third) = (shared.query(), shared.query());
    let (mut of_second, mut of_third) = (reserve(&second, "second", false), reserve(&third, "third", true));
    assert_eq!((fill(&mut of_second), fill(&mut of_third)), (100, 100));
    assert_eq!(fill(&mut reserve(&shared.beside(), "beside", false)), 100);
    // The heavy one gets nothing more, and what it gives back is shared.
    all.free();
    assert_eq!(fill(&mut of_second), 100 + 400 / 3);
    assert_eq!(fill(&mut all), 100 + 400 / 3);
    assert_eq!(fill(&mut of_third), 100 + 400 / 3);
    drop((of_second, second));
    // Two are left: each may have half of what is common.
    assert_eq!(fill(&mut all), 100 + 200);
    assert_eq!(fill(&mut of_third), 100 + 200);
}

#[test]
fn operators_that_spill_have_equal_parts_of_what_the_others_leave() {
    let shared = SharedMemory::new(900, 1);
    let one = shared.query();
    let fixed = reserve(&one, "fixed", false);
    fixed.try_grow(300).unwrap();
    let (mut a, mut b) = (reserve(&one, "a", true), reserve(&one, "b", true));
    assert_eq!((fill(&mut a), fill(&mut b)), (300, 300));
    drop(b);
    assert_eq!(fill(&mut a), 600);
    assert!(fixed.try_grow(1).is_err());
}

#[test]
fn what_a_query_held_is_given_back_when_it_ends() {
    let shared = SharedMemory::new(800, 3);
    for _ in 0..3 {
        let query = shared.query();
        let mut held = reserve(&query, "held", false);
        assert_eq!(fill(&mut held), 500);
        // Beyond what it may, as some do who cannot ask.
        held.grow(1000);
        held.shrink(1);
    }
    let taken = shared.taken();
    assert_eq!((taken.running, taken.beyond), (0, 0));
}
