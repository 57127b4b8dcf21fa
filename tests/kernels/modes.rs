//! Calls operations on a thread in flush-to-zero mode, which audio software sets: only subnormal numbers,
//! intermediate ones included, may change the bits there, and the mode stays as it is.
#![cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]

use std::arch::asm;
use std::thread;

use densely::{Activation, Backend, MatMut, activation, dense};
use densely_testkit::bits::canonical_bits;
use densely_testkit::operations::run_all;
use densely_testkit::{Layout, Matrix, Values, serial_backends};

/// The floating-point mode of the calling thread.
#[cfg(target_arch = "x86_64")]
fn mode() -> u64 {
    let mut mode = 0u32;
    // SAFETY: the instruction stores 4 bytes to `mode`.
    unsafe { asm!("stmxcsr [{}]", in(reg) &raw mut mode, options(nostack)) };
    u64::from(mode & !0x3f) // without the exception flags
}

/// Takes subnormal results and operands for 0 from now on.
#[cfg(target_arch = "x86_64")]
fn flush_to_zero() {
    let mode = mode() as u32 | 0x8040;
    // SAFETY: the thread is this test's own, and its own code only compares bits.
    unsafe { asm!("ldmxcsr [{}]", in(reg) &raw const mode, options(nostack)) };
}

#[cfg(target_arch = "aarch64")]
fn mode() -> u64 {
    let mode: u64;
    // SAFETY: the instruction reads a register.
    unsafe { asm!("mrs {}, fpcr", out(reg) mode, options(nostack)) };
    mode
}

#[cfg(target_arch = "aarch64")]
fn flush_to_zero() {
    let mode = mode() | 1 << 24;
    // SAFETY: the thread is this test's own, and its own code only compares bits.
    unsafe { asm!("msr fpcr, {}", in(reg) mode, options(nostack)) };
}

/// Runs `run` on a thread in flush-to-zero mode.
fn flushed<T: Send>(run: impl FnOnce() -> T + Send) -> T {
    thread::scope(|scope| {
        let flushed = scope.spawn(|| {
            let usual = mode();
            flush_to_zero();
            let flushed = mode();
            assert_ne!(flushed, usual);
            let result = run();
            assert_eq!(mode(), flushed, "the mode is the caller's own");
            result
        });
        flushed.join().unwrap()
    })
}

#[test]
fn normal_numbers_keep_their_bits_in_flush_to_zero_mode() {
    let layer = |backend: &Backend| {
        // Integers: no product or sum is subnormal.
        let [x, w] = [([40, 50], 1), ([50, 70], 2)]
            .map(|(shape, seed)| Matrix::random(shape, Layout::RowMajor, Values::Integers, seed));
        let mut y = Matrix::unwritten([40, 70], Layout::RowMajor);
        dense::forward(backend, x.view(), w.view(), None, Activation::Relu, y.view_mut()).unwrap();
        canonical_bits(y.slice())
    };
    for backend in serial_backends() {
        assert!(flushed(|| layer(&backend)) == layer(&backend), "{}", backend.isa());
    }
}

#[test]
fn subnormals_become_zero_in_flush_to_zero_mode() {
    for backend in serial_backends() {
        let exp = |x: f32| {
            let mut y = [f32::NAN];
            let x = [x];
            let x = densely::MatRef::new(&x, 1, 1).unwrap();
            activation::exp(&backend, x, MatMut::new(&mut y, 1, 1).unwrap()).unwrap();
            y[0].to_bits()
        };
        let smallest = exp(-100.0);
        assert!(f32::from_bits(smallest).is_subnormal(), "{}", backend.isa());
        assert_eq!(flushed(|| exp(-100.0)), 0, "{}", backend.isa());
        assert_eq!(flushed(|| exp(-80.0)), exp(-80.0), "{}", backend.isa());
        assert_eq!(exp(-100.0), smallest, "{}: other threads keep their mode", backend.isa());
    }
}

#[test]
fn every_operation_works_in_flush_to_zero_mode() {
    for backend in serial_backends() {
        let [usual, flushed] = [run_all(&backend), flushed(|| run_all(&backend))];
        for (usual, flushed) in usual.iter().zip(&flushed) {
            let near = usual.bits.iter().zip(&flushed.bits).all(|(&usual, &flushed)| {
                let [usual, flushed] = [usual, flushed].map(f32::from_bits);
                usual.is_nan() == flushed.is_nan()
                    && (usual.to_bits() == flushed.to_bits() || (usual - flushed).abs() <= 1e-30 + 1e-6 * usual.abs())
            });
            assert!(near, "{} on {}", usual.name, backend.isa());
        }
    }
}
