//! Files of tensors, in the safetensors format, written whole or not at all.

use std::borrow::Cow;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

pub(crate) use safetensors::Dtype;
use safetensors::tensor::TensorView;
use safetensors::{SafeTensors, serialize};

use crate::error::{Error, Result};

/// Tries at a name that no other file has.
const NAMES: u32 = 1000;
/// Bytes of a header that is looked at, beside its tensors: room for what other programs note there. To read a made-up one
/// takes some forty times as many.
const MOST_NOTES: usize = 256 << 10;
/// Bytes of it for each tensor.
const MOST_OF_TENSOR: usize = 256;

/// A tensor to be written.
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
/// [`Error::File`]; an old file of that name is as it was then, unless it is the folder that can't be brought to the disk.
pub(crate) fn write(path: &Path, tensors: &[Tensor<'_>]) -> Result<()> {
    let views = tensors.iter().map(|Tensor { name, dtype, shape, bytes }| {
        TensorView::new(*dtype, shape.clone(), bytes).map(|view| (&**name, view))
    });
    let views = views.collect::<std::result::Result<Vec<_>, _>>();
    let file = views.and_then(|views| serialize(views, None));
    let file = file.map_err(|error| Error::file("write", path, io::Error::other(error)))?;
    replace(path, &file).map_err(|source| Error::file("write", path, source))
}

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
    /// Finds them in the file's bytes.
    ///
    /// # Errors
    /// [`Error::Format`] if it is no safetensors file, or has other tensors than those of these names.
    pub(crate) fn new(path: &'a Path, bytes: &'a [u8], names: &[&str]) -> Result<Self> {
        let most = MOST_NOTES + names.len() * MOST_OF_TENSOR;
        let header = bytes.first_chunk().map_or(0, |&len| u64::from_le_bytes(len));
        if header > most as u64 {
            let expected = format_args!("a safetensors file whose header has at most {most} bytes");
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

    /// A tensor's bytes, little-endian.
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

    /// The values of a tensor of f32.
    pub(crate) fn singles(&self, name: &str, shape: &[usize]) -> Result<impl Iterator<Item = f32> + Clone + use<'a>> {
        let (values, _) = self.get(name, Dtype::F32, shape)?.as_chunks();
        Ok(values.iter().map(|&bytes| f32::from_le_bytes(bytes)))
    }

    /// The values of a vector of f64.
    pub(crate) fn doubles(&self, name: &str, len: usize) -> Result<impl Iterator<Item = f64> + Clone + use<'a>> {
        let (values, _) = self.get(name, Dtype::F64, &[len])?.as_chunks();
        Ok(values.iter().map(|&bytes| f64::from_le_bytes(bytes)))
    }

    /// The length of a tensor that should be a vector: 0 if it is missing or none.
    pub(crate) fn len(&self, name: &str) -> usize {
        match self.file.tensor(name).as_ref().map(TensorView::shape) {
            Ok(&[len]) => len,
            _ => 0,
        }
    }
}

/// Puts a file's new content in place of its old, so that a reader, or a machine that stops, sees
/// one or the other.
fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    let target = target(path)?;
    let path = target.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    // Windows can't open folders, and brings renames to the disk by itself.
    let folder = if cfg!(unix) { Some(File::open(path)?) } else { None };
    let old = fs::metadata(&target).ok().map(|old| old.permissions());
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    // Nobody else may read it before it has the old file's permissions.
    #[cfg(unix)]
    if old.is_some() {
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    }
    let (mut file, beside) = create_in(path, &options)?;
    let written = old
        .map_or(Ok(()), |old| file.set_permissions(old))
        .and_then(|()| file.write_all(content))
        .and_then(|()| file.sync_all())
        .and_then(|()| fs::rename(&beside, &target));
    if written.is_err() {
        // The first error is the one to tell; a leftover is all that a second could add.
        let _ = fs::remove_file(&beside);
    }
    written?;
    folder.map_or(Ok(()), |folder| folder.sync_all())
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

/// Creates a file in this folder under a name that no other has.
fn create_in(folder: &Path, options: &OpenOptions) -> io::Result<(File, PathBuf)> {
    for number in 0..NAMES {
        let path = folder.join(format!(".densely-{}-{number}.part", std::process::id()));
        match options.open(&path) {
            Ok(file) => return Ok((file, path)),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
    }
    Err(io::Error::new(io::ErrorKind::AlreadyExists, "too many unfinished files in its folder"))
}
