//! What a library needs to know beforehand: the metadata of OpenID Connect Discovery and RFC 8414 (one content under
//! two names) and the public keys (RFC 7517). Only what exists is named.

use std::hash::{DefaultHasher, Hasher as _};

use axum::{
    extract::State,
    response::{IntoResponse, Response},
};
use http::{
    HeaderMap, HeaderValue, StatusCode,
    header::{CACHE_CONTROL, CONTENT_TYPE, ETAG},
};
use passerby_core::settings::Tenant;
use passerby_http::{App, Problem, Visit, answer::JSON, if_none_match};
use serde::Serialize;
use utoipa::ToSchema;

use crate::token::GRANT_TYPES;

/// Old keys stay published for longer than this, so a copy that is five minutes old verifies everything.
const KEPT: HeaderValue = HeaderValue::from_static("public, max-age=300");

/// How clients may authenticate.
const CLIENT_METHODS: [&str; 4] = ["none", "client_secret_basic", "client_secret_post", "private_key_jwt"];
/// How who introspects may: not by an id alone, and API keys too (RFC 8414 section 2 allows a token type here).
const INTROSPECTION_METHODS: [&str; 4] = ["client_secret_basic", "client_secret_post", "private_key_jwt", "Bearer"];
/// Algorithms of what clients sign: assertions and proofs.
const CLIENT_ALGORITHMS: [&str; 3] = ["ES256", "EdDSA", "RS256"];
const CLAIMS: [&str; 13] =
    ["iss", "sub", "aud", "exp", "iat", "jti", "client_id", "scope", "sid", "is_anonymous", "epoch", "floating", "cnf"];

/// The metadata of an issuer.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = IssuerMetadata)]
pub(crate) struct Metadata<'a> {
    /// As configured, to the letter.
    issuer: &'a str,
    /// Where tokens are renewed.
    token_endpoint: String,
    /// Where the public keys are.
    jwks_uri: String,
    /// Who a bearer is.
    userinfo_endpoint: String,
    /// RFC 7662.
    introspection_endpoint: String,
    /// RFC 7009.
    revocation_endpoint: String,
    /// Ours: guests in the form of Auth0's SDKs, and with a client id alone.
    anonymous_token_endpoint: String,
    /// Ours: where guests are made and found again.
    guests_endpoint: String,
    grant_types_supported: &'static [&'static str],
    /// Empty: there is no authorization endpoint.
    response_types_supported: [&'static str; 0],
    subject_types_supported: [&'static str; 1],
    id_token_signing_alg_values_supported: [&'static str; 1],
    token_endpoint_auth_methods_supported: &'static [&'static str],
    token_endpoint_auth_signing_alg_values_supported: &'static [&'static str],
    introspection_endpoint_auth_methods_supported: &'static [&'static str],
    introspection_endpoint_auth_signing_alg_values_supported: &'static [&'static str],
    revocation_endpoint_auth_methods_supported: &'static [&'static str],
    revocation_endpoint_auth_signing_alg_values_supported: &'static [&'static str],
    /// RFC 9449 section 5.1.
    dpop_signing_alg_values_supported: &'static [&'static str],
    /// Scopes of all registered APIs.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    scopes_supported: Vec<&'a str>,
    claims_supported: &'static [&'static str],
}

impl<'a> Metadata<'a> {
    fn of(tenant: &'a Tenant, algorithm: &'static str) -> Self {
        let base = tenant.issuer.trim_end_matches('/');
        let url = |path: &str| format!("{base}{path}");
        let mut scopes: Vec<&str> = tenant.resource_servers.values().flat_map(|s| &s.scopes).map(|s| &**s).collect();
        scopes.sort_unstable();
        scopes.dedup();
        Self {
            issuer: &tenant.issuer,
            token_endpoint: url("/oauth2/token"),
            jwks_uri: url("/.well-known/jwks.json"),
            userinfo_endpoint: url("/oauth2/userinfo"),
            introspection_endpoint: url("/oauth2/introspect"),
            revocation_endpoint: url("/oauth2/revoke"),
            anonymous_token_endpoint: url("/anonymous/token"),
            guests_endpoint: url("/v1/guests"),
            grant_types_supported: &GRANT_TYPES,
            response_types_supported: [],
            subject_types_supported: ["public"],
            id_token_signing_alg_values_supported: [algorithm],
            token_endpoint_auth_methods_supported: &CLIENT_METHODS,
            token_endpoint_auth_signing_alg_values_supported: &CLIENT_ALGORITHMS,
            introspection_endpoint_auth_methods_supported: &INTROSPECTION_METHODS,
            introspection_endpoint_auth_signing_alg_values_supported: &CLIENT_ALGORITHMS,
            revocation_endpoint_auth_methods_supported: &CLIENT_METHODS,
            revocation_endpoint_auth_signing_alg_values_supported: &CLIENT_ALGORITHMS,
            dpop_signing_alg_values_supported: &CLIENT_ALGORITHMS,
            scopes_supported: scopes,
            claims_supported: &CLAIMS,
        }
    }
}

