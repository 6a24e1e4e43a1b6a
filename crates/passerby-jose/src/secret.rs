//! Derivation, keyed hash, hash, randomness and blobs at rest.

use std::{cell::RefCell, fmt};

use aws_lc_rs::{aead, constant_time, digest, hkdf, hmac, rand};
use zeroize::Zeroizing;

use crate::{JoseError, seal::aes_256_gcm};

/// The first byte of a blob: AES-256-GCM with a random nonce.
const BLOB_VERSION: u8 = 1;
const NONCE: usize = 12;
const TAG: usize = 16;

/// A 32-byte key derived from `master` by HKDF with SHA-256 (RFC 5869), without salt. Each part of `info` is preceded
/// by its length (4 bytes, big-endian), so that no two lists of parts give the same key. `master` must have been
/// random: this is no password hash.
#[expect(clippy::missing_panics_doc, reason = "neither step can fail: see there")]
pub fn derive(master: &[u8], info: &[&[u8]]) -> Zeroizing<[u8; 32]> {
    let lengths: Vec<[u8; 4]> = info.iter().map(|part| (part.len() as u32).to_be_bytes()).collect();
    let parts: Vec<&[u8]> = lengths.iter().zip(info).flat_map(|(length, part)| [length.as_slice(), part]).collect();
    let mut key = Zeroizing::new([0; 32]);
    // neither step can fail: one hash length is within HKDF's range, and `key` is exactly that long
    hkdf::Salt::new(hkdf::HKDF_SHA256, &[])
        .extract(master)
        .expand(&parts, hkdf::HKDF_SHA256)
        .and_then(|okm| okm.fill(key.as_mut()))
        .expect("32 bytes of HKDF-SHA256");
    key
}

/// A key for HMAC with SHA-256 (RFC 2104), prepared once.
#[derive(Clone)]
pub struct MacKey(hmac::Key);

impl MacKey {
    /// From secret bytes; 32 are the right number.
    pub fn new(key: &[u8]) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, key))
    }

    /// The keyed hash of the parts as if they were one text: a caller whose parts vary in length separates them.
    pub fn mac(&self, parts: &[&[u8]]) -> [u8; 32] {
        let tag = if let [one] = parts {
            hmac::sign(&self.0, one)
        } else {
            let mut context = hmac::Context::with_key(&self.0);
            for part in parts {
                context.update(part);
            }
            context.sign()
        };
        let mut out = [0; 32];
        out.copy_from_slice(tag.as_ref());
        out
    }
}

impl fmt::Debug for MacKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MacKey(..)")
    }
}

/// [`MacKey::mac`] for a key that is used once.
pub fn mac(key: &[u8], parts: &[&[u8]]) -> [u8; 32] {
    MacKey::new(key).mac(parts)
}

/// SHA-256 (FIPS 180-4).
pub fn sha256(data: &[u8]) -> [u8; 32] {
    let mut out = [0; 32];
    out.copy_from_slice(digest::digest(&digest::SHA256, data).as_ref());
    out
}

/// Whether two secrets are equal, in a time that depends on their lengths only.
pub fn same(a: &[u8], b: &[u8]) -> bool {
    constant_time::verify_slices_are_equal(a, b).is_ok()
}

/// Fills `out` from the library's generator: for keys, nonces and codes.
///
/// # Errors
/// [`JoseError::Key`] when there is no randomness.
pub fn fill_random(out: &mut [u8]) -> Result<(), JoseError> {
    rand::fill(out).map_err(|_| JoseError::Key)
}

/// So many nonces are drawn at a time: a draw costs half a microsecond, whatever its size.
const NONCES: usize = 32;

thread_local! {
    /// Random bytes for nonces, which are no secrets, and how many of them are spent.
    static POOL: RefCell<([u8; NONCE * NONCES], usize)> = const { RefCell::new(([0; NONCE * NONCES], NONCE * NONCES)) };
}

/// A random nonce (NIST SP 800-38D section 8.2.2), each given out once.
pub(crate) fn nonce() -> Result<[u8; NONCE], JoseError> {
    POOL.with_borrow_mut(|(bytes, spent)| {
        if *spent == bytes.len() {
            fill_random(bytes)?;
            *spent = 0;
        }
        let mut nonce = [0; NONCE];
        nonce.copy_from_slice(&bytes[*spent..*spent + NONCE]);
        *spent += NONCE;
        Ok(nonce)
    })
}

/// A key (AES-256-GCM) for blobs: version byte, nonce (12), ciphertext, tag (16). Prepared once.
pub struct BlobKey(aead::LessSafeKey);

impl fmt::Debug for BlobKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("BlobKey(..)")
    }
}

impl BlobKey {
    /// From 32 secret bytes.
    pub fn new(secret: &[u8; 32]) -> Self {
        Self(aes_256_gcm(secret))
    }

    /// Encrypts. `aad` says what it is and where it belongs, so that it opens in no other place.
    ///
    /// # Errors
    /// [`JoseError::Key`] when there is no randomness or the library cannot encrypt.
    pub fn seal(&self, aad: &[u8], plain: &[u8]) -> Result<Vec<u8>, JoseError> {
        let mut blob = vec![0; 1 + NONCE + plain.len() + TAG];
        let (head, body) = blob.split_at_mut(1 + NONCE);
        let (ciphertext, tag) = body.split_at_mut(plain.len());
        let nonce = nonce()?;
        head[0] = BLOB_VERSION;
        head[1..].copy_from_slice(&nonce);
        let nonce = aead::Nonce::assume_unique_for_key(nonce);
        self.0
            .seal_out_of_place_scatter(nonce, aead::Aad::from(aad), plain, ciphertext, &[], tag)
            .map_err(|_| JoseError::Key)?;
        Ok(blob)
    }

