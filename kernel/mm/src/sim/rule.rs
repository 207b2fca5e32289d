//! The rules that the adversary enforces, each with where it comes from.

use std::fmt;

macro_rules! rules {
    ($($(#[$doc:meta])* $name:ident = $code:literal, $text:literal, $source:literal;)*) => {
        /// A rule: of what a program must not do (E1 to E12), or of what it takes until hardware has forgotten (R1 to R16).
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        pub enum Rule {
            $($(#[$doc])* #[doc = concat!($code, ": ", $text, " (", $source, ").")] $name,)*
        }

        impl Rule {
            /// Every rule.
            pub const ALL: &[Self] = &[$(Self::$name),*];

            /// Its number.
            #[must_use]
            pub const fn code(self) -> &'static str {
                match self { $(Self::$name => $code),* }
            }

            /// The rule in words.
            #[must_use]
            pub const fn text(self) -> &'static str {
                match self { $(Self::$name => $text),* }
            }

            /// Where it comes from: ids of the Arm Architecture Reference Manual, or what else it rests on.
            #[must_use]
            pub const fn source(self) -> &'static str {
                match self { $(Self::$name => $source),* }
            }
        }
    };
}

rules! {
    Access = "E1", "an access sees what the tables say, and nothing else", "RTGRMW, RGPPYH";
    Visible = "E2a", "an operation ends with its stores visible to every walk", "RSPVBD";
    Forgotten = "E2b", "an operation ends with what it took away forgotten by every CPU", "RFFWJK, RLXHLD";
    Synchronised = "E2c", "an operation ends with its own CPU's context synchronised", "RBLDZX, IWZCBG";
    FreedFrame = "E3a", "a frame is given back when nothing can reach it any more", "RDCJQM, IBBMSB";
    FreedTable = "E3b", "a table is given back when no walk can reach it any more", "RRVJDB, RDCJQM";
    LiveChange = "E4", "a live descriptor changes by break-before-make", "RDDMVT, RWHZWS";
    Overlap = "E5", "no address has two different translations that may both be cached", "RFVQCK, RWHZWS";
    IllFormed = "E6", "descriptors are well formed for level, granule and output size", "D8.3 descriptor formats; a policy of our own: AF set, global, W^X, no limits by tables";
    Unordered = "E7", "a table is complete, in the order that walks see, before it is linked", "RRGPMV, RSPVBD";
    Run = "E8", "a contiguous run is whole, aligned in both addresses, of one kind", "RSKQHL, RQTRPM";
    Operand = "E9", "a TLBI operand names what it is meant to", "IZVNJG, IQPHNP, ITYBWT";
    Race = "E10", "a slot has one writer at a time", "RSPVBD; our reading";
    Registers = "E11", "the registers are legal, and what they change is forgotten", "RVNRFW, RKBLCR";
    Accounts = "E12", "frames come back once, and from where they went", "the allocator's contract";
    Order = "R1", "an invalidation takes away only what can't be walked again: a DSB comes before it", "RTGVWD";
    LastLevel = "R2", "the last-level forms leave table entries", "RJXKNN";
    Asid = "R3", "the forms for one ASID leave table entries", "RVMSWQ";
    Hint = "R4", "a level hint takes away leaves of that level only", "RSQXYZ";
    HintOnTable = "R5", "a level hint takes away no table entry", "ILTZBK; our reading for table entries";
    Scope = "R6", "a local invalidation reaches the CPU that issued it", "D8.17 TLBI scope";
    LoadsToo = "R7", "the DSB that completes an invalidation covers loads and stores", "RPSMWS";
    Domain = "R8", "the DSB that completes a broadcast reaches the domain that it went to", "RPSMWS, K11.5.3.2";
    Issuer = "R9", "the DSB that completes an invalidation is its issuer's", "RYNJCP";
    Context = "R10", "the issuer itself forgets at its next context synchronisation", "RBLDZX";
    Member = "R11", "an invalidation takes away one member of a contiguous run", "RLQLSD, IJQPNP";
    Rewalk = "R12", "a member that is still valid brings the whole run back", "RSKQHL";
    Granule = "R13", "a range invalidation for another granule takes nothing away", "RXKMMX";
    Old = "R14", "until its writer's DSB a walk may see the old descriptor", "RTGRMW, RSPVBD";
    OldInvalid = "R15", "until a context synchronisation a CPU may see the old invalid descriptor", "IWZCBG; our reading for data";
    Intermediate = "R16", "a table entry that is still cached keeps what is below it reachable", "RRVJDB";
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.code(), self.text())
    }
}
