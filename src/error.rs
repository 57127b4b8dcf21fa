//! The one error type: which argument, what was expected, what came.

use std::fmt::Display;
use std::io;
use std::path::{Path, PathBuf};

use crate::isa::Isa;

/// The standard library's `Result` with this crate's [`Error`].
pub type Result<T> = std::result::Result<T, Error>;

/// Why a call was refused. Nothing has been written when one of these comes back from a kernel.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A matrix, slice or shape does not fit the other arguments.
    #[error("`{argument}`: expected {expected}, got {found}")]
    Shape {
        /// What does not fit: the name of an argument or an option.
        argument: &'static str,
        /// What would have been accepted.
        expected: String,
        /// What came.
        found: String,
    },
    /// A number is outside the range that has a meaning.
    #[error("`{argument}`: expected {expected}, got {found}")]
    Value {
        /// What does not fit: the name of an argument or an option.
        argument: &'static str,
        /// What would have been accepted.
        expected: String,
        /// What came.
        found: String,
    },
    /// A label names a class that does not exist.
    #[error("`{argument}`: expected classes 0..{classes}, got {label} at index {index}")]
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
    #[error("{origin}: expected one of {}, which this processor has, got `{found}`", names(available))]
    Isa {
        /// Where the name came from: an argument or the environment variable.
        origin: &'static str,
        /// What this processor has, best first.
        available: Vec<Isa>,
        /// The name that was asked for.
        found: String,
    },
    /// A file could not be read or written.
    #[error("cannot {action} {}: {source}", path.display())]
    File {
        /// What was being done, such as `read`.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// A file was read, and its content is not what it should be.
    #[error("{}: expected {expected}, got {found}", path.display())]
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
    #[error("the model has no optimizer: call `compile` before training it")]
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

    pub(crate) fn file(action: &'static str, path: &Path, source: io::Error) -> Self {
        Self::File { action, path: path.to_owned(), source }
    }

    pub(crate) fn format(path: &Path, expected: impl Display, found: impl Display) -> Self {
        let (expected, found) = (expected.to_string(), found.to_string());
        Self::Format { path: path.to_owned(), expected, found }
    }
}

fn names(available: &[Isa]) -> String {
    let names: Vec<String> = available.iter().map(|isa| format!("`{isa}`")).collect();
    names.join(", ")
}
