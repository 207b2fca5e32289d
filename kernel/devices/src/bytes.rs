//! Fields of what lies in bytes, of either order.

/// The `N` bytes at `offset`, if they are all there.
pub fn field<const N: usize>(bytes: &[u8], offset: usize) -> Option<[u8; N]> {
    bytes.get(offset..)?.first_chunk().copied()
}
