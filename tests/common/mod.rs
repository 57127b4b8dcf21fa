//! What the tests of level 1 share: matrices that show a stray read or write, values that kernels
//! stumble over, and the comparison with the reference on every instruction set and number of threads.

#![allow(dead_code)] // Each test file is a crate of its own and uses a part of this.

use std::num::NonZeroUsize;
use std::sync::OnceLock;

use densely::{Activation, Backend, Isa, MatMut, MatRef, Threads};
use guarded::{End, Floats};
use proptest::prelude::*;
use proptest::sample::select;

pub mod emulated;
pub mod guarded;
pub mod images;
pub mod operations;
pub mod watchdog;

/// The NaN that outputs hold before a call. No kernel computes it, and no input holds it.
const UNWRITTEN: u32 = 0x7fc0_dead;
/// The NaN between the elements of inputs.
const GAP: u32 = 0x7fc0_beef;
/// Elements before each matrix that no kernel may touch; behind it lies memory that faults.
const MARGIN: usize = 64;

/// Where a matrix's elements stand in its buffer.
#[derive(Clone, Copy, Debug)]
pub enum Layout {
    RowMajor,
    /// Row-major, with a gap behind each row.
    Padded,
    /// Row-major, with rows a multiple of 512 elements apart, for which products pack their factors.
    Far,
    /// Column-major, as weights stored (outputs, inputs) are passed.
    Transposed,
    /// No two elements are neighbours.
    Scattered,
}

impl Layout {
    pub const ALL: [Self; 5] = [Self::RowMajor, Self::Padded, Self::Far, Self::Transposed, Self::Scattered];

    fn strides(self, [rows, cols]: [usize; 2]) -> [usize; 2] {
        match self {
            Self::RowMajor => [cols, 1],
            Self::Padded => [cols + 3, 1],
            Self::Far => [(cols + 1).next_multiple_of(512), 1],
            Self::Transposed => [1, rows],
            Self::Scattered => [2 * cols + 1, 2],
        }
    }
}

/// A matrix in a buffer that ends where the matrix ends.
#[derive(Clone)]
pub struct Matrix {
    shape: [usize; 2],
    strides: [usize; 2],
    buffer: Floats,
}

impl Matrix {
    fn filled(shape: [usize; 2], layout: Layout, bits: u32) -> Self {
        let strides = layout.strides(shape);
        let len = if shape.contains(&0) { 0 } else { (shape[0] - 1) * strides[0] + (shape[1] - 1) * strides[1] + 1 };
        let mut buffer = Floats::new(MARGIN + len, End::Last);
        buffer.as_mut_slice().fill(f32::from_bits(bits));
        Self { shape, strides, buffer }
    }

    /// An output before the call.
    pub fn unwritten(shape: [usize; 2], layout: Layout) -> Self {
        Self::filled(shape, layout, UNWRITTEN)
    }

    /// An output that is an input, too: it holds these values.
    pub fn in_place(values: &Self, layout: Layout) -> Self {
        let mut matrix = Self::unwritten(values.shape, layout);
        for (row, col) in indices(values.shape) {
            *matrix.at_mut(row, col) = values.at(row, col);
        }
        matrix
    }

    /// An input.
    pub fn from_fn(shape: [usize; 2], layout: Layout, mut value: impl FnMut(usize, usize) -> f32) -> Self {
        let mut matrix = Self::filled(shape, layout, GAP);
        for (row, col) in indices(shape) {
            *matrix.at_mut(row, col) = value(row, col);
        }
        matrix
    }

    /// An input of values of a kind; the same seed gives the same values.
    pub fn new(shape: [usize; 2], layout: Layout, values: Values, seed: u64) -> Self {
        let mut random = Random(seed);
        Self::from_fn(shape, layout, |row, col| values.at(row, col, shape, &mut random))
    }

    pub fn shape(&self) -> [usize; 2] {
        self.shape
    }

    /// The elements and the gaps between them.
    pub fn slice(&self) -> &[f32] {
        &self.buffer.as_slice()[MARGIN..]
    }

    pub fn slice_mut(&mut self) -> &mut [f32] {
        &mut self.buffer.as_mut_slice()[MARGIN..]
    }

