//! A caller's helpers: workers of its rayon pool that stay awake between the calls of a busy caller.
//!
//! A layer of a small network takes ten microseconds; to wake a sleeping worker takes fifty and
//! more. So no call waits for a worker that sleeps. Helpers are called in by a caller that makes
//! call after call, or one whose work is long; each watches a place of its own in memory until
//! there was nothing to do for [`SPIN_TIME`]. Work is offered there, and what no helper has begun
//! when the caller has done its own part is taken back. A caller therefore waits for nothing but
//! work that is under way, whatever else the pool is busy with: nothing can deadlock, and in the
//! child of a process that forked, where no helper is left, callers just work alone. Where a helper panics, its caller does.
//!
//! A helper is a task of its pool, and gives the others their turn.

#![allow(unsafe_code)]

use std::cell::{Cell, OnceCell};
use std::error::Error;
use std::panic;
use std::process;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::{self, ThreadId};
use std::time::{Duration, Instant};

use super::mailbox::{Offered, Place, Work};
use crate::tuning::parallel::{MAX_NESTED_WORKERS, REQUEUE_TIME, SPIN_TIME, SPINS};

/// What is known of a place's helper: there is none,
const ABSENT: u8 = 0;
/// it waits for its turn in the pool,
const CALLED: u8 = 1;
/// or it watches.
const AWAKE: u8 = 2;

/// The helpers of one calling thread.
pub(super) struct Team {
    owner: ThreadId,
    born: Instant,
    /// When the last call ended, in nanoseconds after `born`; 0 before there was one.
    last_call: AtomicU64,
    /// When a helper was last turned away, likewise.
    turned_away: AtomicU64,
    /// Whether a call is under way.
    shares: AtomicBool,
    places: Box<[Place]>,
    helpers: Box<[AtomicU8]>,
}

/// The process whose first call this was. In a child that it forked there are no workers, and what they had locked stays so.
static PROCESS: OnceLock<u32> = OnceLock::new();

thread_local! {
    // A thread is of one pool, or of none, for all its life: its helpers always come from the same.
    static TEAM: OnceCell<Arc<Team>> = const { OnceCell::new() };
    /// How many helpers stand on this thread's stack.
    static HELPERS: Cell<usize> = const { Cell::new(0) };
}

impl Team {
    /// The calling thread's; none where the thread is ending.
    pub(super) fn of_this_thread() -> Option<Arc<Self>> {
        TEAM.try_with(|team| Arc::clone(team.get_or_init(Self::new))).ok()
    }

    fn new() -> Arc<Self> {
        let helpers = if has_pool() { rayon::current_num_threads() - 1 } else { 0 };
        PROCESS.get_or_init(process::id);
        Arc::new(Self {
            owner: thread::current().id(),
            born: Instant::now(),
            last_call: AtomicU64::new(0),
            turned_away: AtomicU64::new(0),
            shares: AtomicBool::new(false),
            places: (0..helpers).map(|_| Place::new()).collect(),
            helpers: (0..helpers).map(|_| AtomicU8::new(ABSENT)).collect(),
        })
    }

    /// How many helpers there can be.
    pub(super) fn most(&self) -> usize {
        self.places.len()
    }

    /// How many of the first `wanted` helpers are awake.
    pub(super) fn awake(&self, wanted: usize) -> usize {
        self.helpers.iter().take(wanted).filter(|helper| helper.load(Ordering::Relaxed) == AWAKE).count()
    }

    /// Nanoseconds after `born`, never 0.
    fn now(&self) -> u64 {
        u64::try_from(self.born.elapsed().as_nanos()).unwrap_or(u64::MAX).max(1)
    }

    /// Asks the pool for the first `wanted` helpers, those that are absent, if the caller is busy and the pool has not just
    /// shown that it is so, too.
    pub(super) fn call_in(self: &Arc<Self>, wanted: usize, long: bool) {
        let now = self.now();
        let just = |moment: &AtomicU64| {
            let moment = moment.load(Ordering::Relaxed);
            moment != 0 && Duration::from_nanos(now.saturating_sub(moment)) <= SPIN_TIME
        };
        if !(long || just(&self.last_call)) || just(&self.turned_away) {
            return;
        }
        for (place, helper) in self.helpers.iter().enumerate().take(wanted) {
            if helper.load(Ordering::Relaxed) == ABSENT {
                if PROCESS.get().is_some_and(|&parent| parent != process::id()) {
                    return;
                }
                helper.store(CALLED, Ordering::Relaxed);
                let team = Arc::clone(self);
                rayon::spawn(move || help(team, place));
            }
        }
    }

