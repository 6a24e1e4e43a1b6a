//! Proofs of possession (RFC 9449): one check for every door, and the nonces that it demands.
//!
//! A nonce is a moment under a key that follows from the master key, so any replica takes the nonce of any other and
//! none is kept anywhere. That a proof works once is the store's to know ([`crate::port::Store::spend`]); where it
//! forgets with the process, the nonces' key is the process's own and older proofs die with their nonces.

use std::{
    borrow::Cow,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use passerby_jose::{MacKey, b64, derive, parse_proof, same, sha256};
use serde::Deserialize;
use url::Url;

use crate::{
    Code, Error, Timestamp,
    caller::{AccessToken, Caller, ProofClaim, Scheme},
    id::TenantNo,
    passerby::Passerby,
    secret::MasterKey,
    settings::Tenant,
};

/// SHA-256 thumbprint of a public key (RFC 7638).
pub(crate) type Thumbprint = [u8; 32];

/// A nonce is taken for so many seconds.
const NONCE_LIFE: i64 = 60;

/// The clocks of replicas may differ by so many seconds.
const REPLICA_SKEW: i64 = 10;

/// How old a proof may say it is, in seconds; the nonce bounds it more sharply, this is for clocks gone wrong.
const OLDEST_PROOF: f64 = 300.0;

/// How far ahead of our clock a proof may be made, in seconds.
const NEWEST_PROOF: f64 = 60.0;

/// The longest `jti`, in bytes.
const LONGEST_JTI: usize = 255;

const MAC: usize = 12;

/// So many seconds' MACs are remembered: more than a nonce can be old or ahead.
const MEMORY: usize = 128;

/// Makes and reads nonces. Each second has one, computed once.
pub(crate) struct Nonces {
    key: MacKey,
    known: Mutex<[(i64, [u8; MAC]); MEMORY]>,
}

impl Nonces {
    /// `boot`: random bytes of this process where proofs are only remembered in it.
    pub(crate) fn new(master: &MasterKey, boot: Option<&[u8; 16]>) -> Self {
        let boot = boot.map_or(&[][..], |b| &b[..]);
        let key = MacKey::new(derive(master.bytes(), &[b"passerby/v1/dpop-nonce", boot]).as_ref());
        Self { key, known: Mutex::new([(i64::MIN, [0; MAC]); MEMORY]) }
    }

    fn mac(&self, seconds: i64) -> [u8; MAC] {
        // nothing that can panic runs under it
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let slot = &mut known[seconds.rem_euclid(MEMORY as i64) as usize];
        if slot.0 != seconds {
            slot.1.copy_from_slice(&self.key.mac(&[&seconds.to_be_bytes()])[..MAC]);
            slot.0 = seconds;
        }
        slot.1
    }

    fn write(&self, now: Timestamp) -> String {
        let mut all = [0u8; 4 + MAC];
        // the low half: it turns over once in 136 years
        all[..4].copy_from_slice(&now.seconds().to_be_bytes()[4..]);
        all[4..].copy_from_slice(&self.mac(now.seconds()));
        b64::encode(&all)
    }

    /// Whether it is ours and young enough.
    fn good(&self, nonce: &str, now: Timestamp) -> bool {
        let Some(all) = b64::decode(nonce).and_then(|b| <[u8; 4 + MAC]>::try_from(b.as_slice()).ok()) else {
            return false;
        };
        let (Ok(low), now) = (<[u8; 4]>::try_from(&all[..4]), now.seconds()) else { return false };
        // the age by the low half alone: a nonce made 2^32 seconds ago fails at the MAC
        let age = i64::from((now as u32).wrapping_sub(u32::from_be_bytes(low)) as i32);
        (-REPLICA_SKEW..=NONCE_LIFE).contains(&age) && same(&self.mac(now - age), &all[4..])
    }
}

#[derive(Deserialize)]
struct Claims<'a> {
    #[serde(borrow)]
    jti: Cow<'a, str>,
    #[serde(borrow)]
    htm: Cow<'a, str>,
    #[serde(borrow)]
    htu: Cow<'a, str>,
    // NumericDate may have a fraction (RFC 7519 section 2)
    iat: f64,
    #[serde(borrow)]
    nonce: Option<Cow<'a, str>>,
    #[serde(borrow)]
    ath: Option<Cow<'a, str>>,
}

fn refused(detail: &'static str) -> Error {
    Error::at(Code::InvalidDpopProof, "DPoP", detail)
}

impl Passerby {
    /// A nonce for the next proof.
    pub fn dpop_nonce(&self) -> String {
        self.nonces.write(self.now())
    }

