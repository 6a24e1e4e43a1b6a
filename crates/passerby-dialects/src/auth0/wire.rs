//! The request and the answers of `POST /anonymous/token`, as their bytes are.

use axum::response::Response;
use http::StatusCode;
use passerby_core::{
    caller::ClientClaim,
    guest::{AnonymousAnswer, AnonymousToken},
};
use passerby_http::{
    answer::Out,
    form::Params,
    json::{self, Text},
};
use passerby_oauth::{Claim, ClaimFields, OAuthError, one_audience};
use serde::Deserialize;
use serde_json::value::RawValue;
use utoipa::ToSchema;

/// The JSON form. Further members are passed over.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Members<'a> {
    #[serde(borrow)]
    client_id: Option<Text<'a>>,
    #[serde(borrow)]
    client_secret: Option<Text<'a>>,
    #[serde(borrow)]
    client_assertion: Option<Text<'a>>,
    #[serde(borrow)]
    client_assertion_type: Option<Text<'a>>,
    #[serde(borrow)]
    audience: Option<Text<'a>>,
    #[serde(borrow)]
    resource: Option<Text<'a>>,
    #[serde(borrow)]
    scope: Option<Text<'a>>,
    #[serde(borrow)]
    session_token: Option<Text<'a>>,
    #[serde(borrow)]
    user_id: Option<Text<'a>>,
    #[serde(borrow)]
    metadata: Option<&'a RawValue>,
}

fn text<'a>(member: Option<&'a Text<'_>>) -> Option<&'a str> {
    member.map(|t| &**t)
}

/// Nothing asked for: an SDK's empty setting.
fn filled<'a>(member: Option<&'a Text<'_>>) -> Option<&'a str> {
    text(member).filter(|t| !t.is_empty())
}

impl Members<'_> {
    /// As the use case takes it.
    ///
    /// # Errors
    /// As [`one_audience`].
    pub(super) fn request<'c>(&'c self, claim: &'c Claim<'_>) -> Result<AnonymousToken<'c>, OAuthError> {
        let fields = ClaimFields {
            id: text(self.client_id.as_ref()),
            secret: text(self.client_secret.as_ref()),
            assertion: text(self.client_assertion.as_ref()),
            assertion_type: text(self.client_assertion_type.as_ref()),
        };
        Ok(AnonymousToken {
            client: client(claim, fields),
            session_token: text(self.session_token.as_ref()),
            user_id: text(self.user_id.as_ref()),
            metadata: json::raw(self.metadata),
            audience: one_audience(filled(self.audience.as_ref()), filled(self.resource.as_ref()))?,
            scope: filled(self.scope.as_ref()),
        })
    }
}

/// The form: the same, `metadata` as JSON text. A parameter without a value counts as not sent.
///
/// # Errors
/// As [`one_audience`].
pub(super) fn of_form<'c>(params: &'c Params<'_>, claim: &'c Claim<'_>) -> Result<AnonymousToken<'c>, OAuthError> {
    let fields = ClaimFields {
        id: params.get("client_id"),
        secret: params.get("client_secret"),
        assertion: params.get("client_assertion"),
        assertion_type: params.get("client_assertion_type"),
    };
    Ok(AnonymousToken {
        client: client(claim, fields),
        session_token: params.get("session_token"),
        user_id: params.get("user_id"),
        metadata: params.get("metadata").map(str::as_bytes),
        audience: one_audience(params.get("audience"), params.get("resource"))?,
        scope: params.get("scope"),
    })
}

fn client<'c>(claim: &'c Claim<'_>, fields: ClaimFields<'c>) -> ClientClaim<'c> {
    claim.with(fields, super::routes::PATH)
}

