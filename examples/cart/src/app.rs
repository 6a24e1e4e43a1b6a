//! The routes.

use std::{sync::Arc, time::Duration};

use axum::{
    Extension, Json, Router,
    extract::{DefaultBodyLimit, State, rejection::JsonRejection},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use http::{
    HeaderName, HeaderValue, Method, StatusCode,
    header::{AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE, WWW_AUTHENTICATE},
};
use passerby_verify::{Require, Verified, Verifier, VerifyLayer};
use serde::{Deserialize, Serialize};
use serde_json::json;
use tower_http::cors::CorsLayer;

use crate::carts::{Carts, Full, Item};

/// Longest name of a thing, in characters.
const MAX_SKU: usize = 64;

/// The API for callers on these origins.
pub(crate) fn app(verifier: &Verifier, origins: Vec<HeaderValue>) -> Router {
    let layer = |scope: &str| VerifyLayer::new(verifier.clone(), Require::user().scope(scope));
    let cors = CorsLayer::new()
        .allow_origin(origins)
        .allow_methods([Method::GET, Method::POST])
        .allow_headers([AUTHORIZATION, CONTENT_TYPE, HeaderName::from_static("dpop")])
        .expose_headers([WWW_AUTHENTICATE])
        .max_age(Duration::from_hours(1));
    Router::new()
        .route("/cart", get(show).layer(layer("read:cart")))
        .route("/cart/items", post(add).layer(layer("write:cart")))
        .route("/health", get(|| async { StatusCode::NO_CONTENT }))
        .layer(DefaultBodyLimit::max(4096))
        .layer(cors)
        .with_state(Arc::default())
}

#[derive(Serialize)]
struct View {
    holder: &'static str,
    items: Vec<Item>,
}

impl View {
    fn of(who: &Verified, items: Vec<Item>) -> Self {
        Self { holder: if who.is_guest() { "guest" } else { "member" }, items }
    }
}

/// What one caller sees is nobody else's.
const NOT_KEPT: [(HeaderName, &str); 1] = [(CACHE_CONTROL, "no-store")];

async fn show(State(carts): State<Arc<Carts>>, Extension(who): Extension<Verified>) -> Response {
    (NOT_KEPT, Json(View::of(&who, carts.of(who.subject())))).into_response()
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wanted {
    sku: String,
    quantity: u32,
}

async fn add(
    State(carts): State<Arc<Carts>>,
    Extension(who): Extension<Verified>,
    wanted: Result<Json<Wanted>, JsonRejection>,
) -> Response {
    let Json(Wanted { sku, quantity }) = match wanted {
        Ok(wanted) => wanted,
        Err(e) => return problem(e.status(), "invalid_body", None, &e.body_text()),
    };
    let visible = !sku.trim().is_empty() && sku.chars().count() <= MAX_SKU && !sku.chars().any(char::is_control);
    if !visible {
        let detail = format!("It has 1 to {MAX_SKU} characters that can be seen.");
        return problem(StatusCode::UNPROCESSABLE_ENTITY, "invalid_value", Some("/sku"), &detail);
    }
    if quantity == 0 {
        return problem(StatusCode::UNPROCESSABLE_ENTITY, "invalid_value", Some("/quantity"), "It is at least 1.");
    }
    match carts.add(who.subject(), &sku, quantity) {
        Ok(items) => (StatusCode::CREATED, NOT_KEPT, Json(View::of(&who, items))).into_response(),
        Err(Full::Kinds) => problem(StatusCode::CONFLICT, "cart_full", Some("/sku"), "The cart is full."),
        Err(Full::Quantity) => {
            problem(StatusCode::CONFLICT, "cart_full", Some("/quantity"), "There are too many of this in the cart.")
        }
    }
}

fn problem(status: StatusCode, code: &str, field: Option<&str>, detail: &str) -> Response {
    let mut body = json!({
        "type": "about:blank", "title": status.canonical_reason(), "status": status.as_u16(), "code": code, "detail": detail,
    });
    if let Some(field) = field {
        body["field"] = field.into();
    }
    (status, [(CONTENT_TYPE, "application/problem+json")], body.to_string()).into_response()
}

#[cfg(test)]
mod tests {
    use axum::body::{Body, to_bytes};
    use http::Request;
    use passerby_jose::{Algorithm, SigningKey};
    use passerby_verify::{Clock, Fetch, FetchFuture};
    use serde_json::Value;
    use tower::ServiceExt;

    use super::*;

    const ISSUER: &str = "https://id.example.com";
    const NOW: i64 = 1_800_000_000;

    struct Still;

    impl Clock for Still {
        fn now(&self) -> i64 {
            NOW
        }

        fn monotonic(&self) -> Duration {
            Duration::ZERO
        }
    }

    /// An issuer that has one key.
    struct Issuer(Value);

    impl Fetch for Issuer {
        fn fetch(&self, request: http::Request<()>, _: usize) -> FetchFuture<'_> {
            let metadata = json!({ "issuer": ISSUER, "jwks_uri": format!("{ISSUER}/jwks") });
            let body = if request.uri().path() == "/jwks" { &self.0 } else { &metadata };
            Box::pin(std::future::ready(Ok(http::Response::new(body.to_string().into()))))
        }
    }

    struct Shop {
        key: SigningKey,
        app: Router,
    }

    impl Shop {
        fn new() -> Self {
            let pkcs8 = SigningKey::generate(Algorithm::Es256).unwrap();
            let key = SigningKey::from_pkcs8(Algorithm::Es256, "k", &pkcs8).unwrap();
            let issuer = Issuer(json!({ "keys": [key.verifying_key().jwk()] }));
            let verifier =
                Verifier::builder(ISSUER, "https://api.example.com").fetch(issuer).clock(Still).build().unwrap();
            Self { key, app: app(&verifier, vec![HeaderValue::from_static(ISSUER)]) }
        }

        fn token(&self, subject: &str, guest: Option<bool>, scope: &str) -> String {
            let claims = json!({
                "iss": ISSUER, "aud": "https://api.example.com", "sub": subject, "client_id": "spa", "jti": "1",
                "iat": NOW, "exp": NOW + 900, "scope": scope, "is_anonymous": guest,
            });
            let mut out = Vec::new();
            self.key.sign_into(&self.key.header("at+jwt"), claims.to_string().as_bytes(), &mut out).unwrap();
            String::from_utf8(out).unwrap()
        }

        async fn call(&self, method: &str, path: &str, token: &str, body: &str) -> (u16, Value) {
            let request =
                Request::builder().method(method).uri(path).header("authorization", format!("Bearer {token}"));
            let request = request.header("content-type", "application/json").body(Body::from(body.to_owned())).unwrap();
            let answer = self.app.clone().oneshot(request).await.unwrap();
            let status = answer.status().as_u16();
            let body = to_bytes(answer.into_body(), 1 << 16).await.unwrap();
            (status, serde_json::from_slice(&body).unwrap_or_default())
        }
    }

    #[tokio::test]
    async fn guests_and_members_have_carts_of_their_own() {
        let shop = Shop::new();
        let both = "read:cart write:cart";
        let (guest, member) = (shop.token("g", Some(true), both), shop.token("m", Some(false), both));
        let tea = r#"{"sku":"tea","quantity":2}"#;
        assert_eq!(shop.call("GET", "/cart", &guest, "").await, (200, json!({ "holder": "guest", "items": [] })));
        let items = json!([{ "sku": "tea", "quantity": 2 }]);
        assert_eq!(
            shop.call("POST", "/cart/items", &guest, tea).await,
            (201, json!({ "holder": "guest", "items": items }))
        );
        assert_eq!(shop.call("GET", "/cart", &guest, "").await.1["items"], items);
        assert_eq!(shop.call("GET", "/cart", &member, "").await, (200, json!({ "holder": "member", "items": [] })));
    }

    #[tokio::test]
    async fn each_route_asks_for_its_scope_and_a_mark() {
        let shop = Shop::new();
        let tea = r#"{"sku":"tea","quantity":1}"#;
        let (read, write) = (shop.token("g", Some(true), "read:cart"), shop.token("g", Some(true), "write:cart"));
        assert_eq!(shop.call("POST", "/cart/items", &read, tea).await.0, 403);
        assert_eq!(shop.call("GET", "/cart", &write, "").await.0, 403);
        assert_eq!(shop.call("POST", "/cart/items", &write, tea).await.0, 201);
        let unmarked = shop.token("g", None, "read:cart write:cart");
        assert_eq!(shop.call("GET", "/cart", &unmarked, "").await.0, 403);
        assert_eq!(shop.call("GET", "/cart", "x", "").await.0, 401);
    }

    #[tokio::test]
    async fn hostile_bodies() {
        let shop = Shop::new();
        let token = shop.token("g", Some(true), "write:cart");
        let long = format!(r#"{{"sku":"{}","quantity":1}}"#, "x".repeat(65));
        for (body, status, field) in [
            ("", 400, None),
            ("{", 400, None),
            ("[]", 422, None),
            (r#"{"sku":"tea"}"#, 422, None),
            (r#"{"sku":"tea","quantity":-1}"#, 422, None),
            (r#"{"sku":"tea","quantity":1.5}"#, 422, None),
            (r#"{"sku":"tea","quantity":1,"price":0}"#, 422, None),
            (r#"{"sku":"tea","quantity":0}"#, 422, Some("/quantity")),
            (r#"{"sku":"tea","quantity":100}"#, 409, Some("/quantity")),
            (r#"{"sku":"","quantity":1}"#, 422, Some("/sku")),
            (r#"{"sku":" ","quantity":1}"#, 422, Some("/sku")),
            (r#"{"sku":"a\u0000","quantity":1}"#, 422, Some("/sku")),
            (&*long, 422, Some("/sku")),
            (&"x".repeat(5000), 413, None),
        ] {
            let (told, problem) = shop.call("POST", "/cart/items", &token, body).await;
            assert_eq!((told, problem["field"].as_str()), (status, field), "{body}");
            assert!(problem["code"].is_string());
        }
    }

    #[tokio::test]
    async fn a_page_of_the_origin_may_call_and_no_other() {
        let shop = Shop::new();
        for (origin, allowed) in [(ISSUER, true), ("https://thief.example", false)] {
            let preflight = Request::builder()
                .method("OPTIONS")
                .uri("/cart/items")
                .header("origin", origin)
                .header("access-control-request-method", "POST")
                .header("access-control-request-headers", "authorization,dpop,content-type");
            let answer = shop.app.clone().oneshot(preflight.body(Body::empty()).unwrap()).await.unwrap();
            assert_eq!(answer.status(), 200);
            assert_eq!(answer.headers().contains_key("access-control-allow-origin"), allowed);
            let refused = Request::builder().uri("/cart").header("origin", origin).body(Body::empty()).unwrap();
            let answer = shop.app.clone().oneshot(refused).await.unwrap();
            assert_eq!(answer.status(), 401);
            assert_eq!(answer.headers().contains_key("access-control-allow-origin"), allowed, "errors too");
        }
    }
}
