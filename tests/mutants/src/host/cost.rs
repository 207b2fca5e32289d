//! I8: no operation makes every CPU forget everything for the sake of a few leaves. (One that did would pass every rule.)

use vmemmap::tlb::most_single_invalidations;
use vmemmap::trace::{Event, Header};

use super::stage::Finding;

/// What one phase has done.
#[derive(Clone, Copy, Default)]
struct Bill {
    cleared: u64,
    everything: u64,
}

/// Judges the phases of a trace.
pub fn judge(header: Header, events: &[Event]) -> Option<Finding> {
    let mut bill = Bill::default();
    for event in events {
        match *event {
            Event::Begin { .. } => bill = Bill::default(),
            Event::Write { old, new, .. } => bill.cleared += u64::from(old & 1 == 1 && new & 1 == 0),
            Event::Tlbi { op, .. } if op.starts_with("vmalle1is") => bill.everything += 1,
            Event::End { op, .. } => {
                let allowed = u64::from(bill.cleared > most_single_invalidations(header.granule));
                if bill.everything > allowed {
                    let Bill { cleared, everything } = bill;
                    let why = format!("{everything} times everything forgotten in {op:?}, which cleared {cleared}");
                    return Some(Finding { code: "I8", why });
                }
                bill = Bill::default();
            }
            _ => {}
        }
    }
    None
}
