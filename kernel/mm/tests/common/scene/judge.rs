//! What is asked of the scene after each operation.

use vmemmap::addr::Pfn;
use vmemmap::granule::Granule;
use vmemmap::lifetime::State;
use vmemmap::meta::Meta;

use super::super::abstraction::Picture;
use super::super::geometry::{BOOT_RAM, MEMSTART};
use super::super::invariants::{self, Change, RegionView};
use super::super::watch::Claim;
use super::hotplug::STEP;
use super::{Done, Scene, Snapshot, Verdict};

impl<G: Granule, P: Meta> Scene<G, P> {
    /// The storage zone of a range's altmap, or of its host's: first byte and bytes.
    fn zone(&self, start: u64) -> Option<(u64, u64)> {
        let given = self.added.iter().find(|added| added.start == start)?.given?;
        let (first, end) = given.storage();
        Some((first.number() << self.form.shift, (end.number() - first.number()) << self.form.shift))
    }

    fn regions(&self) -> Vec<RegionView> {
        let claim = |id: u64| self.watch.get(id);
        let added = self.added.iter().map(|added| RegionView {
            start: added.start,
            bytes: added.bytes,
            given: added.given,
            // A tenant without frames has nothing to do with its host, which may be gone.
            altmap: added.altmap.filter(|_| added.given.is_some() || added.stored_in().is_some()),
            zone: self.zone(added.host.unwrap_or(added.start)),
            interior: added.interior.map(claim),
            hotplugged: true,
        });
        let bare = self.bare.iter().map(|bare| RegionView {
            start: bare.start,
            bytes: bare.bytes,
            given: bare.altmap,
            altmap: bare.populated.storage().altmap(),
            zone: bare.altmap.map(|altmap| {
                let (first, end) = altmap.storage();
                (first.number() << self.form.shift, (end.number() - first.number()) << self.form.shift)
            }),
            interior: bare.interior.map(claim),
            hotplugged: false,
        });
        added.chain(bare).collect()
    }

    /// The edge pages that are there, each once.
    fn edge_claims(&self) -> Vec<Claim> {
        let bare = self.bare.iter().flat_map(|bare| &bare.edges);
        self.edges.values().chain(bare).map(|id| self.watch.get(*id)).collect()
    }

    /// All that must hold whatever has been done, and what must hold of this operation.
    pub(super) fn judge(&self, before: &Snapshot, done: &Done) {
        self.watch.probe_all(&self.world);
        self.judge_violations();
        let after = self.snapshot();
        let events = self.world.events_from(before.events);
        let early_end = self.early_end();
        let touched = &done.touched;
        let ranges = self.world.has_range_invalidations();
        let change = Change { form: &self.form, before, after: &after, touched, early_end, ranges, events: &events };
        if done.verdict.is_change() {
            invariants::l11_shared_tables_survive(&change, &self.watch.claims());
            invariants::i2_nothing_outside_of_the_range_changes(&change);
            invariants::i8_barriers_and_invalidations_are_bounded(&change, done.verdict);
        } else {
            invariants::i9_a_refusal_changes_nothing(&change);
            let silent = matches!(done.verdict, Verdict::OutOfRam | Verdict::Idle);
            assert!(silent || before.steps == after.steps, "{:?} is decided before anything is done", done.verdict);
        }
        invariants::l2_frames_go_back_where_they_came_from(&change);
        invariants::l3_no_valid_descriptor_replaces_another(&change);
        self.judge_state(&after);
    }

    fn judge_state(&self, after: &Snapshot) {
        let (claims, regions, edges) = (self.watch.claims(), self.regions(), self.edge_claims());
        let boot = self.boot.map(|id| self.watch.get(id));
        invariants::i1_tables_say_what_was_promised(&after.picture, &claims);
        invariants::i3_tables_and_frames_are_accounted_for(&self.form, after, &regions, &edges, boot.as_ref());
        invariants::i7_leaves_are_well_formed(&self.form, &after.picture, self.mair);
        for region in &regions {
            invariants::i4_the_altmap_adds_up(&self.form, region);
        }
        invariants::l10_altmaps_are_apart(&self.form, &regions, &edges);
        for added in &self.added {
            self.judge_struct_pages(&after.picture, added.start, added.bytes);
        }
        self.judge_boot(false);
        self.judge_validity(&regions);
        self.judge_registry();
    }

    /// L6 for `bytes` bytes from `start` on.
    fn judge_struct_pages(&self, picture: &Picture, start: u64, bytes: u64) {
        let unit = self.described();
        let mut at = start;
        while at < start + bytes {
            let end = (at / unit * unit + unit).min(start + bytes);
            let found = picture.at(self.struct_page(at)).unwrap_or_else(|| panic!("L6: no struct page for {at:#x}"));
            let pfns = at >> self.form.shift..end >> self.form.shift;
            let role = |pfn| self.role(pfn << self.form.shift);
            invariants::l6_struct_pages_are_initialised(found.0, pfns, 1 << self.page_shift, role, &self.world);
            at = end;
        }
    }

    /// L6 for boot RAM and what else is in its section: all of it, or where it is likely to go wrong.
    pub(super) fn judge_boot(&self, whole: bool) {
        if self.boot.is_some() {
            let picture = self.picture();
            let size = self.early_end() - MEMSTART;
            let around = [(BOOT_RAM - 2 * STEP, 8 * STEP), (size - 4 * STEP, 4 * STEP)];
            let parts = if whole { vec![(0, size)] } else { around.to_vec() };
            for (at, bytes) in parts {
                self.judge_struct_pages(&picture, MEMSTART + at, bytes);
            }
        }
    }

    fn judge_validity(&self, regions: &[RegionView]) {
        let shift = self.form.shift;
        let is_valid = |pa: u64| self.map().is_valid(Pfn::new(pa >> shift));
        let early = MEMSTART..self.early_end();
        invariants::l5_a_pfn_is_valid_where_its_struct_page_is(regions, &early, is_valid);
    }

    /// I10: who is there, how often it is referred to, and in whose altmap it is.
    fn judge_registry(&self) {
        let mut listed: Vec<_> = self.map().regions().collect();
        listed.sort_by_key(|listed| listed.range.start());
        let listed = listed.iter().map(|listed| {
            let host = listed.stored_in.map(|host| host.start().value());
            ((listed.range.start().value(), listed.range.bytes()), listed.state, host)
        });
        let mut added: Vec<_> = self.added.iter().collect();
        added.sort_by_key(|added| added.start);
        let expected = added.iter().map(|added| {
            let holders = self.holders(added.start);
            let state = if added.closed { State::Closing { holders } } else { State::Live { holders } };
            (added.memory(), state, added.stored_in())
        });
        assert_eq!(listed.collect::<Vec<_>>(), expected.collect::<Vec<_>>(), "I10: the registry");
    }

    /// I5, and what probes saw.
    pub(super) fn judge_violations(&self) {
        let failures = self.watch.take_failures();
        if let Some(violation) = self.world.take_violations().first() {
            let events = violation.history.iter().map(|(number, event)| format!("\n  {number}: {event}"));
            panic!("I5: {violation}{}\nprobes: {failures:#?}", events.collect::<String>());
        }
        assert!(failures.is_empty(), "I5: {failures:#?}");
    }
}
