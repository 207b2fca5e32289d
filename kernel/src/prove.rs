//! Proofs on the running machine: each looks at the machine itself, not at what the library believes.

mod books;
mod patterns;
mod tables;
mod tlb;

pub use books::Books;
pub use patterns::patterns_agree;
pub use tables::{Leaf, at_agrees, leaf_vas, leaves};
pub use tlb::{Gone, gone, touch};

use alloc::string::String;

/// What was found wrong, in words.
pub type Failures = alloc::vec::Vec<String>;