    pub fn view(&self) -> MatRef<'_> {
        let ([rows, cols], [row_stride, col_stride]) = (self.shape, self.strides);
        MatRef::with_strides(self.slice(), rows, cols, row_stride, col_stride).unwrap()
    }

    pub fn view_mut(&mut self) -> MatMut<'_> {
        let ([rows, cols], [row_stride, col_stride]) = (self.shape, self.strides);
        MatMut::with_strides(self.slice_mut(), rows, cols, row_stride, col_stride).unwrap()
    }

    pub fn at(&self, row: usize, col: usize) -> f32 {
        self.slice()[row * self.strides[0] + col * self.strides[1]]
    }

    fn at_mut(&mut self, row: usize, col: usize) -> &mut f32 {
        let [row_stride, col_stride] = self.strides;
        &mut self.slice_mut()[row * row_stride + col * col_stride]
    }

    /// Checks that a call wrote nothing at all.
    pub fn assert_untouched(&self) {
        let touched = self.buffer.as_slice().iter().position(|value| value.to_bits() != UNWRITTEN);
        assert_eq!(touched, None, "index of what was written");
    }

    /// Checks that a call wrote every element, and nothing beside them.
    fn assert_written(&self, what: &str) {
        let mut rest = self.clone();
        for (row, col) in indices(self.shape) {
            assert_ne!(self.at(row, col).to_bits(), UNWRITTEN, "{what}: element ({row}, {col}) is not written");
            *rest.at_mut(row, col) = f32::from_bits(UNWRITTEN);
        }
        let stray = rest.buffer.as_slice().iter().position(|value| value.to_bits() != UNWRITTEN);
        assert_eq!(stray, None, "{what}: index of what was written between or before the elements");
    }

    pub fn assert_same_bits(&self, expected: &Self, what: &str) {
        for (row, col) in indices(self.shape) {
            let (found, expected) = (self.at(row, col), expected.at(row, col));
            let same = canonical(found) == canonical(expected);
            assert!(same, "{what}: ({row}, {col}) of {:?}: {found:e}, expected {expected:e}", self.shape);
        }
    }

    /// Checks the portable tier's rows: within 2^-18 (32 ulp) of the result plus `unit`.
    pub fn assert_close(&self, expected: &Self, unit: impl Fn(usize, usize) -> f32) {
        for (row, col) in indices(self.shape) {
            let (found, expected, unit) = (self.at(row, col), expected.at(row, col), unit(row, col));
            let bound = (f64::from(expected.abs()) + f64::from(unit)) * 2f64.powi(-18);
            let near = expected.is_finite() && (f64::from(found) - f64::from(expected)).abs() <= bound;
            let close = canonical(found) == canonical(expected) || near || !unit.is_finite();
            assert!(close, "portable: ({row}, {col}) of {:?}: {found:e}, expected {expected:e}", self.shape);
        }
    }

    /// Checks the portable tier's products: finish(bias + a b) within the bound that `reference` states.
    pub fn assert_product(
        &self,
        a: MatRef<'_>,
        b: MatRef<'_>,
        bias: Option<&[f32]>,
        finish: impl Fn(usize, usize, f64) -> f64,
    ) {
        let depth = a.cols();
        for (row, col) in indices(self.shape) {
            let bias = bias.map_or(0.0, |bias| f64::from(bias[col]));
            let term = |k| f64::from(a.get(row, k).unwrap()) * f64::from(b.get(k, col).unwrap());
            let exact = finish(row, col, (0..depth).map(term).fold(bias, |sum, term| sum + term));
            let magnitude = (0..depth).map(term).fold(bias.abs(), |sum, term| sum + term.abs());
            // Below the smallest normal number the rounding error is absolute: half a step a term.
            let steps = (depth + 2) as f64;
            let bound = steps * 2f64.powi(-23) * magnitude + steps * 2f64.powi(-149);
            let found = f64::from(self.at(row, col));
            let holds = if exact.is_nan() {
                found.is_nan()
            } else if exact.is_infinite() {
                !found.is_finite()
            } else {
                // Where a partial sum may overflow, nothing is promised.
                (found - exact).abs() <= bound || magnitude.is_nan() || magnitude >= f64::from(f32::MAX)
            };
            assert!(holds, "portable: ({row}, {col}) of {:?}: {found:e}, expected {exact:e}", self.shape);
        }
    }
}

fn indices([rows, cols]: [usize; 2]) -> impl Iterator<Item = (usize, usize)> {
    (0..rows).flat_map(move |row| (0..cols).map(move |col| (row, col)))
}

/// A value's bits, the same for every NaN.
pub fn canonical(value: f32) -> u32 {
    if value.is_nan() { f32::NAN.to_bits() } else { value.to_bits() }
}

/// Kinds of values.
#[derive(Clone, Copy, Debug)]
pub enum Values {
    Normal,
    /// Logits of a confident network: exponentials from 1 down to 0.
    Wide,
    Integers,
    OneHot,
    ZeroBlocks,
    Subnormal,
    /// Near the largest finite number, so that sums overflow.
    Huge,
    /// Ordinary, with a NaN, an infinity or a zero here and there.
    Rare,
    AnyBits,
    /// Fashion-MNIST, scaled to 0..=1.
    Images,
}

/// What arithmetic treats in its own way.
pub const SPECIAL: [f32; 13] = [
    f32::NAN,
    f32::INFINITY,
    f32::NEG_INFINITY,
    f32::from_bits(1),
    f32::from_bits(0x807f_ffff),
    -0.0,
    0.0,
    f32::MAX,
    f32::MIN,
    f32::MIN_POSITIVE,
    1e-30,
    88.8,
    -104.0,
];

impl Values {
    pub const ALL: [Self; 10] = [
        Self::Normal,
        Self::Wide,
        Self::Integers,
        Self::OneHot,
        Self::ZeroBlocks,
        Self::Subnormal,
        Self::Huge,
        Self::Rare,
        Self::AnyBits,
        Self::Images,
    ];

