//! Compares SHA-256 digests of what operations write and of trained parameters with those recorded here.
//!
//! They hold on every instruction set with fused multiply-add, for any number of threads, in any build.
//! `.ci/golden` runs this as a package of its own, in the builds that `cargo test` does not make.

mod kernels;
mod training;

use densely_testkit::canonical;
use sha2::{Digest, Sha256};

/// A name and its recorded digest.
type Golden = (&'static str, &'static str);

/// The digest of the values' bits, little-endian, every NaN being the same.
fn digest(values: impl IntoIterator<Item = f32>) -> String {
    let bytes: Vec<u8> = values.into_iter().flat_map(|value| canonical(value).to_le_bytes()).collect();
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Asserts that digests are those recorded; prints all of them if not.
#[track_caller]
fn assert_golden(found: &[(String, String)], golden: &[Golden], what: &str) {
    let same = found.len() == golden.len() && found.iter().zip(golden).all(|(a, b)| (&*a.0, &*a.1) == *b);
    let list = || found.iter().map(|(name, digest)| format!("    (\"{name}\", \"{digest}\"),\n")).collect::<String>();
    assert!(same, "{what} gives other bits:\n{}", list());
}
