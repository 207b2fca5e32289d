//! What must not be.

use core::fmt;

use super::State;

/// A rule of the protocol.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Rule {
    /// A valid descriptor takes the place of one that some CPU may still hold.
    Rebuilt,
    /// A valid descriptor takes the place of another one, and more than permissions changes.
    LiveChange,
    /// A link is made to a page that nobody zeroed.
    Unzeroed,
    /// A link is made to a table before a barrier orders what was written to it.
    Unordered,
    /// A second link is made to a table.
    LinkedTwice,
    /// A link is cut while the table behind it has a valid descriptor, or a leaf that is not forgotten.
    Children,
    /// A table is written while some CPU may still walk it by its old link.
    Frozen,
    /// A TLBI comes before the DSB after the change, so that a walk may bring the old descriptor back.
    Early,
    /// A member of a contiguous run is invalidated or made valid while another one says something else.
    Run,
    /// A contiguous run is not whole when its operation ends.
    PartialRun,
    /// An operation ends with a descriptor on its way.
    Unfinished,
    /// A table is given back while walks can reach it.
    FreedTable,
    /// A frame is given back while a leaf that was made for it is there, or not forgotten.
    FreedFrame,
    /// A table that walks can reach is handed out, or zeroed.
    Reused,
    /// Something is used before it is mapped and the mapping published.
    Touched,
    /// A slot does not hold what was last written to it.
    Unseen,
}

impl Rule {
    /// Its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Rebuilt => "rebuilt",
            Self::LiveChange => "live-change",
            Self::Unzeroed => "unzeroed",
            Self::Unordered => "unordered",
            Self::LinkedTwice => "linked-twice",
            Self::Children => "children",
            Self::Frozen => "frozen",
            Self::Early => "early",
            Self::Run => "run",
            Self::PartialRun => "partial-run",
            Self::Unfinished => "unfinished",
            Self::FreedTable => "freed-table",
            Self::FreedFrame => "freed-frame",
            Self::Reused => "reused",
            Self::Touched => "touched",
            Self::Unseen => "unseen",
        }
    }

    /// What is wrong, in words.
    #[must_use]
    pub const fn text(self) -> &'static str {
        match self {
            Self::Rebuilt => "a valid descriptor is written where the old one is not forgotten",
            Self::LiveChange => "a valid descriptor is replaced by another one, without break-before-make",
            Self::Unzeroed => "a link is made to a page that nobody zeroed",
            Self::Unordered => "a link is made to a table before a barrier orders what was written to it",
            Self::LinkedTwice => "a second link is made to a table",
            Self::Children => "a link is cut before the leaves behind it are cleared and forgotten",
            Self::Frozen => "a table is written before the invalidation of its link is complete",
            Self::Early => "a TLBI comes before the DSB that makes the change visible",
            Self::Run => "a member of a contiguous run changes while another one still says something else",
            Self::PartialRun => "an operation ends with a contiguous run that is not whole",
            Self::Unfinished => "an operation ends with a descriptor on its way",
            Self::FreedTable => "a table is given back while walks can reach it",
            Self::FreedFrame => "a frame is given back while a leaf maps it, or is not forgotten",
            Self::Reused => "a table that walks can reach is handed out or zeroed",
            Self::Touched => "an address is used before it is mapped and the mapping published",
            Self::Unseen => "a slot does not hold what was last written to it",
        }
    }
}

/// What a rule was broken on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum At {
    /// The descriptor at this physical address.
    Slot(u64),
    /// The table at this physical address.
    Table(u64),
}

/// An illegal step.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Broken {
    /// The rule that it breaks.
    pub rule: Rule,
    /// The descriptor or the table.
    pub at: At,
    /// The state of the descriptor, or of the table's link.
    pub state: State,
}

impl Broken {
    /// Why it is illegal: the rule in words, and what the descriptor lacks.
    #[must_use]
    pub const fn why(&self) -> (&'static str, &'static str) {
        (self.rule.text(), self.state.lacks())
    }
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { rule, at, state } = self;
        write!(f, "{}: {}: ", rule.name(), rule.text())?;
        match at {
            At::Slot(slot) => write!(f, "the descriptor at {slot:#x} is in {state:?}")?,
            At::Table(table) => write!(f, "the table at {table:#x}, its link in {state:?}")?,
        }
        if state.lacks().is_empty() { Ok(()) } else { write!(f, ": {}", state.lacks()) }
    }
}

impl core::error::Error for Broken {}
