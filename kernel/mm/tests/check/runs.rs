//! The core itself: it keeps the protocol, and nothing of what it does can be left out.

use vmemmap::addr::{PhysAddr, PhysRange};
use vmemmap::altmap::Altmap;
use vmemmap::check::{Check, Rule};
use vmemmap::descriptor::OutputFormat;
use vmemmap::granule::{Granule, GranuleSize, K4, K16, K64};
use vmemmap::hotplug::{Hotplug, Request};
use vmemmap::layout::Layout;
use vmemmap::leaf::LeafPolicy;
use vmemmap::meta::StructPage;
use vmemmap::observe::{self, Observed, Observer};
use vmemmap::regime::Regime;
use vmemmap::seam::Dsb;
use vmemmap::sim::{self, World};
use vmemmap::table::Tables;
use vmemmap::trace::{Event, Header, Word};

use crate::tape::{first_wrong, judge, matching, replay};

const MIB: u64 = 1 << 20;
const DEVICE: u64 = 4 << 30;

/// The rows of the good runs: VA bits, output bits.
/// (52, 48): LPA2 on a CPU with fewer physical addresses.
fn forms(granule: GranuleSize) -> Vec<(u32, u32)> {
    match granule {
        GranuleSize::K4 => vec![(39, 40), (48, 48), (52, 48), (52, 52)],
        GranuleSize::K16 => vec![(36, 40), (47, 48), (48, 48), (52, 52)],
        GranuleSize::K64 => vec![(42, 44), (48, 48), (52, 52)],
    }
}

fn regime(granule: GranuleSize, va_bits: u32, pa_bits: u32) -> Regime {
    let output = match granule {
        _ if pa_bits.max(va_bits) <= 48 => OutputFormat::Bits48,
        GranuleSize::K64 => OutputFormat::Lpa,
        _ => OutputFormat::Lpa2,
    };
    Regime::new(granule, va_bits, output).unwrap()
}

/// A run of the core.
#[derive(Clone, Copy, Debug)]
struct Run {
    va_bits: u32,
    pa_bits: u32,
    policy: LeafPolicy,
    altmap: bool,
    /// On CPUs with invalidations by range.
    ranges: bool,
}

/// What the core does: boot RAM, two neighbours that share tables, one of them removed, added again, both removed.
fn core_run<G: Granule>(Run { va_bits, pa_bits, policy, altmap, ranges }: Run) -> Vec<Event> {
    let world = World::new(regime(G::SIZE, va_bits, pa_bits), pa_bits, 1);
    world.set_range_invalidations(ranges);
    world.keep_events();
    // SAFETY: the world is ours.
    let mut tables = unsafe { Tables::adopt(world.cpu::<G>(0), world.root(), world.regime()) };
    tables.come_online(world.ips());
    let layout = Layout::linux(G::SIZE, va_bits, 0);
    let mut memory = Hotplug::<_, _, StructPage>::new(tables, world.ram(), layout, pa_bits).unwrap();
    memory.add_boot_ram(PhysRange::new(PhysAddr::new(1 << 30), 64 * MIB).unwrap(), policy).unwrap();
    let ask = |number: u64| {
        let range = PhysRange::new(PhysAddr::new(DEVICE + number * 64 * MIB), 64 * MIB).unwrap();
        // SAFETY: so is the range.
        let request = unsafe { Request::new(range) }.policy(policy);
        if altmap { request.altmap(Altmap::tight(&layout, range, policy, number)) } else { request }
    };
    let first = memory.plan(ask(0)).unwrap().commit().unwrap();
    let second = memory.plan(ask(1)).unwrap().commit().unwrap();
    memory.remove(first).unwrap();
    let first = memory.plan(ask(0)).unwrap().commit().unwrap();
    memory.remove(second).unwrap();
    memory.remove(first).unwrap();
    world.events()
}

fn all_granules(check: impl Fn(GranuleSize, Run)) {
    for granule in GranuleSize::ALL {
        for (va_bits, pa_bits) in forms(granule) {
            for policy in [LeafPolicy::Largest, LeafPolicy::Linux, LeafPolicy::Pages] {
                for (altmap, ranges) in [(true, false), (false, false), (true, true), (false, true)] {
                    check(granule, Run { va_bits, pa_bits, policy, altmap, ranges });
                }
            }
        }
    }
}

fn events_of(granule: GranuleSize, run: Run) -> Vec<Event> {
    match granule {
        GranuleSize::K4 => core_run::<K4>(run),
        GranuleSize::K16 => core_run::<K16>(run),
        GranuleSize::K64 => core_run::<K64>(run),
    }
}