/// The answer, in one buffer.
pub(super) fn answer(answer: &AnonymousAnswer) -> Response {
    let out = match answer {
        AnonymousAnswer::Session { tokens, session_expires_in } => {
            let session = tokens.session_token.as_deref().unwrap_or_default();
            let scope = tokens.scope.as_deref().unwrap_or_default();
            let mut out = Out::with_capacity(192 + tokens.access_token.len() + session.len() + scope.len());
            out.raw("{\"access_token\":").string(&tokens.access_token);
            out.raw(",\"token_type\":").string(tokens.token_type);
            out.raw(",\"expires_in\":").integer(tokens.expires_in as i64);
            if tokens.session_token.is_some() {
                out.raw(",\"session_token\":").string(session);
            }
            out.raw(",\"session_expires_in\":").integer(*session_expires_in as i64);
            if tokens.scope.is_some() {
                out.raw(",\"scope\":").string(scope);
            }
            out.raw("}");
            out
        }
        AnonymousAnswer::Transfer { ticket, expires_in } => {
            let mut out = Out::with_capacity(96 + ticket.len());
            out.raw("{\"anon_transfer_token\":").string(ticket);
            // RFC 8693 section 2.2.1: the name for what is no access token
            out.raw(",\"token_type\":\"N_A\",\"expires_in\":").integer(*expires_in as i64).raw("}");
            out
        }
    };
    out.answer(StatusCode::OK)
}

/// The request, for the document.
#[derive(Debug, ToSchema)]
#[expect(dead_code, reason = "only described")]
pub(super) struct AnonymousTokenRequest {
    /// Needed unless HTTP Basic or an assertion names the client.
    client_id: Option<String>,
    /// A confidential client's secret.
    client_secret: Option<String>,
    /// RFC 7523: the client's signed JWT in place of a secret.
    client_assertion: Option<String>,
    /// `urn:ietf:params:oauth:client-assertion-type:jwt-bearer`.
    client_assertion_type: Option<String>,
    /// The API that the access token is for; `urn:auth0:anon_transfer` asks for a transfer ticket.
    audience: Option<String>,
    /// Synonym of `audience` (RFC 8707).
    resource: Option<String>,
    /// Space-separated; without it all that guests may have.
    scope: Option<String>,
    /// Continue this session.
    session_token: Option<String>,
    /// On creation only: an id of the caller's choice, for clients that may.
    user_id: Option<String>,
    /// A JSON object (in a form: its text). On continuing it is merged by top-level key, `null` removes one.
    #[schema(value_type = Option<Object>)]
    metadata: Option<serde_json::Value>,
}

/// The answer, for the document.
#[derive(Debug, ToSchema)]
#[expect(dead_code, reason = "only described")]
pub(super) struct AnonymousTokenAnswer {
    /// JWT of RFC 9068.
    access_token: String,
    /// `Bearer`.
    token_type: String,
    /// Seconds that the access token lives.
    expires_in: u64,
    /// What the session continues with; older ones go on working.
    session_token: String,
    /// Seconds left of the session; continuing does not extend it.
    session_expires_in: u64,
    /// What was granted.
    scope: Option<String>,
}

/// A transfer ticket, for the document.
#[derive(Debug, ToSchema)]
#[expect(dead_code, reason = "only described")]
pub(super) struct TransferAnswer {
    /// Opaque; it will be spent at the authorization endpoint, which is not there yet.
    anon_transfer_token: String,
    /// `N_A`.
    token_type: String,
    /// Seconds that it lives.
    expires_in: u64,
}

#[cfg(test)]
mod tests {
    use http::HeaderMap;
    use passerby_core::token::Tokens;
    use passerby_http::form;

    use super::*;

