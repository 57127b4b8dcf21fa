//! Finds Fashion-MNIST and converts it to the input of a model.

use std::env;
use std::error::Error;
use std::fmt::{self, Display};
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};

use densely::MatRef;

use crate::idx::{self, CLASSES, PIXELS, SIDE};

/// Names of the classes.
pub const CLASS_NAMES: [&str; CLASSES] =
    ["T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"];

/// The environment variable that names the folder if no flag does.
const VARIABLE: &str = "FASHION_MNIST_DIR";
/// Keras' download cache, below the home folder.
const KERAS_CACHE: &str = ".keras/datasets/fashion-mnist";
/// The folder of Debian's package `dataset-fashion-mnist`.
const DEBIAN_PACKAGE: &str = "/usr/share/datasets/fashion-mnist";

const TRAIN: [&str; 2] = ["train-images-idx3-ubyte", "train-labels-idx1-ubyte"];
const TEST: [&str; 2] = ["t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"];

/// Embeds a file of the subset.
macro_rules! embedded {
    ($name:literal) => {
        ($name, include_bytes!(concat!("../../data/fashion-mnist/", $name, ".gz")))
    };
}

/// A subset of the real data, for machines that have no other copy.
const EMBEDDED: [(&str, &[u8]); 4] = [
    embedded!("train-images-idx3-ubyte"),
    embedded!("train-labels-idx1-ubyte"),
    embedded!("t10k-images-idx3-ubyte"),
    embedded!("t10k-labels-idx1-ubyte"),
];

/// Images and their classes.
pub struct Samples {
    pixels: Vec<f32>,
    pub labels: Vec<u8>,
}

impl Samples {
    /// Number of images.
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// All images, one per row.
    pub fn x(&self) -> densely::Result<MatRef<'_>> {
        densely::flatten(&self.pixels, &[self.len(), SIDE, SIDE])
    }

    /// The pixels of each image, from 0 for the background to 1, row by row.
    pub fn images(&self) -> impl Iterator<Item = &[f32]> {
        self.pixels.chunks_exact(PIXELS)
    }
}

/// Where the data comes from.
pub enum Source {
    /// A folder, and the origin of its name.
    Folder(PathBuf, &'static str),
    /// The subset embedded in this program.
    Embedded,
}

impl Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Folder(folder, origin) => write!(f, "{} ({origin})", folder.display()),
            Self::Embedded => f.write_str("the embedded subset"),
        }
    }
}

impl Source {
    /// Finds the data: the folder of the flag, else of the environment, else the first default folder that
    /// has all files, else the embedded subset.
    pub fn find(flag: Option<&Path>) -> Self {
        if let Some(folder) = flag {
            return Self::Folder(folder.to_owned(), "--data");
        }
        if let Some(folder) = env::var_os(VARIABLE).filter(|folder| !folder.is_empty()) {
            return Self::Folder(folder.into(), VARIABLE);
        }
        let keras = env::home_dir().map(|home| (home.join(KERAS_CACHE), "Keras' cache"));
        let defaults = keras.into_iter().chain([(DEBIAN_PACKAGE.into(), "Debian's package")]);
        defaults
            .filter(|(folder, _)| TRAIN.iter().chain(&TEST).all(|name| file(folder, name).is_some()))
            .map(|(folder, origin)| Self::Folder(folder, origin))
            .next()
            .unwrap_or(Self::Embedded)
    }

    /// Reads the training samples.
    pub fn train(&self) -> Result<Samples, Box<dyn Error>> {
        self.samples(TRAIN)
    }

    /// Reads the test samples.
    pub fn test(&self) -> Result<Samples, Box<dyn Error>> {
        self.samples(TEST)
    }

    fn samples(&self, [images, labels]: [&str; 2]) -> Result<Samples, Box<dyn Error>> {
        let pixels = self.read(images, |input| idx::images(input))?;
        let labels = self.read(labels, |input| idx::labels(input, pixels.len() / PIXELS))?;
        let pixels = pixels.into_iter().map(|pixel| f32::from(pixel) / f32::from(u8::MAX)).collect();
        Ok(Samples { pixels, labels })
    }

    /// Decodes a file, and adds its name to errors.
    fn read(
        &self,
        name: &str,
        decode: impl FnOnce(&mut dyn BufRead) -> Result<Vec<u8>, idx::Error>,
    ) -> Result<Vec<u8>, Box<dyn Error>> {
        match self {
            Self::Folder(folder, origin) => {
                let path = file(folder, name).ok_or_else(|| {
                    format!("{origin}: expected {name}.gz or {name} in {}, got neither", folder.display())
                })?;
                let input = File::open(&path).map_err(|error| format!("cannot read {}: {error}", path.display()))?;
                Ok(decode(&mut BufReader::new(input)).map_err(|error| format!("{}: {error}", path.display()))?)
            }
            Self::Embedded => {
                let bytes = EMBEDDED.iter().find(|(file, _)| *file == name).map_or(&[][..], |(_, bytes)| bytes);
                Ok(decode(&mut &*bytes).map_err(|error| format!("embedded {name}: {error}"))?)
            }
        }
    }
}

/// Finds a file in a folder, gzipped or plain.
fn file(folder: &Path, name: &str) -> Option<PathBuf> {
    [folder.join(format!("{name}.gz")), folder.join(name)].into_iter().find(|path| path.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_embedded_subset_is_complete() {
        let (train, test) = (Source::Embedded.train().expect("good data"), Source::Embedded.test().expect("good data"));
        assert_eq!((train.len(), test.len()), (12_000, 2_000));
        assert_eq!((train.labels[0], test.labels[0]), (9, 9));
        assert!(train.images().chain(test.images()).flatten().all(|pixel| (0.0..=1.0).contains(pixel)));
    }

    #[test]
    fn a_named_folder_without_the_files_is_an_error() {
        let source = Source::find(Some(Path::new("no/such/folder")));
        let error = source.train().err().expect("no data").to_string();
        let expected =
            "--data: expected train-images-idx3-ubyte.gz or train-images-idx3-ubyte in no/such/folder, got neither";
        assert_eq!(error, expected);
    }
}
