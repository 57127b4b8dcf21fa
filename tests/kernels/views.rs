//! Tests matrix views: their elements, and which layouts they accept.

use std::collections::HashSet;

use densely::{Labels, MatMut, MatRef, PackedWeights, Weights, flatten};
use densely_testkit::strategies::cases;
use densely_testkit::{Layout, Matrix};
use proptest::prelude::*;

/// 0, 1, 2, ... row by row.
fn counted(rows: usize, cols: usize, layout: Layout) -> Matrix {
    Matrix::from_fn([rows, cols], layout, |row, col| (row * cols + col) as f32)
}

fn count(range: std::ops::Range<usize>) -> Vec<f32> {
    range.map(|i| i as f32).collect()
}

#[test]
fn elements_are_read_and_written_in_every_layout() {
    for layout in Layout::ALL {
        let mut matrix = counted(3, 4, layout);
        let x = matrix.view();
        assert_eq!((x.rows(), x.cols()), (3, 4));
        assert_eq!(x.to_vec(), count(0..12));
        assert_eq!((x.get(0, 0), x.get(2, 3)), (Some(0.0), Some(11.0)));
        assert_eq!((x.get(3, 0), x.get(0, 4), x.get(usize::MAX, usize::MAX)), (None, None, None));
        let mut x = matrix.view_mut();
        assert!(x.set(1, 2, 60.0));
        assert!(!x.set(3, 0, 1.0) && !x.set(0, 4, 1.0) && !x.set(usize::MAX, 0, 1.0));
        assert_eq!((x.get(1, 2), x.get(3, 0), x.get(0, 4)), (Some(60.0), None, None));
        let expected: Vec<f32> = (0..12).map(|i| if i == 6 { 60.0 } else { i as f32 }).collect();
        assert_eq!((x.to_vec(), x.as_ref().to_vec()), (expected.clone(), expected));
    }
}

#[test]
fn views_report_their_strides() {
    let mut data = vec![0.0; 100];
    let x = MatRef::new(&data[..12], 3, 4).unwrap();
    assert_eq!((x.row_stride(), x.col_stride()), (4, 1));
    let x = MatRef::with_strides(&data, 3, 4, 20, 3).unwrap();
    assert_eq!((x.row_stride(), x.col_stride(), x.t().row_stride(), x.t().col_stride()), (20, 3, 3, 20));
    let x = MatMut::with_strides(&mut data, 3, 4, 20, 3).unwrap();
    assert_eq!((x.row_stride(), x.col_stride()), (20, 3));
    assert_eq!(format!("{x:?} {:?}", x.as_ref()), {
        let layout = "3 x 4 with strides (20, 3)";
        format!("MatMut({layout}) MatRef({layout})")
    });
}

#[test]
fn transposing_swaps_the_axes() {
    for layout in Layout::ALL {
        let mut matrix = counted(3, 4, layout);
        let t = matrix.view().t();
        assert_eq!((t.rows(), t.cols(), t.get(3, 2), t.get(2, 3)), (4, 3, Some(11.0), None));
        assert_eq!(t.to_vec(), [0.0, 4.0, 8.0, 1.0, 5.0, 9.0, 2.0, 6.0, 10.0, 3.0, 7.0, 11.0]);
        assert_eq!(t.t().to_vec(), count(0..12));
        let mut t = matrix.view_mut().t();
        assert!(t.set(3, 1, -1.0) && !t.set(1, 3, -1.0));
        assert_eq!(matrix.at(1, 3), -1.0);
    }
}

#[test]
fn contiguous_rows_are_slices() {
    for (layout, contiguous) in [(Layout::RowMajor, true), (Layout::Padded, true), (Layout::Transposed, false)] {
        let matrix = counted(3, 4, layout);
        assert_eq!(matrix.view().row(1).map(<[f32]>::to_vec), contiguous.then(|| count(4..8)));
        assert_eq!(matrix.view().row(3), None);
    }
    let column = counted(3, 1, Layout::Scattered);
    assert_eq!(column.view().row(2), Some(&[2.0][..]));
    let empty = MatRef::with_strides(&[], 3, 0, usize::MAX, usize::MAX).unwrap();
    assert_eq!((empty.row(2), empty.row(3)), (Some(&[][..]), None));
}

#[test]
fn row_ranges_select_rows() {
    for layout in Layout::ALL {
        let mut matrix = counted(5, 3, layout);
        for (start, end) in [(0, 5), (1, 4), (4, 5), (0, 0), (2, 2), (5, 5)] {
            let (read, expected) = (matrix.view().row_range(start..end).unwrap(), count(3 * start..3 * end));
            assert_eq!((read.rows(), read.cols(), read.to_vec()), (end - start, 3, expected.clone()));
            assert_eq!(matrix.view_mut().row_range(start..end).unwrap().to_vec(), expected);
        }
        let inner = matrix.view().row_range(1..5).unwrap().row_range(1..3).unwrap();
        assert_eq!(inner.to_vec(), count(6..12));
        assert!(inner.row_range(0..3).is_err());
        assert!(matrix.view_mut().row_range(3..5).unwrap().set(1, 2, -1.0));
        assert_eq!(matrix.at(4, 2), -1.0);
    }
}

