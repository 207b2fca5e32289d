//! What must not be.

use core::fmt;

use super::State;

macro_rules! rules {
    ($($(#[$doc:meta])* $rule:ident = $name:literal, $text:literal;)*) => {
        /// A rule of the protocol.
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        pub enum Rule {
            $($(#[$doc])* $rule,)*
        }

        impl Rule {
            /// Every rule.
            pub const ALL: &[Self] = &[$(Self::$rule),*];

            /// Its name.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$rule => $name),* }
            }

            /// What is wrong, in words.
            #[must_use]
            pub const fn text(self) -> &'static str {
                match self { $(Self::$rule => $text),* }
            }
        }
    };
}

rules! {
    /// A valid descriptor takes the place of one that some CPU may still hold.
    Rebuilt = "rebuilt", "a valid descriptor is written where the old one is not forgotten";
    /// A valid descriptor takes the place of another one, and more than permissions changes.
    LiveChange = "live-change", "a valid descriptor is replaced by another one, without break-before-make";
    /// A link is made to a page that nobody zeroed.
    Unzeroed = "unzeroed", "a link is made to a page that nobody zeroed";
    /// A link is made to a table before a barrier orders what was written to it.
    Unordered = "unordered", "a link is made to a table before a barrier orders what was written to it";
    /// A second link is made to a table.
    LinkedTwice = "linked-twice", "a second link is made to a table";
    /// A link is cut while the table behind it has a valid descriptor, or a leaf that is not forgotten.
    Children = "children", "a link is cut before the leaves behind it are cleared and forgotten";
    /// A table is written while some CPU may still walk it by its old link.
    Frozen = "frozen", "a table is written before the invalidation of its link is complete";
    /// A TLBI comes before the DSB after the change, so that a walk may bring the old descriptor back.
    Early = "early", "a TLBI comes before the DSB that makes the change visible";
    /// A member of a contiguous run is invalidated or made valid while another one says something else.
    Run = "run", "a member of a contiguous run changes while another one still says something else";
    /// A contiguous run is not whole when its operation ends.
    PartialRun = "partial-run", "an operation ends with a contiguous run that is not whole";
    /// An operation ends with a descriptor on its way.
    Unfinished = "unfinished", "an operation ends with a descriptor on its way";
    /// A table is given back while walks can reach it.
    FreedTable = "freed-table", "a table is given back while walks can reach it";
    /// A frame is given back while a leaf that was made for it is there, or not forgotten.
    FreedFrame = "freed-frame", "a frame is given back while a leaf maps it, or is not forgotten";
    /// A table that walks can reach is handed out, or zeroed.
    Reused = "reused", "a table that walks can reach is handed out or zeroed";
    /// Something is used before it is mapped and the mapping published.
    Touched = "touched", "an address is used before it is mapped and the mapping published";
    /// A slot does not hold what was last written to it.
    Unseen = "unseen", "a slot does not hold what was last written to it";
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
