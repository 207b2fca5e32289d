//! Files of the host that hold device memory. They are kept as they are: made at the device's size where they are not
//! there, never cut and never grown.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use super::Device;
use crate::size::human;
use crate::status::Stop;

/// Refuses a file that can't hold the device's memory.
pub fn check(device: &Device) -> Result<(), Stop> {
    let Some(path) = &device.file else { return Ok(()) };
    let refused =
        |why: String| Stop::refused(format!("the file {} can't hold {}: {why}", path.display(), device.words()));
    match fs::metadata(path) {
        Ok(found) if found.is_dir() => Err(refused("it is a directory; name a file".to_owned())),
        Ok(found) if !found.is_file() => Err(refused("it is not a regular file; name one".to_owned())),
        Ok(found) if found.permissions().readonly() => Err(refused("it is read-only; chmod u+w it".to_owned())),
        Ok(_) if OpenOptions::new().read(true).write(true).open(path).is_err() => {
            Err(refused("it can't be opened to read and write; choose a file of yours".to_owned()))
        }
        Ok(found) if found.len() < held(device) => {
            let (has, wants) = (human(found.len()), human(held(device)));
            Err(refused(format!(
                "it has {has} of {wants}; choose a smaller device, or another file: this one stays as it is"
            )))
        }
        Ok(_) => Ok(()),
        Err(error) if error.kind() == ErrorKind::NotFound && room_of(path).is_dir() => Ok(()),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            Err(refused(format!("there is no directory {}; make it", room_of(path).display())))
        }
        Err(error) => Err(refused(format!("{error}; choose another file"))),
    }
}

/// Makes the files that are not there, sparse. Returns all, locked until they are dropped: two machines would overwrite
/// each other's memory.
pub fn make(devices: &[Device]) -> Result<Vec<File>, Stop> {
    for device in devices {
        let Some(path) = &device.file else { continue };
        check(device)?;
        if path.exists() {
            continue;
        }
        let unmade = |error: std::io::Error| {
            let size = human(held(device));
            Stop::refused(format!("no file of {size} can be made at {}: {error}; choose another", path.display()))
        };
        let file = File::create_new(path).map_err(unmade)?;
        file.set_len(held(device)).map_err(|error| {
            // Only what we have made ourselves goes again: what could not be made may be somebody's.
            let _ = fs::remove_file(path);
            unmade(error)
        })?;
    }
    devices.iter().filter_map(|device| device.file.as_deref()).map(lock).collect()
}

/// Takes the advisory lock of a file; the system gives it back however this process ends.
fn lock(path: &Path) -> Result<File, Stop> {
    let refused = |why: &str| Stop::refused(format!("the file {} {why}", path.display()));
    let file = File::open(path).map_err(|error| refused(&format!("can't be opened: {error}")))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => {
            Err(refused("is in use by another machine: end that first, or choose another file="))
        }
        Err(TryLockError::Error(error)) => Err(refused(&format!("can't be locked ({error}): choose another file="))),
    }
}

/// Whether two paths lead to one file: links do.
pub fn is_same(one: &Path, other: &Path) -> bool {
    let place = |path: &Path| fs::metadata(path).map(|found| (found.dev(), found.ino())).ok();
    one == other || place(one).is_some_and(|one| place(other) == Some(one))
}

/// What a device keeps in its file, in bytes: for the DIMM slots, the DIMM that is there at the start.
pub fn held(device: &Device) -> u64 {
    if device.kind == super::Kind::PcDimm { device.bytes } else { device.most }
}

fn room_of(path: &Path) -> PathBuf {
    let room = path.parent().filter(|room| !room.as_os_str().is_empty());
    room.unwrap_or(Path::new(".")).to_path_buf()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::device;
    use std::os::unix::fs::PermissionsExt as _;

    fn room(name: &str) -> PathBuf {
        let room = std::env::temp_dir().join(format!("vmemmap-device-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&room);
        fs::create_dir_all(&room).unwrap();
        room
    }

    fn on(file: &Path) -> Device {
        device(&format!("virtio-mem,size=4M,max=8M,file={}", file.display())).unwrap().or(0, 0)
    }

    #[test]
    fn a_file_that_is_not_there_is_made_sparse_at_the_size_of_the_region() {
        let file = room("made").join("a");
        make(&[on(&file)]).unwrap();
        assert_eq!(fs::metadata(&file).unwrap().len(), 8 << 20);
        fs::write(&file, vec![7; 9 << 20]).unwrap();
        make(&[on(&file)]).unwrap();
        assert_eq!(fs::read(&file).unwrap(), vec![7; 9 << 20], "a file that is there stays as it is");
    }

    #[test]
    fn a_file_is_of_one_machine_at_a_time() {
        let room = room("locked");
        let [file, other] = ["a", "b"].map(|name| room.join(name));
        let held = make(&[on(&other), on(&file)]).unwrap();
        let why = make(&[on(&file)]).unwrap_err().why;
        assert!(why.ends_with("a is in use by another machine: end that first, or choose another file="), "{why}");
        drop(held);
        assert_eq!(make(&[on(&file), on(&other)]).unwrap().len(), 2);
    }

    #[test]
    fn a_file_that_can_not_hold_the_memory_is_refused_and_stays() {
        let room = room("refused");
        let [small, shut, pipe] = ["small", "shut", "pipe"].map(|name| room.join(name));
        fs::write(&small, "old").unwrap();
        fs::write(&shut, vec![0; 8 << 20]).unwrap();
        fs::set_permissions(&shut, fs::Permissions::from_mode(0o444)).unwrap();
        assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        for (file, says) in [
            (&small, "it has 3 bytes of 8 MiB; choose a smaller device, or another file: this one stays"),
            (&shut, "it is read-only; chmod u+w it"),
            (&pipe, "it is not a regular file"),
            (&room, "it is a directory; name a file"),
            (&room.join("none/a"), "there is no directory"),
            (&small.join("a"), "choose another file"),
        ] {
            for refused in [check(&on(file)), make(&[on(file)]).map(drop)] {
                let why = refused.unwrap_err().why;
                assert!(why.contains(says) && why.contains("can't hold virtio-mem of 8 MiB"), "{why}");
            }
        }
        assert_eq!(fs::read(&small).unwrap(), b"old");
    }

    #[test]
    fn a_name_without_a_directory_lies_in_this_one() {
        assert_eq!(check(&on(Path::new("no-such-file-of-memory"))), Ok(()));
    }

    #[test]
    fn a_link_that_leads_nowhere_is_refused_and_stays() {
        let link = room("dangling").join("a");
        std::os::unix::fs::symlink("nowhere", &link).unwrap();
        let why = make(&[on(&link)]).unwrap_err().why;
        assert!(why.contains("choose another") && link.is_symlink(), "{why}");
    }

    #[test]
    fn links_lead_to_one_file() {
        let room = room("links");
        let [file, soft, hard, other] = ["a", "b", "c", "d"].map(|name| room.join(name));
        fs::write(&file, "").unwrap();
        fs::write(&other, "").unwrap();
        std::os::unix::fs::symlink("a", &soft).unwrap();
        fs::hard_link(&file, &hard).unwrap();
        assert!([&file, &soft, &hard].iter().all(|link| is_same(&file, link)));
        assert!(!is_same(&file, &other) && !is_same(&room.join("x"), &room.join("y")), "what is not there is not one");
    }
}
