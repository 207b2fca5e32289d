//! The run-time checker: what every descriptor and every table page went through, judged event by event.
//!
//! Where the adversary asks what hardware *may* hold, [`Check`] only asks whether the protocol was kept. That is cheap enough
//! to run in the kernel, and stricter than the architecture here and there. The protocol, for each descriptor of a table
//! that walks can reach:
//!
//! ```text
//! IC  --write valid-->  VU  --DSB ISHST-->  VD  --ISB-->  V
//! V   --write invalid-> B0  --DSB ISHST-->  B1  --TLBI IS that covers it-->  B2  --DSB ISH-->  B3  --ISB-->  IC
//! V   --permissions-->  P0  --DSB ISHST-->  P1  --TLBI IS that covers it-->  P2  --DSB ISH-->  P3  --ISB-->  V
//! ```
//!
//! Each step is one by the CPU that made the change. A leaf is covered by VAALE1IS, VAAE1IS, their range forms (each member of
//! a contiguous run by itself) and VMALLE1IS, a link to a table only by VAAE1IS without a level hint and VMALLE1IS.
//!
//! A table page is `private` (zeroed, filled, not linked: no rules), `linked`, or `cut` (its link is in B0 to B3: nobody
//! writes it), and then private again until it is given back. What must not be is a [`Rule`].
//!
//! [`Check`] takes [`trace`](crate::trace) events and stops at the first illegal step. It keeps the last 64 of them and can
//! [tell](Check::window) them as a trace that breaks the same rule when it is judged again.

mod broken;
mod frames;
mod invalidation;
mod judge;
mod shadow;
mod start;
mod window;

pub use broken::{At, Broken, Rule};
pub use shadow::State;
pub use start::existing;

use alloc::vec::Vec;
use core::mem;

use crate::descriptor::OutputFormat;
use crate::observe::{self, Observer};
use crate::regime::{Regime, RegimeError};
use crate::trace::{Event, Header};
use frames::Frames;
use invalidation::Invalidation;
use shadow::Shadow;
use window::Window;

/// The checker. As an [`Observer`] it judges what one CPU, number 0, is seen to do, up to the first illegal step.
#[derive(Debug)]
pub struct Check {
    header: Header,
    shadow: Shadow,
    frames: Frames,
    /// Slots that are neither IC nor V, in the order of their writes.
    pending: Vec<u64>,
    /// Private tables with stores that no barrier has ordered yet.
    unordered: Vec<u64>,
    /// First slots of the contiguous runs that were written since the last operation ended.
    runs: Vec<u64>,
    window: Window,
    judged: u64,
    broken: Option<Broken>,
}

impl Check {
    /// A checker for tables of this geometry. It first wants to be told the tables that exist: [`existing`].
    ///
    /// # Errors
    ///
    /// [`RegimeError`] if there is no such geometry.
    pub fn new(header: Header) -> Result<Self, RegimeError> {
        let wide = header.pa_bits.max(header.va_bits) > 48;
        let output = if wide { OutputFormat::wide(header.granule) } else { OutputFormat::Bits48 };
        Ok(Self {
            header,
            shadow: Shadow::new(Regime::new(header.granule, header.va_bits, output)?),
            frames: Frames::default(),
            pending: Vec::new(),
            unordered: Vec::new(),
            runs: Vec::new(),
            window: Window::default(),
            judged: 0,
            broken: None,
        })
    }

    /// Events judged so far, the illegal one included.
    #[must_use]
    pub const fn judged(&self) -> u64 {
        self.judged
    }

    /// The illegal step, if there was one. Nothing has been judged after it.
    #[must_use]
    pub const fn broken(&self) -> Option<Broken> {
        self.broken
    }

    /// Takes the next event. Before the first of them, the tables that exist: `table` and `slot` events, and `regs` for
    /// each CPU that runs.
    ///
    /// # Errors
    ///
    /// The first rule that is broken. Every later event gets the same answer.
    pub fn step(&mut self, event: Event) -> Result<(), Broken> {
        if let Some(broken) = self.broken {
            return Err(broken);
        }
        let judged = match event {
            Event::Trace(_) => Ok(()),
            Event::Table { pa, level, va } => {
                self.shadow.exists(pa, level, va);
                Ok(())
            }
            Event::Slot { pa, value } => {
                self.shadow.holds(pa, value);
                Ok(())
            }
            Event::Regs { ttbr1, .. } => {
                self.shadow.translates_by(ttbr1);
                self.window.keep(event);
                Ok(())
            }
            event => {
                self.judged += 1;
                self.window.keep(event);
                self.judge(event)
            }
        };
        self.broken = judged.err();
        judged
    }

    fn judge(&mut self, event: Event) -> Result<(), Broken> {
        match event {
            Event::Write { cpu, slot, old, new } => self.write(cpu, slot, old, new),
            Event::Zero { cpu, pa, len } => self.zero(cpu, pa, len),
            Event::Alloc { pa, len, from } => self.alloc(pa, len, from),
            Event::Free { pa, len, .. } => self.free(pa, len),
            Event::Dsb { cpu, option } => {
                self.order(cpu, &option);
                self.advance(cpu, |state| state.after_dsb(&option));
                Ok(())
            }
            Event::Dmb { cpu, option } => {
                self.order(cpu, &option);
                Ok(())
            }
            Event::Isb { cpu } => {
                self.advance(cpu, State::after_isb);
                Ok(())
            }
            Event::Tlbi { cpu, op, operand } => match Invalidation::decode(self.shadow.regime(), &op, operand) {
                Some(invalidation) => self.invalidate(cpu, invalidation),
                None => Ok(()),
            },
            Event::Touch { cpu, va, .. } => self.touch(cpu, va),
            Event::End { cpu, .. } => self.end(cpu),
            _ => Ok(()),
        }
    }

    /// Brings the pending descriptors of `cpu` one step on; those that come to rest are pending no longer.
    fn advance(&mut self, cpu: u8, step: impl Fn(State) -> State) {
        let mut pending = mem::take(&mut self.pending);
        pending.retain(|&slot| {
            let Some(entry) = self.shadow.slot_mut(slot).filter(|entry| entry.cpu == cpu) else { return true };
            entry.state = step(entry.state);
            let (state, was) = (entry.state, entry.was);
            if state == State::IC {
                self.forgotten(slot, was);
            }
            !state.is_at_rest()
        });
        self.pending = pending;
    }

    /// Every CPU has forgotten what `slot` held.
    fn forgotten(&mut self, slot: u64, was: u64) {
        self.frames.unmap(slot);
        if let Some(table) = self.shadow.target(slot, was) {
            self.shadow.release(table);
        }
    }

    /// A barrier of `cpu` orders what it stored in private tables before whatever it stores later.
    fn order(&mut self, cpu: u8, option: &str) {
        if State::B0.after_dsb(option) == State::B1 {
            let shadow = &mut self.shadow;
            self.unordered.retain(|&table| !shadow.is_ordered_by(cpu, table));
        }
    }
}

impl Observer for Check {
    const SEES_OLD: bool = true;

    fn event(&mut self, event: observe::Event) {
        // What is wrong is kept in `broken`.
        let _ = self.step(Event::seen(0, &event));
    }
}
