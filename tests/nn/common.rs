//! What the tests of level 2 share.

use std::fs;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use densely::nn::{Activation, Dense, Sequential};
use densely::{Backend, Isa, MatRef, Threads};

#[path = "../common/emulated.rs"]
mod emulated;
#[path = "../common/images.rs"]
mod images;
#[path = "../common/watchdog.rs"]
mod watchdog;

pub use emulated::some;
pub use images::fashion_mnist;
pub use watchdog::within_a_minute;

/// A backend for each instruction set of this machine.
pub fn backends() -> Vec<Backend> {
    Isa::available().into_iter().map(|isa| Backend::with_isa(isa).unwrap()).collect()
}

pub fn exactly(threads: usize) -> Threads {
    Threads::Exactly(NonZeroUsize::new(threads).unwrap())
}

/// ReLU layers of these units on a flat input, softmax in the last; biases are not zero.
pub fn mlp(backend: &Backend, inputs: usize, units: &[usize]) -> Sequential {
    let (&classes, hidden) = units.split_last().unwrap();
    let builder = Sequential::builder(inputs).backend(backend.clone());
    let builder = hidden.iter().fold(builder, |builder, &units| builder.layer(Dense::new(units, Activation::Relu)));
    let mut model = builder.layer(Dense::new(classes, Activation::Softmax)).build().unwrap();
    let noise = random_values(99, model.count_params());
    model.parameters_mut().iter_mut().zip(noise).for_each(|(weight, noise)| *weight += 0.1 * noise);
    model
}

/// Uniform in -1..1, the same on every machine: Steele et al., SplitMix64 (2014).
pub fn random_values(seed: u64, len: usize) -> Vec<f32> {
    let mut state = seed;
    let next = || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (state ^ state >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ z >> 31) >> 40) as f32 / (1u32 << 23) as f32 - 1.0
    };
    std::iter::repeat_with(next).take(len).collect()
}

/// Random labels below `classes`.
pub fn random_labels(seed: u64, len: usize, classes: usize) -> Vec<u8> {
    random_values(seed, len).iter().map(|value| ((value + 1.0) / 2.0 * classes as f32) as u8).collect()
}

/// A row-major matrix of so many rows.
#[track_caller]
pub fn row_major(data: &[f32], rows: usize) -> MatRef<'_> {
    MatRef::new(data, rows, data.len() / rows).unwrap()
}

/// Asserts that two slices are the same, bit for bit.
#[track_caller]
pub fn assert_identical(found: &[f32], expected: &[f32], what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}: length");
    let differs = found.iter().zip(expected).position(|(a, b)| a.to_bits() != b.to_bits());
    if let Some(i) = differs {
        panic!("{what}: element {i} is {:e}, expected {:e}", found[i], expected[i]);
    }
}

/// Asserts that each element is within `relative` of itself plus `of_largest` of the largest.
#[track_caller]
pub fn assert_close(found: &[f32], expected: &[f32], relative: f32, of_largest: f32, what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}: length");
    let largest = expected.iter().fold(0.0, |largest: f32, value| largest.max(value.abs()));
    for (i, (a, b)) in found.iter().zip(expected).enumerate() {
        let bound = relative * b.abs() + of_largest * largest;
        assert!((a - b).abs() <= bound, "{what}: element {i} is {a:e}, expected {b:e} within {bound:e}");
    }
}

/// A new folder that goes away with this.
pub struct Folder(PathBuf);

impl Folder {
    pub fn new(test: &str) -> Self {
        let path = std::env::temp_dir().join(format!("densely-{test}-{}", std::process::id()));
        fs::create_dir(&path).unwrap();
        Self(path)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    pub fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(&self.0).unwrap();
        let mut names: Vec<String> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[cfg(unix)]
const FULL_DISK: &str = "DENSELY_TEST_FULL_DISK";

/// The file that a test is to fail to write, if it is the one that [`run_on_full_disk`] runs.
#[cfg(unix)]
pub fn path_on_full_disk() -> Option<PathBuf> {
    std::env::var_os(FULL_DISK).map(PathBuf::from)
}

/// Runs a test twice more, in processes that may write no byte to any file, or a block of at most 1 KiB: that stands in for
/// a disk that is full, or will be. What is in the file, which is longer, must stay, and nothing may come beside it.
#[cfg(unix)]
#[track_caller]
pub fn run_on_full_disk(test: &str, path: &Path) {
    let files = || fs::read_dir(path.parent().unwrap()).unwrap().count();
    let old = (fs::read(path).unwrap(), files());
    assert!(old.0.len() > 1024);
    for blocks in ["0", "1"] {
        let status = std::process::Command::new("sh")
            .args(["-c", r#"trap "" XFSZ; ulimit -f "$2"; exec "$0" --exact "$1""#])
            .arg(std::env::current_exe().unwrap())
            .args([test, blocks])
            .env(FULL_DISK, path)
            .stdout(std::process::Stdio::null())
            .status();
        assert!(status.unwrap().success(), "{blocks} blocks");
        assert_eq!((fs::read(path).unwrap(), files()), old, "{blocks} blocks");
    }
}
