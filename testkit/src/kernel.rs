//! Compares a kernel with its reference on every instruction set and number of threads.

use densely::{Backend, Isa, Threads};

use crate::backends::{exactly, serial_backends};
use crate::matrix::Matrix;

/// How the portable tier's outputs, the first, may differ from the reference's: it has no fused multiply-add.
pub type Portable<'a, const N: usize> = &'a dyn Fn(&[Matrix; N], &[Matrix; N]);

/// Compares kernels without products, whose portable tier has the bits of the reference, too.
pub fn exact<const N: usize>(found: &[Matrix; N], expected: &[Matrix; N]) {
    for (found, expected) in found.iter().zip(expected) {
        found.assert_same_bits(expected, "portable");
    }
}

/// Runs a kernel on every instruction set and number of threads.
///
/// `outputs` are passed as they are before the call. Asserts that the kernel writes the bits of the
/// reference, and nothing beside the elements of its outputs. On the portable tier `portable` compares with
/// the reference; all numbers of threads must give the same bits there, too.
pub fn check_kernel<const N: usize>(
    outputs: [Matrix; N],
    reference: impl Fn(&mut [Matrix; N]),
    kernel: impl Fn(&Backend, &mut [Matrix; N]),
    portable: Portable<'_, N>,
) {
    let threads = [Threads::Auto, exactly(1), exactly(2), exactly(3), exactly(7)];
    check_kernel_on(&threads, outputs, reference, kernel, portable);
}

/// Runs [`check_kernel`] on the calling thread alone.
pub fn check_kernel_serially<const N: usize>(
    outputs: [Matrix; N],
    reference: impl Fn(&mut [Matrix; N]),
    kernel: impl Fn(&Backend, &mut [Matrix; N]),
    portable: Portable<'_, N>,
) {
    check_kernel_on(&[], outputs, reference, kernel, portable);
}

fn check_kernel_on<const N: usize>(
    more_threads: &[Threads],
    outputs: [Matrix; N],
    reference: impl Fn(&mut [Matrix; N]),
    kernel: impl Fn(&Backend, &mut [Matrix; N]),
    portable: Portable<'_, N>,
) {
    let mut expected = outputs.clone();
    reference(&mut expected);
    for serial in serial_backends() {
        let run = |threads| {
            let what = format!("{} on {threads:?}", serial.isa());
            let mut outputs = outputs.clone();
            kernel(&serial.with_threads(threads), &mut outputs);
            outputs.iter().for_each(|output| output.assert_written(&what));
            (outputs, what)
        };
        let (first, what) = run(Threads::One);
        if serial.isa() == Isa::Portable {
            portable(&first, &expected);
        } else {
            first.iter().zip(&expected).for_each(|(first, expected)| first.assert_same_bits(expected, &what));
        }
        for &threads in more_threads {
            let (outputs, what) = run(threads);
            outputs.iter().zip(&first).for_each(|(output, first)| output.assert_same_bits(first, &what));
        }
    }
}
