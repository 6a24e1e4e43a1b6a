//! Reading compact JWS (RFC 7515). Writing is [`crate::SigningKey::sign_into`].

use std::borrow::Cow;

use crate::{
    Algorithm, JoseError, MAX_TOKEN, b64,
    header::{self, RawHeader},
};

/// The parts of a compact JWS, each strict base64url, the signature not empty.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Parts<'a> {
    pub(crate) header: &'a str,
    pub(crate) signing_input: &'a str,
    payload: &'a str,
    signature: &'a str,
}

impl<'a> Parts<'a> {
    /// Parts a token of at most `max` bytes. The header's alphabet is checked when it is decoded.
    pub(crate) fn split(token: &'a str, max: usize) -> Result<Self, JoseError> {
        if token.len() > max {
            return Err(JoseError::Malformed);
        }
        let (signing_input, signature) = token.rsplit_once('.').ok_or(JoseError::Malformed)?;
        let (header, payload) = signing_input.split_once('.').ok_or(JoseError::Malformed)?;
        // a fourth part would leave a full stop in the payload, which is outside the alphabet
        if !b64::is_valid(payload) || signature.is_empty() || !b64::is_valid(signature) {
            return Err(JoseError::Malformed);
        }
        Ok(Self { header, signing_input, payload, signature })
    }

    /// The decoded payload; [`Parts::split`] has ruled out that it is not to be decoded.
    pub(crate) fn claims(&self) -> Result<Vec<u8>, JoseError> {
        b64::decode(self.payload).ok_or(JoseError::Malformed)
    }

    /// The decoded signature; the same.
    pub(crate) fn signature(&self) -> Result<Vec<u8>, JoseError> {
        b64::decode(self.signature).ok_or(JoseError::Malformed)
    }
}

/// A token whose header was read and whose signature was *not* checked yet: see [`crate::VerifyingKey::verify`].
#[derive(Debug, Clone)]
pub struct Jws<'a> {
    /// What the header claims; the key decides.
    pub alg: Algorithm,
    /// Which key the header names; not empty.
    pub kid: Cow<'a, str>,
    /// What the token says it is (RFC 8725 section 3.11); not empty, compared by the caller.
    pub typ: Cow<'a, str>,
    parts: Parts<'a>,
    signature: Vec<u8>,
}

impl Jws<'_> {
    /// The decoded payload. Worth nothing until the signature was checked.
    ///
    /// # Errors
    /// [`JoseError::Malformed`] when it is not base64url, which [`parse_jws`] has ruled out.
    pub fn claims(&self) -> Result<Vec<u8>, JoseError> {
        self.parts.claims()
    }

    pub(crate) fn signing_input(&self) -> &str {
        self.parts.signing_input
    }

    pub(crate) fn signature(&self) -> &[u8] {
        &self.signature
    }
}

/// Reads the header of a compact JWS and checks its shape; the signature is the caller's next step.
///
/// # Errors
/// - [`JoseError::Malformed`]: longer than [`MAX_TOKEN`], not three parts, an empty signature, a part that is not
///   strict base64url, a header that is not one JSON object of at most [`crate::MAX_HEADER`] bytes, that names a member
///   twice, or that has one of `crit`, `zip`, `b64`, `jku`, `x5u`, `jwk`, `x5c`;
/// - [`JoseError::Algorithm`]: `alg` missing or not on the list (`none`, `HS256` and all others);
/// - [`JoseError::Key`], [`JoseError::Type`]: `kid` or `typ` missing or empty.
pub fn parse_jws(token: &str) -> Result<Jws<'_>, JoseError> {
    let parts = Parts::split(token, MAX_TOKEN)?;
    let header = header::decode(parts.header)?;
    let header = RawHeader::read(&header)?;
    let alg = header.alg()?.parse()?;
    let (kid, typ) = header.kid_and_typ()?;
    Ok(Jws { alg, kid: kid.into(), typ: typ.into(), parts, signature: parts.signature()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(header: &str, rest: &str) -> Option<JoseError> {
        parse_jws(&(b64::encode(header.as_bytes()) + rest)).err()
    }

    #[test]
    fn header() {
        assert_eq!(parse(r#"{"alg":"ES256","kid":"k","typ":"t"}"#, ".e30.AA"), None);
        assert_eq!(parse(r#"{"alg":"ES256","kid":"k"}"#, ".e30.AA"), Some(JoseError::Type));
        assert_eq!(parse(r#"{"alg":"ES256","typ":"t"}"#, ".e30.AA"), Some(JoseError::Key));
        assert_eq!(parse(r#"{"kid":"k","typ":"t"}"#, ".e30.AA"), Some(JoseError::Algorithm));
        for alg in ["none", "NONE", "nOnE", "HS256", "HS512", "PS256", "ES384", "es256", "dir", ""] {
            assert_eq!(
                parse(&format!(r#"{{"alg":"{alg}","kid":"k","typ":"t"}}"#), ".e30.AA"),
                Some(JoseError::Algorithm)
            );
        }
        for more in
            [r#""crit":["exp"]"#, r#""jku":"x""#, r#""jwk":{}"#, r#""b64":false"#, r#""x5c":[]"#, r#""typ":"t""#]
        {
            let header = format!(r#"{{"alg":"ES256","kid":"k","typ":"t",{more}}}"#);
            assert_eq!(parse(&header, ".e30.AA"), Some(JoseError::Malformed), "{more}");
        }
    }

    #[test]
    fn shape() {
        let header = r#"{"alg":"ES256","kid":"k","typ":"t"}"#;
        for rest in [
            "",
            ".",
            ".e30",
            ".e30.",
            ".e30.AA.",
            ".e30.AA.AA",
            ".e30..AA",
            "..e30.AA",
            ".e30.AA=",
            ".e30=.AA",
            ".e30.A",
            ".e30.AB",
            ".e31.AA",
            " .e30.AA",
            ".e30.AA\n",
            ".e3 0.AA",
            ".e30.+/",
            ".é.AA",
        ] {
            assert_eq!(parse(header, rest), Some(JoseError::Malformed), "{rest:?}");
        }
        assert_eq!(parse(header, "..AA"), None, "an empty payload is a payload");
        for text in ["", ".", "..", "...", "Bearer x.y.z", "e30.e30.AA", ".e30.AA"] {
            assert!(parse_jws(text).is_err(), "{text}");
        }
        let room = MAX_TOKEN - b64::encoded_len(header.len()) - 4;
        let payload = "A".repeat(room / 4 * 4);
        assert_eq!(parse(header, &format!(".{payload}.AA")), None);
        assert_eq!(parse(header, &format!(".{payload}AAAA.AA")), Some(JoseError::Malformed));
    }
}
