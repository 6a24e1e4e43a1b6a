//! The body of an OAuth request: a form as the RFCs have it, or the same members as a JSON object.

use axum::body::Body;
use bytes::Bytes;
use http::HeaderMap;
use passerby_http::{
    App, MediaType, Refusal,
    form::{self, Params},
    json::{self, Text},
};
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::{ClaimFields, OAuthError};

/// A body that has arrived, and how to read it.
#[derive(Debug)]
pub enum Payload {
    /// `application/x-www-form-urlencoded`, or nothing at all.
    Form(Bytes),
    /// `application/json`.
    Json(Bytes),
}

/// Collects a form or a JSON text within the limits of the kit.
///
/// # Errors
/// [`Refusal::UnsupportedMediaType`] for another media type (a body of no bytes needs none), and the kit's limits.
pub async fn read_body(app: &App, headers: &HeaderMap, body: Body) -> Result<Payload, Refusal> {
    match MediaType::of(headers) {
        MediaType::Json => Ok(Payload::Json(app.body(body).await?)),
        MediaType::Form => Ok(Payload::Form(app.body(body).await?)),
        MediaType::MergePatch | MediaType::JsonPatch | MediaType::Other => {
            let bytes = app.body(body).await?;
            if bytes.is_empty() {
                return Ok(Payload::Form(bytes));
            }
            Err(Refusal::UnsupportedMediaType("application/x-www-form-urlencoded or application/json"))
        }
    }
}

/// A body that was read.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "one of a request, on the stack; a box would cost more")]
pub(crate) enum Read<'a> {
    Form(Params<'a>),
    Json(Members<'a>),
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Members<'a> {
    #[serde(borrow)]
    grant_type: Option<Text<'a>>,
    #[serde(borrow)]
    client_id: Option<Text<'a>>,
    #[serde(borrow)]
    client_secret: Option<Text<'a>>,
    #[serde(borrow)]
    client_assertion: Option<Text<'a>>,
    #[serde(borrow)]
    client_assertion_type: Option<Text<'a>>,
    #[serde(borrow)]
    refresh_token: Option<Text<'a>>,
    #[serde(borrow)]
    audience: Option<Text<'a>>,
    #[serde(borrow)]
    resource: Option<Text<'a>>,
    #[serde(borrow)]
    scope: Option<Text<'a>>,
    #[serde(borrow)]
    token: Option<Text<'a>>,
    #[serde(borrow)]
    persist: Option<&'a RawValue>,
    #[serde(borrow)]
    data: Option<&'a RawValue>,
    #[serde(borrow)]
    entry: Option<Text<'a>>,
    #[serde(borrow)]
    claim: Option<Text<'a>>,
    #[serde(borrow)]
    code: Option<Text<'a>>,
    #[serde(borrow)]
    password: Option<Text<'a>>,
    #[serde(borrow)]
    subject_token: Option<Text<'a>>,
    #[serde(borrow)]
    subject_token_type: Option<Text<'a>>,
    #[serde(borrow)]
    actor_token: Option<Text<'a>>,
    #[serde(borrow)]
    actor_token_type: Option<Text<'a>>,
    #[serde(borrow)]
    requested_token_type: Option<Text<'a>>,
}

/// What a request to the token, introspection or revocation endpoint says. A parameter without a value counts as not
/// sent (RFC 6749 section 3.1).
#[derive(Debug, Clone, Copy, Default)]
pub struct TokenRequest<'a> {
    /// `grant_type`.
    pub grant_type: Option<&'a str>,
    /// The client's part.
    pub client: ClaimFields<'a>,
    /// `refresh_token`.
    pub refresh_token: Option<&'a str>,
    /// `audience`, or its synonym `resource` (RFC 8707).
    pub audience: Option<&'a str>,
    /// `scope`.
    pub scope: Option<&'a str>,
    /// `token`, of introspection and revocation.
    pub token: Option<&'a str>,
    /// What a guest is made with.
    pub guest: GuestFields<'a>,
    /// What is proven.
    pub proof: ProofFields<'a>,
    /// Whose tokens come along (RFC 8693 section 2.1).
    pub tokens: TokenFields<'a>,
}

