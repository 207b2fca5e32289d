//! QEMU's command line.

use std::fs::File;
use std::path::{Path, PathBuf};

use crate::build::{TARGET, target_directory};
use crate::device::{self, Kind};
use crate::job::Job;
use crate::status::Stop;
use crate::{attach, flash};

/// QEMU's program.
pub const QEMU: &str = "qemu-system-aarch64";

/// A bootable ELF.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Image {
    /// The main job.
    Kernel,
    /// The bootable tests, and the main job on a broken machine.
    Test,
}

impl Image {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Kernel, Self::Test];

    /// The package that it is built from, and the file's name.
    #[must_use]
    pub const fn package(self) -> &'static str {
        match self {
            Self::Kernel => "kernel",
            Self::Test => "test-image",
        }
    }

    /// Path of the ELF, relative to the current directory if it lies below it.
    #[must_use]
    pub fn path(self) -> PathBuf {
        let path = target_directory().join(TARGET).join("release").join(self.package());
        let here = std::env::current_dir().unwrap_or_default();
        path.strip_prefix(here).map(Path::to_path_buf).unwrap_or(path)
    }
}

/// One boot: an image, a job, and what is attached to the machine.
#[derive(Clone, Debug)]
pub struct Boot {
    /// The ELF.
    pub image: Image,
    /// The machine and the job.
    pub job: Job,
    /// The bootable test to run instead of the main job.
    pub test: Option<String>,
    /// Print the plans and end.
    pub plan: bool,
    /// Say every event of the tables.
    pub trace: bool,
    /// Instead of the main job, initialise struct pages so often by one CPU and by all.
    pub passes: u64,
    /// Stay alive after the hot-add, with QMP at this absolute path.
    pub hold: Option<PathBuf>,
    /// Offer a gdb stub at this address; unless held, the machine starts stopped.
    pub gdb: Option<String>,
    /// Serve a console of commands on QEMU's own stdin, with QMP at this absolute path.
    pub live: Option<PathBuf>,
}

impl Boot {
    /// The main job, or the test image's if something is to be broken.
    #[must_use]
    pub fn main_job(job: Job) -> Self {
        let image = if job.broken.is_some() { Image::Test } else { Image::Kernel };
        Self { image, job, test: None, plan: false, trace: false, passes: 0, hold: None, gdb: None, live: None }
    }

    /// A machine whose device memory comes and goes, with QMP at this absolute path.
    #[must_use]
    pub fn live(job: Job, qmp: PathBuf) -> Self {
        Self { live: Some(qmp), ..Self::main_job(Job { live: true, ..job }) }
    }

    /// Makes the files that QEMU's command line names and that are not there yet. Returns those that hold device memory:
    /// they are this machine's until they are dropped.
    ///
    /// # Errors
    /// A file that holds device memory can't be what it must be, or is another machine's, or the image for the flash
    /// can't be written.
    pub fn prepare(&self) -> Result<Vec<File>, Stop> {
        let files = device::file::make(&self.job.devices())?;
        if self.boots_from_flash() {
            flash::make(&self.image.path())?;
        }
        Ok(files)
    }

    fn boots_from_flash(&self) -> bool {
        self.job.devices().iter().any(|device| device.kind.needs_acpi())
    }

    /// The words of QEMU's command line.
    #[must_use]
    pub fn line(&self) -> Vec<String> {
        let Self { job, hold, gdb, live, .. } = self;
        let bytes = job.backed_bytes();
        let el2 = if job.virtualization { "virtualization=on," } else { "" };
        let nvdimm = if job.has(Kind::Nvdimm) { "nvdimm=on," } else { "" };
        let mut line = format!(
            "{QEMU} -nodefaults -display none -nic none -machine virt,gic-version=3,{el2}{nvdimm}memory-backend=ram \
             -object memory-backend-ram,id=ram,size={bytes}B,reserve=off -m {bytes}B{} -cpu {} -smp {} \
             -serial stdio -semihosting-config enable=on,target=native",
            attach::room(job),
            job.cpu.replace(' ', ""),
            job.smp
        );
        // A live machine may be reset.
        line += if live.is_none() { " -no-reboot" } else { "" };
        line += if job.count { " -icount shift=0,sleep=off" } else { "" };
        line += if gdb.is_some() && hold.is_none() { " -S" } else { "" };
        line += &gdb.as_ref().map(|stub| format!(" -gdb tcp:{stub}")).unwrap_or_default();
        let mut words: Vec<_> = line.split(' ').map(str::to_owned).collect();
        let monitor = |path: &PathBuf| ["-qmp".to_owned(), format!("unix:{},server=on,wait=off", path.display())];
        words.extend(hold.iter().chain(live).flat_map(monitor));
        words.extend(attach::devices(job));
        if self.boots_from_flash() {
            words.extend(["-bios".to_owned(), flash::path_of(&self.image.path()).display().to_string()]);
        }
        words.extend(["-kernel".to_owned(), self.image.path().display().to_string()]);
        words.extend(["-append".to_owned(), self.boot_arguments()]);
        words
    }