#[test]
fn the_core_keeps_the_protocol_at_every_granule_with_every_leaf() {
    all_granules(|granule, run| {
        let events = events_of(granule, run);
        let (check, legal) = judge(&events);
        let name = format!("{granule}, {run:?}");
        assert_eq!(check.broken(), None, "{name}: event {legal}, {:?}", events.get(legal));
        assert!(check.judged() > 100, "{name}: {} events", check.judged());
        assert_eq!(first_wrong(&events), None, "{name}: says the adversary");
    });
}

/// Where the neighbour goes and comes back, tables stay: there every barrier and every TLBI is needed.
#[test]
fn no_barrier_and_no_tlbi_of_the_core_can_be_left_out() {
    let needed = |event: &Event| matches!(event, Event::Dsb { .. } | Event::Isb { .. } | Event::Tlbi { .. });
    let is =
        |event: &Event, name: &str| matches!(event, Event::Begin { op, .. } | Event::End { op, .. } if **op == *name);
    for granule in GranuleSize::ALL {
        for (policy, ranges) in [
            (LeafPolicy::Largest, false),
            (LeafPolicy::Pages, false),
            (LeafPolicy::Largest, true),
            (LeafPolicy::Pages, true),
        ] {
            let run = Run { va_bits: 48, pa_bits: 48, policy, altmap: true, ranges };
            let events = events_of(granule, run);
            let start = events.iter().position(|event| is(event, "remove")).unwrap();
            let end = start + events[start..].iter().rposition(|event| is(event, "add")).unwrap();
            let missing: Vec<usize> = (start..end).filter(|number| needed(&events[*number])).collect();
            assert!(missing.len() > 10, "{granule}");
            // Hundreds of single invalidations are one like the other.
            let step = if policy == LeafPolicy::Pages && !ranges { 37 } else { 1 };
            for number in missing.into_iter().step_by(step) {
                let mut damaged = events.clone();
                let gone = damaged.remove(number);
                let (check, legal) = judge(&damaged);
                assert!(check.broken().is_some(), "{granule}: {gone} can be left out");
                replay(&check);
                let (rule, window) = (check.broken().unwrap().rule, check.window());
                let found = adversarys(rule, &window).map(sim::Rule::code);
                assert!(
                    found.is_some_and(|code| matching(rule).contains(&code)),
                    "{granule}: {gone}: {rule:?}: {found:?}"
                );
                let at = (window.len() + number).checked_sub(legal + 1);
                let mended = at.filter(|at| kept_from(&window) <= *at).map(|at| with(&window, at, gone));
                let wrong = mended.as_deref().and_then(first_wrong);
                assert_eq!(wrong, None, "{granule}: {gone}: {rule:?}: put back, still wrong");
            }
        }
    }
}

/// Where the last 64 events begin.
fn kept_from(window: &[Event]) -> usize {
    window.len().saturating_sub(64)
}

/// The events, with one put in.
fn with(events: &[Event], at: usize, event: Event) -> Vec<Event> {
    [&events[..at], &[event], &events[at..]].concat()
}

/// What the adversary finds wrong in what the checker kept, at the latest when the operation ends there. Where a link is cut over
/// leaves that are not forgotten, it ends before that: the invalidation of the link, for want of which the adversary would object
/// otherwise, may take such leaves too.
fn adversarys(rule: Rule, window: &[Event]) -> Option<sim::Rule> {
    let cut = usize::from(rule == Rule::Children);
    let end = Event::End { cpu: 0, op: Word::new("remove"), result: 0 };
    first_wrong(&[&window[..window.len() - cut], &[end]].concat())
}

/// The checker as an observer.
#[test]
fn an_observer_judges_what_the_machine_is_asked() {
    let world = World::new(regime(GranuleSize::K64, 48, 48), 48, 1);
    let header = Header { granule: GranuleSize::K64, va_bits: 48, pa_bits: 48, cpus: 1 };
    let machine = Observed::new(world.cpu::<K64>(0), Check::new(header).unwrap());
    // SAFETY: the world is ours.
    let mut tables = unsafe { Tables::adopt(machine, world.root(), world.regime()) };
    tables.come_online(world.ips());
    let layout = Layout::linux(GranuleSize::K64, 48, 0);
    let mut memory = Hotplug::<_, _, StructPage>::new(tables, world.ram(), layout, 48).unwrap();
    // SAFETY: so is the range.
    let request = unsafe { Request::new(PhysRange::new(PhysAddr::new(DEVICE), 64 * MIB).unwrap()) };
    let region = memory.plan(request).unwrap().commit().unwrap();
    memory.remove(region).unwrap();
    let check = memory.tables_mut().observer();
    assert_eq!(check.broken(), None);
    assert!(check.judged() > 50, "{}", check.judged());
    check.event(observe::Event::Write { slot: world.root(), old: 1, descriptor: 0 });
    check.event(observe::Event::Dsb(Dsb::InnerShareable));
    assert_eq!(check.broken().map(|broken| broken.rule), Some(Rule::Unseen));
}
