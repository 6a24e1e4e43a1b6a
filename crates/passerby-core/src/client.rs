//! Which client asks, and whether it proved to be that one.

use std::{collections::HashSet, sync::Arc, time::Duration};

use jsonwebtoken::{DecodingKey, Validation};
use passerby_jose::{same, sha256};
use serde::Deserialize;

use crate::{
    Code, Error, Timestamp,
    caller::{Caller, ClientClaim, Site},
    dpop::Thumbprint,
    id::{SessionId, UserId},
    model::{LookUp, LookUpKind, SessionKind},
    passerby::Passerby,
    port::{Act, CommitError},
    settings::{Client, Tenant},
};

/// `client_assertion_type` of RFC 7523 section 2.2.
const ASSERTION_TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

/// Leeway for the clocks of others, in seconds.
const LEEWAY: i64 = 60;

/// An assertion may live so long at most (`reference/auth0.md` section 8).
const LONGEST_ASSERTION: i64 = 300;

/// A client that was found and, if it is confidential, authenticated.
#[derive(Debug, Clone)]
pub(crate) struct KnownClient {
    pub(crate) tenant: Arc<Tenant>,
    pub(crate) client: Arc<Client>,
    /// It proved who it is; a public one cannot.
    pub(crate) authenticated: bool,
}

fn refused(field: &'static str, detail: &'static str) -> Error {
    Error::at(Code::InvalidClient, field, detail)
}

#[derive(Deserialize)]
struct Assertion {
    iss: String,
    sub: String,
    aud: Audiences,
    exp: i64,
    nbf: Option<i64>,
    jti: String,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Audiences {
    One(String),
    Many(Vec<String>),
}

impl Passerby {
    /// Finds the client and holds it to its way of authenticating.
    ///
    /// # Errors
    /// [`Code::InvalidRequest`] without an id or with two methods, [`Code::InvalidClient`] otherwise.
    pub(crate) async fn known_client(
        &self,
        caller: &Caller<'_>,
        claim: &ClientClaim<'_>,
        now: Timestamp,
    ) -> Result<KnownClient, Error> {
        let methods = [claim.basic.is_some(), claim.secret.is_some(), claim.assertion.is_some()];
        if methods.iter().filter(|m| **m).count() > 1 {
            return Err(Error::at(Code::InvalidRequest, "client_secret", "Authenticate in one way only."));
        }
        let named = claim.basic.map(|b| b.0).or(claim.id);
        if let (Some((basic, _)), Some(id)) = (claim.basic, claim.id)
            && basic != id
        {
            return Err(Error::at(Code::InvalidRequest, "client_id", "Header and body name two clients."));
        }
        let from_assertion;
        let id = match (named, claim.assertion) {
            (Some(id), _) => id,
            (None, Some(assertion)) => {
                from_assertion = assertion_subject(assertion)
                    .ok_or_else(|| refused("client_assertion", "The client assertion cannot be read."))?;
                &from_assertion
            }
            (None, None) => return Err(Error::at(Code::InvalidRequest, "client_id", "client_id is missing.")),
        };
        let settings = self.settings();
        let (tenant, client) = settings
            .clients
            .get(id)
            .filter(|(tenant, _)| caller.tenant.is_none_or(|no| no == tenant.no))
            .ok_or_else(|| refused("client_id", "There is no such client."))?;
        let known = |authenticated| KnownClient { tenant: tenant.clone(), client: client.clone(), authenticated };
        if let Some(assertion) = claim.assertion {
            self.check_assertion(tenant, client, claim, assertion, now).await?;
            return Ok(known(true));
        }
        match (client.secret, claim.basic.map(|b| b.1).or(claim.secret)) {
            (Some(expected), Some(given)) if same(&expected, &sha256(given.as_bytes())) => Ok(known(true)),
            (Some(_), Some(_)) => Err(refused("client_secret", "The client's authentication failed.")),
            (None, Some("")) if !client.confidential() => Ok(known(false)),
            (None, Some(_)) => Err(refused("client_secret", "This client has no secret.")),
            (_, None) if client.confidential() => Err(refused("client_secret", "This client must authenticate.")),
            (_, None) => Ok(known(false)),
        }
    }

