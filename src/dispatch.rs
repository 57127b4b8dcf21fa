//! Detection of instruction sets, and the step from a kernel to the kernel compiled for an instruction set.
//!
//! The only file with feature detection and `#[target_feature]`. A [`Dispatch`] can only be had
//! for an instruction set that the processor has; that is what makes running a kernel safe.

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
    /// What this processor has, best first; never empty.
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

    /// The one that [`DENSELY_ISA`](ISA_VARIABLE) names, else the best that this processor has.
    ///
    /// # Errors
    /// [`Error::Isa`] if the variable holds an unknown name, such as an empty one, or names one that is not available.
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

    /// Reads a name; whether this processor has it is not asked.
    ///
    /// # Errors
    /// [`Error::Isa`] if the name is unknown.
    fn from_str(name: &str) -> Result<Self> {
        Self::ALL.iter().copied().find(|isa| isa.name() == name).ok_or_else(|| Self::refused("isa", name))
    }
}

/// An instruction set that the processor is known to have: the licence to run kernels on it.
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

    /// Runs a kernel on this thread.
    pub(crate) fn run<K: Kernel>(self, kernel: K) -> K::Output {
        match self.0 {
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 => {
                // SAFETY: `new` found the instruction set.
                let tier = unsafe { Avx512::assume() };
                tier.call(Run(kernel, tier))
            }
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => {
                // SAFETY: as above.
                let tier = unsafe { Avx2::assume() };
                tier.call(Run(kernel, tier))
            }
            #[cfg(target_arch = "aarch64")]
            Isa::Neon => {
                // SAFETY: as above.
                let tier = unsafe { Neon::assume() };
                tier.call(Run(kernel, tier))
            }
            _ => kernel.run(Portable),
        }
    }
}

/// A kernel in a tier.
struct Run<K, T>(K, T);

impl<K: Kernel, T: Tier> SimdOp for Run<K, T> {
    type Output = K::Output;

    #[inline(always)]
    fn run(self) -> K::Output {
        self.0.run(self.1)
    }
}
