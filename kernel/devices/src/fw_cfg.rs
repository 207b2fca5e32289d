//! QEMU's `fw_cfg`: the files that it offers to whatever boots (`docs/specs/fw_cfg.rst` in QEMU).
//!
//! A key selects an item, which is then read from its first byte on; behind its end come zeros, without end. Items that
//! have names are listed in a directory.

use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

/// The machine's two registers.
pub trait Registers {
    /// Selects the item with this key: the next byte to be read is its first.
    fn select(&mut self, key: u16);

    /// The next bytes of the selected item.
    fn read(&mut self, into: &mut [u8]);
}

/// The item that says that there is a `fw_cfg` device.
const SIGNATURE_KEY: u16 = 0;
const SIGNATURE: [u8; 4] = *b"QEMU";
/// The directory: a count, and entries of 64 bytes.
const DIRECTORY_KEY: u16 = 0x19;
/// Keys of files: what has no name is below, architectures' own items are above.
const FIRST_FILE_KEY: u16 = 0x20;
const LAST_FILE_KEY: u16 = 0x3fff;
/// No machine can have more files than there are keys for them.
const MOST_FILES: u32 = (LAST_FILE_KEY - FIRST_FILE_KEY) as u32 + 1;
/// Bytes of an entry's name, with the zero that ends it.
const NAME_BYTES: usize = 56;

/// Why a file can't be had.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Error {
    /// What lies at the registers is something else.
    #[error(
        "fw_cfg says \"{}\" where QEMU says \"QEMU\"; the device tree names the wrong registers",
        found.escape_ascii()
    )]
    NotThere {
        /// What was read.
        found: [u8; 4],
    },
    /// A directory that can't be.
    #[error(
        "the fw_cfg directory lists {count} files, and there are keys for {MOST_FILES}; what is read is not QEMU's \
         directory"
    )]
    Count {
        /// Entries that it says it has.
        count: u32,
    },
    /// A file whose key is not one of a file.
    #[error("fw_cfg lists {name:?} under the key {key:#x}; keys of files are 0x20 to 0x3fff")]
    Key {
        /// The file's name.
        name: String,
        /// The key.
        key: u16,
    },
    /// A file that is longer than it may be.
    #[error(
        "the fw_cfg file with key {key:#x} has {bytes} bytes, and at most {most} are taken; give the machine fewer \
         devices"
    )]
    TooLong {
        /// The file's key.
        key: u16,
        /// Its length in bytes.
        bytes: u32,
        /// What may be read.
        most: u32,
    },
}

/// A file, as the directory has it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct File {
    key: u16,
    bytes: u32,
}

impl File {
    /// The key that selects it.
    #[must_use]
    pub const fn key(self) -> u16 {
        self.key
    }

    /// Its length in bytes.
    #[must_use]
    pub const fn bytes(self) -> u32 {
        self.bytes
    }

    /// This file, called `name`, if its key is one of a file.
    fn checked(self, name: &str) -> Result<Self, Error> {
        let of_a_file = (FIRST_FILE_KEY..=LAST_FILE_KEY).contains(&self.key);
        if of_a_file { Ok(self) } else { Err(Error::Key { name: name.into(), key: self.key }) }
    }
}

/// The `fw_cfg` device.
#[derive(Debug)]
pub struct FwCfg<R> {
    registers: R,
}

impl<R: Registers> FwCfg<R> {
    /// The device behind `registers`.
    ///
    /// # Errors
    ///
    /// [`Error::NotThere`]: it does not say that it is one.
    pub fn new(mut registers: R) -> Result<Self, Error> {
        registers.select(SIGNATURE_KEY);
        let mut found = [0; SIGNATURE.len()];
        registers.read(&mut found);
        if found == SIGNATURE { Ok(Self { registers }) } else { Err(Error::NotThere { found }) }
    }

    /// The file with this name, if there is one.
    ///
    /// # Errors
    ///
    /// [`Error::Count`] and [`Error::Key`]: the directory is none, or names a key that is no file's.
    pub fn find(&mut self, name: &str) -> Result<Option<File>, Error> {
        self.registers.select(DIRECTORY_KEY);
        let mut count = [0; 4];
        self.registers.read(&mut count);
        let count = u32::from_be_bytes(count);
        if count > MOST_FILES {
            return Err(Error::Count { count });
        }
        let mut entries = (0..count).map(|_| self.entry());
        let end = |its: &[u8]| its.iter().position(|&byte| byte == 0);
        let found = entries.find(|(_, its)| end(its).map(|end| &its[..end]) == Some(name.as_bytes()));
        found.map(|(file, _)| file.checked(name)).transpose()
    }

    /// What `file` holds.
    ///
    /// # Errors
    ///
    /// [`Error::TooLong`]: more than `most` bytes.
    pub fn read(&mut self, file: File, most: u32) -> Result<Vec<u8>, Error> {
        let File { key, bytes } = file;
        if bytes > most {
            return Err(Error::TooLong { key, bytes, most });
        }
        self.registers.select(key);
        let mut contents = vec![0; bytes as usize];
        self.registers.read(&mut contents);
        Ok(contents)
    }

    /// The directory's next entry: a file and its name, which a zero ends.
    fn entry(&mut self) -> (File, [u8; NAME_BYTES]) {
        let (mut bytes, mut key, mut reserved, mut name) = ([0; 4], [0; 2], [0; 2], [0; NAME_BYTES]);
        self.registers.read(&mut bytes);
        self.registers.read(&mut key);
        self.registers.read(&mut reserved);
        self.registers.read(&mut name);
        (File { key: u16::from_be_bytes(key), bytes: u32::from_be_bytes(bytes) }, name)
    }
}
