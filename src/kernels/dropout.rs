//! Dropout, by a generator that counts: what is dropped depends on nothing but where and when.

use super::{Input, Kernel, Split};
use crate::matrix::MatMut;
use crate::simd::tier::Tier;

/// y = x times `scale`, or 0 where the values' random words are below `threshold`.
pub(crate) struct Dropout<'a> {
    pub words: Words,
    /// The first row's number in its batch.
    pub row: usize,
    pub threshold: u32,
    pub scale: f32,
    pub x: Input<'a>,
    pub y: MatMut<'a>,
}

/// The random words of one dropout in one step, one for each value: those of
/// [`reference::dropout`](crate::reference::dropout).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Words {
    key: [u32; 2],
    /// The step, and the dropout's number with the step's upper half.
    counter: [u32; 2],
}

/// Counters that are taken through the rounds together: a vector of any tier, or several.
const GROUP: usize = 16;
/// Words that come of them, for as many neighbours of a row.
const BLOCK: usize = 4 * GROUP;

impl Words {
    pub(crate) fn new(seed: u64, number: u32, step: u64) -> Self {
        let halves = |word: u64| [word as u32, (word >> 32) as u32];
        let [low, high] = halves(step);
        Self { key: halves(seed), counter: [low, high << 16 ^ number] }
    }

    /// Those of a row's values from `block` times [`BLOCK`] on: Philox4x32-10 of Salmon et al., "Parallel Random Numbers:
    /// As Easy as 1, 2, 3" (2011). Plain loops over arrays, from which the compiler makes vectors.
    #[inline(always)]
    fn of(self, row: u32, block: u32) -> [u32; BLOCK] {
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

/// Makes random words of counters.
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
        let Self { words, row: first, threshold, scale, x, mut y } = self;
        let x = match x {
            Input::Matrix(x) => x,
            // SAFETY: each value is read before it is written, through pointers only.
            Input::InPlace => unsafe { y.alias() },
        };
        let (rows, cols) = (x.rows().min(y.rows()), x.cols().min(y.cols()));
        let (from, [from_row, from_col]) = (x.as_ptr(), [x.row_stride(), x.col_stride()]);
        let (to, [to_row, to_col]) = (y.as_mut_ptr(), [y.row_stride(), y.col_stride()]);
        for row in 0..if cols == 0 { 0 } else { rows } {
            for (block, col) in (0..cols).step_by(BLOCK).enumerate() {
                let words = words.of((first + row) as u32, block as u32);
                // SAFETY: both views have this row, and these columns.
                unsafe {
                    let (from, to) = (from.add(row * from_row + col * from_col), to.add(row * to_row + col * to_col));
                    let whole = cols - col >= BLOCK && from_col == 1 && to_col == 1;
                    // The same, with lengths and strides that the compiler knows.
                    if whole {
                        drop_words(&words, BLOCK, (threshold, scale), (from, 1), (to, 1));
                    } else {
                        let count = BLOCK.min(cols - col);
                        drop_words(&words, count, (threshold, scale), (from, from_col), (to, to_col));
                    }
                }
            }
        }
    }
}

/// The first `count` values of a block.
///
/// # Safety
/// So many can be read and written, their strides apart.
#[inline(always)]
unsafe fn drop_words(
    words: &[u32; BLOCK],
    count: usize,
    (threshold, scale): (u32, f32),
    (from, from_col): (*const f32, usize),
    (to, to_col): (*mut f32, usize),
) {
    let mut values = [0.0; BLOCK];
    for (i, value) in values.iter_mut().enumerate().take(count) {
        // SAFETY: the caller's.
        let x = unsafe { *from.add(i * from_col) };
        *value = if words[i] >= threshold { x * scale } else { 0.0 };
    }
    for (i, value) in values.iter().enumerate().take(count) {
        // SAFETY: the caller's.
        unsafe { *to.add(i * to_col) = *value };
    }
}

impl Split for Dropout<'_> {
    fn len(&self) -> usize {
        self.y.rows()
    }

    fn split(self, at: usize) -> (Self, Self) {
        let (y, rest) = self.y.split_at_row(at);
        let (x, other) = self.x.split_at_row(at);
        (Self { x, y, ..self }, Self { x: other, y: rest, row: self.row + at, ..self })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::matrix::MatRef;
    use crate::nn;
    use crate::{Backend, Isa, Threads, reference};

    #[test]
    fn the_generator_has_the_words_that_its_authors_publish() {
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
                    for (in_place, turned) in [(false, false), (true, false), (false, true), (true, true)] {
                        let size = if turned { [cols, 7] } else { [7, cols] };
                        let turn = |matrix: MatRef<'_>| if turned { matrix.t().to_vec() } else { matrix.to_vec() };
                        let mut found = if in_place { turn(x) } else { vec![-1.0; 7 * cols] };
                        let y = MatMut::new(&mut found, size[0], size[1]).unwrap();
                        let y = if turned { y.t() } else { y };
                        let x = if in_place { Input::InPlace } else { Input::Matrix(x) };
                        let (threshold, scale) = dropout.threshold_and_scale();
                        let words = Words::new(seed, number as u32, step);
                        // In two parts, as threads do it.
                        let (first, rest) = Dropout { words, row: 0, threshold, scale, x, y }.split(3);
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
