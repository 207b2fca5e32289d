//! Where things lie: the workspace and what it builds.

use std::path::{Path, PathBuf};

/// The target of the kernel and the test image.
pub const TARGET: &str = "aarch64-unknown-none-softfloat";

/// The workspace's directory.
#[must_use]
pub fn workspace() -> &'static Path {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here)
}

/// Cargo's target directory.
#[must_use]
pub fn target() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| workspace().join("target"), PathBuf::from)
}

/// A bootable ELF.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Image {
    /// The main job.
    Kernel,
    /// The bootable tests, and the main job on a broken machine.
    Test,
}

impl Image {
    /// Path of the ELF, relative to the current directory if it lies below it.
    #[must_use]
    pub fn path(self) -> PathBuf {
        let name = ["kernel", "test-image"][self as usize];
        let path = target().join(TARGET).join("release").join(name);
        let here = std::env::current_dir().unwrap_or_default();
        path.strip_prefix(here).map(Path::to_path_buf).unwrap_or(path)
    }
}

/// What a held machine left for `walk`.
#[must_use]
pub fn held() -> PathBuf {
    target().join("held.json")
}
