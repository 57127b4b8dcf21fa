//! Whether a file can be written, asked before the work and not after it.

use std::fs::{self, File};
use std::path::{self, Path};
use std::{io, process};

/// Fails if no file can be put at the path that a flag names.
pub fn check(flag: &str, path: &Path) -> Result<(), String> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let names_a_folder = path.is_dir() || path.file_name().is_none() || path.to_string_lossy().ends_with(path::is_separator);
    let checked = if names_a_folder { Err(io::ErrorKind::IsADirectory.into()) } else { try_to_write(folder) };
    checked.map_err(|error| format!("{flag}: expected a file that can be written, got {}: {error}", path.display()))
}

/// Only a file that was made tells that one can be: its rights are but one thing that can prevent it.
fn try_to_write(folder: &Path) -> io::Result<()> {
    let trial = folder.join(format!(".fashion_mnist-{}", process::id()));
    File::create_new(&trial)?;
    fs::remove_file(trial)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_new_or_old_file_in_a_folder_passes() {
        let folder = std::env::temp_dir();
        assert_eq!(check("--save", &folder.join("weights.safetensors")), Ok(()));
        for bad in [folder.clone(), folder.join("no/such/file"), folder.join("no/"), "".into(), folder.join("..")] {
            let error = check("--save", &bad).expect_err("no file");
            assert!(error.starts_with("--save: expected a file that can be written, got "), "{error}");
        }
    }
}
