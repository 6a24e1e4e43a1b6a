//! Argon2id (RFC 9106) for what is set here; verification of that and of what other systems made.

use argon2::{
    Algorithm, Argon2, Params, PasswordHasher, PasswordVerifier, Version,
    password_hash::phc::{Output, ParamsString, PasswordHash as Phc, Salt},
};

use super::{
    Password,
    imported::{Scheme, parse},
};
use crate::{Code, Error, code::random};

/// Bytes of a fresh salt (RFC 9106 section 3.1).
const SALT: usize = 16;

/// Bytes of a hash.
const OUTPUT: usize = 32;

/// What a hash costs; within bounds, so that no configuration makes them worthless or stops the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HashSettings {
    memory_kib: u32,
    passes: u32,
    lanes: u32,
}

impl Default for HashSettings {
    /// 19 MiB, two passes, one lane: OWASP's first choice; about 15 ms of a core of today.
    fn default() -> Self {
        Self { memory_kib: 19 * 1024, passes: 2, lanes: 1 }
    }
}

/// What verification found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Not the password, or there is no hash.
    Wrong,
    /// The password.
    Right,
    /// The password, but its hash is not as the settings say, or another system made it: hash it again and keep that.
    RightButOld,
}

impl Verdict {
    /// Whether it is the password.
    pub fn is_right(self) -> bool {
        self != Self::Wrong
    }
}

impl HashSettings {
    /// So weak that it costs nothing: for tests only.
    pub const FOR_TESTS: Self = Self { memory_kib: 8, passes: 1, lanes: 1 };

    /// Memory in KiB (7,168 to 131,072), passes over it (1 to 10), lanes (1 to 4). Memory times passes is between 35 and
    /// 256 MiB: below, guessing is cheaper than for any of OWASP's choices; above, one sign-in takes a core for too long.
    ///
    /// # Errors
    /// A sentence that says which bound was passed.
    pub fn new(memory_kib: u32, passes: u32, lanes: u32) -> Result<Self, &'static str> {
        if !(7 * 1024..=128 * 1024).contains(&memory_kib) {
            return Err("memory must be 7168 to 131072 KiB");
        }
        if !(1..=10).contains(&passes) {
            return Err("there must be 1 to 10 passes");
        }
        if !(1..=4).contains(&lanes) {
            return Err("there must be 1 to 4 lanes");
        }
        // at most 1.3 million: no overflow
        if !(35 * 1024..=256 * 1024).contains(&(memory_kib * passes)) {
            return Err("memory times passes must be 35840 to 262144 KiB");
        }
        Ok(Self { memory_kib, passes, lanes })
    }

    /// Bytes of memory that one hash takes while it is made.
    pub fn memory(&self) -> usize {
        self.memory_kib as usize * 1024
    }

    fn params(self) -> Result<Params, Error> {
        Params::new(self.memory_kib, self.passes, self.lanes, Some(OUTPUT)).map_err(|_| failed())
    }

    /// Hashes with a fresh salt. Takes milliseconds: run it in the [`super::HashPool`].
    ///
    /// # Errors
    /// [`Code::Internal`] when there is no randomness or no memory.
    pub fn hash(&self, password: &Password) -> Result<PasswordHash, Error> {
        let mut salt = [0; SALT];
        random(&mut salt)?;
        let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, self.params()?);
        let phc: Phc = argon2.hash_password_with_salt(password.prepared().as_bytes(), &salt).map_err(|_| failed())?;
        Ok(PasswordHash { text: phc.to_string().into(), scheme: Scheme::Argon2(Box::new(phc)) })
    }

    /// Verifies, in a time that does not depend on how near the password is. `None`, where there is no user or no
    /// password, costs the same as a wrong password does (security checklist, line 42): callers verify always. Takes
    /// milliseconds, for a hash of another system up to half a second, and twice that where the password is not typed in
    /// composed characters and wrong: run it in the [`super::HashPool`].
    ///
    /// A hash of another system may be dearer or cheaper than ours, and until its first sign-in that shows.
    ///
    /// # Errors
    /// [`Code::Internal`] when there is no memory.
    pub fn verify(&self, hash: Option<&PasswordHash>, password: &Password) -> Result<Verdict, Error> {
        let nothing;
        let scheme = if let Some(hash) = hash {
            &hash.scheme
        } else {
            nothing = Scheme::Argon2(Box::new(self.nothing()?));
            &nothing
        };
        for (i, spelling) in password.spellings().enumerate() {
            if scheme.is_of(spelling.as_bytes())? {
                // a hash of what was typed is another system's
                let old = i > 0 || !self.made(scheme);
                return Ok(match hash {
                    None => Verdict::Wrong,
                    Some(_) if old => Verdict::RightButOld,
                    Some(_) => Verdict::Right,
                });
            }
        }
        Ok(Verdict::Wrong)
    }

    /// A hash of no password with the cost of one that was made with these settings.
    fn nothing(self) -> Result<Phc, Error> {
        Ok(Phc {
            algorithm: Algorithm::Argon2id.ident(),
            version: Some(Version::V0x13.into()),
            params: ParamsString::try_from(self.params()?).map_err(|_| failed())?,
            salt: Some(Salt::new(&[0; SALT]).map_err(|_| failed())?),
            hash: Some(Output::new(&[0; OUTPUT]).map_err(|_| failed())?),
        })
    }

    /// Whether a hash is as these settings make them.
    fn made(self, scheme: &Scheme) -> bool {
        let Scheme::Argon2(phc) = scheme else { return false };
        phc.algorithm == Algorithm::Argon2id.ident()
            && phc.version == Some(Version::V0x13.into())
            && phc.salt.is_some_and(|salt| salt.len() >= SALT)
            && Params::try_from(&**phc).is_ok_and(|p| {
                (p.m_cost(), p.t_cost(), p.p_cost(), p.output_len())
                    == (self.memory_kib, self.passes, self.lanes, Some(OUTPUT))
            })
    }
}

