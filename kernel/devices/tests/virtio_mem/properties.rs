//! The driver against hosts that change their mind between any two calls and fail at random, and a kernel that refuses at
//! random.

use devices::Answer;
use devices::virtio_mem::{CONFIG_BYTES, Config, Error, Request, Response, Transport, VirtioMem};
use proptest::collection::vec;
use proptest::prelude::*;

use crate::host::{Fault, MIB, Wire, device};
use crate::kernel::{Kernel, Told};

/// What hot-plug goes by.
const HOT_PLUG: u64 = 2 * MIB;

#[derive(Clone, Debug)]
struct Case {
    block_size: u64,
    /// The region's place and size, in blocks.
    base: u64,
    blocks: u64,
    /// In units.
    memory_block: Option<u64>,
    steps: Vec<Step>,
}

/// One interrupt, with everything that happens while it is served.
#[derive(Clone, Debug)]
struct Step {
    requested: u64,
    faults: Vec<Fault>,
    /// Before each answer of the kernel: what the host requests now, if that changes.
    meanwhile: Vec<Option<u64>>,
    refused: Vec<bool>,
}

/// Sizes around the region of a case: whole blocks of 1 MiB mostly.
fn sizes() -> impl Strategy<Value = u64> {
    prop_oneof![8 => (0..=80u64).prop_map(|size| size * MIB), 1 => 0..=80 * MIB, 1 => Just(u64::MAX)]
}

fn faults() -> impl Strategy<Value = Fault> {
    let answers = [Response::Nack, Response::Busy, Response::Error].map(Fault::Answered);
    let lost = [Fault::Lost, Fault::Unanswered, Fault::Half, Fault::Strange];
    prop_oneof![
        8 => Just(Fault::None),
        2 => proptest::sample::select(answers.to_vec()),
        1 => proptest::sample::select(lost.to_vec()),
        1 => sizes().prop_map(Fault::Requested),
    ]
}

fn steps() -> impl Strategy<Value = Step> {
    let meanwhile = vec(proptest::option::weighted(0.2, sizes()), 0..8);
    let (faults, refused) = (vec(faults(), 0..12), vec(proptest::bool::weighted(0.3), 0..8));
    (sizes(), faults, meanwhile, refused).prop_map(|(requested, faults, meanwhile, refused)| Step {
        requested,
        faults,
        meanwhile,
        refused,
    })
}

fn cases() -> impl Strategy<Value = Case> {
    let memory_block = proptest::option::of(1..=6u64);
    (19..=23u32, 0..=20u64, 0..=80u64, memory_block, vec(steps(), 1..8)).prop_map(
        |(shift, base, blocks, memory_block, steps)| Case { block_size: 1 << shift, base, blocks, memory_block, steps },
    )
}

/// A case under way.
struct Scene {
    wire: Wire,
    driver: VirtioMem<Wire>,
    kernel: Kernel,
    unit: u64,
    memory_block: Option<u64>,
}

impl Scene {
    fn new(case: &Case) -> Self {
        let unit = case.block_size.max(HOT_PLUG);
        let wire = device(case.block_size, case.base * case.block_size, case.blocks * case.block_size, 0);
        let memory_block = case.memory_block.map(|units| units * unit);
        let driver = wire.driver(memory_block);
        Self { wire, driver, kernel: Kernel::default(), unit, memory_block }
    }

    /// A round as the step has it.
    fn stormy(&mut self, step: &Step) {
        self.wire.host().request(step.requested);
        self.wire.host().faults = step.faults.iter().copied().collect();
        let (mut meanwhile, mut refused) = (step.meanwhile.iter(), step.refused.iter());
        let wire = self.wire.clone();
        self.kernel.round_with(&mut self.driver, |_| {
            if let Some(Some(bytes)) = meanwhile.next() {
                wire.host().request(*bytes);
            }
            if refused.next() == Some(&true) { Answer::Refused } else { Answer::Done }
        });
        self.check_ranges();
        let (plugged, excused) = (self.wire.look().plugged(), self.wire.look().excused());
        assert!(plugged <= self.kernel.bytes() + excused, "{plugged:#x} bytes plugged, {excused:#x} excused");
    }

    /// A round in which nothing goes wrong.
    fn calm(&mut self) -> Told {
        self.wire.host().faults.clear();
        let told = self.kernel.round(&mut self.driver);
        self.check_ranges();
        assert_eq!(self.wire.look().plugged(), self.kernel.bytes(), "the device's books and the kernel's");
        self.check_balance();
        told
    }

