//! The end of a child process with what the host charged it, which `std` does not tell.

use std::io;
use std::mem::MaybeUninit;
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Child, ExitStatus};

/// Bytes of the unit in which the host counts a peak: macOS in bytes, Linux in KiB.
const PEAK_UNIT: u64 = if cfg!(target_vendor = "apple") { 1 } else { 1 << 10 };

/// How a process ended.
#[derive(Clone, Copy, Debug)]
pub struct Reaped {
    pub status: ExitStatus,
    /// Bytes of the host's memory that it had at most (its peak resident set). Linux counts from the process that started
    /// it, so it is never less than what this process had.
    pub peak_bytes: u64,
}

/// How `child` ended, or the child itself while it runs. One that has ended is gone: nobody can wait for it, or kill it, again.
pub fn try_reap(child: Child) -> io::Result<Result<Reaped, Child>> {
    let (mut status, mut usage) = (0, MaybeUninit::<libc::rusage>::zeroed());
    let pid = libc::pid_t::try_from(child.id()).map_err(io::Error::other)?;
    // SAFETY: both places are ours, and large enough; `child` has not been waited for, so its number is no one else's.
    match unsafe { libc::wait4(pid, &raw mut status, libc::WNOHANG, usage.as_mut_ptr()) } {
        0 => Ok(Err(child)),
        -1 => Err(io::Error::last_os_error()),
        _ => {
            // SAFETY: zeros are a `rusage`, and so is what the kernel wrote.
            let peak = unsafe { usage.assume_init() }.ru_maxrss;
            let peak_bytes = u64::try_from(peak).unwrap_or(0) * PEAK_UNIT;
            Ok(Ok(Reaped { status: ExitStatus::from_raw(status), peak_bytes }))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, Stdio};
    use std::time::Duration;

    fn ended(command: &mut Command) -> Reaped {
        let mut child = command.stdin(Stdio::null()).spawn().unwrap();
        loop {
            match try_reap(child).unwrap() {
                Ok(reaped) => return reaped,
                Err(running) => child = running,
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    #[test]
    fn a_process_that_runs_is_given_back_and_one_that_ended_tells_how() {
        let child = Command::new("sleep").arg("60").spawn().unwrap();
        let mut child = try_reap(child).unwrap().unwrap_err();
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(ended(Command::new("sh").args(["-c", "exit 65"])).status.code(), Some(65));
        assert_eq!(ended(Command::new("sh").args(["-c", "kill -9 $$"])).status.signal(), Some(9));
    }

    #[test]
    fn memory_that_a_process_touched_is_in_its_peak() {
        const MIB: u64 = 1 << 20;
        let peak = |mib: u64| {
            let words = format!("if=/dev/zero of=/dev/null count=1 status=none bs={}", mib * MIB);
            ended(Command::new("dd").args(words.split(' '))).peak_bytes
        };
        let (small, large) = (peak(1), peak(300));
        assert!(large > 300 * MIB && large < 400 * MIB && small < 250 * MIB, "{small} {large}");
    }
}