    #[test]
    fn json_and_form_say_the_same() {
        let headers = HeaderMap::new();
        let claim = Claim::read(&headers).unwrap();
        let members: Members<'_> = json::parse(
            br#"{"client_id":"shop","client_secret":"s","audience":"https://a","scope":"x y","session_token":"t","user_id":"u|1","metadata":{"a":[1]},"more":{}}"#,
        )
        .unwrap();
        let params = form::parse(
            b"client_id=shop&client_secret=s&resource=https%3A%2F%2Fa&scope=x+y&session_token=t&user_id=u%7C1&metadata=%7B%22a%22:[1]%7D",
        )
        .unwrap();
        for request in [members.request(&claim).unwrap(), of_form(&params, &claim).unwrap()] {
            assert_eq!(
                (request.client.id, request.client.secret, request.client.basic),
                (Some("shop"), Some("s"), None)
            );
            assert_eq!(request.client.endpoint, "/anonymous/token");
            assert_eq!((request.audience, request.scope), (Some("https://a"), Some("x y")));
            assert_eq!((request.session_token, request.user_id), (Some("t"), Some("u|1")));
            assert_eq!(request.metadata, Some(&br#"{"a":[1]}"#[..]));
        }
    }

    #[test]
    fn nothing_is_nothing() {
        let headers = HeaderMap::new();
        let claim = Claim::read(&headers).unwrap();
        let members: Members<'_> =
            json::parse(br#"{"audience":"","scope":"","resource":null,"metadata":null}"#).unwrap();
        let request = members.request(&claim).unwrap();
        assert!(request.audience.is_none() && request.scope.is_none() && request.metadata.is_none());
        let members: Members<'_> = json::parse(br#"{"user_id":"","session_token":""}"#).unwrap();
        let request = members.request(&claim).unwrap();
        assert_eq!(
            (request.user_id, request.session_token),
            (Some(""), Some("")),
            "empty ones are the core's to refuse"
        );
        let members: Members<'_> = json::parse(br#"{"audience":"a","resource":"b"}"#).unwrap();
        assert_eq!(members.request(&claim).unwrap_err().error, "invalid_request");
    }

    async fn told(given: &AnonymousAnswer) -> serde_json::Value {
        let response = answer(given);
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(response.headers()["cache-control"], "no-store");
        serde_json::from_slice(&axum::body::to_bytes(response.into_body(), 4096).await.unwrap()).unwrap()
    }

    /// Runs a future that never waits.
    fn now<T>(future: impl Future<Output = T>) -> T {
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        match std::pin::pin!(future).poll(&mut context) {
            std::task::Poll::Ready(value) => value,
            std::task::Poll::Pending => panic!("it waits"),
        }
    }

    #[test]
    fn answers() {
        let tokens = Tokens {
            access_token: "a.b.c".into(),
            token_type: "Bearer",
            expires_in: 900,
            refresh_token: None,
            session_token: Some("s".into()),
            scope: None,
        };
        let mut given = AnonymousAnswer::Session { tokens, session_expires_in: 3600 };
        let mut expected = serde_json::json!({
            "access_token": "a.b.c", "token_type": "Bearer", "expires_in": 900, "session_token": "s", "session_expires_in": 3600,
        });
        assert_eq!(now(told(&given)), expected);
        if let AnonymousAnswer::Session { tokens, .. } = &mut given {
            tokens.scope = Some("read:cart".into());
        }
        expected["scope"] = "read:cart".into();
        assert_eq!(now(told(&given)), expected);
        let ticket = AnonymousAnswer::Transfer { ticket: "x".into(), expires_in: 30 };
        let expected = serde_json::json!({"anon_transfer_token": "x", "token_type": "N_A", "expires_in": 30});
        assert_eq!(now(told(&ticket)), expected);
    }

    proptest::proptest! {
        #[test]
        fn nothing_panics(body in r#"[\{\}\[\]",:a-z_\\u0-9]{0,60}"#) {
            let headers = HeaderMap::new();
            let claim = Claim::read(&headers).unwrap();
            if let Ok(members) = json::parse::<Members<'_>>(body.as_bytes()) {
                let _ = members.request(&claim);
            }
            if let Ok(params) = form::parse(body.as_bytes()) {
                let _ = of_form(&params, &claim);
            }
        }
    }
}
