//! One case: which crate maps how much, with which leaves, into which tables.

use std::cell::RefCell;
use std::fmt;
use std::rc::Rc;
use std::str::FromStr;

use crate::arena::{Arena, PAGE};
use crate::{arm, multiarch, ours};

/// Where the pages are seen: in the upper half of 48 bits, on x86-64 too.
const PAGES: u64 = 0xffff_8000_0000_0000;
/// Where their frames are: a multiple of every leaf.
const FRAMES: u64 = 0x10_0000_0000;
const GIB: u64 = 1 << 30;

/// Who does it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Library {
    /// This project's.
    Vmemmap,
    /// `aarch64-paging`, told that nobody translates by the tables: it checks nothing.
    Aarch64Paging,
    /// `aarch64-paging`, told that somebody does: it checks break-before-make first, and invalidates.
    Aarch64PagingLive,
    /// `page_table_multiarch`, with its x86-64 entries: others don't build on such a host.
    PageTableMultiarch,
}

/// Which leaves it may use.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Leaves {
    /// 4K pages.
    Pages,
    /// The largest that fit.
    Largest,
}

/// Which tables are there before it maps.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Standing {
    /// The root.
    None,
    /// All that it needs, with nothing in them.
    All,
}

/// What is measured.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Case {
    /// Who does it.
    pub library: Library,
    /// Which leaves it may use.
    pub leaves: Leaves,
    /// Which tables are there before.
    pub standing: Standing,
    /// How much, in GiB.
    pub gib: u64,
}

/// Tables, the root included.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Books {
    /// Before it maps.
    pub before: u64,
    /// While it is mapped.
    pub mapped: u64,
    /// After it is unmapped.
    pub after: u64,
}

/// Pages, and the frames that they show.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Window {
    /// The first address.
    pub va: u64,
    /// How many bytes.
    pub bytes: u64,
    /// The first frame.
    pub pa: u64,
}

/// A library did not map.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Refused;

/// A library with its tables.
pub trait Peer {
    /// Maps `window`.
    ///
    /// # Errors
    ///
    /// [`Refused`] if the library does.
    fn map(&mut self, window: Window) -> Result<(), Refused>;

    /// Takes it away, the way that the library offers.
    fn unmap(&mut self, window: Window);

    /// Takes it away so that the tables stay.
    fn clear(&mut self, window: Window) {
        self.unmap(window);
    }

    /// The frame that `va` shows.
    fn frame_of(&self, va: u64) -> Option<u64>;
}

/// Not the name of a case.
#[derive(Debug, thiserror::Error)]
#[error("`{0}` is no case; give `library/leaves/tables/gib` as the table has them, such as `vmemmap/pages/none/1`")]
pub struct NoSuchCase(String);

/// A library showed another frame than it was told to.
#[derive(PartialEq, Eq, Debug, thiserror::Error)]
#[error("{case}: {va:#x} should show {want:x?}, and shows {got:x?}; its figures mean nothing")]
pub struct Wrong {
    case: String,
    va: u64,
    want: Option<u64>,
    got: Option<u64>,
}

const LIBRARIES: [(Library, &str); 4] = [
    (Library::Vmemmap, "vmemmap"),
    (Library::Aarch64Paging, "aarch64-paging"),
    (Library::Aarch64PagingLive, "aarch64-paging-live"),
    (Library::PageTableMultiarch, "page_table_multiarch"),
];
const LEAVES: [(Leaves, &str); 2] = [(Leaves::Pages, "pages"), (Leaves::Largest, "largest")];
const STANDING: [(Standing, &str); 2] = [(Standing::None, "none"), (Standing::All, "all")];

