//! Compares cross-entropy with all its options with the reference, with PyTorch's results and with its
//! definition.

use densely::loss::{self, CrossEntropy, Reduction};
use densely::{Backend, Labels, MatMut, MatRef, Targets, reference};
use densely_testkit::strategies::{any_layout, any_values, cases};
use densely_testkit::{Layout, Matrix, Random, Values, check_kernel, check_kernel_serially, serial_backends};
use proptest::array::uniform4;
use proptest::prelude::*;
use proptest::sample::select;

/// The type of the targets.
#[derive(Clone, Copy, Debug)]
enum Kind {
    U8,
    U32,
    Usize,
    Probabilities(Values),
}

const IGNORED: usize = 250;

#[derive(Clone, Debug)]
struct Case {
    shape: [usize; 2],
    /// Of the logits, the probabilities, dlogits, and dlogits in place of the logits.
    layouts: [Layout; 4],
    values: Values,
    kind: Kind,
    smoothing: f32,
    /// How many rows in four have the ignored label; `None` without such a label.
    ignored: Option<usize>,
    weighted: bool,
    reduction: Reduction,
    seed: u64,
}

impl Case {
    /// The mean over labels, without options.
    fn new(rows: usize, cols: usize) -> Self {
        Self {
            shape: [rows, cols],
            layouts: [Layout::RowMajor; 4],
            values: Values::Wide,
            kind: Kind::U8,
            smoothing: 0.0,
            ignored: None,
            weighted: false,
            reduction: Reduction::Mean,
            seed: 1,
        }
    }

    /// Every option, with labels and with probabilities.
    fn all(rows: usize, cols: usize) -> impl Iterator<Item = Self> {
        let kinds = [Kind::U32, Kind::Probabilities(Values::Normal)];
        let weighting = move |weighted: bool| Self {
            weighted,
            ignored: weighted.then_some(1),
            reduction: if weighted { Reduction::Mean } else { Reduction::Sum },
            ..Self::new(rows, cols)
        };
        let smoothing = move |smoothing| [false, true].map(|weighted| Self { smoothing, ..weighting(weighted) });
        kinds
            .into_iter()
            .flat_map(move |kind| [0.0, 0.1].into_iter().flat_map(smoothing).map(move |case| Self { kind, ..case }))
    }

    fn check(&self) {
        let [batch, classes] = self.shape;
        let logits = Matrix::random(self.shape, self.layouts[0], self.values, self.seed);
        let mut random = Random::new(self.seed);
        let ignored = |random: &mut Random| self.ignored.is_some_and(|of_four| random.below(4) < of_four);
        let labels: Vec<usize> =
            (0..batch).map(|_| if ignored(&mut random) { IGNORED } else { random.below(classes.min(256)) }).collect();
        let bytes: Vec<u8> = labels.iter().map(|&label| label as u8).collect();
        let words: Vec<u32> = labels.iter().map(|&label| label as u32).collect();
        let probabilities = match self.kind {
            Kind::Probabilities(values) => Matrix::random(self.shape, self.layouts[1], values, self.seed + 1),
            _ => Matrix::unwritten([0, 0], Layout::RowMajor),
        };
        let targets: Targets<'_> = match self.kind {
            Kind::U8 => (&bytes).into(),
            Kind::U32 => (&words).into(),
            Kind::Usize => (&labels).into(),
            Kind::Probabilities(_) => probabilities.view().into(),
        };
        // Some classes weigh 0.
        let weights: Vec<f32> = (0..classes).map(|_| random.below(4) as f32 / 2.0).collect();
        let mut options = CrossEntropy::new().label_smoothing(self.smoothing).reduction(self.reduction);
        if self.weighted {
            options = options.class_weights(&weights);
        }
        if self.ignored.is_some() {
            options = options.ignored_label(IGNORED);
        }

