//! System registers: what makes a CPU translate (E11), a CPU that comes online, and accesses (E1).

use super::{Adversary, Flush, Outcome, Rule};
use crate::trace::Event;

const READ_ONLY: u64 = 1 << 7;

/// Bits of an output address, by `TCR_EL1.IPS`.
fn output_bits(ips: u64) -> u32 {
    [32, 36, 40, 42, 44, 48, 52, 56][ips as usize]
}

impl Adversary {
    pub(super) fn regs(&mut self, cpu: u8, event: Event) {
        let Event::Regs { ttbr1, tcr, sctlr, .. } = event else { return };
        self.check_registers(ttbr1, tcr, sctlr);
        let running = self.started;
        let root = self.root(ttbr1);
        let state = &mut self.cpus[usize::from(cpu)];
        match state.registers {
            None => {
                state.came_online = running;
                state.flush = if running { state.flush } else { Flush::Clean };
            }
            Some(before) if before != event => state.flush = Flush::Unsynchronised,
            Some(_) => {}
        }
        state.registers = Some(event);
        let is_new = state.roots.is_empty();
        state.roots.insert(0, root);
        state.roots.dedup();
        let lowest = u64::MAX << self.geometry.va_bits();
        self.tables.entry(root).or_insert(super::Home { level: self.geometry.start_level(), va: lowest });
        if is_new {
            self.inherit(cpu);
        }
    }

    /// A CPU that comes online may cache what others have overwritten and not published.
    fn inherit(&mut self, cpu: u8) {
        for slot in self.unpublished.iter().copied().collect::<Vec<_>>() {
            let Some((table, home)) = self.place(slot) else { continue };
            let va = self.behind(slot, table, home);
            let olds = self.slots[&slot].olds.iter().filter(|old| old.pending >> cpu & 1 == 1);
            let olds: Vec<_> = olds.map(|old| (old.writer, self.geometry.entry(old.value, home.level))).collect();
            for (writer, entry) in olds {
                self.drop_cached(1 << cpu, writer, home.level, va, entry);
            }
        }
    }

    fn root_alignment(&self) -> u64 {
        // Above 48 bits of output RKBLCR asks for 64 bytes at least.
        if self.geometry.is_wide() { self.geometry.root_bytes().max(64) } else { self.geometry.root_bytes() }
    }

    /// The root that `TTBR1_EL1` names; bits below its alignment are ignored.
    fn root(&self, ttbr1: u64) -> u64 {
        let high = if self.geometry.is_wide() { (ttbr1 >> 2 & 0xf) << 48 } else { 0 };
        ttbr1 & 0x0000_ffff_ffff_fffe & !(self.root_alignment() - 1) | high
    }

    fn check_registers(&mut self, ttbr1: u64, tcr: u64, sctlr: u64) {
        let size = 64 - u64::from(self.geometry.va_bits());
        let others = self.cpus.iter().any(|cpu| cpu.roots.first().is_some_and(|root| *root != self.root(ttbr1)));
        let table = ttbr1 & 0x0000_ffff_ffff_fffe & !(if self.geometry.is_wide() { 0x3c } else { 0 });
        let flaws = [
            (matches!(tcr >> 30 & 3, 0), "TG1 is reserved"),
            (tcr >> 30 & 3 != self.geometry.tg1(), "TG1 names another granule than the tables have"),
            (tcr >> 16 & 0x3f != size, "T1SZ is not what the tables are made for"),
            (sctlr & 1 == 0, "the MMU is off"),
            (output_bits(tcr >> 32 & 7) < self.header.pa_bits, "IPS is smaller than the output size"),
            (tcr >> 23 & 1 == 1, "EPD1 switches the kernel half off"),
            (tcr >> 59 & 1 == 1 && !self.geometry.is_lpa2(), "DS changes the descriptors' layout"),
            (tcr >> 59 & 1 == 0 && self.geometry.is_lpa2(), "DS is clear, and the descriptors are those of LPA2"),
            (table & (self.root_alignment() - 1) != 0, "TTBR1 is not aligned to the size of the root"),
            (ttbr1 & 1 == 1 && others, "CnP shares TLB entries with CPUs that use another root"),
        ];
        if let Some((_, why)) = flaws.into_iter().find(|(is, _)| *is) {
            self.break_rule(Rule::Registers, why);
        }
    }

    /// A register that may be cached was changed: all that it applies to must be forgotten (A7).
    pub(super) fn expect_clean_registers(&mut self, cpu: u8) {
        let state = &self.cpus[usize::from(cpu)];
        if state.came_online && state.flush != Flush::Clean {
            self.break_rule(Rule::Access, "the CPU came online, and nobody has emptied its TLB");
        } else if !state.came_online && !state.roots.is_empty() && state.flush != Flush::Clean {
            self.break_rule(Rule::Registers, "registers changed, and no TLBI, DSB, ISB since");
        }
    }

    /// An access that the program relies on.
    pub(super) fn touch(&mut self, cpu: u8, va: u64, write: bool) {
        self.expect_clean_registers(cpu);
        let (may, written) = (self.may(cpu, va), self.written(va));
        let wrong = may.iter().find(|outcome| **outcome != written);
        match (written, wrong) {
            (Outcome::Fault, None) => {
                self.break_rule_at(va, Rule::Access, "nothing is mapped there: the access faults");
            }
            (Outcome::Map { attributes, .. }, None) if write && attributes & READ_ONLY != 0 => {
                self.break_rule_at(va, Rule::Access, "it is mapped read-only");
            }
            (_, Some(wrong)) => {
                self.break_rule_at(
                    va,
                    Rule::Access,
                    format!("it may see {wrong:x?} where the tables say {written:x?}: {}", self.reason(cpu, va)),
                );
            }
            (_, None) => {}
        }
    }
}
