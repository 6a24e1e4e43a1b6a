//! The signature algorithms.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::JoseError;

/// A signature algorithm of RFC 7518 and RFC 8037; written and read as its registered name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Algorithm {
    /// ECDSA on P-256 with SHA-256, 64 raw bytes (RFC 7518 section 3.4).
    #[serde(rename = "ES256")]
    Es256,
    /// Ed25519, 64 bytes (RFC 8037 section 3.1).
    #[serde(rename = "EdDSA")]
    EdDsa,
    /// RSA PKCS#1 v1.5 with SHA-256, as long as the modulus (RFC 7518 section 3.3).
    #[serde(rename = "RS256")]
    Rs256,
}

impl Algorithm {
    /// All of them, the recommended first.
    pub const ALL: [Self; 3] = [Self::Es256, Self::EdDsa, Self::Rs256];

    /// The registered name, as in `alg`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Es256 => "ES256",
            Self::EdDsa => "EdDSA",
            Self::Rs256 => "RS256",
        }
    }
}

impl FromStr for Algorithm {
    type Err = JoseError;

    /// Exact, with regard to case (RFC 7515 section 4.1.1). [`JoseError::Algorithm`] for every other name.
    fn from_str(name: &str) -> Result<Self, JoseError> {
        Self::ALL.into_iter().find(|a| a.as_str() == name).ok_or(JoseError::Algorithm)
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        for a in Algorithm::ALL {
            assert_eq!(a.as_str().parse(), Ok(a));
            assert_eq!(serde_json::to_string(&a).unwrap(), format!("\"{a}\""));
            assert_eq!(serde_json::from_str::<Algorithm>(&format!("\"{a}\"")).unwrap(), a);
        }
        for name in ["none", "None", "", "HS256", "es256", "ES256 ", "ES384", "PS256", "Ed25519", "Es256"] {
            assert_eq!(name.parse::<Algorithm>(), Err(JoseError::Algorithm), "{name}");
            assert!(serde_json::from_str::<Algorithm>(&format!("\"{name}\"")).is_err(), "{name}");
        }
    }
}
