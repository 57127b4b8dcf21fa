//! Compares dense layers with the reference: every instruction set, number of threads, layout and kind of
//! values.

use densely::{Activation, Backend, Isa, PackedWeights, Threads, Weights, activation, dense, reference};
use densely_testkit::kernel::exact;
use densely_testkit::strategies::{any_activation, any_layout, any_values, cases};
use densely_testkit::{Layout, Matrix, Values, check_kernel, first_if_emulated};
use proptest::array::{uniform3, uniform4};
use proptest::prelude::*;

#[derive(Clone, Debug)]
struct Case {
    batch: usize,
    inputs: usize,
    outputs: usize,
    /// Of the operands in the order of the call, then of the result.
    layouts: [Layout; 4],
    values: [Values; 3],
    seed: u64,
    activation: Activation,
    /// Passes the optional argument: the bias, the gate or db.
    optional: bool,
}

impl Case {
    fn new(batch: usize, inputs: usize, outputs: usize) -> Self {
        let (layouts, values) = ([Layout::RowMajor; 4], [Values::Normal; 3]);
        Self { batch, inputs, outputs, layouts, values, seed: 1, activation: Activation::Relu, optional: true }
    }

    /// The same with the second operand (w, or dy in `backward_params`) column-major.
    fn transposed(self) -> Self {
        Self { layouts: [Layout::RowMajor, Layout::Transposed, Layout::Padded, Layout::RowMajor], ..self }
    }

    fn operand(&self, index: usize, shape: [usize; 2]) -> Matrix {
        Matrix::random(shape, self.layouts[index], self.values[index], self.seed + index as u64)
    }

    fn forward(&self) {
        let x = self.operand(0, [self.batch, self.inputs]);
        let w = self.operand(1, [self.inputs, self.outputs]);
        let bias = Matrix::random([1, self.outputs], Layout::RowMajor, self.values[2], self.seed + 2);
        let bias = self.optional.then(|| bias.slice());
        let packed = PackedWeights::new(w.view());
        for weights in [Weights::from(w.view()), Weights::from(&packed)] {
            check_kernel(
                [Matrix::unwritten([self.batch, self.outputs], self.layouts[3])],
                |[y]| reference::dense_forward(x.view(), w.view(), bias, self.activation, y.view_mut()).unwrap(),
                |backend, [y]| {
                    dense::forward(backend, x.view(), weights, bias, self.activation, y.view_mut()).unwrap();
                },
                &|[y], _| match self.activation {
                    Activation::Linear => y.assert_product(x.view(), w.view(), bias),
                    // A fused activation gives the bits of one applied afterwards.
                    _ => y.assert_same_bits(
                        &self.forward_in_two_steps(&x, weights, bias),
                        "activation applied afterwards",
                    ),
                },
            );
        }
    }

    fn forward_in_two_steps(&self, x: &Matrix, w: Weights<'_>, bias: Option<&[f32]>) -> Matrix {
        let backend = portable();
        let mut y = Matrix::unwritten([self.batch, self.outputs], self.layouts[3]);
        dense::forward(&backend, x.view(), w, bias, Activation::Linear, y.view_mut()).unwrap();
        activation::forward_in_place(&backend, self.activation, y.view_mut()).unwrap();
        y
    }

    fn backward_input(&self) {
        let dy = self.operand(0, [self.batch, self.outputs]);
        let w = self.operand(1, [self.inputs, self.outputs]);
        let saved = self.operand(2, [self.batch, self.inputs]);
        let gate = self.optional.then(|| (self.activation, saved.view()));
        check_kernel(
            [Matrix::unwritten([self.batch, self.inputs], self.layouts[3])],
            |[dx]| reference::dense_backward_input(dy.view(), w.view(), gate, dx.view_mut()).unwrap(),
            |backend, [dx]| dense::backward_input(backend, dy.view(), w.view(), gate, dx.view_mut()).unwrap(),
            &|[dx], _| match gate {
                None => dx.assert_product(dy.view(), w.view().t(), None),
                Some((activation, saved)) => {
                    let backend = portable();
                    let mut steps = Matrix::unwritten(dx.shape(), self.layouts[3]);
                    dense::backward_input(&backend, dy.view(), w.view(), None, steps.view_mut()).unwrap();
                    activation::backward_in_place(&backend, activation, saved, steps.view_mut()).unwrap();
                    dx.assert_same_bits(&steps, "gate applied afterwards");
                }
            },
        );
    }

