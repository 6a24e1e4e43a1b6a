//! Session tokens: what a session continues with. Sealed (JWE) or signed (JWS) by setting; the session cookie's value
//! is sealed always. A stored session's token is a handle; a floating one's carries the guest.

use passerby_jose::{parse_jws, peek_jwe};
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::{
    Code, Error, Timestamp,
    dpop::Thumbprint,
    id::{SessionId, TenantNo, UserId},
    key::SESSION_TYP,
    passerby::Passerby,
    secret::{Sealed, read_seal_kid},
    settings::{Client, SessionTokenFormat, Tenant},
    token::{Cnf, json_string, put, put_cnf, put_number},
};

/// Beyond so many bytes no token carries metadata.
pub(crate) const MOST_CARRIED: usize = 1024;

/// What a floating guest is made of, besides its ids.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Floating {
    /// When the session, and with it the guest, was made.
    pub(crate) created_at: Timestamp,
    /// Its metadata: compact JSON object.
    pub(crate) metadata: Box<str>,
    /// Its id as the caller chose it.
    pub(crate) chosen_id: Option<Box<str>>,
    /// The client that chose the id had authenticated.
    pub(crate) chosen_by_client: bool,
    /// Where the guest came in.
    pub(crate) entry: Option<Box<str>>,
}

#[derive(Deserialize)]
struct State {
    c: i64,
    m: Option<Box<RawValue>>,
    i: Option<bool>,
    b: Option<bool>,
    e: Option<Box<str>>,
}

impl Floating {
    /// The state that an access token carries: short names, nothing that its claims say already.
    pub(crate) fn state(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(32 + self.metadata.len());
        out.extend_from_slice(b"{\"c\":");
        put_number(&mut out, self.created_at.millis());
        if &*self.metadata != "{}" {
            out.extend_from_slice(b",\"m\":");
            out.extend_from_slice(self.metadata.as_bytes());
        }
        if self.chosen_id.is_some() {
            out.extend_from_slice(b",\"i\":true");
        }
        if self.chosen_by_client {
            out.extend_from_slice(b",\"b\":true");
        }
        if let Some(entry) = &self.entry {
            out.extend_from_slice(b",\"e\":");
            json_string(&mut out, entry);
        }
        out.push(b'}');
        out
    }

    /// Reads a state; `subject` is the token's `sub`.
    pub(crate) fn read_state(state: &[u8], subject: &str) -> Option<Self> {
        let state: State = serde_json::from_slice(state).ok()?;
        Some(Self {
            created_at: Timestamp::from_millis(state.c),
            metadata: state.m.map_or_else(|| "{}".into(), |m| m.get().into()),
            chosen_id: state.i.unwrap_or(false).then(|| subject.into()),
            chosen_by_client: state.b.unwrap_or(false),
            entry: state.e,
        })
    }
}

/// What goes into a session token.
pub(crate) struct SessionClaims<'a> {
    pub(crate) tenant: &'a Tenant,
    pub(crate) client: &'a Client,
    /// The user's id as shown.
    pub(crate) subject: &'a str,
    pub(crate) user: UserId,
    pub(crate) session: SessionId,
    pub(crate) created_at: Timestamp,
    pub(crate) issued_at: Timestamp,
    pub(crate) expires_at: Timestamp,
    /// A snapshot; too large a one is left out.
    pub(crate) metadata: &'a str,
    pub(crate) epoch: i32,
    pub(crate) cnf: Option<&'a Thumbprint>,
    pub(crate) floating: Option<&'a Floating>,
}

impl SessionClaims<'_> {
    /// The claims of `reference/auth0.md` 2.1 (the union of what SDK generations read), then our own.
    fn write(&self, out: &mut Vec<u8>) {
        let mut buffer = [0u8; 36];
        let sid = self.session.write(&mut buffer);
        out.extend_from_slice(b"{\"iss\":");
        out.extend_from_slice(self.tenant.issuer_json.as_bytes());
        out.extend_from_slice(b",\"aud\":");
        out.extend_from_slice(self.tenant.issuer_json.as_bytes());
        for name in ["sub", "user_id"] {
            put(out, format_args!(",\"{name}\":"));
            json_string(out, self.subject);
        }
        for name in ["session_id", "sid"] {
            put(out, format_args!(",\"{name}\":\"{sid}\""));
        }
        out.extend_from_slice(b",\"created_at\":");
        put_number(out, self.created_at.seconds());
        out.extend_from_slice(b",\"iat\":");
        put_number(out, self.issued_at.seconds());
        out.extend_from_slice(b",\"exp\":");
        put_number(out, self.expires_at.seconds());
        out.extend_from_slice(b",\"client_id\":");
        out.extend_from_slice(self.client.id_json.as_bytes());
        out.extend_from_slice(b",\"metadata\":");
        out.extend_from_slice(if self.metadata.len() <= MOST_CARRIED { self.metadata.as_bytes() } else { b"{}" });
        out.extend_from_slice(b",\"epoch\":");
        put_number(out, self.epoch.into());
        put_cnf(out, self.cnf);
        let mut buffer = [0u8; 36];
        put(out, format_args!(",\"key\":\"{}\"", self.user.write(&mut buffer)));
        if let Some(floating) = self.floating {
            out.extend_from_slice(b",\"floating\":{\"c\":");
            put_number(out, floating.created_at.millis());
            if floating.chosen_id.is_some() {
                out.extend_from_slice(b",\"i\":true");
            }
            if floating.chosen_by_client {
                out.extend_from_slice(b",\"b\":true");
            }
            if let Some(entry) = &floating.entry {
                out.extend_from_slice(b",\"e\":");
                json_string(out, entry);
            }
            out.push(b'}');
        }
        out.push(b'}');
    }
}