    /// Opens what [`BlobKey::seal`] wrote with the same key and `aad`.
    ///
    /// # Errors
    /// [`JoseError::Malformed`] for another version or shape, [`JoseError::Decrypt`] for another key, another `aad` or
    /// changed bytes.
    pub fn open(&self, aad: &[u8], blob: &[u8]) -> Result<Zeroizing<Vec<u8>>, JoseError> {
        let (&version, rest) = blob.split_first().ok_or(JoseError::Malformed)?;
        let (&nonce, body) = rest.split_first_chunk::<NONCE>().ok_or(JoseError::Malformed)?;
        let (ciphertext, tag) = body.split_last_chunk::<TAG>().ok_or(JoseError::Malformed)?;
        if version != BLOB_VERSION {
            return Err(JoseError::Malformed);
        }
        let mut plain = Zeroizing::new(vec![0; ciphertext.len()]);
        let nonce = aead::Nonce::assume_unique_for_key(nonce);
        self.0
            .open_separate_gather(nonce, aead::Aad::from(aad), ciphertext, tag, &mut plain)
            .map_err(|_| JoseError::Decrypt)?;
        Ok(plain)
    }
}

/// [`BlobKey::seal`] for a key that is used once.
///
/// # Errors
/// As there.
pub fn seal_blob(key: &[u8; 32], aad: &[u8], plain: &[u8]) -> Result<Vec<u8>, JoseError> {
    BlobKey::new(key).seal(aad, plain)
}

/// [`BlobKey::open`] for a key that is used once.
///
/// # Errors
/// As there.
pub fn open_blob(key: &[u8; 32], aad: &[u8], blob: &[u8]) -> Result<Zeroizing<Vec<u8>>, JoseError> {
    BlobKey::new(key).open(aad, blob)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn hex(text: &str) -> Vec<u8> {
        (0..text.len()).step_by(2).map(|i| u8::from_str_radix(&text[i..i + 2], 16).unwrap()).collect()
    }

    #[test]
    fn derivation_is_hkdf() {
        // RFC 5869 A.3: no salt, no info; its output is longer, ours is the beginning
        let master = hex("0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b");
        assert_eq!(derive(&master, &[])[..], hex("8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d"));
        // RFC 5869 section 2 by hand: T(1) = HMAC(HMAC(zeros, master), info | 1)
        let info = b"\0\0\0\x02ab\0\0\0\x00\0\0\0\x01c";
        assert_eq!(*derive(&master, &[b"ab", b"", b"c"]), mac(&mac(&[0; 32], &[&master]), &[info, &[1]]));
        assert_ne!(derive(b"m", &[b"ab", b"c"]), derive(b"m", &[b"a", b"bc"]));
        assert_ne!(derive(b"m", &[b"ab"]), derive(b"m", &[b"ab", b""]));
        assert_ne!(derive(b"m", &[b"ab"]), derive(b"n", &[b"ab"]));
        assert_eq!(derive(b"m", &[&[7; 5000]]), derive(b"m", &[&[7; 5000]]));
    }

    #[test]
    fn keyed_hash_and_hash() {
        // RFC 4231 test case 2
        let want = hex("5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
        assert_eq!(mac(b"Jefe", &[b"what do ya want for nothing?"])[..], want);
        assert_eq!(MacKey::new(b"Jefe").mac(&[b"what do ya ", b"", b"want for nothing?"])[..], want);
        assert_eq!(mac(b"Jefe", &[]), mac(b"Jefe", &[b""]));
        // FIPS 180-4, "abc"
        assert_eq!(sha256(b"abc")[..], hex("ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"));
    }

    #[test]
    fn comparison_and_randomness() {
        assert!(same(b"", b"") && same(b"abc", b"abc"));
        assert!(!same(b"abc", b"abd") && !same(b"abc", b"ab") && !same(b"", b"a"));
        let (mut a, mut b) = ([0; 32], [0; 32]);
        fill_random(&mut a).unwrap();
        fill_random(&mut b).unwrap();
        assert_ne!(a, b);
        assert_eq!(format!("{:?}", MacKey::new(&a)), "MacKey(..)");
    }

    #[test]
    fn blobs() {
        let blob = seal_blob(&[1; 32], b"kid", b"secret").unwrap();
        assert_eq!(blob.len(), 1 + 12 + 6 + 16);
        assert_ne!(blob, seal_blob(&[1; 32], b"kid", b"secret").unwrap(), "a new nonce each time");
        assert_eq!(open_blob(&[1; 32], b"kid", &blob).unwrap()[..], *b"secret");
        assert_eq!(open_blob(&[2; 32], b"kid", &blob), Err(JoseError::Decrypt));
        assert_eq!(open_blob(&[1; 32], b"kie", &blob), Err(JoseError::Decrypt));
        assert_eq!(open_blob(&[1; 32], b"", &blob), Err(JoseError::Decrypt));
        for end in 0..blob.len() {
            assert!(open_blob(&[1; 32], b"kid", &blob[..end]).is_err());
        }
        for bit in 0..blob.len() * 8 {
            let mut changed = blob.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            assert!(open_blob(&[1; 32], b"kid", &changed).is_err());
        }
    }

    proptest! {
        #[test]
        fn blob_round_trip(key: [u8; 32], aad: Vec<u8>, plain: Vec<u8>) {
            let blob = seal_blob(&key, &aad, &plain).unwrap();
            prop_assert_eq!(&open_blob(&key, &aad, &blob).unwrap()[..], &plain[..]);
        }

        #[test]
        fn blob_reader_survives(blob: Vec<u8>) {
            prop_assert!(open_blob(&[0; 32], b"", &blob).is_err());
        }
    }
}