    fn at(self, row: usize, col: usize, [_, cols]: [usize; 2], random: &mut Random) -> f32 {
        match self {
            Self::Normal => random.normal(),
            Self::Wide => 60.0 * random.normal(),
            Self::Integers => (random.below(17) as f32) - 8.0,
            Self::OneHot => f32::from(u8::from(col == (5 * row + 3) % cols)),
            Self::ZeroBlocks if (row / 4 + col / 8).is_multiple_of(2) => 0.0,
            Self::ZeroBlocks => random.normal(),
            Self::Subnormal => random.normal() * f32::MIN_POSITIVE,
            Self::Huge => random.normal() * f32::MAX / 2.0,
            Self::Rare if random.below(64) == 0 => SPECIAL[random.below(SPECIAL.len())],
            Self::Rare => random.normal(),
            Self::AnyBits => f32::from_bits(random.next() as u32),
            Self::Images => pixel(row, col),
        }
    }
}

fn pixel(image: usize, index: usize) -> f32 {
    const IMAGES: usize = 64;
    static DATA: OnceLock<Vec<f32>> = OnceLock::new();
    let data = DATA.get_or_init(|| images::fashion_mnist(IMAGES).0);
    data[image % IMAGES * images::PIXELS + index % images::PIXELS]
}

/// Every activation, with parameters that no other number can stand in for.
pub const ACTIVATIONS: [Activation; 9] = [
    Activation::Linear,
    Activation::Relu,
    Activation::LeakyRelu { slope: 0.15 },
    Activation::Elu { alpha: 0.7 },
    Activation::Sigmoid,
    Activation::Tanh,
    Activation::Softplus,
    Activation::Silu,
    Activation::Gelu,
];

pub fn any_activation() -> impl Strategy<Value = Activation> {
    select(&ACTIVATIONS[..])
}

/// SplitMix64: small, and the same on every machine.
pub struct Random(pub u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    /// Bell-shaped, within -2..2.
    pub fn normal(&mut self) -> f32 {
        (0..4).map(|_| (self.next() >> 40) as f32 / (1 << 24) as f32 - 0.5).sum()
    }
}

pub fn any_layout() -> impl Strategy<Value = Layout> {
    select(&Layout::ALL[..])
}

pub fn any_values() -> impl Strategy<Value = Values> {
    select(&Values::ALL[..])
}

/// So many random cases, under emulation a third of them, or as many as `PROPTEST_CASES` asks for.
pub fn cases(cases: u32) -> ProptestConfig {
    let cases = if emulated::EMULATED { cases.div_ceil(3) } else { cases };
    let default = ProptestConfig { failure_persistence: None, ..ProptestConfig::default() };
    if std::env::var_os("PROPTEST_CASES").is_some() { default } else { ProptestConfig { cases, ..default } }
}

pub fn exactly(threads: usize) -> Threads {
    Threads::Exactly(NonZeroUsize::new(threads).unwrap())
}

/// One backend for each instruction set of this processor, on the calling thread.
pub fn backends() -> impl Iterator<Item = Backend> {
    Isa::available().into_iter().map(|isa| Backend::with_isa(isa).unwrap().with_threads(Threads::One))
}

/// How the portable tier's outputs may differ from the reference's.
pub type Portable<'a, const N: usize> = &'a dyn Fn(&[Matrix; N], &[Matrix; N]);

/// For operations without fused multiply-add: not at all.
pub fn exact<const N: usize>(found: &[Matrix; N], expected: &[Matrix; N]) {
    for (found, expected) in found.iter().zip(expected) {
        found.assert_same_bits(expected, "portable");
    }
}

/// Runs a kernel on every instruction set and number of threads. All must give the reference's
/// bits; the portable tier what `portable` asks, and the same bits on any number of threads.
pub fn check<const N: usize>(
    unwritten: [Matrix; N],
    reference: impl Fn(&mut [Matrix; N]),
    kernel: impl Fn(&Backend, &mut [Matrix; N]),
    portable: Portable<'_, N>,
) {
    let threads = [Threads::Auto, exactly(1), exactly(2), exactly(3), exactly(7)];
    check_on(&threads, unwritten, reference, kernel, portable);
}

/// [`check`] on the calling thread alone.
pub fn check_serial<const N: usize>(
    unwritten: [Matrix; N],
    reference: impl Fn(&mut [Matrix; N]),
    kernel: impl Fn(&Backend, &mut [Matrix; N]),
    portable: Portable<'_, N>,
) {
    check_on(&[], unwritten, reference, kernel, portable);
}

fn check_on<const N: usize>(
    more_threads: &[Threads],
    unwritten: [Matrix; N],
    reference: impl Fn(&mut [Matrix; N]),
    kernel: impl Fn(&Backend, &mut [Matrix; N]),
    portable: Portable<'_, N>,
) {
    let mut expected = unwritten.clone();
    reference(&mut expected);
    for serial in backends() {
        let run = |threads| {
            let what = format!("{} on {threads:?}", serial.isa());
            let mut outputs = unwritten.clone();
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
