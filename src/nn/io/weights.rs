//! Saving and loading the weights of a model.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;

use crate::error::Result;
use crate::nn::io::tensor_file::{self, Dtype, Tensor, Tensors};
use crate::nn::model::Sequential;

#[cfg_attr(docsrs, doc(cfg(feature = "safetensors")))]
impl Sequential {
    /// Saves all weights to a safetensors file, atomically.
    ///
    /// They are written to a temporary file beside it, which is flushed to disk and renamed. The same weights
    /// give the same bytes.
    ///
    /// The tensors are `dense.kernel` (inputs x outputs), `dense.bias` (outputs), `dense_1.kernel` and so on,
    /// all F32.
    ///
    /// # Errors
    /// [`Error::File`](crate::Error::File); an existing file is unchanged then, unless flushing its folder to
    /// disk, the last step, failed.
    pub fn save_weights(&self, path: impl AsRef<Path>) -> Result<()> {
        let bytes: Vec<u8> = self.parameters.iter().flat_map(|weight| weight.to_le_bytes()).collect();
        let tensor = |(name, (shape, range)): (String, (Vec<usize>, Range<usize>))| Tensor {
            name: name.into(),
            dtype: Dtype::F32,
            shape,
            bytes: Cow::Borrowed(&bytes[range.start * 4..range.end * 4]),
        };
        tensor_file::write(path.as_ref(), &self.tensors().into_iter().map(tensor).collect::<Vec<_>>())
    }

    /// Loads all weights from a safetensors file with the tensors of [`save_weights`](Self::save_weights).
    ///
    /// Another program may have written it, with the same names, shapes and type, and at most 256 KiB of
    /// metadata. The optimizer's state is unchanged.
    ///
    /// # Errors
    /// [`Error::File`](crate::Error::File) if it can't be read; [`Error::Format`](crate::Error::Format) if it
    /// is no safetensors file, a tensor is missing, unknown, of another shape or not F32. The weights are
    /// unchanged then.
    pub fn load_weights(&mut self, path: impl AsRef<Path>) -> Result<()> {
        let path = path.as_ref();
        let bytes = tensor_file::read(path)?;
        let expected = self.tensors();
        let names: Vec<&str> = expected.keys().map(String::as_str).collect();
        let file = Tensors::new(path, &bytes, &names)?;
        // All tensors are checked before the first is copied.
        let tensors = expected.iter().map(|(name, (shape, range))| Ok((range.clone(), file.f32_values(name, shape)?)));
        for (range, weights) in tensors.collect::<Result<Vec<_>>>()? {
            self.parameters[range].iter_mut().zip(weights).for_each(|(weight, read)| *weight = read);
        }
        Ok(())
    }

    /// Lists every tensor's name, shape and range of the parameters.
    fn tensors(&self) -> BTreeMap<String, (Vec<usize>, Range<usize>)> {
        let kernels = self
            .plan
            .iter()
            .map(|layer| (format!("{}.kernel", layer.name), (vec![layer.inputs, layer.outputs], layer.kernel.clone())));
        let biases = self
            .plan
            .iter()
            .filter_map(|layer| Some((format!("{}.bias", layer.name), (vec![layer.outputs], layer.bias.clone()?))));
        kernels.chain(biases).collect()
    }
}
