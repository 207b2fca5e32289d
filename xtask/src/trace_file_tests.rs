use super::*;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::process::Command;

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

fn open(path: &Path) -> TraceFile {
    Place::find(path).and_then(Place::open).unwrap()
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap()
}

/// Why nothing may be put there, without the words before it.
fn refused(path: &Path) -> String {
    let stop = Place::find(path).unwrap_err();
    let start = format!("cannot write the trace to {}: ", path.display());
    assert!(stop.status == Status::Refused && stop.why.lines().count() == 1, "{stop:?}");
    stop.why.strip_prefix(&start).unwrap_or_else(|| panic!("{}", stop.why)).to_owned()
}

#[test]
fn the_file_appears_when_all_is_written() {
    let room = room("whole");
    let path = room.join("a.trace");
    let place = Place::find(&path).unwrap();
    assert_eq!(names(&room), 0, "looking writes nothing");
    let file = place.open().unwrap();
    assert!(!path.exists());
    assert_eq!(file.save(&run(&["trace version=1", "isb cpu=0", "dsb cpu=0 ish"], &[])), Ok(2));
    assert_eq!(read(&path), "trace version=1\nisb cpu=0\ndsb cpu=0 ish\n");
    assert_eq!(names(&room), 1);
}

#[test]
fn the_whole_trace_is_saved_if_there_is_one() {
    let path = room("full").join("a.trace");
    assert_eq!(open(&path).save(&run(&["isb cpu=0", "dsb cpu=0 sy"], &["dsb cpu=0 sy"])), Ok(2));
    assert_eq!(read(&path), "isb cpu=0\ndsb cpu=0 sy\n");
    assert_eq!(open(&path).save(&run(&[], &["dsb cpu=0 sy"])), Ok(1));
    assert_eq!(read(&path), "dsb cpu=0 sy\n");
}

#[test]
fn a_run_that_told_nothing_or_was_interrupted_leaves_what_was_there_and_says_so() {
    let room = room("none");
    let path = room.join("a.trace");
    fs::write(&path, "old").unwrap();
    drop(open(&path));
    let why = open(&path).save(&run(&["trace version=1"], &[])).unwrap_err();
    assert!(why.contains("a.trace: the run ended before its first event"), "{why}");
    let mut cut = run(&["isb cpu=0"], &[]);
    cut.end.status = Status::Interrupted;
    let why = open(&path).save(&cut).unwrap_err();
    assert!(why.contains("a.trace: the run was interrupted"), "{why}");
    assert_eq!((read(&path).as_str(), names(&room)), ("old", 1));
}

#[test]
fn what_cannot_be_written_is_said_at_once() {
    let room = room("refused");
    assert_eq!(refused(&room), "it is a directory; name a file");
    assert_eq!(refused(Path::new("..")), "it is a directory; name a file");
    assert!(refused(&room.join("no/such/room")).starts_with("No such file"));
    fs::write(room.join("file"), "").unwrap();
    assert!(refused(&room.join("file/a.trace")).ends_with("name a file in a directory"));
    assert_eq!(names(&room), 1);
}

#[test]
fn what_is_no_regular_file_is_refused_and_stays() {
    let room = room("special");
    let (pipe, link) = (room.join("pipe"), room.join("link"));
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    symlink(&pipe, &link).unwrap();
    for path in [&pipe, &link] {
        assert_eq!(refused(path), "it is not a regular file; name one, or one that is not there yet");
    }
    fs::remove_file(&pipe).unwrap();
    assert!(refused(&link).starts_with("it is a link that leads nowhere ("));
    assert_eq!(names(&room), 1);
}

#[test]
fn a_read_only_file_is_refused_even_for_root() {
    let path = room("modes").join("a.trace");
    fs::write(&path, "old").unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o444)).unwrap();
    assert_eq!(refused(&path), "it is read-only; name another file");
}

#[test]
fn the_file_that_a_link_leads_to_is_replaced_and_the_link_stays() {
    let room = room("link");
    fs::create_dir(room.join("far")).unwrap();
    let (far, link) = (room.join("far/a.trace"), room.join("link"));
    fs::write(&far, "old").unwrap();
    symlink("far/a.trace", &link).unwrap();
    assert_eq!(open(&link).save(&run(&["isb cpu=0"], &[])), Ok(1));
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    assert_eq!((read(&far).as_str(), names(&room)), ("isb cpu=0\n", 2));
}

#[test]
fn what_cannot_be_saved_says_what_to_do_and_leaves_nothing() {
    let room = room("late");
    let path = room.join("a.trace");
    let file = open(&path);
    fs::create_dir(&path).unwrap();
    let why = file.save(&run(&["isb cpu=0"], &[])).unwrap_err();
    assert!(why.contains("it is a directory") && why.ends_with("name a file in another directory"), "{why}");
    assert_eq!(names(&room), 1);
}

#[test]
fn where_the_screen_goes_no_trace_is_put() {
    let path = room("screen").join("out");
    let file = File::create(&path).unwrap();
    assert!(is_ours(&fs::metadata(&path).unwrap(), &file));
    assert!(!is_ours(&fs::metadata(path.parent().unwrap()).unwrap(), &file));
}
