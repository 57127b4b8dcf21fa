//! `Element`: what the right operand of a product is stored in.
//!
//! Products compute in `f32`. A narrower element type (bf16, int8) is widened as it is loaded, so that it only changes
//! [`packed`](super::packed) and what a micro-kernel's load does.

use crate::contract::ROW_LANES;
use crate::simd::Simd;

/// An element type of packed weights.
pub(crate) trait Element: Copy + Send + Sync {
    /// A row of a panel, [`ROW_LANES`] elements, aligned so that no load straddles a cache line.
    type PanelRow: Copy + Default + AsMut<[Self]> + Send + Sync;

    /// Rounds a weight to this type.
    fn narrow(weight: f32) -> Self;

    /// Loads and widens a vector.
    ///
    /// # Safety
    /// `p` points to `LANES` readable elements.
    unsafe fn load<S: Simd>(s: S, p: *const Self) -> S::F32;
}

/// A cache line of floats, and a row of an `f32` panel.
#[derive(Clone, Copy)]
#[repr(align(64))]
pub(crate) struct Line(pub(crate) [f32; ROW_LANES]);

impl Default for Line {
    fn default() -> Self {
        Self([0.0; ROW_LANES])
    }
}

impl AsMut<[f32]> for Line {
    fn as_mut(&mut self) -> &mut [f32] {
        &mut self.0
    }
}

impl Element for f32 {
    type PanelRow = Line;

    fn narrow(weight: f32) -> Self {
        weight
    }

    #[inline(always)]
    unsafe fn load<S: Simd>(s: S, p: *const Self) -> S::F32 {
        // SAFETY: `p` points to `LANES` readable floats.
        unsafe { s.load(p) }
    }
}
