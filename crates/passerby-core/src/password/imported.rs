//! Hashes that other systems made. Their parameters are the importer's word, so each is bounded when it is read, before
//! anything is computed with it.

use std::num::NonZeroU32;

use argon2::{Params, Version, password_hash::phc::PasswordHash as Phc};
use base64::{
    Engine,
    alphabet::STANDARD,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use passerby_jose::{Pbkdf2, aes_256_ctr, same};
use zeroize::Zeroizing;

use super::hash::argon2_is_of;
use crate::{Code, Error};

/// The longest hash, in bytes of text.
const LONGEST: usize = 512;

/// Bcrypt's cost: 13 takes half a second.
const BCRYPT_COST: std::ops::RangeInclusive<u32> = 4..=13;

/// Bcrypt looks at so many bytes.
const BCRYPT_BYTES: usize = 72;

/// Rounds of PBKDF2, counted once for each part of the key; of SHA-512 half as many, which takes as long.
const PBKDF2_ROUNDS: u64 = 2_000_000;

/// Memory of one hash, in KiB.
const MEMORY_KIB: u64 = 128 * 1024;

/// KiB times passes of argon2.
const ARGON2_WORK: u64 = 256 * 1024;

/// N·r·p of scrypt; as its memory is 128 bytes times N·r, that is within [`MEMORY_KIB`] as well.
const SCRYPT_WORK: u64 = 1 << 20;

const UNKNOWN: &str = "Expected a hash of argon2, bcrypt, PBKDF2 or scrypt in a textual form that is documented.";
const BROKEN: &str = "The hash cannot be read.";
const DEAR: &str = "The hash asks for more work or memory than a sign-in may cost.";

/// The alphabets in use write `+` or (passlib) `.`; padding is there or not.
const B64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);

/// A hash that was read, its parameters within bounds.
#[derive(Clone)]
pub(super) enum Scheme {
    Argon2(Box<Phc>),
    /// Its text.
    Bcrypt(Box<str>),
    Pbkdf2 {
        hash: Pbkdf2,
        rounds: NonZeroU32,
        salt: Box<[u8]>,
        key: Box<[u8]>,
    },
    Scrypt {
        params: scrypt::Params,
        salt: Box<[u8]>,
        key: Box<[u8]>,
        /// Firebase's, where it is one of theirs.
        signer: Option<Box<[u8]>>,
    },
}

pub(super) fn parse(text: &str) -> Result<Scheme, &'static str> {
    if text.len() > LONGEST || !text.bytes().all(|b| b.is_ascii_graphic()) {
        return Err(BROKEN);
    }
    // Django names the algorithm before the hash's own name
    let text = text.strip_prefix("argon2").or_else(|| text.strip_prefix("bcrypt$")).unwrap_or(text);
    let fields: Vec<&str> = text.split('$').collect();
    match fields[..] {
        ["", "argon2id" | "argon2i" | "argon2d", ..] => argon2(text),
        ["", "2a" | "2b" | "2y", ..] => bcrypt(text),
        ["", name, rounds, salt, key] if name.starts_with("pbkdf2") => {
            let hash = match name {
                "pbkdf2" | "pbkdf2-sha1" => Pbkdf2::Sha1,
                "pbkdf2-sha256" => Pbkdf2::Sha256,
                "pbkdf2-sha512" => Pbkdf2::Sha512,
                _ => return Err(UNKNOWN),
            };
            let (rounds, length) = match numbers(rounds, ["i", "l"]) {
                Some([rounds, length]) => (rounds, Some(length)),
                None => (number(rounds.strip_prefix("i=").unwrap_or(rounds))?, None),
            };
            let key = decode(key)?;
            if length.is_some_and(|length| length as usize != key.len()) {
                return Err(BROKEN);
            }
            pbkdf2(hash, rounds, decode(salt)?, key)
        }
        ["pbkdf2_sha1", rounds, salt, key] => {
            pbkdf2(Pbkdf2::Sha1, number(rounds)?, salt.as_bytes().into(), decode(key)?)
        }
        ["pbkdf2_sha256", rounds, salt, key] => {
            pbkdf2(Pbkdf2::Sha256, number(rounds)?, salt.as_bytes().into(), decode(key)?)
        }
        ["", "scrypt", params, salt, key] => {
            let [log_n, r, p] = numbers(params, ["ln", "r", "p"]).ok_or(BROKEN)?;
            scrypt(log_n, r, p, decode(salt)?, decode(key)?)
        }
        ["scrypt", n, salt, r, p, key] => {
            let n = number(n)?;
            if !n.is_power_of_two() {
                return Err(BROKEN);
            }
            scrypt(n.ilog2(), number(r)?, number(p)?, salt.as_bytes().into(), decode(key)?)
        }
        ["", "fbscrypt", params, salt, key] => firebase(params, salt, key),
        _ => Err(UNKNOWN),
    }
}

