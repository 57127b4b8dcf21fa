//! Weights on disk, in the safetensors format: `dense.kernel` (inputs x outputs), `dense.bias`,
//! `dense_1.kernel` and so on, all F32.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;

use crate::error::Result;
use crate::nn::io::tensor_file::{self, Dtype, Tensor, Tensors};
use crate::nn::model::Sequential;

#[cfg_attr(docsrs, doc(cfg(feature = "safetensors")))]
impl Sequential {
    /// Writes all weights to a safetensors file, whole or not at all: they are written beside it,
    /// brought to the disk, and then take its name. The same weights give the same bytes.
    ///
    /// The tensors are `dense.kernel` (inputs x outputs), `dense.bias` (outputs), `dense_1.kernel` and so on, all F32.
    ///
    /// # Errors
    /// [`Error::File`](crate::Error::File); an old file of that name is as it was then, unless it is the folder that can't be
    /// brought to the disk, which comes last.
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

    /// Reads all weights from a safetensors file that [`save_weights`](Self::save_weights) or
    /// another program wrote with the same names, shapes and type, and no more than 256 KiB of notes. The optimizer's memory is
    /// left as it is.
    ///
    /// # Errors
    /// [`Error::File`](crate::Error::File) if it can't be read; [`Error::Format`](crate::Error::Format) if it is no
    /// safetensors file, a tensor is missing, unknown, of another shape or not F32. The weights are as they were then.
    pub fn load_weights(&mut self, path: impl AsRef<Path>) -> Result<()> {
        let path = path.as_ref();
        let bytes = tensor_file::read(path)?;
        let expected = self.tensors();
        let names: Vec<&str> = expected.keys().map(String::as_str).collect();
        let file = Tensors::new(path, &bytes, &names)?;
        // All are there before the first is taken.
        let tensors = expected.iter().map(|(name, (shape, range))| Ok((range.clone(), file.singles(name, shape)?)));
        for (range, weights) in tensors.collect::<Result<Vec<_>>>()? {
            self.parameters[range].iter_mut().zip(weights).for_each(|(weight, read)| *weight = read);
        }
        Ok(())
    }

    /// Every tensor's name, shape and place among the parameters.
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