        let column = |rows| Matrix::unwritten([rows, 1], Layout::RowMajor);
        let expected = |[dlogits, losses, loss]: &mut [Matrix; 3]| {
            let (dlogits, losses) = (Some(dlogits.view_mut()), Some(losses.slice_mut()));
            loss.slice_mut()[0] = reference::cross_entropy(&options, logits.view(), targets, losses, dlogits).unwrap();
        };
        let close = |[dlogits, losses, loss]: &[Matrix; 3],
                     [expected_dlogits, expected_losses, expected_loss]: &[Matrix; 3]| {
            // The error of a gradient is relative to the targets, that of a loss to the logits, too.
            let size = |row, col| if probabilities.shape() == [0, 0] { 1.0 } else { probabilities.at(row, col).abs() };
            let of_row = |row| (0..classes).map(|col| 1.0 + size(row, col)).sum::<f32>() * 2.0;
            let of_rows: Vec<f32> = (0..batch).map(of_row).collect();
            let of_loss = |row| (0..classes).map(|col| logits.at(row, col).abs()).fold(1.0, f32::max) * of_rows[row];
            let of_losses: Vec<f32> = (0..batch).map(of_loss).collect();
            let of_sum = of_losses.iter().sum::<f32>();
            dlogits.assert_close(expected_dlogits, |row, _| of_rows[row]);
            losses.assert_close(expected_losses, |row, _| of_losses[row]);
            loss.assert_close(expected_loss, |_, _| of_sum);
        };
        check_kernel(
            [Matrix::unwritten(self.shape, self.layouts[2]), column(batch), column(1)],
            expected,
            |backend, [dlogits, losses, loss]| {
                let (dlogits, losses) = (dlogits.view_mut(), Some(losses.slice_mut()));
                loss.slice_mut()[0] =
                    options.forward_backward(backend, logits.view(), targets, losses, dlogits).unwrap();
            },
            &close,
        );
        // Neither the labels' type nor the threads matter in place.
        check_kernel_serially(
            [Matrix::in_place(&logits, self.layouts[3]), column(batch), column(1)],
            expected,
            |backend, [dlogits, losses, loss]| {
                let (logits, losses) = (dlogits.view_mut(), Some(losses.slice_mut()));
                loss.slice_mut()[0] = options.forward_backward_in_place(backend, targets, losses, logits).unwrap();
            },
            &close,
        );
        check_kernel_serially(
            [column(1)],
            |[loss]| {
                loss.slice_mut()[0] = reference::cross_entropy(&options, logits.view(), targets, None, None).unwrap();
            },
            |backend, [loss]| {
                loss.slice_mut()[0] = options.forward(backend, logits.view(), targets, None).unwrap();
            },
            &|_, _| {},
        );
    }
}

fn any_case() -> impl Strategy<Value = Case> {
    let kind =
        prop_oneof![select(&[Kind::U8, Kind::U32, Kind::Usize][..]), any_values().prop_map(Kind::Probabilities),];
    let options = (
        select(&[0.0, 0.0, 0.1, 1.0][..]),
        select(&[None, None, Some(1), Some(4)][..]),
        any::<bool>(),
        select(&[Reduction::Mean, Reduction::Sum][..]),
    );
    let shape = (1..40usize, 1..90usize);
    (shape, uniform4(any_layout()), any_values(), kind, options, any::<u64>()).prop_map(
        |((rows, cols), layouts, values, kind, (smoothing, ignored, weighted, reduction), seed)| Case {
            shape: [rows, cols],
            layouts,
            values,
            kind,
            smoothing,
            ignored,
            weighted,
            reduction,
            seed: seed >> 1,
        },
    )
}

proptest! {
    #![proptest_config(cases(256))]

    #[test]
    fn cross_entropy_matches_reference(case in any_case()) {
        case.check();
    }
}

#[test]
fn matches_reference_for_every_row_length() {
    for cols in 1..=130 {
        Case::new(3, cols).check();
        Case::all(3, cols).nth(cols % 8).unwrap().check();
    }
}

#[test]
fn matches_reference_for_long_rows() {
    // Rows of 1, 2 and 6 pieces.
    for cols in [1000, 4096, 4097, 20_500] {
        for case in Case::all(2, cols) {
            case.check();
        }
        let layouts = [Layout::Scattered, Layout::Transposed, Layout::Padded, Layout::Scattered];
        Case { layouts, smoothing: 0.1, ..Case::new(2, cols) }.check();
        Case { layouts, kind: Kind::Probabilities(Values::Normal), ..Case::new(2, cols) }.check();
    }
}

#[test]
fn matches_reference_for_every_kind_of_values() {
    for values in Values::ALL {
        for cols in [13, 77] {
            for case in Case::all(7, cols) {
                Case { values, ..case }.check();
            }
        }
    }
}

#[test]
fn matches_reference_around_loss_group_edges() {
    for batch in [1, 2, 15, 16, 17, 31, 32, 33, 48, 49, 65, 100, 257, 1111] {
        for (seed, kind) in [Kind::U8, Kind::U32, Kind::Usize].into_iter().enumerate() {
            Case { seed: seed as u64, kind, ..Case::new(batch, 10) }.check();
            Case { seed: seed as u64, kind, ..Case::new(batch, 70) }.check();
        }
        Case { ignored: Some(1), smoothing: 0.1, weighted: true, ..Case::new(batch, 10) }.check();
    }
    // Each row is a task of its own.
    for batch in [2, 16, 17, 35] {
        Case::new(batch, 5000).check();
    }
}

