//! Softmax, log-softmax, their gradients and cross-entropy.
//!
//! The maximum is subtracted first, so that no exponential overflows; a second subtraction takes away the
//! logarithm of the sum, which keeps small results exact (Blanchard, Higham and Higham, "Accurately computing
//! the log-sum-exp and softmax functions", 2021). Exponentials carry a factor of 2^64, so that none is
//! subnormal; the result is rounded once.
//!
//! A row's sum goes through 16 partial sums, element j into partial j mod 16, and a fixed tree. The
//! arithmetic stands once:
//!
//! - [`row_reduction`]: the formulas of softmax, log-softmax and their gradients, on a vector of elements;
//! - [`row_loss`]: the loss of a row and its gradient, from the row's sums.
//!
//! Three drivers apply it; the lanes of a vector hold other elements in each:
//!
//! - [`row_per_lane`]: rows of at most [`ROW_PER_LANE_COLS`](crate::tuning::rows::ROW_PER_LANE_COLS)
//!   elements, one row in each lane, up to 64 rows at a time;
//! - [`row_at_a_time`]: longer rows, or few: contiguous elements of one row. Pieces of
//!   [`ROW_PIECE`](crate::contract::ROW_PIECE) have a maximum and a sum of their own, so that memory is read
//!   once for both (Milakov and Gimelshein, "Online normalizer calculation for softmax", 2018);
//! - [`split_row`]: one long row over several threads.
//!
//! A row that holds NaN or +inf, and a row of nothing but -inf, comes out as NaN throughout.

pub(crate) mod cross_entropy;
mod cross_entropy_block;
mod cross_entropy_row;
pub(crate) mod driver;
mod row_at_a_time;
mod row_loss;
mod row_per_lane;
mod row_ptr;
pub(crate) mod row_reduction;
pub(crate) mod row_targets;
mod soft_targets;
pub(crate) mod split_row;
mod terms;
