//! A list of public keys that are found by name.

use serde_json::{Value, json};

use crate::{JoseError, Jws, VerifyingKey};

/// Public keys in the order in which they are published; a few, so finding one is a walk.
#[derive(Debug, Clone, Default)]
pub struct KeySet(Vec<VerifyingKey>);

impl KeySet {
    /// From its keys. Of two with one `kid` the first is found.
    pub fn new(keys: Vec<VerifyingKey>) -> Self {
        Self(keys)
    }

    /// The key of that name.
    pub fn get(&self, kid: &str) -> Option<&VerifyingKey> {
        self.0.iter().find(|key| key.kid() == kid)
    }

    /// All keys.
    pub fn iter(&self) -> std::slice::Iter<'_, VerifyingKey> {
        self.0.iter()
    }

    /// Checks a token's signature with the key that its header names; the key that did.
    ///
    /// # Errors
    /// [`JoseError::Key`] when no key has that name, and what [`VerifyingKey::verify`] says.
    pub fn verify(&self, token: &Jws<'_>) -> Result<&VerifyingKey, JoseError> {
        let key = self.get(&token.kid).ok_or(JoseError::Key)?;
        key.verify(token).map(|()| key)
    }

    /// The JWK set `{"keys":[…]}` (RFC 7517 section 5).
    pub fn jwks(&self) -> Value {
        json!({ "keys": self.iter().map(VerifyingKey::jwk).collect::<Vec<_>>() })
    }
}

impl FromIterator<VerifyingKey> for KeySet {
    fn from_iter<I: IntoIterator<Item = VerifyingKey>>(keys: I) -> Self {
        Self(keys.into_iter().collect())
    }
}

impl<'a> IntoIterator for &'a KeySet {
    type Item = &'a VerifyingKey;
    type IntoIter = std::slice::Iter<'a, VerifyingKey>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}