/// Firebase's: scrypt gives a key, and the project's signer key enciphered by that is the hash. It has no text of its
/// own; this is the one that GoTrue reads: `v=1,n=14,r=8,p=1,ss=<salt separator>,sk=<signer key>`, `n` as power of two.
fn firebase(params: &str, salt: &str, key: &str) -> Result<Scheme, &'static str> {
    let (params, signer) = params.rsplit_once(",sk=").ok_or(BROKEN)?;
    let (params, separator) = params.rsplit_once(",ss=").ok_or(BROKEN)?;
    let [1, log_n, r, p] = numbers(params, ["v", "n", "r", "p"]).ok_or(BROKEN)? else { return Err(BROKEN) };
    let (signer, key) = (decode(signer)?, decode(key)?);
    if signer.len() != key.len() {
        return Err(BROKEN);
    }
    let salt = [decode(salt)?, decode(separator)?].concat().into();
    let Scheme::Scrypt { params, salt, key, .. } = scrypt(log_n, r, p, salt, key)? else { return Err(BROKEN) };
    Ok(Scheme::Scrypt { params, salt, key, signer: Some(signer) })
}

fn argon2(text: &str) -> Result<Scheme, &'static str> {
    let mut phc = Phc::new(text).map_err(|_| BROKEN)?;
    let params = Params::try_from(&phc).map_err(|_| BROKEN)?;
    // without them the library takes its own; a key that is not here verifies nothing
    let whole = ["m", "t", "p"].into_iter().all(|name| phc.params.get(name).is_some())
        && phc.params.iter().count() == 3
        && phc.salt.is_some()
        && phc.hash.is_some();
    if !whole {
        return Err(BROKEN);
    }
    // strings of before there were versions say none (the reference's 1.0)
    let version = phc.version.unwrap_or(Version::V0x10.into());
    Version::try_from(version).map_err(|_| BROKEN)?;
    phc.version = Some(version);
    let (memory, passes) = (u64::from(params.m_cost()), u64::from(params.t_cost()));
    if memory > MEMORY_KIB || memory * passes > ARGON2_WORK {
        return Err(DEAR);
    }
    Ok(Scheme::Argon2(Box::new(phc)))
}

fn bcrypt(text: &str) -> Result<Scheme, &'static str> {
    let cost = text.parse::<bcrypt::HashParts>().map_err(|_| BROKEN)?.get_cost();
    if cost < *BCRYPT_COST.start() {
        return Err(BROKEN);
    }
    if !BCRYPT_COST.contains(&cost) {
        return Err(DEAR);
    }
    Ok(Scheme::Bcrypt(text.into()))
}

fn pbkdf2(hash: Pbkdf2, rounds: u32, salt: Box<[u8]>, key: Box<[u8]>) -> Result<Scheme, &'static str> {
    check_sizes(&salt, &key)?;
    let weight = if hash == Pbkdf2::Sha512 { 2 } else { 1 };
    if u64::from(rounds) * key.len().div_ceil(hash.block()) as u64 * weight > PBKDF2_ROUNDS {
        return Err(DEAR);
    }
    let rounds = NonZeroU32::new(rounds).ok_or(BROKEN)?;
    Ok(Scheme::Pbkdf2 { hash, rounds, salt, key })
}

fn scrypt(log_n: u32, r: u32, p: u32, salt: Box<[u8]>, key: Box<[u8]>) -> Result<Scheme, &'static str> {
    check_sizes(&salt, &key)?;
    if log_n == 0 {
        return Err(BROKEN);
    }
    let n = 1_u64.checked_shl(log_n).ok_or(DEAR)?;
    let work = n.checked_mul(r.into()).and_then(|nr| nr.checked_mul(p.into())).ok_or(DEAR)?;
    if work > SCRYPT_WORK {
        return Err(DEAR);
    }
    let params = scrypt::Params::new(log_n as u8, r, p).map_err(|_| BROKEN)?;
    Ok(Scheme::Scrypt { params, salt, key, signer: None })
}

