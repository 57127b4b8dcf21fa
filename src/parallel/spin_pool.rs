//! Spinning workers: threads of the caller's rayon pool that stay awake between the calls of a busy caller.
//!
//! A layer of a small network takes 10 us; to wake a sleeping thread takes 50 us and more. So no call waits
//! for a thread that sleeps. A caller has a mailbox for each worker, and a job runs on those workers that
//! come before it is done:
//!
//! ```text
//! fork_join(job):                                worker i, a task of the pool that `wake` spawned:
//!   for each mailbox i: offer(job)                 loop:
//!   job(0)                                           SPINS times: try_run mailbox i as thread i + 1
//!   for each mailbox i:                              no job for SPIN_TIME: state = ABSENT, end
//!     retract the offer if nobody has claimed it     older than REQUEUE_TIME: spawn itself again, end
//!     else wait until the worker is done             yield to the pool's other tasks
//! ```
//!
//! [`mailbox`](super::mailbox) has the memory orders, and why nothing deadlocks: a caller waits only for jobs
//! that a worker runs at that moment, however busy the pool is. The states of workers, and the times, are
//! hints and therefore relaxed: a stale one costs a call its helper, or wakes a worker in vain.
//!
//! In the child of a process that forked there are no workers; callers find that no offer is claimed, and
//! work alone.

#![allow(unsafe_code)]

use std::cell::{Cell, OnceCell};
use std::error::Error;
use std::panic;
use std::process;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::{self, ThreadId};
use std::time::Instant;

use super::mailbox::{Job, Mailbox, Offers};
use crate::tuning::spin_pool::{MAX_NESTED_WORKERS, REQUEUE_TIME, SPIN_TIME, SPINS};

/// There is no worker.
const ABSENT: u8 = 0;
/// The worker is a task of the pool that has not begun.
const QUEUED: u8 = 1;
/// The worker looks at its mailbox.
const SPINNING: u8 = 2;

/// The spinning workers of one calling thread.
pub(super) struct SpinPool {
    owner: ThreadId,
    /// When the last call ended.
    last_join: Moment,
    /// When a worker was last rejected, since all threads but the owner's were busy.
    last_rejection: Moment,
    in_call: AtomicBool,
    mailboxes: Box<[Mailbox]>,
    /// Whether each mailbox's worker is [`ABSENT`], [`QUEUED`] or [`SPINNING`].
    workers: Box<[AtomicU8]>,
}

/// The process of the first call. In a child that it forked there are no workers, and the locks they held
/// stay locked.
static PROCESS: OnceLock<u32> = OnceLock::new();

thread_local! {
    // A thread belongs to one rayon pool, or to none, all its life: its workers always come from the same.
    static POOL: OnceCell<Arc<SpinPool>> = const { OnceCell::new() };
    /// Workers on this thread's stack, see [`Nested`].
    static NESTED_WORKERS: Cell<usize> = const { Cell::new(0) };
}

impl SpinPool {
    /// Gives the calling thread's pool, which is made at its first call; none where the thread is ending.
    pub(super) fn of_this_thread() -> Option<Arc<Self>> {
        POOL.try_with(|pool| Arc::clone(pool.get_or_init(Self::new))).ok()
    }

    fn new() -> Arc<Self> {
        // Where there are no threads, there may be no clock and no process ids either: wasm32-unknown-unknown
        // panics at both.
        let workers = if has_rayon_pool() { rayon::current_num_threads() - 1 } else { 0 };
        if workers > 0 {
            PROCESS.get_or_init(process::id);
        }
        Arc::new(Self {
            owner: thread::current().id(),
            last_join: Moment::never(),
            last_rejection: Moment::never(),
            in_call: AtomicBool::new(false),
            mailboxes: (0..workers).map(|_| Mailbox::new()).collect(),
            workers: (0..workers).map(|_| AtomicU8::new(ABSENT)).collect(),
        })
    }

    /// Number of workers that there can be.
    pub(super) fn max_workers(&self) -> usize {
        self.mailboxes.len()
    }

    /// Number of the first `wanted` workers that spin.
    pub(super) fn spinning(&self, wanted: usize) -> usize {
        self.workers.iter().take(wanted).filter(|worker| worker.load(Ordering::Relaxed) == SPINNING).count()
    }

