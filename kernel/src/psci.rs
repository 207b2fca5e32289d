//! The firmware's power states, by PSCI: of the machine, and of each CPU.

use core::sync::atomic::{AtomicU8, Ordering};

use smccc::psci::{self, AffinityState, LowestAffinityLevel};
use smccc::{Hvc, Smc};

pub use smccc::psci::Error;

/// How PSCI is called.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Conduit {
    /// `HVC`.
    Hvc = 1,
    /// `SMC`.
    Smc = 2,
}

// Before the MMU is on only plain loads and stores are allowed on this.
static CONDUIT: AtomicU8 = AtomicU8::new(0);

/// Remembers how PSCI is called.
pub fn set_conduit(conduit: Conduit) {
    CONDUIT.store(conduit as u8, Ordering::Relaxed);
}

fn conduit() -> Option<Conduit> {
    let set = CONDUIT.load(Ordering::Relaxed);
    [Conduit::Hvc, Conduit::Smc].into_iter().find(|&conduit| conduit as u8 == set)
}

/// Makes a PSCI call by the conduit that the machine has: `call!(function(arguments))`.
macro_rules! call {
    ($function:ident($($argument:expr),*)) => {
        match conduit() {
            Some(Conduit::Hvc) => psci::$function::<Hvc>($($argument),*),
            Some(Conduit::Smc) => psci::$function::<Smc>($($argument),*),
            None => Err(Error::NotSupported),
        }
    };
}

/// Powers the machine off.
///
/// # Errors
///
/// [`Error`], if it returns at all: there is no PSCI, or it refuses.
pub fn system_off() -> Result<(), Error> {
    call!(system_off())
}

/// Resets the machine.
///
/// # Errors
///
/// [`Error`], if it returns at all: there is no PSCI, or it refuses.
pub fn system_reset() -> Result<(), Error> {
    call!(system_reset())
}

/// Turns the CPU with these affinities on. It starts at the physical address `entry` with the MMU off, at the exception
/// level at which this kernel was entered, and finds `context` in `x0`.
///
/// # Errors
///
/// [`Error`], if the firmware refuses.
///
/// # Safety
///
/// What is at `entry` must be made for that.
pub unsafe fn cpu_on(affinities: u64, entry: u64, context: u64) -> Result<(), Error> {
    call!(cpu_on(affinities, entry, context))
}

/// Turns the CPU off that calls it.
///
/// # Errors
///
/// [`Error`], if it returns at all: there is no PSCI, or it refuses.
pub fn cpu_off() -> Result<(), Error> {
    call!(cpu_off())
}

/// Whether the CPU with these affinities is off, and nobody is turning it on.
///
/// # Errors
///
/// [`Error`], if the firmware knows no such CPU.
pub fn is_off(affinities: u64) -> Result<bool, Error> {
    let state = call!(affinity_info(affinities, LowestAffinityLevel::All))?;
    Ok(state == AffinityState::Off)
}
