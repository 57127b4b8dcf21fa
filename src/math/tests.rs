//! Error bounds over a stride of floats, or all of them; special values.

use super::*;
use crate::{Activation, Backend, Isa, MatMut, MatRef, Threads, activation, reference};

/// The error of `found`, in ulp of the true result.
fn ulp(found: f32, truth: f64) -> f64 {
    let rounded = truth as f32;
    if found.is_nan() || rounded.is_nan() || found.is_infinite() || rounded.is_infinite() {
        let same = found.to_bits() == rounded.to_bits() || (found.is_nan() && rounded.is_nan());
        return if same { 0.0 } else { f64::INFINITY };
    }
    let exponent = (truth.abs().to_bits() >> 52) as i32 - 1023;
    (f64::from(found) - truth).abs() / f64::from(exponent.max(-126) - 23).exp2()
}

/// A function, the same in the reference, and its true value; the bound of its error in ulp.
struct Function {
    name: &'static str,
    kernel: Kernel,
    spelled: fn(f32) -> f32,
    truth: fn(f64) -> f64,
    bound: f64,
    /// The same for the portable tier.
    portable: f64,
}

impl Function {
    /// Asserts that a kernel's `y` has the bits of the reference, but for the portable tier.
    #[track_caller]
    fn assert_spelled(&self, isa: Isa, x: f32, y: f32) {
        let (name, spelled) = (self.name, (self.spelled)(x));
        let same = y.to_bits() == spelled.to_bits() || (y.is_nan() && spelled.is_nan());
        assert!(same || isa == Isa::Portable, "{isa}: {name}({x:e}) = {y:e}, the reference has {spelled:e}");
    }
}

enum Kernel {
    Exp,
    Ln,
    Activation(Activation),
}

impl Kernel {
    fn run(&self, backend: &Backend, x: &[f32], y: &mut [f32]) {
        let cols = x.len();
        let (x, y) = (MatRef::new(x, 1, cols).unwrap(), MatMut::new(y, 1, cols).unwrap());
        match *self {
            Self::Exp => activation::exp(backend, x, y),
            Self::Ln => activation::ln(backend, x, y),
            Self::Activation(function) => activation::forward(backend, function, x, y),
        }
        .unwrap();
    }
}

const FUNCTIONS: [Function; 8] = [
    Function {
        name: "exp",
        kernel: Kernel::Exp,
        spelled: reference::exp,
        truth: f64::exp,
        bound: EXP_ULP,
        portable: PORTABLE_ULP,
    },
    Function {
        name: "ln",
        kernel: Kernel::Ln,
        spelled: reference::ln,
        // -inf at both zeros, as a logarithm of the magnitude has it.
        truth: |x| if x == 0.0 { f64::NEG_INFINITY } else { x.ln() },
        bound: LN_ULP,
        portable: PORTABLE_ULP,
    },
    Function {
        name: "exp(x) - 1 below 0",
        kernel: Kernel::Activation(Activation::Elu { alpha: 1.0 }),
        spelled: |x| if x < 0.0 { reference::exp_m1_of_nonpositive(x) } else { x },
        truth: |x| if x < 0.0 { x.exp_m1() } else { x },
        bound: EXP_M1_ULP,
        portable: 3.0,
    },
    Function {
        name: "sigmoid",
        kernel: Kernel::Activation(Activation::Sigmoid),
        spelled: reference::sigmoid,
        truth: true_sigmoid,
        bound: SIGMOID_ULP,
        portable: 4.0,
    },
    Function {
        name: "tanh",
        kernel: Kernel::Activation(Activation::Tanh),
        spelled: reference::tanh,
        truth: f64::tanh,
        bound: TANH_ULP,
        portable: 3.0,
    },
    Function {
        name: "softplus",
        kernel: Kernel::Activation(Activation::Softplus),
        spelled: reference::softplus,
        truth: |x| x.max(0.0) + (-x.abs()).exp().ln_1p(),
        bound: SOFTPLUS_ULP,
        portable: 3.0,
    },
    Function {
        name: "silu",
        kernel: Kernel::Activation(Activation::Silu),
        spelled: reference::silu,
        truth: |x| if x == f64::NEG_INFINITY { -0.0 } else { x * true_sigmoid(x) },
        bound: SILU_ULP,
        portable: 4.0,
    },
    Function {
        name: "gelu",
        kernel: Kernel::Activation(Activation::Gelu),
        spelled: reference::gelu,
        truth: |x| if x == f64::NEG_INFINITY { -0.0 } else { x * true_sigmoid(gelu_argument(x)) },
        bound: GELU_ULP,
        portable: 400.0,
    },
];

fn true_sigmoid(x: f64) -> f64 {
    if x < 0.0 { x.exp() / (1.0 + x.exp()) } else { 1.0 / (1.0 + (-x).exp()) }
}

fn gelu_argument(x: f64) -> f64 {
    (8.0 / std::f64::consts::PI).sqrt() * (x + 0.044_715 * x * x * x)
}

/// Floats that are looked at in one go.
const BLOCK: usize = 1 << 16;

