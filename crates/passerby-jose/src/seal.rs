//! Compact JWE (RFC 7516) with a shared key: `alg` `dir`, `enc` `A256GCM` (RFC 7518 sections 4.5 and 5.3).

use std::fmt;

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};

use crate::{
    JoseError, MAX_TOKEN, b64,
    header::{self, RawHeader},
    secret::nonce,
};

const NONCE: usize = 12;
const TAG: usize = 16;

/// A shared key for tokens of one type. Its holder rolls it before 2^32 tokens, the limit of random nonces (NIST SP
/// 800-38D section 8.3).
pub struct SealingKey {
    kid: Box<str>,
    /// The encoded header, the two full stops around the key part that `dir` leaves empty included.
    prefix: Box<str>,
    key: LessSafeKey,
}

/// What the header of a sealed token says; nothing of it is certain until the token was opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JweHeader {
    /// Which key it names; not empty.
    pub kid: String,
    /// What the token says it is; not empty.
    pub typ: String,
}

impl SealingKey {
    /// From 32 secret bytes that serve this `kid` and `typ` only.
    pub fn new(secret: &[u8; 32], kid: &str, typ: &str) -> Self {
        let header = serde_json::json!({ "alg": "dir", "enc": "A256GCM", "kid": kid, "typ": typ }).to_string();
        let prefix = b64::encode(header.as_bytes()) + "..";
        Self { kid: kid.into(), prefix: prefix.into(), key: aes_256_gcm(secret) }
    }

    /// Its name.
    pub fn kid(&self) -> &str {
        &self.kid
    }

    /// The additional authenticated data: the encoded header (RFC 7516 section 5.1, step 14).
    fn aad(&self) -> Aad<&[u8]> {
        Aad::from(&self.prefix.as_bytes()[..self.prefix.len() - 2])
    }

    /// Appends a whole compact JWE of `payload` to `out`, under a new random nonce.
    ///
    /// # Errors
    /// [`JoseError::Key`] when there is no randomness or the library cannot encrypt; `out` is then as it was.
    pub fn seal_into(&self, payload: &[u8], out: &mut Vec<u8>) -> Result<(), JoseError> {
        let start = out.len();
        let nonce = nonce()?;
        let body = b64::encoded_len(payload.len());
        let end = start + self.prefix.len() + b64::encoded_len(NONCE) + 1 + body + 1 + b64::encoded_len(TAG);
        // the raw ciphertext goes behind the token and is encoded from there, so that nothing is allocated between
        out.reserve(end + payload.len() - start);
        out.extend_from_slice(self.prefix.as_bytes());
        b64::encode_into(&nonce, out);
        out.push(b'.');
        let at = out.len();
        out.resize(end + payload.len(), 0);
        let (token, ciphertext) = out.split_at_mut(end);
        let mut tag = [0; TAG];
        let nonce = Nonce::assume_unique_for_key(nonce);
        let sealed = self.key.seal_out_of_place_scatter(nonce, self.aad(), payload, ciphertext, &[], &mut tag);
        if sealed.is_err() {
            out.truncate(start);
            return Err(JoseError::Key);
        }
        b64::write(ciphertext, &mut token[at..at + body]);
        token[at + body] = b'.';
        b64::write(&tag, &mut token[at + body + 1..]);
        out.truncate(end);
        Ok(())
    }

    /// Opens a token that this key sealed. Its header must be byte for byte the one that this key writes, which pins
    /// `alg`, `enc`, `kid` and `typ` at once.
    ///
    /// # Errors
    /// [`JoseError::Key`] for another header, [`JoseError::Malformed`] for another shape or more than [`MAX_TOKEN`]
    /// bytes, [`JoseError::Decrypt`] when the content was not sealed with this key or was changed.
    pub fn open(&self, token: &str) -> Result<Vec<u8>, JoseError> {
        if token.len() > MAX_TOKEN {
            return Err(JoseError::Malformed);
        }
        let rest = token.strip_prefix(&*self.prefix).ok_or(JoseError::Key)?;
        let body = Body::read(rest)?;
        let mut content = b64::decode(body.ciphertext).ok_or(JoseError::Malformed)?;
        let nonce = Nonce::assume_unique_for_key(body.nonce);
        self.key
            .open_in_place_separate_tag(nonce, self.aad(), &body.tag, &mut content)
            .map_err(|_| JoseError::Decrypt)?;
        Ok(content)
    }
}

impl fmt::Debug for SealingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SealingKey({:?})", self.kid)
    }
}