/// Targets of 4 rows and 5 classes.
const LABELS: [u8; 4] = [3, 0, 4, 2];
const WEIGHTS: [f32; 5] = [0.5, 2.0, 1.0, 0.25, 3.0];
const PROBABILITIES: [f32; 20] =
    [0.1, 0.2, 0.3, 0.4, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.2, 0.2, 0.2, 0.2, 0.2, 0.0, 0.5, 0.0, 0.0, 0.5];

/// Results of `torch.nn.functional.cross_entropy` in PyTorch 2.15 in float64.
///
/// They are the loss, then dlogits at (2, 1), (3, 2) and (0, 4), for each choice of: probabilities,
/// smoothing, class weights, ignored label 4, sum.
#[rustfmt::skip]
const PYTORCH: [(bool, f32, bool, bool, bool, [f64; 4]); 24] = [
    (false, 0.0, false, false, false, [4.300263374, 0.178925214, -0.093492411, 0.000497473]),
    (false, 0.0, false, false, true, [17.201053497, 0.715700856, -0.373969642, 0.001989894]),
    (false, 0.0, false, true, false, [3.786608182, 0.000000000, -0.124656547, 0.000663298]),
    (false, 0.0, false, true, true, [11.359824546, 0.000000000, -0.373969642, 0.001989894]),
    (false, 0.0, true, false, false, [4.672819177, 0.452021593, -0.078730451, 0.000104731]),
    (false, 0.0, true, false, true, [22.195891089, 2.147102568, -0.373969642, 0.000497473]),
    (false, 0.0, true, true, false, [2.669830993, 0.000000000, -0.213696939, 0.000284271]),
    (false, 0.0, true, true, true, [4.672204237, 0.000000000, -0.373969642, 0.000497473]),
    (false, 0.1, false, false, false, [4.217064146, 0.173925214, -0.073492411, -0.004502527]),
    (false, 0.1, false, false, true, [16.868256586, 0.695700856, -0.293969642, -0.018010106]),
    (false, 0.1, false, true, false, [3.750542537, 0.000000000, -0.097989881, -0.006003369]),
    (false, 0.1, false, true, true, [11.251627612, 0.000000000, -0.293969642, -0.018010106]),
    (false, 0.1, true, false, false, [4.601649492, 0.418739353, -0.057275491, -0.012480766]),
    (false, 0.1, true, false, true, [21.857835085, 1.989011927, -0.272058580, -0.059283638]),
    (false, 0.1, true, true, false, [3.178551558, 0.000000000, -0.155462046, -0.033876365]),
    (false, 0.1, true, true, true, [5.562465227, 0.000000000, -0.272058580, -0.059283638]),
    (true, 0.0, false, false, false, [3.032578826, 0.128925214, 0.156507589, 0.000497473]),
    (true, 0.0, false, false, true, [12.130315305, 0.515700856, 0.626030358, 0.001989894]),
    (true, 0.0, true, false, false, [4.184720416, 0.141549039, 0.391268973, 0.000422852]),
    (true, 0.0, true, false, true, [16.738881664, 0.566196156, 1.565075894, 0.001691410]),
    (true, 0.1, false, false, false, [3.076148053, 0.128925214, 0.151507589, -0.004502527]),
    (true, 0.1, false, false, true, [12.304592213, 0.515700856, 0.606030358, -0.018010106]),
    (true, 0.1, true, false, false, [4.236631651, 0.141549039, 0.368270601, -0.014552274]),
    (true, 0.1, true, false, true, [16.946526603, 0.566196156, 1.473082403, -0.058209096]),
];

#[test]
fn losses_and_gradients_match_pytorch() {
    let logits = Matrix::from_fn([4, 5], Layout::RowMajor, |row, col| 3.0 * ((1 + 3 * row + col * col) as f32).sin());
    let probabilities = MatRef::new(&PROBABILITIES, 4, 5).unwrap();
    for (soft, smoothing, weighted, ignored, sum, expected) in PYTORCH {
        let mut options = CrossEntropy::new().label_smoothing(smoothing);
        if weighted {
            options = options.class_weights(&WEIGHTS);
        }
        if ignored {
            options = options.ignored_label(4);
        }
        if sum {
            options = options.reduction(Reduction::Sum);
        }
        let targets: Targets<'_> = if soft { probabilities.into() } else { Labels::from(&LABELS).into() };
        for backend in serial_backends() {
            let mut dx = Matrix::unwritten([4, 5], Layout::RowMajor);
            let loss = options.forward_backward(&backend, logits.view(), targets, None, dx.view_mut()).unwrap();
            let found = [loss, dx.at(2, 1), dx.at(3, 2), dx.at(0, 4)];
            for (found, expected) in found.into_iter().zip(expected) {
                let near = (f64::from(found) - expected).abs() <= 1e-6 * (1.0 + expected.abs());
                assert!(near, "{found} for {expected} of {options:?} on {}", backend.isa());
            }
        }
    }
}