/// The parameters of the grant that makes a guest.
#[derive(Debug, Clone, Copy, Default)]
pub struct GuestFields<'a> {
    /// `persist`: `true` or `false`, in JSON also as such.
    pub persist: Option<&'a str>,
    /// `data`: a JSON object, in a form its text.
    pub data: Option<&'a str>,
    /// `entry`.
    pub entry: Option<&'a str>,
}

/// The parameters of the grant that proves a claim.
#[derive(Clone, Copy, Default)]
pub struct ProofFields<'a> {
    /// `claim`.
    pub claim: Option<&'a str>,
    /// `code`.
    pub code: Option<&'a str>,
    /// `password`: the one that the account gets.
    pub password: Option<&'a str>,
}

/// Tokens in a body, and what they are said to be.
#[derive(Clone, Copy, Default)]
pub struct TokenFields<'a> {
    /// `subject_token`.
    pub subject: Option<&'a str>,
    /// `subject_token_type`.
    pub subject_type: Option<&'a str>,
    /// `actor_token`.
    pub actor: Option<&'a str>,
    /// `actor_token_type`.
    pub actor_type: Option<&'a str>,
    /// `requested_token_type`.
    pub requested_type: Option<&'a str>,
}

impl std::fmt::Debug for ProofFields<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ProofFields(..)")
    }
}

impl std::fmt::Debug for TokenFields<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TokenFields(..)")
    }
}

impl Payload {
    /// Reads it.
    ///
    /// # Errors
    /// What the kit refuses: duplicates, bad UTF-8, values that are no strings.
    pub(crate) fn read(&self) -> Result<Read<'_>, Refusal> {
        match self {
            Self::Form(bytes) => form::parse(bytes).map(Read::Form),
            Self::Json(bytes) => json::parse(bytes).map(Read::Json),
        }
    }
}

impl Read<'_> {
    /// The parameters.
    ///
    /// # Errors
    /// As [`one_audience`].
    pub(crate) fn request(&self) -> Result<TokenRequest<'_>, OAuthError> {
        fn sent<'a>(text: Option<&'a Text<'_>>) -> Option<&'a str> {
            text.map(|t| &**t).filter(|t| !t.is_empty())
        }
        Ok(match self {
            Self::Form(p) => TokenRequest {
                grant_type: p.get("grant_type"),
                client: ClaimFields {
                    id: p.get("client_id"),
                    secret: p.get("client_secret"),
                    assertion: p.get("client_assertion"),
                    assertion_type: p.get("client_assertion_type"),
                },
                refresh_token: p.get("refresh_token"),
                audience: one_audience(p.get("audience"), p.get("resource"))?,
                scope: p.get("scope"),
                token: p.get("token"),
                guest: GuestFields { persist: p.get("persist"), data: p.get("data"), entry: p.get("entry") },
                proof: ProofFields { claim: p.get("claim"), code: p.get("code"), password: p.get("password") },
                tokens: TokenFields {
                    subject: p.get("subject_token"),
                    subject_type: p.get("subject_token_type"),
                    actor: p.get("actor_token"),
                    actor_type: p.get("actor_token_type"),
                    requested_type: p.get("requested_token_type"),
                },
            },
            Self::Json(m) => TokenRequest {
                grant_type: sent(m.grant_type.as_ref()),
                client: ClaimFields {
                    id: sent(m.client_id.as_ref()),
                    secret: sent(m.client_secret.as_ref()),
                    assertion: sent(m.client_assertion.as_ref()),
                    assertion_type: sent(m.client_assertion_type.as_ref()),
                },
                refresh_token: sent(m.refresh_token.as_ref()),
                audience: one_audience(sent(m.audience.as_ref()), sent(m.resource.as_ref()))?,
                scope: sent(m.scope.as_ref()),
                token: sent(m.token.as_ref()),
                guest: GuestFields {
                    // "true" as a form has it counts as well
                    persist: m.persist.map(|v| v.get().trim_matches('"')).filter(|v| !v.is_empty()),
                    data: m.data.map(RawValue::get),
                    entry: sent(m.entry.as_ref()),
                },
                proof: ProofFields {
                    claim: sent(m.claim.as_ref()),
                    code: sent(m.code.as_ref()),
                    password: sent(m.password.as_ref()),
                },
                tokens: TokenFields {
                    subject: sent(m.subject_token.as_ref()),
                    subject_type: sent(m.subject_token_type.as_ref()),
                    actor: sent(m.actor_token.as_ref()),
                    actor_type: sent(m.actor_token_type.as_ref()),
                    requested_type: sent(m.requested_token_type.as_ref()),
                },
            },
        })
    }
}

