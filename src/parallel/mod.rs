//! When and how work is split over threads: the only folder that names rayon.
//!
//! Work is cut along the axis that its kernel names into parts of equal length, one a thread, and
//! done by the caller and its helpers ([`spin_pool`]). Where it is cut never changes a bit: no
//! element's sum crosses a cut, and what does, the loss of a batch or the sum of a long row, is added in
//! a tree that depends on the size alone.

mod mailbox;
mod spin_pool;
mod sync;
mod tasks;

use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use crate::dispatch::Dispatch;
use crate::error::{Error, Result};
use crate::kernels::Split;
use crate::kernels::pairwise_sum::{Combine, Neighbours, left_leaves};
use crate::tuning::parallel::{GRAIN, LONG, LONG_ROW, OVERSPLIT};
use spin_pool::Team;
use tasks::{MAX_PARTS, Parts};

/// On how many threads a call runs. No choice changes a bit of any result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Threads {
    /// The calling thread, and as many others of its rayon pool (outside of any, of the global
    /// one) as the size of the work pays for; small work stays on the calling thread.
    ///
    /// Others take part while they are awake, and one that makes call after call keeps them awake:
    /// they watch for more work for 500 microseconds before they go to sleep. How many there are is the pool's to say:
    /// rayon's `ThreadPoolBuilder`, or, for the global one, `RAYON_NUM_THREADS`.
    #[default]
    Auto,
    /// The calling thread alone. On [`Isa::Portable`](crate::Isa::Portable), `matrixmultiply` has threads of its own where somebody
    /// turns its feature `threading` on; `MATMUL_NUM_THREADS=1` keeps them away.
    One,
    /// So many pieces whatever their size (128 at most), run by the threads of [`Auto`](Self::Auto): no more than there
    /// are pieces, and fewer if the pool has fewer.
    Exactly(NonZeroUsize),
}

/// A call that a team can take part in: its parts' number is settled, then it is run.
struct Call {
    team: Arc<Team>,
    helpers: usize,
    parts: usize,
}

impl Call {
    /// The call for work of `cost` nanoseconds that can be cut into `pieces`; none if the caller
    /// does it alone.
    fn new(threads: Threads, cost: usize, pieces: usize) -> Option<Self> {
        let wanted = match threads {
            Threads::One => 1,
            Threads::Exactly(parts) => parts.get(),
            Threads::Auto => cost / GRAIN,
        };
        let most = wanted.min(pieces).min(MAX_PARTS);
        if most <= 1 {
            return None;
        }
        // Asked last, since it starts the pool.
        let team = Team::of_this_thread()?;
        let helpers = team.most().min(most - 1);
        let awake = team.awake(helpers);
        if awake < helpers {
            team.call_in(helpers, cost >= LONG);
        }
        let parts = match threads {
            Threads::Exactly(_) => most,
            _ if awake < helpers && cost >= LONG => (OVERSPLIT * (helpers + 1)).min(most),
            _ => awake + 1,
        };
        Some(Self { team, helpers, parts })
    }

    /// Does the parts, here and on the helpers, each once.
    fn run<T: Send>(self, parts: &Parts<T>, work: impl Fn(usize, T) + Sync) {
        let take_parts = |who: usize| {
            while let Some((number, part)) = parts.take(who) {
                work(number, part);
            }
        };
        self.team.share(self.helpers, &take_parts);
    }
}

/// Runs a kernel whose work is `cost` nanoseconds long, cut at multiples of `unit`.
pub(crate) fn run<K: Split<Output = ()>>(dispatch: Dispatch, threads: Threads, cost: usize, unit: usize, kernel: K) {
    let pieces = kernel.len().div_ceil(unit);
    let Some(call) = Call::new(threads, cost, pieces) else { return dispatch.run(kernel) };
    let mut parts = Parts::new();
    let mut rest = kernel;
    for left in (2..=call.parts).rev() {
        let at = (rest.len().div_ceil(unit) / left).max(1) * unit;
        let first;
        (first, rest) = rest.split(at);
        parts.push(first);
    }
    parts.push(rest);
    call.run(&parts, |_, part| dispatch.run(part));
}

