//! virtio-mem: a region of which the host wants more or fewer bytes plugged, at any time (VIRTIO 1.2, section 5.15).
//!
//! The driver chooses which. It keeps its own books of what it plugged, range by range, since a range goes back whole:
//! the host's request is served as nearly as its ranges allow, and never exceeded.
//!
//! A range is plugged, told, and then added by the caller; or told, removed by the caller, and then unplugged. What can't
//! be unplugged is *leaving*: nobody uses it, and it is tried again in each round, after a look at its state.

mod books;
mod config;
mod error;
mod request;

use alloc::vec::Vec;

use vmemmap::addr::{PhysAddr, PhysRange};
use vmemmap::granule::SUBSECTION_BYTES;

use crate::{Answer, Change, DeviceError, DeviceMemory};
use books::{Books, Standing};

pub use config::{CONFIG_BYTES, Config, ConfigError};
pub use error::Error;
pub use request::{REQUEST_BYTES, RESPONSE_BYTES, Request, Response};

/// `virtio_mem_resp_state`: all blocks are plugged, none is, or some are.
const STATE_PLUGGED: u16 = 0;
const STATE_UNPLUGGED: u16 = 1;
const STATE_MIXED: u16 = 2;

/// The way to a virtio-mem device: what the driver needs of PCI and of the queue.
///
/// It accepts `VIRTIO_MEM_F_UNPLUGGED_INACCESSIBLE` where that is offered: nobody here touches memory that is not plugged.
pub trait Transport {
    /// The device's configuration, all of one generation.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] as [`Config::parse`] says, [`Error::Transport`] if it can't be read.
    fn config(&mut self) -> Result<Config, Error>;

    /// Sends one request on the guest-request queue and waits for its answer.
    ///
    /// # Errors
    ///
    /// [`Error::UnknownResponse`] as [`Response::decode`] says, [`Error::Transport`] if the queue breaks. The driver then
    /// takes it that the request may have been carried out, and asks.
    fn request(&mut self, request: Request) -> Result<Response, Error>;

    /// Acknowledges the device's interrupt, if it has one. A change of the configuration from here on raises the next.
    fn acknowledge(&mut self) {}
}

/// How far a round is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Round {
    /// None is under way.
    Over,
    /// The request is served, up or down.
    Open,
    /// Plugging has failed: what was plugged is asked back at most.
    NoPlugs,
}

/// The driver of one virtio-mem device.
///
/// Its [errors](Error) are told once, until the device says something else than before: whoever polls may print them all.
#[derive(Debug)]
pub struct VirtioMem<T> {
    transport: T,
    /// Ranges are cut at multiples of this address.
    memory_block: Option<u64>,
    first: Config,
    /// Whether blocks may be plugged that a kernel before this one plugged.
    leftover: bool,
    books: Books,
    round: Round,
    pending: Option<Change>,
    /// What the configuration was when it was last read, without the plugged bytes that are in the books.
    heard: Option<Result<Config, Error>>,
    /// The errors that were told since it changed.
    said: Vec<Error>,
}

impl<T: Transport> VirtioMem<T> {
    /// The driver of the device behind `transport`. No range that it brings crosses a multiple of `memory_block` bytes.
    ///
    /// Blocks that a kernel before this one left plugged are unplugged by the first [`poll`](DeviceMemory::poll).
    ///
    /// # Errors
    ///
    /// [`Error::MemoryBlock`] if `memory_block` is no multiple of what is plugged at least, and whatever
    /// [`Transport::config`] says.
    pub fn new(mut transport: T, memory_block: Option<u64>) -> Result<Self, Error> {
        let first = transport.config()?;
        if let Some(memory_block) = memory_block {
            check_memory_block(memory_block, unit_of(&first))?;
        }
        let (books, leftover) = (Books::default(), first.plugged_size() != 0);
        let (round, pending, heard, said) = (Round::Over, None, None, Vec::new());
        Ok(Self { transport, memory_block, first, leftover, books, round, pending, heard, said })
    }

    fn unit(&self) -> u64 {
        unit_of(&self.first)
    }

    /// Bytes that are plugged, as far as the driver knows.
    fn plugged(&self) -> u64 {
        self.books.added() + self.books.leaving()
    }

    /// The next change; `None` if there is none, or the reason has been told.
    fn next(&mut self) -> Result<Option<Change>, Error> {
        if self.round == Round::Over {
            self.begin_round();
        }
        if self.leftover && !self.clear_leftover()? {
            return Ok(None);
        }
        while let Some(range) = self.books.next_leaving() {
            let settled = self.settle(range);
            self.once(settled)?;
        }
        let heard = self.hear();
        match self.once(heard)? {
            Some(config) => self.serve(&config),
            None => Ok(None),
        }
    }

    fn begin_round(&mut self) {
        self.transport.acknowledge();
        self.books.begin_round();
        self.round = Round::Open;
        // An error of the last round is told again if this is another configuration. Whether it can be is said below.
        let _ = self.hear();
    }

