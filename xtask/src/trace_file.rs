//! The file of `--trace`: it is there with all that the run told, or it is not there.

use std::fs::{self, File, Metadata};
use std::io::{BufWriter, Error, Write as _};
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use crate::outcome::Run;
use crate::status::{Status, Stop};

/// Where a trace may go.
#[derive(Debug)]
pub struct Place {
    /// As the user named it, for messages.
    named: PathBuf,
    /// What the name leads to: a regular file, or nothing yet.
    path: PathBuf,
}

impl Place {
    /// Sees that a file may be put there and destroys nothing else. Nothing is written.
    pub fn find(named: &Path) -> Result<Self, Stop> {
        let place = Self { named: named.to_owned(), path: resolved(named) };
        place.look().map_err(|why| place.refused(&why))?;
        Ok(place)
    }

    fn look(&self) -> Result<(), String> {
        if self.path.is_dir() {
            return Err("it is a directory; name a file".to_owned());
        }
        if self.named.file_name().is_none() {
            return Err("it names no file".to_owned());
        }
        if fs::symlink_metadata(&self.path).is_ok() {
            let there = fs::metadata(&self.path)
                .map_err(|error| format!("it is a link that leads nowhere ({error}); name the file itself"))?;
            return may_be_replaced(&there);
        }
        let room = fs::metadata(room_of(&self.path)).map_err(|error| format!("{error}; name a file in a directory"))?;
        if room.is_dir() { Ok(()) } else { Err("its directory is a file; name a file in a directory".to_owned()) }
    }

    /// Makes the part file. From here on the caller must hear of interrupts, so that it is dropped.
    pub fn open(self) -> Result<TraceFile, Stop> {
        let name = self.path.file_name().unwrap_or_default().to_string_lossy();
        let part = self.path.with_file_name(format!(".{name}.{}", std::process::id()));
        // Of a process that had our number.
        let _ = fs::remove_file(&part);
        let file = File::create_new(&part)
            .map_err(|error| self.refused(&format!("{error}; name a file where you may write")))?;
        Ok(TraceFile { place: self, part, file })
    }

    fn refused(&self, why: &str) -> Stop {
        Stop::refused(format!("cannot write the trace to {}: {why}", self.named.display()))
    }
}

/// Where links lead; a name that leads nowhere stays as it is.
fn resolved(named: &Path) -> PathBuf {
    fs::canonicalize(named).unwrap_or_else(|_| named.to_owned())
}

fn room_of(path: &Path) -> &Path {
    path.parent().filter(|room| !room.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// A rename over something would replace it, whatever it is and may be.
fn may_be_replaced(there: &Metadata) -> Result<(), String> {
    match () {
        () if !there.is_file() => Err("it is not a regular file; name one, or one that is not there yet".to_owned()),
        () if there.permissions().readonly() => Err("it is read-only; name another file".to_owned()),
        () if is_ours(there, std::io::stdout()) || is_ours(there, std::io::stderr()) => {
            Err("the screen goes there; name another file".to_owned())
        }
        () => Ok(()),
    }
}

fn is_ours(there: &Metadata, stream: impl AsFd) -> bool {
    let open = stream.as_fd().try_clone_to_owned().and_then(|fd| File::from(fd).metadata());
    open.is_ok_and(|open| (open.dev(), open.ino()) == (there.dev(), there.ino()))
}

/// A file to be. Dropped before it is saved, it leaves nothing.
#[derive(Debug)]
pub struct TraceFile {
    place: Place,
    /// Beside it until all is written.
    part: PathBuf,
    file: File,
}

impl TraceFile {
    /// Writes the whole trace of `run`, or what led to an illegal step if that is all there is. Returns how many events it
    /// has, or one line that says why there is none.
    pub fn save(self, run: &Run) -> Result<usize, String> {
        let named = self.place.named.display();
        let lines = if run.trace.is_empty() { &run.window } else { &run.trace };
        let events = lines.iter().filter(|line| is_event(line)).count();
        if run.end.status == Status::Interrupted {
            return Err(format!("no trace is saved in {named}: the run was interrupted"));
        }
        if events == 0 {
            return Err(format!("no trace is saved in {named}: the run ended before its first event"));
        }
        self.write(lines).map_err(|error| {
            format!("cannot write the trace to {named}: {error}; make room there, or name a file in another directory")
        })?;
        Ok(events)
    }

    fn write(&self, lines: &[String]) -> Result<(), Error> {
        let mut file = BufWriter::new(&self.file);
        lines.iter().try_for_each(|line| writeln!(file, "{line}")).and_then(|()| file.flush())?;
        // The name may have changed hands while the run took its time.
        self.place.look().map_err(Error::other)?;
        fs::rename(&self.part, &self.place.path)
    }
}

impl Drop for TraceFile {
    fn drop(&mut self) {
        // Gone already if it was saved.
        let _ = fs::remove_file(&self.part);
    }
}

/// Whether a line of a trace happened; the others say what there was at its start.
pub fn is_event(line: &str) -> bool {
    let start = ["trace ", "regs ", "table ", "slot "];
    !start.iter().any(|word| line.starts_with(word))
}

#[cfg(test)]
#[path = "trace_file_tests.rs"]
mod tests;
