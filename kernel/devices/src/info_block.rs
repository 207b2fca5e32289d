//! The info block: what a persistent device's first 4 KiB say of how it was made, so that no boot takes another's data
//! for struct pages.
//!
//! Struct pages lie in front of the data. Where the data begins thus depends on the granule, on the size of a struct
//! page, on the device's size and on the shape of the altmap; a boot that differs in one of them would write struct
//! pages over somebody's data. The block holds all of them, and a boot that finds it different leaves the device alone.
//! Linux's namespaces have such a block too; this is not theirs, and theirs is foreign here.
//!
//! | offset | bytes | little-endian |
//! |---|---|---|
//! | 0 | 16 | [`MAGIC`] |
//! | 16 | 4 | [`VERSION`] |
//! | 20 | 4 | bytes of a page |
//! | 24 | 4 | bytes of a struct page |
//! | 28 | 4 | zero |
//! | 32 | 8 | bytes of the device |
//! | 40 | 8 | bytes of the reserve, which begins with this block |
//! | 48 | 8 | bytes in front of the data |
//! | 56 | 4032 | zero |
//! | 4088 | 8 | CRC-64/XZ of all that lies before it |
//!
//! Magic, version and checksum lie there in every version.

use core::cmp::Ordering;
use core::ops::Range;

use crc::{CRC_64_XZ, Crc};
use vmemmap::granule::GranuleSize;

use crate::bytes::field;

/// Bytes of the block.
pub const BLOCK_BYTES: usize = 4096;
/// As far as this a device must hold zeros to be blank, if it is that long. Linux's namespaces have their info block behind
/// the first 4 KiB, which stay zeros, and btrfs has its superblock behind the first 64.
pub const BLANK_BYTES: usize = 128 << 10;
/// What it begins with.
pub const MAGIC: [u8; 16] = *b"vmemmap altmap\r\n";
/// The version of its layout.
pub const VERSION: u32 = 1;

const VERSION_AT: usize = 16;
const PAGE_AT: usize = 20;
const STRUCT_PAGE_AT: usize = 24;
const DEVICE_AT: usize = 32;
const RESERVE_AT: usize = 40;
const DATA_AT: usize = 48;
const CHECKSUM_AT: usize = BLOCK_BYTES - 8;
/// What holds nothing in this version.
const UNUSED: [Range<usize>; 2] = [STRUCT_PAGE_AT + 4..DEVICE_AT, DATA_AT + 8..CHECKSUM_AT];

static CHECKSUM: Crc<u64> = Crc::<u64>::new(&CRC_64_XZ);

/// How a device is made.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct InfoBlock {
    /// The granule.
    pub granule: GranuleSize,
    /// Bytes of a struct page.
    pub struct_page_bytes: u32,
    /// Bytes of the device, all in all.
    pub device_bytes: u64,
    /// Bytes at its start that are its own: this block, and what the altmap leaves alone.
    pub reserve_bytes: u64,
    /// Bytes in front of the data: the reserve and the altmap, if it has one.
    pub data_offset: u64,
}

/// What the first 4 KiB of a device are, if it may be used.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Found {
    /// Zeros: nobody has used it.
    Blank,
    /// Made for a kernel like this one. Where its data begins is what the block says, whatever this kernel would choose.
    Ours(InfoBlock),
}

