//! Pairwise summation: a binary tree whose left subtree has the largest power of two below the number of
//! leaves.
//!
//! Leaves come one after another. Whole subtrees can be summed apart, so that threads share a sum and keep
//! its bits.

use super::{Kernel, Split};
use crate::contract::LOSS_ROWS;
use crate::simd::Simd;
use crate::simd::tier::Tier;
use crate::split_at::{Axis, SplitAt};

/// What can be summed pairwise.
pub(crate) trait Combine: Copy + Send + Sync {
    /// The sum of no leaf.
    const IDENTITY: Self;

    /// Adds two neighbouring subtrees. Must be `#[inline(always)]`.
    fn combine<S: Simd>(s: S, left: Self, right: Self) -> Self;
}

impl Combine for f32 {
    const IDENTITY: Self = 0.0;

    #[inline(always)]
    fn combine<S: Simd>(_: S, left: Self, right: Self) -> Self {
        left + right
    }
}

impl Combine for f64 {
    const IDENTITY: Self = 0.0;

    #[inline(always)]
    fn combine<S: Simd>(_: S, left: Self, right: Self) -> Self {
        left + right
    }
}

/// A pairwise sum that grows leaf by leaf.
pub(crate) struct PairwiseSum<T> {
    /// Sums of whole subtrees, one for each 1 bit of `leaves`, largest first; the others are unused.
    subtrees: [T; usize::BITS as usize],
    leaves: usize,
}

impl<T: Combine> PairwiseSum<T> {
    /// A sum without leaves.
    #[inline(always)]
    pub(crate) fn new() -> Self {
        Self { subtrees: [T::IDENTITY; usize::BITS as usize], leaves: 0 }
    }

    /// Adds a leaf: carries like a binary counter, one combination for each trailing 1 bit.
    #[inline(always)]
    pub(crate) fn push<S: Simd>(&mut self, s: S, leaf: T) {
        let mut right = leaf;
        let mut top = self.leaves.count_ones() as usize;
        self.leaves += 1;
        for _ in 0..self.leaves.trailing_zeros() {
            top -= 1;
            right = T::combine(s, self.subtrees[top], right);
        }
        self.subtrees[top] = right;
    }

    /// Combines the subtrees, smallest first.
    #[inline(always)]
    pub(crate) fn total<S: Simd>(self, s: S) -> T {
        let mut top = self.leaves.count_ones() as usize;
        if top == 0 {
            return T::IDENTITY;
        }
        top -= 1;
        let mut right = self.subtrees[top];
        while top > 0 {
            top -= 1;
            right = T::combine(s, self.subtrees[top], right);
        }
        right
    }
}

/// Two neighbouring subtrees, to be combined.
pub(crate) struct Neighbours<T>(pub T, pub T);

impl<T: Combine> Kernel for Neighbours<T> {
    type Output = T;

    #[inline(always)]
    fn run<U: Tier>(self, tier: U) -> T {
        T::combine(tier.vector(), self.0, self.1)
    }
}

/// Sums the losses of rows as [`push_losses`] does.
pub(crate) struct Losses<'a>(pub &'a [f32]);

impl Kernel for Losses<'_> {
    type Output = f32;

    #[inline(always)]
    fn run<U: Tier>(self, tier: U) -> f32 {
        let mut sum = PairwiseSum::new();
        push_losses(tier.vector(), &mut sum, self.0);
        sum.total(tier.vector())
    }
}

/// Adds the losses of rows: groups of [`LOSS_ROWS`] in ascending order, each group a leaf.
#[inline(always)]
pub(crate) fn push_losses<S: Simd>(s: S, sum: &mut PairwiseSum<f32>, losses: &[f32]) {
    for group in losses.chunks(LOSS_ROWS) {
        let mut leaf = group[0];
        for loss in &group[1..] {
            leaf += loss;
        }
        sum.push(s, leaf);
    }
}

impl Split for Losses<'_> {
    fn len(&self) -> usize {
        self.0.len()
    }

    fn split(self, at: usize) -> (Self, Self) {
        let (first, rest) = SplitAt::split_along(self.0, Axis::Rows, at);
        (Self(first), Self(rest))
    }
}

/// Leaves of the left subtree of a tree of `leaves`, at least 2.
pub(crate) fn left_leaves(leaves: usize) -> usize {
    leaves.div_ceil(2).next_power_of_two()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simd::portable::Portable;

    /// A tree in brackets, by its first and last leaf, that notes an error in its order.
    #[derive(Clone, Copy, Debug, PartialEq)]
    struct Leaves {
        first: usize,
        count: usize,
        in_order: bool,
    }

    impl Combine for Leaves {
        const IDENTITY: Self = Self { first: 0, count: 0, in_order: true };

        fn combine<S: Simd>(_: S, left: Self, right: Self) -> Self {
            let count = left.count + right.count;
            let in_order = left.first + left.count == right.first && left.count == left_leaves(count);
            Self { first: left.first, count, in_order: in_order && left.in_order && right.in_order }
        }
    }

    #[test]
    fn left_subtrees_have_the_largest_power_of_two() {
        for leaves in 0..100 {
            let mut sum = PairwiseSum::new();
            for first in 0..leaves {
                sum.push(Portable, Leaves { first, count: 1, in_order: true });
            }
            assert_eq!(sum.total(Portable), Leaves { first: 0, count: leaves, in_order: true });
        }
    }
}
