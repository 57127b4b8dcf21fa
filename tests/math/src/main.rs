//! Runs all 2^32 floats through exp, ln, tanh and the sigmoid: their error against the correctly rounded
//! functions of CORE-MATH, and SHA-256 digests of the results on every instruction set with fused
//! multiply-add.
//!
//! `cargo run --release` prints both and fails if a bound or a digest does not hold; `cargo run --release
//! digests` skips the errors, `cargo run --release digests avx2` runs one instruction set.

use std::env;
use std::process::ExitCode;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use densely::{Activation, Backend, Isa, MatMut, MatRef, Result, Threads, activation, math};
use sha2::{Digest, Sha256};

struct Function {
    name: &'static str,
    kernel: fn(&Backend, MatRef<'_>, MatMut<'_>) -> Result<()>,
    /// Within 2^-52 of the true value.
    truth: fn(f64) -> f64,
    /// The largest error allowed, in ulp.
    bound: f64,
    /// The same on the portable instruction set.
    portable: f64,
    /// The digest of the results for bits 0 to 2^32 - 1, little-endian, every NaN being the same.
    digest: &'static str,
}

const FUNCTIONS: [Function; 4] = [
    Function {
        name: "exp",
        kernel: activation::exp,
        truth: core_math::exp,
        bound: math::EXP_ULP,
        portable: math::PORTABLE_ULP,
        digest: "7f802b1ca87378dbe12492a57643c189365181d232330d8d51631151a91313eb",
    },
    Function {
        name: "ln",
        kernel: activation::ln,
        // -inf at both zeros, as a logarithm of the magnitude has it.
        truth: |x| if x == 0.0 { f64::NEG_INFINITY } else { core_math::log(x) },
        bound: math::LN_ULP,
        portable: math::PORTABLE_ULP,
        digest: "e06f1dea261aacadd6f617df69d0e4c80cc9a8fd5335b161950cd99d6415ef0e",
    },
    Function {
        name: "tanh",
        kernel: |backend, x, y| activation::forward(backend, Activation::Tanh, x, y),
        truth: core_math::tanh,
        bound: math::TANH_ULP,
        portable: 3.0,
        digest: "9ce53f324347e5a7833861016c18d41747d99839b72da8861f1e7fd467a458cb",
    },
    Function {
        name: "sigmoid",
        kernel: |backend, x, y| activation::forward(backend, Activation::Sigmoid, x, y),
        truth: |x| 1.0 / (1.0 + core_math::exp(-x)),
        bound: math::SIGMOID_ULP,
        portable: 4.0,
        digest: "17a3bb4540c0435fc114270a7198dba5c0b7034646e74820321b75a703570642",
    },
];

/// Floats in a block.
const BLOCK: usize = 1 << 16;
const BLOCKS: usize = 1 << 16;

impl Function {
    /// Fills `x` with the floats of a block, and `y` with the kernel's results.
    fn block(&self, backend: &Backend, block: usize, x: &mut [f32], y: &mut [f32]) {
        let first = block * BLOCK;
        x.iter_mut().enumerate().for_each(|(i, x)| *x = f32::from_bits((first + i) as u32));
        let (x, y) = (MatRef::new(x, 1, BLOCK), MatMut::new(y, 1, BLOCK));
        x.and_then(|x| (self.kernel)(backend, x, y?)).expect("shapes fit");
    }