#[derive(Deserialize)]
struct ReadClaims {
    iss: Box<str>,
    aud: Box<str>,
    sub: Box<str>,
    key: Box<str>,
    sid: Box<str>,
    iat: i64,
    exp: i64,
    client_id: Box<str>,
    metadata: Box<RawValue>,
    epoch: i32,
    cnf: Option<Cnf>,
    floating: Option<State>,
}

/// A session token or cookie that is ours; its session is yet to be asked.
#[derive(Debug)]
pub(crate) struct SeenSession {
    pub(crate) tenant: TenantNo,
    pub(crate) client_id: Box<str>,
    pub(crate) subject: Box<str>,
    pub(crate) user: UserId,
    pub(crate) session: SessionId,
    pub(crate) issued_at: Timestamp,
    pub(crate) expires_at: Timestamp,
    pub(crate) epoch: i32,
    pub(crate) cnf: Option<Thumbprint>,
    pub(crate) floating: Option<Floating>,
}

impl Passerby {
    /// Writes a session token in the client's format, or a cookie's value.
    pub(crate) fn write_session_token(&self, what: Sealed, claims: &SessionClaims<'_>) -> Result<String, Error> {
        let fault = || Error::new(Code::Internal, "A session token could not be made.");
        let mut text = Vec::with_capacity(512 + claims.metadata.len());
        claims.write(&mut text);
        if what == Sealed::Session && claims.client.rules.session_token == SessionTokenFormat::Jws {
            let keys = self.keys.load();
            let key = keys.active(claims.tenant, claims.issued_at).ok_or_else(fault)?;
            let mut out = Vec::with_capacity(160 + text.len() * 4 / 3 + 360);
            key.signing.sign_into(&key.session_header, &text, &mut out).map_err(|_| fault())?;
            return String::from_utf8(out).map_err(|_| fault());
        }
        let secrets = self.secrets(claims.tenant.no).ok_or_else(fault)?;
        secrets.seal(what, &text, claims.issued_at).ok_or_else(fault)
    }

    /// Reads a session token (either format, whatever the setting is now) or a cookie's value. `None`: not ours, with
    /// no hint which check failed. Its end is for the caller to check.
    pub(crate) fn read_session_token(&self, what: Sealed, token: &str, now: Timestamp) -> Option<SeenSession> {
        let settings = self.settings();
        let (tenant, text) = match token.bytes().filter(|b| *b == b'.').count() {
            4 => {
                let header = peek_jwe(token).ok().filter(|h| h.typ == what.typ())?;
                let (tenant, month) = read_seal_kid(&header.kid)?;
                (tenant, self.secrets(tenant)?.open(what, token, month)?)
            }
            2 if what == Sealed::Session => {
                let jws = parse_jws(token).ok().filter(|jws| jws.typ == SESSION_TYP)?;
                let keys = self.keys.load();
                let key = keys.find(&jws.kid, &settings, now)?;
                key.verifying.verify(&jws).ok()?;
                (key.tenant, jws.claims().ok()?)
            }
            _ => return None,
        };
        let tenant = settings.tenant(tenant)?;
        let claims: ReadClaims = serde_json::from_slice(&text).ok()?;
        if claims.iss != tenant.issuer || claims.aud != tenant.issuer {
            return None;
        }
        let floating = claims.floating.map(|state| Floating {
            created_at: Timestamp::from_millis(state.c),
            metadata: claims.metadata.get().into(),
            chosen_id: state.i.unwrap_or(false).then(|| claims.sub.clone()),
            chosen_by_client: state.b.unwrap_or(false),
            entry: state.e,
        });
        Some(SeenSession {
            tenant: tenant.no,
            client_id: claims.client_id,
            subject: claims.sub,
            user: UserId::parse(&claims.key)?,
            session: SessionId::parse(&claims.sid)?,
            issued_at: Timestamp::from_seconds(claims.iat),
            expires_at: Timestamp::from_seconds(claims.exp),
            epoch: claims.epoch,
            cnf: claims.cnf.map(|c| c.0),
            floating,
        })
    }
}
