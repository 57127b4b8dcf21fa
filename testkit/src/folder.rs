//! Temporary folders.

use std::fs;
use std::path::{Path, PathBuf};

/// A new folder, removed with all that is in it on drop.
pub struct Folder(PathBuf);

impl Folder {
    /// Creates it; `test` tells it from those of other tests of this process.
    pub fn new(test: &str) -> Self {
        let path = std::env::temp_dir().join(format!("densely-{test}-{}", std::process::id()));
        fs::create_dir(&path).unwrap();
        Self(path)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Returns the path of a file in it.
    pub fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// Returns the sorted names of what is in it.
    pub fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(&self.0).unwrap();
        let mut names: Vec<String> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
