//! Addresses as pointers: the one place where a number becomes one.

use core::ptr;

/// A pointer to what lies at `address`, as the CPU sees it now.
#[must_use]
pub fn at<T>(address: u64) -> *mut T {
    ptr::with_exposed_provenance_mut(address as usize)
}
