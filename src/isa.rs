//! `Isa`: the instruction sets that kernels exist for.

use std::fmt;

/// The environment variable that selects an instruction set by its name, see [`Isa`].
pub const ISA_VARIABLE: &str = "DENSELY_ISA";

/// An instruction set that kernels exist for.
///
/// All but [`Portable`](Isa::Portable) give the same bits. The names, as [`DENSELY_ISA`](ISA_VARIABLE)
/// takes them: `avx512`, `avx2`, `neon`, `portable`.
///
/// ```
/// use densely::Isa;
/// let available = Isa::available();
/// assert!(available.contains(&Isa::Portable));
/// println!("best of this processor: {}", available[0]);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Isa {
    /// AVX-512F: 16 floats per register.
    Avx512,
    /// AVX2 with FMA: 8 floats per register.
    Avx2,
    /// NEON: 4 floats per register; every 64-bit ARM processor has it.
    Neon,
    /// Any processor, without a guaranteed fused multiply-add: agrees with the others within a bound.
    Portable,
}

impl Isa {
    /// All instruction sets, best first.
    pub const ALL: &'static [Self] = &[Self::Avx512, Self::Avx2, Self::Neon, Self::Portable];

    /// The name, as [`DENSELY_ISA`](ISA_VARIABLE) takes it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Avx512 => "avx512",
            Self::Avx2 => "avx2",
            Self::Neon => "neon",
            Self::Portable => "portable",
        }
    }
}

impl fmt::Display for Isa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
