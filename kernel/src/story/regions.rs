//! The regions of the devices that are added, by the number of the device.

use alloc::vec::Vec;

use vmemmap::hotplug::Region;

/// A region, or nothing where the device has been removed.
#[derive(Debug, Default)]
pub struct Regions(Vec<Option<Region>>);

impl Regions {
    /// That of the next device.
    pub fn push(&mut self, region: Region) {
        self.0.push(Some(region));
    }

    /// That of `device`, to be removed.
    pub fn take(&mut self, device: usize) -> Region {
        self.0[device].take().expect("an order of removal names each device once")
    }

    /// That of `device`, which is still there.
    pub fn of(&self, device: usize) -> &Region {
        self.0[device].as_ref().expect("it has not been removed")
    }

    /// The devices that are still there.
    pub fn there(&self) -> Vec<usize> {
        self.0.iter().enumerate().filter_map(|(device, region)| region.as_ref().map(|_| device)).collect()
    }
}
