//! A guest comes into an account: the pure algebra of the data (text goes in, text comes out; no clock, no randomness, no
//! storage), and the use cases around it.
//!
//! - `policy`: what holds where both have a value, by JSON pointer. - `algebra`: the merge and its conflicts.
//! - `undo`: the account's data as it was before, but for what was written since. - `report`: the bounded lists.
//! - `ticket`: what may be merged, and the preview. - `commit`: both proofs again, and the one commit. - `exchange`: the same
//!   by two tokens. - `receipt`: what is signed of it. - `transfer`: what is kept of it, and the application's word. -
//!   `reversal`: it is taken back.

mod algebra;
mod commit;
mod exchange;
mod policy;
mod receipt;
mod report;
mod reversal;
mod ticket;
mod transfer;
mod undo;

pub(crate) use self::ticket::can_merge;
pub use self::{
    algebra::{Conflict, Kept, Merged, merge},
    commit::{MergeAnswer, MergeRequest, MergedInto},
    exchange::{TokenMerge, TokenText},
    policy::{Policies, Policy, Whole},
    report::MAX_LISTED,
    reversal::UndoneMerge,
    ticket::{Offer, Preview},
    transfer::{TransferState, TransferView},
    undo::{Left, Undone, undo},
};

#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;
