#![doc = include_str!("../README.md")]

mod builder;
mod clock;
mod dpop;
mod epochs;
mod error;
mod fetch;
mod issuer;
mod jws;
mod key;
#[cfg(feature = "tower")]
mod layer;
mod refusal;
mod replay;
mod require;
mod verified;
mod verifier;

pub use builder::{BuildError, Builder};
pub use clock::{Clock, SystemClock};
pub use epochs::EpochFeed;
pub use error::{Error, HolderFault, Lack, ProofFault, RequestFault, TokenFault};
#[cfg(feature = "reqwest")]
pub use fetch::ReqwestFetch;
pub use fetch::{Fetch, FetchError, FetchFuture};
pub use key::Algorithm;
#[cfg(feature = "tower")]
pub use layer::{Verify, VerifyLayer};
pub use require::{Holder, Require};
pub use verified::Verified;
pub use verifier::Verifier;
