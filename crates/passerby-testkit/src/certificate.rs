//! Certificates for servers on the loopback address.

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};

/// A certificate authority made on the spot, and a server's certificate from it.
#[derive(Debug, Clone)]
pub struct Certificate {
    /// What a client must trust, PEM.
    pub authority: String,
    /// The server's certificate, PEM.
    pub certificate: String,
    /// The server's key, PKCS#8 PEM.
    pub key: String,
}

/// A certificate for `names` (DNS names or addresses).
///
/// # Panics
/// When a name is neither.
pub fn for_names(names: &[&str]) -> Certificate {
    let make = || -> Result<Certificate, rcgen::Error> {
        let mut authority = CertificateParams::new(Vec::new())?;
        authority.distinguished_name.push(DnType::CommonName, "passerby test authority");
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority_key = KeyPair::generate()?;
        let authority_pem = authority.self_signed(&authority_key)?.pem();
        let key = KeyPair::generate()?;
        let names: Vec<String> = names.iter().map(ToString::to_string).collect();
        let issuer = Issuer::new(authority, authority_key);
        let certificate = CertificateParams::new(names)?.signed_by(&key, &issuer)?.pem();
        Ok(Certificate { authority: authority_pem, certificate, key: key.serialize_pem() })
    };
    make().expect("a certificate")
}
