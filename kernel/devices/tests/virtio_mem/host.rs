//! A made-up virtio-mem device, which keeps the state of every block and panics at a request that no driver may send.

use std::cell::{Ref, RefCell, RefMut};
use std::collections::VecDeque;
use std::rc::Rc;

use devices::virtio_mem::{Config, Error, Request, Response, Transport, VirtioMem};
use vmemmap::addr::PhysAddr;

pub const MIB: u64 = 1 << 20;
pub const GIB: u64 = 1 << 30;

/// What goes wrong with one request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    /// Nothing.
    None,
    /// It is answered so, and not carried out.
    Answered(Response),
    /// It is carried out, and the answer is of a type that there is not.
    Strange,
    /// It never arrives.
    Lost,
    /// It is carried out, and the answer never arrives.
    Unanswered,
    /// The first half of its blocks is carried out, and the answer never arrives.
    Half,
    /// The host changes its request just before.
    Requested(u64),
}

/// The device's side.
pub struct Host {
    pub block_size: u64,
    pub base: u64,
    pub usable: u64,
    pub requested: u64,
    /// One a block of the region.
    blocks: Vec<bool>,
    plugged: u64,
    /// Blocks that may be plugged though the kernel does not have them: an answer was lost, or an unplug did not happen.
    excused: Vec<bool>,
    /// What becomes of the next requests; then all goes well.
    pub faults: VecDeque<Fault>,
    /// What the device says instead of its configuration, in words of 64 bits.
    pub says: Option<[u64; 7]>,
    pub log: Vec<Request>,
    pub acknowledged: usize,
    /// The largest size that the driver may plug up to: what it was told last.
    told: u64,
    /// Whether a test changed blocks behind the driver's back, which makes an UNPLUG wrong without the driver's fault.
    tampered: bool,
}

/// The wire between the two.
#[derive(Clone)]
pub struct Wire(Rc<RefCell<Host>>);

/// A device with `usable` bytes of `region_size` at `base`, of which the host requests none.
pub fn device(block_size: u64, base: u64, region_size: u64, usable: u64) -> Wire {
    let blocks = vec![false; (region_size / block_size) as usize];
    let host = Host {
        block_size,
        base,
        usable,
        requested: 0,
        excused: blocks.clone(),
        blocks,
        plugged: 0,
        faults: VecDeque::new(),
        says: None,
        log: Vec::new(),
        acknowledged: 0,
        told: 0,
        tampered: false,
    };
    Wire(Rc::new(RefCell::new(host)))
}

impl Wire {
    pub fn host(&self) -> RefMut<'_, Host> {
        self.0.borrow_mut()
    }

    pub fn look(&self) -> Ref<'_, Host> {
        self.0.borrow()
    }

    pub fn driver(&self, memory_block: Option<u64>) -> VirtioMem<Self> {
        VirtioMem::new(self.clone(), memory_block).unwrap()
    }

    /// What the driver asked since the last time.
    pub fn asked(&self) -> Vec<Request> {
        std::mem::take(&mut self.host().log)
    }
}

impl Transport for Wire {
    fn config(&mut self) -> Result<Config, Error> {
        let mut host = self.host();
        host.told = host.requested;
        let words = host.says.unwrap_or_else(|| host.words());
        Ok(Config::parse(words.map(u64::to_le_bytes).as_flattened())?)
    }

    fn request(&mut self, request: Request) -> Result<Response, Error> {
        let mut host = self.host();
        host.log.push(request);
        host.check(request);
        let lost = Err(Error::Transport { why: "the wire is cut".into() });
        let fault = host.faults.pop_front().unwrap_or(Fault::None);
        let outcome = match fault {
            Fault::None => Ok(host.carry_out(request)),
            Fault::Answered(response) => Ok(response),
            Fault::Strange => {
                host.carry_out(request);
                Err(Error::UnknownResponse { kind: 77 })
            }
            Fault::Lost => lost,
            Fault::Unanswered => {
                host.carry_out(request);
                lost
            }
            Fault::Half => {
                host.carry_out(half(request));
                lost
            }
            Fault::Requested(bytes) => {
                host.request(bytes);
                Ok(host.carry_out(request))
            }
        };
        if !matches!(fault, Fault::None | Fault::Requested(_)) {
            host.excuse(request);
        }
        outcome
    }

    fn acknowledge(&mut self) {
        self.host().acknowledged += 1;
    }
}

