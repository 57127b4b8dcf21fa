//! Weights on disk, in the safetensors format: `dense.kernel` (inputs x outputs), `dense.bias`,
//! `dense_1.kernel` and so on, all F32.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};

use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors, serialize};

use super::model::Sequential;
use crate::error::{Error, Result};

/// Tries at a name that no other file has.
const NAMES: u32 = 1000;

impl Sequential {
    /// Writes all weights to a safetensors file, whole or not at all: they are written beside it,
    /// brought to the disk, and then take its name. The same weights give the same bytes.
    ///
    /// # Errors
    /// [`Error::File`]; an old file of that name is as it was then.
    pub fn save_weights(&self, path: impl AsRef<Path>) -> Result<()> {
        let path = path.as_ref();
        let bytes: Vec<u8> = self.parameters.iter().flat_map(|weight| weight.to_le_bytes()).collect();
        let tensors = self.tensors().into_iter().map(|(name, (shape, range))| {
            let view = TensorView::new(Dtype::F32, shape, &bytes[range.start * 4..range.end * 4]);
            view.map(|view| (name, view))
        });
        let tensors = tensors.collect::<std::result::Result<Vec<_>, _>>();
        let file = tensors.and_then(|tensors| serialize(tensors, None));
        let file = file.map_err(|error| Error::file("write", path, io::Error::other(error)))?;
        replace(path, &file).map_err(|source| Error::file("write", path, source))
    }

    /// Reads all weights from a safetensors file that [`save_weights`](Self::save_weights) or
    /// another program wrote. The optimizer's memory is left as it is.
    ///
    /// # Errors
    /// [`Error::File`] if it can't be read; [`Error::Format`] if it is no safetensors file, a
    /// tensor is missing, unknown, of another shape or not F32. The weights are as they were then.
    pub fn load_weights(&mut self, path: impl AsRef<Path>) -> Result<()> {
        let path = path.as_ref();
        let bytes = fs::read(path).map_err(|source| Error::file("read", path, source))?;
        let file = SafeTensors::deserialize(&bytes)
            .map_err(|error| Error::format(path, "a safetensors file", format_args!("one that is not: {error}")))?;
        let expected = self.tensors();
        if let Some(name) = file.names().into_iter().find(|name| !expected.contains_key(*name)) {
            let names: Vec<&str> = expected.keys().map(String::as_str).collect();
            return Err(Error::format(path, format_args!("only {}", names.join(", ")), format_args!("`{name}` too")));
        }
        let mut parameters = self.parameters.clone();
        for (name, (shape, range)) in expected {
            let wanted = format!("`{name}` as F32 of shape {shape:?}");
            let tensor = file.tensor(&name).map_err(|_| Error::format(path, &wanted, "no such tensor"))?;
            if tensor.dtype() != Dtype::F32 || tensor.shape() != shape {
                return Err(Error::format(
                    path,
                    wanted,
                    format_args!("{} of shape {:?}", tensor.dtype(), tensor.shape()),
                ));
            }
            for (weight, bytes) in parameters[range].iter_mut().zip(tensor.data().chunks_exact(4)) {
                *weight = f32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
            }
        }
        self.parameters = parameters;
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

/// Puts a file's new content in place of its old, so that a reader, or a machine that stops, sees
/// one or the other.
fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    let target = target(path)?;
    let folder = target.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let (mut file, beside) = create_in(folder)?;
    let written = file
        .write_all(content)
        .and_then(|()| match fs::metadata(&target) {
            Ok(old) => file.set_permissions(old.permissions()),
            Err(_) => Ok(()),
        })
        .and_then(|()| file.sync_all())
        .and_then(|()| fs::rename(&beside, &target));
    if written.is_err() {
        // The first error is the one to tell; a leftover is all that a second could add.
        let _ = fs::remove_file(&beside);
    }
    written?;
    // Windows can't open folders, and brings renames to the disk by itself.
    if cfg!(unix) { File::open(folder)?.sync_all() } else { Ok(()) }
}

/// The file to replace: the one behind a link, so that the link stays one. Nothing but a regular
/// file is replaced.
fn target(path: &Path) -> io::Result<PathBuf> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(path.to_owned()),
        other => other?,
    };
    let target = fs::canonicalize(path)?;
    if fs::metadata(&target)?.is_file() {
        Ok(target)
    } else {
        Err(io::Error::new(io::ErrorKind::InvalidInput, "it exists and is not a regular file"))
    }
}

/// A new file in this folder.
fn create_in(folder: &Path) -> io::Result<(File, PathBuf)> {
    for number in 0..NAMES {
        let path = folder.join(format!(".densely-{}-{number}.part", std::process::id()));
        match OpenOptions::new().write(true).create_new(true).open(&path) {
            Ok(file) => return Ok((file, path)),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
    }
    Err(io::Error::new(io::ErrorKind::AlreadyExists, "too many unfinished files in its folder"))
}
