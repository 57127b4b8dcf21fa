//! A caller's helpers: workers of its rayon pool that stay awake between the calls of a busy caller.
//!
//! A layer of a small network takes ten microseconds; to wake a sleeping worker takes fifty and
//! more. So no call waits for a worker that sleeps. Helpers are called in by a caller that makes
//! call after call, or one whose work is long; each watches a place of its own in memory until
//! there was nothing to do for [`PATIENCE`]. Work is offered there, and what no helper has begun
//! when the caller has done its own part is taken back. A caller therefore waits for nothing but
//! work that is under way, whatever else the pool is busy with: nothing can deadlock, and in a
//! process that forked, where no helper is left, callers just work alone.
//!
//! A helper is a task of its pool, and gives the others their turn.

#![allow(unsafe_code)]

use std::cell::{OnceCell, UnsafeCell};
use std::mem::MaybeUninit;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::thread::{self, ThreadId};
use std::time::{Duration, Instant};

/// How long a helper watches without work, and how soon after the last call the next one must come
/// for helpers to be called in.
const PATIENCE: Duration = Duration::from_micros(500);
/// How long a helper stays before it asks the pool for another turn: rayon may have put it on top
/// of a task that waits for something else.
const SHIFT: Duration = Duration::from_millis(20);
/// After so many looks, 10 to 50 us, who waits lets other threads run on its core, which may be the
/// one that it waits for; a helper looks at the clock and its pool, too.
const LOOKS: usize = 1024;

/// What caller and helpers run at the same time; it gets the number of who runs it.
type Work<'a> = &'a (dyn Fn(usize) + Sync);

/// Where one helper watches. Alone in its cache lines, since both sides write to it, and with all in one
/// line: each that goes from core to core takes some 100 ns.
#[repr(align(128))]
struct Place {
    offer: AtomicU8,
    /// Written by the caller while the place is free, read by the helper while its work is under way.
    work: UnsafeCell<MaybeUninit<Work<'static>>>,
}

// SAFETY: `offer` tells who may touch `work`.
unsafe impl Sync for Place {}

/// What a place's `offer` says: nothing is on offer, and what was is done,
const FREE: u8 = 0;
/// work is on offer,
const OFFERED: u8 = 1;
/// or the helper is at it.
const UNDER_WAY: u8 = 2;

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
    /// When the last call ended, in nanoseconds after `born`.
    last_call: AtomicU64,
    places: Box<[Place]>,
    helpers: Box<[AtomicU8]>,
}

thread_local! {
    // A thread is of one pool, or of none, for all its life: its helpers always come from the same.
    static TEAM: OnceCell<Arc<Team>> = const { OnceCell::new() };
}

impl Team {
    /// The calling thread's; none where the thread is ending.
    pub(super) fn of_this_thread() -> Option<Arc<Self>> {
        TEAM.try_with(|team| Arc::clone(team.get_or_init(Self::new))).ok()
    }

    fn new() -> Arc<Self> {
        let helpers = rayon::current_num_threads() - 1;
        Arc::new(Self {
            owner: thread::current().id(),
            born: Instant::now(),
            last_call: AtomicU64::new(0),
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

    /// Asks the pool for the first `wanted` helpers, those that are absent, if the caller is busy.
    pub(super) fn call_in(self: &Arc<Self>, wanted: usize, long: bool) {
        let last_call = Duration::from_nanos(self.last_call.load(Ordering::Relaxed));
        if !long && self.born.elapsed().saturating_sub(last_call) > PATIENCE {
            return;
        }
        for (place, helper) in self.helpers.iter().enumerate().take(wanted) {
            if helper.load(Ordering::Relaxed) == ABSENT {
                helper.store(CALLED, Ordering::Relaxed);
                let team = Arc::clone(self);
                rayon::spawn(move || help(team, place));
            }
        }
    }

    /// Runs `work` here, as number 0, and on those of the first `wanted` helpers that come before
    /// it is done here; gives up waiting for the others.
    pub(super) fn share(&self, wanted: usize, work: Work<'_>) {
        let places = &self.places[..wanted.min(self.places.len())];
        let offered = Offered(places);
        for place in places {
            // SAFETY: all places are free, and `offered` sees to it that they are so again before
            // `work` ends, by returning or by unwinding.
            unsafe { place.put(work) };
        }
        work(0);
        drop(offered);
        let now = u64::try_from(self.born.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.last_call.store(now, Ordering::Relaxed);
    }
}

/// Places with offers, which are taken back, or waited for, when this is dropped.
struct Offered<'a>(&'a [Place]);

impl Drop for Offered<'_> {
    fn drop(&mut self) {
        for Place { offer, .. } in self.0 {
            let mut looks = 0;
            loop {
                match offer.load(Ordering::Acquire) {
                    FREE => break,
                    OFFERED => {
                        // Should this fail, the helper has just begun.
                        let _ = offer.compare_exchange(OFFERED, FREE, Ordering::Relaxed, Ordering::Relaxed);
                    }
                    _ => {
                        looks += 1;
                        if looks % LOOKS > 0 { std::hint::spin_loop() } else { thread::yield_now() }
                    }
                }
            }
        }
    }
}

impl Place {
    fn new() -> Self {
        Self { offer: AtomicU8::new(FREE), work: UnsafeCell::new(MaybeUninit::uninit()) }
    }

    /// Puts work on offer.
    ///
    /// # Safety
    /// The place is free, and will be so again before the work's life ends; nobody else calls this.
    unsafe fn put(&self, work: Work<'_>) {
        // SAFETY: the caller's; only while there is an offer does the helper look at it.
        unsafe { (*self.work.get()).write(std::mem::transmute::<Work<'_>, Work<'static>>(work)) };
        self.offer.store(OFFERED, Ordering::Release);
    }

    /// Does what is on offer, if anything is, as number `number`.
    fn serve(&self, number: usize) -> bool {
        if self.offer.load(Ordering::Relaxed) != OFFERED
            || self.offer.compare_exchange(OFFERED, UNDER_WAY, Ordering::Acquire, Ordering::Relaxed).is_err()
        {
            return false;
        }
        // However the work ends: the caller waits for this.
        struct Done<'a>(&'a Place);
        impl Drop for Done<'_> {
            fn drop(&mut self) {
                self.0.offer.store(FREE, Ordering::Release);
            }
        }
        let _done = Done(self);
        // SAFETY: `put` wrote it, and its caller does not return, nor unwind, before the place is free.
        let work = unsafe { (*self.work.get()).assume_init() };
        work(number);
        true
    }
}

