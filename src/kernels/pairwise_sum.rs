//! Sums in a binary tree, whose first part has the largest power of 2 leaves that leaves some: leaves
//! come one after another, and whoever has the leaves of a subtree can give its sum.

use super::{Kernel, Split};
use crate::contract::LOSS_ROWS;
use crate::simd::Simd;
use crate::simd::tier::Tier;

/// What a tree joins.
pub(crate) trait Combine: Copy + Send + Sync {
    /// The sum of nothing.
    const IDENTITY: Self;

    /// Two neighbours as one. Must be `#[inline(always)]`.
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

/// A tree that grows leaf by leaf.
pub(crate) struct PairwiseSum<T> {
    /// Whole subtrees, one for each 1 of the number of leaves; what is past those is of no account.
    subtrees: [T; usize::BITS as usize],
    leaves: usize,
}

impl<T: Combine> PairwiseSum<T> {
    /// No leaf yet.
    #[inline(always)]
    pub(crate) fn new() -> Self {
        Self { subtrees: [T::IDENTITY; usize::BITS as usize], leaves: 0 }
    }

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

    /// The sum.
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

/// Two neighbours, to be joined.
pub(crate) struct Neighbours<T>(pub T, pub T);

impl<T: Combine> Kernel for Neighbours<T> {
    type Output = T;

    #[inline(always)]
    fn run<U: Tier>(self, tier: U) -> T {
        T::combine(tier.vector(), self.0, self.1)
    }
}

/// The losses of rows, to be added as those of a batch are: over [`LOSS_ROWS`] in ascending order, then in a [`PairwiseSum`].
pub(crate) struct Losses<'a>(pub &'a [f32]);

impl Kernel for Losses<'_> {
    type Output = f32;

    #[inline(always)]
    fn run<U: Tier>(self, tier: U) -> f32 {
        let mut tree = PairwiseSum::new();
        for group in self.0.chunks(LOSS_ROWS) {
            let mut sum = group[0];
            for loss in &group[1..] {
                sum += loss;
            }
            tree.push(tier.vector(), sum);
        }
        tree.total(tier.vector())
    }
}

impl Split for Losses<'_> {
    fn len(&self) -> usize {
        self.0.len()
    }

    fn split(self, at: usize) -> (Self, Self) {
        let (first, rest) = self.0.split_at(at.min(self.0.len()));
        (Self(first), Self(rest))
    }
}

/// The leaves of the first part of a tree of so many, at least 2.
pub(crate) fn left_leaves(leaves: usize) -> usize {
    leaves.div_ceil(2).next_power_of_two()
}
