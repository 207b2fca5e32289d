//! Device trees that QEMU does not make: its own, with other words in them.

use std::process::Command;

use libtest_mimic::{Failed, Trial};
use xtask::{Boot, Job};

use crate::machines::boot_with;
use crate::scratch::Scratch;

/// Two CPUs, which PSCI turns on.
const FLAGS: &str = "--granule 4k --smp 2";
/// Bytes of a tree as QEMU writes it, most of them unused.
const ROOM: usize = 1 << 20;

/// The tests of this room.
pub fn trials() -> Vec<Trial> {
    vec![Trial::test("trees::another_cpu_comes_where_the_boot_cpu_has_no_enable_method", boot_cpu_without_method)]
}

/// It comes by boot's identity map, whose tables must not be free RAM.
fn boot_cpu_without_method() -> Result<(), Failed> {
    let change = |tree: &mut [u8]| {
        let node = place(tree, b"cpu@0\0")?;
        let method = node + place(&tree[node..], b"psci\0")?;
        tree[method..method + 4].copy_from_slice(b"spin");
        Some(())
    };
    boot_by(change, r#"@report {"result":"pass","granule":"4k","va_bits":48,"pa_bits":48,"cpus":2,"#)
}

/// Boots by QEMU's device tree after `change`, and expects a run that passes and says `line`.
fn boot_by(change: impl Fn(&mut [u8]) -> Option<()>, line: &str) -> Result<(), Failed> {
    let file = Scratch::new("tree.dtb");
    let words = Boot::main_job(Job::from_flags(FLAGS).map_err(|stop| stop.why)?).line();
    let dump = words.iter().map(|word| word.replace("virt,", &format!("virt,dumpdtb={},", file.path())));
    let dump: Vec<_> = dump.collect();
    Command::new(&dump[0]).args(&dump[1..]).output()?;
    let mut tree = file.read(0, ROOM)?;
    let bytes = pack(&mut tree).ok_or("QEMU has dumped no device tree")?;
    change(&mut tree[..bytes]).ok_or("QEMU's device tree has changed")?;
    file.write(0, &tree)?;
    file.resize(bytes as u64)?;
    let own = |words: Vec<String>| words.into_iter().chain(["-dtb".to_owned(), file.path().to_string()]).collect();
    boot_with(FLAGS, own, 0, line)
}

/// Leaves the room behind the last block away: QEMU puts the tree below the kernel, in 2 MiB. How many bytes are left.
fn pack(tree: &mut [u8]) -> Option<usize> {
    const TOTAL: usize = 1;
    // Of the header's words: where the structure and the strings begin, and how many bytes they have.
    const BLOCKS: [[usize; 2]; 2] = [[2, 9], [3, 8]];
    let word = |index: usize| u32::from_be_bytes(*tree[index * 4..].first_chunk().expect("a header"));
    let bytes = BLOCKS.map(|block| block.map(word).iter().sum::<u32>()).into_iter().max()?;
    tree[TOTAL * 4..][..4].copy_from_slice(&bytes.to_be_bytes());
    (bytes > 0).then_some(bytes as usize)
}

/// Where `bytes` are first.
fn place(tree: &[u8], bytes: &[u8]) -> Option<usize> {
    tree.windows(bytes.len()).position(|window| window == bytes)
}