/// Largest error over every `stride`-th float, and where; compared bit for bit with the reference on the way,
/// but for the portable tier.
fn worst(isa: Isa, stride: usize, function: &Function) -> (f64, f32) {
    let backend = Backend::with_isa(isa).unwrap().with_threads(Threads::One);
    let blocks = (1usize << 32).div_ceil(stride * BLOCK);
    let of_block = &|block: usize| {
        let first = (block * BLOCK * stride) as u32;
        let x: Vec<f32> = (0..BLOCK).map(|i| f32::from_bits(first.wrapping_add((i * stride) as u32))).collect();
        let mut y = vec![0.0; BLOCK];
        function.kernel.run(&backend, &x, &mut y);
        let errors = x.iter().zip(&y).map(|(&x, &y)| {
            function.assert_spelled(isa, x, y);
            (ulp(y, (function.truth)(f64::from(x))), x)
        });
        errors.fold((0.0, 0.0), larger)
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let of_thread = &|thread: usize| (thread..blocks).step_by(threads).map(of_block).fold((0.0, 0.0), larger);
    std::thread::scope(|scope| {
        let all: Vec<_> = (0..threads).map(|thread| scope.spawn(move || of_thread(thread))).collect();
        all.into_iter().map(|one| one.join().unwrap()).fold((0.0, 0.0), larger)
    })
}

fn larger(a: (f64, f32), b: (f64, f32)) -> (f64, f32) {
    if b.0 > a.0 { b } else { a }
}

fn check_bounds(stride: usize) {
    let mut beyond = Vec::new();
    for isa in Isa::available() {
        for function in &FUNCTIONS {
            let (error, x) = worst(isa, stride, function);
            let bound = if isa == Isa::Portable { function.portable } else { function.bound };
            println!("{isa}: {} {error:.4} ulp at {x:e}, of at most {bound}", function.name);
            if error > bound {
                beyond.push((isa, function.name));
            }
        }
    }
    assert!(beyond.is_empty(), "beyond their bounds: {beyond:?}");
}

#[test]
fn bounds_hold_on_a_stride_of_floats() {
    check_bounds(4999);
}

/// The exponentials that softmax adds up: `tests/rows.rs` holds the kernels to the reference.
fn check_summands(stride: usize) {
    // Down to where the power of 2 that it is multiplied by is the least.
    let floats = ((-0.0f32).to_bits()..=(-131.0f32).to_bits()).step_by(stride).map(f32::from_bits);
    let error = |x: f32| ulp(reference::exp_summand(x), f64::from(x).exp() * f64::from(SCALE).exp2());
    let worst = floats.map(error).fold(0.0, f64::max);
    println!("terms of softmax's sums: {worst:.4} ulp");
    assert!(worst <= SUMMAND_ULP);
}

#[test]
fn bounds_of_summands_hold_on_a_stride_of_floats() {
    check_summands(499);
}

#[test]
#[ignore = "takes minutes: all floats from -131 to 0"]
fn bounds_of_summands_hold_on_all_floats() {
    check_summands(1);
}

/// `cargo test --release --lib -- --ignored --nocapture all_floats`
#[test]
#[ignore = "takes minutes: all 2^32 floats on every instruction set"]
fn bounds_hold_on_all_floats() {
    check_bounds(1);
}

/// Strides may step over them.
#[test]
fn where_formulas_meet_the_bits_are_those_of_the_reference() {
    let ends =
        [EXP_MOST, EXP_LEAST, SCALED_LEAST, SCALED_END, TANH_SMALL, SIGMOID_ONE, GELU_MOST, f32::MIN_POSITIVE, 0.0];
    let x: Vec<f32> = ends
        .into_iter()
        .flat_map(|end| [end, -end])
        .flat_map(|end| [end.next_down().next_down(), end.next_down(), end, end.next_up(), end.next_up().next_up()])
        .collect();
    for isa in Isa::available() {
        let backend = Backend::with_isa(isa).unwrap();
        for function in &FUNCTIONS {
            let mut y = vec![0.0; x.len()];
            function.kernel.run(&backend, &x, &mut y);
            x.iter().zip(&y).for_each(|(&x, &y)| function.assert_spelled(isa, x, y));
        }
    }
}

#[test]
fn special_values_are_as_stated() {
    let (inf, nan) = (f32::INFINITY, f32::NAN);
    let x = [nan, inf, -inf, 0.0, -0.0, 1.0, -1.0, f32::from_bits(1), -f32::MIN_POSITIVE, 88.8, -104.0, -87.5];
    for isa in Isa::available() {
        let backend = Backend::with_isa(isa).unwrap();
        let apply = |kernel: Kernel| {
            let mut y = [0.0; 12];
            kernel.run(&backend, &x, &mut y);
            y
        };
        let (exp, ln) = (apply(Kernel::Exp), apply(Kernel::Ln));
        assert!(exp[0].is_nan() && ln[0].is_nan());
        assert_eq!(exp[1..6].to_vec(), [inf, 0.0, 1.0, 1.0, std::f32::consts::E]);
        assert_eq!([exp[9], exp[10]], [inf, 0.0]);
        assert!(exp[11] > 0.0 && exp[11].is_subnormal());
        assert!(ln[2].is_nan() && ln[6].is_nan() && ln[8].is_nan());
        assert_eq!([ln[1], ln[3], ln[4]], [inf, -inf, -inf]);
        assert_eq!(ln[5].to_bits(), 0);
    }
}
