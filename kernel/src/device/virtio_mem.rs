//! virtio-mem on the PCI bus (VIRTIO 1.2, 5.15).

use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;

use devices::virtio_mem::{CONFIG_BYTES, Config, Error, RESPONSE_BYTES, Request, Response, VirtioMem};
use virtio_drivers::queue::VirtQueue;
use virtio_drivers::transport::Transport as _;
use virtio_drivers::transport::pci::PciTransport;
use virtio_drivers::transport::pci::bus::DeviceFunction;
use vmemmap::seam::Machine;

use super::Found;
use crate::memory::MemoryMap;
use crate::pci::Bus;
use crate::virtio::Memory;
use crate::window;

/// Red Hat, for QEMU.
const VENDOR: u16 = 0x1af4;
/// virtio 1.0 device numbers begin at 0x1040; 24 is memory.
const DEVICE: u16 = 0x1040 + 24;
/// The one queue: requests of ours.
const GUEST_REQUESTS: u16 = 0;
/// Request and answer.
const QUEUE_SIZE: usize = 2;

bitflags::bitflags! {
    /// What we understand of the device's features.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    struct Features: u64 {
        /// Memory that is not plugged must not be touched: we never do.
        const UNPLUGGED_INACCESSIBLE = 1 << 1;
        const VERSION_1 = 1 << 32;
    }
}

/// The functions of the bus that are virtio-mem devices.
pub fn functions(bus: &Bus) -> alloc::vec::Vec<DeviceFunction> {
    bus.functions(VENDOR, &[DEVICE])
}

/// Wakes the device at `function`.
///
/// # Errors
///
/// In words: the device says something that can't be, or there is no room for its registers or its queue.
pub fn attach<M: Machine>(
    bus: &mut Bus,
    map: &mut MemoryMap<M>,
    function: DeviceFunction,
    memory_block: Option<u64>,
) -> Result<Found, String> {
    let words = |error: &dyn core::fmt::Display| format!("virtio-mem at PCI {function}: {error}");
    for range in bus.assign(function)?.into_iter().flatten() {
        window::registers(map, range.start(), range.bytes()).map_err(|error| words(&error))?;
    }
    let transport = PciTransport::new::<Memory, _>(bus.root(), function).map_err(|error| words(&error))?;
    let requests = Requests::start(transport).map_err(|error| words(&error))?;
    let memory = VirtioMem::new(requests, memory_block).map_err(|error| words(&error))?;
    Ok(Found { memory: Box::new(memory), interrupt: bus.interrupt(function) })
}

/// The device's registers and its queue.
struct Requests {
    transport: PciTransport,
    queue: VirtQueue<Memory, QUEUE_SIZE>,
}

impl Requests {
    fn start(mut transport: PciTransport) -> virtio_drivers::Result<Self> {
        transport.begin_init(Features::VERSION_1 | Features::UNPLUGGED_INACCESSIBLE);
        let mut queue = VirtQueue::new(&mut transport, GUEST_REQUESTS, false, false)?;
        // Answers are waited for; the interrupt is for the configuration alone.
        queue.set_dev_notify(false);
        transport.finish_init();
        Ok(Self { transport, queue })
    }
}

impl Requests {
    /// The configuration space, word by word.
    fn read_config(&self) -> virtio_drivers::Result<[u8; CONFIG_BYTES]> {
        let mut bytes = [0; CONFIG_BYTES];
        let (words, _) = bytes.as_chunks_mut();
        for (index, word) in words.iter_mut().enumerate() {
            *word = self.transport.read_config_space::<u32>(index * 4)?.to_le_bytes();
        }
        Ok(bytes)
    }
}

impl devices::virtio_mem::Transport for Requests {
    fn config(&mut self) -> Result<Config, Error> {
        let bytes = self.transport.read_consistent(|| self.read_config()).map_err(broken)?;
        Ok(Config::parse(&bytes)?)
    }

    fn request(&mut self, request: Request) -> Result<Response, Error> {
        let mut answer = [0; RESPONSE_BYTES];
        let sent = self.queue.add_notify_wait_pop(&[&request.encode()], &mut [&mut answer], &mut self.transport);
        sent.map_err(broken)?;
        Response::decode(&answer)
    }

    fn acknowledge(&mut self) {
        self.transport.ack_interrupt();
    }
}

fn broken(error: virtio_drivers::Error) -> Error {
    Error::Transport { why: format!("{error}") }
}
