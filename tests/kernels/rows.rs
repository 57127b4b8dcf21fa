//! Compares activations with the reference: every instruction set, number of threads, layout and kind of
//! values.

use densely::{Activation, Backend, MatMut, MatRef, Result, activation, reference};
use densely_testkit::kernel::exact;
use densely_testkit::strategies::{any_layout, any_values, cases};
use densely_testkit::{Layout, Matrix, Values, activations, check_kernel};
use proptest::array::{uniform2, uniform3};
use proptest::prelude::*;

struct Unary {
    kernel: fn(&Backend, MatRef<'_>, MatMut<'_>) -> Result<()>,
    in_place: Option<fn(&Backend, MatMut<'_>)>,
    reference: fn(MatRef<'_>, MatMut<'_>) -> Result<()>,
    /// The error of the portable tier is relative to the result plus this.
    unit: f32,
}

const EXP: Unary = Unary {
    kernel: activation::exp,
    in_place: None,
    reference: |x, y| each(x, y, reference::exp),
    unit: f32::MIN_POSITIVE,
};
const LN: Unary = Unary {
    kernel: activation::ln,
    in_place: None,
    reference: |x, y| each(x, y, reference::ln),
    unit: f32::MIN_POSITIVE,
};
const SOFTMAX: Unary = Unary {
    kernel: activation::softmax,
    in_place: Some(activation::softmax_in_place),
    reference: reference::softmax,
    unit: f32::MIN_POSITIVE,
};
const LOG_SOFTMAX: Unary = Unary {
    kernel: activation::log_softmax,
    in_place: Some(activation::log_softmax_in_place),
    reference: reference::log_softmax,
    unit: 1.0,
};
const UNARY: [Unary; 4] = [EXP, LN, SOFTMAX, LOG_SOFTMAX];

fn each(x: MatRef<'_>, mut y: MatMut<'_>, f: fn(f32) -> f32) -> Result<()> {
    for row in 0..x.rows() {
        for col in 0..x.cols() {
            y.set(row, col, f(x.get(row, col).unwrap()));
        }
    }
    Ok(())
}

#[derive(Clone, Debug)]
struct Case {
    shape: [usize; 2],
    /// Of the inputs in the order of the call, then of the result.
    layouts: [Layout; 3],
    values: [Values; 2],
    seed: u64,
}

impl Case {
    fn new(rows: usize, cols: usize) -> Self {
        Self { shape: [rows, cols], layouts: [Layout::RowMajor; 3], values: [Values::Wide; 2], seed: 1 }
    }

    fn operand(&self, index: usize) -> Matrix {
        Matrix::random(self.shape, self.layouts[index], self.values[index], self.seed + index as u64)
    }

    fn output(&self) -> Matrix {
        Matrix::unwritten(self.shape, self.layouts[2])
    }

    fn in_place(&self, input: &Matrix) -> Matrix {
        Matrix::in_place(input, self.layouts[2])
    }

    fn unary(&self, op: &Unary) {
        let x = self.operand(0);
        let close = |[y]: &[Matrix; 1], [expected]: &[Matrix; 1]| y.assert_close(expected, |_, _| op.unit);
        check_kernel(
            [self.output()],
            |[y]| (op.reference)(x.view(), y.view_mut()).unwrap(),
            |backend, [y]| (op.kernel)(backend, x.view(), y.view_mut()).unwrap(),
            &close,
        );
        if let Some(in_place) = op.in_place {
            check_kernel(
                [self.in_place(&x)],
                |[y]| (op.reference)(x.view(), y.view_mut()).unwrap(),
                |backend, [y]| in_place(backend, y.view_mut()),
                &close,
            );
        }
    }

    /// Checks an activation and its gradient, each also in place.
    fn activation(&self, function: Activation) {
        let (x, dy) = (self.operand(0), self.operand(1));
        let value = |[y]: &mut [Matrix; 1]| reference::activation_forward(function, x.view(), y.view_mut()).unwrap();
        // Where GELU's argument is large, the product has the error of the exponent.
        let unit = if function == Activation::Gelu { 1e-6 } else { f32::MIN_POSITIVE };
        let close = |[y]: &[Matrix; 1], [expected]: &[Matrix; 1]| y.assert_close(expected, |_, _| unit);
        check_kernel(
            [self.output()],
            value,
            |backend, [y]| activation::forward(backend, function, x.view(), y.view_mut()).unwrap(),
            &close,
        );
        check_kernel(
            [self.in_place(&x)],
            value,
            |backend, [y]| activation::forward_in_place(backend, function, y.view_mut()).unwrap(),
            &close,
        );

        let gradient = |[dx]: &mut [Matrix; 1]| {
            reference::activation_backward(function, x.view(), dy.view(), dx.view_mut()).unwrap();
        };
        let close = |[dx]: &[Matrix; 1], [expected]: &[Matrix; 1]| {
            dx.assert_close(expected, |row, col| {
                f32::MIN_POSITIVE + dy.at(row, col).abs() * (1.0 + x.at(row, col).powi(2))
            });
        };
        check_kernel(
            [self.output()],
            gradient,
            |backend, [dx]| activation::backward(backend, function, x.view(), dy.view(), dx.view_mut()).unwrap(),
            &close,
        );
        check_kernel(
            [self.in_place(&dy)],
            gradient,
            |backend, [dx]| activation::backward_in_place(backend, function, x.view(), dx.view_mut()).unwrap(),
            &close,
        );
    }

