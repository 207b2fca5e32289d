//! The tables that exist when the watching begins.

use crate::addr::{PhysAddr, VirtAddr};
use crate::descriptor::Descriptor;
use crate::granule::Level;
use crate::regime::Regime;
use crate::trace::Event;

/// Tells every table below `root` and its slots that are not zero, as a trace lists them at its start.
pub fn existing(regime: Regime, root: PhysAddr, read: &impl Fn(PhysAddr) -> u64, tell: &mut impl FnMut(Event)) {
    tables(regime, (root, regime.start_level(), regime.lowest()), read, tell);
}

fn tables(
    regime: Regime,
    (table, level, va): (PhysAddr, Level, VirtAddr),
    read: &impl Fn(PhysAddr) -> u64,
    tell: &mut impl FnMut(Event),
) {
    tell(Event::Table { pa: table.value(), level: level.number(), va: va.value() });
    let slots = (0..regime.entries(level)).map(|index| (index, table.add(index * 8)));
    for (_, slot) in slots.clone() {
        let value = read(slot);
        if value != 0 {
            tell(Event::Slot { pa: slot.value(), value });
        }
    }
    for (index, slot) in slots {
        let descriptor = Descriptor::from_bits(read(slot));
        if descriptor.is_table(level) {
            let below = descriptor.address(regime.granule(), regime.output());
            let start = va.add(index << regime.granule().level_shift(level));
            tables(regime, (below, level.child(), start), read, tell);
        }
    }
}
