//! `Tier`: an instruction set's vectors in the widths that kernels ask for.

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
    /// [`ROW_LANES`](crate::contract::ROW_LANES) lanes in as many registers as hold them, for row reductions.
    type Row: Simd;

    fn vector(self) -> Self::Vector;
    fn row(self) -> Self::Row;
    /// Does the work in the way that this instruction set allows.
    fn if_fused<W: IfFused>(self, work: W) -> W::Output;
}

/// Work that is done in one way with fused multiply-add, and in another without. Must be `#[inline(always)]`.
pub(crate) trait IfFused {
    type Output;

    /// Does it with row vectors, and with narrow ones of 4 or 8 lanes, which transpose in fewer shuffles.
    fn fused<S: Simd, N: Simd>(self, row: S, narrow: N) -> Self::Output;

    /// Does it without a guarantee that multiply-add is rounded once.
    fn unfused<S: Simd>(self, s: S) -> Self::Output;
}

/// Implements [`Tier`] for a token by its row and narrow vectors.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
macro_rules! fused_tier {
    ($token:ident, |$s:ident| $row:ty = $to_row:expr, $to_narrow:expr) => {
        impl Tier for $token {
            type Vector = Self;
            type Row = $row;

            #[inline(always)]
            fn vector(self) -> Self {
                self
            }
            #[inline(always)]
            fn row(self) -> $row {
                let $s = self;
                $to_row
            }
            #[inline(always)]
            fn if_fused<W: IfFused>(self, work: W) -> W::Output {
                let $s = self;
                work.fused($to_row, $to_narrow)
            }
        }
    };
}

#[cfg(target_arch = "x86_64")]
fused_tier!(Avx512, |s| Self = s, s.half());
#[cfg(target_arch = "x86_64")]
fused_tier!(Avx2, |s| Pair<Self> = Pair(s), s);
#[cfg(target_arch = "aarch64")]
fused_tier!(Neon, |s| Pair<Pair<Self>> = Pair(Pair(s)), s);

impl Tier for Portable {
    type Vector = Self;
    type Row = Self;

    #[inline(always)]
    fn vector(self) -> Self {
        self
    }
    #[inline(always)]
    fn row(self) -> Self {
        self
    }
    #[inline(always)]
    fn if_fused<W: IfFused>(self, work: W) -> W::Output {
        work.unfused(self)
    }
}
