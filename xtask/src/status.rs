//! How a command ends: the exit status, and the one line that says why.

/// Exit status of `cargo xtask`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Status {
    /// The run passed, or was held and then told to quit.
    Pass = 0,
    /// A proof failed.
    Fail = 1,
    /// Bad input, or a machine that the kernel refuses.
    Refused = 2,
    /// The kernel panicked or took an unexpected exception.
    Panic = 3,
    /// QEMU or another tool is missing, too old, died, or ran out of time.
    Machine = 4,
    /// Stopped by the user.
    Interrupted = 130,
}

/// A command that cannot go on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stop {
    /// The exit status.
    pub status: Status,
    /// One line that says what to do.
    pub why: String,
}

impl Stop {
    /// The input cannot be used.
    pub fn refused(why: impl Into<String>) -> Self {
        Self { status: Status::Refused, why: why.into() }
    }

    /// A tool is missing, too old, or died.
    pub fn machine(why: impl Into<String>) -> Self {
        Self { status: Status::Machine, why: why.into() }
    }
}

impl From<std::io::Error> for Stop {
    fn from(error: std::io::Error) -> Self {
        Self::machine(error.to_string())
    }
}
