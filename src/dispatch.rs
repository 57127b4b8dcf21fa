//! Detects instruction sets, and runs kernels compiled for one of them.
//!
//! The only file with feature detection. A [`Dispatch`] exists only for an instruction set that was detected,
//! which is what makes running a kernel safe.

#![allow(unsafe_code)]

use std::str::FromStr;

use crate::error::{Error, Result};
use crate::isa::{ISA_VARIABLE, Isa};
use crate::kernels::Kernel;
#[cfg(target_arch = "aarch64")]
use crate::simd::neon::Neon;
use crate::simd::portable::Portable;
use crate::simd::tier::Tier;
use crate::simd::{Simd, SimdOp};
#[cfg(target_arch = "x86_64")]
use crate::simd::{avx2::Avx2, avx512::Avx512};

impl Isa {
    /// The instruction sets of this processor, best first; never empty.
    #[must_use]
    pub fn available() -> Vec<Self> {
        Self::ALL.iter().copied().filter(|isa| isa.is_available()).collect()
    }

    /// Whether this processor has it.
    #[must_use]
    pub fn is_available(self) -> bool {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => std::arch::is_x86_feature_detected!("avx512f"),
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => std::arch::is_x86_feature_detected!("avx2") && std::arch::is_x86_feature_detected!("fma"),
            #[cfg(target_arch = "aarch64")]
            Self::Neon => std::arch::is_aarch64_feature_detected!("neon"),
            Self::Portable => true,
            #[allow(unreachable_patterns)]
            _ => false,
        }
    }

    /// The instruction set that [`DENSELY_ISA`](ISA_VARIABLE) names, else the best of this processor.
    ///
    /// # Errors
    /// [`Error::Isa`] if the variable holds an unknown name, such as an empty one, or names one that is not
    /// available.
    pub fn from_environment() -> Result<Self> {
        match std::env::var_os(ISA_VARIABLE) {
            None => Ok(Self::ALL.iter().copied().find(|isa| isa.is_available()).unwrap_or(Self::Portable)),
            Some(name) => {
                let name = name.to_string_lossy();
                let isa = Self::ALL.iter().copied().find(|isa| isa.name() == name && isa.is_available());
                isa.ok_or_else(|| Self::refused(ISA_VARIABLE, &name))
            }
        }
    }

    fn refused(origin: &'static str, name: &str) -> Error {
        Error::Isa { origin, available: Self::available(), found: name.to_owned() }
    }
}

impl FromStr for Isa {
    type Err = Error;

    /// Parses a name, whether this processor has that instruction set or not.
    ///
    /// # Errors
    /// [`Error::Isa`] if the name is unknown.
    fn from_str(name: &str) -> Result<Self> {
        Self::ALL.iter().copied().find(|isa| isa.name() == name).ok_or_else(|| Self::refused("isa", name))
    }
}

/// An instruction set that was detected on this processor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Dispatch(Isa);

impl Dispatch {
    /// # Errors
    /// [`Error::Isa`] if the processor does not have it.
    pub(crate) fn new(isa: Isa) -> Result<Self> {
        if isa.is_available() { Ok(Self(isa)) } else { Err(Isa::refused("isa", isa.name())) }
    }

    pub(crate) fn isa(self) -> Isa {
        self.0
    }

    /// Whether multiply-add is fused, and products are computed in the order of the numeric contract.
    pub(crate) fn has_fma(self) -> bool {
        self.0 != Isa::Portable
    }

    /// Runs a kernel on this thread.
    pub(crate) fn run<K: Kernel>(self, kernel: K) -> K::Output {
        match self.0 {
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 => {
                // SAFETY: `new` detected AVX-512F.
                let tier = unsafe { Avx512::assume() };
                tier.call(RunKernel { kernel, tier })
            }
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => {
                // SAFETY: `new` detected AVX2 and FMA.
                let tier = unsafe { Avx2::assume() };
                tier.call(RunKernel { kernel, tier })
            }
            #[cfg(target_arch = "aarch64")]
            Isa::Neon => {
                // SAFETY: `new` detected NEON.
                let tier = unsafe { Neon::assume() };
                tier.call(RunKernel { kernel, tier })
            }
            _ => Portable.call(RunKernel { kernel, tier: Portable }),
        }
    }
}

/// A kernel and the tier to run it in, which is called with the tier's target features.
struct RunKernel<K, T> {
    kernel: K,
    tier: T,
}

impl<K: Kernel, T: Tier> SimdOp for RunKernel<K, T> {
    type Output = K::Output;

    #[inline(always)]
    fn run(self) -> K::Output {
        self.kernel.run(self.tier)
    }
}
