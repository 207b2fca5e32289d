//! The NFIT: where persistent memory lies (ACPI 6.5, section 5.2.25).
//!
//! Of its structures only the ranges of system physical addresses matter here; what says how DIMMs interleave behind
//! them, or where their control blocks are, is passed over.

use alloc::vec::Vec;

use vmemmap::addr::{PhysAddr, PhysRange};

use crate::acpi::{HEADER_BYTES, Signature, Table};
use crate::bytes::field;

/// The table's signature.
pub const SIGNATURE: Signature = Signature(*b"NFIT");

/// The structures begin behind the header and 4 reserved bytes.
const STRUCTURES: usize = HEADER_BYTES + 4;
/// Type and length.
const STRUCTURE_HEADER_BYTES: usize = 4;
/// A range of system physical addresses, and the bytes that it has at least (8 more since ACPI 6.4).
const RANGE: u16 = 0;
const RANGE_BYTES: usize = 56;
/// 66F0D379-B4F3-4074-AC43-0D3318B78CDB: persistent memory. The first three groups are numbers, little-endian.
const PERSISTENT: [u8; 16] =
    [0x79, 0xd3, 0xf0, 0x66, 0xf3, 0xb4, 0x74, 0x40, 0xac, 0x43, 0x0d, 0x33, 0x18, 0xb7, 0x8c, 0xdb];

/// What is no NFIT.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Error {
    /// Another table.
    #[error("the ACPI table is {found} and not NFIT; look for that one")]
    Signature {
        /// What it is.
        found: Signature,
    },
    /// A table without room for what is fixed.
    #[error("NFIT has {bytes} bytes and needs 40; boot with QEMU's own tables (no -acpitable)")]
    Short {
        /// Its length, in bytes.
        bytes: usize,
    },
    /// A structure that is shorter than what it must hold, or longer than the table.
    #[error(
        "NFIT: the structure of type {kind} at {offset:#x} says that it has {stated} bytes, and can have {least} to \
         {left}; boot with QEMU's own tables (no -acpitable)"
    )]
    Structure {
        /// Its type.
        kind: u16,
        /// Where it begins in the table.
        offset: usize,
        /// The length that it states, in bytes.
        stated: u16,
        /// The least that its type must have, in bytes.
        least: usize,
        /// Bytes from there to the table's end.
        left: usize,
    },
    /// The table ends inside of the header of a structure.
    #[error(
        "NFIT ends {left} bytes into the header of a structure at {offset:#x}, which has 4; boot with QEMU's own \
         tables (no -acpitable)"
    )]
    StructureHeader {
        /// Where the structure begins in the table.
        offset: usize,
        /// Bytes from there to the table's end.
        left: usize,
    },
    /// A range that is empty or wraps.
    #[error(
        "NFIT: range {index} of persistent memory at {base} cannot have {bytes:#x} bytes; take that nvdimm off the \
         command line"
    )]
    Range {
        /// The range's index, as the table has it.
        index: u16,
        /// Its first byte.
        base: PhysAddr,
        /// Its length in bytes.
        bytes: u64,
    },
}

/// The ranges of persistent memory that `table`, an NFIT, names, in its order.
///
/// # Errors
///
/// [`Error`]: the table is another, or damaged.
pub fn persistent(table: Table<'_>) -> Result<Vec<PhysRange>, Error> {
    if table.signature() != SIGNATURE {
        return Err(Error::Signature { found: table.signature() });
    }
    let bytes = table.bytes();
    if bytes.len() < STRUCTURES {
        return Err(Error::Short { bytes: bytes.len() });
    }
    let (mut ranges, mut offset) = (Vec::new(), STRUCTURES);
    while offset < bytes.len() {
        let structure = structure(bytes, offset)?;
        ranges.extend(range(structure)?);
        offset += structure.len();
    }
    Ok(ranges)
}

/// The structure at `offset` of the table: as long as its type needs.
fn structure(table: &[u8], offset: usize) -> Result<&[u8], Error> {
    let rest = &table[offset..];
    let left = rest.len();
    let header = field(rest, 0).map(u16::from_le_bytes).zip(field(rest, 2).map(u16::from_le_bytes));
    let (kind, stated) = header.ok_or(Error::StructureHeader { offset, left })?;
    let least = if kind == RANGE { RANGE_BYTES } else { STRUCTURE_HEADER_BYTES };
    let structure = rest.get(..usize::from(stated)).filter(|structure| structure.len() >= least);
    structure.ok_or(Error::Structure { kind, offset, stated, least, left })
}

/// The persistent memory that a structure names, if it does.
fn range(structure: &[u8]) -> Result<Option<PhysRange>, Error> {
    let u16_at = |offset| field(structure, offset).map(u16::from_le_bytes);
    let u64_at = |offset| field(structure, offset).map(u64::from_le_bytes);
    let (Some(RANGE), Some(index), Some(PERSISTENT), Some(base), Some(bytes)) =
        (u16_at(0), u16_at(4), field(structure, 16), u64_at(32), u64_at(40))
    else {
        return Ok(None);
    };
    let base = PhysAddr::new(base);
    let range = PhysRange::new(base, bytes).filter(|range| !range.is_empty());
    range.map(Some).ok_or(Error::Range { index, base, bytes })
}
