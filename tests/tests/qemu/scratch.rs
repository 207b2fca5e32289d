//! Files of one test each.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;

/// A file that does not exist at first, and is removed with its owner.
pub struct Scratch(PathBuf);

impl Scratch {
    /// `name` must be the test's own.
    pub fn new(name: &str) -> Self {
        let file = std::env::temp_dir().join(format!("vmemmap-{name}-{}", std::process::id()));
        let _ = fs::remove_file(&file);
        Self(file)
    }

    /// A file with this text.
    pub fn with(name: &str, text: &str) -> std::io::Result<Self> {
        let scratch = Self::new(name);
        fs::write(&scratch.0, text)?;
        Ok(scratch)
    }

    pub fn path(&self) -> std::path::Display<'_> {
        self.0.display()
    }

    pub fn read(&self, offset: u64, bytes: usize) -> std::io::Result<Vec<u8>> {
        let mut buffer = vec![0; bytes];
        File::open(&self.0)?.read_exact_at(&mut buffer, offset)?;
        Ok(buffer)
    }

    pub fn write(&self, offset: u64, bytes: &[u8]) -> std::io::Result<()> {
        OpenOptions::new().write(true).create(true).truncate(false).open(&self.0)?.write_all_at(bytes, offset)
    }

    pub fn resize(&self, bytes: u64) -> std::io::Result<()> {
        OpenOptions::new().write(true).create(true).truncate(false).open(&self.0)?.set_len(bytes)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}