/// The three parts after header and key part.
struct Body<'a> {
    nonce: [u8; NONCE],
    ciphertext: &'a str,
    tag: [u8; TAG],
}

impl<'a> Body<'a> {
    fn read(text: &'a str) -> Result<Self, JoseError> {
        let mut parts = text.split('.');
        let (Some(nonce), Some(ciphertext), Some(tag), None) = (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(JoseError::Malformed);
        };
        let nonce = b64::decode_array(nonce).ok_or(JoseError::Malformed)?;
        let tag = b64::decode_array(tag).ok_or(JoseError::Malformed)?;
        Ok(Self { nonce, ciphertext, tag })
    }
}

/// Reads `kid` and `typ` of a compact JWE without opening it, to choose the key.
///
/// # Errors
/// As [`crate::parse_jws`] for shape and header, with five parts of which the second is empty;
/// [`JoseError::Algorithm`] for anything but `dir` and `A256GCM`.
pub fn peek_jwe(token: &str) -> Result<JweHeader, JoseError> {
    if token.len() > MAX_TOKEN {
        return Err(JoseError::Malformed);
    }
    let (header, rest) = token.split_once("..").ok_or(JoseError::Malformed)?;
    if !b64::is_valid(Body::read(rest)?.ciphertext) {
        return Err(JoseError::Malformed);
    }
    let header = header::decode(header)?;
    let header = RawHeader::read(&header)?;
    if header.alg()? != "dir" || header.enc()? != "A256GCM" {
        return Err(JoseError::Algorithm);
    }
    let (kid, typ) = header.kid_and_typ()?;
    Ok(JweHeader { kid, typ })
}

