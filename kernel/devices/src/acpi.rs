//! ACPI's tables, as QEMU hands them out in the `fw_cfg` file [`TABLES`]: one behind the other, before any firmware has
//! placed them.
//!
//! Addresses and checksums in them are filled in by firmware that runs QEMU's loader script. Nobody ran it here, so
//! there are no checksums to hold anything against; lengths are all that is believed, and they are checked.

use core::fmt;

use crate::bytes::field;

/// The `fw_cfg` file that holds them.
pub const TABLES: &str = "etc/acpi/tables";

/// Bytes of the header that every table begins with (ACPI 6.5, section 5.2.6).
pub const HEADER_BYTES: usize = 36;

/// The four characters by which a table is known: `NFIT`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Signature(pub [u8; 4]);

impl fmt::Display for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.escape_ascii())
    }
}

/// What is no table.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Error {
    /// The file ends inside of a table's header.
    #[error(
        "ACPI tables: the file ends {left} bytes into the header of a table at {offset:#x}, which has 36; read all of \
         it"
    )]
    Header {
        /// Where the table begins in the file.
        offset: usize,
        /// Bytes from there to the file's end.
        left: usize,
    },
    /// A table that is shorter than its own header, or longer than the file.
    #[error(
        "ACPI table {signature} at {offset:#x} says that it has {stated} bytes, and can have 36 to {left}; use QEMU's \
         own tables (no -acpitable)"
    )]
    Length {
        /// The table.
        signature: Signature,
        /// Where it begins in the file.
        offset: usize,
        /// The length that it states, in bytes.
        stated: u32,
        /// Bytes from there to the file's end.
        left: usize,
    },
}

/// A table, its header included.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Table<'a> {
    signature: Signature,
    bytes: &'a [u8],
}

impl<'a> Table<'a> {
    /// What it is.
    #[must_use]
    pub const fn signature(self) -> Signature {
        self.signature
    }

    /// All of it: at least the [`HEADER_BYTES`] of its header.
    #[must_use]
    pub const fn bytes(self) -> &'a [u8] {
        self.bytes
    }
}

/// The tables of a file in turn. After an error there are no more: where the next one begins is not known.
#[derive(Clone, Debug)]
pub struct Tables<'a> {
    file: &'a [u8],
    offset: usize,
}

impl<'a> Tables<'a> {
    /// Those in `file`: all bytes of [`TABLES`].
    #[must_use]
    pub const fn new(file: &'a [u8]) -> Self {
        Self { file, offset: 0 }
    }

    /// The table at `offset`.
    fn table(&self, offset: usize) -> Result<Table<'a>, Error> {
        let rest = &self.file[offset..];
        let left = rest.len();
        let (Some(_), Some(signature), Some(stated)) =
            (rest.get(..HEADER_BYTES), field(rest, 0).map(Signature), field(rest, 4).map(u32::from_le_bytes))
        else {
            return Err(Error::Header { offset, left });
        };
        let bytes = rest.get(..stated as usize).filter(|bytes| bytes.len() >= HEADER_BYTES);
        bytes.map(|bytes| Table { signature, bytes }).ok_or(Error::Length { signature, offset, stated, left })
    }
}

/// The first table of `file` with this signature.
///
/// # Errors
///
/// [`Error`]: what lies before it is no table.
pub fn find(file: &[u8], signature: Signature) -> Result<Option<Table<'_>>, Error> {
    Tables::new(file).find(|table| table.map_or(true, |table| table.signature == signature)).transpose()
}

impl<'a> Iterator for Tables<'a> {
    type Item = Result<Table<'a>, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        // No signature begins with a zero: that is padding, between tables and up to the file's end.
        let padding = self.file[self.offset..].iter().position(|&byte| byte != 0);
        let offset = padding.map_or(self.file.len(), |zeros| self.offset + zeros);
        self.offset = self.file.len();
        padding?;
        let table = self.table(offset);
        if let Ok(table) = table {
            self.offset = offset + table.bytes.len();
        }
        Some(table)
    }
}

#[cfg(test)]
mod tests {
    use std::vec::Vec;

    use super::*;

    fn table(signature: [u8; 4], length: u32) -> Vec<u8> {
        let mut bytes = std::vec![0xaa; (length as usize).max(HEADER_BYTES)];
        bytes[..4].copy_from_slice(&signature);
        bytes[4..8].copy_from_slice(&length.to_le_bytes());
        bytes
    }

    #[test]
    fn tables_are_found_behind_others_and_behind_padding() {
        let file = [table(*b"DSDT", 100), std::vec![0; 7], table(*b"NFIT", 40), std::vec![0; 50]].concat();
        let found: Vec<_> = Tables::new(&file).map(|table| table.expect("a table").signature()).collect();
        assert_eq!(found, [Signature(*b"DSDT"), Signature(*b"NFIT")]);
        let nfit = find(&file, Signature(*b"NFIT")).unwrap().expect("it is there");
        assert_eq!(nfit.bytes(), &file[107..147]);
        assert_eq!(find(&file, Signature(*b"SSDT")), Ok(None));
    }

    #[test]
    fn a_table_that_is_cut_off_is_refused_with_its_place() {
        let file = [table(*b"DSDT", 40), table(*b"NFIT", 40)].concat();
        let (offset, left, signature) = (40, 39, Signature(*b"NFIT"));
        let cut = find(&file[..79], signature);
        assert_eq!(cut, Err(Error::Length { signature, offset, stated: 40, left }));
        let cut = find(&file[..75], signature);
        assert_eq!(cut, Err(Error::Header { offset, left: 35 }));
    }

    #[test]
    fn a_table_shorter_than_its_header_ends_the_walk() {
        let file = [table(*b"NFIT", 0), table(*b"NFIT", 36)].concat();
        let found: Vec<_> = Tables::new(&file).take(3).collect();
        let signature = Signature(*b"NFIT");
        assert_eq!(found, [Err(Error::Length { signature, offset: 0, stated: 0, left: 72 })]);
    }
}
