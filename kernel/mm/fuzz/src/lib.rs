//! What the fuzz targets do with their input. `kernel/mm/tests/corpus.rs` does the same with the corpus that is kept, on a
//! stable compiler.

pub mod bytes;
#[path = "../../tests/common/mod.rs"]
pub mod common;
pub mod hotplug;
pub mod trace;