#[test]
fn packed_weights_and_labels_report_their_sizes() {
    let packed = PackedWeights::new(counted(5, 3, Layout::Transposed).view());
    assert_eq!((packed.inputs(), packed.outputs()), (5, 3));
    assert_eq!(format!("{packed:?}"), "PackedWeights(5 x 3)");
    assert!(format!("{:?}", Weights::from(&packed)).contains("5 x 3"));
    let labels = Labels::from(&[7u8, 8]);
    assert_eq!((labels.len(), labels.is_empty(), labels.get(1), labels.get(2)), (2, false, Some(8), None));
    assert!(Labels::from(&[0u32; 0]).is_empty());
}

#[test]
fn split_halves_can_be_written_concurrently() {
    for layout in Layout::ALL {
        for at in [0, 1, 4, 5, 6, usize::MAX] {
            let mut matrix = counted(5, 3, layout);
            let (mut top, mut bottom) = matrix.view_mut().split_at_row(at);
            let rows = at.min(5);
            assert_eq!((top.rows(), bottom.rows(), top.cols(), bottom.cols()), (rows, 5 - rows, 3, 3));
            assert_eq!((top.to_vec(), bottom.to_vec()), (count(0..3 * rows), count(3 * rows..15)));
            std::thread::scope(|scope| {
                scope.spawn(move || top.set(0, 1, -1.0));
                scope.spawn(move || bottom.set(0, 1, -2.0));
            });
            let value = |row: usize| {
                if row == rows {
                    -2.0
                } else if row == 0 {
                    -1.0
                } else {
                    (3 * row + 1) as f32
                }
            };
            (0..5).for_each(|row| assert_eq!(matrix.at(row, 1), value(row)));
        }
    }
}

#[test]
fn reborrowed_views_write_the_same_elements() {
    let mut matrix = counted(2, 2, Layout::Padded);
    let mut x = matrix.view_mut();
    assert!(x.reborrow().set(0, 1, 10.0));
    assert!(x.reborrow().t().set(0, 1, 20.0));
    assert_eq!(x.to_vec(), [0.0, 10.0, 20.0, 3.0]);
}

#[test]
fn contiguous_means_dense_row_major() {
    let data = [0.0; 100];
    let view = |rows, cols, row, col| MatRef::with_strides(&data, rows, cols, row, col).unwrap();
    for x in [view(3, 4, 4, 1), view(1, 4, 99, 1), view(4, 1, 1, 9), view(1, 1, 7, 7), view(0, 4, 9, 9)] {
        assert!(x.is_contiguous(), "{x:?}");
    }
    for x in [view(3, 4, 5, 1), view(3, 4, 1, 3), view(3, 4, 8, 2), view(1, 4, 4, 2), view(4, 1, 2, 1)] {
        assert!(!x.is_contiguous(), "{x:?}");
    }
    assert!(view(3, 4, 1, 3).t().is_contiguous());
}

#[test]
fn flatten_keeps_the_batch_axis() {
    let data: Vec<f32> = count(0..24);
    for (shape, expected) in [(&[2, 3, 4][..], (2, 12)), (&[24], (24, 1)), (&[4, 6], (4, 6)), (&[1, 2, 3, 4], (1, 24))]
    {
        let x = flatten(&data, shape).unwrap();
        assert_eq!((x.rows(), x.cols(), x.is_contiguous()), (expected.0, expected.1, true));
        assert_eq!(x.to_vec(), data);
    }
    let empty = flatten(&[], &[0, 28, 28]).unwrap();
    assert_eq!((empty.rows(), empty.cols()), (0, 784));
}

fn any_stride() -> impl Strategy<Value = usize> {
    prop_oneof![9 => 0..24usize, 1 => any::<usize>(), 1 => Just(usize::MAX)]
}

proptest! {
    #![proptest_config(cases(20_000))]

    /// Accepted layouts stay inside the slice and hold no element twice; refused ones leave it, overlap or
    /// interleave rows.
    #[test]
    fn views_are_accepted_if_inside_and_not_overlapping(rows in 0..8usize, cols in 0..8usize, row_stride in any_stride(), col_stride in any_stride(),
               len in 0..120usize) {
        let extent = |n: usize, stride: usize| n.saturating_sub(1) as u128 * stride as u128;
        let (down, across) = (extent(rows, row_stride), extent(cols, col_stride));
        let empty = rows == 0 || cols == 0;
        let inside = empty || down + across < len as u128;
        let nested = |n: usize, stride: usize, other_n: usize, other: usize| {
            (n <= 1 || stride > 0) && (other_n <= 1 || other as u128 > extent(n, stride))
        };
        let apart = empty || nested(rows, row_stride, cols, col_stride) || nested(cols, col_stride, rows, row_stride);

        let mut data = count(0..len);
        let accepted = MatRef::with_strides(&data, rows, cols, row_stride, col_stride).is_ok();
        prop_assert_eq!(accepted, inside && apart);
        if let Ok(x) = MatMut::with_strides(&mut data, rows, cols, row_stride, col_stride) {
            prop_assert!(accepted);
            // Each element is its own offset.
            let offsets = x.to_vec();
            let distinct: HashSet<u32> = offsets.iter().map(|offset| offset.to_bits()).collect();
            prop_assert_eq!((offsets.len(), distinct.len()), (rows * cols, rows * cols));
            for (i, &offset) in offsets.iter().enumerate() {
                prop_assert_eq!(offset, (i / cols * row_stride + i % cols * col_stride) as f32);
            }
        } else {
            prop_assert!(!accepted);
        }
    }
}
