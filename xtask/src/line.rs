//! QEMU's command line.

use std::path::PathBuf;

use crate::job::Job;
use crate::place::Image;

/// QEMU's program.
pub const QEMU: &str = "qemu-system-aarch64";

/// One boot: an image, a job, and what is attached to the machine.
#[derive(Clone, Debug)]
pub struct Boot {
    /// The ELF.
    pub image: Image,
    /// The machine and the job.
    pub job: Job,
    /// The bootable test to run instead of the main job.
    pub test: Option<String>,
    /// Stay alive after the hot-add, within reach of these.
    pub hold: Option<Hold>,
    /// Start stopped, with a gdb stub at this address.
    pub gdb: Option<String>,
}

/// How a held machine is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hold {
    /// QMP's Unix socket, absolute.
    pub qmp: PathBuf,
    /// Address of the gdb stub, `host:port`.
    pub gdb: String,
}

impl Boot {
    /// The main job, or the test image's if something is to be broken.
    #[must_use]
    pub fn main_job(job: Job) -> Self {
        let image = if job.break_.is_some() { Image::Test } else { Image::Kernel };
        Self { image, job, test: None, hold: None, gdb: None }
    }

    /// The words of QEMU's command line.
    #[must_use]
    pub fn line(&self) -> Vec<String> {
        let size = self.job.backed();
        let level2 = if self.job.virtualization { "virtualization=on," } else { "" };
        let mut words = vec![QEMU.to_owned()];
        let mut add = |text: &str| words.extend(text.split(' ').map(str::to_owned));
        add("-nodefaults -display none -nic none");
        add(&format!("-machine virt,gic-version=3,{level2}memory-backend=ram"));
        add(&format!("-object memory-backend-ram,id=ram,size={size}B,reserve=off -m {size}B"));
        add(&format!("-cpu {} -smp 1 -no-reboot -serial stdio", self.job.cpu.replace(' ', "")));
        add("-semihosting-config enable=on,target=native");
        if self.job.count {
            add("-icount shift=0,sleep=off");
        }
        if let Some(stub) = &self.gdb {
            add(&format!("-S -gdb tcp:{stub}"));
        }
        if let Some(hold) = &self.hold {
            add(&format!("-gdb tcp:{}", hold.gdb));
            words.extend(["-qmp".to_owned(), format!("unix:{},server=on,wait=off", hold.qmp.display())]);
        }
        words.extend(["-kernel".to_owned(), self.image.path().display().to_string()]);
        words.extend(["-append".to_owned(), self.append()]);
        words
    }

    fn append(&self) -> String {
        let hold = if self.hold.is_some() { " hold=1" } else { "" };
        let test = self.test.as_ref().map(|name| format!(" test={name}")).unwrap_or_default();
        self.job.boot_arguments() + hold + &test
    }
}

/// Joins words so that a shell reads them back.
#[must_use]
pub fn shell(words: &[String]) -> String {
    words.iter().map(|word| quote(word)).collect::<Vec<_>>().join(" ")
}

fn quote(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=,:+@".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn boot(flags: &str) -> Boot {
        Boot::main_job(Job::from_flags(flags).unwrap())
    }

    #[test]
    fn ram_and_device_lie_in_one_sparse_backend() {
        let line = shell(&boot("").line());
        assert!(line.contains("size=7516192768B,reserve=off -m 7516192768B -cpu neoverse-n1"), "{line}");
    }

    #[test]
    fn flags_of_the_machine_reach_qemu() {
        let line = shell(&boot("--virtualization --count --break tlbi").line());
        for part in ["gic-version=3,virtualization=on,memory", "-icount shift=0,sleep=off", "release/test-image"] {
            assert!(line.contains(part), "{part}: {line}");
        }
    }

    #[test]
    fn a_held_machine_has_a_monitor_and_a_stub() {
        let hold = Hold { qmp: "/tmp/a b".into(), gdb: "127.0.0.1:4".to_owned() };
        let line = shell(&Boot { hold: Some(hold), ..boot("") }.line());
        assert!(line.contains("-gdb tcp:127.0.0.1:4 -qmp 'unix:/tmp/a b,server=on,wait=off'"), "{line}");
        assert!(line.ends_with("hold=1'"), "{line}");
    }

    #[test]
    fn words_are_quoted_for_a_shell() {
        let words = ["a=b", "", "two words", "it's"].map(str::to_owned);
        assert_eq!(shell(&words), r"a=b '' 'two words' 'it'\''s'");
    }
}
