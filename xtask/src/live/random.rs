//! Random lives: what comes next, from a seed and from what is there.

use super::command::Command;
use crate::attach::SLOTS;

/// Hot-plug's unit.
const UNIT: u64 = vmemmap::granule::SUBSECTION_BYTES;

/// What a step is chosen from.
#[derive(Clone, Debug, Default)]
pub struct World {
    pub growing: Vec<Growing>,
    pub dimms: Option<Dimms>,
    /// First addresses of the regions that are there.
    pub regions: Vec<u64>,
    /// Of them, those that are held.
    pub held: Vec<u64>,
}

/// A virtio-mem device; all in bytes.
#[derive(Clone, Debug)]
pub struct Growing {
    pub name: String,
    pub requested: u64,
    pub most: u64,
    pub block: u64,
}

/// The DIMM slots.
#[derive(Clone, Debug)]
pub struct Dimms {
    /// What the slots are called.
    pub name: String,
    /// The DIMMs that are there.
    pub there: Vec<String>,
    /// What further DIMMs can have in all, in bytes.
    pub room: u64,
}

/// A source of steps: `SplitMix64`.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, end: u64) -> u64 {
        self.next() % end.max(1)
    }

    fn one_of<'a, T>(&mut self, all: &'a [T]) -> Option<&'a T> {
        all.get(self.below(all.len() as u64) as usize)
    }

    /// A multiple of `unit` from one to `most` bytes; small ones are as likely as large ones.
    fn size(&mut self, unit: u64, most: u64) -> Option<u64> {
        let scale = self.below(scales(unit, most)?);
        Some(self.of_scale(unit, most, scale))
    }

    /// The same, but small ones are likelier: one large DIMM would take the room of all others.
    fn small_size(&mut self, unit: u64, most: u64) -> Option<u64> {
        let below = 1 + self.below(scales(unit, most)?);
        let scale = self.below(below);
        Some(self.of_scale(unit, most, scale))
    }

    fn of_scale(&mut self, unit: u64, most: u64, scale: u64) -> u64 {
        unit * (1 + self.below((most / unit).min(1 << scale)))
    }

    /// The next step; nothing where no device can change and nothing is there.
    pub fn step(&mut self, world: &World) -> Option<Command> {
        // A kind of step that can't be now is drawn again; each kind that can be is found long before this many draws.
        (0..1000).find_map(|_| match self.below(8) {
            0..3 => self.plug(world),
            3..6 => self.unplug(world),
            6 => self.hold(world),
            _ => self.one_of(&world.held).map(|&base| Command::Release(Some(base))),
        })
    }

    /// A hold while less than a third of the regions is held: where all are, nothing can go, and soon nothing can come.
    fn hold(&mut self, world: &World) -> Option<Command> {
        let few = world.held.len() * 3 < world.regions.len();
        self.one_of(&world.regions).filter(|_| few).map(|&base| Command::Hold(Some(base)))
    }

    fn plug(&mut self, world: &World) -> Option<Command> {
        let devices = world.growing.len() + usize::from(world.dimms.is_some());
        let growing = world.growing.get(self.below(devices as u64) as usize);
        let (name, bytes) = if let Some(Growing { name, requested, most, block }) = growing {
            (name, self.size(*block, most.saturating_sub(*requested))?)
        } else {
            let dimms = world.dimms.as_ref().filter(|dimms| (dimms.there.len() as u64) < SLOTS)?;
            (&dimms.name, self.small_size(UNIT, dimms.room)?)
        };
        Some(Command::Plug { bytes, device: Some(name.clone()), at: None })
    }

    fn unplug(&mut self, world: &World) -> Option<Command> {
        let devices = world.growing.len() + usize::from(world.dimms.is_some());
        match world.growing.get(self.below(devices as u64) as usize) {
            Some(growing) => {
                let bytes = self.size(growing.block, growing.requested)?;
                Some(Command::Unplug { bytes, device: Some(growing.name.clone()) })
            }
            None => self.one_of(&world.dimms.as_ref()?.there).map(|name| Command::UnplugDimm { name: name.clone() }),
        }
    }
}

