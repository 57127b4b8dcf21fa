//! `Tier`: an instruction set's vectors in the three widths that kernels use.

use super::Simd;
#[cfg(target_arch = "aarch64")]
use super::neon::Neon;
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
use super::pair::Pair;
use super::portable::Portable;
#[cfg(target_arch = "x86_64")]
use super::{avx2::Avx2, avx512::Avx512};

/// An instruction set's vectors.
pub(crate) trait Tier: Copy {
    /// One register, for element-wise work.
    type Vector: Simd;
    /// [`ROW_LANES`](crate::contract::ROW_LANES) lanes in as many registers as hold them, for row reductions
    /// and products.
    type Row: Simd;
    /// 4 or 8 lanes, for the panels of low micro-tiles and for transposing in registers.
    type Narrow: Simd;
    /// Whether multiply-adds round once. Where they round twice, products are those of `matrixmultiply`.
    const FUSED: bool;

    fn vector(self) -> Self::Vector;
    fn row(self) -> Self::Row;
    fn narrow(self) -> Self::Narrow;
}

/// Implements [`Tier`] for a token: its row and narrow vectors, made of the token `$this`.
macro_rules! tier {
    ($token:ty, fused: $fused:literal, $this:ident => row: $row:ty = $to_row:expr, narrow: $narrow:ty = $to_narrow:expr) => {
        impl Tier for $token {
            type Vector = Self;
            type Row = $row;
            type Narrow = $narrow;
            const FUSED: bool = $fused;

            #[inline(always)]
            fn vector(self) -> Self {
                self
            }
            #[inline(always)]
            fn row(self) -> $row {
                let $this = self;
                $to_row
            }
            #[inline(always)]
            fn narrow(self) -> $narrow {
                let $this = self;
                $to_narrow
            }
        }
    };
}

#[cfg(target_arch = "x86_64")]
tier!(Avx512, fused: true, s => row: Self = s, narrow: Avx2 = s.half());
#[cfg(target_arch = "x86_64")]
tier!(Avx2, fused: true, s => row: Pair<Self> = Pair(s), narrow: Self = s);
#[cfg(target_arch = "aarch64")]
tier!(Neon, fused: true, s => row: Pair<Pair<Self>> = Pair(Pair(s)), narrow: Self = s);
tier!(Portable, fused: false, s => row: Self = s, narrow: Self = s);
