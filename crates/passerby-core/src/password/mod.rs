//! Passwords: how they are read, hashed and verified, which ones are taken, and the threads on which that happens.
//!
//! Hashing costs on purpose: 15 ms and 19 MiB each by default. So nothing here is called on the reactor: every call of
//! [`HashSettings::hash`] and [`HashSettings::verify`] goes through [`HashPool::run`], which bounds how many run at once
//! and refuses the rest at once instead of letting them queue without end.
//!
//! Whether a user is there must not show in what a sign-in costs: where none is found,
//! [`HashSettings::verify`] is called all the same, with `None`.

mod hash;
mod imported;
mod policy;
mod pool;

pub use hash::{HashSettings, PasswordHash, Verdict};
pub use policy::{BreachedList, PasswordPolicy};
pub use pool::{HashPool, PoolSettings};
use std::sync::Arc;

use zeroize::Zeroizing;

use crate::{
    Code, Error,
    identifier::{Identifier, NFC},
    settings::SignIn,
};

/// How passwords are hashed, and where.
#[derive(Clone)]
pub struct Passwords {
    /// What a new hash costs.
    pub settings: HashSettings,
    /// The threads that hash.
    pub pool: Arc<HashPool>,
}

opaque_debug!(Passwords);

impl Passwords {
    /// Verifies on the pool's threads; without a hash it costs the same and is wrong.
    ///
    /// # Errors
    /// [`Code::Unavailable`] with a wait when the threads have more to do than they can.
    pub(crate) async fn verify(&self, hash: Option<PasswordHash>, password: Password) -> Result<Verdict, Error> {
        let settings = self.settings;
        self.pool.run(move || settings.verify(hash.as_ref(), &password)).await?
    }

    /// Checks a new password against the policy and hashes it, both on the pool's threads.
    ///
    /// # Errors
    /// As [`PasswordPolicy::check`] and [`Self::verify`].
    pub(crate) async fn take(
        &self,
        rules: &SignIn,
        password: Password,
        identifiers: Vec<Identifier>,
    ) -> Result<PasswordHash, Error> {
        let (settings, policy, breached) = (self.settings, rules.password, rules.breached.clone());
        let work = move || {
            let identifiers: Vec<&Identifier> = identifiers.iter().collect();
            policy.check(&password, &identifiers, breached.as_deref())?;
            settings.hash(&password)
        };
        self.pool.run(work).await?
    }
}

/// The longest password that is looked at, in bytes: 128 code points of four bytes, with room for what others allowed.
const LONGEST: usize = 1024;

/// A password as it came in. It is wiped when it is dropped.
pub struct Password {
    typed: Zeroizing<String>,
    prepared: Zeroizing<String>,
}

opaque_debug!(Password);

impl Password {
    /// Takes a password for verification or, after [`PasswordPolicy::check`], for hashing.
    ///
    /// It is prepared as by the OpaqueString profile (RFC 8265 section 4.2): other spaces become U+0020, and it is
    /// composed (NFC), because keyboards and systems spell the same `é` differently and the person cannot see which. Case,
    /// width and space at the ends stay: taking those away would make passwords equal that are not. NFKC is
    /// what older profiles did; it would take distinctions away, too.
    ///
    /// # Errors
    /// [`Code::InvalidValue`] at `/password` when it is empty or longer than 1,024 bytes.
    pub fn new(text: &str) -> Result<Self, Error> {
        if text.is_empty() || text.len() > LONGEST {
            return Err(refused("A password has 1 to 1,024 bytes."));
        }
        let spaced: Zeroizing<String> =
            Zeroizing::new(text.chars().map(|c| if is_other_space(c) { ' ' } else { c }).collect());
        let prepared = Zeroizing::new(NFC.normalize(&spaced).into_owned());
        Ok(Self { typed: Zeroizing::new(text.to_owned()), prepared })
    }

    /// By which a [`BreachedList`] knows it: of the form in which it is hashed.
    pub fn sha1(&self) -> [u8; 20] {
        passerby_jose::sha1(self.prepared().as_bytes())
    }

    /// In the form in which it is hashed.
    fn prepared(&self) -> &str {
        &self.prepared
    }

    /// The texts that a hash may be of: other systems hashed what was typed.
    fn spellings(&self) -> impl Iterator<Item = &str> {
        let typed = (self.typed != self.prepared).then_some(self.typed.as_str());
        std::iter::once(self.prepared.as_str()).chain(typed)
    }
}

/// The separators (category Zs) but U+0020.
fn is_other_space(c: char) -> bool {
    matches!(c, '\u{a0}' | '\u{1680}' | '\u{2000}'..='\u{200a}' | '\u{202f}' | '\u{205f}' | '\u{3000}')
}

fn refused(detail: &'static str) -> Error {
    Error::at(Code::InvalidValue, "/password", detail)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_spelling_is_hashed() {
        let composed = Password::new("caf\u{e9} au lait").unwrap();
        let other = Password::new("cafe\u{301}\u{a0}au\u{3000}lait").unwrap();
        assert_eq!(composed.prepared(), other.prepared());
        assert_eq!(composed.spellings().count(), 1);
        assert_eq!(other.spellings().collect::<Vec<_>>(), ["caf\u{e9} au lait", "cafe\u{301}\u{a0}au\u{3000}lait"]);
        for (one, two) in [("a", "A"), ("a", "a "), ("a", "\u{ff41}"), ("ss", "\u{df}")] {
            assert_ne!(Password::new(one).unwrap().prepared(), Password::new(two).unwrap().prepared());
        }
    }

    #[test]
    fn bounds() {
        assert!(Password::new("x").is_ok() && Password::new(&"x".repeat(1024)).is_ok());
        for text in ["", &"x".repeat(1025)] {
            let e = Password::new(text).unwrap_err();
            assert_eq!((e.code, e.field.as_deref()), (Code::InvalidValue, Some("/password")));
        }
    }

    #[test]
    fn line_43_debug_says_nothing() {
        let password = Password::new("canary-canary").unwrap();
        let hash = HashSettings::FOR_TESTS.hash(&password).unwrap();
        assert_eq!(format!("{password:?} {hash:?}"), "Password(..) PasswordHash(..)");
    }
}
