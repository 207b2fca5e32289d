//! The loop over slots, where the loop itself would cost as much as what it does.

/// Takes `count` steps, eight at a time, so that the loop itself costs next to nothing.
#[inline]
pub(crate) fn repeat(count: u64, mut step: impl FnMut()) {
    for _ in 0..count / 8 {
        (0..8).for_each(|_| step());
    }
    (0..count % 8).for_each(|_| step());
}
