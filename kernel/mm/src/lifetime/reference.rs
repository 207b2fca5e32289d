//! The state word of a range: whether it is there, whether it is being removed, how many hold it.

use core::fmt;
use core::sync::atomic::Ordering;

use thiserror::Error;

use super::word::{Word, try_update};

const LIVE: u64 = 1 << 32;
const CLOSING: u64 = 1 << 33;

/// What a state word says: 0 in memory is [`Vacant`](State::Vacant).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum State {
    /// No range has this place.
    Vacant,
    /// The range can be held.
    Live {
        /// How many references there are.
        holders: u32,
    },
    /// The range is being removed: it gets no new references.
    Closing {
        /// How many references are left.
        holders: u32,
    },
}

/// No reference was taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum Refused {
    /// The range that was looked up is no longer there.
    #[error("the range is gone: look the address up again")]
    Gone,
    /// The range is being removed, which may be refused yet.
    #[error("the range is being removed: try again once the removal is refused, or do without it")]
    Closing,
    /// There are as many references as can be counted.
    #[error("the range has {} references and can't count more: give some back", u32::MAX)]
    Full,
}

/// A step that the state does not allow; nothing has changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum Misstep {
    /// [`publish`] needs a place that no range has.
    #[error("the place is {0}: publish a range in a vacant one")]
    NotVacant(State),
    /// [`close`] needs a live range.
    #[error("the range is {0}: close it once, while it is live")]
    NotLive(State),
    /// [`reopen`] and [`retire`] need a range that is being removed.
    #[error("the range is {0}: close it first")]
    NotClosing(State),
    /// [`retire`] needs a range that nobody holds.
    #[error("the range has {0} holders: wait until they have let go, or reopen it")]
    Held(u32),
    /// [`unpin`] gives back what somebody took.
    #[error("the range is {0}: give back no more references than were taken")]
    NotPinned(State),
}

impl State {
    /// The state that a word stands for.
    #[must_use]
    #[inline]
    pub const fn decode(word: u64) -> Self {
        let holders = word as u32;
        match (word & LIVE != 0, word & CLOSING != 0) {
            (false, _) => Self::Vacant,
            (true, false) => Self::Live { holders },
            (true, true) => Self::Closing { holders },
        }
    }

    /// The word that stands for the state.
    #[must_use]
    #[inline]
    pub const fn encode(self) -> u64 {
        match self {
            Self::Vacant => 0,
            Self::Live { holders } => LIVE | holders as u64,
            Self::Closing { holders } => LIVE | CLOSING | holders as u64,
        }
    }

    /// How many references there are.
    #[must_use]
    #[inline]
    pub const fn holders(self) -> u32 {
        match self {
            Self::Vacant => 0,
            Self::Live { holders } | Self::Closing { holders } => holders,
        }
    }

    const fn pinned(self) -> Result<Self, Refused> {
        match self {
            Self::Vacant => Err(Refused::Gone),
            Self::Closing { .. } => Err(Refused::Closing),
            Self::Live { holders: u32::MAX } => Err(Refused::Full),
            Self::Live { holders } => Ok(Self::Live { holders: holders + 1 }),
        }
    }

    const fn unpinned(self) -> Result<Self, Misstep> {
        match self {
            Self::Vacant | Self::Live { holders: 0 } | Self::Closing { holders: 0 } => Err(Misstep::NotPinned(self)),
            Self::Live { holders } => Ok(Self::Live { holders: holders - 1 }),
            Self::Closing { holders } => Ok(Self::Closing { holders: holders - 1 }),
        }
    }

    const fn retired(self) -> Result<Self, Misstep> {
        match self {
            Self::Closing { holders: 0 } => Ok(Self::Vacant),
            Self::Closing { holders } => Err(Misstep::Held(holders)),
            _ => Err(Misstep::NotClosing(self)),
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Vacant => f.write_str("vacant"),
            Self::Live { holders } => write!(f, "live, with {holders} holders"),
            Self::Closing { holders } => write!(f, "being removed, with {holders} holders"),
        }
    }
}

/// One step of the state; what it was before.
#[inline]
#[track_caller]
fn step<E>(word: &impl Word, order: Ordering, next: impl Fn(State) -> Result<State, E>) -> Result<State, E> {
    try_update(word, order, |seen| next(State::decode(seen)).map(State::encode)).map(State::decode)
}

/// Lets a range be held. The record's other fields are stored; its struct pages are mapped and initialised.
///
/// # Errors
///
/// [`Misstep::NotVacant`].
pub fn publish(word: &impl Word) -> Result<(), Misstep> {
    let published = |state| match state {
        State::Vacant => Ok(State::Live { holders: 0 }),
        _ => Err(Misstep::NotVacant(state)),
    };
    step(word, Ordering::Release, published).map(drop)
}

/// Takes a reference to the range if it is `still` the one that was looked up: asked once the reference keeps the record as it
/// is. The struct pages then stay until [`unpin`].
///
/// For that moment another range that has the place by now may have a holder too many, and a removal of it may be refused.
///
/// # Errors
///
/// [`Refused`]: nothing is held.
pub fn pin_if(word: &impl Word, still: impl FnOnce() -> bool) -> Result<(), Refused> {
    step(word, Ordering::Acquire, State::pinned)?;
    if still() {
        return Ok(());
    }
    // The reference that was just taken is there to be given back.
    let _ = unpin(word);
    Err(Refused::Gone)
}

/// Gives a reference back, after the last use of the struct pages.
///
/// # Errors
///
/// [`Misstep::NotPinned`].
pub fn unpin(word: &impl Word) -> Result<(), Misstep> {
    step(word, Ordering::Release, State::unpinned).map(drop)
}

/// Refuses new references from now on; how many there are. If none, all that holders did has happened.
///
/// # Errors
///
/// [`Misstep::NotLive`].
pub fn close(word: &impl Word) -> Result<u32, Misstep> {
    let closed = |state| match state {
        State::Live { holders } => Ok(State::Closing { holders }),
        _ => Err(Misstep::NotLive(state)),
    };
    step(word, Ordering::Acquire, closed).map(State::holders)
}

/// How many references there are. After [`close`] they only become fewer; if none, all that holders did has happened.
#[must_use]
pub fn holders(word: &impl Word) -> u32 {
    State::decode(word.load(Ordering::Acquire)).holders()
}

/// Undoes [`close`]: the removal is refused, and nothing else has changed.
///
/// # Errors
///
/// [`Misstep::NotClosing`].
pub fn reopen(word: &impl Word) -> Result<(), Misstep> {
    let reopened = |state| match state {
        State::Closing { holders } => Ok(State::Live { holders }),
        _ => Err(Misstep::NotClosing(state)),
    };
    step(word, Ordering::Relaxed, reopened).map(drop)
}

/// Makes the place vacant, after the struct pages were unmapped.
///
/// # Errors
///
/// [`Misstep::NotClosing`], [`Misstep::Held`].
pub fn retire(word: &impl Word) -> Result<(), Misstep> {
    step(word, Ordering::Relaxed, State::retired).map(drop)
}
