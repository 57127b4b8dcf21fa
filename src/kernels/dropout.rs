//! Dropout with a counter-based generator: a mask depends only on the seed, the step and the element's
//! position.

use super::{Input, Kernel, Split};
use crate::matrix::MatMut;
use crate::simd::tier::Tier;
use crate::split_at::{Axis, split_fields};

/// y = x * `scale`, or 0 where the element's random word is below `threshold`.
pub(crate) struct Dropout<'a> {
    pub random: Philox,
    /// The first row's number in its batch.
    pub first_row: usize,
    pub mask: Mask,
    pub x: Input<'a>,
    pub y: MatMut<'a>,
}

/// Which elements are dropped, and what the others are multiplied by.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mask {
    /// Random words below this drop their element.
    pub threshold: u32,
    pub scale: f32,
}

/// Philox4x32-10, the counter-based generator of Salmon et al., "Parallel Random Numbers: As Easy as 1, 2, 3"
/// (2011).
///
/// Holds what is common to one dropout in one step; the words are those of
/// [`reference::dropout`](crate::reference::dropout).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Philox {
    key: [u32; 2],
    /// The lower half of the step; its upper half with the dropout's number.
    counter: [u32; 2],
}

/// Counters that pass the rounds together: one vector of AVX-512, several of other instruction sets.
const GROUP: usize = 16;
/// Random words of a group, for as many elements of a row.
const BLOCK: usize = 4 * GROUP;

impl Philox {
    pub(crate) fn new(seed: u64, number: u32, step: u64) -> Self {
        let halves = |word: u64| [word as u32, (word >> 32) as u32];
        let [low, high] = halves(step);
        Self { key: halves(seed), counter: [low, high << 16 ^ number] }
    }

    /// Generates the words of a row's elements from `block` * [`BLOCK`] on. The compiler vectorises the plain
    /// loops.
    #[inline(always)]
    fn words(self, row: u32, block: u32) -> [u32; BLOCK] {
        let mut c = [[0; GROUP], [row; GROUP], [self.counter[0]; GROUP], [self.counter[1]; GROUP]];
        for (i, c) in c[0].iter_mut().enumerate() {
            *c = block.wrapping_mul(GROUP as u32).wrapping_add(i as u32);
        }
        rounds(&mut c, self.key);
        let mut words = [0; BLOCK];
        for (words, c) in words.chunks_exact_mut(GROUP).zip(&c) {
            words.copy_from_slice(c);
        }
        words
    }
}

/// Applies the ten rounds to counters, four words each.
#[inline(always)]
fn rounds<const N: usize>(counters: &mut [[u32; N]; 4], mut key: [u32; 2]) {
    for _ in 0..10 {
        let [a, b, c, d] = &mut *counters;
        for (((a, b), c), d) in a.iter_mut().zip(b).zip(c).zip(d) {
            let [p, q] = [u64::from(*a) * 0xd251_1f53, u64::from(*c) * 0xcd9e_8d57];
            (*a, *b) = ((q >> 32) as u32 ^ *b ^ key[0], q as u32);
            (*c, *d) = ((p >> 32) as u32 ^ *d ^ key[1], p as u32);
        }
        key = [key[0].wrapping_add(0x9e37_79b9), key[1].wrapping_add(0xbb67_ae85)];
    }
}

impl Kernel for Dropout<'_> {
    type Output = ();

    #[inline(always)]
    fn run<T: Tier>(self, _: T) {
        let Self { random, first_row, mask, x, mut y } = self;
        // SAFETY: elements are accessed by pointers, and each is read before it is written.
        let x = unsafe { x.resolve(&y) };
        let (rows, cols) = (x.rows().min(y.rows()), x.cols().min(y.cols()));
        let (x, y) = (x.as_mat_ptr(), y.as_mat_ptr());
        for row in 0..rows {
            for (block, col) in (0..cols).step_by(BLOCK).enumerate() {
                let words = random.words((first_row + row) as u32, block as u32);
                let unit = x.col_stride == 1 && y.col_stride == 1;
                let elements = Elements {
                    count: BLOCK.min(cols - col),
                    from: x.at(row, col),
                    from_stride: x.col_stride,
                    to: y.at(row, col),
                    to_stride: y.col_stride,
                };
                // SAFETY: both views have this row, and `count` columns from `col` on.
                unsafe {
                    // Constant lengths and strides, which the compiler vectorises.
                    if unit && elements.count == BLOCK {
                        apply(&words, mask, Elements { count: BLOCK, from_stride: 1, to_stride: 1, ..elements });
                    } else {
                        apply(&words, mask, elements);
                    }
                }
            }
        }
    }
}

