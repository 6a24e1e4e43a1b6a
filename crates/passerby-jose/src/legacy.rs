//! Functions that only what others made needs: PBKDF2 (RFC 8018) and AES-CTR of password hashes that are taken over, and
//! SHA-1, under which lists of breached passwords are kept. Nothing of our own is made with them.

use std::num::NonZeroU32;

use aws_lc_rs::{
    cipher::{AES_256, EncryptingKey, EncryptionContext, UnboundCipherKey},
    digest,
    iv::FixedLength,
    pbkdf2,
};

use crate::JoseError;

/// PBKDF2 with HMAC and one of these hashes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pbkdf2 {
    /// HMAC with SHA-1.
    Sha1,
    /// HMAC with SHA-256.
    Sha256,
    /// HMAC with SHA-512.
    Sha512,
}

impl Pbkdf2 {
    /// Length of the hash in bytes: a derived key costs `rounds` for each part of this length.
    pub fn block(self) -> usize {
        match self {
            Self::Sha1 => 20,
            Self::Sha256 => 32,
            Self::Sha512 => 64,
        }
    }

    /// Whether `key` is derived from `secret`, compared in constant time. The caller bounds `rounds` and the key's length:
    /// they are what it costs. No key is derived from anything when it is empty.
    pub fn matches(self, rounds: NonZeroU32, salt: &[u8], secret: &[u8], key: &[u8]) -> bool {
        let algorithm = match self {
            Self::Sha1 => pbkdf2::PBKDF2_HMAC_SHA1,
            Self::Sha256 => pbkdf2::PBKDF2_HMAC_SHA256,
            Self::Sha512 => pbkdf2::PBKDF2_HMAC_SHA512,
        };
        pbkdf2::verify(algorithm, rounds, salt, secret, key).is_ok()
    }
}

/// Enciphers `data` in place by AES-256-CTR (NIST SP 800-38A) with a counter that begins at zero, as Firebase does in its
/// password hashes: right only for a key that is used for this one text. Nothing is authenticated.
///
/// # Errors
/// [`JoseError::Key`] when the library cannot encrypt.
pub fn aes_256_ctr(key: &[u8; 32], data: &mut [u8]) -> Result<(), JoseError> {
    let zero = EncryptionContext::Iv128(FixedLength::from([0; 16]));
    UnboundCipherKey::new(&AES_256, key)
        .and_then(EncryptingKey::ctr)
        .and_then(|key| key.less_safe_encrypt(data, zero))
        .map(drop)
        .map_err(|_| JoseError::Key)
}

/// SHA-1 (FIPS 180-4): no protection against anybody who chooses the data.
pub fn sha1(data: &[u8]) -> [u8; 20] {
    let mut out = [0; 20];
    out.copy_from_slice(digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, data).as_ref());
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(hex: &str) -> Vec<u8> {
        (0..hex.len()).step_by(2).map(|i| u8::from_str_radix(&hex[i..i + 2], 16).unwrap()).collect()
    }

    #[test]
    fn vectors() {
        let rounds = NonZeroU32::new(4096).unwrap();
        // RFC 6070
        let key = bytes("4b007901b765489abead49d926f721d065a429c1");
        assert!(Pbkdf2::Sha1.matches(rounds, b"salt", b"password", &key));
        // RFC 7914 section 11: the first half of its key, since each part is derived alone
        let one = NonZeroU32::new(1).unwrap();
        let key = bytes("55ac046e56e3089fec1691c22544b605f94185216dde0465e68b9d57c20dacbc");
        assert!(Pbkdf2::Sha256.matches(one, b"salt", b"passwd", &key));
        assert!(!Pbkdf2::Sha256.matches(rounds, b"salt", b"passwd", &key));
        assert!(!Pbkdf2::Sha512.matches(one, b"salt", b"passwd", &key));
        assert!(!Pbkdf2::Sha256.matches(one, b"salt", b"passwd", &[]));
        // made with Python's hashlib
        let thousand = NonZeroU32::new(1000).unwrap();
        let key = bytes(concat!(
            "afe6c5530785b6cc6b1c6453384731bd5ee432ee549fd42fb6695779ad8a1c5b",
            "f59de69c48f774efc4007d5298f9033c0241d5ab69305e7b64eceeb8d834cfec"
        ));
        assert!(Pbkdf2::Sha512.matches(thousand, b"salt", b"password", &key));
        // the key stream itself: H of GCM's test case 13, which is the same block
        let mut data = [0; 16];
        aes_256_ctr(&[0; 32], &mut data).unwrap();
        assert_eq!(data.to_vec(), bytes("dc95c078a2408989ad48a21492842087"));
        assert_eq!(sha1(b"abc").to_vec(), bytes("a9993e364706816aba3e25717850c26c9cd0d89d"));
    }
}