    fn backward_params(&self) {
        let x = self.operand(0, [self.batch, self.inputs]);
        let dy = self.operand(1, [self.batch, self.outputs]);
        let dw = Matrix::unwritten([self.inputs, self.outputs], self.layouts[3]);
        let db = Matrix::unwritten([1, if self.optional { self.outputs } else { 0 }], Layout::RowMajor);
        check_kernel(
            [dw, db],
            |[dw, db]| {
                let db = self.optional.then(|| db.slice_mut());
                reference::dense_backward_params(x.view(), dy.view(), dw.view_mut(), db).unwrap();
            },
            |backend, [dw, db]| {
                let db = self.optional.then(|| db.slice_mut());
                dense::backward_params(backend, x.view(), dy.view(), dw.view_mut(), db).unwrap();
            },
            &|[dw, db], [_, expected]| {
                dw.assert_product(x.view().t(), dy.view(), None);
                db.assert_same_bits(expected, "portable");
            },
        );
    }

    fn all(&self) {
        self.forward();
        self.backward_input();
        self.backward_params();
    }
}

fn portable() -> Backend {
    Backend::with_isa(Isa::Portable).unwrap().with_threads(Threads::One)
}

fn any_case() -> impl Strategy<Value = Case> {
    let sizes = (0..70usize, 0..90usize, 1..90usize);
    (sizes, uniform4(any_layout()), uniform3(any_values()), any::<u64>(), any_activation(), any::<bool>()).prop_map(
        |((batch, inputs, outputs), layouts, values, seed, activation, optional)| Case {
            batch,
            inputs,
            outputs,
            layouts,
            values,
            seed: seed >> 1,
            activation,
            optional,
        },
    )
}

proptest! {
    #![proptest_config(cases(256))]

    #[test]
    fn forward_matches_reference(case in any_case()) {
        case.forward();
    }

    #[test]
    fn backward_input_matches_reference(case in any_case()) {
        case.backward_input();
    }

    #[test]
    fn backward_params_matches_reference(case in any_case()) {
        case.backward_params();
    }
}

/// Sizes around the lanes of vectors and MR and NR of micro-tiles.
const EDGES: [usize; 17] = [1, 2, 3, 4, 5, 6, 7, 8, 9, 12, 15, 16, 17, 31, 32, 33, 49];

#[test]
fn matches_reference_around_micro_tile_edges() {
    for m in EDGES {
        for n in EDGES {
            Case::new(m, 9, n).forward();
            Case::new(m, n, 9).backward_input();
            Case::new(9, m, n).backward_params();
        }
    }
}

#[test]
fn forward_matches_reference_for_every_micro_tile_size() {
    for m in 1..=30 {
        for n in [10, 49, 64, 113, 127, 128, 129, 250] {
            Case::new(m, 9, n).forward();
        }
    }
}

/// Rank-k updates, contiguous and strided, with few and many rows; and packed weights.
#[test]
fn matches_reference_for_small_k() {
    let conflicting = [Layout::Conflicting; 4];
    for depth in 1..=9 {
        for n in EDGES {
            for m in [1, 2, 5] {
                Case::new(m, depth, n).forward();
                Case::new(depth, m, n).backward_params();
            }
        }
        Case { layouts: conflicting, ..Case::new(31, depth, 70) }.forward();
        Case { layouts: conflicting, ..Case::new(31, depth, 70) }.transposed().forward();
        Case { layouts: conflicting, ..Case::new(31, 70, depth) }.backward_input();
    }
    for n in [2048, 2049] {
        Case::new(3, 2, n).forward();
        Case::new(2, 3, n).backward_params();
    }
}

/// GEMV-like products on column-major weights, with tails of every vector width.
#[test]
fn forward_matches_reference_for_few_rows_and_transposed_w() {
    for batch in 1..=8 {
        for inputs in [2, 3, 9, 12, 15] {
            for outputs in [1, 7, 8, 9, 15, 16, 17, 31, 32, 33, 47, 63, 64, 65, 100] {
                Case::new(batch, inputs, outputs).transposed().forward();
            }
        }
    }
}

/// Row strides of 512 floats: cache-set conflicts make A be packed, too.
#[test]
fn matches_reference_when_both_operands_are_packed() {
    for &batch in first_if_emulated(&[7, 15, 8, 13, 14, 30], 2) {
        Case::new(batch, 512, 130).forward();
        Case::new(batch, 130, 512).backward_input();
        Case::new(batch, 512, 130).backward_params();
    }
    Case::new(46, 1024, 128).forward();
    Case::new(260, 512, 128).backward_params();
    // A large batch amortises packing B whatever its layout.
    Case::new(460, 9, 33).forward();
    // Micro-tiles of few rows use a part of each cache line of x.
    Case::new(520, 40, 70).backward_params();
    // B: several blocks of columns; a stride with cache-set conflicts; a second block of the depth.
    Case::new(30, 300, 450).forward();
    Case::new(30, 300, 450).transposed().all();
    Case::new(30, 40, 512).forward();
    Case::new(30, 1030, 130).forward();
    // With small blocks, the last packed block has fewer rows than its first micro-tiles.
    Case::new(29, 33, 32).backward_input();
    // Each row of B on a page of its own.
    Case::new(30, 70, 2048).forward();
}