    fn digest(&self, backend: &Backend) -> String {
        let (mut x, mut y, mut bytes) = (vec![0.0; BLOCK], vec![0.0; BLOCK], vec![0; 4 * BLOCK]);
        let mut sha = Sha256::new();
        for block in 0..BLOCKS {
            self.block(backend, block, &mut x, &mut y);
            for (bytes, y) in bytes.as_chunks_mut().0.iter_mut().zip(&y) {
                *bytes = (if y.is_nan() { f32::NAN } else { *y }).to_le_bytes();
            }
            sha.update(&bytes);
        }
        sha.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// Returns the largest error over blocks, where it is, and the number of correctly rounded results.
    fn errors(&self, backend: &Backend, blocks: impl Iterator<Item = usize>) -> Errors {
        let (mut x, mut y) = (vec![0.0; BLOCK], vec![0.0; BLOCK]);
        let mut errors = Errors { worst: 0.0, at: 0.0, correct: 0 };
        for block in blocks {
            self.block(backend, block, &mut x, &mut y);
            for (&x, &y) in x.iter().zip(&y) {
                let truth = (self.truth)(f64::from(x));
                errors.correct += usize::from(same(y, truth as f32));
                let error = ulp(y, truth);
                if error > errors.worst {
                    (errors.worst, errors.at) = (error, x);
                }
            }
        }
        errors
    }
}

struct Errors {
    worst: f64,
    at: f32,
    correct: usize,
}

impl Errors {
    fn join(self, other: Self) -> Self {
        let worst = if other.worst > self.worst { &other } else { &self };
        Self { worst: worst.worst, at: worst.at, correct: self.correct + other.correct }
    }
}

fn same(a: f32, b: f32) -> bool {
    a.to_bits() == b.to_bits() || (a.is_nan() && b.is_nan())
}

/// Returns the error of `found` in ulp of the true result: the distance between adjacent floats there.
fn ulp(found: f32, truth: f64) -> f64 {
    let rounded = truth as f32;
    if !found.is_finite() || !rounded.is_finite() {
        return if same(found, rounded) { 0.0 } else { f64::INFINITY };
    }
    let exponent = (truth.abs().to_bits() >> 52) as i32 - 1023;
    (f64::from(found) - truth).abs() / f64::from(exponent.max(-126) - 23).exp2()
}

/// Runs jobs on all cores; returns their results in order.
fn on_all_cores<T: Send>(jobs: usize, job: impl Fn(usize) -> T + Sync) -> Vec<T> {
    let next = AtomicUsize::new(0);
    let take = || std::iter::repeat_with(|| next.fetch_add(1, Ordering::Relaxed)).take_while(|&job| job < jobs);
    let worker = || take().map(|number| (number, job(number))).collect::<Vec<_>>();
    let mut all: Vec<_> = thread::scope(|scope| {
        let workers = thread::available_parallelism().map_or(1, usize::from);
        let workers: Vec<_> = (0..workers).map(|_| scope.spawn(worker)).collect();
        workers.into_iter().flat_map(|worker| worker.join().expect("no job panics")).collect()
    });
    all.sort_by_key(|&(number, _)| number);
    all.into_iter().map(|(_, result)| result).collect()
}

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let (with_errors, isas) = match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => (true, Isa::available()),
        ["digests"] => (false, Isa::available()),
        ["digests", isa] => match isa.parse() {
            Ok(isa) => (false, vec![isa]),
            Err(error) => {
                eprintln!("{error}");
                return ExitCode::from(2);
            }
        },
        _ => {
            eprintln!("usage: densely-math [digests [INSTRUCTION SET]]");
            return ExitCode::from(2);
        }
    };
    let exact = isas.into_iter().filter(|&isa| isa != Isa::Portable);
    let backends: Vec<Backend> =
        exact.map(|isa| Backend::with_isa(isa).expect("it is available").with_threads(Threads::One)).collect();
    let Some(best) = backends.first() else {
        eprintln!("this processor has no fused multiply-add");
        return ExitCode::FAILURE;
    };
    let mut good = true;
    if with_errors {
        // The other sets have the bits of the best, as the digests show.
        let portable = Backend::with_isa(Isa::Portable).expect("it is everywhere").with_threads(Threads::One);
        for (function, backend) in FUNCTIONS.iter().flat_map(|function| [(function, best), (function, &portable)]) {
            let parts = 64;
            let part = |part| function.errors(backend, (part..BLOCKS).step_by(parts));
            let errors = on_all_cores(parts, part).into_iter().reduce(Errors::join).expect("there are parts");
            let Errors { worst, at, correct } = errors;
            let share = 100.0 * correct as f64 / (BLOCK * BLOCKS) as f64;
            let bound = if backend.isa() == Isa::Portable { function.portable } else { function.bound };
            println!(
                "{:8} {:8} {worst:.4} ulp at {at:e}, of at most {bound}; {share:.3} % of all floats get the correctly rounded result",
                function.name,
                backend.isa()
            );
            good &= worst <= bound;
        }
    }
    let pairs: Vec<_> = FUNCTIONS.iter().flat_map(|function| backends.iter().map(move |on| (function, on))).collect();
    let digests = on_all_cores(pairs.len(), |pair| pairs[pair].0.digest(pairs[pair].1));
    for ((function, backend), digest) in pairs.iter().zip(digests) {
        let same = digest == function.digest;
        let verdict = if same { "as expected" } else { "NOT as expected" };
        println!("{:8} {:8} {digest} {verdict}", function.name, backend.isa());
        good &= same;
    }
    if good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