/// The key schedule of AES-256-GCM.
pub(crate) fn aes_256_gcm(secret: &[u8; 32]) -> LessSafeKey {
    // cannot fail: the only other length than 32 is ruled out by the type
    LessSafeKey::new(UnboundKey::new(&AES_256_GCM, secret).expect("32 bytes are an AES-256 key"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn key() -> SealingKey {
        SealingKey::new(&[7; 32], "1.42", "anon-session+jwt")
    }

    fn seal(key: &SealingKey, payload: &[u8]) -> String {
        let mut out = Vec::new();
        key.seal_into(payload, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn shape() {
        // RFC 7516 section 7.1 and RFC 7518 section 4.5: five parts, no encrypted key, the header is authenticated
        let token = seal(&key(), b"{\"sub\":\"x\"}");
        let parts: Vec<&str> = token.split('.').collect();
        assert_eq!(parts.len(), 5);
        let header = String::from_utf8(b64::decode(parts[0]).unwrap()).unwrap();
        assert_eq!(header, r#"{"alg":"dir","enc":"A256GCM","kid":"1.42","typ":"anon-session+jwt"}"#);
        assert_eq!(parts[1], "");
        assert_eq!((b64::decode(parts[2]).unwrap().len(), b64::decode(parts[4]).unwrap().len()), (12, 16));
        let mut joined = b64::decode(parts[3]).unwrap();
        joined.extend(b64::decode(parts[4]).unwrap());
        let nonce = Nonce::try_assume_unique_for_key(&b64::decode(parts[2]).unwrap()).unwrap();
        let plain = aes_256_gcm(&[7; 32]).open_in_place(nonce, Aad::from(parts[0]), &mut joined).unwrap();
        assert_eq!(plain, b"{\"sub\":\"x\"}");
        assert_eq!(peek_jwe(&token).unwrap(), JweHeader { kid: "1.42".into(), typ: "anon-session+jwt".into() });
        assert_ne!(token, seal(&key(), b"{\"sub\":\"x\"}"), "a new nonce each time");
    }

    #[test]
    fn only_the_same_key_kid_and_typ_open() {
        let token = seal(&key(), b"x");
        assert_eq!(key().open(&token).unwrap(), b"x");
        let open = |secret, kid, typ| SealingKey::new(&secret, kid, typ).open(&token).err();
        assert_eq!(open([8; 32], "1.42", "anon-session+jwt"), Some(JoseError::Decrypt));
        assert_eq!(open([7; 32], "1.43", "anon-session+jwt"), Some(JoseError::Key));
        assert_eq!(open([7; 32], "1.42", "passerby-cookie+jwt"), Some(JoseError::Key));
        // another spelling of the same header, and the right header of the wrong key over our ciphertext
        let rest = &token[token.find('.').unwrap()..];
        for header in [
            r#"{"enc":"A256GCM","alg":"dir","kid":"1.42","typ":"anon-session+jwt"}"#,
            r#"{"alg":"dir","enc":"A256GCM","kid":"1.42","typ":"anon-session+jwt"} "#,
            r#"{"alg":"dir","enc":"A256GCM","kid":"1.42","typ":"anon-session+jwt","x":1}"#,
        ] {
            let forged = b64::encode(header.as_bytes()) + rest;
            assert!(peek_jwe(&forged).is_ok());
            assert_eq!(key().open(&forged), Err(JoseError::Key));
        }
        let renamed = b64::encode(br#"{"alg":"dir","enc":"A256GCM","kid":"1.43","typ":"anon-session+jwt"}"#) + rest;
        assert_eq!(SealingKey::new(&[7; 32], "1.43", "anon-session+jwt").open(&renamed), Err(JoseError::Decrypt));
    }

    #[test]
    fn peek_refuses() {
        let rest = "..AAAAAAAAAAAAAAAA.AA.AAAAAAAAAAAAAAAAAAAAAA";
        let peek = |header: &str| peek_jwe(&(b64::encode(header.as_bytes()) + rest)).err();
        assert_eq!(peek(r#"{"alg":"dir","enc":"A256GCM","kid":"k","typ":"t"}"#), None);
        assert_eq!(peek(r#"{"alg":"A256KW","enc":"A256GCM","kid":"k","typ":"t"}"#), Some(JoseError::Algorithm));
        assert_eq!(peek(r#"{"alg":"dir","enc":"A128GCM","kid":"k","typ":"t"}"#), Some(JoseError::Algorithm));
        assert_eq!(peek(r#"{"alg":"dir","enc":"A256CBC-HS512","kid":"k","typ":"t"}"#), Some(JoseError::Algorithm));
        assert_eq!(peek(r#"{"alg":"dir","kid":"k","typ":"t"}"#), Some(JoseError::Algorithm));
        assert_eq!(peek(r#"{"alg":"dir","enc":"A256GCM","typ":"t"}"#), Some(JoseError::Key));
        assert_eq!(peek(r#"{"alg":"dir","enc":"A256GCM","kid":"k"}"#), Some(JoseError::Type));
        assert_eq!(
            peek(r#"{"alg":"dir","enc":"A256GCM","kid":"k","typ":"t","zip":"DEF"}"#),
            Some(JoseError::Malformed)
        );
        let token = seal(&key(), b"some text");
        let parts: Vec<&str> = token.split('.').collect();
        let [h, _, n, c, t] = parts[..] else { panic!() };
        for wrong in [
            format!("{h}.AA.{n}.{c}.{t}"),
            format!("{h}.{n}.{c}.{t}"),
            format!("{h}..{n}.{c}.{t}."),
            format!("{h}..{n}.{c}"),
            format!("{h}..{}.{c}.{t}", &n[1..]),
            format!("{h}..{n}A.{c}.{t}"),
            format!("{h}..{n}.{c}.{}", &t[1..]),
            format!("{h}..{n}.{c}.{t}A"),
            format!("{h}..{n}.{c}=.{t}"),
            format!("{h}..{n}.{c} .{t}"),
            format!("{h}=..{n}.{c}.{t}"),
            format!(" {h}..{n}.{c}.{t}"),
            format!("{h}..{n}.{c}.{t}\n"),
            format!("..{n}.{c}.{t}"),
            format!("{h}....{t}"),
            format!("{h}..{n}.{}.{t}", "A".repeat(MAX_TOKEN)),
        ] {
            assert!(peek_jwe(&wrong).is_err(), "{wrong}");
            assert!(key().open(&wrong).is_err(), "{wrong}");
        }
        // an empty content is a token of the right shape, and not ours
        assert!(peek_jwe(&format!("{h}..{n}..{t}")).is_ok());
        assert_eq!(key().open(&format!("{h}..{n}..{t}")), Err(JoseError::Decrypt));
    }

    proptest! {
        #[test]
        fn round_trip(secret: [u8; 32], kid in "\\PC{1,20}", payload: Vec<u8>, before: Vec<u8>) {
            let key = SealingKey::new(&secret, &kid, "t");
            let mut out = before.clone();
            key.seal_into(&payload, &mut out).unwrap();
            prop_assert_eq!(&out[..before.len()], &before[..]);
            let token = std::str::from_utf8(&out[before.len()..]).unwrap();
            prop_assert_eq!(peek_jwe(token).unwrap().kid, kid);
            prop_assert_eq!(key.open(token), Ok(payload));
        }
    }
}
