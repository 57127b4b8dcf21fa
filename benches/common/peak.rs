//! The limits of the machine, measured: fused multiply-adds and bytes of memory read, a second.

use std::hint::black_box;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use densely::Isa;

/// Accumulators that do not wait for each other: more than any processor's latency times its units.
const CHAINS: usize = 12;
/// Multiply-adds of each chain in one run, which takes some 20 microseconds.
const STEPS: usize = 5_000;
/// Bytes that are read: more than caches hold.
const MEMORY: usize = 256 << 20;
/// Bytes of each stream that are read in one run.
const PIECE: usize = 1 << 16;
/// A thread reads from so many places in turn: prefetchers follow all of them, and one does not keep them busy.
const STREAMS: usize = 4;
/// Floats of a stream in one step: sums of so many do not wait for each other.
const STEP: usize = 32;
/// Over so long work is counted, so often. Threads that just woke share a core for ten milliseconds and more on some
/// machines, while another is idle.
const WINDOW: Duration = Duration::from_millis(5);
const WINDOWS: usize = 10;
/// Turns of each thread in one run of [`Limits::hop`].
const ROUNDS: usize = 1000;
/// After so many looks, who waits for its turn lets others run on its core.
const LOOKS: usize = 1024;

type Fma = unsafe fn(f32) -> f32;
type Read = unsafe fn([&[f32]; STREAMS]) -> f32;

/// What so many threads can reach at once with an instruction set.
pub struct Limits {
    threads: usize,
    fma: Fma,
    lanes: usize,
    read: Read,
    memory: Vec<f32>,
}

impl Limits {
    /// Those of the instruction set that densely uses. Of the portable one, whose products are matrixmultiply's
    /// with kernels of its own: those of the best that this processor has.
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
        // Not zeros: pages of zeros need not be memory.
        Self { threads, fma, lanes, read, memory: vec![1.0; MEMORY / size_of::<f32>()] }
    }

    /// The most FLOP a second of fused multiply-adds and nothing else.
    pub fn fma(&self) -> f64 {
        self.fma_rates()[WINDOWS - 1]
    }

    /// The same, but the median: what threads have while another machine's work is on their cores.
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

    /// Nanoseconds until a thread sees what another has written: the least mean of some runs in which all take turns.
    pub fn hop(&self) -> f64 {
        let turn = AtomicUsize::new(0);
        let run = |thread| {
            let mut least = f64::INFINITY;
            for run in 0..WINDOWS {
                let start = Instant::now();
                for round in run * ROUNDS..(run + 1) * ROUNDS {
                    let mine = round * self.threads + thread;
                    let mut looks = 0;
                    while turn.load(Ordering::Acquire) != mine {
                        looks += 1;
                        // Who has the turn may wait for this thread's core.
                        if looks % LOOKS == 0 { thread::yield_now() } else { std::hint::spin_loop() }
                    }
                    turn.store(mine + 1, Ordering::Release);
                }
                least = least.min(start.elapsed().as_nanos() as f64);
            }
            least / (ROUNDS * self.threads) as f64
        };
        self.on_all_threads(&run)
    }

    /// Bytes a second that come from memory, when each thread reads a part of it in order.
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

    /// What all threads together did in each of the [`WINDOWS`], for a second, in ascending order. `work` gets the
    /// thread and how many runs of it came before, and tells how much it did.
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

    /// What the first gives of all threads, which run at once.
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

/// The sum of all, in whatever vectors the caller's target features give.
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
