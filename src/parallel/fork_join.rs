//! Fork/join: splits work into tasks, which the calling thread and its spinning workers take.

use std::sync::{Arc, OnceLock};

use super::spin_pool::SpinPool;
use super::tasks::{MAX_TASKS, Tasks};
use super::threads::Threads;
use crate::dispatch::Dispatch;
use crate::error::{Error, Result};
use crate::kernels::Split;
use crate::tuning::parallel::{GRAIN, LONG, OVERSPLIT};

/// A fork whose workers have been woken, and whose number of tasks is settled.
pub(super) struct Fork {
    pool: Arc<SpinPool>,
    workers: usize,
    tasks: usize,
}

impl Fork {
    /// Plans a fork of `cost` nanoseconds into at most `max_tasks`; none if the calling thread runs alone.
    ///
    /// There is a task for each thread that is awake. Where a long call finds workers asleep, there are
    /// [`OVERSPLIT`] times as many as threads: workers that wake up take what is left.
    pub(super) fn plan(threads: Threads, cost: usize, max_tasks: usize) -> Option<Self> {
        let wanted = match threads {
            Threads::One => 1,
            Threads::Exactly(tasks) => tasks.get(),
            Threads::Auto => cost / GRAIN,
        };
        let max_tasks = wanted.min(max_tasks).min(MAX_TASKS);
        if max_tasks <= 1 {
            return None;
        }
        // Last, since the first call starts the global pool.
        let pool = SpinPool::of_this_thread()?;
        let workers = pool.max_workers().min(max_tasks - 1);
        let spinning = pool.spinning(workers);
        let asleep = spinning < workers;
        if asleep {
            pool.wake(workers, cost >= LONG);
        }
        let tasks = match threads {
            Threads::Exactly(_) => max_tasks,
            _ if asleep && cost >= LONG => (OVERSPLIT * (workers + 1)).min(max_tasks),
            _ => spinning + 1,
        };
        Some(Self { pool, workers, tasks })
    }

    /// Number of tasks to split the work into.
    pub(super) fn tasks(&self) -> usize {
        self.tasks
    }

    /// Runs `body` for each task and its number, once, here and on the workers; waits for all.
    pub(super) fn run<T: Send>(self, tasks: &Tasks<T>, body: impl Fn(usize, T) + Sync) {
        let job = |thread: usize| {
            while let Some((number, task)) = tasks.take(thread) {
                body(number, task);
            }
        };
        self.pool.fork_join(self.workers, &job);
    }
}

/// Runs a kernel whose work is `cost` nanoseconds long, split evenly at multiples of `unit`.
pub(crate) fn for_each_split<K>(dispatch: Dispatch, threads: Threads, cost: usize, unit: usize, kernel: K)
where
    K: Split<Output = ()>,
{
    let units = kernel.len().div_ceil(unit);
    let Some(fork) = Fork::plan(threads, cost, units) else { return dispatch.run(kernel) };
    let mut tasks = Tasks::new();
    let mut rest = kernel;
    for left in (2..=fork.tasks()).rev() {
        let at = (rest.len().div_ceil(unit) / left).max(1) * unit;
        let first;
        (first, rest) = rest.split(at);
        tasks.push(first);
    }
    tasks.push(rest);
    fork.run(&tasks, |_, task| dispatch.run(task));
}

/// Runs `body` once for each of `tasks`, whose work is `cost` nanoseconds long in all.
///
/// The calling thread prefers the first task and worker i task i, in call after call, so that what they write
/// stays in their caches.
///
/// # Errors
/// One of those that tasks end with; all of them have run then, too.
pub(crate) fn for_each_task<T: Send>(
    threads: Threads,
    cost: usize,
    tasks: impl IntoIterator<Item = T>,
    body: impl Fn(T) -> Result<()> + Sync,
) -> Result<()> {
    let failed = OnceLock::<Error>::new();
    let body = |task| {
        if let Err(error) = body(task) {
            let _ = failed.set(error);
        }
    };
    let mut all = tasks.into_iter();
    loop {
        let mut tasks = Tasks::new();
        all.by_ref().take(MAX_TASKS).for_each(|task| tasks.push(task));
        if tasks.len() == 0 {
            return failed.into_inner().map_or(Ok(()), Err);
        }
        match Fork::plan(threads, cost, tasks.len()) {
            Some(fork) => fork.run(&tasks, |_, task| body(task)),
            None => std::iter::from_fn(|| tasks.take(0)).for_each(|(_, task)| body(task)),
        }
    }
}

/// Number of threads that a long call can use, [`MAX_TASKS`] at most; it starts the global pool.
pub(crate) fn max_threads(threads: Threads) -> usize {
    match threads {
        _ if cfg!(not(feature = "rayon")) => 1,
        Threads::One => 1,
        Threads::Exactly(tasks) => tasks.get().min(MAX_TASKS),
        Threads::Auto => SpinPool::of_this_thread().map_or(1, |pool| (pool.max_workers() + 1).min(MAX_TASKS)),
    }
}
