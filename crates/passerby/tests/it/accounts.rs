//! Steps that tests of accounts share: claims and their letters, sign-ins, merges.

use std::time::Duration;

use passerby_core::outbox::MailboxMessage;
use serde_json::{Value, json};

use crate::app::{Answer, Call, Guest, TestApp};

pub const ROOT: &str = "acceptance-root-key-0123456789abcdef0123456789";
pub const PASSWORD: &str = "purple monkey dishwasher";
/// The origin of the issuer, as a browser names it in a form of our own page.
pub const OWN: &str = "http://localhost:9011";

/// Messages to an address, newest first.
pub async fn letters(app: &TestApp, to: &str) -> Vec<MailboxMessage> {
    app.core.mailbox(None, Some(to), 100).await.unwrap()
}

/// The code in the newest message to an address.
pub async fn code(app: &TestApp, to: &str) -> String {
    let letters = letters(app, to).await;
    letters.iter().find_map(|l| l.code.clone()).unwrap_or_else(|| panic!("no code went to {to}")).into()
}

/// The path and query of the link in the newest message that has one.
pub async fn link(app: &TestApp, to: &str) -> String {
    let letters = letters(app, to).await;
    let link = letters.iter().find_map(|l| l.link.clone()).unwrap_or_else(|| panic!("no link went to {to}"));
    link.strip_prefix(OWN).unwrap_or_else(|| panic!("{link}")).to_owned()
}

/// The token of a link.
pub fn token(link: &str) -> String {
    link.split_once("token=").unwrap().1.to_owned()
}

/// Another code than this one.
pub fn wrong(code: &str) -> String {
    let last = code.as_bytes()[5] - b'0';
    format!("{}{}", &code[..5], (last + 1) % 10)
}

/// A moment passes, so that the newest message is the newest.
pub fn later(app: &TestApp) {
    app.advance(Duration::from_millis(1));
}

/// The first step of a sign-in, or whatever else sends something.
pub fn begin(app: &TestApp, path: &str, body: &Value) -> Call {
    later(app);
    app.post(path, body)
}

pub fn claim_call(app: &TestApp, guest: &Guest, what: &Value) -> Call {
    later(app);
    app.post("/v1/me/identifiers", what).bearer(&guest.access)
}

/// Claims, and gives the claim's id.
pub async fn claim(app: &TestApp, guest: &Guest, what: &Value) -> String {
    let answer = claim_call(app, guest, what).send().await;
    answer.expect(202).json()["claim"]["id"].as_str().unwrap().to_owned()
}

pub fn verify(app: &TestApp, guest: &Guest, claim: &str, proof: &Value) -> Call {
    app.post(&format!("/v1/me/identifiers/{claim}/verify"), proof).bearer(&guest.access)
}

/// Claims an address and proves it by its code.
pub async fn prove(app: &TestApp, guest: &Guest, email: &str) -> Answer {
    let claim = claim(app, guest, &json!({"email": email})).await;
    verify(app, guest, &claim, &json!({"code": code(app, email).await})).send().await
}

/// An account of the SPA client with this address and [`PASSWORD`], and this data.
pub async fn account(app: &TestApp, email: &str, data: &Value) -> Guest {
    let made = app.post("/v1/guests", &json!({"client_id": "demo-spa", "data": data})).send().await;
    let guest = Guest::of(&made.expect(201).json());
    let claim = claim(app, &guest, &json!({"email": email})).await;
    let proof = json!({"code": code(app, email).await, "password": PASSWORD});
    let converted = verify(app, &guest, &claim, &proof).send().await.expect(200).json();
    assert_eq!(converted["outcome"], "converted");
    Guest::of(&converted)
}

/// An eager guest of the SPA client with this data.
pub async fn guest_with(app: &TestApp, data: &Value) -> Guest {
    let made = app.post("/v1/guests", &json!({"client_id": "demo-spa", "data": data})).send().await;
    Guest::of(&made.expect(201).json())
}

/// Signs in by password.
pub fn enter(app: &TestApp, email: &str, password: &str) -> Call {
    let body = json!({"client_id": "demo-spa", "method": "password", "email": email, "password": password});
    app.post("/v1/sign-in", &body)
}

pub async fn me(app: &TestApp, access: &str) -> Value {
    app.get("/v1/me").bearer(access).send().await.expect(200).json()
}

/// A form of our own page.
pub fn submit(app: &TestApp, page: &str, pairs: &[(&str, &str)]) -> Call {
    app.call("POST", page).header("origin", OWN).form(pairs)
}

/// Everything of an older session is dead.
pub async fn is_dead(app: &TestApp, old: &Guest) {
    app.get("/v1/me").bearer(&old.access).send().await.refused(401, "session_ended");
    let refresh = json!({"client_id": "demo-spa", "refresh_token": old.refresh});
    let refused = app.post("/v1/refresh", &refresh).send().await;
    assert_eq!(refused.status, 401, "{}", refused.text());
    let resume = json!({"client_id": "demo-spa", "session_token": old.session_token});
    let refused = app.post("/v1/guests", &resume).send().await;
    assert!(matches!(refused.status.as_u16(), 401 | 409), "{}", refused.text());
}