    fn check_ranges(&self) {
        for range in &self.kernel.added {
            assert!(self.wire.look().is_plugged(range.start(), range.bytes()), "{range} is in use and not plugged");
            assert!(range.start().is_aligned(self.unit) && range.end().is_aligned(self.unit), "{range}");
            if let Some(block) = self.memory_block {
                assert_eq!(
                    range.start().value() / block,
                    (range.end().value() - 1) / block,
                    "{range} crosses {block:#x}"
                );
            }
        }
    }

    /// No more than is requested but what is too large to go, and no less but what does not fit.
    fn check_balance(&self) {
        let host = self.wire.look();
        let (bytes, target) = (self.kernel.bytes(), host.requested - host.requested % self.unit);
        let smallest = self.kernel.added.iter().map(|range| range.bytes()).min();
        assert!(bytes <= target || smallest > Some(bytes - target), "{bytes:#x} bytes stay, {target:#x} are requested");
        let first = host.base.next_multiple_of(self.unit);
        let fits = ((host.base + host.usable).saturating_sub(first) / self.unit) * self.unit;
        assert!(bytes >= target.min(fits), "{bytes:#x} bytes of {target:#x}, {fits:#x} fit");
    }
}

fn play(case: &Case) {
    let mut scene = Scene::new(case);
    for step in &case.steps {
        scene.stormy(step);
        scene.calm();
        let again = scene.calm();
        assert!(again.changes.is_empty() && again.errors.is_empty(), "nothing has changed: {again:?}");
    }
    scene.stormy(case.steps.last().expect("a case has steps"));
    scene.wire.host().requested = 0;
    scene.calm();
    assert_eq!((scene.wire.look().plugged(), scene.kernel.bytes()), (0, 0));
}

/// A device that says anything at all.
#[derive(Clone, Debug)]
struct Wild {
    configs: Vec<Vec<u8>>,
    responses: Vec<[u8; 10]>,
    read: usize,
    asked: usize,
}

impl Transport for Wild {
    fn config(&mut self) -> Result<Config, Error> {
        self.read += 1;
        // It comes to rest, or a round would never end.
        let index = self.read.min(self.configs.len()) - 1;
        Ok(Config::parse(&self.configs[index])?)
    }

    fn request(&mut self, _: Request) -> Result<Response, Error> {
        self.asked += 1;
        // So many requests of ACK at most: a region of 2^52 bytes in blocks of one takes longer than a test has.
        Response::decode(self.responses.get(self.asked % 64).filter(|_| self.asked < 2000).unwrap_or(&[1; 10]))
    }
}

fn words() -> impl Strategy<Value = u64> {
    let (powers, units) = ((0..64u32).prop_map(|shift| 1 << shift), (0..64u64).prop_map(|units| units << 21));
    prop_oneof![any::<u64>(), powers, units, (0..4 * MIB).prop_map(|less| u64::MAX - less), Just(0)]
}

fn configs() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        4 => vec(words(), 7).prop_map(|words| words.into_iter().flat_map(u64::to_le_bytes).collect()),
        4 => (0..4u64, words(), words()).prop_map(|(node, plugged, requested)| {
            let words = [1 << 21, node, 1 << 31, 1 << 27, 1 << 26, plugged, requested];
            words.into_iter().flat_map(u64::to_le_bytes).collect()
        }),
        1 => vec(any::<u8>(), 0..=CONFIG_BYTES + 8),
    ]
}

fn responses() -> impl Strategy<Value = [u8; 10]> {
    (0..5u8, 0..4u8).prop_map(|(kind, state)| [kind, 0, 1, 2, 3, 4, 5, 6, state, 0])
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_host_and_kernel_do_the_books_agree_and_all_goes_back_at_the_end(case in cases()) {
        play(&case);
    }

    #[test]
    fn no_device_makes_the_driver_panic(
        configs in vec(configs(), 1..12),
        responses in vec(responses(), 64),
        refused in any::<u64>(),
    ) {
        let wild = Wild { configs, responses, read: 0, asked: 0 };
        if let Ok(mut driver) = VirtioMem::new(wild, None) {
            let mut kernel = Kernel::default();
            for round in 0..4 {
                let mut turn = 0;
                kernel.round_with(&mut driver, |_| {
                    turn += 1;
                    if refused >> ((turn + round) % 64) & 1 == 1 { Answer::Refused } else { Answer::Done }
                });
            }
        }
    }
}
