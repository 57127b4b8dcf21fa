//! The constants of the numeric contract: changing one changes bits.
//!
//! [`reference`](crate::reference) defines the operations that they belong to; constants that only affect
//! speed are in [`tuning`](crate::tuning).

/// Rows of the batch that are summed apart in a weight or bias gradient.
///
/// The sums of these chunks are added in ascending order. Part of the [numeric contract](crate::reference).
/// 256 rows keep the chunk's share of x in cache and cost the weights one addition per 256 fused
/// multiply-adds.
pub const CHUNK_ROWS: usize = 256;

/// Rows whose losses are added in ascending order before the sums of such groups are added pairwise.
///
/// Pairwise means in a binary tree whose left subtree has the largest power of two below the number of
/// groups. Part of the [numeric contract](crate::reference).
pub const LOSS_ROWS: usize = 16;

/// Elements of a row whose exponentials are summed relative to their own maximum.
///
/// The sums of such pieces are rescaled to a common maximum and added pairwise: the left subtree has the
/// largest power of two below the number of pieces. Part of the [numeric contract](crate::reference). An L1
/// cache of 32 KiB holds two pieces.
pub const ROW_PIECE: usize = 4096;

/// Partial results of a row reduction: element j goes into partial j mod 16.
pub(crate) const ROW_LANES: usize = 16;

/// Magnitude below which an optimizer's moment is set to 0: 2^-100.
///
/// The moments of a weight without gradients would decay into subnormal numbers and stay there, at some 150
/// cycles an operation on Intel's processors. At 2^-100 the product with a learning rate above 2^-26 is still
/// normal.
pub(crate) const MIN_MOMENT: f32 = 7.888_609e-31;
