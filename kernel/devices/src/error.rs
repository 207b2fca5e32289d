//! What can be wrong with a device.

use crate::{dimm, info_block, virtio_mem};

/// Why a device's memory can't be had, or not be given back.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DeviceError {
    /// Of a virtio-mem device.
    #[error(transparent)]
    VirtioMem(#[from] virtio_mem::Error),
    /// A DIMM slot.
    #[error(transparent)]
    Dimm(#[from] dimm::Error),
    /// What a persistent device says of itself.
    #[error(transparent)]
    InfoBlock(#[from] info_block::Error),
}