    async fn check_assertion(
        &self,
        tenant: &Tenant,
        client: &Client,
        claim: &ClientClaim<'_>,
        assertion: &str,
        now: Timestamp,
    ) -> Result<(), Error> {
        let fail = |detail| refused("client_assertion", detail);
        if claim.assertion_type != Some(ASSERTION_TYPE) {
            return Err(Error::at(
                Code::InvalidRequest,
                "client_assertion_type",
                "Expected the jwt-bearer type of RFC 7523.",
            ));
        }
        let keys = client.keys.as_ref().ok_or_else(|| fail("This client has no keys."))?;
        let header =
            jsonwebtoken::decode_header(assertion).map_err(|_| fail("The client assertion cannot be read."))?;
        let jwk = match &header.kid {
            Some(kid) => keys.find(kid),
            None if keys.keys.len() == 1 => keys.keys.first(),
            None => None,
        }
        .ok_or_else(|| fail("The client assertion names no key of this client."))?;
        let key = DecodingKey::from_jwk(jwk).map_err(|_| fail("The client's key cannot be used."))?;
        // the key fixes the algorithm; the header only has to agree
        let algorithm =
            jwk.common.key_algorithm.and_then(|a| a.to_string().parse().ok()).unwrap_or(match &jwk.algorithm {
                jsonwebtoken::jwk::AlgorithmParameters::EllipticCurve(_) => jsonwebtoken::Algorithm::ES256,
                jsonwebtoken::jwk::AlgorithmParameters::OctetKeyPair(_) => jsonwebtoken::Algorithm::EdDSA,
                _ => jsonwebtoken::Algorithm::RS256,
            });
        let mut validation = Validation::new(algorithm);
        // the injected clock decides, and the audience is compared below
        validation.validate_exp = false;
        validation.validate_aud = false;
        validation.required_spec_claims = HashSet::new();
        let claims = jsonwebtoken::decode::<Assertion>(assertion, &key, &validation)
            .map_err(|_| fail("The client assertion's signature or claims are wrong."))?
            .claims;
        let seconds = now.seconds();
        let url = format!("{}{}", tenant.issuer.trim_end_matches('/'), claim.endpoint);
        let bare = tenant.issuer.trim_end_matches('/');
        let ours = |aud: &String| aud.trim_end_matches('/') == bare || *aud == url;
        let for_us = match &claims.aud {
            Audiences::One(aud) => ours(aud),
            Audiences::Many(list) => list.iter().any(ours),
        };
        if claims.iss != *client.id || claims.sub != *client.id || !for_us {
            return Err(fail("The client assertion's iss, sub or aud is wrong."));
        }
        if claims.exp <= seconds - LEEWAY || claims.nbf.is_some_and(|nbf| nbf > seconds + LEEWAY) {
            return Err(fail("The client assertion has expired or is not valid yet."));
        }
        if claims.exp > seconds + LONGEST_ASSERTION + LEEWAY || claims.jti.is_empty() {
            return Err(fail("A client assertion needs a jti and lives five minutes at most."));
        }
        let hash =
            self.secrets_of(tenant.no)?.look_up_hash("assertion", &[client.id.as_bytes(), claims.jti.as_bytes()]);
        let spent = LookUp {
            kind: LookUpKind::Assertion,
            hash,
            user: UserId::from_bytes([0; 16]),
            session: SessionId::from_bytes([0; 16]),
            body: [0; 32],
            ends_at: Timestamp::from_seconds(claims.exp + LEEWAY),
        };
        match self.commit(tenant.no, None, Act::Remember(Box::new(spent))).await {
            Ok(_) => Ok(()),
            Err(CommitError::Taken) => Err(fail("The client assertion was used before.")),
            Err(e) => Err(e.into()),
        }
    }
}

/// `sub` of an assertion that nothing has checked yet: it only chooses the client whose keys then decide.
fn assertion_subject(assertion: &str) -> Option<String> {
    #[derive(Deserialize)]
    struct Sub {
        sub: String,
    }
    let payload = passerby_jose::b64::decode(assertion.split('.').nth(1)?)?;
    serde_json::from_slice::<Sub>(&payload).ok().map(|s| s.sub)
}

impl KnownClient {
    /// Guests are made for this client.
    ///
    /// # Errors
    /// [`Code::FeatureNotEnabled`], [`Code::UnauthorizedClient`].
    pub(crate) fn may_make_guests(&self) -> Result<(), Error> {
        if !self.tenant.rules.enabled {
            return Err(Error::new(Code::FeatureNotEnabled, "Guests are switched off here."));
        }
        if !self.client.rules.enabled {
            return Err(Error::at(Code::UnauthorizedClient, "client_id", "This client may not make guests."));
        }
        Ok(())
    }

