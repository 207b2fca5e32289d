//! What the examples run on: on the host a machine whose TLBs hold all that the architecture permits, on the bare target
//! the CPU itself.

#[cfg(target_os = "none")]
mod cpu;
#[cfg(not(target_os = "none"))]
mod host;

#[cfg(target_os = "none")]
pub use cpu::Silence;
#[cfg(not(target_os = "none"))]
pub use host::{Judged, is_right};

use vmemmap::addr::{PhysAddr, PhysRange};

/// The device's memory: 256 MiB at 4 GiB.
pub const DEVICE: PhysRange = match PhysRange::new(PhysAddr::new(4 << 30), 256 << 20) {
    Some(range) => range,
    None => PhysRange::EMPTY,
};

/// Runs an example: on the host as a program and in `cargo test`, judged; on the target my boot code calls it.
macro_rules! runs {
    ($example:ident) => {
        #[cfg(not(target_os = "none"))]
        fn is_right() -> bool {
            machine::is_right(|machine: machine::Judged, root, memory, log| {
                $example(machine, root, memory, machine::DEVICE, log)
            })
        }

        #[cfg(not(target_os = "none"))]
        fn main() -> std::process::ExitCode {
            if is_right() { std::process::ExitCode::SUCCESS } else { std::process::ExitCode::FAILURE }
        }

        #[test]
        fn it_is_right_on_a_hostile_machine() {
            assert!(is_right(), "it says why");
        }

        /// Where my boot code goes: the root table in x0, where RAM is seen, less where it is, in x1.
        #[cfg(target_os = "none")]
        #[unsafe(no_mangle)]
        #[unsafe(link_section = ".head")]
        extern "C" fn _start(root: u64, offset: u64) {
            // SAFETY: boot has mapped RAM there, and translates by `root` with 4K tables.
            let [cpu, reader] = unsafe { [vmemmap_aarch64::El1::<K4>::new(offset), vmemmap_aarch64::El1::new(offset)] };
            let _ = $example(cpu, PhysAddr::new(root), reader, machine::DEVICE, &mut machine::Silence);
        }
    };
}
pub(crate) use runs;
