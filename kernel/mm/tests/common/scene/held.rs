//! References that CPUs hold while ranges come and go, and the handles of ranges.

use vmemmap::addr::Pfn;
use vmemmap::granule::Granule;
use vmemmap::hotplug::{Reference, View};
use vmemmap::meta::Meta;
use vmemmap::sim::world::Cpu;

use super::{Done, Scene, Verdict};

/// A reference, with the view that it was taken by.
pub(super) struct Held<G: Granule> {
    /// It borrows the view.
    reference: Option<Reference<'static, Cpu<G>>>,
    view: *mut View<Cpu<G>>,
    /// The range's first byte.
    pub start: u64,
}

impl<G: Granule> Held<G> {
    /// A reference to the range that holds `pfn`, if there is one to be had.
    fn take(view: View<Cpu<G>>, pfn: Pfn) -> Option<Self> {
        let mut held = Self { reference: None, view: Box::into_raw(Box::new(view)), start: 0 };
        // SAFETY: the box lives until `drop`, where the reference goes first, and nobody borrows it mutably.
        held.reference = unsafe { &*held.view }.reference(pfn);
        held.start = held.reference.as_ref()?.range().start().value();
        Some(held)
    }
}

impl<G: Granule> Drop for Held<G> {
    fn drop(&mut self) {
        drop(self.reference.take());
        // SAFETY: it came from a box, and what borrowed it is gone.
        drop(unsafe { Box::from_raw(self.view) });
    }
}

impl<G: Granule, P: Meta> Scene<G, P> {
    pub(super) fn hold(&mut self, cpu: u8, which: usize, at: usize) -> Done {
        let Some(index) = which.checked_rem(self.added.len()) else { return Done::refused(Verdict::Idle) };
        let added = &self.added[index];
        let (start, bytes, closed) = (added.start, added.bytes, added.closed);
        let pfn = Pfn::new((start + [0, bytes / 2, bytes - 1][at % 3]) >> self.form.shift);
        // SAFETY: a CPU of the same world.
        let view = unsafe { self.map().view(self.world.cpu::<G>(cpu)) };
        assert!(view.is_valid(pfn), "L5: a range that is there");
        let held = Held::take(view, pfn);
        assert_eq!(held.as_ref().map(|held| held.start), (!closed).then_some(start), "I10: who gets a reference");
        let Some(held) = held else { return Done::refused(Verdict::Closing) };
        self.held.push(held);
        Done::refused(Verdict::Held)
    }

    pub(super) fn let_go(&mut self, which: usize) -> Done {
        let Some(index) = which.checked_rem(self.held.len()) else { return Done::refused(Verdict::Idle) };
        drop(self.held.remove(index));
        Done::refused(Verdict::LetGo)
    }

    /// How many references to the range at `start` are held.
    pub(super) fn holders(&self, start: u64) -> u32 {
        self.held.iter().filter(|held| held.start == start).count() as u32
    }

    /// The index of a range whose handle is there.
    pub(super) fn pick(&self, which: usize) -> Option<usize> {
        let handles: Vec<_> = (0..self.added.len()).filter(|index| self.added[*index].region.is_some()).collect();
        which.checked_rem(handles.len()).map(|index| handles[index])
    }

    /// A range that is closed already, or open, is what it was.
    pub(super) fn close(&mut self, cpu: u8, which: usize, closed: bool) -> Done {
        let Some(index) = self.pick(which) else { return Done::refused(Verdict::Idle) };
        let region = self.added[index].region.take().expect("picked for it");
        if closed {
            self.on(cpu).close(&region);
        } else {
            self.on(cpu).reopen(&region);
        }
        let added = &mut self.added[index];
        (added.region, added.closed) = (Some(region), closed);
        Done::refused(if closed { Verdict::Closed } else { Verdict::Reopened })
    }

    /// Dropping the handle changes nothing but that nobody can remove the range.
    pub(super) fn forget(&mut self, which: usize) -> Done {
        let Some(index) = self.pick(which) else { return Done::refused(Verdict::Idle) };
        let _dropped = self.added[index].region.take();
        Done::refused(Verdict::Forgotten)
    }
}
