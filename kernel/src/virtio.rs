//! What the crate `virtio-drivers` needs from a kernel: memory that devices reach, and where registers are mapped.
//!
//! QEMU's PCI host bridge sees memory as the CPU does, caches included (`dma-coherent` in the device tree), so sharing a
//! buffer is naming its physical address.

use core::ptr::NonNull;

use virtio_drivers::{BufferDirection, Hal, PAGE_SIZE, PhysAddr as DmaAddr};
use vmemmap::addr::{PhysAddr, VirtAddr};
use vmemmap::seam::Frames;
use vmemmap_aarch64::translate;

use crate::memory::RamFrames;
use crate::{boot, pointer, window};

/// This kernel's memory, for queues and buffers.
#[derive(Clone, Copy, Debug)]
pub struct Memory;

/// Frames of ours that hold `pages` pages of the crate's 4 KiB.
fn bytes(pages: usize) -> u64 {
    let page = boot::info().map_or(PAGE_SIZE as u64, |boot| boot.regime.granule().bytes());
    (pages as u64 * PAGE_SIZE as u64).next_multiple_of(page)
}

// SAFETY: `dma_alloc` hands out frames of the one allocator, zeroed, at their place in the linear map, and nobody else has
// them until `dma_dealloc`. `mmio_phys_to_virt` returns what `window::registers` has mapped for good.
unsafe impl Hal for Memory {
    fn dma_alloc(pages: usize, _: BufferDirection) -> (DmaAddr, NonNull<u8>) {
        let bytes = bytes(pages);
        let frame = RamFrames::current().take(bytes).zip(boot::info());
        // Address 0 tells the caller that there is none.
        let Some((frame, boot)) = frame else { return (0, NonNull::dangling()) };
        let start = pointer::at::<u8>(boot.layout.linear_address(frame).value());
        // SAFETY: the frames are ours alone, and in the linear map, as all RAM is.
        unsafe { start.write_bytes(0, bytes as usize) };
        (frame.value(), NonNull::new(start).unwrap_or(NonNull::dangling()))
    }

    unsafe fn dma_dealloc(start: DmaAddr, _: NonNull<u8>, pages: usize) -> i32 {
        RamFrames::current().give(PhysAddr::new(start), bytes(pages));
        0
    }

    unsafe fn mmio_phys_to_virt(start: DmaAddr, size: usize) -> NonNull<u8> {
        window::find(PhysAddr::new(start), size as u64)
            .expect("the BARs of a function are mapped before its driver starts")
    }

    unsafe fn share(buffer: NonNull<[u8]>, _: BufferDirection) -> DmaAddr {
        let start = VirtAddr::new(buffer.cast::<u8>().as_ptr().expose_provenance() as u64);
        // The image, with stack and heap, lies in consecutive frames, and so does all of the linear map.
        translate(start).expect("a buffer is mapped").value()
    }

    unsafe fn unshare(_: DmaAddr, _: NonNull<[u8]>, _: BufferDirection) {}
}