/// A key of fewer than sixteen bytes is no hash to rely on.
fn check_sizes(salt: &[u8], key: &[u8]) -> Result<(), &'static str> {
    if (1..=128).contains(&salt.len()) && (16..=64).contains(&key.len()) { Ok(()) } else { Err(BROKEN) }
}

/// Decimal digits, no sign, no leading zero.
fn number(text: &str) -> Result<u32, &'static str> {
    if text.starts_with('0') || !text.bytes().all(|b| b.is_ascii_digit()) {
        return Err(BROKEN);
    }
    text.parse().map_err(|_| BROKEN)
}

/// The numbers of `name=number,…`, exactly these names in this order.
fn numbers<const N: usize>(text: &str, names: [&str; N]) -> Option<[u32; N]> {
    let mut found = [0; N];
    let mut parts = text.split(',');
    for (slot, name) in found.iter_mut().zip(names) {
        *slot = number(parts.next()?.strip_prefix(name)?.strip_prefix('=')?).ok()?;
    }
    parts.next().is_none().then_some(found)
}

fn decode(text: &str) -> Result<Box<[u8]>, &'static str> {
    Ok(B64.decode(text.replace('.', "+")).map_err(|_| BROKEN)?.into())
}

impl Scheme {
    /// Whether the hash is of this password.
    ///
    /// # Errors
    /// [`Code::Internal`] when the library cannot compute it.
    pub(super) fn is_of(&self, password: &[u8]) -> Result<bool, Error> {
        match self {
            Self::Argon2(phc) => argon2_is_of(phc, password),
            Self::Bcrypt(text) => {
                // A longer one is refused although bcrypt would look at its beginning only: with another end it is another
                // password. It is computed all the same, else a quick answer told that here is an imported hash.
                let right = bcrypt::verify(password, text).map_err(|_| failed())?;
                Ok(right && password.len() <= BCRYPT_BYTES)
            }
            Self::Pbkdf2 { hash, rounds, salt, key } => Ok(hash.matches(*rounds, salt, password, key)),
            Self::Scrypt { params, salt, key, signer } => {
                let length = if signer.is_some() { 32 } else { key.len() };
                let mut derived = Zeroizing::new(vec![0; length]);
                scrypt::scrypt(password, salt, params, &mut derived).map_err(|_| failed())?;
                if let Some(signer) = signer {
                    let cipher_key = Zeroizing::new(<[u8; 32]>::try_from(&derived[..]).map_err(|_| failed())?);
                    let mut signed = signer.to_vec();
                    aes_256_ctr(&cipher_key, &mut signed).map_err(|_| failed())?;
                    return Ok(same(&signed, key));
                }
                Ok(same(&derived, key))
            }
        }
    }
}

