//! The file of `--trace`: it is there with all of the trace, or it is not there.

use std::fs::{self, File};
use std::io::{BufWriter, Error, Write as _};
use std::path::{Path, PathBuf};

use crate::outcome::Run;
use crate::status::Stop;

/// A file to be. Dropped before it is saved, it leaves nothing.
#[derive(Debug)]
pub struct TraceFile {
    path: PathBuf,
    /// Beside it until all is written.
    part: PathBuf,
    file: File,
}

impl TraceFile {
    /// Sees that it can be written, before anything is booted.
    pub fn create(path: &Path) -> Result<Self, Stop> {
        let refused = |why: String| Stop::refused(format!("cannot write the trace to {}: {why}", path.display()));
        if path.is_dir() {
            return Err(refused("it is a directory; name a file".to_owned()));
        }
        let name = path.file_name().ok_or_else(|| refused("it names no file".to_owned()))?;
        let part = path.with_file_name(format!(".{}.{}", name.to_string_lossy(), std::process::id()));
        let file = File::create(&part).map_err(|error| refused(error.to_string()))?;
        Ok(Self { path: path.to_owned(), part, file })
    }

    /// Writes the trace of `run`; of one that broke the protocol, what led to that.
    pub fn save(self, run: &Run) -> Result<(), Stop> {
        let lines = if run.window.is_empty() { &run.trace } else { &run.window };
        let failed =
            |error: Error| Stop::machine(format!("cannot write the trace to {}: {error}", self.path.display()));
        let mut file = BufWriter::new(&self.file);
        lines.iter().try_for_each(|line| writeln!(file, "{line}")).and_then(|()| file.flush()).map_err(failed)?;
        fs::rename(&self.part, &self.path).map_err(failed)
    }
}

impl Drop for TraceFile {
    fn drop(&mut self) {
        // Gone already if it was saved.
        let _ = fs::remove_file(&self.part);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(trace: &[&str], window: &[&str]) -> Run {
        let [trace, window] = [trace, window].map(|lines| lines.iter().map(|line| (*line).to_owned()).collect());
        Run { trace, window, ..Run::new() }
    }

    fn room(name: &str) -> PathBuf {
        let room = std::env::temp_dir().join(format!("vmemmap-trace-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&room);
        fs::create_dir_all(&room).unwrap();
        room
    }

    fn names(room: &Path) -> usize {
        fs::read_dir(room).unwrap().count()
    }

    #[test]
    fn the_file_appears_when_all_is_written() {
        let room = room("whole");
        let path = room.join("a.trace");
        let file = TraceFile::create(&path).unwrap();
        assert!(!path.exists());
        file.save(&run(&["isb cpu=0", "dsb cpu=0 ish"], &[])).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "isb cpu=0\ndsb cpu=0 ish\n");
        TraceFile::create(&path).unwrap().save(&run(&["isb cpu=0"], &["dsb cpu=0 sy"])).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "dsb cpu=0 sy\n", "what led to the illegal step");
        assert_eq!(names(&room), 1);
    }

    #[test]
    fn a_run_that_ends_without_one_leaves_what_was_there() {
        let room = room("none");
        fs::write(room.join("a.trace"), "old").unwrap();
        drop(TraceFile::create(&room.join("a.trace")).unwrap());
        assert_eq!((fs::read_to_string(room.join("a.trace")).unwrap().as_str(), names(&room)), ("old", 1));
    }

    #[test]
    fn what_cannot_be_written_is_said_at_once() {
        let room = room("refused");
        for path in [room.clone(), room.join("no/such/room"), PathBuf::from("..")] {
            let why = TraceFile::create(&path).unwrap_err().why;
            assert!(why.starts_with("cannot write the trace to "), "{why}");
        }
    }
}