/// Why a device may not be used. Nothing was written to it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Error {
    /// It begins with neither zeros nor the magic.
    #[error(
        "the device holds something else: it begins with \"{}\"; give another, or zero its first 4096 bytes to lose \
         that; nothing was overwritten",
        begin.escape_ascii()
    )]
    Foreign {
        /// Its first bytes.
        begin: [u8; 16],
    },
    /// It begins with zeros, and holds something behind them.
    #[error(
        "the device begins with zeros, but holds something at offset {offset:#x}: give another, or zero its first \
         {BLANK_BYTES} bytes to lose that; nothing was overwritten"
    )]
    Used {
        /// Where, in bytes from its start.
        offset: usize,
    },
    /// The checksum is another's.
    #[error(
        "the device's info block is damaged: its checksum says {stated:#018x} and should say {computed:#018x}; \
         restore the device from a copy, or zero its first 4096 bytes to lose its data; nothing was overwritten"
    )]
    Corrupted {
        /// The checksum in the block.
        stated: u64,
        /// What it should be.
        computed: u64,
    },
    /// A layout of the future.
    #[error(
        "the device's info block has version {stated}, and this kernel knows {VERSION}; boot the kernel that made it; \
         nothing was overwritten"
    )]
    Version {
        /// The block's version.
        stated: u32,
    },
    /// Pages of another size, of a granule that there is.
    #[error(
        "the device was made with {stated} pages, and this kernel has {wanted}: boot with --granule {}; nothing was \
         overwritten",
        stated.name()
    )]
    Granule {
        /// Whose struct pages it holds.
        stated: GranuleSize,
        /// This kernel's.
        wanted: GranuleSize,
    },
    /// A field that no kernel of ours writes, under a checksum that is right.
    #[error(
        "the device's info block says {stated:#x} at offset {offset}, which no kernel writes there; whatever made it \
         is wrong: make it again; nothing was overwritten"
    )]
    Field {
        /// Where in the block, in bytes.
        offset: usize,
        /// What lies there.
        stated: u64,
    },
    /// Struct pages of another size.
    #[error(
        "the device was made with struct pages of {stated} bytes, and this kernel's have {wanted}: boot the kernel \
         that made it; nothing was overwritten"
    )]
    StructPage {
        /// Bytes of the struct pages that it holds.
        stated: u32,
        /// Bytes of this kernel's.
        wanted: u32,
    },
    /// A part of the device that was made.
    #[error(
        "the device has {present:#x} bytes, and had {stated:#x} when it was made: give all of it (its file may be cut \
         off); nothing was overwritten"
    )]
    Truncated {
        /// Bytes that it had.
        stated: u64,
        /// Bytes that it has.
        present: u64,
    },
    /// More than the device that was made: struct pages of the rest would lie where the data begins.
    #[error(
        "the device has {present:#x} bytes, and had {stated:#x} when it was made: give it no more than these, since \
         the struct pages of the rest would lie in its data; nothing was overwritten"
    )]
    Grown {
        /// Bytes that it had.
        stated: u64,
        /// Bytes that it has.
        present: u64,
    },
}

impl InfoBlock {
    /// The block, as the device is to hold it.
    #[must_use]
    pub fn encode(&self) -> [u8; BLOCK_BYTES] {
        let mut block = [0; BLOCK_BYTES];
        let mut put = |offset: usize, bytes: &[u8]| block[offset..offset + bytes.len()].copy_from_slice(bytes);
        put(0, &MAGIC);
        put(VERSION_AT, &VERSION.to_le_bytes());
        put(PAGE_AT, &(self.granule.bytes() as u32).to_le_bytes());
        put(STRUCT_PAGE_AT, &self.struct_page_bytes.to_le_bytes());
        put(DEVICE_AT, &self.device_bytes.to_le_bytes());
        put(RESERVE_AT, &self.reserve_bytes.to_le_bytes());
        put(DATA_AT, &self.data_offset.to_le_bytes());
        let checksum = CHECKSUM.checksum(&block[..CHECKSUM_AT]);
        block[CHECKSUM_AT..].copy_from_slice(&checksum.to_le_bytes());
        block
    }

    /// What a device is that begins with `block`, for a kernel that would make it as `wanted` says.
    ///
    /// # Errors
    ///
    /// [`Error`]: somebody's data is there, and this kernel would write over it.
    pub fn recognise(block: &[u8; BLOCK_BYTES], wanted: &Self) -> Result<Found, Error> {
        if block.iter().all(|&byte| byte == 0) {
            return Ok(Found::Blank);
        }
        if let Some(offset) = behind_zeros(block) {
            return Err(Error::Used { offset });
        }
        let made = Self::decode(block)?;
        made.fits(wanted).map(|()| Found::Ours(made))
    }

