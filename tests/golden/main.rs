//! The same bits everywhere: SHA-256 digests of what operations write and of what networks learn.
//!
//! They hold on every instruction set with fused multiply-add, for any number of threads, in any build. `.ci/golden` runs this
//! as a package of its own, in the builds that `cargo test` does not make.

#[path = "../common/mod.rs"]
mod common;
mod kernels;
mod training;

use densely::{Backend, Isa};
use sha2::{Digest, Sha256};

/// A name and a digest.
type Golden = (&'static str, &'static str);

/// The instruction sets of this processor that promise these bits, the best first.
fn exact() -> Vec<Backend> {
    common::serial_backends().filter(|backend| backend.isa() != Isa::Portable).collect()
}

/// Of the values' bits, little-endian; all NaNs count as one.
fn digest(values: impl IntoIterator<Item = f32>) -> String {
    let bytes: Vec<u8> = values.into_iter().flat_map(|value| common::canonical(value).to_le_bytes()).collect();
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Asserts that digests are those that stand here.
#[track_caller]
fn assert_golden(found: &[(String, String)], golden: &[Golden], what: &str) {
    let same = found.len() == golden.len() && found.iter().zip(golden).all(|(a, b)| (&*a.0, &*a.1) == *b);
    let list = || found.iter().map(|(name, digest)| format!("    (\"{name}\", \"{digest}\"),\n")).collect::<String>();
    assert!(same, "{what} gives other bits:\n{}", list());
}