    fn boot_arguments(&self) -> String {
        let plan = if self.plan { " plan=1" } else { "" };
        let trace = if self.trace { " trace=1" } else { "" };
        let passes = if self.passes > 0 { format!(" passes={}", self.passes) } else { String::new() };
        let hold = if self.hold.is_some() { " hold=1" } else { "" };
        let test = self.test.as_ref().map(|name| format!(" test={name}")).unwrap_or_default();
        self.job.boot_arguments() + plan + trace + &passes + hold + &test
    }
}

/// Joins words so that a shell reads them back.
#[must_use]
pub fn shell(words: &[String]) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=,:+@".contains(c);
    let quote = |word: &String| format!("'{}'", word.replace('\'', r"'\''"));
    let is_plain = |word: &String| !word.is_empty() && word.chars().all(plain);
    let words = words.iter().map(|word| if is_plain(word) { word.clone() } else { quote(word) });
    words.collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn boot(flags: &str) -> Boot {
        Boot::main_job(Job::from_flags(flags).unwrap())
    }

    #[test]
    fn flags_of_the_machine_reach_qemu() {
        let line = shell(&boot("--virtualization --count --break tlbi").line());
        let ram = "size=7516192768B,reserve=off -m 7516192768B -cpu neoverse-n1";
        for part in [ram, "virtualization=on,memory", "-icount shift=0,sleep=off", "release/test-image"] {
            assert!(line.contains(part), "{part}: {line}");
        }
    }

    #[test]
    fn a_held_machine_runs_and_has_a_monitor_and_a_stub() {
        let held = Boot { hold: Some("/tmp/a b".into()), gdb: Some("127.0.0.1:4".to_owned()), ..boot("") };
        let line = shell(&held.line());
        assert!(line.contains("-gdb tcp:127.0.0.1:4 -qmp 'unix:/tmp/a b,server=on,wait=off'"), "{line}");
        assert!(line.ends_with("hold=1'") && !line.contains(" -S "), "{line}");
    }

    #[test]
    fn a_live_machine_has_a_monitor_and_may_be_reset() {
        let machine = Boot::live(Job::from_flags("").unwrap(), "/tmp/q".into());
        let line = shell(&machine.line());
        assert!(line.contains("-m 268435456B,slots=16,maxmem=69793218560B -cpu"), "{line}");
        assert!(
            line.contains("-qmp unix:/tmp/q,server=on,wait=off -object memory-backend-ram,id=virtio-mem-memory"),
            "{line}"
        );
        assert!(!line.contains("-no-reboot") && !line.contains("-bios") && line.contains(" live=1"), "{line}");
        assert!(shell(&boot("").line()).contains(" -no-reboot "));
    }

    #[test]
    fn a_machine_with_dimms_boots_the_flat_image_from_flash() {
        let line = shell(&boot("--device nvdimm,size=1G --virtualization").line());
        assert!(line.contains("virt,gic-version=3,virtualization=on,nvdimm=on,memory-backend=ram"), "{line}");
        assert!(line.contains("release/kernel.bin -kernel ") && line.contains(" -bios "), "{line}");
        let line = shell(&boot("--device pc-dimm").line());
        assert!(line.contains(" -bios ") && !line.contains("nvdimm=on"), "{line}");
    }

    #[test]
    fn words_are_quoted_for_a_shell() {
        let words = ["a=b", "", "two words", "it's"].map(str::to_owned);
        assert_eq!(shell(&words), r"a=b '' 'two words' 'it'\''s'");
    }
}