    /// Whether a device is blank that begins with a blank block, and goes on with `behind`.
    ///
    /// # Errors
    ///
    /// [`Error::Used`]: something else than zeros is there.
    pub fn check_blank(behind: impl IntoIterator<Item = u8>) -> Result<(), Error> {
        let used = behind.into_iter().position(|byte| byte != 0);
        used.map_or(Ok(()), |at| Err(Error::Used { offset: BLOCK_BYTES + at }))
    }

    /// How a device was made that begins with `block`.
    fn decode(block: &[u8; BLOCK_BYTES]) -> Result<Self, Error> {
        let begin: [u8; 16] = field(block, 0).unwrap_or_default();
        if begin != MAGIC {
            return Err(Error::Foreign { begin });
        }
        let (stated, computed) = (u64_at(block, CHECKSUM_AT), CHECKSUM.checksum(&block[..CHECKSUM_AT]));
        if stated != computed {
            return Err(Error::Corrupted { stated, computed });
        }
        if u32_at(block, VERSION_AT) != VERSION {
            return Err(Error::Version { stated: u32_at(block, VERSION_AT) });
        }
        if let Some(offset) = UNUSED.into_iter().flatten().find(|&offset| block[offset] != 0) {
            return Err(Error::Field { offset, stated: block[offset].into() });
        }
        let page = u32_at(block, PAGE_AT);
        let granule = GranuleSize::ALL.into_iter().find(|granule| granule.bytes() == u64::from(page));
        Ok(Self {
            granule: granule.ok_or(Error::Field { offset: PAGE_AT, stated: page.into() })?,
            struct_page_bytes: u32_at(block, STRUCT_PAGE_AT),
            device_bytes: u64_at(block, DEVICE_AT),
            reserve_bytes: u64_at(block, RESERVE_AT),
            data_offset: u64_at(block, DATA_AT),
        })
    }

    /// Whether a device made as this says is one made as `wanted` says.
    fn fits(&self, wanted: &Self) -> Result<(), Error> {
        if self.granule != wanted.granule {
            return Err(Error::Granule { stated: self.granule, wanted: wanted.granule });
        }
        let (stated, wanted_bytes) = (self.struct_page_bytes, wanted.struct_page_bytes);
        if stated != wanted_bytes {
            return Err(Error::StructPage { stated, wanted: wanted_bytes });
        }
        let (stated, present) = (self.device_bytes, wanted.device_bytes);
        match present.cmp(&stated) {
            Ordering::Less => return Err(Error::Truncated { stated, present }),
            Ordering::Greater => return Err(Error::Grown { stated, present }),
            Ordering::Equal => {}
        }
        self.check_places()
    }

    /// Refuses places that no kernel chooses: the reserve holds the block, the data lies behind it, all in whole pages.
    fn check_places(&self) -> Result<(), Error> {
        let page = self.granule.bytes();
        let wrong = |offset, stated| Err(Error::Field { offset, stated });
        let Self { device_bytes, reserve_bytes: reserve, data_offset: data, .. } = *self;
        if reserve < BLOCK_BYTES as u64 || reserve > device_bytes || !reserve.is_multiple_of(page) {
            return wrong(RESERVE_AT, reserve);
        }
        if data < reserve || data > device_bytes || !data.is_multiple_of(page) {
            return wrong(DATA_AT, data);
        }
        Ok(())
    }
}

/// Where something lies in a block that begins with zeros.
fn behind_zeros(block: &[u8; BLOCK_BYTES]) -> Option<usize> {
    block.iter().position(|&byte| byte != 0).filter(|&offset| offset >= MAGIC.len())
}

fn u32_at(block: &[u8; BLOCK_BYTES], offset: usize) -> u32 {
    u32::from_le_bytes(field(block, offset).unwrap_or_default())
}

fn u64_at(block: &[u8; BLOCK_BYTES], offset: usize) -> u64 {
    u64::from_le_bytes(field(block, offset).unwrap_or_default())
}
