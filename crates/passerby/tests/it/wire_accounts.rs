//! Wire shapes of accounts, pinned like those of guests.

use serde_json::json;

use crate::{
    accounts::{PASSWORD, ROOT, begin, claim_call, code, enter, guest_with, link, prove, submit, token, verify},
    app::{Answer, Engine, Guest, TestApp},
    wire::{cut_more, shape},
};

const ADA: &str = "ada@example.com";

#[tokio::test]
async fn the_wire_of_accounts() {
    let app = TestApp::with(Engine::Sqlite, |t| {
        let merge = "[tenants.merge]\npolicies = [{ path = \"/views\", policy = \"sum\" }]\n\n[tenants.tokens]";
        t.replace("[tenants.tokens]", merge)
    })
    .await;
    let mut seen = serde_json::Map::new();
    let mut see = |name: &str, answer: &Answer| {
        seen.insert(name.to_owned(), cut_more(shape(answer)));
    };
    let guest = guest_with(&app, &json!({"views": 3})).await;
    let claimed = claim_call(&app, &guest, &json!({"email": ADA})).send().await;
    see("POST /v1/me/identifiers", &claimed);
    let id = claimed.json()["claim"]["id"].as_str().unwrap().to_owned();
    see("GET /v1/me/identifiers, a guest", &app.get("/v1/me/identifiers").bearer(&guest.access).send().await);
    see("a wrong code", &verify(&app, &guest, &id, &json!({"code": "x"})).send().await);
    see("a claim that waits", &verify(&app, &guest, &id, &json!({})).send().await);
    let proof = json!({"code": code(&app, ADA).await, "password": PASSWORD});
    let converted = verify(&app, &guest, &id, &proof).send().await;
    see("POST /v1/me/identifiers/{claim}/verify, converted", &converted);
    let owner = Guest::of(&converted.json());
    see("POST /v1/me/identifiers/{claim}/verify, again", &verify(&app, &guest, &id, &proof).send().await);
    see("POST /v1/me/identifiers/{claim}/verify, added", &prove(&app, &owner, "second@example.com").await);
    see("GET /v1/me, an account", &app.get("/v1/me").bearer(&owner.access).send().await);
    see("GET /v1/me/identifiers, an account", &app.get("/v1/me/identifiers").bearer(&owner.access).send().await);
    let next = guest_with(&app, &json!({"views": 2, "cart": [1.50]})).await;
    see("POST /v1/me/identifiers/{claim}/verify, merge_required", &prove(&app, &next, ADA).await);
    see("a wrong password", &enter(&app, ADA, "not the password").send().await);
    let body = json!({"client_id": "demo-spa", "method": "code", "email": ADA});
    see("POST /v1/sign-in, the first step", &begin(&app, "/v1/sign-in", &body).send().await);
    let entered = enter(&app, ADA, PASSWORD).bearer(&next.access).send().await;
    see("POST /v1/sign-in, a guest beside it", &entered);
    let (account, ticket) = (Guest::of(&entered.json()), entered.json()["merge_ticket"].clone());
    let merge = |dry_run: bool| {
        let body = json!({"merge_ticket": ticket, "dry_run": dry_run});
        app.post("/v1/me/merge", &body).bearer(&account.access)
    };
    see("POST /v1/me/merge, looked at", &merge(true).send().await);
    let merged = merge(false).send().await;
    see("POST /v1/me/merge", &merged);
    let path = format!("/v1/transfers/{}", merged.json()["transfer"]["id"].as_str().unwrap());
    see("GET /v1/users/{id}, merged", &app.get(&format!("/v1/users/{}", next.id)).bearer(ROOT).send().await);
    see("GET /v1/transfers/{id}", &app.get(&path).bearer(ROOT).send().await);
    let undo = || app.call("POST", &format!("{path}/undo")).bearer(&account.access);
    see("POST /v1/transfers/{id}/undo", &undo().send().await);
    see("POST /v1/transfers/{id}/undo, again", &undo().send().await);
    let forgot =
        json!({"client_id": "demo-spa", "email": ADA, "redirect_uri": "http://localhost:8080/", "state": {"a": 1}});
    see("POST /v1/password/forgot", &begin(&app, "/v1/password/forgot", &forgot).send().await);
    let token = token(&link(&app, ADA).await);
    let form =
        [("token", token.as_str()), ("password", "eleven sleepy lighthouses"), ("again", "eleven sleepy lighthouses")];
    see("POST /ui/password", &submit(&app, "/ui/password", &form).send().await);
    let change =
        json!({"current_password": "eleven sleepy lighthouses", "password": PASSWORD, "session_type": "cookie"});
    let entered = Guest::of(&enter(&app, ADA, "eleven sleepy lighthouses").send().await.json());
    see("POST /v1/me/password", &app.post("/v1/me/password", &change).bearer(&entered.access).send().await);
    insta::assert_json_snapshot!("accounts", seen);
}
