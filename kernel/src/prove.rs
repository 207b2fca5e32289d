//! Proofs on the running machine: each looks at the machine itself, not at what the library believes.

mod added;
mod books;
mod struct_pages;
mod tables;
mod tlb;

pub use added::{Added, Proved, came_back};
pub use books::Books;
pub use struct_pages::Expected;
pub use tables::{Leaf, at_agrees, attributes_agree, leaf_vas, leaves, linear_agrees, linear_reads};
pub use tlb::{Gone, gone, touch};

use alloc::string::String;

/// What was found wrong, in words.
pub type Failures = alloc::vec::Vec<String>;