    /// Wakes those of the first `wanted` workers that are absent, if that pays.
    ///
    /// It does for a `long` call, or one that follows the last within [`SPIN_TIME`]: others end before a
    /// worker comes. It does not within [`SPIN_TIME`] after a rejection: the pool's threads are busy.
    pub(super) fn wake(self: &Arc<Self>, wanted: usize, long: bool) {
        if !(long || self.last_join.is_recent()) || self.last_rejection.is_recent() {
            return;
        }
        for (number, worker) in self.workers.iter().enumerate().take(wanted) {
            if worker.load(Ordering::Relaxed) == ABSENT {
                if PROCESS.get().is_some_and(|&parent| parent != process::id()) {
                    return;
                }
                worker.store(QUEUED, Ordering::Relaxed);
                let pool = Arc::clone(self);
                rayon::spawn(move || spin(pool, number));
            }
        }
    }

    /// Runs `job` here, as thread 0, and on those of the first `wanted` workers that claim it before it is
    /// done here.
    ///
    /// Within another call's job it runs here alone, since the mailboxes are in use.
    pub(super) fn fork_join(&self, wanted: usize, job: Job<'_>) {
        let mailboxes = &self.mailboxes[..wanted.min(self.mailboxes.len())];
        if mailboxes.is_empty() {
            return job(0);
        }
        let Some(_in_call) = InCall::begin(&self.in_call) else { return job(0) };
        let offers = Offers(mailboxes);
        for mailbox in mailboxes {
            // SAFETY: all mailboxes are EMPTY, since each call leaves them so and no other is in flight;
            // `offers` ends, by returning or by unwinding, within the lifetime of `job`.
            unsafe { mailbox.offer(job) };
        }
        job(0);
        offers.join();
        self.last_join.set();
    }
}

/// Guards a call in flight, until this is dropped.
struct InCall<'a>(&'a AtomicBool);

impl<'a> InCall<'a> {
    /// Gives none if a call is in flight. Only the owner begins calls: the flag is atomic so that
    /// [`SpinPool`] is `Sync`.
    fn begin(in_call: &'a AtomicBool) -> Option<Self> {
        (!in_call.load(Ordering::Relaxed)).then(|| {
            in_call.store(true, Ordering::Relaxed);
            Self(in_call)
        })
    }
}

impl Drop for InCall<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Relaxed);
    }
}

/// Guards the depth to which workers nest on this thread's stack, until this is dropped.
///
/// A worker that yields to rayon may be given another worker to run, on top of it.
struct Nested;

impl Nested {
    /// Gives none at [`MAX_NESTED_WORKERS`].
    fn begin() -> Option<Self> {
        let depth = NESTED_WORKERS.get();
        (depth < MAX_NESTED_WORKERS).then(|| {
            NESTED_WORKERS.set(depth + 1);
            Self
        })
    }
}

impl Drop for Nested {
    fn drop(&mut self) {
        NESTED_WORKERS.set(NESTED_WORKERS.get() - 1);
    }
}

/// A moment that threads share: microseconds since the process's first, 0 for never.
///
/// In `usize`, since not all processors have 64-bit atomics; 32 bits wrap after 71 minutes, and once in a
/// million times an old moment then seems recent.
struct Moment(AtomicUsize);

impl Moment {
    fn never() -> Self {
        Self(AtomicUsize::new(0))
    }

    fn now() -> usize {
        static FIRST: OnceLock<Instant> = OnceLock::new();
        (FIRST.get_or_init(Instant::now).elapsed().as_micros() as usize).max(1)
    }

    fn set(&self) {
        self.0.store(Self::now(), Ordering::Relaxed);
    }

    /// Whether it was within the last [`SPIN_TIME`].
    fn is_recent(&self) -> bool {
        let moment = self.0.load(Ordering::Relaxed);
        moment != 0 && Self::now().wrapping_sub(moment) as u128 <= SPIN_TIME.as_micros()
    }
}