/// Does work of `cost` nanoseconds that has been cut beforehand: each part once, the first by the caller and the others by a
/// helper each, call after call the same one, unless others are done before it begins.
///
/// # Errors
/// One of those that parts end with; all parts have been done then, too.
pub(crate) fn share<T: Send>(
    threads: Threads,
    cost: usize,
    parts: impl IntoIterator<Item = T>,
    work: impl Fn(T) -> Result<()> + Sync,
) -> Result<()> {
    let failed = OnceLock::<Error>::new();
    let work = |part| {
        if let Err(error) = work(part) {
            let _ = failed.set(error);
        }
    };
    let mut all = parts.into_iter();
    loop {
        let mut parts = Parts::new();
        all.by_ref().take(MAX_PARTS).for_each(|part| parts.push(part));
        if parts.len() == 0 {
            return failed.into_inner().map_or(Ok(()), Err);
        }
        match Call::new(threads, cost, parts.len()) {
            Some(call) => call.run(&parts, |_, part| work(part)),
            None => std::iter::from_fn(|| parts.take(0)).for_each(|(_, part)| work(part)),
        }
    }
}

/// How many threads a long call could use, 128 at most; asked only for those, since it starts the pool.
pub(crate) fn width(threads: Threads) -> usize {
    match threads {
        Threads::One => 1,
        Threads::Exactly(parts) => parts.get().min(MAX_PARTS),
        Threads::Auto => Team::of_this_thread().map_or(1, |team| (team.most() + 1).min(MAX_PARTS)),
    }
}

/// Adds what a kernel gives: over groups of `unit` in ascending order, and their sums in a
/// [tree](crate::kernels::pairwise_sum). Parts are subtrees, or, where there are few that each take long, what stands by itself.
pub(crate) fn sum<K: Split<Output: Combine>>(
    dispatch: Dispatch,
    threads: Threads,
    cost: usize,
    unit: usize,
    kernel: K,
) -> K::Output {
    let len = kernel.len();
    let each = len <= MAX_PARTS && cost / len.max(1) >= LONG_ROW;
    let pieces = if each { len } else { len.div_ceil(unit) };
    let Some(call) = Call::new(threads, cost, pieces) else { return dispatch.run(kernel) };
    // Where the subtrees are of different sizes, more of them can be shared out more evenly.
    let even = pieces.is_multiple_of(call.parts);
    let subtrees = if even { call.parts } else { (OVERSPLIT * call.parts).min(MAX_PARTS) };
    let depth = subtrees.next_power_of_two().ilog2();
    let mut parts = Parts::new();
    if each {
        let mut rest = kernel;
        for _ in 1..len {
            let first;
            (first, rest) = rest.split(1);
            parts.push(first);
        }
        parts.push(rest);
    } else {
        cut_tree(kernel, unit, depth, &mut parts);
    }
    let sums = [const { Mutex::new(K::Output::IDENTITY) }; MAX_PARTS];
    call.run(&parts, |number, part| {
        let sum = dispatch.run(part);
        *sums[number].lock().unwrap_or_else(PoisonError::into_inner) = sum;
    });
    let mut sums = sums.iter().map(|sum| *sum.lock().unwrap_or_else(PoisonError::into_inner));
    let join = |first, rest| dispatch.run(Neighbours(first, rest));
    if each { add_each(len, unit, &join, &mut sums) } else { add_tree(len, unit, depth, &join, &mut sums) }
}

/// Adds so many values.
fn add_each<T: Combine>(len: usize, unit: usize, join: &impl Fn(T, T) -> T, values: &mut impl Iterator<Item = T>) -> T {
    match branch(len, unit) {
        None => values.take(len).reduce(join).unwrap_or(T::IDENTITY),
        Some(at) => {
            let first = add_each(at, unit, join, values);
            join(first, add_each(len - at, unit, join, values))
        }
    }
}

/// Where the tree branches that has so many units for leaves, unless it is a leaf.
fn branch(len: usize, unit: usize) -> Option<usize> {
    let leaves = len.div_ceil(unit);
    (leaves > 1).then(|| left_leaves(leaves) * unit)
}

/// The subtrees that stand `depth` branches below the root, or leaves above that, from left to right.
fn cut_tree<K: Split>(kernel: K, unit: usize, depth: u32, parts: &mut Parts<K>) {
    match branch(kernel.len(), unit).filter(|_| depth > 0) {
        None => parts.push(kernel),
        Some(at) => {
            let (first, rest) = kernel.split(at);
            cut_tree(first, unit, depth - 1, parts);
            cut_tree(rest, unit, depth - 1, parts);
        }
    }
}

