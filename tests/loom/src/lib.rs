//! Checks the protocol between a caller and its workers in all interleavings, by loom: `cargo test` here.
//!
//! `mailbox` and `tasks` are the crate's own files; `sync` stands for its namesake, with loom's primitives. A
//! worker is modelled as a thread that looks at its mailbox a few times, and ends.
#![cfg(test)]

#[path = "../../../src/parallel/mailbox.rs"]
mod mailbox;
#[path = "../../../src/parallel/tasks.rs"]
mod tasks;

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
use mailbox::{Mailbox, Offers};
use tasks::Tasks;

/// Runs all interleavings with at most three preemptions, beside those where a thread waits.
///
/// That finds nearly all errors, as loom's documentation says; without a bound it would take hours.
fn model(run: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(run);
}

/// The results of a call: a cell for each task, which only one thread may access at a time.
struct Results<const N: usize>([UnsafeCell<usize>; N]);

// SAFETY: loom fails the test if two threads access a cell at the same time.
unsafe impl<const N: usize> Sync for Results<N> {}

impl<const N: usize> Results<N> {
    fn new() -> Self {
        Self(std::array::from_fn(|_| UnsafeCell::new(0)))
    }

    fn add(&self, task: usize) {
        // SAFETY: as above.
        self.0[task].with_mut(|result| unsafe { *result += 1 });
    }

    fn all_done(&self) -> bool {
        // SAFETY: as above.
        self.0.iter().all(|result| result.with(|result| unsafe { *result } == 1))
    }
}

/// Starts a worker for each mailbox, which looks at it `looks` times.
fn workers(mailboxes: &Arc<Vec<Mailbox>>, looks: usize) -> Vec<thread::JoinHandle<()>> {
    let worker = |number: usize| {
        let mailboxes = Arc::clone(mailboxes);
        thread::spawn(move || {
            for _ in 0..looks {
                mailboxes[number].try_run(number + 1);
                thread::yield_now();
            }
        })
    };
    (0..mailboxes.len()).map(worker).collect()
}

/// Runs `N` tasks on the caller and the workers that come; what the job borrows is dropped on return.
fn call<const N: usize>(mailboxes: &[Mailbox]) {
    let results = Results::<N>::new();
    let mut tasks = Tasks::new();
    (0..N).for_each(|task| tasks.push(task));
    let job = |thread: usize| {
        while let Some((number, task)) = tasks.take(thread) {
            assert_eq!(number, task);
            results.add(task);
        }
    };
    let offers = Offers(mailboxes);
    for mailbox in mailboxes {
        // SAFETY: as in `SpinPool::fork_join`.
        unsafe { mailbox.offer(&job) };
    }
    job(0);
    offers.join();
    assert!(results.all_done());
}

fn mailboxes(count: usize) -> Arc<Vec<Mailbox>> {
    Arc::new((0..count).map(|_| Mailbox::new()).collect())
}

#[test]
fn each_task_of_two_calls_runs_once_and_the_caller_sees_it() {
    model(|| {
        let mailboxes = mailboxes(1);
        let workers = workers(&mailboxes, 2);
        call::<2>(&mailboxes);
        call::<2>(&mailboxes);
        workers.into_iter().for_each(|worker| worker.join().unwrap());
    });
}

#[test]
fn two_workers_and_a_caller_share_the_tasks() {
    model(|| {
        let mailboxes = mailboxes(2);
        let workers = workers(&mailboxes, 1);
        call::<2>(&mailboxes);
        workers.into_iter().for_each(|worker| worker.join().unwrap());
    });
}

#[test]
fn a_caller_without_workers_runs_all_tasks() {
    model(|| call::<3>(&mailboxes(2)));
}

#[test]
fn a_workers_panic_reaches_the_caller_and_frees_the_mailbox() {
    model(|| {
        let mailboxes = mailboxes(1);
        let workers = workers(&mailboxes, 1);
        let ran = loom::sync::atomic::AtomicBool::new(false);
        let offers = Offers(&mailboxes);
        let job = |thread: usize| {
            if thread > 0 {
                ran.store(true, loom::sync::atomic::Ordering::Relaxed);
                panic::resume_unwind(Box::new("the worker's"));
            }
        };
        // SAFETY: as in `SpinPool::fork_join`.
        unsafe { mailboxes[0].offer(&job) };
        let end = panic::catch_unwind(AssertUnwindSafe(|| offers.join()));
        assert_eq!(end.is_err(), ran.load(loom::sync::atomic::Ordering::Relaxed));
        workers.into_iter().for_each(|worker| worker.join().unwrap());
        call::<1>(&mailboxes);
    });
}

#[test]
fn a_caller_that_panics_waits_for_its_workers() {
    model(|| {
        let mailboxes = mailboxes(1);
        let workers = workers(&mailboxes, 1);
        let end = panic::catch_unwind(AssertUnwindSafe(|| {
            let results = Results::<2>::new();
            let job = |thread: usize| results.add(thread);
            let _offers = Offers(&mailboxes);
            // SAFETY: as in `SpinPool::fork_join`.
            unsafe { mailboxes[0].offer(&job) };
            panic::resume_unwind(Box::new("the caller's"));
        }));
        assert!(end.is_err());
        call::<2>(&mailboxes);
        workers.into_iter().for_each(|worker| worker.join().unwrap());
    });
}
