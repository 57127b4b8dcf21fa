//! The one error type: names the argument, what was expected and what was found.

use std::fmt::{self, Display};
use std::io;
#[cfg(feature = "safetensors")]
use std::path::Path;
use std::path::PathBuf;

use crate::isa::Isa;

/// The standard library's `Result`, with this crate's [`Error`] unless another is named.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a call failed. A kernel that returns one has written nothing.
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// A matrix, slice or shape does not fit the other arguments.
    Shape {
        /// The name of the argument or option.
        argument: &'static str,
        /// What is accepted.
        expected: String,
        /// What was found.
        found: String,
    },
    /// A number or an option is out of range.
    Value {
        /// The name of the argument or option.
        argument: &'static str,
        /// What is accepted.
        expected: String,
        /// What was found.
        found: String,
    },
    /// A label is not one of the classes.
    Label {
        /// The argument's name: `labels`, or `validation labels`.
        argument: &'static str,
        /// Its index in the labels.
        index: usize,
        /// The label.
        label: usize,
        /// The number of classes.
        classes: usize,
    },
    /// An instruction set that is unknown or that this processor does not have.
    Isa {
        /// The argument or the environment variable that gave the name.
        origin: &'static str,
        /// What this processor has, best first.
        available: Vec<Isa>,
        /// The name that was given.
        found: String,
    },
    /// A file could not be read or written.
    File {
        /// The operation that failed, such as `read`.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// The error of the operating system.
        source: io::Error,
    },
    /// A file was read, but its content is not valid or does not fit.
    Format {
        /// The file.
        path: PathBuf,
        /// What is accepted.
        expected: String,
        /// What the file contains.
        found: String,
    },
    /// The model was to be trained, or its learning rate set, before
    /// [`compile`](crate::nn::Sequential::compile) gave it an optimizer.
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