    /// Runs `work` here, as number 0, and on those of the first `wanted` helpers that come before
    /// it is done here; gives up waiting for the others. Within another call's work, it is all done here.
    pub(super) fn share(&self, wanted: usize, work: Work<'_>) {
        let Some(_sharing) = Sharing::begin(&self.shares) else { return work(0) };
        let places = &self.places[..wanted.min(self.places.len())];
        let offered = Offered(places);
        for place in places {
            // SAFETY: all places are free, since no other call is under way, and `offered` sees to it that they are so again
            // before `work` ends, by returning or by unwinding.
            unsafe { place.put(work) };
        }
        work(0);
        offered.end();
        self.last_call.store(self.now(), Ordering::Relaxed);
    }
}

/// A call under way, until this is dropped.
struct Sharing<'a>(&'a AtomicBool);

impl<'a> Sharing<'a> {
    /// None if there is one. Only the owner asks.
    fn begin(shares: &'a AtomicBool) -> Option<Self> {
        (!shares.load(Ordering::Relaxed)).then(|| {
            shares.store(true, Ordering::Relaxed);
            Self(shares)
        })
    }
}

impl Drop for Sharing<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Relaxed);
    }
}

/// A helper on this thread's stack, until this is dropped.
struct Standing;

impl Standing {
    /// None if there are enough.
    fn begin() -> Option<Self> {
        let there = HELPERS.get();
        (there < MAX_NESTED_WORKERS).then(|| {
            HELPERS.set(there + 1);
            Self
        })
    }
}

impl Drop for Standing {
    fn drop(&mut self) {
        HELPERS.set(HELPERS.get() - 1);
    }
}

/// Whether the calling thread has a pool: its own, or that of the process, which is made now if there is none. The
/// system may refuse its threads, and rayon would panic when it is asked for that pool.
fn has_pool() -> bool {
    static OF_PROCESS: OnceLock<bool> = OnceLock::new();
    let make = || match rayon::ThreadPoolBuilder::new().build_global() {
        Ok(()) => true,
        // Without a cause, somebody has made it, or tried to before: rayon tells that by a panic alone.
        Err(error) => error.source().is_none() && panic::catch_unwind(rayon::current_num_threads).is_ok(),
    };
    rayon::current_thread_index().is_some() || *OF_PROCESS.get_or_init(make)
}

