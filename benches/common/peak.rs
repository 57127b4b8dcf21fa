//! Measures the limits of the machine: fused multiply-adds and bytes of memory read per second.

use std::hint::black_box;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use densely::Isa;

/// Independent accumulators: more than any processor's FMA latency times its FMA units.
const CHAINS: usize = 12;
/// Multiply-adds of each chain in one run of about 20 microseconds.
const STEPS: usize = 5_000;
/// Bytes that are read: more than the caches hold.
const MEMORY: usize = 256 << 20;
/// Bytes of each stream in one run.
const PIECE: usize = 1 << 16;
/// Streams that a thread reads in turn: hardware prefetchers follow several, and one stream leaves them idle.
const STREAMS: usize = 4;
/// Floats of a stream in one step: this number of independent sums hides the latency of additions.
const STEP: usize = 32;
/// The time over which work is counted, and how often.
///
/// Threads that just woke share a core for ten milliseconds and more on some machines while another core is
/// idle.
const WINDOW: Duration = Duration::from_millis(5);
const WINDOWS: usize = 10;
/// Writes of each thread in one run of [`Limits::hop`].
const ROUNDS: usize = 1000;
/// Spin iterations before a waiting thread yields its core.
const SPINS: usize = 1024;

type Fma = unsafe fn(f32) -> f32;
type Read = unsafe fn([&[f32]; STREAMS]) -> f32;

/// What a number of threads can reach at once with an instruction set.
pub struct Limits {
    threads: usize,
    fma: Fma,
    lanes: usize,
    read: Read,
    memory: Vec<f32>,
}

impl Limits {
    /// The limits of the instruction set that densely uses.
    ///
    /// For the portable one, whose products are those of `matrixmultiply` with kernels of its own, those of
    /// the best set.
    pub fn new(isa: Isa, threads: usize) -> Self {
        let isa = if isa == Isa::Portable { Isa::available()[0] } else { isa };
        assert!(isa.is_available(), "a backend can't have another");
        let (fma, lanes, read): (Fma, usize, Read) = match isa {
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 => (x86::fma_avx512, 16, x86::read_avx512),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => (x86::fma_avx2, 8, x86::read_avx2),
            #[cfg(target_arch = "aarch64")]
            Isa::Neon => (fma_neon, 4, read),
            _ => (fma_scalar, 1, read),
        };
        // Ones: pages of zeros may all be one page of memory.
        Self { threads, fma, lanes, read, memory: vec![1.0; MEMORY / size_of::<f32>()] }
    }

    /// The most FLOP per second of fused multiply-adds alone.
    pub fn fma(&self) -> f64 {
        self.fma_rates()[WINDOWS - 1]
    }

    /// The median of the same: what is left while another virtual machine runs on these cores.
    pub fn usual_fma(&self) -> f64 {
        self.fma_rates()[WINDOWS / 2]
    }

    fn fma_rates(&self) -> [f64; WINDOWS] {
        self.rates(|_, _| {
            // SAFETY: `new` asked for the instruction set.
            black_box(unsafe { (self.fma)(black_box(0.5)) });
            2 * CHAINS * STEPS * self.lanes
        })
    }

    /// Nanoseconds until a thread sees a write of another: the least mean of several runs in which all write
    /// in turn.
    pub fn hop(&self) -> f64 {
        let turn = AtomicUsize::new(0);
        let run = |thread| {
            let mut least = f64::INFINITY;
            for run in 0..WINDOWS {
                let start = Instant::now();
                for round in run * ROUNDS..(run + 1) * ROUNDS {
                    let mine = round * self.threads + thread;
                    let mut spins = 0;
                    while turn.load(Ordering::Acquire) != mine {
                        spins += 1;
                        // The thread whose turn it is may need this core.
                        if spins % SPINS == 0 { thread::yield_now() } else { std::hint::spin_loop() }
                    }
                    turn.store(mine + 1, Ordering::Release);
                }
                least = least.min(start.elapsed().as_nanos() as f64);
            }
            least / (ROUNDS * self.threads) as f64
        };
        self.on_all_threads(&run)
    }