    /// The key that tokens are to be bound to: on request, or because the client's setting says so. `None`: to none.
    ///
    /// # Errors
    /// [`Code::InvalidDpopProof`] where no proof came along, [`Code::InvalidValue`] for a cookie, which no proof goes with.
    pub(crate) fn binding(
        &self,
        asked: bool,
        key: Option<Thumbprint>,
        kind: SessionKind,
    ) -> Result<Option<Thumbprint>, Error> {
        if !asked && !self.client.dpop_bound_access_tokens {
            return Ok(None);
        }
        if kind == SessionKind::Cookie {
            let field = if asked { "/bind_tokens" } else { "/session_type" };
            return Err(Error::at(Code::InvalidValue, field, "A cookie cannot be bound to a key."));
        }
        let missing = || Error::at(Code::InvalidDpopProof, "DPoP", "Tokens are bound to a key; show its proof.");
        key.ok_or_else(missing).map(Some)
    }

    /// A browser origin must be ours or on the client's list (security checklist 1).
    ///
    /// # Errors
    /// [`Code::OriginNotAllowed`].
    pub(crate) fn origin_allowed(&self, caller: &Caller<'_>) -> Result<(), Error> {
        match caller.site {
            Site::Origin(origin) if !self.client.origins.contains(origin) => {
                Err(Error::at(Code::OriginNotAllowed, "Origin", "This origin is not registered for this client."))
            }
            _ => Ok(()),
        }
    }
}

/// What a grant is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Grant {
    /// `None`: the issuer.
    pub(crate) audience: Option<Box<str>>,
    /// What was granted.
    pub(crate) scope: Option<Box<str>>,
}

/// Scopes that a token for the issuer may carry.
const OWN_SCOPES: [&str; 3] = ["openid", "profile", "offline_access"];

/// Decides audience and scope of a token. `guest`: guest scopes only (security checklist 12).
///
/// # Errors
/// [`Code::InvalidTarget`] (RFC 8707), [`Code::InvalidScope`].
pub(crate) fn grant(
    tenant: &Tenant,
    client: &Client,
    audience: Option<&str>,
    scope: Option<&str>,
    guest: bool,
) -> Result<Grant, Error> {
    let wanted = audience.or(tenant.default_audience.as_deref()).filter(|a| *a != &*tenant.issuer);
    let bad_scope =
        |what: &str| Err(Error::at(Code::InvalidScope, "scope", format!("The scope {what:?} is not granted.")));
    if let Some(bad) = scope.into_iter().flat_map(|s| s.split(' ')).find(|s| !s.is_empty() && !scope_token(s)) {
        return bad_scope(bad);
    }
    let Some(wanted) = wanted else {
        let mut asked: Vec<&str> = Vec::new();
        for scope in scope.unwrap_or_default().split(' ').filter(|s| !s.is_empty()) {
            if !asked.contains(&scope) {
                asked.push(scope);
            }
            if !OWN_SCOPES.contains(&scope) {
                break;
            }
        }
        return match asked.iter().find(|s| !OWN_SCOPES.contains(s)) {
            Some(bad) => bad_scope(bad),
            None => Ok(Grant { audience: None, scope: (!asked.is_empty()).then(|| asked.join(" ").into()) }),
        };
    };
    let server = tenant
        .resource_servers
        .get(wanted)
        .filter(|_| client.audiences.contains(wanted) || audience.is_none())
        .ok_or_else(|| Error::at(Code::InvalidTarget, "audience", "This client may not ask for this audience."))?;
    let allowed = if guest { &server.guest_scopes } else { &server.scopes };
    if guest && allowed.is_empty() {
        return Err(Error::at(Code::InvalidTarget, "audience", "This API takes no guests."));
    }
    let scope = match scope.map(str::trim).filter(|s| !s.is_empty()) {
        None if guest => server.guest_scope_text.clone(),
        None => allowed.join(" ").into(),
        Some(asked) => {
            let mut granted: Vec<&str> = Vec::new();
            for scope in asked.split(' ').filter(|s| !s.is_empty()) {
                if !allowed.iter().any(|a| **a == *scope) {
                    return bad_scope(scope);
                }
                if !granted.contains(&scope) {
                    granted.push(scope);
                }
            }
            granted.join(" ").into()
        }
    };
    Ok(Grant { audience: Some(wanted.into()), scope: (!scope.is_empty()).then_some(scope) })
}

/// `scope-token` of RFC 6749 section 3.3.
fn scope_token(text: &str) -> bool {
    text.bytes().all(|b| b == 0x21 || (0x23..=0x5b).contains(&b) || (0x5d..=0x7e).contains(&b))
}

/// How long what a creation's idempotency key opens is remembered.
pub(crate) fn creation_key_life(known: &KnownClient) -> Duration {
    Duration::from_secs(if known.authenticated { 86_400 } else { 600 })
}
