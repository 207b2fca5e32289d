//! Frames of RAM: the frames that an operation has reserved, and an allocator for those who have none.

mod bitmap;
mod reserved;

pub use bitmap::BitmapFrames;
pub use reserved::{OutOfFrames, Reserved};
