//! The same bits on any number of threads, from inside and outside of any rayon pool.

use std::sync::LazyLock;

use crate::common::emulated::{EMULATED, some};
use crate::common::operations::{Written, run_all};
use crate::common::watchdog::within_a_minute;
use crate::common::{Layout, Matrix, Values, backends, canonical, exactly};
use densely::{Activation, Backend, Isa, MatMut, MatRef, Threads, activation, dense, loss};
use rayon::prelude::*;
use rayon::{ThreadPool, ThreadPoolBuilder};

type Serial = (Backend, Vec<Written>);

/// What each instruction set writes on the calling thread alone.
static SERIAL: LazyLock<Vec<Serial>> = LazyLock::new(|| {
    let serial = serial_backends().map(|backend| (backend.clone(), run_all(&backend)));
    serial.collect()
});

fn assert_same((backend, expected): &Serial, threads: Threads, place: &str) {
    for ((name, bits), (_, expected)) in run_all(&backend.with_threads(threads)).iter().zip(expected) {
        // Not assert_eq: nobody wants to read all the bits.
        assert!(bits == expected, "{name} on {} with {threads:?} {place}", backend.isa());
    }
}

fn assert_all_same(threads: Threads, place: &str) {
    SERIAL.iter().for_each(|serial| assert_same(serial, threads, place));
}

fn pool(threads: usize) -> ThreadPool {
    ThreadPoolBuilder::new().num_threads(threads).build().unwrap()
}

#[test]
fn instruction_sets_give_the_same_bits() {
    let exact: Vec<_> = SERIAL.iter().filter(|(backend, _)| backend.isa() != Isa::Portable).collect();
    for pair in exact.windows(2) {
        assert!(pair[0].1 == pair[1].1, "{} and {}", pair[0].0.isa(), pair[1].0.isa());
    }
}

#[test]
fn bits_are_the_same_inside_a_pool() {
    for &threads in first_if_emulated(&[3, 1, 2, 7], 1) {
        pool(threads).install(|| assert_all_same(Threads::Auto, &format!("in a pool of {threads}")));
    }
}

#[test]
fn bits_are_the_same_for_any_parts_and_pool_size() {
    for threads in [1, 2, 3, 7] {
        let serial = &SERIAL[threads % SERIAL.len()];
        pool(threads).install(|| assert_same(serial, exactly(9 - threads), &format!("in a pool of {threads}")));
    }
}

#[test]
fn bits_are_the_same_outside_a_pool() {
    for threads in [Threads::Auto, exactly(1), exactly(2), exactly(3), exactly(7)] {
        assert_all_same(threads, "outside of a pool");
    }
}

#[test]
fn bits_are_the_same_nested_in_a_parallel_iterator() {
    let calls = [Threads::Auto, Threads::One, exactly(2), exactly(7)].into_par_iter().enumerate();
    pool(3).install(|| {
        calls.for_each(|(call, threads)| assert_same(&SERIAL[call % SERIAL.len()], threads, "in par_iter"));
    });
}

#[test]
fn bits_are_the_same_for_eight_concurrent_callers() {
    std::thread::scope(|scope| {
        for caller in 0..8 {
            let threads = if caller % 2 == 0 { Threads::Auto } else { exactly(caller) };
            let serial = &SERIAL[caller % SERIAL.len()];
            scope.spawn(move || assert_same(serial, threads, "from eight threads at once"));
        }
    });
}

/// Bits of what a layer, log-softmax and cross-entropy write: calls of a few microseconds.
fn small_calls(backend: &Backend, [x, w]: &[Matrix; 2], labels: &[u8], bits: &mut Vec<u32>) {
    let (rows, cols) = (x.shape()[0], w.shape()[1]);
    let [mut y, mut z] = [[0.0; 16 * 24]; 2];
    let to = MatMut::new(&mut y, rows, cols).unwrap();
    dense::forward(backend, x.view(), w.view(), None, Activation::Relu, to).unwrap();
    let logits = MatRef::new(&y, rows, cols).unwrap();
    activation::log_softmax(backend, logits, MatMut::new(&mut z, rows, cols).unwrap()).unwrap();
    bits.clear();
    bits.extend(z.iter().copied().map(canonical));
    let loss = loss::cross_entropy(backend, logits, labels, MatMut::new(&mut z, rows, cols).unwrap()).unwrap();
    bits.extend(z.iter().chain([&loss]).copied().map(canonical));
}

#[test]
fn bits_are_the_same_for_64_callers_of_10000_calls_each() {
    let matrix = |shape, seed| Matrix::random(shape, Layout::RowMajor, Values::Normal, seed);
    let operands = [matrix([16, 40], 1), matrix([40, 24], 2)];
    let labels: Vec<u8> = (0..16).collect();
    let serial: Vec<(Backend, Vec<u32>)> = serial_backends()
        .filter(|backend| backend.isa() != Isa::Portable)
        .map(|backend| {
            let mut bits = Vec::new();
            small_calls(&backend, &operands, &labels, &mut bits);
            (backend, bits)
        })
        .collect();
    let rounds = if EMULATED { 30 } else { 10_000 / 3 + 1 }; // of three calls
    within_a_minute("64 callers", || {
        std::thread::scope(|scope| {
            for caller in 0..64 {
                let (operands, labels) = (&operands, &labels);
                let threads = [Threads::Auto, exactly(2), Threads::One, exactly(3)][caller % 4];
                let (backend, expected) = &serial[caller / 4 % serial.len()];
                scope.spawn(move || {
                    let (backend, mut bits) = (backend.with_threads(threads), Vec::new());
                    for _ in 0..rounds {
                        small_calls(&backend, operands, labels, &mut bits);
                        assert!(bits == *expected, "{backend:?} among 64 callers");
                    }
                });
            }
        });
    });
}