fn failed() -> Error {
    Error::new(Code::Internal, "The password could not be hashed.")
}

/// A hash as it is kept: ours (PHC string) or another system's in its own spelling.
#[derive(Clone)]
pub struct PasswordHash {
    text: Box<str>,
    scheme: Scheme,
}

opaque_debug!(PasswordHash);

impl PasswordHash {
    /// Reads a kept or imported hash:
    ///
    /// - argon2id, argon2i, argon2d: PHC strings, at most 128 MiB, and 256 MiB times passes; also with Django's `argon2`
    ///   before it;
    /// - bcrypt: `$2a$`, `$2b$`, `$2y$`, cost 4 to 13; also with Django's `bcrypt$` before it;
    /// - PBKDF2 with SHA-1, SHA-256, SHA-512, at most two million rounds (one million of SHA-512):
    ///   `$pbkdf2-sha256$i=…,l=…$salt$hash`, passlib's `$pbkdf2-sha256$rounds$salt$hash` and Django's
    ///   `pbkdf2_sha256$rounds$salt$hash`;
    /// - scrypt: `$scrypt$ln=…,r=…,p=…$salt$hash`, Django's `scrypt$N$salt$r$p$hash`, and Firebase's as
    ///   `$fbscrypt$v=1,n=…,r=…,p=1,ss=…,sk=…$salt$hash`; N·r·p at most 2^20.
    ///
    /// The bounds hold what one sign-in may cost whoever wrote the hash: about half a second of an idle core, and 128 MiB.
    ///
    /// # Errors
    /// [`Code::InvalidValue`] at `/password_hash`; the sentence does not repeat the hash.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let scheme = parse(text).map_err(|why| Error::at(Code::InvalidValue, "/password_hash", why))?;
        Ok(Self { text: text.into(), scheme })
    }

    /// The text to keep.
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