    fn softmax_backward(&self) {
        let (y, dy) = (self.operand(0), self.operand(1));
        let gradient = |[dx]: &mut [Matrix; 1]| {
            reference::softmax_backward(y.view(), dy.view(), dx.view_mut()).unwrap();
        };
        check_kernel(
            [self.output()],
            gradient,
            |backend, [dx]| activation::softmax_backward(backend, y.view(), dy.view(), dx.view_mut()).unwrap(),
            &exact,
        );
        check_kernel(
            [self.in_place(&dy)],
            gradient,
            |backend, [dx]| activation::softmax_backward_in_place(backend, y.view(), dx.view_mut()).unwrap(),
            &exact,
        );
    }

    fn log_softmax_backward(&self) {
        let (y, dy) = (self.operand(0), self.operand(1));
        let gradient = |[dx]: &mut [Matrix; 1]| {
            reference::log_softmax_backward(y.view(), dy.view(), dx.view_mut()).unwrap();
        };
        let close = |[dx]: &[Matrix; 1], [expected]: &[Matrix; 1]| {
            let sum = |row| (0..self.shape[1]).map(|col| dy.at(row, col)).sum::<f32>().abs();
            let sums: Vec<f32> = (0..self.shape[0]).map(sum).collect();
            dx.assert_close(expected, |row, col| dy.at(row, col).abs() + y.at(row, col).exp() * sums[row]);
        };
        check_kernel(
            [self.output()],
            gradient,
            |backend, [dx]| activation::log_softmax_backward(backend, y.view(), dy.view(), dx.view_mut()).unwrap(),
            &close,
        );
        check_kernel(
            [self.in_place(&dy)],
            gradient,
            |backend, [dx]| activation::log_softmax_backward_in_place(backend, y.view(), dx.view_mut()).unwrap(),
            &close,
        );
    }

    fn all(&self) {
        UNARY.iter().for_each(|op| self.unary(op));
        // One activation, another in each case; `activations_match_reference` has all.
        let ([rows, cols], activations) = (self.shape, activations());
        self.activation(activations[(self.seed as usize % 9 + rows + cols) % activations.len()]);
        self.softmax_backward();
        self.log_softmax_backward();
    }
}

fn any_case() -> impl Strategy<Value = Case> {
    let shape = (0..40usize, 0..70usize);
    (shape, uniform3(any_layout()), uniform2(any_values()), any::<u64>()).prop_map(
        |((rows, cols), layouts, values, seed)| Case { shape: [rows, cols], layouts, values, seed: seed >> 1 },
    )
}

proptest! {
    #![proptest_config(cases(256))]

    #[test]
    fn row_kernels_match_reference(case in any_case()) {
        case.all();
    }
}

#[test]
fn activations_match_reference() {
    for function in activations() {
        for cols in 0..=35 {
            Case::new(3, cols).activation(function);
        }
        for values in Values::ALL {
            Case { values: [values, Values::Normal], layouts: [Layout::Scattered; 3], ..Case::new(7, 45) }
                .activation(function);
        }
    }
}

#[test]
fn matches_reference_for_every_row_length() {
    for cols in 0..=130 {
        Case::new(3, cols).all();
    }
}

#[test]
fn matches_reference_for_long_rows() {
    // Rows of 1, 2, 3 and 6 pieces.
    for cols in [1000, 4096, 4097, 9000, 20_500] {
        Case::new(2, cols).all();
        Case { layouts: [Layout::Scattered, Layout::Padded, Layout::Transposed], ..Case::new(2, cols) }.all();
    }
    // Contiguous rows on one side only.
    for (inputs, output) in [(Layout::RowMajor, Layout::Scattered), (Layout::Scattered, Layout::RowMajor)] {
        Case { layouts: [inputs, inputs, output], ..Case::new(2, 4097) }.all();
    }
}

#[test]
fn matches_reference_for_every_layout() {
    for input in Layout::ALL {
        for output in Layout::ALL {
            Case { layouts: [input, output, output], ..Case::new(5, 37) }.all();
            Case { layouts: [input, output, input], ..Case::new(5, 16) }.all();
        }
    }
}

#[test]
fn matches_reference_for_every_kind_of_values() {
    for values in Values::ALL {
        for other in Values::ALL {
            Case { values: [values, other], ..Case::new(7, 45) }.all();
        }
    }
}
