//! `random N`: so many random steps, and then the books: what the kernel lists is what its events make, and QEMU has
//! plugged as much as the kernel has.

use super::Failure;
use super::command::Command;
use super::random::{Dimms, Growing, Random, World};
use super::session::Session;
use crate::device::Kind;
use crate::screen::{plural, row};
use crate::size::human;

/// How many steps of each kind there were.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Tally {
    plugs: u64,
    unplugs: u64,
    holds: u64,
    releases: u64,
    /// Of them all, those that did not come true.
    refused: u64,
}

impl Tally {
    fn count(&mut self, command: &Command) {
        let of = match command {
            Command::Plug { .. } => &mut self.plugs,
            Command::Hold(_) => &mut self.holds,
            Command::Release(_) => &mut self.releases,
            _ => &mut self.unplugs,
        };
        *of += 1;
    }
}

impl Session<'_> {
    /// Does `steps` random steps. One that does not come true is legal, since memory may be held; books that differ are not.
    pub(super) fn random(&mut self, steps: u64, seed: u64) -> Result<(), Failure> {
        self.screen.quiet = true;
        let done = self.steps(steps, seed);
        self.screen.quiet = false;
        let tally = done?;
        let Tally { plugs, unplugs, holds, releases, refused } = tally;
        let kinds = [(plugs, "plug"), (unplugs, "unplug"), (holds, "hold"), (releases, "release")];
        let kinds = kinds.map(|(count, kind)| plural(count, kind)).join(", ");
        let all = plural(steps, "step");
        self.screen
            .say(&row("random", &format!("{all} of seed {seed}: {kinds}; {refused} could not be; the books agree")));
        Ok(())
    }

    fn steps(&mut self, steps: u64, seed: u64) -> Result<Tally, Failure> {
        let (mut random, mut tally) = (Random::new(seed), Tally::default());
        for _ in 0..steps {
            let world = self.world()?;
            let nothing = || Failure::command("no device can change, and nothing is there to be held");
            let command = random.step(&world).ok_or_else(nothing)?;
            tally.count(&command);
            match self.step(&command, true) {
                Ok(()) => {}
                Err(Failure::Command(_)) => tally.refused += 1,
                Err(session) => return Err(session),
            }
        }
        self.books().map(|()| tally)
    }

    fn world(&mut self) -> Result<World, Failure> {
        let mut world = World {
            regions: self.ledger.places().map(|(base, _)| base).collect(),
            held: self.ledger.places().filter(|(_, place)| place.holders > 0).map(|(base, _)| base).collect(),
            ..World::default()
        };
        for (device, name) in self.devices.iter().zip(&self.screen.names) {
            let (name, most, block) = (name.clone(), device.most, device.block);
            match device.kind {
                Kind::VirtioMem => {
                    let requested = self.monitor.requested(&name)?;
                    world.growing.push(Growing { name, requested, most, block });
                }
                Kind::PcDimm => {
                    let there = self.dimms.there.iter().map(|(name, _)| name.clone()).collect();
                    world.dimms = Some(Dimms { name, there, room: most.saturating_sub(self.dimms.bytes()) });
                }
                Kind::CarveOut | Kind::Ivshmem | Kind::Nvdimm => {}
            }
        }
        Ok(world)
    }

    /// Whether the kernel's list, its events and QEMU agree.
    fn books(&mut self) -> Result<(), Failure> {
        let shown = self.shown()?;
        if let Some(difference) = self.ledger.difference(&shown) {
            return Err(Failure::command(difference));
        }
        for (number, name) in self.screen.names.iter().enumerate() {
            if self.devices[number].kind != Kind::VirtioMem {
                continue;
            }
            let (plugged, ours) = (self.monitor.plugged(name)?, self.ledger.bytes_of(number));
            if plugged != ours {
                let (plugged, ours) = (human(plugged), human(ours));
                return Err(Failure::command(format!("{name}: QEMU has {plugged} plugged, the kernel has {ours}")));
            }
        }
        Ok(())
    }
}