/// Adds the sums of the subtrees that [`cut_tree`] gives for so many.
fn add_tree<T: Combine>(
    len: usize,
    unit: usize,
    depth: u32,
    join: &impl Fn(T, T) -> T,
    sums: &mut impl Iterator<Item = T>,
) -> T {
    match branch(len, unit).filter(|_| depth > 0) {
        None => sums.next().unwrap_or(T::IDENTITY),
        Some(at) => {
            let first = add_tree(at, unit, depth - 1, join, sums);
            join(first, add_tree(len - at, unit, depth - 1, join, sums))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use rayon::{ThreadPool, ThreadPoolBuilder};

    use super::*;
    use crate::Isa;
    use crate::kernels::Kernel;
    use crate::kernels::pairwise_sum::PairwiseSum;
    use crate::simd::tier::Tier;

    /// Some of the numbers of a call, whose parts tell where they are.
    #[derive(Clone, Copy)]
    struct Numbers<'a> {
        first: usize,
        len: usize,
        parts: &'a Mutex<Vec<(usize, usize)>>,
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
            self.parts.lock().unwrap().push((self.first, self.len));
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

    /// The sum of such numbers: groups of [`UNIT`], in a tree. Another order gives another sum.
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

    /// What `call` gives for so many numbers on so many threads, and the parts that it was cut into, in order.
    fn parts_of<T: Send>(
        pool: &ThreadPool,
        len: usize,
        threads: usize,
        call: impl FnOnce(Dispatch, Threads, Numbers<'_>) -> T + Send,
    ) -> (T, Vec<(usize, usize)>) {
        let parts = Mutex::new(Vec::new());
        let dispatch = Dispatch::new(Isa::Portable).unwrap();
        let threads = Threads::Exactly(NonZeroUsize::new(threads).unwrap());
        let result = pool.install(|| call(dispatch, threads, Numbers { first: 0, len, parts: &parts }));
        let mut parts = parts.into_inner().unwrap();
        parts.sort_unstable();
        (result, parts)
    }

    /// The first for Miri, which takes a minute for a moment.
    fn few(lens: &[usize]) -> &[usize] {
        if cfg!(miri) { &lens[..6] } else { lens }
    }

    #[test]
    fn work_is_cut_evenly_at_units_into_as_many_parts_as_asked() {
        let pool = pool(2);
        for &len in few(&[1, 3, 4, 5, 8, 9, 30, 64, 1000, 1030]) {
            for threads in [1, 2, 3, 5, 16, 200] {
                let ((), parts) = parts_of(&pool, len, threads, |dispatch, threads, numbers| {
                    run(dispatch, threads, 0, UNIT, numbers);
                });
                let units = len.div_ceil(UNIT);
                let what = format!("{len} on {threads}: {parts:?}");
                assert_eq!(parts.len(), threads.min(units).min(MAX_PARTS), "{what}");
                assert!(parts.iter().all(|(first, _)| first.is_multiple_of(UNIT)), "{what}");
                assert!(parts.is_sorted_by(|a, b| a.0 + a.1 == b.0), "{what}");
                assert_eq!(parts.iter().map(|part| part.1).sum::<usize>(), len, "{what}");
                let units = parts.iter().map(|part| part.1.div_ceil(UNIT));
                assert!(units.clone().max().unwrap() - units.min().unwrap() <= 1, "{what}");
            }
        }
    }

    #[test]
    fn sums_are_those_of_one_thread_whatever_the_parts() {
        let pool = pool(2);
        for &len in few(&[1, 4, 5, 8, 9, 13, 30, 64, 127, 128, 129, 1000, 1030]) {
            for cost in [0, len * LONG_ROW] {
                let each = cost > 0 && len <= MAX_PARTS;
                let sum_on = |threads| {
                    parts_of(&pool, len, threads, |dispatch, threads, numbers| {
                        sum(dispatch, threads, cost, UNIT, Sum(numbers)).to_bits()
                    })
                };
                let (expected, _) = sum_on(1);
                for threads in [2, 3, 5, 16, 200] {
                    let (found, parts) = sum_on(threads);
                    let what = format!("{len} on {threads}: {parts:?}");
                    assert_eq!(found, expected, "{what}");
                    let most = if each { len } else { len.div_ceil(UNIT) };
                    // The last subtrees are small: where there are many, some are less deep than others.
                    let least = if each { len } else { threads.min(most).min(16) };
                    assert!((least..=most).contains(&parts.len()), "{what}");
                    assert!(parts.is_sorted_by(|a, b| a.0 + a.1 == b.0), "{what}");
                    assert_eq!(parts.iter().map(|part| part.1).sum::<usize>(), len, "{what}");
                }
            }
        }
    }

    #[test]
    fn work_has_as_many_threads_as_it_is_given() {
        let threads = [Threads::One, Threads::Exactly(NonZeroUsize::new(7).unwrap()), Threads::Auto];
        assert_eq!(pool(3).install(|| threads.map(width)), [1, 7, 3]);
    }
}
