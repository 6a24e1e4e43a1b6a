//! Access tokens (RFC 9068): written into one buffer, read back once and remembered.

use std::sync::Arc;

use passerby_jose::{b64, parse_jws, sha256};
use serde::Deserialize;

use crate::{
    Code, Error, Timestamp,
    dpop::Thumbprint,
    id::{SessionId, TenantNo, UserId},
    key::{ACCESS_TYP, Key},
    passerby::Passerby,
    settings::{Client, Tenant},
    token::{Cnf, json_string, put_cnf, put_number},
};

use super::session::Floating;

/// What goes into an access token.
pub(crate) struct AccessClaims<'a> {
    pub(crate) tenant: &'a Tenant,
    pub(crate) client: &'a Client,
    /// `sub` as shown.
    pub(crate) subject: &'a str,
    /// `aud`; `None`: the issuer.
    pub(crate) audience: Option<&'a str>,
    pub(crate) scope: Option<&'a str>,
    pub(crate) issued_at: Timestamp,
    pub(crate) expires_at: Timestamp,
    pub(crate) jti: [u8; 16],
    /// The key that it is bound to (RFC 9449 section 6.1).
    pub(crate) cnf: Option<&'a Thumbprint>,
    /// `None`: a client's own token.
    pub(crate) person: Option<Person<'a>>,
}

/// The part of a person's token.
pub(crate) struct Person<'a> {
    pub(crate) session: SessionId,
    pub(crate) anonymous: bool,
    pub(crate) epoch: i32,
    /// The sealed state of a floating guest.
    pub(crate) floating: Option<&'a str>,
    /// The Auth0 dialect's further claims.
    pub(crate) auth0: bool,
}

impl AccessClaims<'_> {
    fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"{\"iss\":");
        out.extend_from_slice(self.tenant.issuer_json.as_bytes());
        out.extend_from_slice(b",\"sub\":");
        json_string(out, self.subject);
        out.extend_from_slice(b",\"aud\":");
        match self.audience {
            Some(audience) => json_string(out, audience),
            None => out.extend_from_slice(self.tenant.issuer_json.as_bytes()),
        }
        out.extend_from_slice(b",\"exp\":");
        put_number(out, self.expires_at.seconds());
        out.extend_from_slice(b",\"iat\":");
        put_number(out, self.issued_at.seconds());
        out.extend_from_slice(b",\"jti\":\"");
        b64::encode_into(&self.jti, out);
        out.extend_from_slice(b"\",\"client_id\":");
        out.extend_from_slice(self.client.id_json.as_bytes());
        out.extend_from_slice(b",\"scope\":");
        json_string(out, self.scope.unwrap_or_default());
        put_cnf(out, self.cnf);
        if let Some(person) = &self.person {
            out.extend_from_slice(b",\"sid\":\"");
            out.extend_from_slice(person.session.write(&mut [0u8; 36]).as_bytes());
            out.extend_from_slice(if person.anonymous {
                b"\",\"is_anonymous\":true"
            } else {
                b"\",\"is_anonymous\":false"
            });
            out.extend_from_slice(b",\"epoch\":");
            put_number(out, person.epoch.into());
            if let Some(state) = person.floating {
                out.extend_from_slice(b",\"floating\":true,\"state\":\"");
                out.extend_from_slice(state.as_bytes());
                out.push(b'"');
            }
            if person.auth0 {
                out.extend_from_slice(b",\"azp\":");
                out.extend_from_slice(self.client.id_json.as_bytes());
                out.push(b',');
                let slash = if self.tenant.issuer.ends_with('/') { "" } else { "/" };
                json_string(out, &format!("{}{slash}user_type", self.tenant.issuer));
                out.extend_from_slice(if person.anonymous { b":\"anonymous\"" } else { b":\"regular\"" });
            }
        }
        out.push(b'}');
    }
}

#[derive(Deserialize)]
struct ReadClaims<'a> {
    iss: std::borrow::Cow<'a, str>,
    sub: std::borrow::Cow<'a, str>,
    aud: std::borrow::Cow<'a, str>,
    exp: i64,
    iat: i64,
    jti: std::borrow::Cow<'a, str>,
    client_id: std::borrow::Cow<'a, str>,
    scope: Option<Box<str>>,
    sid: Option<std::borrow::Cow<'a, str>>,
    is_anonymous: Option<bool>,
    epoch: Option<i32>,
    floating: Option<bool>,
    state: Option<std::borrow::Cow<'a, str>>,
    cnf: Option<Cnf>,
}

