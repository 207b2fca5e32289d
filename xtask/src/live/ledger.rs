//! What is there, from what the kernel said.

use std::collections::BTreeMap;

use super::event::{Event, Range, Region};

/// A range that is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    pub device: usize,
    pub bytes: u64,
    pub holders: u64,
}

/// The ranges by their first addresses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ledger(BTreeMap<u64, Place>);

impl Ledger {
    /// Keeps the books with one event.
    pub fn take(&mut self, event: &Event) {
        match event {
            Event::Added { range: Range { device, base, size, .. }, .. } => {
                self.0.insert(base.0, Place { device: *device, bytes: *size, holders: 0 });
            }
            Event::Removed { range, .. } => drop(self.0.remove(&range.base.0)),
            Event::Held { base, .. } => self.hold(base.0, |holders| holders + 1),
            Event::Released { base, .. } => self.hold(base.0, |holders| holders.saturating_sub(1)),
            _ => {}
        }
    }

    fn hold(&mut self, base: u64, change: fn(u64) -> u64) {
        if let Some(place) = self.0.get_mut(&base) {
            place.holders = change(place.holders);
        }
    }

    /// Nothing is there: the machine starts afresh.
    pub fn clear(&mut self) {
        self.0.clear();
    }

    /// How much of a device is there, in bytes.
    pub fn bytes_of(&self, device: usize) -> u64 {
        self.0.values().filter(|place| place.device == device).map(|place| place.bytes).sum()
    }

    /// The ranges, rising.
    pub fn places(&self) -> impl Iterator<Item = (u64, Place)> {
        self.0.iter().map(|(&base, &place)| (base, place))
    }

    /// What the kernel lists and we have not, or the other way round.
    pub fn difference(&self, shown: &[Region]) -> Option<String> {
        let theirs = Self(shown.iter().map(|region| (region.range.base.0, Place::of(region))).collect());
        if theirs == *self {
            return None;
        }
        let words = |ledger: &Self| {
            let all =
                ledger.places().map(|(base, place)| format!("{base:#x}+{:#x} held {}", place.bytes, place.holders));
            all.collect::<Vec<_>>().join(", ")
        };
        Some(format!("the kernel lists [{}], its events make [{}]", words(&theirs), words(self)))
    }
}

impl Place {
    fn of(region: &Region) -> Self {
        Self { device: region.range.device, bytes: region.range.size, holders: region.holders }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::live::event::read;

    fn event(json: &str) -> Event {
        read(&format!("@live {json}")).unwrap().unwrap().event
    }

    fn added(device: usize, base: u64) -> Event {
        let cost = r#"{"descriptor_writes":1,"dsb":2,"tlbi":0}"#;
        event(&format!(
            r#"{{"event":"added","device":{device},"source":"s","base":"{base:#x}","size":4096,"struct_pages":1,"cost":{cost},"leaves":1,"leaves_at_plan":1}}"#
        ))
    }

    fn shown(base: u64, holders: u64) -> Vec<Region> {
        let json = format!(r#"[{{"device":0,"source":"s","base":"{base:#x}","size":4096,"holders":{holders}}}]"#);
        serde_json::from_str(&json).unwrap()
    }

    #[test]
    fn ranges_come_are_held_and_go() {
        let mut ledger = Ledger::default();
        for event in [&added(0, 0x1000), &added(1, 0x4000), &added(0, 0x2000)] {
            ledger.take(event);
        }
        ledger.take(&event(r#"{"event":"held","base":"0x2000","size":4096}"#));
        assert_eq!([0, 1, 2].map(|device| ledger.bytes_of(device)), [8192, 4096, 0]);
        let removed = |base: u64| {
            event(&format!(
                r#"{{"event":"removed","device":0,"source":"s","base":"{base:#x}","size":4096,"cost":{{"descriptor_writes":1,"dsb":2,"tlbi":0}},"fault":{{"far":"0x1","level":3}}}}"#
            ))
        };
        ledger.take(&removed(0x1000));
        ledger.take(&removed(0x4000));
        assert_eq!(ledger.difference(&shown(0x2000, 1)), None);
        ledger.take(&event(r#"{"event":"released","base":"0x2000","size":4096}"#));
        assert_eq!(ledger.difference(&shown(0x2000, 0)), None);
        let words = "the kernel lists [0x3000+0x1000 held 0], its events make [0x2000+0x1000 held 0]";
        assert_eq!(ledger.difference(&shown(0x3000, 0)).as_deref(), Some(words));
    }
}
