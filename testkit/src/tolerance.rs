//! Compares within a bound: results of other libraries, and of f64, have no promised bits.

/// How far an element may be from the expected one.
#[derive(Clone, Copy, Debug)]
pub struct Tolerance {
    /// Relative to the expected element.
    pub relative: f32,
    /// Relative to the largest expected element: where terms cancel, the error is that of the terms.
    pub of_largest: f32,
}

impl Tolerance {
    /// For products whose terms another library adds in another order.
    pub const REORDERED: Self = Self::of_largest(1e-4);

    pub const fn relative(relative: f32) -> Self {
        Self { relative, of_largest: 0.0 }
    }

    pub const fn of_largest(of_largest: f32) -> Self {
        Self { relative: 0.0, of_largest }
    }

    /// Returns the first element that is too far, and its bound.
    fn violation(self, found: &[f32], expected: &[f32]) -> Option<(usize, f32)> {
        let largest = expected.iter().fold(0.0, |largest: f32, value| largest.max(value.abs()));
        let bound = |expected: f32| self.relative * expected.abs() + self.of_largest * largest;
        let mut pairs = found.iter().zip(expected);
        // NaN is never within a bound.
        let is_close = |found: f32, expected: f32| (found - expected).abs() <= bound(expected);
        let i = pairs.position(|(&found, &expected)| !is_close(found, expected))?;
        Some((i, bound(expected[i])))
    }

    /// Returns whether the lengths are the same and every element is within its bound.
    pub fn holds(self, found: &[f32], expected: &[f32]) -> bool {
        found.len() == expected.len() && self.violation(found, expected).is_none()
    }
}

/// Asserts that the lengths are the same and every element is within its bound.
#[track_caller]
pub fn assert_close(found: &[f32], expected: &[f32], tolerance: Tolerance, what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}: length");
    if let Some((i, bound)) = tolerance.violation(found, expected) {
        panic!("{what}: element {i} is {:e}, expected {:e} within {bound:e}", found[i], expected[i]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_are_those_of_the_element_and_of_the_largest() {
        let expected = [100.0, 1.0];
        assert!(Tolerance::relative(0.01).holds(&[101.0, 1.0], &expected));
        assert!(!Tolerance::relative(0.01).holds(&[100.0, 1.5], &expected));
        assert!(Tolerance::of_largest(0.01).holds(&[100.0, 2.0], &expected));
        assert!(!Tolerance::of_largest(0.01).holds(&[100.0, 2.5], &expected));
    }

    #[test]
    fn nan_and_other_lengths_are_never_close() {
        let tolerance = Tolerance { relative: 1.0, of_largest: 1.0 };
        assert!(!tolerance.holds(&[f32::NAN], &[1.0]));
        assert!(!tolerance.holds(&[1.0], &[f32::NAN]));
        assert!(!tolerance.holds(&[1.0], &[1.0, 2.0]));
    }
}
