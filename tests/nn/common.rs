//! What the tests of the network API share beside the testkit.

use densely::Backend;
use densely::nn::{Activation, Dense, Sequential};
use densely_testkit::random_values;

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

#[cfg(unix)]
pub use full_disk::{path_on_full_disk, run_on_full_disk};

#[cfg(unix)]
mod full_disk {
    use std::fs;
    use std::path::{Path, PathBuf};
    use std::process::{Command, Stdio};

    const VARIABLE: &str = "DENSELY_TEST_FULL_DISK";

    /// The file that a test must fail to write, in the process that [`run_on_full_disk`] starts.
    pub fn path_on_full_disk() -> Option<PathBuf> {
        std::env::var_os(VARIABLE).map(PathBuf::from)
    }

    /// Runs a test twice more in processes that may write at most 0 and 1 KiB to a file.
    ///
    /// That stands in for a disk that is full, or fills up. The file, which is longer, must keep its content,
    /// and no other may appear beside it.
    ///
    /// That stands in for a disk that is full, or fills up. The file, which is longer, must keep its content,
    /// and no other may appear beside it.
    #[track_caller]
    pub fn run_on_full_disk(test: &str, path: &Path) {
        let content_and_files = || (fs::read(path).unwrap(), fs::read_dir(path.parent().unwrap()).unwrap().count());
        let old = content_and_files();
        assert!(old.0.len() > 1024);
        for blocks in ["0", "1"] {
            let status = Command::new("sh")
                .args(["-c", r#"trap "" XFSZ; ulimit -f "$2"; exec "$0" --exact "$1""#])
                .arg(std::env::current_exe().unwrap())
                .args([test, blocks])
                .env(VARIABLE, path)
                .stdout(Stdio::null())
                .status();
            assert!(status.unwrap().success(), "{blocks} blocks");
            assert_eq!(content_and_files(), old, "{blocks} blocks");
        }
    }
}
