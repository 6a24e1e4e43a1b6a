//! The verifier against an issuer of its own: over HTTP, with a clock that is moved by hand. A test whose name begins with
//! `line_NN` holds that line of the security checklist.
#![allow(missing_docs, unreachable_pub, clippy::missing_panics_doc)]
#![allow(
    clippy::duration_suboptimal_units,
    clippy::needless_pass_by_value,
    reason = "a test reads best in the steps of its rule"
)]

mod dpop;
mod epochs;
mod issuer;
mod keys;
mod layer;
mod signer;
mod tokens;