fn name_of<T: PartialEq>(names: &[(T, &'static str)], value: &T) -> &'static str {
    names.iter().find(|(known, _)| known == value).expect("every one has a name").1
}

fn named<T: Copy>(names: &[(T, &str)], name: Option<&str>) -> Option<T> {
    names.iter().find(|(_, known)| Some(*known) == name).map(|(value, _)| *value)
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (library, leaves) = (name_of(&LIBRARIES, &self.library), name_of(&LEAVES, &self.leaves));
        write!(f, "{library}/{leaves}/{}/{}", name_of(&STANDING, &self.standing), self.gib)
    }
}

impl FromStr for Case {
    type Err = NoSuchCase;

    fn from_str(name: &str) -> Result<Self, NoSuchCase> {
        let mut parts = name.split('/');
        let mut case = || {
            Some(Self {
                library: named(&LIBRARIES, parts.next())?,
                leaves: named(&LEAVES, parts.next())?,
                standing: named(&STANDING, parts.next())?,
                gib: parts.next()?.parse().ok().filter(|gib| (1..=1024).contains(gib))?,
            })
        };
        case().filter(|case| case.to_string() == name).ok_or_else(|| NoSuchCase(name.to_owned()))
    }
}

impl Case {
    /// All of `gib` GiB, in the order of the table. Tables that stand are the harder case only where leaves are many.
    pub fn all(gib: u64) -> impl Iterator<Item = Self> {
        let kinds =
            [(Leaves::Pages, Standing::None), (Leaves::Pages, Standing::All), (Leaves::Largest, Standing::None)];
        kinds.into_iter().flat_map(move |(leaves, standing)| {
            LIBRARIES.map(|(library, _)| Self { library, leaves, standing, gib }).into_iter()
        })
    }

    /// Pages that it maps.
    pub const fn pages(&self) -> u64 {
        self.gib * GIB / PAGE
    }

    /// Maps and unmaps through `map` and `unmap`, which are counted; looks at what came of it outside of them. How many tables
    /// there were.
    ///
    /// # Errors
    ///
    /// [`Wrong`] if an address shows another frame than it should, or any when nothing is mapped.
    pub fn run(
        &self,
        map: impl FnOnce(&mut dyn Peer, Window),
        unmap: impl FnOnce(&mut dyn Peer, Window),
    ) -> Result<Books, Wrong> {
        let window = self.window();
        let arena = Rc::new(RefCell::new(Arena::for_pages_of(self.gib * GIB)));
        let mut peer = self.peer(Rc::clone(&arena));
        if self.standing == Standing::All {
            peer.map(window).expect("nothing is mapped");
            peer.clear(window);
        }
        self.look(&*peer, |_| None)?;
        let before = arena.borrow().taken();
        map(&mut *peer, window);
        self.look(&*peer, Some)?;
        let mapped = arena.borrow().taken();
        unmap(&mut *peer, window);
        self.look(&*peer, |_| None)?;
        let after = arena.borrow().taken();
        Ok(Books { before, mapped, after })
    }

    const fn window(&self) -> Window {
        Window { va: PAGES, bytes: self.gib * GIB, pa: FRAMES }
    }

    fn peer(&self, arena: Rc<RefCell<Arena>>) -> Box<dyn Peer> {
        match self.library {
            Library::Vmemmap => Box::new(ours::Ours::new(arena, self.leaves, self.standing)),
            Library::Aarch64Paging => Box::new(arm::Arm::new(arena, self.leaves, arm::Use::Offline)),
            Library::Aarch64PagingLive => Box::new(arm::Arm::new(arena, self.leaves, arm::Use::Live)),
            Library::PageTableMultiarch => Box::new(multiarch::Multiarch::new(arena, self.leaves)),
        }
    }

    /// Looks at pages all over the range, each at another place in its table, and at both ends.
    fn look(&self, peer: &dyn Peer, want: impl Fn(u64) -> Option<u64>) -> Result<(), Wrong> {
        let last = self.pages() - 1;
        for page in (0..last).step_by(1021).chain([last]) {
            let (va, want) = (PAGES + page * PAGE, want(FRAMES + page * PAGE));
            let got = peer.frame_of(va);
            if got != want {
                return Err(Wrong { case: self.to_string(), va, want, got });
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(peer: &mut dyn Peer, window: Window) {
        peer.map(window).expect("nothing is mapped");
    }

    fn unmap(peer: &mut dyn Peer, window: Window) {
        peer.unmap(window);
    }

    /// The last page is somebody else's: who refuses, and what has changed by then.
    #[test]
    fn pages_of_somebody_else_are_met_as_the_page_says() {
        for library in LIBRARIES.map(|(library, _)| library) {
            let case = Case { library, leaves: Leaves::Pages, standing: Standing::None, gib: 1 };
            let mut peer = case.peer(Rc::new(RefCell::new(Arena::for_pages_of(GIB))));
            let whole = case.window();
            let (last, others) = (PAGES + GIB - PAGE, FRAMES + 2 * GIB);
            map(&mut *peer, Window { va: last, bytes: PAGE, pa: others });
            let met = (peer.map(whole), peer.frame_of(PAGES), peer.frame_of(last));
            let want = match library {
                Library::Vmemmap | Library::Aarch64PagingLive => (Err(Refused), None, Some(others)),
                Library::Aarch64Paging => (Ok(()), Some(FRAMES), Some(FRAMES + GIB - PAGE)),
                Library::PageTableMultiarch => (Err(Refused), Some(FRAMES), Some(others)),
            };
            assert_eq!(met, want, "{case}");
        }
    }

    #[test]
    fn every_library_maps_what_it_is_told_and_unmaps_it() {
        for case in Case::all(1) {
            let books = case.run(map, unmap);
            assert!(books.is_ok(), "{books:?}");
        }
    }

    /// 1 GiB: the root, a table of level 1, and for pages one of level 2 and 512 of level 3.
    #[test]
    fn tables_are_made_and_freed_as_the_page_says() {
        for case in Case::all(1) {
            let mapped = if case.leaves == Leaves::Pages { 515 } else { 2 };
            let before = if case.standing == Standing::All { mapped } else { 1 };
            let after = match (case.library, case.standing) {
                (Library::PageTableMultiarch, _) | (Library::Vmemmap, Standing::All) => mapped,
                (Library::Vmemmap, Standing::None) => 1,
                // It takes away the tables below what it unmaps, and none above.
                (Library::Aarch64Paging | Library::Aarch64PagingLive, _) => 2,
            };
            assert_eq!(case.run(map, unmap), Ok(Books { before, mapped, after }), "{case}");
        }
    }

    #[test]
    fn a_library_that_does_not_do_its_work_is_named() {
        for case in Case::all(1) {
            let error = case.run(|_, _| (), map).expect_err("nothing is mapped").to_string();
            assert!(error.starts_with(&case.to_string()), "{error}");
            let error = case.run(map, |_, _| ()).expect_err("it is still mapped").to_string();
            assert!(error.contains("should show None"), "{error}");
        }
    }

    #[test]
    fn a_case_is_known_by_its_name() {
        for case in Case::all(64) {
            assert_eq!(case.to_string().parse::<Case>().ok(), Some(case));
        }
        for name in ["", "vmemmap", "vmemmap/pages/none/0", "vmemmap/pages/none/1/2", "other/pages/none/1"] {
            assert!(name.parse::<Case>().is_err(), "{name}");
        }
    }
}