/// A helper's shift, as a task of the pool.
fn help(team: Arc<Team>, number: usize) {
    let state = &team.helpers[number];
    // The owner can't be its own helper; that it got the task shows that all others are busy.
    let Some(_standing) = Standing::begin().filter(|_| thread::current().id() != team.owner) else {
        team.turned_away.store(team.now(), Ordering::Relaxed);
        return state.store(ABSENT, Ordering::Relaxed);
    };
    state.store(AWAKE, Ordering::Relaxed);
    let begin = Instant::now();
    let mut last = begin;
    // Not through the team in each look, to which its owner writes.
    let place = &team.places[number];
    loop {
        let mut served = false;
        for _ in 0..SPINS {
            served |= place.serve(number + 1);
            std::hint::spin_loop();
        }
        let now = Instant::now();
        if served {
            last = now;
        }
        if now - last > SPIN_TIME {
            return state.store(ABSENT, Ordering::Relaxed);
        }
        if now - begin > REQUEUE_TIME {
            state.store(CALLED, Ordering::Relaxed);
            return rayon::spawn(move || help(team, number));
        }
        match rayon::yield_now() {
            Some(rayon::Yield::Executed) => last = Instant::now(),
            _ => thread::yield_now(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::panic::AssertUnwindSafe;
    use std::sync::atomic::{AtomicBool, AtomicUsize};
    use std::sync::mpsc;

    use crate::parallel::tasks::{MAX_PARTS, Parts};

    fn pool(threads: usize) -> rayon::ThreadPool {
        rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap()
    }

    #[test]
    fn helpers_of_ever_new_callers_do_not_fill_a_stack() {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(2).stack_size(128 << 10).build().unwrap();
        pool.install(|| {
            let teams: Vec<_> = (0..if cfg!(miri) { 50 } else { 5000 }).map(|_| Team::new()).collect();
            teams.iter().for_each(|team| team.call_in(1, true));
            let begin = Instant::now();
            while teams.iter().any(|team| team.helpers[0].load(Ordering::Relaxed) != ABSENT) {
                assert!(begin.elapsed() < Duration::from_secs(60), "a helper stays for ever");
                thread::yield_now();
            }
        });
    }

    #[test]
    fn work_within_work_is_done_by_its_caller() {
        pool(2).install(|| {
            let team = Team::of_this_thread().unwrap();
            let begin = Instant::now();
            for _ in 0..20 {
                while team.awake(1) == 0 {
                    assert!(begin.elapsed() < Duration::from_secs(60), "no helper came");
                    team.call_in(1, true);
                }
                team.share(1, &|who| {
                    if who == 0 {
                        team.share(1, &|who| {
                            assert_eq!(who, 0);
                            thread::sleep(Duration::from_micros(100));
                        });
                    }
                });
            }
        });
    }

    #[test]
    fn a_part_is_given_once() {
        let mut parts = Parts::new();
        (0..MAX_PARTS).for_each(|part| parts.push(part));
        let taken: Vec<AtomicUsize> = (0..MAX_PARTS).map(|_| AtomicUsize::new(0)).collect();
        thread::scope(|scope| {
            for who in 0..4 {
                let (parts, taken) = (&parts, &taken);
                scope.spawn(move || {
                    while let Some((number, part)) = parts.take(40 * who) {
                        assert_eq!(number, part);
                        taken[part].fetch_add(1, Ordering::Relaxed);
                    }
                });
            }
        });
        assert!(taken.iter().all(|taken| taken.load(Ordering::Relaxed) == 1));
    }

    #[test]
    fn helpers_come_to_a_busy_caller_and_all_work_is_done() {
        pool(3).install(|| {
            let team = Team::of_this_thread().unwrap();
            assert_eq!(team.most(), 2);
            let helped = AtomicUsize::new(0);
            let begin = Instant::now();
            while helped.load(Ordering::Relaxed) != 0b110 {
                assert!(begin.elapsed() < Duration::from_secs(60), "no helper came");
                team.call_in(2, true);
                let mut parts = Parts::new();
                (0..8).for_each(|part| parts.push(part));
                let sum = AtomicUsize::new(0);
                team.share(2, &|who| {
                    while let Some((_, part)) = parts.take(who) {
                        let start = Instant::now();
                        while start.elapsed() < Duration::from_micros(20) {}
                        sum.fetch_add(part, Ordering::Relaxed);
                        helped.fetch_or(if who > 0 { 1 << who } else { 0 }, Ordering::Relaxed);
                    }
                });
                assert_eq!(sum.into_inner(), 28);
            }
            while team.awake(2) > 0 {
                assert!(begin.elapsed() < Duration::from_secs(60), "helpers watch for ever");
                thread::sleep(Duration::from_millis(1));
            }
        });
    }

    #[test]
    fn a_helper_that_panics_frees_everyone() {
        let begin = Instant::now();
        let share = |team: &Arc<Team>, help: &(dyn Fn() + Sync)| {
            assert!(begin.elapsed() < Duration::from_secs(60), "no helper came");
            team.call_in(1, true);
            team.share(1, &|who| {
                if who > 0 {
                    return help();
                }
                let start = Instant::now();
                while start.elapsed() < Duration::from_micros(20) {}
            });
        };
        pool(2).install(|| {
            let team = Team::of_this_thread().unwrap();
            let panics = || -> () { panic::resume_unwind(Box::new("the helper's")) };
            while panic::catch_unwind(AssertUnwindSafe(|| share(&team, &panics))).is_ok() {}
            let helped = AtomicBool::new(false);
            while !helped.load(Ordering::Relaxed) {
                share(&team, &|| helped.store(true, Ordering::Relaxed));
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
            let shares = AtomicUsize::new(0);
            pool.install(|| {
                let team = Team::of_this_thread().unwrap();
                for _ in 0..1000 {
                    team.call_in(1, true);
                    team.share(1, &|_| {
                        shares.fetch_add(1, Ordering::Relaxed);
                    });
                }
            });
            done.send(shares.into_inner()).unwrap();
        });
        // The other worker never came: the caller was alone, and every offer was taken back.
        assert_eq!(is_done.recv_timeout(Duration::from_secs(60)), Ok(1000), "the caller waits");
        end.send(()).unwrap();
    }

    /// The pool's locks may be taken in the child, by threads that are not there to let go of them.
    #[cfg(all(target_os = "linux", not(miri)))]
    #[test]
    #[cfg_attr(not(target_arch = "x86_64"), ignore = "under qemu a process of many threads can't fork")]
    fn the_child_of_a_fork_calls_nobody_in() {
        use std::ffi::c_int;
        // std links the C library already.
        unsafe extern "C" {
            fn fork() -> c_int;
            fn waitpid(child: c_int, status: *mut c_int, options: c_int) -> c_int;
            fn _exit(status: c_int) -> !;
        }
        let team = pool(3).install(Team::new);
        // SAFETY: the child runs no code but this crate's, and ends without a look back.
        let child = unsafe { fork() };
        if child == 0 {
            team.call_in(team.most(), true);
            let called = team.helpers.iter().any(|helper| helper.load(Ordering::Relaxed) != ABSENT);
            // SAFETY: it ends this process.
            unsafe { _exit(c_int::from(called)) };
        }
        assert!(child > 0, "fork");
        let mut status = 0;
        // SAFETY: a child of this process, that nobody else waits for.
        let ended = unsafe { waitpid(child, &raw mut status, 0) };
        assert_eq!((ended, status), (child, 0), "the child's end");
    }
}
