//! Whether an address has an account is nobody's business (security checklist 42): answers are compared byte by byte, and
//! the work by what store, outbox and hashing thread are asked. Time decides nothing here.

use std::time::Duration;

use serde_json::{Value, json};

use crate::{
    accounts::{PASSWORD, ROOT, account, claim, code, guest_with, letters, verify},
    app::TestApp,
    counted::{Cost, Counted},
    on_both,
};

/// All of one length, so that bodies have one length, too.
const USED: &str = "used@example.com";
const FREE: &str = "free@example.com";
/// Claimed by somebody, proven by nobody.
const HELD: &str = "held@example.com";
/// Of an account without a password.
const BARE: &str = "bare@example.com";

const USED_NUMBER: &str = "+4915112345678";
const FREE_NUMBER: &str = "+4915112345679";

/// Without what is random: the claim's id and its check digits, of which the lengths stay.
fn redacted(mut cost: Cost, value: &str) -> Cost {
    if let Ok(mut body) = serde_json::from_str::<Value>(&cost.body) {
        for pointer in ["/claim/id", "/claim/check"] {
            if let Some(member) = body.pointer_mut(pointer) {
                *member = json!(member.as_str().unwrap().len());
            }
        }
        let text = body.to_string();
        cost.body = text.replace(value, "<the address>");
    }
    cost
}

/// All cost the same and answer the same.
#[track_caller]
fn alike(what: &str, costs: Vec<(String, Cost)>) {
    let (_, first) = &costs[0];
    assert!(first.status.as_u16() < 500, "{what}: {}", first.body);
    for (value, cost) in &costs[1..] {
        assert_eq!(cost, first, "{what}: {value}");
    }
}

async fn prepared(app: &TestApp) {
    account(app, USED, &json!({})).await;
    let guest = guest_with(app, &json!({})).await;
    claim(app, &guest, &json!({"email": HELD})).await;
    let numbered = guest_with(app, &json!({})).await;
    let id = claim(app, &numbered, &json!({"phone": USED_NUMBER})).await;
    let proof = json!({"code": code(app, USED_NUMBER).await, "password": PASSWORD});
    verify(app, &numbered, &id, &proof).send().await.expect(200);
    let named = guest_with(app, &json!({})).await;
    let id = claim(app, &named, &json!({"username": "used_name"})).await;
    verify(app, &named, &id, &json!({"password": PASSWORD})).send().await.expect(200);
    // one without a password
    let bare = json!({"kind": "regular", "identifiers": [{"kind": "email", "value": BARE, "verified": true}]});
    app.post("/v1/users", &bare).bearer(ROOT).send().await.expect(201);
    app.advance(Duration::from_secs(1));
}

/// Identifiers of one kind and length that differ in what the server knows of them.
fn families() -> Vec<Vec<Value>> {
    vec![
        vec![json!({"email": USED}), json!({"email": FREE}), json!({"email": HELD}), json!({"email": BARE})],
        vec![json!({"phone": USED_NUMBER}), json!({"phone": FREE_NUMBER})],
        vec![json!({"username": "used_name"}), json!({"username": "free_name"})],
    ]
}

fn value_of(what: &Value) -> String {
    what.as_object().unwrap().values().next().unwrap().as_str().unwrap().to_owned()
}

fn with(what: &Value, more: &Value) -> Value {
    let mut body = what.clone();
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    body
}

