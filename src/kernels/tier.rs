//! `Tier`: what kernels need to know of an instruction set beyond its vectors.

use super::gemm::{Product, gemm};
use super::portable_gemm;
use crate::simd::Simd;
#[cfg(target_arch = "aarch64")]
use crate::simd::neon::Neon;
use crate::simd::portable::Portable;
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
use crate::simd::twice::Twice;
#[cfg(target_arch = "x86_64")]
use crate::simd::{avx2::Avx2, avx512::Avx512};

/// An instruction set's vectors and its matrix product.
pub(crate) trait Tier: Copy {
    /// The vectors for element-wise work.
    type Vector: Simd;
    /// The vectors for row reductions, of [`ROW_LANES`](crate::simd::ROW_LANES) lanes.
    type Row: Simd;

    fn vector(self) -> Self::Vector;
    fn row(self) -> Self::Row;
    /// The product, with tiles that fit the registers.
    fn gemm(self, product: Product<'_>);
}

#[cfg(target_arch = "x86_64")]
impl Tier for Avx512 {
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
    fn gemm(self, product: Product<'_>) {
        gemm(self, self.half(), product);
    }
}

#[cfg(target_arch = "x86_64")]
impl Tier for Avx2 {
    type Vector = Self;
    type Row = Twice<Self>;

    #[inline(always)]
    fn vector(self) -> Self {
        self
    }
    #[inline(always)]
    fn row(self) -> Twice<Self> {
        Twice(self)
    }
    #[inline(always)]
    fn gemm(self, product: Product<'_>) {
        gemm(self.row(), self, product);
    }
}

#[cfg(target_arch = "aarch64")]
impl Tier for Neon {
    type Vector = Self;
    type Row = Twice<Twice<Self>>;

    #[inline(always)]
    fn vector(self) -> Self {
        self
    }
    #[inline(always)]
    fn row(self) -> Self::Row {
        Twice(Twice(self))
    }
    #[inline(always)]
    fn gemm(self, product: Product<'_>) {
        gemm(self.row(), self, product);
    }
}

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
    fn gemm(self, mut product: Product<'_>) {
        product.add_columns(self);
        portable_gemm::gemm(product);
    }
}
