//! What a case finds: the memory map of a machine that has booted, and device memory to add.

use kernel::boot::{BootInfo, refuse};
use kernel::config::{Device, Source};
use kernel::exit::{self, Status};
use kernel::memory::{MemoryMap, bring_up};
use kernel::println;
use kernel::prove::{Expected, Failures};
use vmemmap::addr::{PhysAddr, PhysRange, VirtAddr};
use vmemmap::altmap::Altmap;
use vmemmap::granule::Granule;
use vmemmap::hotplug::{Kind, LINEAR_PROTECTION, Region, Request, View};
use vmemmap::mapping::{self, Mapping};
use vmemmap::seam::Machine;
use vmemmap_aarch64::El1;

/// A booted machine.
pub struct World<M> {
    pub boot: &'static BootInfo,
    pub map: MemoryMap<M>,
    pub device: PhysRange,
}

impl<G: Granule, M: Machine<Granule = G>> World<M> {
    /// The world of this boot, on the machine that `around` makes of EL1's.
    pub fn new(boot: &'static BootInfo, around: impl FnOnce(El1<G>) -> M) -> Self {
        let map = bring_up(boot, around).unwrap_or_else(|error| refuse(error));
        let Some(&Device { source: Source::CarveOut { base, bytes }, .. }) = boot.config.devices.as_slice().first()
        else {
            refuse("a test needs device=BASE,BYTES")
        };
        let device = PhysRange::new(base, bytes).unwrap_or_else(|| refuse("the device wraps"));
        Self { boot, map, device }
    }
}

impl<M: Machine> World<M> {
    /// A request for part of the device, with its struct pages in RAM.
    pub fn ask(&self, range: PhysRange) -> Request {
        // SAFETY: the boot arguments set the device aside for the test.
        unsafe { Request::new(range) }.policy(self.boot.config.leaf)
    }

    /// A request for part of the device, with an altmap that is just large enough behind `reserve` frames.
    pub fn request(&self, range: PhysRange, reserve: u64) -> Request {
        let policy = self.boot.config.leaf;
        self.ask(range).altmap(Altmap::tight(self.map.layout(), range, policy, reserve))
    }

    /// Adds a range, which must work.
    pub fn add<K: Kind>(&mut self, request: Request<K>) -> Region {
        match self.map.plan(request) {
            Ok(plan) => plan.commit().unwrap_or_else(|error| panic!("commit: {error}")),
            Err(error) => panic!("plan: {error}"),
        }
    }

    /// Removes a region, which must work.
    pub fn remove(&mut self, region: Region) {
        self.map.remove(region).unwrap_or_else(|error| panic!("remove: {error}"));
    }

    /// Proves the struct pages of a region that nobody uses yet; returns how many pages of the vmemmap were right.
    pub fn check_struct_pages(&self, region: &Region, failures: &mut Failures) -> u64 {
        let (layout, range, storage) = (self.map.layout(), region.range(), region.storage());
        Expected { layout, range, storage }.check(failures)
    }

    /// The `index`-th of `count` equal parts of the device.
    pub fn part(&self, index: u64, count: u64) -> PhysRange {
        let bytes = self.device.bytes() / count;
        PhysRange::new(self.device.start().add(index * bytes), bytes).expect("a part of a range")
    }

    /// A reader's view of the memory map.
    pub fn view(&self) -> View<El1<M::Granule>> {
        let offset = self.map.layout().linear_address(PhysAddr::new(0)).value();
        // SAFETY: the linear map shows all of RAM at this offset, to this machine as to the memory map's.
        unsafe { self.map.view(El1::new(offset)) }
    }

    /// The linear map of a range.
    pub fn linear(&self, range: PhysRange) -> Mapping {
        let regime = self.map.tables().regime();
        Mapping::linear(regime, self.map.layout(), range, self.boot.config.leaf, LINEAR_PROTECTION)
    }

    /// Runs `work` while the linear map shows `range`, which is not added.
    pub fn with_linear(&mut self, range: PhysRange, work: impl FnOnce(&Self)) {
        let linear = self.linear(range);
        let mut frames = kernel::memory::RamFrames::current();
        mapping::map(self.map.tables_mut(), &mut frames, &linear).unwrap_or_else(|error| panic!("{error}"));
        work(self);
        // SAFETY: it was made above, and `work` is done with it.
        unsafe { mapping::unmap(self.map.tables_mut(), &mut frames, &linear) }
            .unwrap_or_else(|error| panic!("{error}"));
    }

    /// The words of memory that the linear map shows at `range`.
    pub fn words(&self, range: PhysRange) -> impl Iterator<Item = *mut u64> {
        let start = self.map.layout().linear_address(range.start());
        (0..range.bytes()).step_by(8).map(move |offset| pointer(start.add(offset)))
    }
}

/// An address as a pointer.
pub fn pointer(address: VirtAddr) -> *mut u64 {
    core::ptr::with_exposed_provenance_mut(address.value() as usize)
}

/// Ends the boot as failed if anything was found, else goes on.
pub fn expect_none(failures: &Failures) {
    if failures.is_empty() {
        return;
    }
    for failure in failures.iter().take(8) {
        println!("@fail {failure}");
    }
    exit::exit(Status::Fail)
}