fn failed() -> Error {
    Error::new(Code::Internal, "The password's hash could not be computed.")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{
        super::{HashSettings, Password, PasswordHash, Verdict},
        *,
    };

    /// Of "correct horse bättery", made with Python's hashlib and the packages bcrypt, argon2-cffi and Django.
    const OTHERS: [&str; 18] = [
        "$pbkdf2$1000$MDEyMzQ1Njc4OWFiY2RlZg$djNf0gBaf8KbM65JOovWM6DjmDo",
        "$pbkdf2-sha1$1000$MDEyMzQ1Njc4OWFiY2RlZg$djNf0gBaf8KbM65JOovWM6DjmDo",
        "$pbkdf2-sha256$1000$MDEyMzQ1Njc4OWFiY2RlZg$nw21jjCi0toqxMwZ0OxAy2.mg3YStWTO2vXd4ERGCGI",
        "$pbkdf2-sha256$i=1000$MDEyMzQ1Njc4OWFiY2RlZg$nw21jjCi0toqxMwZ0OxAy2+mg3YStWTO2vXd4ERGCGI",
        "$pbkdf2-sha256$i=1000,l=32$MDEyMzQ1Njc4OWFiY2RlZg$nw21jjCi0toqxMwZ0OxAy2+mg3YStWTO2vXd4ERGCGI",
        "$pbkdf2-sha512$1000$MDEyMzQ1Njc4OWFiY2RlZg$ArfXgBEX46q47Q30DG0OkYLbI9MTrIcxrNV8OcQT7dP55KDx5gr6iR.DVSv5Mttq/j3k5pzshMw3p0a0NtLXhg",
        "pbkdf2_sha256$1000$NaCl9salt$gqhL1+dZbqEKxGCR5mcjDe5kTO+FkLr0qVJrpc/wVHE=",
        "pbkdf2_sha1$1000$NaCl9salt$eF+ZGIox8ZzJHCjPWmUCBFEqP0c=",
        "$scrypt$ln=4,r=8,p=1$MDEyMzQ1Njc4OWFiY2RlZg$xkuufd611FPTxWpZDKGrXyzIl416m9Qf7d6yG4kOdSQ",
        "scrypt$16$NaCl9salt$8$5$McqiFVitArvfXX5TumFCmMDRiHlYvAlh0SOVhQ8Bx2f+n1xNdtgoIhl8mceCyr5k7H/l4T9YEBp6gbeghsN9yQ==",
        "$fbscrypt$v=1,n=4,r=8,p=1,ss=Bw==,sk=AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8gISIjJCUmJygpKissLS4vMDEyMzQ1Njc4OTo7PD0+Pw==$MDEyMzQ1Njc4OWFiY2RlZg==$5gbYql11oCVqkHdTi7MysiAYe4qI5uSacxTAESyFtXxJC3PmDXhG4vrFRrpaehFHURMTxPEkmZKjnfHQ81MBIQ==",
        "$2a$04$uZ7vh8Fa/vsn/ru5LI8eF.MRbM048u/.8EyHBHC5RGf9Qwi2pTh86",
        "$2b$04$jIAnamNIukQmg0ru63MUyeHooru6weS0zZLyMrcx0op5X8QsIFj4m",
        "$2y$04$jIAnamNIukQmg0ru63MUyeHooru6weS0zZLyMrcx0op5X8QsIFj4m",
        "bcrypt$$2b$04$cDVOwIDnWL/VVhc78HvGSexn/9pnAGWfe1ap4BvRTjChkI6Lkwdd6",
        "argon2$argon2id$v=19$m=64,t=2,p=1$MDEyMzQ1Njc4OWFiY2RlZg$NxGsDiR+c2egBTk8h4IO7CyhQ4JQ3d1Vc+YxM/wDS4c",
        "$argon2d$v=19$m=64,t=2,p=1$MDEyMzQ1Njc4OWFiY2RlZg$RshWERDlzCUz8WbDjAJpc4x5T2xqwwCwMBlzchdFsL4",
        "$argon2i$m=64,t=2,p=2$MDEyMzQ1Njc4OWFiY2RlZg$oyAi6BhBKJa2i8b+KhT38g",
    ];

    fn verdict(hash: &str, password: &str) -> Verdict {
        let hash = PasswordHash::parse(hash).unwrap();
        HashSettings::FOR_TESTS.verify(Some(&hash), &Password::new(password).unwrap()).unwrap()
    }

    #[test]
    fn others_hashes_are_verified_once_and_renewed() {
        for hash in OTHERS {
            assert_eq!(verdict(hash, "correct horse b\u{e4}ttery"), Verdict::RightButOld, "{hash}");
            assert_eq!(verdict(hash, "correct horse ba\u{308}ttery"), Verdict::RightButOld, "{hash}");
            assert_eq!(verdict(hash, "correct horse battery"), Verdict::Wrong, "{hash}");
            assert_eq!(PasswordHash::parse(hash).unwrap().as_str(), hash);
        }
    }

    #[test]
    fn bcrypt_looks_at_all_of_a_password_or_refuses_it() {
        let hash = "$2b$04$Mkt7OKBjgnBnHRFoRDLLHeGRrUoqNfIxtJkguVefqtRw0VBAx.MgG";
        assert_eq!(verdict(hash, &"a".repeat(72)), Verdict::RightButOld);
        assert_eq!(verdict(hash, &"a".repeat(73)), Verdict::Wrong);
        assert_eq!(verdict(hash, &"a".repeat(71)), Verdict::Wrong);
    }

    #[test]
    fn work_and_memory_are_bounded_when_read() {
        let salt = "MDEyMzQ1Njc4OWFiY2RlZg";
        let key = |bytes: usize| B64.encode(vec![1; bytes]).trim_end_matches('=').to_owned();
        let bcrypt = |cost: &str| format!("$2b${cost}$jIAnamNIukQmg0ru63MUyeHooru6weS0zZLyMrcx0op5X8QsIFj4m");
        let dear = [
            bcrypt("14"),
            bcrypt("31"),
            format!("$pbkdf2-sha256$2000001${salt}${}", key(32)),
            format!("$pbkdf2-sha256$1000001${salt}${}", key(33)),
            format!("$pbkdf2$500001${salt}${}", key(64)),
            format!("$pbkdf2-sha512$1000001${salt}${}", key(64)),
            format!("pbkdf2_sha256$4294967295$salt${}", key(32)),
            format!("$scrypt$ln=18,r=8,p=1${salt}${}", key(32)),
            format!("$scrypt$ln=17,r=8,p=2${salt}${}", key(32)),
            format!("$scrypt$ln=1,r=1,p=4294967295${salt}${}", key(32)),
            format!("$scrypt$ln=63,r=4294967295,p=4294967295${salt}${}", key(32)),
            format!("$scrypt$ln=64,r=1,p=1${salt}${}", key(32)),
            format!("scrypt$1048576$salt$8$1${}", key(32)),
            format!("$fbscrypt$v=1,n=20,r=8,p=1,ss=,sk={}${salt}${}", key(32), key(32)),
            format!("$argon2id$v=19$m=131073,t=1,p=1${salt}${}", key(32)),
            format!("$argon2id$v=19$m=4294967295,t=1,p=1${salt}${}", key(32)),
            format!("$argon2id$v=19$m=131072,t=3,p=1${salt}${}", key(32)),
            format!("$argon2id$v=19$m=8,t=4294967295,p=1${salt}${}", key(32)),
        ];
        for hash in &dear {
            assert_eq!(parse(hash).err(), Some(DEAR), "{hash}");
        }
        for hash in [
            bcrypt("13"),
            format!("$pbkdf2-sha256$2000000${salt}${}", key(32)),
            format!("$pbkdf2-sha512$1000000${salt}${}", key(64)),
            format!("$scrypt$ln=17,r=8,p=1${salt}${}", key(32)),
            // Django's own settings
            format!("pbkdf2_sha256$1200000$salt${}", key(32)),
            format!("scrypt$16384$salt$8$5${}", key(64)),
            format!("argon2$argon2id$v=19$m=102400,t=2,p=8${salt}${}", key(32)),
        ] {
            assert!(parse(&hash).is_ok(), "{hash}");
        }
    }

    #[test]
    fn what_is_no_hash_is_refused() {
        let salt = "MDEyMzQ1Njc4OWFiY2RlZg";
        for hash in [
            "",
            "$",
            "password",
            "plain:password",
            "5f4dcc3b5aa765d61d8327deb882cf99",
            "$1$salt$hash",
            "$2x$04$jIAnamNIukQmg0ru63MUyeHooru6weS0zZLyMrcx0op5X8QsIFj4m",
            "$2b$03$jIAnamNIukQmg0ru63MUyeHooru6weS0zZLyMrcx0op5X8QsIFj4m",
            "$2b$04$jIAnamNIukQmg0ru63MUyeHooru6weS0zZLyMrcx0op5X8QsIFj4",
            "$2b$04$jIAnamNIukQmg0ru63MUyeHooru6weS0zZLyMrcx0op5X8QsIFj4m\n",
            "$2b$04$\u{e4}IAnamNIukQmg0ru63MUyeHooru6weS0zZLyMrcx0op5X8QsIFj4m",
            "$argon2id$v=19$m=64,t=2,p=1$MDEyMzQ1Njc4OWFiY2RlZg",
            "$argon2id$v=19$MDEyMzQ1Njc4OWFiY2RlZg$NxGsDiR+c2egBTk8h4IO7CyhQ4JQ3d1Vc+YxM/wDS4c",
            "$argon2id$v=19$m=64,t=2$MDEyMzQ1Njc4OWFiY2RlZg$NxGsDiR+c2egBTk8h4IO7CyhQ4JQ3d1Vc+YxM/wDS4c",
            "$argon2id$v=18$m=64,t=2,p=1$MDEyMzQ1Njc4OWFiY2RlZg$NxGsDiR+c2egBTk8h4IO7CyhQ4JQ3d1Vc+YxM/wDS4c",
            "$argon2id$v=19$m=64,t=2,p=16777216$MDEyMzQ1Njc4OWFiY2RlZg$NxGsDiR+c2egBTk8h4IO7CyhQ4JQ3d1Vc+YxM/wDS4c",
            "$argon2id$v=19$m=64,t=2,p=1,keyid=AAAA$MDEyMzQ1Njc4OWFiY2RlZg$NxGsDiR+c2egBTk8h4IO7CyhQ4JQ3d1Vc+YxM/wDS4c",
            "$pbkdf2-md5$1000$MDEyMzQ1Njc4OWFiY2RlZg$djNf0gBaf8KbM65JOovWM6DjmDo",
            "$pbkdf2$0$MDEyMzQ1Njc4OWFiY2RlZg$djNf0gBaf8KbM65JOovWM6DjmDo",
            "$pbkdf2$-1$MDEyMzQ1Njc4OWFiY2RlZg$djNf0gBaf8KbM65JOovWM6DjmDo",
            "$pbkdf2$01000$MDEyMzQ1Njc4OWFiY2RlZg$djNf0gBaf8KbM65JOovWM6DjmDo",
            "$pbkdf2$99999999999$MDEyMzQ1Njc4OWFiY2RlZg$djNf0gBaf8KbM65JOovWM6DjmDo",
            "$pbkdf2-sha256$i=1000,l=20$MDEyMzQ1Njc4OWFiY2RlZg$nw21jjCi0toqxMwZ0OxAy2+mg3YStWTO2vXd4ERGCGI",
            "$pbkdf2$1000$$djNf0gBaf8KbM65JOovWM6DjmDo",
            "$pbkdf2$1000$MDEyMzQ1Njc4OWFiY2RlZg$",
            "$pbkdf2$1000$MDEyMzQ1Njc4OWFiY2RlZg$djNf0gBaf8Kb",
            "$pbkdf2$1000$MDEyMzQ1Njc4OWFiY2RlZg$!!!!",
            &format!("$fbscrypt$v=2,n=4,r=8,p=1,ss=,sk={salt}${salt}${salt}"),
            &format!("$fbscrypt$v=1,n=4,r=8,p=1,ss=,sk=${salt}${salt}"),
            &format!("$fbscrypt$v=1,n=4,r=8,p=1,sk={salt}${salt}${salt}"),
            "scrypt$1$salt$8$1$McqiFVitArvfXX5TumFCmMDRiHlYvAlh0SOVhQ8Bx2c=",
            "scrypt$15$salt$8$1$McqiFVitArvfXX5TumFCmMDRiHlYvAlh0SOVhQ8Bx2c=",
            &format!("$scrypt$ln=4,r=8${salt}${salt}"),
            &format!("$scrypt$r=8,ln=4,p=1${salt}${salt}"),
            &format!("$scrypt$ln=4,r=0,p=1${salt}${salt}"),
            &format!("$pbkdf2$1000${}${salt}", "A".repeat(600)),
        ] {
            assert!(PasswordHash::parse(hash).is_err(), "{hash}");
        }
        let e = PasswordHash::parse("canary").unwrap_err();
        assert_eq!((e.code, e.field.as_deref()), (Code::InvalidValue, Some("/password_hash")));
        assert!(!e.detail.contains("canary"));
    }

    proptest! {
        /// Near-misses of good hashes: no panic, and what is read is within bounds.
        #[test]
        fn hostile_hashes_never_panic(
            which in 0..OTHERS.len(),
            at in any::<proptest::sample::Index>(),
            with in "[$=,.0-9a-zA-Z+/]{0,12}",
            cut in 0..12_usize,
        ) {
            let mut hash = OTHERS[which].to_owned();
            let start = at.index(hash.len());
            let end = (start + cut).min(hash.len());
            hash.replace_range(start..end, &with);
            match parse(&hash) {
                Ok(Scheme::Argon2(phc)) => {
                    let params = Params::try_from(&*phc).unwrap();
                    prop_assert!(u64::from(params.m_cost()) * u64::from(params.t_cost()) <= ARGON2_WORK);
                }
                Ok(Scheme::Pbkdf2 { rounds, key, .. }) => {
                    prop_assert!(u64::from(rounds.get()) <= PBKDF2_ROUNDS && key.len() <= 64);
                }
                Ok(Scheme::Bcrypt(text)) => {
                    prop_assert!(text.parse::<bcrypt::HashParts>().unwrap().get_cost() <= 13);
                }
                Ok(Scheme::Scrypt { .. }) | Err(_) => {}
            }
        }
    }
}