    /// Passes `result` on, but an error that has been told as `None`.
    fn once<V>(&mut self, result: Result<V, Error>) -> Result<Option<V>, Error> {
        match result {
            Ok(value) => Ok(Some(value)),
            Err(error) if self.said.contains(&error) => Ok(None),
            Err(error) => {
                self.said.push(error.clone());
                Err(error)
            }
        }
    }

    /// Reads the configuration. If it is another than before, every error is news again.
    fn hear(&mut self) -> Result<Config, Error> {
        let heard = self.transport.config().and_then(|config| self.same_device(config));
        let news = heard.clone().map(|config| config.without_plugged(self.plugged()));
        if self.heard.as_ref() != Some(&news) {
            self.said.clear();
            self.books.forget_declined();
            self.heard = Some(news);
        }
        heard
    }

    fn same_device(&self, config: Config) -> Result<Config, Error> {
        if self.first.is_same_device(&config) {
            return Ok(config);
        }
        let (from, from_block_size) = (self.first.region(), self.first.block_size());
        let (to, to_block_size) = (config.region(), config.block_size());
        Err(Error::Changed { from, from_block_size, to, to_block_size })
    }

    /// Unplugs what a kernel before this one left, tried once in a round. Whether it is gone.
    fn clear_leftover(&mut self) -> Result<bool, Error> {
        if self.round == Round::Open {
            let cleared = self.ask(Request::UnplugAll);
            self.leftover = cleared.is_err();
            if self.leftover {
                self.round = Round::NoPlugs;
            }
            self.once(cleared)?;
        }
        Ok(!self.leftover)
    }

    /// Unplugs what is left of a range that is leaving.
    fn settle(&mut self, range: PhysRange) -> Result<(), Error> {
        let (addr, blocks) = (range.start(), self.blocks(range));
        let request = Request::State { addr, blocks };
        match self.ask(request)? {
            STATE_UNPLUGGED => self.books.strike(range),
            STATE_PLUGGED => {
                self.ask(Request::Unplug { addr, blocks })?;
                self.books.strike(range);
            }
            STATE_MIXED if blocks > 1 => {
                self.books.split(range, addr.add(u64::from(blocks / 2) * self.first.block_size()));
            }
            state => return Err(Error::UnknownState { request, state }),
        }
        Ok(())
    }

    /// Brings what is plugged nearer to what the host requests.
    fn serve(&mut self, config: &Config) -> Result<Option<Change>, Error> {
        let agreed = self.check_plugged(config);
        self.once(agreed)?;
        let target = config.requested_size() - config.requested_size() % self.unit();
        let whole = self.check_whole(config.requested_size(), target);
        self.once(whole)?;
        let missing = target.saturating_sub(self.plugged());
        if self.round == Round::Open && missing >= self.unit() {
            return self.grow(config, missing);
        }
        // What is leaving is on its way already.
        let excess = self.books.added().saturating_sub(target);
        Ok(self.books.highest_within(excess).map(Change::AskedBack))
    }

    fn check_plugged(&mut self, config: &Config) -> Result<(), Error> {
        let (device, driver) = (config.plugged_size(), self.plugged());
        // What is leaving may be unplugged or not.
        if device == driver || self.books.leaving() != 0 {
            return Ok(());
        }
        self.round = Round::NoPlugs;
        Err(Error::Plugged { device, driver })
    }

    fn check_whole(&self, requested: u64, served: u64) -> Result<(), Error> {
        if requested == served {
            return Ok(());
        }
        let unit = self.unit();
        Err(Error::Fraction { requested, unit, nearest: nearest_multiple(requested, unit), served })
    }

    /// Plugs the next range, of at most `missing` bytes.
    fn grow(&mut self, config: &Config, missing: u64) -> Result<Option<Change>, Error> {
        let plugged = self.place(config, missing).and_then(|range| self.plug(range));
        if plugged.is_err() {
            self.round = Round::NoPlugs;
        }
        Ok(self.once(plugged)?.map(Change::Appeared))
    }

    /// The lowest free place, those that were declined last, of at most `missing` bytes and inside one memory block.
    fn place(&mut self, config: &Config, missing: u64) -> Result<PhysRange, Error> {
        let region = config.region();
        let usable = range(region.start(), region.start().add(config.usable_region_size()));
        let mut gap = self.books.lowest_gap(usable, self.unit());
        if gap.is_none() && self.books.forget_declined() {
            gap = self.books.lowest_gap(usable, self.unit());
        }
        let Some(gap) = gap else {
            let (requested, plugged) = (config.requested_size(), self.plugged());
            return Err(Error::NoRoom { requested, plugged, usable: usable.bytes(), region });
        };
        let start = gap.start().value();
        let whole = missing - missing % self.unit();
        let cut = self.memory_block.map_or(u64::MAX, |block| (start / block + 1) * block);
        let end = gap.end().value().min(start.saturating_add(whole)).min(cut);
        Ok(range(gap.start(), PhysAddr::new(end)))
    }

