//! Compares floats bit for bit.

/// Returns a value's bits, the same for every NaN.
///
/// The numeric contract promises where a result is NaN, not its payload.
pub fn canonical(value: f32) -> u32 {
    if value.is_nan() { f32::NAN.to_bits() } else { value.to_bits() }
}

/// Returns the [`canonical`] bits of values.
pub fn canonical_bits(values: &[f32]) -> Vec<u32> {
    values.iter().copied().map(canonical).collect()
}

/// Asserts the numeric contract: the same bits, every NaN being equal to every other.
#[track_caller]
pub fn assert_same_bits(found: &[f32], expected: &[f32], what: &str) {
    assert_equal_by(canonical, found, expected, what);
}

/// Asserts that two slices are identical, payloads of NaN included: for values that are copied or stored.
#[track_caller]
pub fn assert_identical(found: &[f32], expected: &[f32], what: &str) {
    assert_equal_by(f32::to_bits, found, expected, what);
}

#[track_caller]
fn assert_equal_by(bits: fn(f32) -> u32, found: &[f32], expected: &[f32], what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}: length");
    let differs = found.iter().zip(expected).position(|(&found, &expected)| bits(found) != bits(expected));
    if let Some(i) = differs {
        panic!("{what}: element {i} is {:e}, expected {:e}", found[i], expected[i]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAYLOAD: f32 = f32::from_bits(0xffc0_1234);

    #[test]
    fn every_nan_is_the_same_to_the_contract() {
        assert_same_bits(&[f32::NAN, 1.0], &[PAYLOAD, 1.0], "NaN");
    }

    #[test]
    #[should_panic(expected = "signs: element 1 is -0e0, expected 0e0")]
    fn zeros_of_either_sign_differ() {
        assert_same_bits(&[1.0, -0.0], &[1.0, 0.0], "signs");
    }

    #[test]
    #[should_panic(expected = "payload: element 0")]
    fn identical_slices_have_the_same_payloads() {
        assert_identical(&[f32::NAN], &[PAYLOAD], "payload");
    }

    #[test]
    #[should_panic(expected = "prefix: length")]
    fn lengths_are_compared() {
        assert_same_bits(&[1.0], &[1.0, 2.0], "prefix");
    }
}