/// `audience`, or its synonym `resource`.
///
/// # Errors
/// `invalid_request` when both are there and differ.
pub fn one_audience<'a>(audience: Option<&'a str>, resource: Option<&'a str>) -> Result<Option<&'a str>, OAuthError> {
    match (audience, resource) {
        (Some(audience), Some(resource)) if audience != resource => {
            Err(OAuthError::invalid_request("audience and resource are synonyms, and name two different APIs."))
        }
        _ => Ok(audience.or(resource)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_form_and_its_json_are_the_same() {
        let form = Payload::Form(
            "grant_type=refresh_token&client_id=demo-spa&refresh_token=r.t&resource=https%3A%2F%2Fapi.example.com&scope=a+b&token_type_hint=x"
                .into(),
        );
        let json = Payload::Json(
            r#"{"grant_type":"refresh_token","client_id":"demo-spa","refresh_token":"r.t","audience":"https://api.example.com","scope":"a b","more":[1]}"#
                .into(),
        );
        for payload in [form, json] {
            let read = payload.read().unwrap();
            let request = read.request().unwrap();
            assert_eq!(request.grant_type, Some("refresh_token"));
            assert_eq!(request.client.id, Some("demo-spa"));
            assert_eq!(request.refresh_token, Some("r.t"));
            assert_eq!(request.audience, Some("https://api.example.com"));
            assert_eq!(request.scope, Some("a b"));
            assert_eq!(request.token, None);
        }
    }

    #[test]
    fn what_a_guest_is_made_with() {
        let form = Payload::Form("persist=true&data=%7B%22level%22%3A1%7D&entry=shop".into());
        let json = Payload::Json(r#"{"persist":true,"data":{"level":1},"entry":"shop"}"#.into());
        let text = Payload::Json(r#"{"persist":"true","data":{"level":1},"entry":"shop"}"#.into());
        for payload in [form, json, text] {
            let read = payload.read().unwrap();
            let GuestFields { persist, data, entry } = read.request().unwrap().guest;
            assert_eq!((persist, data, entry), (Some("true"), Some(r#"{"level":1}"#), Some("shop")));
        }
    }

    #[test]
    fn secrets_show_in_no_log() {
        let form =
            Payload::Form("code=123456&password=hunter22&subject_token=a.b.c&actor_token=d.e.f&claim=xyzzy".into());
        let read = form.read().unwrap();
        let request = read.request().unwrap();
        let told = format!("{:?}{:?}", request.proof, request.tokens);
        for secret in ["123456", "hunter22", "a.b.c", "d.e.f", "xyzzy"] {
            assert!(!told.contains(secret), "{told}");
        }
    }

    #[test]
    fn empty_is_not_sent() {
        let form = Payload::Form("grant_type=&client_secret=".into());
        let json = Payload::Json(r#"{"grant_type":"","client_secret":"","scope":null}"#.into());
        for payload in [form, json] {
            let read = payload.read().unwrap();
            let request = read.request().unwrap();
            assert!(request.grant_type.is_none() && request.client.secret.is_none() && request.scope.is_none());
        }
    }

    #[test]
    fn refusals() {
        for form in ["scope=a&scope=a", "a=%00", "a=%ff"] {
            assert!(Payload::Form(form.into()).read().is_err(), "{form}");
        }
        for json in ["", "[]", r#"{"scope":"a","scope":"a"}"#, r#"{"client_id":5}"#, r#"{"resource":["a"]}"#] {
            assert!(Payload::Json(json.into()).read().is_err(), "{json}");
        }
        assert_eq!(one_audience(Some("a"), Some("b")).unwrap_err().error, "invalid_request");
        assert_eq!(one_audience(Some("a"), Some("a")).unwrap(), Some("a"));
        assert_eq!(one_audience(None, Some("b")).unwrap(), Some("b"));
    }

    proptest::proptest! {
        #[test]
        fn nothing_panics(body in proptest::collection::vec(proptest::num::u8::ANY, 0..64)) {
            let _ = Payload::Form(body.clone().into()).read().map(|r| r.request().is_ok());
            let _ = Payload::Json(body.into()).read().map(|r| r.request().is_ok());
        }
    }
}
