//! A `fw_cfg` device that says anything: its directory is read to its end, and no file is longer than was allowed.
//!
//! The input is the signature and then the directory; every file holds the same as the directory.

use devices::fw_cfg::{FwCfg, Registers};

/// The most that is taken of a file.
const MOST_BYTES: u32 = 4096;

/// The signature's key.
const SIGNATURE: u16 = 0;

struct Items<'a> {
    input: &'a [u8],
    rest: &'a [u8],
}

impl Registers for Items<'_> {
    fn select(&mut self, key: u16) {
        self.rest = if key == SIGNATURE { self.input } else { self.input.get(4..).unwrap_or_default() };
    }

    fn read(&mut self, into: &mut [u8]) {
        let (now, rest) = self.rest.split_at(into.len().min(self.rest.len()));
        into.fill(0);
        into[..now.len()].copy_from_slice(now);
        self.rest = rest;
    }
}

/// Looks for a file, and reads it.
pub fn run(input: &[u8]) {
    let Ok(mut device) = FwCfg::new(Items { input, rest: &[] }) else { return };
    for name in ["etc/acpi/tables", "", "a"] {
        let Ok(Some(file)) = device.find(name) else { continue };
        assert!((0x20..0x4000).contains(&file.key()), "{file:x?}");
        let read = device.read(file, MOST_BYTES);
        assert_eq!(read.is_ok(), file.bytes() <= MOST_BYTES, "{file:x?}");
        assert!(read.is_ok_and(|bytes| bytes.len() == file.bytes() as usize) || file.bytes() > MOST_BYTES);
    }
}
