//! Tests of how work is split, and of what does not depend on it.

use std::num::NonZeroUsize;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use rayon::{ThreadPool, ThreadPoolBuilder};

use super::fork_join::{for_each_split, max_threads};
use super::reduce::reduce_split;
use super::tasks::{MAX_TASKS, Tasks};
use super::threads::Threads;
use crate::dispatch::Dispatch;
use crate::isa::Isa;
use crate::kernels::pairwise_sum::PairwiseSum;
use crate::kernels::{Kernel, Split};
use crate::simd::tier::Tier;
use crate::tuning::parallel::LONG_ROW;

/// A range of numbers; its tasks record their first number and their length.
#[derive(Clone, Copy)]
struct Numbers<'a> {
    first: usize,
    len: usize,
    tasks: &'a Mutex<Vec<(usize, usize)>>,
}

impl Numbers<'_> {
    fn halves(self, at: usize) -> (Self, Self) {
        let at = at.min(self.len);
        (Self { len: at, ..self }, Self { first: self.first + at, len: self.len - at, ..self })
    }
}

impl Kernel for Numbers<'_> {
    type Output = ();

    fn run<T: Tier>(self, _: T) {
        self.tasks.lock().unwrap().push((self.first, self.len));
    }
}

impl Split for Numbers<'_> {
    fn len(&self) -> usize {
        self.len
    }

    fn split(self, at: usize) -> (Self, Self) {
        self.halves(at)
    }
}

const UNIT: usize = 4;

/// The sum of a function of the numbers: leaves of [`UNIT`], pairwise. Another order gives another sum.
struct Sum<'a>(Numbers<'a>);

impl Kernel for Sum<'_> {
    type Output = f32;

    fn run<T: Tier>(self, tier: T) -> f32 {
        let Self(numbers) = self;
        let mut tree = PairwiseSum::new();
        for first in (0..numbers.len).step_by(UNIT) {
            let group = numbers.first + first..numbers.first + numbers.len.min(first + UNIT);
            let value = |i: usize| (i * 7919 % 1013) as f32 / 7.0 * [1.0, 1e3, -1e5][i % 3];
            tree.push(tier.vector(), group.map(value).sum());
        }
        numbers.run(tier);
        tree.total(tier.vector())
    }
}

impl Split for Sum<'_> {
    fn len(&self) -> usize {
        self.0.len
    }

    fn split(self, at: usize) -> (Self, Self) {
        let (first, rest) = self.0.halves(at);
        (Self(first), Self(rest))
    }
}

fn pool(threads: usize) -> ThreadPool {
    ThreadPoolBuilder::new().num_threads(threads).build().unwrap()
}

/// Calls `call` with `len` numbers and `threads` tasks; gives its result, and the tasks that ran, in order.
fn tasks_of<T: Send>(
    pool: &ThreadPool,
    len: usize,
    threads: usize,
    call: impl FnOnce(Dispatch, Threads, Numbers<'_>) -> T + Send,
) -> (T, Vec<(usize, usize)>) {
    let tasks = Mutex::new(Vec::new());
    let dispatch = Dispatch::new(Isa::Portable).unwrap();
    let threads = Threads::Exactly(NonZeroUsize::new(threads).unwrap());
    let result = pool.install(|| call(dispatch, threads, Numbers { first: 0, len, tasks: &tasks }));
    let mut tasks = tasks.into_inner().unwrap();
    tasks.sort_unstable();
    (result, tasks)
}

/// The first few under Miri, which is a thousand times slower.
fn few(lens: &[usize]) -> &[usize] {
    if cfg!(miri) { &lens[..6] } else { lens }
}

#[test]
fn work_is_split_evenly_at_units_into_the_tasks_asked_for() {
    let pool = pool(2);
    for &len in few(&[1, 3, 4, 5, 8, 9, 30, 64, 1000, 1030]) {
        for threads in [1, 2, 3, 5, 16, 200] {
            let ((), tasks) = tasks_of(&pool, len, threads, |dispatch, threads, numbers| {
                for_each_split(dispatch, threads, 0, UNIT, numbers);
            });
            let units = len.div_ceil(UNIT);
            let what = format!("{len} on {threads}: {tasks:?}");
            assert_eq!(tasks.len(), threads.min(units).min(MAX_TASKS), "{what}");
            assert!(tasks.iter().all(|(first, _)| first.is_multiple_of(UNIT)), "{what}");
            assert!(tasks.is_sorted_by(|a, b| a.0 + a.1 == b.0), "{what}");
            assert_eq!(tasks.iter().map(|task| task.1).sum::<usize>(), len, "{what}");
            let units = tasks.iter().map(|task| task.1.div_ceil(UNIT));
            assert!(units.clone().max().unwrap() - units.min().unwrap() <= 1, "{what}");
        }
    }
}

#[test]
fn sums_are_those_of_one_thread_whatever_the_tasks() {
    let pool = pool(2);
    for &len in few(&[1, 4, 5, 8, 9, 13, 30, 64, 127, 128, 129, 1000, 1030]) {
        for cost in [0, len * LONG_ROW] {
            let elements = cost > 0 && len <= MAX_TASKS;
            let sum_on = |threads| {
                tasks_of(&pool, len, threads, |dispatch, threads, numbers| {
                    reduce_split(dispatch, threads, cost, UNIT, Sum(numbers)).to_bits()
                })
            };
            let (expected, _) = sum_on(1);
            for threads in [2, 3, 5, 16, 200] {
                let (found, tasks) = sum_on(threads);
                let what = format!("{len} on {threads}: {tasks:?}");
                assert_eq!(found, expected, "{what}");
                let most = if elements { len } else { len.div_ceil(UNIT) };
                // The last subtrees are small: where there are many, some are less deep than others.
                let least = if elements { len } else { threads.min(most).min(16) };
                assert!((least..=most).contains(&tasks.len()), "{what}");
                assert!(tasks.is_sorted_by(|a, b| a.0 + a.1 == b.0), "{what}");
                assert_eq!(tasks.iter().map(|task| task.1).sum::<usize>(), len, "{what}");
            }
        }
    }
}

#[test]
fn max_threads_follows_the_choice_and_the_pool() {
    let threads = [Threads::One, Threads::Exactly(NonZeroUsize::new(7).unwrap()), Threads::Auto];
    assert_eq!(pool(3).install(|| threads.map(max_threads)), [1, 7, 3]);
}

#[test]
fn each_task_is_taken_once() {
    let mut tasks = Tasks::new();
    (0..MAX_TASKS).for_each(|task| tasks.push(task));
    let taken: Vec<AtomicUsize> = (0..MAX_TASKS).map(|_| AtomicUsize::new(0)).collect();
    thread::scope(|scope| {
        for thread in 0..4 {
            let (tasks, taken) = (&tasks, &taken);
            scope.spawn(move || {
                while let Some((number, task)) = tasks.take(40 * thread) {
                    assert_eq!(number, task);
                    taken[task].fetch_add(1, Ordering::Relaxed);
                }
            });
        }
    });
    assert!(taken.iter().all(|taken| taken.load(Ordering::Relaxed) == 1));
}