/// Whether an argon2 hash is of this password; the library compares in constant time.
pub(super) fn argon2_is_of(phc: &Phc, password: &[u8]) -> Result<bool, Error> {
    #[cfg(test)]
    tests::WORK.with_borrow_mut(|work| work.push(phc.params.to_string()));
    match Argon2::default().verify_password(password, phc) {
        Ok(()) => Ok(true),
        Err(argon2::password_hash::Error::PasswordInvalid) => Ok(false),
        Err(_) => Err(failed()),
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    thread_local! {
        /// Parameters of every argon2 that this thread computed for a verification.
        pub(super) static WORK: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
    }

    const QUICK: HashSettings = HashSettings::FOR_TESTS;

    fn password(text: &str) -> Password {
        Password::new(text).unwrap()
    }

    fn work(of: impl FnOnce()) -> Vec<String> {
        WORK.take();
        of();
        WORK.take()
    }

    #[test]
    fn a_hash_is_of_its_password_only() {
        let hash = QUICK.hash(&password("correct horse")).unwrap();
        assert!(hash.as_str().starts_with("$argon2id$v=19$m=8,t=1,p=1$"), "{}", hash.as_str());
        let kept = PasswordHash::parse(hash.as_str()).unwrap();
        assert_eq!(QUICK.verify(Some(&kept), &password("correct horse")).unwrap(), Verdict::Right);
        assert_eq!(QUICK.verify(Some(&kept), &password("correct Horse")).unwrap(), Verdict::Wrong);
        assert_ne!(hash.as_str(), QUICK.hash(&password("correct horse")).unwrap().as_str(), "a salt of its own");
    }

    #[test]
    fn a_change_of_settings_asks_for_a_new_hash() {
        let hash = QUICK.hash(&password("correct horse")).unwrap();
        for other in [
            HashSettings { memory_kib: 16, ..QUICK },
            HashSettings { passes: 2, ..QUICK },
            HashSettings { memory_kib: 16, lanes: 2, ..QUICK },
        ] {
            assert_eq!(other.verify(Some(&hash), &password("correct horse")).unwrap(), Verdict::RightButOld);
            assert_eq!(other.verify(Some(&hash), &password("x")).unwrap(), Verdict::Wrong);
        }
        let short = hash.as_str().rsplit_once('$').unwrap().0.to_owned() + "$AAAAAAAAAAAAAAAAAAAAAA";
        assert!(!QUICK.made(&PasswordHash::parse(&short).unwrap().scheme));
    }

    #[test]
    fn line_42_nobody_costs_the_same_as_somebody() {
        let settings = HashSettings { memory_kib: 16, passes: 2, lanes: 1 };
        let hash = settings.hash(&password("correct horse")).unwrap();
        for text in ["wrong horse", "wrong caf\u{65}\u{301}"] {
            let wrong = work(|| assert!(!settings.verify(Some(&hash), &password(text)).unwrap().is_right()));
            let nobody = work(|| assert!(!settings.verify(None, &password(text)).unwrap().is_right()));
            assert_eq!(wrong, nobody);
            assert_eq!(nobody[0], "m=16,t=2,p=1");
        }
    }

    #[test]
    fn a_hash_of_the_decomposed_spelling_is_taken_and_renewed() {
        let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, QUICK.params().unwrap());
        let phc: Phc = argon2.hash_password_with_salt("cafe\u{301}".as_bytes(), b"0123456789abcdef").unwrap();
        let hash = PasswordHash::parse(&phc.to_string()).unwrap();
        assert_eq!(QUICK.verify(Some(&hash), &password("cafe\u{301}")).unwrap(), Verdict::RightButOld);
        let ours = QUICK.hash(&password("cafe\u{301}")).unwrap();
        assert_eq!(QUICK.verify(Some(&ours), &password("caf\u{e9}")).unwrap(), Verdict::Right);
    }

    #[test]
    fn settings_have_bounds() {
        assert_eq!(HashSettings::new(19 * 1024, 2, 1).unwrap(), HashSettings::default());
        assert_eq!(HashSettings::default().memory(), 19 << 20);
        for (memory, passes) in [(7, 5), (9, 4), (12, 3), (46, 1), (128, 2)] {
            assert!(HashSettings::new(memory * 1024, passes, 1).is_ok(), "{memory} MiB, {passes}");
        }
        for (memory, passes, lanes) in [
            (0, 2, 1),
            (7 * 1024 - 1, 10, 1),
            (128 * 1024 + 1, 1, 1),
            (u32::MAX, 1, 1),
            (19 * 1024, 0, 1),
            (19 * 1024, 11, 1),
            (19 * 1024, u32::MAX, 1),
            (19 * 1024, 2, 0),
            (19 * 1024, 2, 5),
            (19 * 1024, 1, 1),
            (128 * 1024, 3, 1),
        ] {
            assert!(HashSettings::new(memory, passes, lanes).is_err(), "{memory} {passes} {lanes}");
        }
        // what may be set can be read back
        for (memory, passes, lanes) in [(128 * 1024, 2, 4), (7 * 1024, 10, 1)] {
            let phc = HashSettings::new(memory, passes, lanes).unwrap().nothing().unwrap();
            assert!(PasswordHash::parse(&phc.to_string()).is_ok());
        }
    }
}
