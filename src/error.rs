//! The one error type: which argument, what was expected, what came.

use std::fmt::{self, Display};
use std::io;
#[cfg(feature = "safetensors")]
use std::path::Path;
use std::path::PathBuf;

use crate::isa::Isa;

/// The standard library's `Result` with this crate's [`Error`].
pub type Result<T> = std::result::Result<T, Error>;

/// Why a call was refused. Nothing has been written when one of these comes back from a kernel.
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// A matrix, slice or shape does not fit the other arguments.
    Shape {
        /// What does not fit: the name of an argument or an option.
        argument: &'static str,
        /// What would have been accepted.
        expected: String,
        /// What came.
        found: String,
    },
    /// A number is outside the range that has a meaning.
    Value {
        /// What does not fit: the name of an argument or an option.
        argument: &'static str,
        /// What would have been accepted.
        expected: String,
        /// What came.
        found: String,
    },
    /// A label names a class that does not exist.
    Label {
        /// The argument's name: `labels`, or `validation labels`.
        argument: &'static str,
        /// Where in the labels it stands.
        index: usize,
        /// The label.
        label: usize,
        /// How many classes there are.
        classes: usize,
    },
    /// An instruction set that is unknown or that this processor does not have.
    Isa {
        /// Where the name came from: an argument or the environment variable.
        origin: &'static str,
        /// What this processor has, best first.
        available: Vec<Isa>,
        /// The name that was asked for.
        found: String,
    },
    /// A file could not be read or written.
    File {
        /// What was being done, such as `read`.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// A file was read, and its content is not what it should be.
    Format {
        /// The file.
        path: PathBuf,
        /// What would have been accepted.
        expected: String,
        /// What the file holds.
        found: String,
    },
    /// Training, or another learning rate, was asked for before [`compile`](crate::nn::Sequential::compile) gave an
    /// optimizer.
    NotCompiled,
}

impl Error {
    pub(crate) fn shape(argument: &'static str, expected: impl Display, found: impl Display) -> Self {
        let (expected, found) = (expected.to_string(), found.to_string());
        Self::Shape { argument, expected, found }
    }

    pub(crate) fn value(argument: &'static str, expected: impl Display, found: impl Display) -> Self {
        let (expected, found) = (expected.to_string(), found.to_string());
        Self::Value { argument, expected, found }
    }
}

#[cfg(feature = "safetensors")]
impl Error {
    pub(crate) fn file(action: &'static str, path: &Path, source: io::Error) -> Self {
        Self::File { action, path: path.to_owned(), source }
    }

    pub(crate) fn format(path: &Path, expected: impl Display, found: impl Display) -> Self {
        let (expected, found) = (expected.to_string(), found.to_string());
        Self::Format { path: path.to_owned(), expected, found }
    }
}

impl Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Shape { argument, expected, found } | Self::Value { argument, expected, found } => {
                write!(f, "`{argument}`: expected {expected}, got {found}")
            }
            Self::Label { argument, index, label, classes } => {
                write!(f, "`{argument}`: expected classes 0..{classes}, got {label} at index {index}")
            }
            Self::Isa { origin, available, found } => {
                let names: Vec<String> = available.iter().map(|isa| format!("`{isa}`")).collect();
                let names = names.join(", ");
                write!(f, "{origin}: expected one of {names}, which this processor has, got `{found}`")
            }
            Self::File { action, path, source } => write!(f, "cannot {action} {}: {source}", path.display()),
            Self::Format { path, expected, found } => {
                write!(f, "{}: expected {expected}, got {found}", path.display())
            }
            Self::NotCompiled => f.write_str("the model has no optimizer: call `compile` before training it"),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::File { source, .. } => Some(source),
            _ => None,
        }
    }
}