/// The loss and dlogits of one row.
fn one_row<'a>(
    backend: &Backend,
    options: CrossEntropy<'_>,
    logits: &[f32],
    targets: impl Into<Targets<'a>>,
) -> (f32, Vec<f32>) {
    let (targets, classes) = (targets.into(), logits.len());
    let (mut dx, mut losses) = (vec![f32::NAN; classes], [f32::NAN]);
    let x = MatRef::new(logits, 1, classes).unwrap();
    let to = MatMut::new(&mut dx, 1, classes).unwrap();
    let loss = options.forward_backward(backend, x, targets, Some(&mut losses), to).unwrap();
    assert_eq!(losses[0].to_bits(), loss.to_bits());
    (loss, dx)
}

#[test]
fn ignored_rows_contribute_nothing_whatever_their_values() {
    for backend in serial_backends() {
        for classes in [5, 70, 5000] {
            for special in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
                let logits = vec![special; classes];
                let zeros = (0.0, vec![0.0; classes]);
                for smoothing in [0.0, 0.1] {
                    let options = CrossEntropy::new().label_smoothing(smoothing);
                    assert_eq!(one_row(&backend, options.ignored_label(1), &logits, &[1u8]), zeros);
                    let weights = vec![0.0; classes];
                    assert_eq!(one_row(&backend, options.class_weights(&weights), &logits, &[1u8]), zeros);
                }
                let mut weights = vec![1.0; classes];
                weights[1] = 0.0;
                let options = CrossEntropy::new().class_weights(&weights).reduction(Reduction::Sum);
                assert_eq!(one_row(&backend, options, &logits, &[1u8]), zeros);
            }
        }
    }
}

#[test]
fn zero_targets_contribute_nothing_at_infinite_logits() {
    for backend in serial_backends() {
        for classes in [5, 70, 9000] {
            let mut logits = vec![f32::NEG_INFINITY; classes];
            logits[1] = 3.0;
            logits[4] = 3.0;
            let mut targets = vec![0.0; classes];
            targets[1] = 0.5;
            targets[4] = 0.5;
            let row = MatRef::new(&targets, 1, classes).unwrap();
            let (loss, dx) = one_row(&backend, CrossEntropy::new(), &logits, row);
            assert!((loss - 2f32.ln()).abs() < 1e-6 && dx.iter().all(|&dx| dx == 0.0), "{loss} {dx:?}");
            // A positive target at a logit of -inf.
            targets[0] = 0.5;
            let row = MatRef::new(&targets, 1, classes).unwrap();
            let (loss, dx) = one_row(&backend, CrossEntropy::new(), &logits, row);
            assert!(loss == f32::INFINITY && dx[0] == -0.5 && dx[1] == 0.25, "{loss} {dx:?}");
        }
    }
}

#[test]
fn sum_over_no_rows_is_zero() {
    let (backend, sum) = (Backend::new().unwrap(), CrossEntropy::new().reduction(Reduction::Sum));
    let empty = MatRef::new(&[], 0, 3).unwrap();
    assert_eq!(sum.forward(&backend, empty, &[0u8; 0], None).unwrap(), 0.0);
    assert_eq!(reference::cross_entropy(&sum, empty, &[0u8; 0], None, None).unwrap(), 0.0);
}

#[test]
fn cross_entropy_function_is_the_mean_reduction() {
    let backend = Backend::new().unwrap();
    let logits = Matrix::random([9, 12], Layout::RowMajor, Values::Normal, 3);
    let labels = [1u8, 0, 11, 3, 7, 5, 5, 2, 9];
    let [mut a, mut b] = [(); 2].map(|()| Matrix::unwritten([9, 12], Layout::RowMajor));
    let short = loss::cross_entropy(&backend, logits.view(), &labels, a.view_mut()).unwrap();
    let long = CrossEntropy::new().forward_backward(&backend, logits.view(), &labels, None, b.view_mut()).unwrap();
    assert_eq!(short.to_bits(), long.to_bits());
    a.assert_same_bits(&b, "the long form");
}
