//! The machine watched while it runs: every event as a line of a trace, judged by the checker of the protocol, or both.
//!
//! The watcher sits right above EL1's machine, below whatever a story puts [around](crate::story::Around) it, so it sees
//! what EL1 is asked in the end. A machine that nobody watches is another type and knows nothing of this.

use crate::boot::BootInfo;
use crate::config::Config;

#[cfg(feature = "decorators")]
mod watcher;

#[cfg(feature = "decorators")]
pub use watcher::{Watcher, judged, tell_watched, told};

/// Whether the boot arguments ask for it.
#[must_use]
pub const fn is_asked(config: &Config) -> bool {
    config.trace || config.checked
}

/// Nobody judges in this image.
#[cfg(not(feature = "decorators"))]
#[must_use]
pub const fn judged() -> Option<u64> {
    None
}

/// Refuses: this image has no watcher.
#[cfg(not(feature = "decorators"))]
pub fn tell_watched<A, G>(_: &'static BootInfo) -> ! {
    crate::boot::refuse("trace=1 and checked=1 need the decorators: build the kernel with its default features")
}
