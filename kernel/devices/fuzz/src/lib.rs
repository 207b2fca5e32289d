//! What the fuzz targets do with their input. `kernel/devices/tests/corpus.rs` does the same with the corpus that is kept,
//! on a stable compiler.

pub mod config;
pub mod fw_cfg;
pub mod info_block;
pub mod nfit;
