//! The limit of the machine, measured: fused multiply-adds a second.

use std::hint::black_box;

/// Accumulators that do not wait for each other: more than any processor's latency times its units.
const CHAINS: usize = 12;
/// Multiply-adds of each chain in one [`Peak::run`].
const STEPS: usize = 20_000;

/// A loop of nothing but fused multiply-adds, in the widest vectors of this processor.
#[derive(Clone, Copy)]
pub struct Peak {
    run: unsafe fn(f32) -> f32,
    lanes: usize,
}

impl Peak {
    /// The loop for this processor; the scalar one where it has no vectors that are known here.
    pub fn detect() -> Self {
        #[cfg(target_arch = "x86_64")]
        if is_x86_feature_detected!("avx512f") {
            return Self { run: x86::avx512, lanes: 16 };
        } else if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
            return Self { run: x86::avx2, lanes: 8 };
        }
        #[cfg(target_arch = "aarch64")]
        return Self { run: neon, lanes: 4 };
        #[allow(unreachable_code)]
        Self { run: scalar, lanes: 1 }
    }

    /// FLOP of one [`run`](Self::run), two for each multiply-add and lane.
    pub fn flops(self) -> usize {
        2 * CHAINS * STEPS * self.lanes
    }

    /// Runs the loop once.
    pub fn run(self) {
        // SAFETY: `detect` found the instruction set.
        black_box(unsafe { (self.run)(black_box(0.5)) });
    }
}

fn scalar(x: f32) -> f32 {
    let mut chains = [x; CHAINS];
    for _ in 0..STEPS {
        chains.iter_mut().for_each(|chain| *chain = *chain * x + x);
    }
    chains.iter().sum()
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::{CHAINS, STEPS};
    use core::arch::x86_64::*;

    #[target_feature(enable = "avx512f")]
    pub fn avx512(x: f32) -> f32 {
        let x = _mm512_set1_ps(x);
        let mut chains = [x; CHAINS];
        for _ in 0..STEPS {
            for chain in &mut chains {
                *chain = _mm512_fmadd_ps(*chain, x, x);
            }
        }
        chains.into_iter().map(|chain| _mm512_reduce_add_ps(chain)).sum()
    }

    #[target_feature(enable = "avx2,fma")]
    pub fn avx2(x: f32) -> f32 {
        let x = _mm256_set1_ps(x);
        let mut chains = [x; CHAINS];
        for _ in 0..STEPS {
            for chain in &mut chains {
                *chain = _mm256_fmadd_ps(*chain, x, x);
            }
        }
        chains.into_iter().map(|chain| _mm256_cvtss_f32(chain)).sum()
    }
}

#[cfg(target_arch = "aarch64")]
fn neon(x: f32) -> f32 {
    use core::arch::aarch64::*;
    // SAFETY: every 64-bit ARM processor has NEON.
    unsafe {
        let x = vdupq_n_f32(x);
        let mut chains = [x; 2 * CHAINS];
        for _ in 0..STEPS / 2 {
            for chain in &mut chains {
                *chain = vfmaq_f32(x, *chain, x);
            }
        }
        chains.into_iter().map(|chain| vgetq_lane_f32::<0>(chain)).sum()
    }
}
