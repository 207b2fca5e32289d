//! The device memory that the boot arguments name: its sources, where the struct pages of each go, and in which order the
//! ranges are taken away.

use core::fmt;

use vmemmap::addr::PhysAddr;

use super::number;

/// How many sources of device memory a run can have.
pub const MOST_DEVICES: usize = 8;

/// A source of device memory, as the user gave it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Device {
    /// Where its memory comes from.
    pub source: Source,
    /// Where its struct pages lie; as all others' if nothing is said.
    pub memmap: Option<Memmap>,
}

/// Where device memory comes from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Source {
    /// A part of the machine's memory. It may be empty, wrap or lie anywhere.
    CarveOut {
        /// Its first byte.
        base: PhysAddr,
        /// Its length in bytes.
        bytes: u64,
    },
    /// The next virtio-mem device on the PCI bus.
    VirtioMem,
    /// The machine's slots for DIMMs.
    PcDimm,
    /// The next ivshmem device on the PCI bus.
    Ivshmem,
    /// The next range of persistent memory in the NFIT.
    Nvdimm,
}

/// Where the struct pages of a device range lie.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Memmap {
    /// In the range itself.
    Altmap(AltmapShape),
    /// In RAM.
    Ram,
}

/// How the altmap is cut out of the device range.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AltmapShape {
    /// As much as the struct pages need.
    Tight,
    /// As Linux's nvdimm drivers cut it.
    Nvdimm,
}

/// One for each device, at most: plain values, since boot reads them before there is a heap.
#[derive(Clone, Copy)]
pub struct PerDevice<T> {
    items: [T; MOST_DEVICES],
    length: usize,
}

impl<T: Copy> PerDevice<T> {
    /// None yet; `filler` is never seen.
    pub(super) const fn none(filler: T) -> Self {
        Self { items: [filler; MOST_DEVICES], length: 0 }
    }

    /// Whether there was room.
    pub(super) fn push(&mut self, item: T) -> bool {
        let place = self.items.get_mut(self.length);
        let room = place.is_some();
        if let Some(place) = place {
            *place = item;
            self.length += 1;
        }
        room
    }

    /// What was given, in its order.
    #[must_use]
    pub fn as_slice(&self) -> &[T] {
        &self.items[..self.length]
    }
}

impl<T: Copy + fmt::Debug> fmt::Debug for PerDevice<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_slice().fmt(f)
    }
}

/// In which order the devices are removed: their numbers, in the order in which they were given, from 0.
pub type RemoveOrder = PerDevice<u8>;

impl RemoveOrder {
    /// Whether each of `devices` devices is named once.
    #[must_use]
    pub fn is_of(&self, devices: usize) -> bool {
        let named = |device: usize| self.as_slice().iter().any(|&number| usize::from(number) == device);
        self.length == devices && (0..devices).all(named)
    }
}

impl fmt::Display for RemoveOrder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_slice().iter().enumerate().try_for_each(|(place, number)| {
            let comma = if place == 0 { "" } else { "," };
            write!(f, "{comma}{number}")
        })
    }
}

/// `BASE,BYTES` or the kind of a device, then perhaps `,MEMMAP`.
pub(super) fn device(value: &str) -> Option<Device> {
    let mut words = value.split(',');
    let source = match words.next()? {
        "virtio-mem" => Source::VirtioMem,
        "pc-dimm" => Source::PcDimm,
        "ivshmem" => Source::Ivshmem,
        "nvdimm" => Source::Nvdimm,
        base => Source::CarveOut { base: PhysAddr::new(number(base)?), bytes: number(words.next()?)? },
    };
    let memmap = match words.next() {
        Some(memmap) => Some(memmap_of_device(memmap)?),
        None => None,
    };
    words.next().is_none().then_some(Device { source, memmap })
}

fn memmap_of_device(value: &str) -> Option<Memmap> {
    match value {
        "altmap" => Some(Memmap::Altmap(AltmapShape::Tight)),
        "nvdimm" => Some(Memmap::Altmap(AltmapShape::Nvdimm)),
        "ram" => Some(Memmap::Ram),
        _ => None,
    }
}

/// `2,0,1`; `None` also if it names more than there can be.
pub(super) fn remove_order(value: &str) -> Option<RemoveOrder> {
    let mut order = RemoveOrder::none(0);
    value.split(',').all(|number| number.parse().is_ok_and(|number| order.push(number))).then_some(order)
}
