//! Files of tensors in the safetensors format, written atomically.
//!
//! A file is written beside its target, flushed to disk, and renamed: whoever reads the path, also after a
//! power failure, finds the old content or the new one. This is the only module that uses the `safetensors`
//! crate.

use std::borrow::Cow;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

pub(crate) use safetensors::Dtype;
use safetensors::tensor::TensorView;
use safetensors::{SafeTensors, serialize};

use crate::error::{Error, Result};

/// Attempts to find an unused name for a temporary file.
const MAX_ATTEMPTS: u32 = 1000;
/// Most bytes of metadata in a header: parsing a forged header takes some forty times its size in memory.
const MAX_METADATA: usize = 256 << 10;
/// Most bytes of a header for each tensor.
const MAX_TENSOR_HEADER: usize = 256;

/// A tensor to write.
pub(crate) struct Tensor<'a> {
    pub(crate) name: Cow<'a, str>,
    pub(crate) dtype: Dtype,
    pub(crate) shape: Vec<usize>,
    /// Little-endian.
    pub(crate) bytes: Cow<'a, [u8]>,
}

/// Writes a file of these tensors. The same tensors give the same bytes.
///
/// # Errors
/// [`Error::File`]; an existing file is unchanged then, unless flushing its folder to disk failed.
pub(crate) fn write(path: &Path, tensors: &[Tensor<'_>]) -> Result<()> {
    let views = tensors.iter().map(|Tensor { name, dtype, shape, bytes }| {
        TensorView::new(*dtype, shape.clone(), bytes).map(|view| (&**name, view))
    });
    let views = views.collect::<std::result::Result<Vec<_>, _>>();
    let file = views.and_then(|views| serialize(views, None));
    let file = file.map_err(|error| Error::file("write", path, io::Error::other(error)))?;
    replace(path, &file).map_err(|source| Error::file("write", path, source))
}

/// Reads a whole file.
///
/// # Errors
/// [`Error::File`] if it can't be read.
pub(crate) fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).map_err(|source| Error::file("read", path, source))
}

/// The tensors of a file.
pub(crate) struct Tensors<'a> {
    path: &'a Path,
    file: SafeTensors<'a>,
}

impl<'a> Tensors<'a> {
    /// Finds the tensors in the file's bytes.
    ///
    /// # Errors
    /// [`Error::Format`] if it is no safetensors file, or has a tensor that is not among `names`.
    pub(crate) fn new(path: &'a Path, bytes: &'a [u8], names: &[&str]) -> Result<Self> {
        let max = MAX_METADATA + names.len() * MAX_TENSOR_HEADER;
        let header = bytes.first_chunk().map_or(0, |&len| u64::from_le_bytes(len));
        if header > max as u64 {
            let expected = format_args!("a safetensors file whose header has at most {max} bytes");
            return Err(Error::format(path, expected, format_args!("one of {header}")));
        }
        let file = SafeTensors::deserialize(bytes)
            .map_err(|error| Error::format(path, "a safetensors file", format_args!("one that is not: {error}")))?;
        match file.names().into_iter().find(|name| !names.contains(name)) {
            None => Ok(Self { path, file }),
            Some(name) => {
                Err(Error::format(path, format_args!("only {}", names.join(", ")), format_args!("`{name}` too")))
            }
        }
    }

    /// Returns a tensor's bytes, little-endian.
    ///
    /// # Errors
    /// [`Error::Format`] if it is missing, or of another type or shape.
    pub(crate) fn get(&self, name: &str, dtype: Dtype, shape: &[usize]) -> Result<&'a [u8]> {
        let wanted = format!("`{name}` as {dtype} of shape {shape:?}");
        let tensor = self.file.tensor(name).map_err(|_| Error::format(self.path, &wanted, "no such tensor"))?;
        if tensor.dtype() == dtype && tensor.shape() == shape {
            return Ok(tensor.data());
        }
        Err(Error::format(self.path, wanted, format_args!("{} of shape {:?}", tensor.dtype(), tensor.shape())))
    }

    /// Reads a tensor of f32.
    pub(crate) fn f32_values(
        &self,
        name: &str,
        shape: &[usize],
    ) -> Result<impl Iterator<Item = f32> + Clone + use<'a>> {
        let (values, _) = self.get(name, Dtype::F32, shape)?.as_chunks();
        Ok(values.iter().map(|&bytes| f32::from_le_bytes(bytes)))
    }

    /// Reads a vector of f64.
    pub(crate) fn f64_values(&self, name: &str, len: usize) -> Result<impl Iterator<Item = f64> + Clone + use<'a>> {
        let (values, _) = self.get(name, Dtype::F64, &[len])?.as_chunks();
        Ok(values.iter().map(|&bytes| f64::from_le_bytes(bytes)))
    }

    /// Returns the length of a vector: 0 if the tensor is missing or not a vector.
    pub(crate) fn len(&self, name: &str) -> usize {
        match self.file.tensor(name).as_ref().map(TensorView::shape) {
            Ok(&[len]) => len,
            _ => 0,
        }
    }
}

/// Replaces a file's content atomically.
fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    let target = target(path)?;
    let parent = target.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    // Windows can't open folders; it flushes renames to disk by itself.
    let folder = if cfg!(unix) { Some(File::open(parent)?) } else { None };
    let old = fs::metadata(&target).ok().map(|old| old.permissions());
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    // Nobody else may read it before it has the old file's permissions.
    #[cfg(unix)]
    if old.is_some() {
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    }
    let (mut file, temporary) = create_in(parent, &options)?;
    let written = old
        .map_or(Ok(()), |old| file.set_permissions(old))
        .and_then(|()| file.write_all(content))
        .and_then(|()| file.sync_all())
        .and_then(|()| fs::rename(&temporary, &target));
    if written.is_err() {
        // The first error is the one to report; if this fails too, a temporary file is left.
        let _ = fs::remove_file(&temporary);
    }
    written?;
    folder.map_or(Ok(()), |folder| folder.sync_all())
}

/// Resolves symbolic links, so that a link stays one. Only a regular file may be replaced.
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

/// Creates a temporary file in a folder, under a name that no other has.
fn create_in(folder: &Path, options: &OpenOptions) -> io::Result<(File, PathBuf)> {
    for number in 0..MAX_ATTEMPTS {
        let path = folder.join(format!(".densely-{}-{number}.part", std::process::id()));
        match options.open(&path) {
            Ok(file) => return Ok((file, path)),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
    }
    Err(io::Error::new(io::ErrorKind::AlreadyExists, "too many unfinished files in its folder"))
}
