//! The device memory that the boot arguments name: ranges, where the struct pages of each go, and in which order the
//! ranges are taken away.

use core::fmt;

use vmemmap::addr::PhysAddr;

use super::number;

/// How many ranges of device memory a run can have.
pub const MOST_DEVICES: usize = 8;

/// A range as the user gave it: it may be empty, wrap or lie anywhere.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Device {
    /// Its first byte.
    pub base: PhysAddr,
    /// Its length in bytes.
    pub bytes: u64,
    /// Where its struct pages lie; as all others' if nothing is said.
    pub memmap: Option<Memmap>,
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
    pub(super) fn is_of(&self, devices: usize) -> bool {
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

/// `BASE,BYTES` or `BASE,BYTES,MEMMAP`.
pub(super) fn device(value: &str) -> Option<Device> {
    let (base, rest) = value.split_once(',')?;
    let (bytes, memmap) = match rest.split_once(',') {
        Some((bytes, memmap)) => (bytes, Some(memmap_of_device(memmap)?)),
        None => (rest, None),
    };
    Some(Device { base: PhysAddr::new(number(base)?), bytes: number(bytes)?, memmap })
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
