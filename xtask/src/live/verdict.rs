//! Whether what a command asked came true, from what the kernel said until it was in step again.

use super::event::{Event, Range};
use crate::size::human;

/// What a command asks of the kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wish {
    /// So many bytes of a device are added.
    More(usize, u64),
    /// So many are removed.
    Less(usize, u64),
    /// It answers what it was told.
    Answer,
}

/// Whether it came true.
///
/// # Errors
/// Why not.
pub fn judge(wish: &Wish, events: &[Event]) -> Result<(), String> {
    match *wish {
        Wish::More(device, bytes) => enough(bytes, added(device, events), "added", why(device, events)),
        Wish::Less(device, bytes) => enough(bytes, removed(device, events), "removed", why(device, events)),
        Wish::Answer => {
            // Earlier words, which were not waited for, were answered before.
            let answer = events.iter().rev().find(|event| is_answer(event));
            if let Some(Event::Error { why }) = answer { Err(why.clone()) } else { Ok(()) }
        }
    }
}

const fn is_answer(event: &Event) -> bool {
    use Event::{Error, Held, Read, Released, Shown, Written};
    matches!(event, Error { .. } | Held { .. } | Released { .. } | Shown { .. } | Written { .. } | Read { .. })
}

fn enough(wanted: u64, done: u64, verb: &str, why: Option<&str>) -> Result<(), String> {
    let silent =
        if verb == "removed" { ": ranges go whole, and no other is so small" } else { ": the kernel does not say why" };
    match (done, why) {
        (done, _) if done >= wanted => Ok(()),
        (0, Some(why)) => Err(format!("nothing was {verb}: {why}")),
        (0, None) => Err(format!("nothing was {verb}{silent}")),
        (done, Some(why)) => Err(format!("{} of {} {verb}: {why}", human(done), human(wanted))),
        (done, None) => Err(format!("{} of {} {verb}{silent}", human(done), human(wanted))),
    }
}

fn added(device: usize, events: &[Event]) -> u64 {
    let of = |event: &Event| match event {
        Event::Added { range, .. } if range.device == device => range.size,
        _ => 0,
    };
    events.iter().map(of).sum()
}

fn removed(device: usize, events: &[Event]) -> u64 {
    let of = |event: &Event| match event {
        Event::Removed { range, .. } if range.device == device => range.size,
        _ => 0,
    };
    events.iter().map(of).sum()
}

/// The last reason that the kernel gave for a device.
fn why(device: usize, events: &[Event]) -> Option<&str> {
    events.iter().rev().find_map(|event| match event {
        Event::Refused { device: of, why, .. } | Event::Kept { range: Range { device: of, .. }, why }
            if *of == device =>
        {
            Some(why.as_str())
        }
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::live::event::read;

    fn events(json: &[&str]) -> Vec<Event> {
        let cost = r#""cost":{"descriptor_writes":1,"dsb":2,"tlbi":0}"#;
        let rest = format!(
            r#""source":"s","base":"0x1000",{cost},"struct_pages":1,"leaves":1,"leaves_at_plan":1,"fault":{{"far":"0x1","level":3}}"#
        );
        let line = |json: &&str| read(&format!("@live {{{json},{rest}}}")).unwrap().unwrap().event;
        json.iter().map(line).collect()
    }

    const ADDED: &str = r#""event":"added","device":0,"size":2097152"#;
    const ADDED_1: &str = r#""event":"added","device":1,"size":2097152"#;
    const REMOVED: &str = r#""event":"removed","device":0,"size":2097152"#;
    const REFUSED: &str = r#""event":"refused","device":0,"size":2097152,"why":"no RAM""#;
    const KEPT: &str = r#""event":"kept","device":0,"size":2097152,"why":"busy: 1 holder""#;
    const KEPT_1: &str = r#""event":"kept","device":1,"size":2097152,"why":"another""#;

    #[test]
    fn a_plug_comes_true_when_as_much_was_added_to_its_device() {
        let plug = |bytes, all: &[&str]| judge(&Wish::More(0, bytes), &events(all));
        assert_eq!(plug(4 << 20, &[ADDED, ADDED]), Ok(()));
        let failed = |bytes, all: &[&str]| plug(bytes, all).unwrap_err();
        assert_eq!(failed(2 << 20, &[ADDED_1, REFUSED]), "nothing was added: no RAM");
        assert_eq!(failed(4 << 20, &[ADDED, ADDED_1, REFUSED]), "2 MiB of 4 MiB added: no RAM");
        assert_eq!(failed(4 << 20, &[ADDED]), "2 MiB of 4 MiB added: the kernel does not say why");
        assert_eq!(failed(4 << 20, &[REMOVED]), "nothing was added: the kernel does not say why");
    }

    #[test]
    fn an_unplug_comes_true_when_as_much_was_removed() {
        let unplug = |bytes, all: &[&str]| judge(&Wish::Less(0, bytes), &events(all));
        assert_eq!(unplug(2 << 20, &[REMOVED, KEPT_1]), Ok(()));
        assert_eq!(unplug(2 << 20, &[KEPT, KEPT_1]), Err("nothing was removed: busy: 1 holder".to_owned()));
        assert_eq!(
            unplug(4 << 20, &[REMOVED, ADDED]),
            Err("2 MiB of 4 MiB removed: ranges go whole, and no other is so small".to_owned())
        );
        assert_eq!(unplug(0, &[]), Ok(()));
    }

    #[test]
    fn a_word_to_the_kernel_fails_when_it_says_so() {
        assert_eq!(judge(&Wish::Answer, &events(&[KEPT, r#""event":"held","size":1"#])), Ok(()));
        assert_eq!(
            judge(&Wish::Answer, &events(&[r#""event":"error","why":"no region""#])),
            Err("no region".to_owned())
        );
        let [first, second, held] = [
            r#""event":"error","why":"no region""#,
            r#""event":"error","why":"no text""#,
            r#""event":"held","size":1"#,
        ];
        assert_eq!(judge(&Wish::Answer, &events(&[held, first, second, KEPT])), Err("no text".to_owned()));
        assert_eq!(judge(&Wish::Answer, &events(&[first, held])), Ok(()), "an earlier word was refused");
    }
}