    /// The key whose proof came along; `None` where none did. Checked in full: a proof that is there is never passed
    /// over. `token`: the access token that was shown beside it, whatever the scheme.
    ///
    /// # Errors
    /// [`Code::UseDpopNonce`], [`Code::InvalidDpopProof`]; the store's faults.
    pub(crate) async fn proven(
        &self,
        caller: &Caller<'_>,
        tenant: &Tenant,
        token: Option<AccessToken<'_>>,
        now: Timestamp,
    ) -> Result<Option<Thumbprint>, Error> {
        match &caller.proof {
            None => Ok(None),
            Some(claim) => self.check_proof(claim, tenant, token, now).await.map(Some),
        }
    }

    /// Every check of RFC 9449 section 4.3, the cheap ones first.
    pub(crate) async fn check_proof(
        &self,
        claim: &ProofClaim<'_>,
        tenant: &Tenant,
        token: Option<AccessToken<'_>>,
        now: Timestamp,
    ) -> Result<Thumbprint, Error> {
        let token_shown = token.is_some();
        let (thumbprint, jti) = self.read_proof(claim, tenant, token, now).map_err(|e| Error { token_shown, ..e })?;
        let ends_at = now.plus(Duration::from_secs((NONCE_LIFE + 2 * REPLICA_SKEW) as u64));
        let mut spent = Vec::with_capacity(32 + jti.len());
        spent.extend_from_slice(&thumbprint);
        spent.extend_from_slice(jti.as_bytes());
        // of all tenants: those of one origin are asked at the same addresses, and the proof names no other thing
        if self.store.spend(TenantNo(0), sha256(&spent), ends_at).await? {
            return Ok(thumbprint);
        }
        Err(Error { token_shown, ..refused("The proof was used before; each request needs one of its own.") })
    }

    fn read_proof(
        &self,
        claim: &ProofClaim<'_>,
        tenant: &Tenant,
        token: Option<AccessToken<'_>>,
        now: Timestamp,
    ) -> Result<(Thumbprint, String), Error> {
        let jwt = claim.jwt.ok_or_else(|| refused("Expected one DPoP header."))?;
        let proof = parse_proof(jwt).map_err(|_| {
            refused("The proof must be a JWT of type dpop+jwt, signed by ES256, EdDSA or RS256 with the public key in its header.")
        })?;
        let text = proof.claims().map_err(|_| refused("The proof cannot be read."))?;
        let claims: Claims<'_> = Some(&text)
            // serde would take a list of the values as well
            .filter(|text| text.trim_ascii_start().starts_with(b"{"))
            .and_then(|text| serde_json::from_slice(text).ok())
            .ok_or_else(|| refused("The proof must say jti, htm, htu and iat, each once."))?;
        if claims.jti.is_empty() || claims.jti.len() > LONGEST_JTI {
            return Err(refused("jti must have 1 to 255 bytes."));
        }
        if claims.htm != claim.method {
            return Err(refused("htm is not the method of this request."));
        }
        if !names_this_request(&claims.htu, claim, tenant) {
            return Err(refused("htu is not the address of this request."));
        }
        let use_nonce = |detail| Error::at(Code::UseDpopNonce, "DPoP", detail);
        match &claims.nonce {
            None => return Err(use_nonce("The proof needs the nonce that comes with this answer.")),
            Some(nonce) if !self.nonces.good(nonce, now) => {
                return Err(use_nonce(
                    "The proof's nonce is not ours or too old; use the one that comes with this answer.",
                ));
            }
            Some(_) => {}
        }
        let age = now.millis() as f64 / 1000.0 - claims.iat;
        if !(-NEWEST_PROOF..=OLDEST_PROOF).contains(&age) {
            return Err(refused("iat is too far from the server's time; see the Date header of this answer."));
        }
        if let Some(AccessToken { text, scheme: Scheme::DPoP }) = token
            && claims.ath.as_deref() != Some(&*b64::encode(&sha256(text.as_bytes())))
        {
            return Err(refused("ath is not the hash of the access token."));
        }
        proof.verify().map_err(|_| refused("The proof's signature is wrong."))?;
        Ok((proof.thumbprint(), claims.jti.into_owned()))
    }
}

/// Whether `htu` is where this request went: origin of the issuer (in development also the one the request names) and
/// path, query and fragment left aside, compared as RFC 3986 section 6.2 has it.
fn names_this_request(htu: &str, claim: &ProofClaim<'_>, tenant: &Tenant) -> bool {
    let issuer = tenant.issuer.trim_end_matches('/');
    // the usual case without parsing: the issuer is an origin, and the client wrote what it asked for
    if htu.strip_prefix(issuer).is_some_and(|path| path == claim.path) {
        return true;
    }
    let Some(said) = normal(htu) else { return false };
    let origin = Url::parse(issuer).ok().map(|u| u.origin().ascii_serialization());
    let own = claim.own_origin.map(|(scheme, host)| format!("{scheme}://{host}"));
    [origin.as_deref(), Some(issuer), own.as_deref()]
        .into_iter()
        .flatten()
        .any(|base| normal(&format!("{base}{}", claim.path)).is_some_and(|expected| expected == said))
}