/// A token whose signature and claims were checked. Its end is checked at each use, its session read each time.
#[derive(Debug)]
pub(crate) struct Seen {
    pub(crate) tenant: TenantNo,
    pub(crate) client: Arc<Client>,
    /// `sub` as shown.
    pub(crate) subject: Box<str>,
    pub(crate) audience: Box<str>,
    /// `aud` is the issuer: our own endpoints take it.
    pub(crate) for_issuer: bool,
    pub(crate) scope: Option<Box<str>>,
    pub(crate) issued_at: Timestamp,
    pub(crate) expires_at: Timestamp,
    pub(crate) jti: [u8; 16],
    /// The key that it is bound to.
    pub(crate) cnf: Option<Thumbprint>,
    /// `None`: a client's own token.
    pub(crate) person: Option<SeenPerson>,
}

#[derive(Debug)]
pub(crate) struct SeenPerson {
    pub(crate) user: UserId,
    pub(crate) session: SessionId,
    pub(crate) anonymous: bool,
    pub(crate) epoch: i32,
    pub(crate) floating: Option<Floating>,
}

fn invalid() -> Error {
    Error::new(Code::InvalidToken, "The access token is not one of ours, is broken, or is meant for something else.")
}

fn no_key() -> Error {
    Error::new(Code::Internal, "There is no key to sign with.")
}

impl Passerby {
    /// Signs an access token.
    pub(crate) fn write_access_token(&self, claims: &AccessClaims<'_>) -> Result<String, Error> {
        let key = self.signing_key(claims.tenant, claims.issued_at)?;
        let mut text = Vec::with_capacity(448);
        claims.write(&mut text);
        let mut out = Vec::with_capacity(160 + text.len() * 4 / 3 + 360);
        key.signing.sign_into(&key.access_header, &text, &mut out).map_err(|_| no_key())?;
        String::from_utf8(out).map_err(|_| no_key())
    }

    /// The key that signs a tenant's tokens now.
    pub(crate) fn signing_key(&self, tenant: &Tenant, now: Timestamp) -> Result<Arc<Key>, Error> {
        self.keys.load().active(tenant, now).cloned().ok_or_else(no_key)
    }

    /// Reads an access token of ours: checked once, remembered by its hash; its end is checked every time.
    pub(crate) fn read_access_token(&self, token: &str, now: Timestamp) -> Result<Arc<Seen>, Error> {
        if token.len() > passerby_jose::MAX_TOKEN {
            return Err(invalid());
        }
        let hash = sha256(token.as_bytes());
        let seen = if let Some(seen) = self.seen.get(&hash) {
            seen
        } else {
            let seen = Arc::new(self.check_access_token(token, now).ok_or_else(invalid)?);
            self.seen.insert(hash, seen.clone());
            seen
        };
        if seen.expires_at <= now {
            return Err(Error::new(Code::TokenExpired, "The access token has expired."));
        }
        Ok(seen)
    }

    fn check_access_token(&self, token: &str, now: Timestamp) -> Option<Seen> {
        let settings = self.settings();
        let jws = parse_jws(token).ok().filter(|jws| jws.typ == ACCESS_TYP)?;
        let keys = self.keys.load();
        let key = keys.find(&jws.kid, &settings, now)?;
        key.verifying.verify(&jws).ok()?;
        let tenant = settings.tenant(key.tenant)?;
        let text = jws.claims().ok()?;
        let claims: ReadClaims<'_> = serde_json::from_slice(&text).ok()?;
        if *claims.iss != *tenant.issuer {
            return None;
        }
        let client = tenant.clients.get(&*claims.client_id)?.clone();
        let jti: [u8; 16] = b64::decode(&claims.jti)?.try_into().ok()?;
        let person = match &claims.sid {
            None => None,
            Some(sid) => {
                let secrets = self.secrets(tenant.no)?;
                let session = SessionId::parse(sid)?;
                let user = secrets.key_of(&claims.sub);
                let floating = match (claims.floating, &claims.state) {
                    (Some(true), Some(state)) => Some(Floating::read_state(&secrets.open_state(state)?, &claims.sub)?),
                    (None | Some(false), None) => None,
                    _ => return None,
                };
                Some(SeenPerson { user, session, anonymous: claims.is_anonymous?, epoch: claims.epoch?, floating })
            }
        };
        Some(Seen {
            tenant: tenant.no,
            for_issuer: *claims.aud == *tenant.issuer,
            subject: claims.sub.into(),
            audience: claims.aud.into(),
            scope: claims.scope.filter(|s| !s.is_empty()),
            issued_at: Timestamp::from_seconds(claims.iat),
            expires_at: Timestamp::from_seconds(claims.exp),
            jti,
            cnf: claims.cnf.map(|c| c.0),
            client,
            person,
        })
    }
}