/// The issuer's metadata (OpenID Connect Discovery 1.0).
#[utoipa::path(
    get,
    path = "/.well-known/openid-configuration",
    tag = "OAuth",
    responses((status = 200, description = "The metadata.", body = Metadata<'static>), (status = 304, description = "As `If-None-Match` has it."))
)]
pub(crate) async fn openid_configuration(State(app): State<App>, visit: Visit, headers: HeaderMap) -> Response {
    metadata(&app, visit, &headers)
}

/// The same by RFC 8414.
#[utoipa::path(
    get,
    path = "/.well-known/oauth-authorization-server",
    tag = "OAuth",
    responses((status = 200, description = "The metadata.", body = Metadata<'static>), (status = 304, description = "As `If-None-Match` has it."))
)]
pub(crate) async fn authorization_server(State(app): State<App>, visit: Visit, headers: HeaderMap) -> Response {
    metadata(&app, visit, &headers)
}

/// The issuer's public keys.
#[utoipa::path(
    get,
    path = "/.well-known/jwks.json",
    tag = "OAuth",
    responses((status = 200, description = "A JWK set (RFC 7517).", body = serde_json::Value), (status = 304, description = "As `If-None-Match` has it."))
)]
pub(crate) async fn jwks(State(app): State<App>, visit: Visit, headers: HeaderMap) -> Response {
    let Some(tenant) = app.tenant(&visit) else { return Problem::not_found().into_response() };
    match app.core().jwks(tenant.no) {
        Ok(keys) => document(&headers, keys.to_string().into_bytes()),
        Err(e) => Problem::from(e).into_response(),
    }
}

fn metadata(app: &App, visit: Visit, headers: &HeaderMap) -> Response {
    let Some(tenant) = app.tenant(&visit) else { return Problem::not_found().into_response() };
    let metadata = Metadata::of(&tenant, tenant.signing_algorithm.as_str());
    match serde_json::to_vec(&metadata) {
        Ok(body) => document(headers, body),
        Err(_) => Problem::internal().into_response(),
    }
}

/// A document that anybody may keep for a while.
fn document(asked: &HeaderMap, body: Vec<u8>) -> Response {
    let tag = tag(&body);
    let same = if_none_match(asked, &tag);
    let mut response = if same { StatusCode::NOT_MODIFIED.into_response() } else { body.into_response() };
    let headers = response.headers_mut();
    headers.insert(ETAG, tag);
    headers.insert(CACHE_CONTROL, KEPT);
    if !same {
        headers.insert(CONTENT_TYPE, JSON);
    }
    response
}

/// Names the content. A collision or another release's other tag costs nothing but one more or one later fetch.
fn tag(body: &[u8]) -> HeaderValue {
    let mut hasher = DefaultHasher::new();
    hasher.write(body);
    HeaderValue::try_from(format!("\"{:016x}\"", hasher.finish())).unwrap_or(HeaderValue::from_static("\"0\""))
}

#[cfg(test)]
mod tests {
    use http::header::IF_NONE_MATCH;

    use super::*;

    #[test]
    fn a_document_is_not_sent_twice() {
        let first = document(&HeaderMap::new(), b"{}".to_vec());
        assert_eq!(first.status(), StatusCode::OK);
        assert_eq!(first.headers()[CACHE_CONTROL], "public, max-age=300");
        assert_eq!(first.headers()[CONTENT_TYPE], "application/json");
        let tag = first.headers()[ETAG].clone();
        let asked = HeaderMap::from_iter([(IF_NONE_MATCH, tag.clone())]);
        let again = document(&asked, b"{}".to_vec());
        assert_eq!(again.status(), StatusCode::NOT_MODIFIED);
        assert_eq!(again.headers()[ETAG], tag);
        assert_eq!(document(&asked, b"{\"a\":1}".to_vec()).status(), StatusCode::OK);
    }
}
