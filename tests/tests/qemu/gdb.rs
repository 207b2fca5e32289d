//! `cargo xtask gdb`, driven by a script: across the MMU, and to the first descriptor of the vmemmap.

use libtest_mimic::{Failed, Trial};

use crate::commands::{command, ensure, run};

/// The MMU goes on by the instruction 12 bytes before `mmu_on`, at its physical address. At `populate`, `x0` points to the
/// slot of the first vmemmap descriptor.
const SCRIPT: &str = r#"
set language c
hbreak *($mmu_on + $load - 12)
continue
printf "before: pc %#lx, MMU %d\n", $pc, (int)($SCTLR & 1)
stepi
printf "across: pc %#lx, MMU %d\n", $pc, (int)($SCTLR & 1)
stepi
stepi
printf "after: pc %#lx\n", $pc
continue
set $slot = (unsigned long *)$x0
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
    for line in [
        "breakpoint 1 at 0x402",
        "before: pc 0x4",
        "MMU 0\n",
        "across: pc 0x4",
        "MMU 1\n",
        "after: pc 0xffffffff",
        "== MMU on",
        "== populate",
    ] {
        ensure(ended.out.contains(line), &format!("no {line:?}"), &ended)?;
    }
    ensure(ended.out.contains("first descriptor 00e8000100010703"), "not the descriptor that Linux writes", &ended)?;
    ensure(ended.status == Some(0), "gdb complains", &ended)
}
