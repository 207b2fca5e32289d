//! Which pfns are valid: one bit a sub-section, many to a word.

use core::sync::atomic::Ordering;

use super::word::{Word, update};

/// Makes the sub-sections of `mask` active. Their struct pages are mapped and initialised.
#[inline]
pub fn activate(bits: &impl Word, mask: u64) {
    update(bits, Ordering::Release, |bits| bits | mask);
}

/// Makes the sub-sections of `mask` inactive. Read sections that began before may still use their struct pages.
#[inline]
pub fn deactivate(bits: &impl Word, mask: u64) {
    update(bits, Ordering::Relaxed, |bits| bits & !mask);
}

/// Whether all sub-sections of `mask` are active. If so, and in a read section, their struct pages can be used until the
/// section ends.
#[inline]
#[must_use]
pub fn is_active(bits: &impl Word, mask: u64) -> bool {
    bits.load(Ordering::Acquire) & mask == mask
}