/// A packed x of more than MC rows.
#[test]
#[cfg_attr(target_arch = "aarch64", ignore = "takes minutes under emulation; the other tiers run the same loops")]
fn matches_reference_for_several_packed_blocks_of_a() {
    Case::new(1800, 1024, 64).forward();
    // The last block has fewer rows than amortise packing B.
    for batch in [1795, 1537] {
        Case::new(batch, 1024, 64).forward();
        Case::new(batch, 1024, 64).transposed().forward();
    }
}

/// A depth at which no row of x and no column of w fits a block.
#[test]
#[cfg_attr(target_arch = "aarch64", ignore = "takes minutes under emulation; the other tiers run the same loops")]
fn matches_reference_for_enormous_k() {
    Case::new(9, 131_584, 64).transposed().forward();
    Case::new(4, 262_656, 64).transposed().forward();
}

/// Weights larger than every cache: prefetched for a few rows, in either layout; packed for more.
#[test]
fn matches_reference_for_weights_beyond_the_caches() {
    for &batch in first_if_emulated(&[1, 6, 7], 1) {
        Case::new(batch, 2051, 2049).forward();
    }
    Case::new(1, 2051, 2049).transposed().forward();
    Case::new(1, 1027, 4099).transposed().forward();
}

#[test]
fn matches_reference_around_packed_panel_edges() {
    for n in EDGES {
        Case::new(9, 5, n).transposed().forward();
        Case::new(1, 5, n).transposed().forward();
        Case::new(9, n, 5).transposed().backward_input();
        Case::new(5, 9, n).transposed().backward_params();
    }
}

#[test]
fn matches_reference_around_k_block_edges() {
    for depth in [0, 1, 255, 256, 257, 1023, 1024, 1025, 2100] {
        // Each product on a contiguous B and on a packed one.
        Case::new(3, depth, 18).forward();
        Case::new(3, depth, 18).transposed().forward();
        Case::new(3, 18, depth).backward_input();
        Case::new(3, 18, depth).transposed().backward_input();
    }
}

#[test]
fn matches_reference_around_chunk_and_row_block_edges() {
    for batch in [0, 1, 255, 256, 257, 512, 513, 600] {
        Case::new(batch, 5, 18).all();
        Case::new(batch, 18, 5).transposed().all();
    }
}

/// The reference shares these constants with the kernels, so no comparison would notice that results change.
#[test]
fn chunk_sizes_are_part_of_the_contract() {
    assert_eq!((densely::CHUNK_ROWS, densely::LOSS_ROWS), (256, 16));
}

#[test]
fn matches_reference_around_weight_block_edges() {
    for long in [255, 256, 257, 300] {
        Case::new(20, long, 5).all();
        Case::new(20, 5, long).all();
    }
}

#[test]
fn matches_reference_for_every_layout_of_every_operand() {
    for a in Layout::ALL {
        for b in Layout::ALL {
            for c in Layout::ALL {
                Case { layouts: [a, b, c, b], ..Case::new(11, 19, 35) }.all();
                Case { layouts: [a, b, b, c], ..Case::new(1, 19, 35) }.all();
            }
        }
    }
}

#[test]
fn matches_reference_for_every_kind_of_values() {
    for values in Values::ALL {
        for other in Values::ALL {
            Case { values: [values, other, other], ..Case::new(13, 21, 34) }.all();
            let linear = Case { activation: Activation::Linear, optional: false, ..Case::new(5, 40, 17) };
            Case { values: [values, other, other], ..linear }.all();
        }
    }
}

/// The last vector of a row fills a part of the staging buffer: Miri notices a read of the uninitialised
/// rest.
#[test]
fn staging_buffer_is_read_only_where_it_was_written() {
    Case::new(3, if cfg!(small_blocks) { 64 } else { 512 }, 20).transposed().forward();
}

#[test]
fn forward_without_inputs_gives_the_bias() {
    Case::new(4, 0, 5).forward();
    Case { optional: false, ..Case::new(4, 0, 5) }.forward();
    let bias = [-1.0, -0.0, 2.0];
    let (x, w) = (Matrix::unwritten([2, 0], Layout::RowMajor), Matrix::unwritten([0, 3], Layout::RowMajor));
    check_kernel(
        [Matrix::unwritten([2, 3], Layout::RowMajor)],
        |[y]| y.slice_mut().copy_from_slice(&[0.0, -0.0, 2.0, 0.0, -0.0, 2.0]),
        |backend, [y]| {
            dense::forward(backend, x.view(), w.view(), Some(&bias), Activation::Relu, y.view_mut()).unwrap();
        },
        &exact,
    );
}
