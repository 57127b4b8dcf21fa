//! `Backend`: which instruction set and how many threads a call uses.

use crate::dispatch::Dispatch;
use crate::error::Result;
use crate::isa::Isa;
use crate::kernels::pairwise_sum::Combine;
use crate::kernels::{Kernel, Split};
use crate::parallel::fork_join::{for_each_split, for_each_task, max_threads};
use crate::parallel::reduce::reduce_split;
use crate::parallel::threads::Threads;

/// Which instruction set and how many threads the kernels use; every call of the kernel API takes one.
///
/// Making one detects the processor: make it once. It is small, owns no buffers and may be shared.
///
/// ```
/// use densely::{Backend, Isa, Threads};
/// let backend = Backend::new()?; // the best of this processor, or the one that DENSELY_ISA names
/// let serial = backend.with_threads(Threads::One);
/// let portable = Backend::with_isa(Isa::Portable)?;
/// # assert_eq!((serial.threads(), portable.isa()), (Threads::One, Isa::Portable));
/// # Ok::<(), densely::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Backend {
    dispatch: Dispatch,
    threads: Threads,
}

impl Backend {
    /// Selects the instruction set that the variable `DENSELY_ISA` names, else the best of this processor.
    ///
    /// The number of threads is [`Threads::Auto`].
    ///
    /// # Errors
    /// [`Error::Isa`](crate::Error::Isa) if the variable holds an unknown name, or an instruction set that
    /// this processor does not have.
    pub fn new() -> Result<Self> {
        Self::with_isa(Isa::from_environment()?)
    }

    /// Selects the given instruction set, whatever `DENSELY_ISA` names, and [`Threads::Auto`].
    ///
    /// # Errors
    /// [`Error::Isa`](crate::Error::Isa) if this processor does not have it.
    pub fn with_isa(isa: Isa) -> Result<Self> {
        Ok(Self { dispatch: Dispatch::new(isa)?, threads: Threads::Auto })
    }

    /// The same instruction set with another choice of threads.
    #[must_use]
    pub fn with_threads(&self, threads: Threads) -> Self {
        Self { threads, ..*self }
    }

    /// The instruction set that calls with this backend run on.
    #[must_use]
    pub fn isa(&self) -> Isa {
        self.dispatch.isa()
    }

    /// The threads that calls with this backend may use.
    #[must_use]
    pub fn threads(&self) -> Threads {
        self.threads
    }

    /// Runs a kernel of `cost` nanoseconds on one thread, split over threads at multiples of `unit`.
    pub(crate) fn run(&self, cost: usize, unit: usize, kernel: impl Split<Output = ()>) {
        for_each_split(self.dispatch, self.threads, cost, unit, kernel);
    }

    /// Runs a kernel on the calling thread.
    pub(crate) fn run_alone<K: Kernel>(&self, kernel: K) -> K::Output {
        self.dispatch.run(kernel)
    }

    /// Whether multiply-add is fused, see [`Dispatch::has_fma`].
    pub(crate) fn has_fma(&self) -> bool {
        self.dispatch.has_fma()
    }

    /// Reduces a kernel of `cost` nanoseconds pairwise, over leaves of `unit` elements: see [`reduce_split`].
    pub(crate) fn sum<K: Split<Output: Combine>>(&self, cost: usize, unit: usize, kernel: K) -> K::Output {
        reduce_split(self.dispatch, self.threads, cost, unit, kernel)
    }

    /// Runs each of `tasks` once, of `cost` nanoseconds in all: see [`for_each_task`].
    pub(crate) fn share<T: Send>(
        &self,
        cost: usize,
        tasks: impl IntoIterator<Item = T>,
        body: impl Fn(T) -> Result<()> + Sync,
    ) -> Result<()> {
        for_each_task(self.threads, cost, tasks, body)
    }

    /// Number of threads that a long call can use.
    pub(crate) fn width(&self) -> usize {
        max_threads(self.threads)
    }
}
