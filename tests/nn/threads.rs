//! Trains on many threads, few threads, in busy pools and after a fork: the same bits, and no deadlock.

use std::panic::{AssertUnwindSafe, catch_unwind};

use densely::loss::CrossEntropy;
use densely::nn::{self, Adam, Fit, Sequential};
use densely::{
    Activation, Backend, Error, Isa, Labels, MatMut, MatRef, PackedWeights, Targets, Threads, Weights, dense,
};
use densely_testkit::{assert_identical, exactly, random_labels, random_values, row_major, within_a_minute};
use rayon::prelude::*;
use rayon::{ThreadPool, ThreadPoolBuilder};

use crate::common::mlp;

const SAMPLES: usize = 150;
const INPUTS: usize = 60;
const CLASSES: usize = 10;

fn model(threads: Threads) -> Sequential {
    let mut model = mlp(&Backend::new().unwrap().with_threads(threads), INPUTS, &[70, CLASSES]);
    model.compile(Adam::default()).unwrap();
    model
}

/// Trains for two epochs; returns the parameters.
fn train(threads: Threads) -> Vec<f32> {
    let (x, labels) = (random_values(1, SAMPLES * INPUTS), random_labels::<u8>(2, SAMPLES, CLASSES));
    let mut model = model(threads);
    model.fit(row_major(&x, SAMPLES), &labels, Fit::default().epochs(2)).unwrap();
    model.parameters().to_vec()
}

fn pool(threads: usize) -> ThreadPool {
    ThreadPoolBuilder::new().num_threads(threads).build().unwrap()
}

#[test]
fn eight_fits_on_one_pool_give_the_same_bits() {
    let expected = train(Threads::One);
    within_a_minute("eight fits on one pool", || {
        let pool = pool(2);
        std::thread::scope(|scope| {
            for caller in 0..8 {
                let (pool, expected) = (&pool, &expected);
                let threads = [Threads::Auto, exactly(2), exactly(3), exactly(7)][caller % 4];
                scope.spawn(move || {
                    for _ in 0..3 {
                        let found = pool.install(|| train(threads));
                        assert_identical(&found, expected, &format!("on {threads:?}"));
                    }
                });
            }
        });
    });
}

#[test]
fn sixty_four_threads_on_few_cores_give_the_same_bits() {
    let expected = train(Threads::One);
    within_a_minute("64 threads", || {
        for threads in [Threads::Auto, exactly(64), exactly(usize::MAX)] {
            let found = pool(64).install(|| train(threads));
            assert_identical(&found, &expected, &format!("on {threads:?} in a pool of 64"));
        }
    });
}

#[test]
fn pool_of_one_thread_gives_the_same_bits() {
    let expected = train(Threads::One);
    within_a_minute("a pool of one thread", || {
        for threads in [Threads::Auto, exactly(2), exactly(7)] {
            let found = pool(1).install(|| train(threads));
            assert_identical(&found, &expected, &format!("on {threads:?} in a pool of one"));
        }
    });
}

#[test]
fn fits_inside_parallel_work_give_the_same_bits() {
    let expected = train(Threads::One);
    within_a_minute("fits in par_iter", || {
        let fits = (0..16).into_par_iter().map(|_| train(Threads::Auto));
        let found: Vec<_> = pool(3).install(|| fits.collect());
        found.iter().for_each(|found| assert_identical(found, &expected, "in par_iter"));
    });
}

#[test]
fn panicking_loss_leaves_the_model_unchanged() {
    let x = random_values(1, SAMPLES * INPUTS);
    let mut model = model(exactly(3));
    let (before, mut gradients) = (model.parameters().to_vec(), vec![0.0; model.count_params()]);
    let panics = |_: MatRef<'_>, _: MatMut<'_>| -> densely::Result<()> { std::panic::resume_unwind(Box::new("mine")) };
    let call = || model.gradients_with(row_major(&x, SAMPLES), panics, &mut gradients);
    let panic = catch_unwind(AssertUnwindSafe(call)).unwrap_err();
    assert_eq!(panic.downcast_ref(), Some(&"mine"));
    assert_identical(model.parameters(), &before, "parameters");
    let labels = random_labels::<u8>(2, SAMPLES, CLASSES);
    within_a_minute("a fit after a panic", || {
        model.fit(row_major(&x, SAMPLES), &labels, Fit::default().epochs(2)).unwrap();
    });
    assert_identical(model.parameters(), &train(Threads::One), "parameters of the next fit");
}

#[cfg(target_os = "linux")]
mod fork {
    use std::ffi::c_int;
    use std::time::{Duration, Instant};

    use super::*;

    // std links the C library already.
    unsafe extern "C" {
        fn fork() -> c_int;
        fn waitpid(child: c_int, status: *mut c_int, options: c_int) -> c_int;
        fn kill(child: c_int, signal: c_int) -> c_int;
        fn _exit(status: c_int) -> !;
    }
    const NO_HANG: c_int = 1;
    const KILL: c_int = 9;

    /// Runs layers with enough work for several threads.
    fn layers() -> Vec<f32> {
        let (x, w) = (random_values(3, 64 * 300), random_values(4, 300 * 200));
        let backend = Backend::new().unwrap();
        let mut y = vec![0.0; 64 * 200];
        for _ in 0..300 {
            let to = MatMut::new(&mut y, 64, 200).unwrap();
            dense::forward(&backend, row_major(&x, 64), row_major(&w, 300), None, Activation::Relu, to).unwrap();
        }
        y
    }

    #[test]
    #[cfg_attr(not(target_arch = "x86_64"), ignore = "under qemu a process of many threads can't fork")]
    fn forked_child_works_without_its_parents_threads() {
        let expected = (layers(), train(Threads::One));
        for calls_before in [false, true] {
            if calls_before {
                layers(); // The workers spin now.
            }
            // SAFETY: the child runs only this test's and the crate's code, and ends by `_exit`.
            let child = unsafe { fork() };
            if child == 0 {
                let found = catch_unwind(|| (layers(), train(Threads::Auto)));
                let same = found.is_ok_and(|found| found == expected);
                // SAFETY: `_exit` ends this process and nothing else.
                unsafe { _exit(c_int::from(!same)) };
            }
            assert!(child > 0, "fork");
            let (begin, mut status) = (Instant::now(), 0);
            // SAFETY: `child` is a child of this process that nobody else waits for; `status` is writable.
            while unsafe { waitpid(child, &raw mut status, NO_HANG) } == 0 {
                if begin.elapsed() > Duration::from_secs(60) {
                    // SAFETY: `child` has not been waited for, so that the number is still its own.
                    unsafe { kill(child, KILL) };
                    panic!("the child hangs");
                }
                std::thread::sleep(Duration::from_millis(5));
            }
            assert_eq!(status, 0, "the child's end");
        }
    }
}

/// All but `Fit`, whose callback may be none of these.
#[test]
fn public_types_are_send_sync_and_unpin() {
    fn assert_free<T: Send + Sync + Unpin>() {}
    assert_free::<(Backend, Isa, Threads, Error, Activation, CrossEntropy<'_>)>();
    assert_free::<(MatRef<'_>, MatMut<'_>, PackedWeights, Weights<'_>, Labels<'_>, Targets<'_>)>();
    assert_free::<(Sequential, nn::Builder, nn::Predictor, nn::Optimizer, nn::Layer, nn::Shape)>();
    assert_free::<(nn::History, nn::EpochEnd, nn::BatchEnd, nn::EarlyStopping, nn::Schedule, nn::Metrics)>();
}
