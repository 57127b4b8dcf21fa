//! The protocol between a caller and its helpers, gone through in its interleavings by loom: `cargo test` here.
//!
//! `mailbox` and `tasks` are the crate's own files; `sync` stands for its namesake, made of what loom watches. A helper is modelled
//! as a thread that looks at its place a few times, and goes.
#![cfg(test)]

#[path = "../../../src/parallel/tasks.rs"]
mod tasks;
#[path = "../../../src/parallel/mailbox.rs"]
mod mailbox;

mod sync {
    pub(super) use loom::cell::UnsafeCell;
    pub(super) use loom::hint::spin_loop;
    pub(super) use loom::sync::atomic::{AtomicBool, AtomicU8, Ordering};
    pub(super) use loom::thread::yield_now;

    pub(super) const SPINS: usize = 1024;
}

use std::panic::{self, AssertUnwindSafe};

use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::thread;
use tasks::Parts;
use mailbox::{Offered, Place};

/// Goes through all interleavings in which threads are interrupted three times at most, beside where they wait: that finds nearly
/// all errors, as loom's documentation says, and without a bound it would take hours.
fn model(run: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(run);
}

/// What a call writes: a place for each of its parts, which only one thread may touch at a time.
struct Results<const N: usize>([UnsafeCell<usize>; N]);

// SAFETY: loom tells if two threads touch one at a time.
unsafe impl<const N: usize> Sync for Results<N> {}

impl<const N: usize> Results<N> {
    fn new() -> Self {
        Self(std::array::from_fn(|_| UnsafeCell::new(0)))
    }

    fn add(&self, part: usize) {
        // SAFETY: see above.
        self.0[part].with_mut(|result| unsafe { *result += 1 });
    }

    fn all_done(&self) -> bool {
        // SAFETY: see above.
        self.0.iter().all(|result| result.with(|result| unsafe { *result } == 1))
    }
}

/// Helpers that each look at their place so many times.
fn helpers(places: &Arc<Vec<Place>>, looks: usize) -> Vec<thread::JoinHandle<()>> {
    let helper = |number: usize| {
        let places = Arc::clone(places);
        thread::spawn(move || {
            for _ in 0..looks {
                places[number].serve(number + 1);
                thread::yield_now();
            }
        })
    };
    (0..places.len()).map(helper).collect()
}

/// A call of `N` parts, done by its caller and whoever comes; all that it borrows is gone when it returns.
fn call<const N: usize>(places: &[Place]) {
    let results = Results::<N>::new();
    let mut parts = Parts::new();
    (0..N).for_each(|part| parts.push(part));
    let work = |who: usize| {
        while let Some((number, part)) = parts.take(who) {
            assert_eq!(number, part);
            results.add(part);
        }
    };
    let offered = Offered(places);
    for place in places {
        // SAFETY: as in `Team::share`.
        unsafe { place.put(&work) };
    }
    work(0);
    offered.end();
    assert!(results.all_done());
}

fn places(count: usize) -> Arc<Vec<Place>> {
    Arc::new((0..count).map(|_| Place::new()).collect())
}

#[test]
fn every_part_of_call_after_call_is_done_once_and_seen_by_the_caller() {
    model(|| {
        let places = places(1);
        let helpers = helpers(&places, 2);
        call::<2>(&places);
        call::<2>(&places);
        helpers.into_iter().for_each(|helper| helper.join().unwrap());
    });
}

#[test]
fn two_helpers_and_a_caller_share_the_parts() {
    model(|| {
        let places = places(2);
        let helpers = helpers(&places, 1);
        call::<2>(&places);
        helpers.into_iter().for_each(|helper| helper.join().unwrap());
    });
}

#[test]
fn a_caller_without_helpers_does_all() {
    model(|| call::<3>(&places(2)));
}

#[test]
fn a_helper_that_panics_makes_its_caller_panic_and_leaves_the_place_free() {
    model(|| {
        let places = places(1);
        let helpers = helpers(&places, 1);
        let helped = loom::sync::atomic::AtomicBool::new(false);
        let offered = Offered(&places);
        let work = |who: usize| {
            if who > 0 {
                helped.store(true, loom::sync::atomic::Ordering::Relaxed);
                panic::resume_unwind(Box::new("the helper's"));
            }
        };
        // SAFETY: as in `Team::share`.
        unsafe { places[0].put(&work) };
        let end = panic::catch_unwind(AssertUnwindSafe(|| offered.end()));
        assert_eq!(end.is_err(), helped.load(loom::sync::atomic::Ordering::Relaxed));
        helpers.into_iter().for_each(|helper| helper.join().unwrap());
        call::<1>(&places);
    });
}

#[test]
fn a_caller_that_panics_waits_for_its_helpers() {
    model(|| {
        let places = places(1);
        let helpers = helpers(&places, 1);
        let end = panic::catch_unwind(AssertUnwindSafe(|| {
            let results = Results::<2>::new();
            let work = |who: usize| results.add(who);
            let _offered = Offered(&places);
            // SAFETY: as in `Team::share`.
            unsafe { places[0].put(&work) };
            panic::resume_unwind(Box::new("the caller's"));
        }));
        assert!(end.is_err());
        call::<2>(&places);
        helpers.into_iter().for_each(|helper| helper.join().unwrap());
    });
}