    /// Plugs `range` whole, or not at all.
    fn plug(&mut self, whole: PhysRange) -> Result<PhysRange, Error> {
        for piece in self.pieces(whole) {
            let (addr, blocks) = (piece.start(), self.blocks(piece));
            if let Err(error) = self.ask(Request::Plug { addr, blocks }) {
                if error.leaves_doubt() {
                    self.books.enter(piece, Standing::Leaving);
                }
                // Why it could not be plugged counts; what could not be undone is leaving, and told in the next round.
                let _ = self.unplug(range(whole.start(), addr));
                return Err(error);
            }
        }
        Ok(whole)
    }

    /// Unplugs `range`, which is not in the books. What does not go is leaving; the error is the first one.
    fn unplug(&mut self, whole: PhysRange) -> Result<(), Error> {
        let mut outcome = Ok(());
        for piece in self.pieces(whole) {
            let (addr, blocks) = (piece.start(), self.blocks(piece));
            if let Err(error) = self.ask(Request::Unplug { addr, blocks }) {
                self.books.enter(piece, Standing::Leaving);
                outcome = outcome.and(Err(error));
            }
        }
        outcome
    }

    /// `whole` in pieces of as many blocks as one request can name.
    fn pieces(&self, whole: PhysRange) -> impl Iterator<Item = PhysRange> + use<T> {
        let most = self.first.block_size().saturating_mul(u64::from(u16::MAX));
        let (start, end) = (whole.start().value(), whole.end().value());
        let piece = move |at: u64| range(PhysAddr::new(at), PhysAddr::new(at.saturating_add(most).min(end)));
        (start..end).step_by(most as usize).map(piece)
    }

    /// Blocks of a range that one request can name.
    fn blocks(&self, piece: PhysRange) -> u16 {
        (piece.bytes() / self.first.block_size()).try_into().expect("pieces are of 65535 blocks at most")
    }

    /// Sends a request. The value is the state that comes with an ACK.
    fn ask(&mut self, request: Request) -> Result<u16, Error> {
        self.transport.request(request)?.outcome(request)
    }
}

impl<T: Transport> DeviceMemory for VirtioMem<T> {
    fn source(&self) -> &'static str {
        "virtio-mem"
    }

    /// # Panics
    ///
    /// If the change before was not [agreed](Self::agree).
    fn poll(&mut self) -> Result<Option<Change>, DeviceError> {
        assert!(self.pending.is_none(), "{:?} is to be answered before the next poll", self.pending);
        self.pending = self.next()?;
        if self.pending.is_none() {
            self.round = Round::Over;
        }
        Ok(self.pending)
    }

    fn give_back(&mut self, range: PhysRange) -> Result<(), DeviceError> {
        self.books.strike(range);
        let outcome = self.unplug(range);
        self.once(outcome)?;
        Ok(())
    }

    /// # Panics
    ///
    /// If `change` is not what the last [`poll`](Self::poll) told, or was answered already.
    fn agree(&mut self, change: Change, answer: Answer) -> Result<(), DeviceError> {
        assert_eq!(self.pending.take(), Some(change), "only the change that was told last can be answered, and once");
        let outcome = match (change, answer) {
            (Change::Appeared(range), Answer::Done) => {
                self.books.enter(range, Standing::Added);
                Ok(())
            }
            (Change::Appeared(range), Answer::Refused) => {
                self.round = Round::NoPlugs;
                self.unplug(range).inspect(|()| self.books.enter(range, Standing::Declined))
            }
            (Change::AskedBack(range), Answer::Done) => {
                self.books.strike(range);
                self.unplug(range)
            }
            (Change::AskedBack(range), Answer::Refused) => {
                self.books.keep(range);
                Ok(())
            }
        };
        self.once(outcome)?;
        Ok(())
    }
}

/// What is plugged at least, in bytes: a block, and what hot-plug goes by.
fn unit_of(config: &Config) -> u64 {
    config.block_size().max(SUBSECTION_BYTES)
}

fn check_memory_block(memory_block: u64, unit: u64) -> Result<(), Error> {
    if memory_block != 0 && memory_block.is_multiple_of(unit) {
        return Ok(());
    }
    let nearest = nearest_multiple(memory_block, unit).max(unit);
    Err(Error::MemoryBlock { memory_block, unit, nearest })
}

/// The multiple of `unit` that is nearest to `bytes`, of those below 2^64.
fn nearest_multiple(bytes: u64, unit: u64) -> u64 {
    let (below, rest) = (bytes - bytes % unit, bytes % unit);
    if rest < unit - rest { below } else { below.checked_add(unit).unwrap_or(below) }
}

fn range(start: PhysAddr, end: PhysAddr) -> PhysRange {
    PhysRange::between(start, end).expect("ranges lie inside the region, which ends below 2^52")
}
