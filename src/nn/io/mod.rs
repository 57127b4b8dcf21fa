//! Files: tensors in the safetensors format, and the weights of a model.

pub(crate) mod tensor_file;
pub(crate) mod weights;
