//! `Backend`: which instruction set and how many threads a call uses.

use crate::dispatch::Dispatch;
use crate::error::Result;
use crate::isa::Isa;
use crate::kernels::pairwise_sum::Combine;
use crate::kernels::{Kernel, Split};
use crate::parallel::{self, Threads};

/// Which instruction set and how many threads the kernels use; every call of the kernel API takes one.
///
/// Making one detects the processor; keep it. It is small, holds no buffers and may be shared.
///
/// ```
/// use densely::{Backend, Isa, Threads};
/// let backend = Backend::new()?; // the best of this processor, or what DENSELY_ISA says
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
    /// The instruction set that the variable `DENSELY_ISA` names, else the best of this
    /// processor, on as many threads as pay off.
    ///
    /// # Errors
    /// [`Error::Isa`](crate::Error::Isa) if the variable holds an unknown name, or names what this processor does
    /// not have.
    pub fn new() -> Result<Self> {
        Self::with_isa(Isa::from_environment()?)
    }

    /// The given instruction set, whatever the environment says, on as many threads as pay off.
    ///
    /// # Errors
    /// [`Error::Isa`](crate::Error::Isa) if this processor does not have it.
    pub fn with_isa(isa: Isa) -> Result<Self> {
        Ok(Self { dispatch: Dispatch::new(isa)?, threads: Threads::Auto })
    }

    /// The same with another choice of threads.
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

    /// Runs a kernel whose work is `cost` nanoseconds long, split at multiples of `unit`.
    pub(crate) fn run(&self, cost: usize, unit: usize, kernel: impl Split<Output = ()>) {
        parallel::run(self.dispatch, self.threads, cost, unit, kernel);
    }

    /// Does a piece of work on the calling thread.
    pub(crate) fn run_alone<K: Kernel>(&self, kernel: K) -> K::Output {
        self.dispatch.run(kernel)
    }

    /// Whether products are taken by fused multiply-adds, all in this crate's order.
    pub(crate) fn has_fma(&self) -> bool {
        self.isa() != Isa::Portable
    }

    /// Runs a kernel whose work is `cost` nanoseconds long, and adds what it gives, in a tree whose leaves are `unit` long.
    pub(crate) fn sum<K: Split<Output: Combine>>(&self, cost: usize, unit: usize, kernel: K) -> K::Output {
        parallel::sum(self.dispatch, self.threads, cost, unit, kernel)
    }

    /// Does parts of a work of `cost` nanoseconds, each once: see [`parallel::share`].
    pub(crate) fn share<T: Send>(
        &self,
        cost: usize,
        parts: impl IntoIterator<Item = T>,
        work: impl Fn(T) -> Result<()> + Sync,
    ) -> Result<()> {
        parallel::share(self.threads, cost, parts, work)
    }

    /// How many threads a long call could use.
    pub(crate) fn width(&self) -> usize {
        parallel::width(self.threads)
    }
}
