//! The layer in front of an axum router, and what it answers.

use axum::{
    Extension, Router,
    body::{Body, to_bytes},
    http::{Request, Response, StatusCode},
    routing::{get, post},
};
use passerby_verify::{Require, Verified, Verifier, VerifyLayer};
use serde_json::{Value, json};
use tower::ServiceExt;

use crate::{
    issuer::World,
    signer::{Key, hash},
};

fn app(verifier: &Verifier) -> Router {
    let layer = |require| VerifyLayer::new(verifier.clone(), require);
    Router::new()
        .route("/cart", get(|Extension(who): Extension<Verified>| async move { who.subject().to_owned() }))
        .route("/cart/items", post(|| async { "added" }).layer(layer(Require::user().scope("write:cart"))))
        .route("/orders", get(|| async { "orders" }).layer(layer(Require::member())))
        .layer(layer(Require::user().scope("read:cart")))
        .route("/health", get(|| async { "fine" }))
}

async fn call(app: &Router, method: &str, path: &str, headers: &[(&str, &str)]) -> Response<Body> {
    let mut request = Request::builder().method(method).uri(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    app.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap()
}

fn challenges(response: &Response<Body>) -> Vec<&str> {
    response.headers().get_all("www-authenticate").iter().map(|v| v.to_str().unwrap()).collect()
}

async fn body(response: Response<Body>) -> String {
    String::from_utf8(to_bytes(response.into_body(), 1 << 16).await.unwrap().into()).unwrap()
}

#[tokio::test]
async fn what_passes_carries_who_it_is() {
    let world = World::new().await;
    let app = app(&world.verifier());
    let shown = format!("Bearer {}", world.token());
    let answer = call(&app, "GET", "/cart", &[("authorization", &shown)]).await;
    assert_eq!(answer.status(), StatusCode::OK);
    assert_eq!(body(answer).await, world.claims()["sub"].as_str().unwrap());
    assert_eq!(call(&app, "GET", "/health", &[]).await.status(), StatusCode::OK);
    assert_eq!(call(&app, "POST", "/cart/items", &[("authorization", &shown)]).await.status(), StatusCode::OK);
}

#[tokio::test]
async fn stacked_layers_spend_a_proof_once() {
    let world = World::new().await;
    let app = app(&world.verifier());
    let device = Key::eddsa("");
    let token = world.token_with(json!({ "cnf": { "jkt": device.thumbprint() } }));
    let proof = device.proof(&json!({
        "jti": "1", "htm": "POST", "htu": "https://api.example.com/cart/items", "iat": crate::issuer::NOW, "ath": hash(&token),
    }));
    let headers = [("authorization", &*format!("DPoP {token}")), ("dpop", &*proof)];
    assert_eq!(call(&app, "POST", "/cart/items", &headers).await.status(), StatusCode::OK);
    let again = call(&app, "POST", "/cart/items", &headers).await;
    assert_eq!(again.status(), StatusCode::UNAUTHORIZED);
    assert_eq!(
        challenges(&again),
        [
            r#"DPoP error="invalid_dpop_proof", error_description="the DPoP proof was used before", algs="ES256 EdDSA RS256""#
        ]
    );
}

#[tokio::test]
async fn another_verifiers_word_is_not_taken() {
    let (world, other) = (World::new().await, World::new().await);
    let outer = VerifyLayer::new(other.verifier(), Require::user());
    let app = Router::new()
        .route("/cart", get(|| async { "cart" }).layer(VerifyLayer::new(world.verifier(), Require::user())))
        .layer(outer);
    for token in [other.token(), world.token()] {
        let answer = call(&app, "GET", "/cart", &[("authorization", &format!("Bearer {token}"))]).await;
        assert_eq!(answer.status(), StatusCode::UNAUTHORIZED);
    }
}

/// Method, path, headers; status, code, challenges.
type Case = (&'static str, &'static str, Vec<(&'static str, String)>, u16, &'static str, Vec<String>);

#[tokio::test]
async fn answers_of_rfc_6750_and_9449() {
    let world = World::new().await;
    let app = app(&world.verifier());
    let bearer = |change: Value| format!("Bearer {}", world.token_with(change));
    let guest = bearer(json!({}));
    let bound = world.token_with(json!({ "cnf": { "jkt": "AAAA" } }));
    let algs = r#"algs="ES256 EdDSA RS256""#;
    let cases: [Case; 10] = [
        ("GET", "/cart", vec![], 401, "token_needed", vec!["Bearer".into(), format!("DPoP {algs}")]),
        (
            "GET",
            "/cart",
            vec![("authorization", "Basic eDp5".into())],
            401,
            "token_needed",
            vec!["Bearer".into(), format!("DPoP {algs}")],
        ),
        (
            "GET",
            "/cart",
            vec![("authorization", guest.clone()), ("authorization", guest.clone())],
            400,
            "invalid_request",
            vec![
                r#"Bearer error="invalid_request", error_description="there must be one Authorization header""#.into(),
            ],
        ),
        (
            "GET",
            "/cart",
            vec![("authorization", "Bearer x".into())],
            401,
            "invalid_token",
            vec![r#"Bearer error="invalid_token", error_description="the access token is malformed""#.into()],
        ),
        (
            "GET",
            "/cart",
            vec![("authorization", bearer(json!({ "exp": 1 })))],
            401,
            "token_expired",
            vec![r#"Bearer error="invalid_token", error_description="the access token has expired""#.into()],
        ),
        (
            "GET",
            "/cart",
            vec![("authorization", format!("Bearer {bound}"))],
            401,
            "invalid_token",
            vec![format!(
                r#"DPoP error="invalid_token", error_description="the access token is bound to a key: it needs the scheme DPoP and a proof", {algs}"#
            )],
        ),
        (
            "GET",
            "/cart",
            vec![("authorization", format!("DPoP {bound}"))],
            401,
            "invalid_dpop_proof",
            vec![format!(r#"DPoP error="invalid_dpop_proof", error_description="a DPoP proof is needed", {algs}"#)],
        ),
        (
            "GET",
            "/cart",
            vec![("authorization", format!("DPoP {}", world.token()))],
            401,
            "invalid_token",
            vec![r#"Bearer error="invalid_token", error_description="the access token is not bound to a key""#.into()],
        ),
        (
            "POST",
            "/cart/items",
            vec![("authorization", bearer(json!({ "scope": "read:cart" })))],
            403,
            "insufficient_scope",
            vec![r#"Bearer error="insufficient_scope", scope="write:cart""#.into()],
        ),
        (
            "GET",
            "/orders",
            vec![("authorization", guest.clone())],
            403,
            "member_needed",
            vec![r#"Bearer error="insufficient_scope", error_description="this is for members""#.into()],
        ),
    ];
    for (method, path, headers, status, code, wanted) in cases {
        let headers: Vec<(&str, &str)> = headers.iter().map(|(n, v)| (*n, &**v)).collect();
        let answer = call(&app, method, path, &headers).await;
        assert_eq!(answer.status(), status, "{code}");
        assert_eq!(challenges(&answer), wanted);
        assert_eq!(answer.headers()["content-type"], "application/problem+json");
        assert_eq!(answer.headers()["cache-control"], "no-store");
        let problem: Value = serde_json::from_str(&body(answer).await).unwrap();
        assert_eq!((&problem["code"], &problem["status"]), (&json!(code), &json!(status)));
    }
}

#[tokio::test]
async fn without_an_address_no_dpop_is_offered_and_no_keys_are_503() {
    let world = World::new().await;
    world.state.down.store(true, std::sync::atomic::Ordering::SeqCst);
    let verifier = Verifier::builder(&world.url, crate::issuer::API).clock(world.clock.clone()).build().unwrap();
    let app = app(&verifier);
    assert_eq!(challenges(&call(&app, "GET", "/cart", &[]).await), ["Bearer"]);
    let answer = call(&app, "GET", "/cart", &[("authorization", &format!("Bearer {}", world.token()))]).await;
    assert_eq!((answer.status(), challenges(&answer).len()), (StatusCode::SERVICE_UNAVAILABLE, 0));
    assert_eq!(answer.headers()["retry-after"], "5");
    // a scope that no header can carry is left out rather than written
    let layer = VerifyLayer::new(world.verifier(), Require::user().scope("a\"b"));
    world.state.down.store(false, std::sync::atomic::Ordering::SeqCst);
    let app = Router::new().route("/x", get(|| async {})).layer(layer);
    let answer = call(&app, "GET", "/x", &[("authorization", &format!("Bearer {}", world.token()))]).await;
    assert_eq!(challenges(&answer), [r#"Bearer error="insufficient_scope""#]);
}
