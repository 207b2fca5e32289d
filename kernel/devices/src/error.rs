//! What can be wrong with a device.

use crate::{acpi, dimm, fw_cfg, info_block, nfit, virtio_mem};

/// Why a device's memory can't be had, or not be given back.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DeviceError {
    /// Of a virtio-mem device.
    #[error(transparent)]
    VirtioMem(#[from] crate::virtio_mem::Error),
}
