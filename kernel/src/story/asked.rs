//! What the devices bring, and what the boot arguments ask for it.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use vmemmap::addr::PhysRange;
use vmemmap::hotplug::{Request, Summary};
use vmemmap::seam::Machine;

use super::{plan, request};
use crate::boot::{BootInfo, refuse};
use crate::config::ConfigError;
use crate::device::{Answer, Attached, Change};
use crate::memory::MemoryMap;

/// A range of device memory, and what the boot arguments ask for it.
pub struct Asked {
    /// Whose it is.
    pub device: usize,
    /// The kind of that device.
    pub source: &'static str,
    /// The range.
    pub range: PhysRange,
    /// What is asked of the library.
    pub request: Request,
    /// What words about it begin with: nothing if it is the only one.
    pub name: String,
}

/// What all devices bring at the start, device by device, and the plan to add each; refuses what can't be planned. A device
/// is told that its memory is wanted even if nothing but plans is: it would not go on to the next range.
pub fn asked<M: Machine>(
    boot: &BootInfo,
    map: &mut MemoryMap<M>,
    attached: &mut [Attached],
) -> (Vec<Asked>, Vec<Summary>) {
    let several = attached.len() > 1;
    let (mut all, mut plans) = (Vec::new(), Vec::new());
    for (device, Attached { memory, memmap, .. }) in attached.iter_mut().enumerate() {
        let source = memory.source();
        while let Some(change) = memory.poll().unwrap_or_else(|error| refuse(error)) {
            let Change::Appeared(range) = change else {
                refuse(format_args!("{source} asks {change:?} before anything was added"))
            };
            // SAFETY: the device has brought it, and nobody else knows of it: the plan checks it against RAM and against
            // all others.
            let request = unsafe { request(&boot.config, map, range, *memmap, memory.front()) };
            let name = if several { format!("device {}: ", all.len()) } else { String::new() };
            plans.push(plan::one(map, request, &name));
            memory.agree(change, Answer::Done).unwrap_or_else(|error| refuse(format_args!("{name}{error}")));
            all.push(Asked { device, source, range, request, name });
        }
    }
    if all.is_empty() {
        refuse("no device brings any memory: give it some, or plug it in while a live kernel runs")
    }
    if all.len() > 1 {
        all.iter_mut().enumerate().for_each(|(number, asked)| asked.name = format!("device {number}: "));
    }
    (all, plans)
}

/// The order of the boot arguments, or last in, first out.
pub fn removal(boot: &BootInfo, devices: usize) -> Vec<usize> {
    match boot.config.remove_order {
        Some(order) if !order.is_of(devices) => refuse(ConfigError::RemoveOrder { order, devices }),
        Some(order) => order.as_slice().iter().map(|&device| usize::from(device)).collect(),
        None => (0..devices).rev().collect(),
    }
}
