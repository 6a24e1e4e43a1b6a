//! `POST /oauth2/introspect` (RFC 7662), for clients that authenticate and for API keys.

use axum::{
    body::Body,
    extract::State,
    response::{IntoResponse, Response},
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use http::{Request, StatusCode};
use passerby_core::{
    Code,
    oauth::{ActiveToken, Asker, Introspection},
};
use passerby_http::{App, Authorization, Challenge, Malformed, Visit, answer::Out};
use utoipa::ToSchema;

use crate::{Claim, ClaimFields, ErrorBody, OAuthError, read_body};

const PATH: &str = "/oauth2/introspect";

/// The request, for the document.
#[derive(Debug, ToSchema)]
#[expect(dead_code, reason = "only described")]
struct IntrospectionForm {
    /// An access, refresh or session token.
    token: String,
    /// Taken and not needed.
    token_type_hint: Option<String>,
    /// A client that does not authenticate by header.
    client_id: Option<String>,
    /// Its secret.
    client_secret: Option<String>,
    /// Or its assertion.
    client_assertion: Option<String>,
    /// With this type.
    client_assertion_type: Option<String>,
}

/// The answer, for the document.
#[derive(Debug, ToSchema)]
#[expect(dead_code, reason = "only described")]
struct IntrospectionAnswer {
    /// Whether it is alive; false stands alone.
    active: bool,
    /// The subject, as in the token.
    sub: Option<String>,
    /// The client that it was given to.
    client_id: Option<String>,
    /// Space-separated.
    scope: Option<String>,
    /// Seconds since the Unix epoch.
    exp: Option<i64>,
    /// Seconds since the Unix epoch.
    iat: Option<i64>,
    /// Whom it is for.
    aud: Option<String>,
    /// The issuer.
    iss: Option<String>,
    /// `Bearer` or `DPoP`, for access tokens only.
    token_type: Option<String>,
    /// `access_token`, `refresh_token` or `session_token`.
    token_use: Option<String>,
    /// The token's own id.
    jti: Option<String>,
    /// Its session.
    sid: Option<String>,
    /// A guest's.
    is_anonymous: Option<bool>,
    /// Counts what made older tokens void.
    epoch: Option<i32>,
    /// There and true where nothing of the guest is stored.
    floating: Option<bool>,
    /// There where the token is bound to a key: of no use to who does not prove it.
    cnf: Option<Confirmation>,
}

/// The key that a token is bound to (RFC 9449 section 6).
#[derive(Debug, ToSchema)]
#[expect(dead_code, reason = "only described")]
struct Confirmation {
    /// Its SHA-256 thumbprint (RFC 7638), base64url.
    jkt: String,
}

/// Tells whether a token is alive.
#[utoipa::path(
    post,
    path = "/oauth2/introspect",
    tag = "OAuth",
    security(("client" = []), ("bearer" = [])),
    request_body(content((IntrospectionForm = "application/x-www-form-urlencoded"), (IntrospectionForm = "application/json"))),
    responses(
        (status = 200, description = "Its facts, or `{\"active\": false}`.", body = IntrospectionAnswer),
        (status = 400, description = "`invalid_request`.", body = ErrorBody),
        (status = 401, description = "`invalid_client`, or `invalid_token` for an unknown API key.", body = ErrorBody),
        (status = 403, description = "`insufficient_scope`: the API key may not do this.", body = ErrorBody),
    )
)]
pub(crate) async fn introspect(State(app): State<App>, visit: Visit, request: Request<Body>) -> Response {
    answer(&app, visit, request).await.unwrap_or_else(IntoResponse::into_response)
}

async fn answer(app: &App, visit: Visit, request: Request<Body>) -> Result<Response, OAuthError> {
    let (parts, body) = request.into_parts();
    let authorization = Authorization::read(&parts.headers)?;
    // an API key is bound to nothing
    if matches!(authorization, Authorization::DPoP(_)) {
        return Err(Malformed::Scheme.into());
    }
    let payload = read_body(app, &parts.headers, body).await?;
    let read = payload.read()?;
    let request = read.request()?;
    let caller = visit.caller(app, &parts);
    let key = authorization.bearer();
    let claim = Claim::of(authorization);
    let ClaimFields { id, secret, assertion, .. } = request.client;
    let asker = match key {
        Some(_) if secret.is_some() || assertion.is_some() => {
            return Err(OAuthError::invalid_request("Authenticate in one way only."));
        }
        Some(key) => Asker::ApiKey(key),
        None if !claim.is_basic() && id.is_none() && assertion.is_none() => {
            return Err(OAuthError::invalid_client("Introspection needs a client that authenticates, or an API key."));
        }
        None => Asker::Client(claim.with(request.client, PATH)),
    };
    let Some(token) = request.token else {
        return Err(OAuthError::invalid_request("token is missing."));
    };
    match app.core().introspect(&caller, asker, token).await {
        Ok(Introspection::Inactive) => {
            let mut out = Out::with_capacity(16);
            out.raw("{\"active\":false}");
            Ok(out.answer(StatusCode::OK))
        }
        Ok(Introspection::Active(active)) => Ok(dress(&active).answer(StatusCode::OK)),
        // an API key that belongs to another tenant than the one that was named
        Err(e) if key.is_some() && e.code == Code::InvalidClient => {
            Err(OAuthError::invalid_token(e.detail).asking(Challenge::InvalidToken))
        }
        Err(e) => Err(OAuthError::from(e).by_basic(claim.is_basic())),
    }
}

