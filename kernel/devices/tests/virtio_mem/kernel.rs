//! The driver's caller: what it was given, and round after round of polling.

use devices::virtio_mem::{Error, Transport, VirtioMem};
use devices::{Answer, Change, DeviceError, DeviceMemory};
use vmemmap::addr::{PhysAddr, PhysRange};

/// More polls than any round takes.
const MANY: usize = 10_000;

/// What happened in a round.
#[derive(Default, Debug)]
pub struct Told {
    pub changes: Vec<Change>,
    pub errors: Vec<Error>,
}

/// A kernel that adds and removes ranges.
#[derive(Default)]
pub struct Kernel {
    /// What is added, in the order in which it was.
    pub added: Vec<PhysRange>,
}

pub fn range(start: u64, bytes: u64) -> PhysRange {
    PhysRange::new(PhysAddr::new(start), bytes).unwrap()
}

fn error(error: DeviceError) -> Error {
    match error {
        DeviceError::VirtioMem(error) => error,
        other => panic!("{other}"),
    }
}

impl Kernel {
    /// A round in which nothing is refused.
    pub fn round<T: Transport>(&mut self, driver: &mut VirtioMem<T>) -> Told {
        self.round_with(driver, |_| Answer::Done)
    }

    /// A round in which each change is answered by `answer`.
    pub fn round_with<T: Transport>(
        &mut self,
        driver: &mut VirtioMem<T>,
        mut answer: impl FnMut(Change) -> Answer,
    ) -> Told {
        let mut told = Told::default();
        for _ in 0..MANY {
            match driver.poll() {
                Ok(None) => return told,
                Ok(Some(change)) => {
                    told.changes.push(change);
                    let answer = answer(change);
                    self.note(change, answer);
                    told.errors.extend(driver.agree(change, answer).err().map(error));
                }
                Err(refusal) => told.errors.push(error(refusal)),
            }
        }
        panic!("a round without an end: {:?}", told.errors.last());
    }

    fn note(&mut self, change: Change, answer: Answer) {
        match change {
            Change::Appeared(range) => {
                assert!(!self.added.iter().any(|other| other.overlaps(range)), "{range} is there already");
                if answer == Answer::Done {
                    self.added.push(range);
                }
            }
            Change::AskedBack(range) => {
                assert!(self.added.contains(&range), "{range} was never added");
                if answer == Answer::Done {
                    self.added.retain(|other| *other != range);
                }
            }
        }
    }

    /// Bytes that are added.
    pub fn bytes(&self) -> u64 {
        self.added.iter().map(|range| range.bytes()).sum()
    }
}
