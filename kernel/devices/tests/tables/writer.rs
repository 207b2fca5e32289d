//! Tables and directories, as QEMU would write them.

use devices::fw_cfg::Registers;

pub const PERSISTENT: [u8; 16] =
    [0x79, 0xd3, 0xf0, 0x66, 0xf3, 0xb4, 0x74, 0x40, 0xac, 0x43, 13, 51, 24, 183, 140, 219];

/// A table: header and body.
pub fn table(signature: [u8; 4], body: &[u8]) -> Vec<u8> {
    let length = 36 + body.len() as u32;
    [&signature[..], &length.to_le_bytes(), &[1, 0], b"BOCHS BXPC    ", &[0; 12], body].concat()
}

/// An NFIT of these structures.
pub fn nfit(structures: &[Vec<u8>]) -> Vec<u8> {
    table(*b"NFIT", &[vec![0; 4], structures.concat()].concat())
}

/// A structure: header and body.
pub fn structure(kind: u16, body: &[u8]) -> Vec<u8> {
    let length = 4 + body.len() as u16;
    [&kind.to_le_bytes()[..], &length.to_le_bytes(), body].concat()
}

/// A range of system physical addresses.
pub fn range(index: u16, guid: [u8; 16], base: u64, bytes: u64) -> Vec<u8> {
    let body = [&index.to_le_bytes()[..], &[0; 10], &guid, &base.to_le_bytes(), &bytes.to_le_bytes(), &[0; 8]];
    structure(0, &body.concat())
}

/// A directory: name, key and length of each.
pub fn directory(files: &[(&str, u16, u32)]) -> Vec<u8> {
    let mut bytes = (files.len() as u32).to_be_bytes().to_vec();
    for (name, key, length) in files {
        bytes.extend(length.to_be_bytes());
        bytes.extend(key.to_be_bytes());
        bytes.extend([0; 2]);
        bytes.extend(name.bytes().chain(std::iter::repeat(0)).take(56));
    }
    bytes
}

/// A machine's items.
#[derive(Debug)]
pub struct Items {
    items: Vec<(u16, Vec<u8>)>,
    selected: Vec<u8>,
}

impl Items {
    /// Files with these names and contents, under keys from 0x20 on.
    pub fn new(files: &[(&str, &[u8])]) -> Self {
        let keys = 0x20..;
        let listed: Vec<_> =
            files.iter().zip(keys.clone()).map(|(file, key)| (file.0, key, file.1.len() as u32)).collect();
        let mut made = Self::raw(*b"QEMU", &directory(&listed));
        made.items.extend(files.iter().zip(keys).map(|(file, key)| (key, file.1.to_vec())));
        made
    }

    /// No files: what says that the device is there, and what is to be its directory.
    pub fn raw(signature: [u8; 4], directory: &[u8]) -> Self {
        Self { items: vec![(0, signature.to_vec()), (0x19, directory.to_vec())], selected: Vec::new() }
    }
}

impl Registers for &mut Items {
    fn select(&mut self, key: u16) {
        let item = self.items.iter().find(|item| item.0 == key);
        self.selected = item.map(|item| item.1.clone()).unwrap_or_default();
    }

    fn read(&mut self, into: &mut [u8]) {
        let count = into.len().min(self.selected.len());
        into.fill(0);
        into[..count].copy_from_slice(&self.selected[..count]);
        self.selected.drain(..count);
    }
}