/// A helper's shift, as a task of the pool.
fn help(team: Arc<Team>, number: usize) {
    let state = &team.helpers[number];
    // The owner can't be its own helper; that it got the task shows that all others are busy.
    if thread::current().id() == team.owner {
        return state.store(ABSENT, Ordering::Relaxed);
    }
    state.store(AWAKE, Ordering::Relaxed);
    let begin = Instant::now();
    let mut last = begin;
    // Not through the team in each look, to which its owner writes.
    let place = &team.places[number];
    loop {
        let mut served = false;
        for _ in 0..LOOKS {
            served |= place.serve(number + 1);
            std::hint::spin_loop();
        }
        let now = Instant::now();
        if served {
            last = now;
        }
        if now - last > PATIENCE {
            return state.store(ABSENT, Ordering::Relaxed);
        }
        if now - begin > SHIFT {
            state.store(CALLED, Ordering::Relaxed);
            return rayon::spawn(move || help(team, number));
        }
        match rayon::yield_now() {
            Some(rayon::Yield::Executed) => last = Instant::now(),
            _ => thread::yield_now(),
        }
    }
}

/// Into how many parts work is cut at most.
pub(super) const MAX_PARTS: usize = 128;

/// Parts of a work, each of which is given out once.
pub(super) struct Parts<T> {
    len: usize,
    given: [AtomicBool; MAX_PARTS],
    parts: [UnsafeCell<MaybeUninit<T>>; MAX_PARTS],
}

// SAFETY: a part is only moved out, by the one thread that `given` grants it.
unsafe impl<T: Send> Sync for Parts<T> {}

impl<T> Parts<T> {
    /// No parts.
    pub(super) fn new() -> Self {
        Self {
            len: 0,
            given: [const { AtomicBool::new(false) }; MAX_PARTS],
            parts: [const { UnsafeCell::new(MaybeUninit::uninit()) }; MAX_PARTS],
        }
    }

    /// Adds a part, of which there may be [`MAX_PARTS`].
    pub(super) fn push(&mut self, part: T) {
        self.parts[self.len].get_mut().write(part);
        self.len += 1;
    }

    /// How many have been added.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// A part and its number: part `first`, or the next that is left.
    pub(super) fn take(&self, first: usize) -> Option<(usize, T)> {
        let free = |&i: &usize| !self.given[i].load(Ordering::Relaxed) && !self.given[i].swap(true, Ordering::Relaxed);
        let first = first.min(self.len);
        let i = (first..self.len).chain(0..first).find(free)?;
        // SAFETY: below `len` all parts were written, and none but the first to swap gets here.
        Some((i, unsafe { (*self.parts[i].get()).assume_init_read() }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicUsize;
    use std::sync::mpsc;

    fn pool(threads: usize) -> rayon::ThreadPool {
        rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap()
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
    fn a_pool_that_is_busy_keeps_nobody_waiting() {
        let pool = pool(2);
        let (begun, has_begun) = mpsc::channel();
        let (end, may_end) = mpsc::channel::<()>();
        pool.spawn(move || {
            begun.send(()).unwrap();
            may_end.recv().unwrap();
        });
        has_begun.recv().unwrap();
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
        // The other worker never came: the caller was alone, and every offer was taken back.
        assert_eq!(shares.into_inner(), 1000);
        end.send(()).unwrap();
    }
}