fn dress(token: &ActiveToken) -> Out {
    let mut out = Out::with_capacity(512);
    out.raw("{\"active\":true,\"iss\":").string(&token.issuer);
    out.raw(",\"sub\":").string(&token.subject);
    out.raw(",\"client_id\":").string(&token.client_id);
    out.raw(",\"aud\":").string(&token.audience);
    out.raw(",\"exp\":").integer(token.expires_at.seconds());
    if let Some(at) = token.issued_at {
        out.raw(",\"iat\":").integer(at.seconds());
    }
    if let Some(scope) = &token.scope {
        out.raw(",\"scope\":").string(scope);
    }
    if token.kind == "access_token" {
        out.raw(",\"token_type\":").string(if token.bound_to.is_some() { "DPoP" } else { "Bearer" });
    }
    // tells a resource server that a living refresh or session token is no access token
    out.raw(",\"token_use\":").string(token.kind);
    if let Some(jti) = &token.jti {
        out.raw(",\"jti\":").string(&URL_SAFE_NO_PAD.encode(jti));
    }
    if let Some(session) = token.session {
        out.raw(",\"sid\":").plain(session);
    }
    if let Some(anonymous) = token.is_anonymous {
        out.raw(",\"is_anonymous\":").boolean(anonymous);
    }
    if let Some(epoch) = token.epoch {
        out.raw(",\"epoch\":").integer(epoch.into());
    }
    if token.floating {
        out.raw(",\"floating\":true");
    }
    if let Some(thumbprint) = &token.bound_to {
        out.raw(",\"cnf\":{\"jkt\":").string(&URL_SAFE_NO_PAD.encode(thumbprint)).raw("}");
    }
    out.raw("}");
    out
}

#[cfg(test)]
mod tests {
    use passerby_core::{Timestamp, id::SessionId};

    use super::*;

    fn text(token: &ActiveToken) -> serde_json::Value {
        serde_json::from_slice(&dress(token).into_vec()).unwrap()
    }

    #[test]
    fn a_guest_and_a_client() {
        let mut token = ActiveToken {
            kind: "access_token",
            issuer: "https://id.example/".into(),
            subject: "anon@\"x\"".into(),
            client_id: "demo-spa".into(),
            audience: "https://api.example.com".into(),
            scope: Some("read:cart".into()),
            issued_at: Some(Timestamp::from_seconds(1000)),
            expires_at: Timestamp::from_seconds(1900),
            jti: Some([0xff; 16]),
            session: Some(SessionId::from_bytes([1; 16])),
            is_anonymous: Some(true),
            epoch: Some(0),
            floating: true,
            bound_to: None,
        };
        assert_eq!(
            text(&token),
            serde_json::json!({
                "active": true, "iss": "https://id.example/", "sub": "anon@\"x\"", "client_id": "demo-spa",
                "aud": "https://api.example.com", "exp": 1900, "iat": 1000, "scope": "read:cart",
                "token_type": "Bearer", "token_use": "access_token", "jti": "_____________________w",
                "sid": "01010101-0101-0101-0101-010101010101", "is_anonymous": true, "epoch": 0, "floating": true,
            })
        );
        token.bound_to = Some([0xff; 32]);
        let bound = text(&token);
        assert_eq!(bound["token_type"], "DPoP");
        assert_eq!(bound["cnf"], serde_json::json!({ "jkt": "__________________________________________8" }));
        token.kind = "refresh_token";
        let bound = text(&token);
        assert_eq!(
            (bound.get("token_type"), &bound["cnf"]["jkt"]),
            (None, &"__________________________________________8".into())
        );
        token.bound_to = None;
        (token.session, token.is_anonymous, token.epoch, token.floating) = (None, None, None, false);
        (token.jti, token.issued_at, token.scope) = (None, None, None);
        let told = text(&token);
        for absent in ["token_type", "sid", "is_anonymous", "epoch", "floating", "jti", "iat", "scope", "cnf"] {
            assert!(told.get(absent).is_none(), "{absent}");
        }
    }
}
