//! `cargo xtask gdb`, driven by a script: across the MMU, and to the first descriptor of the vmemmap.

use libtest_mimic::{Failed, Trial};

use crate::commands::{command, ensure, run};

/// Walks to the first leaf of the default device at 64K (L1 63, L2 7934, L3 48) and watches its slot.
const SCRIPT: &str = r#"
set language c
hbreak *($mmu_on + $load - 12)
continue
printf "before: pc %#lx, MMU %d\n", $pc, (int)($SCTLR & 1)
stepi
printf "across: MMU %d\n", (int)($SCTLR & 1)
stepi
stepi
printf "after: pc %#lx\n", $pc
continue
maintenance packet Qqemu.PhyMemMode:1
set $level2 = *(unsigned long *)(($TTBR1_EL1 & 0xfffffffffffe) + 63 * 8) & 0xffffffff0000
set $level3 = *(unsigned long *)($level2 + 7934 * 8) & 0xffffffff0000
maintenance packet Qqemu.PhyMemMode:0
set $slot = (unsigned long *)(0xffff000000000000 + $level3 - 0x40000000 + 48 * 8)
printf "slot %#lx holds %#lx\n", $slot, *$slot
watch -location *$slot
continue
printf "first descriptor %016lx\n", *$slot
"#;

/// The test of this room.
pub fn trial() -> Trial {
    Trial::test("commands::gdb_steps_across_the_mmu_and_stops_at_the_first_descriptor", story)
}

fn story() -> Result<(), Failed> {
    let script = std::env::temp_dir().join(format!("vmemmap-story-{}.gdb", std::process::id()));
    std::fs::write(&script, SCRIPT)?;
    let flags = format!("gdb --granule 64k --leaf linux --altmap nvdimm --batch {}", script.display());
    let ended = run(command(&flags)?)?;
    std::fs::remove_file(&script)?;
    for line in ["MMU 0\n", "across: MMU 1\n", "after: pc 0xffffffff", "== MMU on", "== populate"] {
        ensure(ended.out.contains(line), &format!("no {line:?}"), &ended)?;
    }
    ensure(ended.out.contains("first descriptor 00e80001"), "no descriptor of the device's frames", &ended)?;
    ensure(ended.status == Some(0), "gdb complains", &ended)
}
