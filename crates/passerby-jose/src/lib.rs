//! Pure cryptographic formats over aws-lc-rs: compact JWS (RFC 7515) with ES256, EdDSA and RS256, compact JWE
//! (RFC 7516) with `dir` and A256GCM, DPoP proofs (RFC 9449), key derivation, keyed hashes and blobs sealed at rest.
//!
//! It knows nothing of guests, tenants, time or storage. Three rules make it hard to misuse:
//!
//! - the algorithm belongs to the key; a token's header may only agree with it (RFC 8725 section 3.1);
//! - there is one spelling of everything: base64url without padding and with clear trailing bits, no duplicate header
//!   members, none of the header members that bring a key, a compression or an extension along (but the key of a proof,
//!   which proves that its maker holds it, and nothing else);
//! - keys are parsed once; what is secret is wiped when dropped and never printed.
//!
//! A reader never panics, whatever text it is given, and its errors say no more than which check failed.

mod algorithm;
pub mod b64;
mod header;
mod jwk;
mod key;
mod key_set;
mod legacy;
mod proof;
mod seal;
mod secret;
mod sign;

pub use algorithm::Algorithm;
pub use key::{Header, SigningKey, VerifyingKey};
pub use key_set::KeySet;
pub use legacy::{Pbkdf2, aes_256_ctr, sha1};
pub use proof::{MAX_PROOF, Proof, parse_proof};
pub use seal::{JweHeader, SealingKey, peek_jwe};
pub use secret::{BlobKey, MacKey, derive, fill_random, mac, open_blob, same, seal_blob, sha256};
pub use sign::{Jws, parse_jws};

/// Longest token that is read, in bytes (16 KiB).
pub const MAX_TOKEN: usize = 16 * 1024;
/// Longest token header that is read, in bytes after decoding (1 KiB).
pub const MAX_HEADER: usize = 1024;

/// Which check failed; nothing about the value that failed it. To a client all of them are one answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum JoseError {
    /// Not a token of the expected shape, or not in its only spelling.
    #[error("the token is malformed")]
    Malformed,
    /// An algorithm that is not on the list, or not the key's.
    #[error("the algorithm is not accepted")]
    Algorithm,
    /// No `typ`, or not the expected one.
    #[error("the token is of another type")]
    Type,
    /// A key that cannot be read or used, or a token that names no key or another one.
    #[error("the key does not fit")]
    Key,
    /// The signature does not belong to the text and the key.
    #[error("the signature is wrong")]
    Signature,
    /// The ciphertext does not belong to the key, or was changed.
    #[error("the content cannot be opened")]
    Decrypt,
}

#[cfg(test)]
mod forged;
