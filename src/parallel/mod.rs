//! Splits work over threads: fork/join on the workers of a rayon pool. The only folder that names rayon.
//!
//! A kernel is split along one axis into tasks of equal length, one a thread. The calling thread and its
//! spinning workers take them ([`fork_join`]); sums are reduced in a tree that depends on the size alone
//! ([`reduce`]). Where work is split never changes a bit: no element's sum crosses a split.
//!
//! Without the feature `rayon` there are no workers (`no_pool.rs`), and each call is one task of its thread.

pub(crate) mod fork_join;
#[cfg(feature = "rayon")]
mod mailbox;
pub(crate) mod reduce;
#[cfg(feature = "rayon")]
mod spin_pool;
#[cfg(not(feature = "rayon"))]
#[path = "no_pool.rs"]
mod spin_pool;
mod sync;
mod tasks;
#[cfg(all(test, feature = "rayon"))]
mod tests;
pub(crate) mod threads;
