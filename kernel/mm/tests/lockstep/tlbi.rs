//! What an invalidation must take away, from the bits of its operand (D8.17).

use crate::geometry::Geometry;
use crate::tlb::{Entry, Fault, Holds};

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reach {
    Local,
    InnerShareable,
    OuterShareable,
}

#[derive(Clone, Copy, Debug)]
pub struct Invalidation {
    pub issuer: u8,
    pub reach: Reach,
    last_level: bool,
    one_asid: bool,
    /// `None`: every address.
    addresses: Option<(u64, u64)>,
    hint: Option<i8>,
    /// It need do nothing: another granule.
    idle: bool,
}

impl Invalidation {
    pub fn of(geometry: &Geometry, issuer: u8, name: &str, operand: u64) -> Self {
        let (name, reach) = match (name.strip_suffix("is"), name.strip_suffix("os")) {
            (Some(name), _) => (name, Reach::InnerShareable),
            (_, Some(name)) => (name, Reach::OuterShareable),
            _ => (name, Reach::Local),
        };
        let mut this =
            Self { issuer, reach, last_level: false, one_asid: false, addresses: None, hint: None, idle: false };
        match name {
            "vmalle1" => {}
            // Every leaf here is global.
            "aside1" => this.idle = true,
            _ => {
                let (range, name) = name.strip_prefix('r').map_or((false, name), |name| (true, name));
                this.last_level = name.contains("le1");
                this.one_asid = !name.starts_with("vaa");
                if range { this.take_range(geometry, operand) } else { this.take_one(geometry, operand) }
            }
        }
        this
    }

    /// IZVNJG, IHQTLK.
    fn take_one(&mut self, geometry: &Geometry, operand: u64) {
        let va = (operand << 20).cast_signed() >> 8;
        let first = va.cast_unsigned() & !(geometry.page() - 1);
        self.addresses = Some((first, first + (geometry.page() - 1)));
        let (tg, level) = (operand >> 46 & 3, (operand >> 44 & 3) as i8);
        let reserved = match tg {
            1 => level == 0 && !geometry.is_lpa2(),
            2 => level == 0 || level == 1 && !geometry.is_lpa2(),
            3 => level == 0,
            _ => true,
        };
        self.hint = (!reserved).then_some(level);
        self.idle = !reserved && tg != geometry.tg();
    }

    /// IQPHNP, RRQKRKL, RXKMMX.
    fn take_range(&mut self, geometry: &Geometry, operand: u64) {
        let base = ((operand << 27).cast_signed() >> 27).cast_unsigned() << geometry.range_shift();
        let (count, scale) = (operand >> 39 & 0x1f, operand >> 44 & 3);
        let bytes = (count + 1) << (5 * scale + 1) << geometry.shift;
        self.addresses = Some((base, base.saturating_add(bytes - 1)));
        let level = (operand >> 37 & 3) as i8;
        self.hint = (level != 0).then_some(level);
        self.idle = operand >> 46 & 3 != geometry.tg();
    }

    /// Whether a member of an entry must go.
    pub fn must_take(&self, entry: &Entry, member: u32) -> bool {
        let fits = match entry.holds {
            Holds::Table(_) => !self.last_level && !self.one_asid && self.hint.is_none(),
            Holds::Leaf { .. } => self.hint.is_none_or(|hint| hint == entry.level),
        };
        let (start, end) = entry.addresses(member);
        !self.idle && fits && self.addresses.is_none_or(|(first, last)| start <= last && first <= end)
    }

    /// Whether accesses in flight that found nothing must be over with it: those that used a table entry which goes
    /// (RDCJQM), and those of its very address (`D15347-M-load-shoot+DMB.LD` in herd's catalogue).
    pub fn must_end(&self, fault: &Fault) -> bool {
        let every_level = !self.last_level && !self.one_asid && self.hint.is_none() && !self.idle;
        let (start, end) = fault.used;
        every_level && self.addresses.is_none_or(|(first, last)| start <= last && first <= end)
    }
}
