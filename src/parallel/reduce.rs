//! Reductions over threads: pairwise sums whose tree depends on the size alone.
//!
//! ```text
//! split_tree(work, depth):  a leaf, or depth 0:  a task
//!                           else:                split_tree(left, depth - 1), split_tree(right, depth - 1)
//! fork:                     the sum of each task, on some thread
//! combine_tree(depth):      the same recursion, which takes a sum where the other pushed a task
//! ```
//!
//! A task adds its own subtree as one thread would, so that the result has the same bits however deep the
//! tree is cut.

use std::sync::{Mutex, PoisonError};

use super::fork_join::Fork;
use super::tasks::{MAX_TASKS, Tasks};
use super::threads::Threads;
use crate::dispatch::Dispatch;
use crate::kernels::Split;
use crate::kernels::pairwise_sum::{Combine, Neighbours, left_leaves};
use crate::tuning::parallel::{LONG_ROW, OVERSPLIT};

/// Where a tree is cut into tasks.
#[derive(Clone, Copy)]
struct Cut {
    /// Elements of a leaf; they are added in ascending order.
    leaf: usize,
    /// Branches from the root to a task.
    depth: u32,
    /// Whether the elements of a leaf are a task each.
    elements: bool,
}

impl Cut {
    /// Gives where the tree over `len` elements branches, and how both subtrees are cut; none if it does not.
    fn branch(self, len: usize) -> Option<(usize, Self)> {
        let leaves = len.div_ceil(self.leaf);
        let branches = leaves > 1 && self.depth > 0;
        branches.then(|| (left_leaves(leaves) * self.leaf, Self { depth: self.depth - 1, ..self }))
    }
}

/// Reduces a kernel of `cost` nanoseconds pairwise, over leaves of `unit` elements.
///
/// Tasks are subtrees, or, where there are few elements that each take long, elements.
pub(crate) fn reduce_split<K>(dispatch: Dispatch, threads: Threads, cost: usize, unit: usize, kernel: K) -> K::Output
where
    K: Split<Output: Combine>,
{
    let len = kernel.len();
    let elements = len <= MAX_TASKS && cost / len.max(1) >= LONG_ROW;
    let max_tasks = if elements { len } else { len.div_ceil(unit) };
    let Some(fork) = Fork::plan(threads, cost, max_tasks) else { return dispatch.run(kernel) };
    // Subtrees of different sizes are shared more evenly if there are more of them.
    let even = max_tasks.is_multiple_of(fork.tasks());
    let subtrees = if even { fork.tasks() } else { (OVERSPLIT * fork.tasks()).min(MAX_TASKS) };
    let depth = if elements { u32::MAX } else { subtrees.next_power_of_two().ilog2() };
    let cut = Cut { leaf: unit, depth, elements };

    let mut tasks = Tasks::new();
    split_tree(kernel, cut, &mut tasks);
    let sums = [const { Mutex::new(K::Output::IDENTITY) }; MAX_TASKS];
    fork.run(&tasks, |number, task| {
        let sum = dispatch.run(task);
        *sums[number].lock().unwrap_or_else(PoisonError::into_inner) = sum;
    });
    let mut sums = sums.iter().map(|sum| *sum.lock().unwrap_or_else(PoisonError::into_inner));
    let combine = |left, right| dispatch.run(Neighbours(left, right));
    combine_tree(len, cut, &combine, &mut sums)
}

/// Splits a kernel into the tasks of `cut`, from left to right.
fn split_tree<K: Split>(kernel: K, cut: Cut, tasks: &mut Tasks<K>) {
    if let Some((at, subtrees)) = cut.branch(kernel.len()) {
        let (left, right) = kernel.split(at);
        split_tree(left, subtrees, tasks);
        return split_tree(right, subtrees, tasks);
    }
    let mut rest = kernel;
    while cut.elements && rest.len() > 1 {
        let first;
        (first, rest) = rest.split(1);
        tasks.push(first);
    }
    tasks.push(rest);
}

/// Combines the sums of the tasks that [`split_tree`] makes of `len` elements.
fn combine_tree<T: Combine>(
    len: usize,
    cut: Cut,
    combine: &impl Fn(T, T) -> T,
    sums: &mut impl Iterator<Item = T>,
) -> T {
    let Some((at, subtrees)) = cut.branch(len) else {
        return sums.take(if cut.elements { len } else { 1 }).reduce(combine).unwrap_or(T::IDENTITY);
    };
    let left = combine_tree(at, subtrees, combine, sums);
    combine(left, combine_tree(len - at, subtrees, combine, sums))
}