    /// Bytes per second streamed from DRAM, each thread reading a part of the memory in order.
    pub fn read(&self) -> f64 {
        let pieces = MEMORY / PIECE / STREAMS / self.threads;
        assert!(pieces > 0, "a piece for each stream");
        let rates = self.rates(|thread, run| {
            let len = PIECE / size_of::<f32>();
            let piece = |stream| &self.memory[((thread * STREAMS + stream) * pieces + run % pieces) * len..][..len];
            // SAFETY: `new` asked for the instruction set.
            black_box(unsafe { (self.read)(std::array::from_fn(piece)) });
            STREAMS * PIECE
        });
        rates[WINDOWS - 1]
    }

    /// Returns the work of all threads per second in each of the [`WINDOWS`], in ascending order.
    ///
    /// `work` gets the thread and the number of its runs before, and returns how much it did.
    fn rates(&self, work: impl Fn(usize, usize) -> usize + Sync) -> [f64; WINDOWS] {
        let done = [const { AtomicUsize::new(0) }; WINDOWS];
        let start = Instant::now();
        let run = |thread| {
            for run in 0.. {
                let work = work(thread, run);
                let window = start.elapsed().as_nanos() / WINDOW.as_nanos();
                let Some(done) = done.get(window as usize) else { break };
                done.fetch_add(work, Ordering::Relaxed);
            }
        };
        self.on_all_threads(&run);
        let mut rates = done.map(|done| done.into_inner() as f64 / WINDOW.as_secs_f64());
        rates.sort_by(f64::total_cmp);
        rates
    }

    /// Runs all threads at once; returns the result of the first.
    fn on_all_threads<T: Send>(&self, run: &(impl Fn(usize) -> T + Sync)) -> T {
        thread::scope(|scope| {
            (1..self.threads).for_each(|thread| drop(scope.spawn(move || run(thread))));
            run(0)
        })
    }
}

fn fma_scalar(x: f32) -> f32 {
    let mut chains = [x; CHAINS];
    for _ in 0..STEPS {
        chains.iter_mut().for_each(|chain| *chain = *chain * x + x);
    }
    chains.iter().sum()
}

/// Adds up all floats in the vectors that the caller's target features give.
#[inline(always)]
fn read(streams: [&[f32]; STREAMS]) -> f32 {
    let [a, b, c, d] = streams.map(|stream| stream.as_chunks::<STEP>().0);
    let mut sums = [0.0; STEP];
    for (((a, b), c), d) in a.iter().zip(b).zip(c).zip(d) {
        for (i, sum) in sums.iter_mut().enumerate() {
            *sum += (a[i] + b[i]) + (c[i] + d[i]);
        }
    }
    sums.iter().sum()
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::{CHAINS, STEPS, STREAMS};
    use core::arch::x86_64::*;

    #[target_feature(enable = "avx512f")]
    pub fn fma_avx512(x: f32) -> f32 {
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
    pub fn fma_avx2(x: f32) -> f32 {
        let x = _mm256_set1_ps(x);
        let mut chains = [x; CHAINS];
        for _ in 0..STEPS {
            for chain in &mut chains {
                *chain = _mm256_fmadd_ps(*chain, x, x);
            }
        }
        chains.into_iter().map(|chain| _mm256_cvtss_f32(chain)).sum()
    }

    #[target_feature(enable = "avx512f")]
    pub fn read_avx512(streams: [&[f32]; STREAMS]) -> f32 {
        super::read(streams)
    }

    #[target_feature(enable = "avx2,fma")]
    pub fn read_avx2(streams: [&[f32]; STREAMS]) -> f32 {
        super::read(streams)
    }
}

#[cfg(target_arch = "aarch64")]
fn fma_neon(x: f32) -> f32 {
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