/// Whether the calling thread has a rayon pool: its own, or the global one, which is made now if there is
/// none.
///
/// The system may refuse the global pool's threads, and rayon would panic when it is asked for that pool.
fn has_rayon_pool() -> bool {
    static GLOBAL: OnceLock<bool> = OnceLock::new();
    let make = || match rayon::ThreadPoolBuilder::new().build_global() {
        Ok(()) => true,
        // Without a source, the program has made it, or tried to before: only a panic of rayon tells which.
        Err(error) => error.source().is_none() && panic::catch_unwind(rayon::current_num_threads).is_ok(),
    };
    rayon::current_thread_index().is_some() || *GLOBAL.get_or_init(make)
}

/// Runs worker `number`, as a task of the rayon pool: see the module's pseudo-code.
fn spin(pool: Arc<SpinPool>, number: usize) {
    let state = &pool.workers[number];
    // The owner can't be its own worker; that it was given the task shows that all other threads are busy.
    let Some(_nested) = Nested::begin().filter(|_| thread::current().id() != pool.owner) else {
        pool.last_rejection.set();
        return state.store(ABSENT, Ordering::Relaxed);
    };
    state.store(SPINNING, Ordering::Relaxed);
    let begin = Instant::now();
    let mut last_job = begin;
    // Outside of the loop: the pool's own cache line is written by the owner in each call.
    let mailbox = &pool.mailboxes[number];
    loop {
        let mut had_job = false;
        for _ in 0..SPINS {
            had_job |= mailbox.try_run(number + 1);
            std::hint::spin_loop();
        }
        let now = Instant::now();
        if had_job {
            last_job = now;
        }
        if now - last_job > SPIN_TIME {
            return state.store(ABSENT, Ordering::Relaxed);
        }
        if now - begin > REQUEUE_TIME {
            state.store(QUEUED, Ordering::Relaxed);
            return rayon::spawn(move || spin(pool, number));
        }
        match rayon::yield_now() {
            Some(rayon::Yield::Executed) => last_job = Instant::now(),
            _ => thread::yield_now(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::panic::AssertUnwindSafe;
    use std::sync::mpsc;
    use std::time::Duration;

    use super::*;
    use crate::parallel::tasks::Tasks;

    fn pool(threads: usize) -> rayon::ThreadPool {
        rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap()
    }

    #[test]
    fn workers_of_ever_new_callers_do_not_fill_a_stack() {
        let threads = rayon::ThreadPoolBuilder::new().num_threads(2).stack_size(128 << 10).build().unwrap();
        threads.install(|| {
            let pools: Vec<_> = (0..if cfg!(miri) { 50 } else { 5000 }).map(|_| SpinPool::new()).collect();
            pools.iter().for_each(|pool| pool.wake(1, true));
            let begin = Instant::now();
            while pools.iter().any(|pool| pool.workers[0].load(Ordering::Relaxed) != ABSENT) {
                assert!(begin.elapsed() < Duration::from_secs(60), "a worker stays for ever");
                thread::yield_now();
            }
        });
    }

    #[test]
    fn a_call_within_a_call_runs_on_its_caller() {
        pool(2).install(|| {
            let pool = SpinPool::of_this_thread().unwrap();
            let begin = Instant::now();
            for _ in 0..20 {
                while pool.spinning(1) == 0 {
                    assert!(begin.elapsed() < Duration::from_secs(60), "no worker came");
                    pool.wake(1, true);
                }
                pool.fork_join(1, &|thread| {
                    if thread == 0 {
                        pool.fork_join(1, &|thread| {
                            assert_eq!(thread, 0);
                            thread::sleep(Duration::from_micros(100));
                        });
                    }
                });
            }
        });
    }

    #[test]
    fn workers_come_to_a_busy_caller_and_every_task_runs() {
        pool(3).install(|| {
            let pool = SpinPool::of_this_thread().unwrap();
            assert_eq!(pool.max_workers(), 2);
            let ran_on = AtomicUsize::new(0);
            let begin = Instant::now();
            while ran_on.load(Ordering::Relaxed) != 0b110 {
                assert!(begin.elapsed() < Duration::from_secs(60), "no worker came");
                pool.wake(2, true);
                let mut tasks = Tasks::new();
                (0..8).for_each(|task| tasks.push(task));
                let sum = AtomicUsize::new(0);
                pool.fork_join(2, &|thread| {
                    while let Some((_, task)) = tasks.take(thread) {
                        let start = Instant::now();
                        while start.elapsed() < Duration::from_micros(20) {}
                        sum.fetch_add(task, Ordering::Relaxed);
                        ran_on.fetch_or(if thread > 0 { 1 << thread } else { 0 }, Ordering::Relaxed);
                    }
                });
                assert_eq!(sum.into_inner(), 28);
            }
            while pool.spinning(2) > 0 {
                assert!(begin.elapsed() < Duration::from_secs(60), "workers spin for ever");
                thread::sleep(Duration::from_millis(1));
            }
        });
    }

    #[test]
    fn a_worker_that_panics_frees_everyone() {
        let begin = Instant::now();
        let call = |pool: &Arc<SpinPool>, on_worker: &(dyn Fn() + Sync)| {
            assert!(begin.elapsed() < Duration::from_secs(60), "no worker came");
            pool.wake(1, true);
            pool.fork_join(1, &|thread| {
                if thread > 0 {
                    return on_worker();
                }
                let start = Instant::now();
                while start.elapsed() < Duration::from_micros(20) {}
            });
        };
        pool(2).install(|| {
            let pool = SpinPool::of_this_thread().unwrap();
            let panics = || -> () { panic::resume_unwind(Box::new("the worker's")) };
            while panic::catch_unwind(AssertUnwindSafe(|| call(&pool, &panics))).is_ok() {}
            let ran_on = AtomicBool::new(false);
            while !ran_on.load(Ordering::Relaxed) {
                call(&pool, &|| ran_on.store(true, Ordering::Relaxed));
            }
        });
    }

    #[test]
    fn a_pool_that_is_busy_keeps_nobody_waiting() {
        let pool = pool(2);
        let (begun, has_begun) = mpsc::channel();
        let (end, may_end) = mpsc::channel::<()>();
        pool.spawn(move || {
            begun.send(()).unwrap();
            let _ = may_end.recv();
        });
        has_begun.recv().unwrap();
        let (done, is_done) = mpsc::channel();
        // On a thread of its own: a caller that waits would do so for ever.
        thread::spawn(move || {
            let runs = AtomicUsize::new(0);
            pool.install(|| {
                let pool = SpinPool::of_this_thread().unwrap();
                for _ in 0..1000 {
                    pool.wake(1, true);
                    pool.fork_join(1, &|_| {
                        runs.fetch_add(1, Ordering::Relaxed);
                    });
                }
            });
            done.send(runs.into_inner()).unwrap();
        });
        // The other worker never came: the caller was alone, and every offer was retracted.
        assert_eq!(is_done.recv_timeout(Duration::from_secs(60)), Ok(1000), "the caller waits");
        end.send(()).unwrap();
    }

    /// The pool's locks may be taken in the child, by threads that are not there to let go of them.
    #[cfg(all(target_os = "linux", not(miri)))]
    #[test]
    #[cfg_attr(not(target_arch = "x86_64"), ignore = "under qemu a process of many threads can't fork")]
    fn the_child_of_a_fork_wakes_nobody() {
        use std::ffi::c_int;
        // std links the C library already.
        unsafe extern "C" {
            fn fork() -> c_int;
            fn waitpid(child: c_int, status: *mut c_int, options: c_int) -> c_int;
            fn _exit(status: c_int) -> !;
        }
        let pool = pool(3).install(SpinPool::new);
        // SAFETY: the child runs no code but this crate's, and ends without unwinding.
        let child = unsafe { fork() };
        if child == 0 {
            pool.wake(pool.max_workers(), true);
            let queued = pool.workers.iter().any(|worker| worker.load(Ordering::Relaxed) != ABSENT);
            // SAFETY: it ends this process.
            unsafe { _exit(c_int::from(queued)) };
        }
        assert!(child > 0, "fork");
        let mut status = 0;
        // SAFETY: a child of this process, that nobody else waits for.
        let ended = unsafe { waitpid(child, &raw mut status, 0) };
        assert_eq!((ended, status), (child, 0), "the child's end");
    }
}
