//! `SplitAt`: cuts views in two, for two threads.

use crate::matrix::{MatMut, MatRef};

/// An axis of a matrix.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Axis {
    Rows,
    Columns,
}

/// What can be cut in two along an axis. Slices and labels have only one, whatever is named.
pub(crate) trait SplitAt: Sized {
    /// The first `at` and the others; all are first if there are fewer.
    fn split_along(self, axis: Axis, at: usize) -> (Self, Self);
}

impl SplitAt for MatRef<'_> {
    fn split_along(self, axis: Axis, at: usize) -> (Self, Self) {
        match axis {
            Axis::Rows => self.split_at_row(at),
            Axis::Columns => self.split_at_col(at),
        }
    }
}

impl SplitAt for MatMut<'_> {
    fn split_along(self, axis: Axis, at: usize) -> (Self, Self) {
        match axis {
            Axis::Rows => self.split_at_row(at),
            Axis::Columns => self.split_at_col(at),
        }
    }
}

impl<T> SplitAt for &[T] {
    fn split_along(self, _: Axis, at: usize) -> (Self, Self) {
        self.split_at(at.min(self.len()))
    }
}

impl<T> SplitAt for &mut [T] {
    fn split_along(self, _: Axis, at: usize) -> (Self, Self) {
        let at = at.min(self.len());
        self.split_at_mut(at)
    }
}

impl<T: SplitAt> SplitAt for Option<T> {
    fn split_along(self, axis: Axis, at: usize) -> (Self, Self) {
        self.map(|part| part.split_along(axis, at)).unzip()
    }
}

impl<T: SplitAt + Copy, const N: usize> SplitAt for [T; N] {
    fn split_along(self, axis: Axis, at: usize) -> (Self, Self) {
        (self.map(|part| part.split_along(axis, at).0), self.map(|part| part.split_along(axis, at).1))
    }
}

/// Makes two structs of one: cuts the listed fields along an axis and copies the others.
macro_rules! split_fields {
    ($this:expr, $axis:expr, $at:expr, [$($field:ident),+]) => {{
        let this = $this;
        $(let $field = $crate::split_at::SplitAt::split_along(this.$field, $axis, $at);)+
        (Self { $($field: $field.0,)+ ..this }, Self { $($field: $field.1,)+ ..this })
    }};
}
pub(crate) use split_fields;