/// The request for the first half of its blocks, rounded up.
fn half(request: Request) -> Request {
    match request {
        Request::Plug { addr, blocks } => Request::Plug { addr, blocks: blocks.div_ceil(2) },
        Request::Unplug { addr, blocks } => Request::Unplug { addr, blocks: blocks.div_ceil(2) },
        other => other,
    }
}

impl Host {
    pub fn region_size(&self) -> u64 {
        self.blocks.len() as u64 * self.block_size
    }

    /// The host requests `bytes`; what is usable grows as far as it can.
    pub fn request(&mut self, bytes: u64) {
        self.requested = bytes;
        let usable = bytes.min(self.region_size()).next_multiple_of(self.block_size);
        self.usable = self.usable.max(usable);
    }

    pub fn plugged(&self) -> u64 {
        self.plugged
    }

    /// Whether every block of these is plugged.
    pub fn is_plugged(&self, addr: PhysAddr, bytes: u64) -> bool {
        let first = ((addr.value() - self.base) / self.block_size) as usize;
        self.blocks[first..first + (bytes / self.block_size) as usize].iter().all(|&plugged| plugged)
    }

    /// Bytes that are plugged, but excused.
    pub fn excused(&self) -> u64 {
        let both = self.blocks.iter().zip(&self.excused).filter(|(plugged, excused)| **plugged && **excused);
        both.count() as u64 * self.block_size
    }

    /// The state of these blocks, behind the driver's back.
    pub fn set(&mut self, addr: u64, bytes: u64, plugged: bool) {
        let first = ((addr - self.base) / self.block_size) as usize;
        self.change(first..first + (bytes / self.block_size) as usize, plugged);
        self.tampered = true;
    }

    pub fn words(&self) -> [u64; 7] {
        // The word of node_id and padding is to be ignored.
        [self.block_size, u64::MAX, self.base, self.region_size(), self.usable, self.plugged, self.requested]
    }

    /// What no driver may ask: VIRTIO 1.2, sections 5.15.6.1 to 5.15.6.4.
    fn check(&self, request: Request) {
        match request {
            Request::Plug { addr, blocks } => {
                let indices = self.indices(addr, blocks);
                assert!(!self.blocks[indices].contains(&true), "{request}: plugged already");
                let after = self.plugged + u64::from(blocks) * self.block_size;
                assert!(after <= self.told, "{request}: {after:#x} bytes, but {:#x} were requested", self.told);
            }
            Request::Unplug { addr, blocks } => {
                let unplugged = self.blocks[self.indices(addr, blocks)].contains(&false);
                assert!(self.tampered || !unplugged, "{request}: unplugged already");
            }
            Request::State { addr, blocks } => drop(self.indices(addr, blocks)),
            Request::UnplugAll => {}
        }
    }

    fn indices(&self, addr: PhysAddr, blocks: u16) -> std::ops::Range<usize> {
        assert!(addr.is_aligned(self.block_size) && blocks > 0, "{blocks} blocks at {addr}");
        let first = addr.value().checked_sub(self.base).expect("an address inside the region") / self.block_size;
        let end = first + u64::from(blocks);
        assert!(end * self.block_size <= self.usable, "{blocks} blocks at {addr} end outside the usable region");
        first as usize..end as usize
    }

    fn carry_out(&mut self, request: Request) -> Response {
        let mut state = 0x5555;
        match request {
            Request::Plug { blocks, .. } if self.plugged + u64::from(blocks) * self.block_size > self.requested => {
                return Response::Nack;
            }
            Request::Plug { addr, blocks } => self.change(self.indices(addr, blocks), true),
            Request::Unplug { addr, blocks } => self.change(self.indices(addr, blocks), false),
            Request::UnplugAll => {
                self.change(0..self.blocks.len(), false);
                self.usable = 0;
                self.request(self.requested);
            }
            Request::State { addr, blocks } => {
                let blocks = &self.blocks[self.indices(addr, blocks)];
                state = match (blocks.contains(&true), blocks.contains(&false)) {
                    (true, false) => 0,
                    (false, _) => 1,
                    (true, true) => 2,
                };
            }
        }
        Response::Ack { state }
    }

    fn change(&mut self, indices: std::ops::Range<usize>, plugged: bool) {
        for index in indices {
            let before = std::mem::replace(&mut self.blocks[index], plugged);
            self.plugged = self.plugged + u64::from(plugged) * self.block_size - u64::from(before) * self.block_size;
            self.excused[index] = false;
        }
    }

    fn excuse(&mut self, request: Request) {
        if let Request::Plug { addr, blocks } | Request::Unplug { addr, blocks } = request {
            let indices = self.indices(addr, blocks);
            self.excused[indices].fill(true);
        }
    }
}