on_both! {
    async fn line_42_a_claim_tells_nothing(engine) {
        let app = TestApp::new(engine).await;
        prepared(&app).await;
        let counted = Counted::beside(&app).await;
        for (n, family) in families().into_iter().enumerate() {
            for regular in [false, true] {
                let (mut askers, mut costs) = (Vec::new(), Vec::new());
                for m in 0..family.len() {
                    // one for each: nothing of what one asked before is in another's way
                    let email = format!("asker{n}{m}@example.com");
                    askers.push(if regular { account(&app, &email, &json!({})).await } else { guest_with(&app, &json!({})).await });
                }
                for (who, what) in askers.iter().zip(&family) {
                    let cost = counted.ask("/v1/me/identifiers", Some(&who.access), what).await;
                    assert_eq!(cost.status, 202, "{}", cost.body);
                    costs.push((value_of(what), redacted(cost, &value_of(what))));
                }
                assert_eq!(costs[0].1.store.iter().filter(|s| s.starts_with("commit")).count(), 1);
                let told = costs[0].1.store.iter().any(|s| s.contains("message."));
                assert_eq!(told, n < 2, "a name needs no message");
                alike("claim", costs);
            }
        }
    }

    async fn line_42_a_sign_in_begins_alike(engine) {
        let app = TestApp::new(engine).await;
        prepared(&app).await;
        let counted = Counted::beside(&app).await;
        let guest = guest_with(&app, &json!({})).await;
        for bearer in [None, Some(guest.access.as_str())] {
            for method in ["code", "link"] {
                for family in families().into_iter().take(if method == "code" { 2 } else { 1 }) {
                    // the first has a flow of its own to begin, the second replaces one
                    for _ in 0..2 {
                        let mut costs = Vec::new();
                        for what in &family {
                            let body = with(what, &json!({"client_id": "demo-spa", "method": method, "device": "A phone"}));
                            let cost = counted.ask("/v1/sign-in", bearer, &body).await;
                            assert_eq!(cost.status, 202, "{}", cost.body);
                            costs.push((value_of(what), redacted(cost, &value_of(what))));
                        }
                        alike(method, costs);
                    }
                }
            }
        }
    }

    async fn line_42_wrong_passwords_and_codes_are_refused_alike(engine) {
        let app = TestApp::new(engine).await;
        prepared(&app).await;
        let counted = Counted::beside(&app).await;
        let guest = guest_with(&app, &json!({})).await;
        for bearer in [None, Some(guest.access.as_str())] {
            for family in families() {
                let mut costs = Vec::new();
                for what in &family {
                    let body = with(what, &json!({"client_id": "demo-spa", "method": "password", "password": "certainly not this one"}));
                    let cost = counted.ask("/v1/sign-in", bearer, &body).await;
                    assert_eq!((cost.status.as_u16(), cost.hashed), (401, 1), "one verification, whoever is there: {}", cost.body);
                    costs.push((value_of(what), cost));
                }
                alike("password", costs);
            }
            let mut costs = Vec::new();
            for what in &families()[0] {
                let begun = with(what, &json!({"client_id": "demo-spa", "method": "code"}));
                let begun = app.post("/v1/sign-in", &begun).send().await.expect(202).json();
                let body = json!({"client_id": "demo-spa", "method": "code", "claim": begun["claim"]["id"], "code": "000000"});
                let cost = counted.ask("/v1/sign-in", bearer, &body).await;
                assert_eq!(cost.status, 400, "{}", cost.body);
                costs.push((value_of(what), cost));
                let body = json!({"client_id": "demo-spa", "method": "link", "claim": begun["claim"]["id"]});
                assert_eq!(counted.ask("/v1/sign-in", bearer, &body).await.status, 409);
            }
            alike("code", costs);
        }
        // the right one does no less: the difference is in what only its owner knows
        let body = json!({"client_id": "demo-spa", "method": "password", "email": USED, "password": PASSWORD});
        let cost = counted.ask("/v1/sign-in", None, &body).await;
        assert_eq!((cost.status.as_u16(), cost.hashed), (200, 1));
    }

    async fn line_42_forgotten_passwords_tell_nothing(engine) {
        let app = TestApp::new(engine).await;
        prepared(&app).await;
        let counted = Counted::beside(&app).await;
        let guest = guest_with(&app, &json!({})).await;
        for bearer in [None, Some(guest.access.as_str())] {
            for _ in 0..2 {
                let mut costs = Vec::new();
                for what in &families()[0] {
                    let body = with(what, &json!({"client_id": "demo-spa", "state": {"a": 1}}));
                    let cost = counted.ask("/v1/password/forgot", bearer, &body).await;
                    costs.push((value_of(what), cost));
                }
                let status = costs[0].1.status;
                assert!(status == 202 || bearer.is_some(), "{}", costs[0].1.body);
                assert!(status != 202 || costs[0].1.store.iter().filter(|s| s.contains("message.mail")).count() == 1);
                alike("forgot", costs);
            }
        }
        // by mail the address itself is told, and only an account's gets a link
        assert!(letters(&app, USED).await[0].link.is_some());
        for none in [FREE, HELD] {
            let told = &letters(&app, none).await[0];
            assert!(told.link.is_none() && told.code.is_none(), "{told:?}");
        }
        // tokens that are none of anybody's
        let mut costs = Vec::new();
        for token in ["", "x", "p.", "p.AAAA", &format!("p.{}", passerby_jose::b64::encode(&[0; 48])), &format!("c.{}", passerby_jose::b64::encode(&[0; 48]))] {
            let cost = counted.ask("/v1/password/reset", None, &json!({"token": token, "password": "long enough to be taken"})).await;
            assert_eq!((cost.status.as_u16(), cost.hashed), (400, 0));
            costs.push((token.to_owned(), Cost { store: Vec::new(), ..cost }));
        }
        alike("reset", costs);
    }

    async fn line_42_no_door_finds_an_address(engine) {
        let app = TestApp::new(engine).await;
        prepared(&app).await;
        let guest = guest_with(&app, &json!({})).await;
        let member = account(&app, "member@example.com", &json!({})).await;
        for bearer in [&guest.access, &member.access] {
            for value in [USED, FREE, "used_name", "free_name"] {
                for path in [format!("/v1/me/identifiers/{value}"), format!("/v1/users/{value}"), format!("/v1/me/sessions/{value}"), format!("/v1/transfers/{value}")] {
                    let (known, unknown) = (app.get(&path).bearer(bearer).send().await, app.get(&path.replace("used", "none")).bearer(bearer).send().await);
                    assert_eq!((known.status, &known.body), (unknown.status, &unknown.body), "{path}");
                    assert!(!known.status.is_success());
                }
            }
        }
        // a name is taken or free in the open, once one would have it, with a password that is hashed first for nobody
        let id = claim(&app, &guest, &json!({"username": "used_name"})).await;
        verify(&app, &guest, &id, &json!({"password": PASSWORD})).send().await.refused(409, "identifier_taken");
    }
}
