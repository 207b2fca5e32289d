//! What goes wrong on another CPU ends the run, and is reported by one CPU alone.

use core::sync::atomic::{AtomicBool, Ordering};
use core::{fmt, hint};

use aarch64_cpu::registers::{CNTFRQ_EL0, CNTVCT_EL0, Readable};
use kernel::{cpu, println};
use vmemmap::seam::Machine;

use super::{Meeting, on_each};
use crate::cases::boot;
use crate::world::World;

/// The CPU on which it goes wrong.
const CPU: usize = 1;

/// A load by another CPU from the struct page of what was never added.
pub fn fault<M: Machine>(world: &World<M>) {
    on_each(|cpu| {
        if cpu == CPU {
            boot::load_wildly(world.boot);
        }
    });
}

pub fn overflow<M: Machine>(_: &World<M>) {
    on_each(|cpu| {
        if cpu == CPU {
            boot::overflow_the_stack();
        }
    });
}

/// All CPUs panic as nearly at once as they can, and take their time over it.
pub fn panics<M: Machine>(_: &World<M>) {
    let meeting = Meeting::new();
    on_each(|_| {
        meeting.wait();
        panic!("{}", Slow);
    });
}

/// What takes time to print: others can come between.
struct Slow;

impl fmt::Display for Slow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        wait_a_moment();
        write!(f, "on purpose, on CPU {}", cpu::this())
    }
}

/// Half a second.
fn wait_a_moment() {
    let start = CNTVCT_EL0.get();
    while CNTVCT_EL0.get().wrapping_sub(start) < CNTFRQ_EL0.get() / 2 {
        hint::spin_loop();
    }
}

/// A job begins another, from another CPU.
pub fn job_within_a_job<M: Machine>(_: &World<M>) {
    on_each(|cpu| {
        if cpu == CPU {
            on_each(|_| ());
        }
    });
}

/// What panics while it is printed.
struct Unprintable<'a>(&'a AtomicBool);

impl fmt::Display for Unprintable<'_> {
    fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.store(true, Ordering::Release);
        // Until the other CPU is in the middle of its report, and waits for the console.
        wait_a_moment();
        panic!("in the middle of a line");
    }
}

/// One CPU panics while another, which has the console, is about to panic too.
pub fn while_printing<M: Machine>(_: &World<M>) {
    let printing = AtomicBool::new(false);
    on_each(|cpu| {
        if cpu == CPU {
            println!("{}", Unprintable(&printing));
        }
        while !printing.load(Ordering::Acquire) {
            hint::spin_loop();
        }
        panic!("on purpose, on CPU {cpu}");
    });
}

/// What takes time in the middle of a line.
struct SlowLine<'a>(&'a AtomicBool);

impl fmt::Display for SlowLine<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the beginning, ")?;
        self.0.store(true, Ordering::Release);
        wait_a_moment();
        f.write_str("and the end")
    }
}

/// One CPU panics in the middle of another's line: its report begins with a line of its own.
pub fn beside_a_line<M: Machine>(_: &World<M>) {
    let printing = AtomicBool::new(false);
    on_each(|cpu| {
        if cpu == CPU {
            println!("{}", SlowLine(&printing));
            return;
        }
        while !printing.load(Ordering::Acquire) {
            hint::spin_loop();
        }
        panic!("on purpose, on CPU {cpu}");
    });
}