/// An http URI in its normal form (RFC 3986 sections 6.2.2 and 6.2.3), without query and fragment; `None` for what is
/// none by the RFC, though browsers, and the parser with them, would make one of it.
fn normal(uri: &str) -> Option<Url> {
    let (scheme, rest) = uri.split_once("://")?;
    let authority = rest.split(['/', '?', '#']).next().filter(|a| !a.is_empty() && !a.contains('@'))?;
    if !["http", "https"].iter().any(|known| scheme.eq_ignore_ascii_case(known))
        || !uri.bytes().all(|b| b.is_ascii_graphic() && b != b'\\')
    {
        return None;
    }
    let path = rest[authority.len()..].split(['?', '#']).next()?;
    Url::parse(&format!("{scheme}://{authority}{}", decode_unreserved(path))).ok()
}

/// Percent-encodings in one spelling: letters, digits and `-._~` decoded, of what stays encoded the digits in upper
/// case. One that is not whole stays as it is.
fn decode_unreserved(path: &str) -> Cow<'_, str> {
    if !path.contains('%') {
        return path.into();
    }
    let mut parts = path.split('%');
    let mut out = String::with_capacity(path.len());
    out.push_str(parts.next().unwrap_or_default());
    for part in parts {
        let code = part.get(..2).filter(|digits| digits.bytes().all(|b| b.is_ascii_hexdigit()));
        match code.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(b) if b.is_ascii_alphanumeric() || b"-._~".contains(&b) => {
                out.push(b.into());
                out.push_str(&part[2..]);
            }
            Some(_) => {
                out.push('%');
                out.push_str(&part[..2].to_ascii_uppercase());
                out.push_str(&part[2..]);
            }
            None => {
                out.push('%');
                out.push_str(part);
            }
        }
    }
    out.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(s: i64) -> Timestamp {
        Timestamp::from_seconds(s)
    }

    #[test]
    fn a_nonce_lives_sixty_seconds_on_every_replica() {
        let master = MasterKey::new([1; 32]);
        let (one, two) = (Nonces::new(&master, None), Nonces::new(&master, None));
        let nonce = one.write(at(1_795_219_200));
        for age in [-10, 0, 1, 60] {
            assert!(two.good(&nonce, at(1_795_219_200 + age)), "{age}");
        }
        for age in [-11, 61, 86_400, 1 << 32, -(1 << 32)] {
            assert!(!two.good(&nonce, at(1_795_219_200 + age)), "{age}");
        }
    }

    #[test]
    fn a_nonce_of_another_boot_key_or_hand_is_none() {
        let now = at(1_795_219_200);
        let nonces = Nonces::new(&MasterKey::new([1; 32]), Some(&[1; 16]));
        let nonce = nonces.write(now);
        assert!(nonces.good(&nonce, now));
        for other in [
            Nonces::new(&MasterKey::new([1; 32]), Some(&[2; 16])),
            Nonces::new(&MasterKey::new([1; 32]), None),
            Nonces::new(&MasterKey::new([2; 32]), Some(&[1; 16])),
        ] {
            assert!(!other.good(&nonce, now));
        }
        for text in ["", "x", &nonce[1..], &format!("{nonce}A"), &nonce.to_lowercase(), &b64::encode(&[0; 16])] {
            assert!(!nonces.good(text, now), "{text}");
        }
    }

    #[test]
    fn one_spelling_of_an_address() {
        let same = |a: &str, b: &str| normal(a).is_some() && normal(a) == normal(b);
        for other in [
            "https://h.example/a-b/c%2Fd",
            "HTTPS://H.Example:443/a-b/c%2fd",
            "https://h.example/%61%2db/c%2fd?x=%zz#y",
            "https://h.example/x/%2E%2e/a-b/./c%2Fd",
        ] {
            assert!(same("https://h.example/a-b/c%2Fd", other), "{other}");
        }
        for other in [
            "https://h.example/a-b/c/d",
            "https://h.example/a-b/c%252Fd",
            "https://h.example/a-b/c%2Fd%",
            "https://h.example/A-b/c%2Fd",
            "http://h.example/a-b/c%2Fd",
        ] {
            assert!(normal(other).is_some() && !same("https://h.example/a-b/c%2Fd", other), "{other}");
        }
        for none in [
            "",
            "/a",
            "https:h.example/a",
            "https:/h.example/a",
            "https:///h.example/a",
            "https:\\\\h.example\\a",
            "https://h.example\\a",
            "https://h.example/a b",
            "https://h.example/\ta",
            "https://h.example/\u{fc}",
            "https://@h.example/a",
            "https://a:b@h.example/a",
            "ftp://h.example/a",
            "x:https://h.example/a",
            "https://h.example:99999/a",
        ] {
            assert_eq!(normal(none), None, "{none}");
        }
        assert_eq!(decode_unreserved("%41%2f%zz%4%%7e\u{fc}"), "A%2F%zz%4%~\u{fc}");
    }
}
