//! Validity, references and removal: who may use a struct page, and when it may go.
//!
//! A range that is hot-added has a state word in its record in RAM, and its pfns have bits in the maps of sub-sections. A
//! reader of its struct pages does one of two things:
//! - it takes a reference ([`pin_if`]): the struct pages stay until [`unpin`], for as long as it likes;
//! - it opens a read section ([`Readers::enter`], or the adopter's RCU) and looks whether the pfn is valid ([`is_active`])
//!   *inside* it: if so the struct page stays until the section ends.
//!
//! An add maps and initialises the struct pages, then [`publish`]es the record and [`activate`]s the pfns. A removal is, in
//! this order:
//! 1. [`close`] the record: no new references. If it has holders, wait until [`holders`] says 0, or [`reopen`] and refuse;
//! 2. [`deactivate`] the pfns: read sections that begin now find none;
//! 3. [`wait_for_readers`](crate::seam::Quiesce::wait_for_readers): those that found one have ended;
//! 4. unmap the struct pages;
//! 5. [`retire`] the record, whose place is free for another range.
//!
//! Records are never freed. A reader that is late finds its place vacant, or another range in it: so what it knew of the
//! record is looked at again once the reference is held, which is why [`pin_if`] is the only way to one.
//!
//! # Orderings
//!
//! Every change of a word is an exchange, so that each release below heads a release sequence which all later values of the
//! word belong to: who reads any of them with acquire sees what came before the release, whoever changed the word since.
//! - `publish` releases, `pin_if` acquires: who has a reference sees struct pages mapped and initialised, and the record's
//!   other fields.
//! - `unpin` releases, `close` and `holders` acquire: who finds no holder sees all that holders did, and unmaps after it.
//! - `activate` releases, `is_active` acquires: who finds a pfn valid sees its initialised struct page.
//! - `reopen`, `retire` and `deactivate` order nothing: a reopened range is what it was; who finds a slot vacant reads nothing
//!   behind it; invalid pfns wait for step 3, which orders more than they could.
//! - A read section against steps 2 and 3 is [`Readers`]' matter: each side writes one word and then reads the other's, with
//!   a sequentially consistent fence between.
//!
//! What is exact is checked: `tests/loom.rs` runs the protocol in every order and with every outcome that the memory model
//! allows, and weakens one ordering after the other; without any of them a struct page is used that is gone.

mod readers;
mod reference;
#[cfg(test)]
mod tests;
mod validity;
mod word;

pub use readers::{Readers, Section};
pub use reference::{Misstep, Refused, State, close, holders, pin_if, publish, reopen, retire, unpin};
pub use validity::{activate, deactivate, is_active};
pub use word::{MemoryWord, Word};
pub(crate) use word::{try_update, update};
