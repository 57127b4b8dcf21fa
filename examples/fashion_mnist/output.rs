//! Checks where results are written, before the work and not after it.

use std::fs::{self, File};
use std::path::{self, Path};
use std::{io, process};

/// Cargo's folder, which git ignores.
const FOLDER: &str = "target";
const PICTURE: &str = "target/fashion_mnist.svg";

/// Returns the path of the picture: the flag's, or the default one, whose folder is created if necessary.
pub fn picture(flag: Option<&Path>) -> Result<&Path, String> {
    let path = match flag {
        Some(path) => path,
        None => {
            fs::create_dir_all(FOLDER).map_err(|error| {
                format!("cannot create the folder {FOLDER}: {error}; choose another path with --picture")
            })?;
            Path::new(PICTURE)
        }
    };
    check("--picture", path).map(|()| path)
}

/// Fails if no file can be created at the path that a flag names.
pub fn check(flag: &str, path: &Path) -> Result<(), String> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let is_folder = path.is_dir() || path.file_name().is_none() || path.to_string_lossy().ends_with(path::is_separator);
    let checked = if is_folder { Err(io::ErrorKind::IsADirectory.into()) } else { try_to_write(folder) };
    checked.map_err(|error| format!("{flag}: expected a file that can be written, got `{}`: {error}", path.display()))
}

/// Creates a file and removes it: the only sure test, since more than permissions can prevent it.
fn try_to_write(folder: &Path) -> io::Result<()> {
    let trial = folder.join(format!(".fashion_mnist-{}", process::id()));
    File::create_new(&trial)?;
    fs::remove_file(trial)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_file_in_a_folder_that_exists_passes() {
        let folder = std::env::temp_dir();
        assert_eq!(check("--save", &folder.join("weights.safetensors")), Ok(()));
        for bad in [folder.clone(), folder.join("no/such/file"), folder.join("no/"), "".into(), folder.join("..")] {
            let error = check("--save", &bad).expect_err("no file");
            assert!(error.starts_with("--save: expected a file that can be written, got "), "{error}");
        }
    }
}