/// At most [`BLOCK`] elements of a row of x and of y.
struct Elements {
    count: usize,
    from: *const f32,
    from_stride: usize,
    to: *mut f32,
    to_stride: usize,
}

/// Drops or scales elements by their random words.
///
/// # Safety
/// `count` elements can be read at `from` and written at `to`, each in its stride.
#[inline(always)]
unsafe fn apply(words: &[u32; BLOCK], mask: Mask, elements: Elements) {
    let Elements { count, from, from_stride, to, to_stride } = elements;
    let mut values = [0.0; BLOCK];
    for (i, value) in values.iter_mut().enumerate().take(count) {
        // SAFETY: i < count.
        let x = unsafe { *from.add(i * from_stride) };
        *value = if words[i] >= mask.threshold { x * mask.scale } else { 0.0 };
    }
    for (i, value) in values.iter().enumerate().take(count) {
        // SAFETY: i < count.
        unsafe { *to.add(i * to_stride) = *value };
    }
}

impl Split for Dropout<'_> {
    fn len(&self) -> usize {
        self.y.rows()
    }

    fn split(self, at: usize) -> (Self, Self) {
        let first_row = self.first_row;
        let (first, rest): (Self, Self) = split_fields!(self, Axis::Rows, at, [x, y]);
        (first, Self { first_row: first_row + at, ..rest })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::matrix::MatRef;
    use crate::nn;
    use crate::{Backend, Isa, Threads, reference};

    #[test]
    fn philox_has_the_words_of_its_authors() {
        // kat_vectors of Random123: philox4x32, 10 rounds.
        let known = [
            ([0; 4], [0; 2], [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]),
            ([u32::MAX; 4], [u32::MAX; 2], [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]),
            (
                [0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344],
                [0xa409_3822, 0x299f_31d0],
                [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1],
            ),
        ];
        for (counter, key, expected) in known {
            let mut c = counter.map(|word| [word; 3]);
            rounds(&mut c, key);
            assert_eq!(c, expected.map(|word| [word; 3]));
        }
    }

    #[test]
    fn every_instruction_set_has_the_bits_of_the_reference() {
        let (seed, number, step) = (0x1234_5678_9abc_def0, 3, 5 << 32 | 6);
        let dropout = nn::Dropout::new(0.3);
        for cols in [0, 1, 15, 63, 64, 65, 200] {
            let values: Vec<f32> = (1..=7 * cols).map(|i| i as f32 - 300.5).collect();
            let (rows, columns) = (MatRef::new(&values, 7, cols).unwrap(), MatRef::new(&values, cols, 7).unwrap().t());
            for x in [rows, columns] {
                let mut expected = vec![-1.0; 7 * cols];
                let y = MatMut::new(&mut expected, 7, cols).unwrap();
                reference::dropout(dropout, [seed, number, step], x, y).unwrap();
                for isa in Isa::available() {
                    let backend = Backend::with_isa(isa).unwrap().with_threads(Threads::One);
                    for (in_place, transposed) in [(false, false), (true, false), (false, true), (true, true)] {
                        let size = if transposed { [cols, 7] } else { [7, cols] };
                        let turn = |matrix: MatRef<'_>| if transposed { matrix.t().to_vec() } else { matrix.to_vec() };
                        let mut found = if in_place { turn(x) } else { vec![-1.0; 7 * cols] };
                        let y = MatMut::new(&mut found, size[0], size[1]).unwrap();
                        let y = if transposed { y.t() } else { y };
                        let x = if in_place { Input::InPlace } else { Input::Matrix(x) };
                        let (threshold, scale) = dropout.threshold_and_scale();
                        let (random, mask) = (Philox::new(seed, number as u32, step), Mask { threshold, scale });
                        // In two parts, as for two threads.
                        let (first, rest) = Dropout { random, first_row: 0, mask, x, y }.split(3);
                        backend.run(0, 1, first);
                        backend.run(0, 1, rest);
                        let expected = turn(MatRef::new(&expected, 7, cols).unwrap());
                        assert_eq!(found, expected, "{isa}, {cols} columns");
                    }
                }
            }
        }
    }
}