/// How many powers of two of `unit` are within `most`, if any.
fn scales(unit: u64, most: u64) -> Option<u64> {
    (most / unit).checked_ilog2().map(|scale| u64::from(scale) + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn world() -> World {
        let growing = |name: &str, requested, block| Growing { name: name.to_owned(), requested, most: 1 << 30, block };
        World {
            growing: vec![growing("virtio-mem", 6 << 20, 2 << 20), growing("virtio-mem.1", 1 << 30, 1 << 29)],
            dimms: Some(Dimms { name: "pc-dimm".to_owned(), there: vec!["dimm0".to_owned()], room: 64 << 20 }),
            regions: vec![0x8000_0000, 0x9000_0000, 0xa000_0000, 0xb000_0000],
            held: vec![0x9000_0000],
        }
    }

    fn steps(seed: u64) -> Vec<Command> {
        let mut random = Random::new(seed);
        (0..500).map(|_| random.step(&world()).unwrap()).collect()
    }

    #[test]
    fn a_seed_says_every_step() {
        assert_eq!(steps(7), steps(7));
        assert_ne!(steps(7), steps(8));
    }

    #[test]
    fn every_step_is_one_that_fits() {
        for step in steps(1) {
            let (block, most) = match &step {
                Command::Plug { device: Some(name), .. } if name == "virtio-mem" => (2 << 20, (1 << 30) - (6 << 20)),
                Command::Plug { device: Some(name), .. } if name == "pc-dimm" => (2 << 20, 64 << 20),
                Command::Unplug { device: Some(name), .. } if name == "virtio-mem" => (2 << 20, 6 << 20),
                Command::Unplug { device: Some(name), .. } if name == "virtio-mem.1" => (1 << 29, 1 << 30),
                Command::UnplugDimm { name } if name == "dimm0" => continue,
                Command::Hold(Some(0x8000_0000 | 0x9000_0000 | 0xa000_0000 | 0xb000_0000))
                | Command::Release(Some(0x9000_0000)) => continue,
                other => panic!("{other:?}"),
            };
            let (Command::Plug { bytes, .. } | Command::Unplug { bytes, .. }) = step else { unreachable!() };
            assert!(bytes > 0 && bytes.is_multiple_of(block) && bytes <= most, "{bytes:#x} of {most:#x}");
        }
    }

    #[test]
    fn every_kind_of_step_comes() {
        let all = steps(3);
        let has = |kind: fn(&Command) -> bool| all.iter().filter(|step| kind(step)).count() > 10;
        assert!(has(|step| matches!(step, Command::Plug { device: Some(name), .. } if name == "pc-dimm")));
        assert!(has(|step| matches!(step, Command::Plug { bytes: 0x0040_0000.., .. })), "large ones too");
        assert!(has(|step| matches!(step, Command::UnplugDimm { .. })));
        assert!(has(|step| matches!(step, Command::Unplug { .. })));
        assert!(has(|step| matches!(step, Command::Hold(_))) && has(|step| matches!(step, Command::Release(_))));
    }

    #[test]
    fn releases_are_as_many_as_holds_and_two_thirds_are_free() {
        let mut random = Random::new(3);
        let all: Vec<_> = (0..4000).filter_map(|_| random.step(&world())).collect();
        let count = |kind: fn(&Command) -> bool| all.iter().filter(|step| kind(step)).count();
        let holds = count(|step| matches!(step, Command::Hold(_)));
        let releases = count(|step| matches!(step, Command::Release(_)));
        assert!(holds.abs_diff(releases) < holds / 5, "{holds} holds, {releases} releases");
        let held = World { held: vec![0x8000_0000, 0x9000_0000], ..world() };
        let holds = (0..500).filter(|_| matches!(random.step(&held), Some(Command::Hold(_)))).count();
        assert_eq!(holds, 0, "2 of 4 are held");
    }

    #[test]
    fn dimms_are_small_more_often_than_other_growth() {
        let (mut random, unit) = (Random::new(1), 2 << 20);
        let mut large = |size: fn(&mut Random, u64, u64) -> Option<u64>| {
            (0..1000).filter(|_| size(&mut random, unit, 64 << 30).unwrap() >= 1 << 30).count()
        };
        let [dimms, others] = [large(Random::small_size), large(Random::size)];
        assert!(dimms * 2 < others && dimms > 50, "{dimms} and {others} of 1000 have a GiB");
    }

    #[test]
    fn where_nothing_can_change_there_is_no_step() {
        assert_eq!(Random::new(1).step(&World::default()), None);
        let full = Dimms { name: "pc-dimm".to_owned(), there: Vec::new(), room: UNIT - 1 };
        assert_eq!(Random::new(1).step(&World { dimms: Some(full), ..World::default() }), None);
        let growing = world().growing.remove(1);
        let step = Random::new(1).step(&World { growing: vec![growing], ..World::default() });
        assert!(matches!(step, Some(Command::Unplug { .. })), "{step:?}");
    }
}
