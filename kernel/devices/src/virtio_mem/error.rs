//! What can go wrong between driver and device.

use alloc::string::String;

use vmemmap::addr::PhysRange;

use super::{ConfigError, Request};

/// Why a virtio-mem device's memory can't be had, or not be given back.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Error {
    /// Its configuration can't be.
    #[error("virtio-mem: {0}")]
    Config(#[from] ConfigError),
    /// Its blocks or its region are not what they were.
    #[error(
        "virtio-mem: {from} in blocks of {from_block_size:#x} bytes became {to} in blocks of {to_block_size:#x}, which must not change: the device is at fault"
    )]
    Changed {
        /// The region as it was.
        from: PhysRange,
        /// Bytes of a block then.
        from_block_size: u64,
        /// The region as it is.
        to: PhysRange,
        /// Bytes of a block now.
        to_block_size: u64,
    },
    /// Ranges can't be cut at multiples of this.
    #[error(
        "virtio-mem: memory_block={memory_block:#x} is no multiple of the {unit:#x} bytes in which memory is plugged; choose {nearest:#x}"
    )]
    MemoryBlock {
        /// What was asked, in bytes.
        memory_block: u64,
        /// What is plugged at least, in bytes.
        unit: u64,
        /// The nearest multiple that is not 0.
        nearest: u64,
    },
    /// The host wants a part of what can be plugged at least.
    #[error(
        "virtio-mem: the host requests {requested:#x} bytes, no multiple of the {unit:#x} in which memory is plugged; request {nearest:#x} ({served:#x} are served)"
    )]
    Fraction {
        /// What it wants, in bytes.
        requested: u64,
        /// What is plugged at least, in bytes.
        unit: u64,
        /// The nearest multiple.
        nearest: u64,
        /// The multiple at or below.
        served: u64,
    },
    /// The host wants more than fits.
    #[error(
        "virtio-mem: the host requests {requested:#x} bytes, but {plugged:#x} are plugged and no more fit into the first {usable:#x} bytes of {region}; request less, or give the device more memory"
    )]
    NoRoom {
        /// What it wants, in bytes.
        requested: u64,
        /// What is plugged, in bytes.
        plugged: u64,
        /// Bytes at the start of the region that may be plugged.
        usable: u64,
        /// The region.
        region: PhysRange,
    },
    /// Other blocks are plugged than the driver has plugged.
    #[error(
        "virtio-mem: the device counts {device:#x} bytes as plugged, the driver {driver:#x}; no more is plugged until they agree: reset the machine"
    )]
    Plugged {
        /// What the device counts, in bytes.
        device: u64,
        /// What the driver counts, in bytes.
        driver: u64,
    },
    /// The host does not give memory.
    #[error(
        "virtio-mem: the host refused {request}: it lowered its request meanwhile, or has no memory to give; request less or free memory there"
    )]
    Refused {
        /// What was asked of it.
        request: Request,
    },
    /// The host can't do it now.
    #[error("virtio-mem: the host is too busy for {request}; it is asked again in the next round")]
    Busy {
        /// What was asked of it.
        request: Request,
    },
    /// The host says that the driver may not ask this.
    #[error(
        "virtio-mem: the host calls {request} wrong: outside the usable region, or so already; driver and device disagree: reset the machine"
    )]
    Rejected {
        /// What was asked of it.
        request: Request,
    },
    /// An answer that VIRTIO 1.2 does not have.
    #[error(
        "virtio-mem: the device answers {kind}, which no response is; its blocks are looked at again in the next round"
    )]
    UnknownResponse {
        /// The response's type.
        kind: u16,
    },
    /// Blocks in a state that VIRTIO 1.2 does not have, or that they can't be in.
    #[error(
        "virtio-mem: the device says state {state} to {request}, which can't be; the blocks are looked at again in the next round"
    )]
    UnknownState {
        /// What was asked.
        request: Request,
        /// What it answered.
        state: u16,
    },
    /// The device can't be heard.
    #[error("virtio-mem: can't talk to the device: {why}; it is tried again in the next round")]
    Transport {
        /// What the transport says.
        why: String,
    },
}

impl Error {
    /// Whether a request that ended so may have been carried out all the same.
    pub(super) const fn leaves_doubt(&self) -> bool {
        matches!(self, Self::Transport { .. } | Self::UnknownResponse { .. })
    }
}
