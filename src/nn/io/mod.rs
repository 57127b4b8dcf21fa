//! Files.

pub(crate) mod tensor_file;
pub(crate) mod weights;
