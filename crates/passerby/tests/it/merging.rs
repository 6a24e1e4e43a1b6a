//! A guest comes into an account: what the preview says, once, by both proofs alone, and back again.

use std::time::Duration;

use serde_json::{Value, json};

use crate::{
    accounts::{ROOT, account, claim, code, enter, guest_with, is_dead, me, verify},
    app::{Call, Engine, Guest, TestApp, claims, head},
    keys::DeviceKey,
    on_both,
};

const ADA: &str = "ada@example.com";
const SUM: &str = "policies = [{ path = \"/views\", policy = \"sum\" }]";

async fn with_merge(engine: Engine, rules: &str) -> TestApp {
    TestApp::with(engine, |t| t.replace("[tenants.tokens]", &format!("[tenants.merge]\n{rules}\n\n[tenants.tokens]")))
        .await
}

/// Signs in with the guest beside it: the account, and the whole answer.
async fn offered(app: &TestApp, guest: &Guest) -> (Guest, Value) {
    let answer = enter(app, ADA, crate::accounts::PASSWORD).bearer(&guest.access).send().await.expect(200).json();
    (Guest::of(&answer), answer)
}

fn merge(app: &TestApp, by: &Guest, ticket: &Value) -> Call {
    app.post("/v1/me/merge", &json!({"merge_ticket": ticket})).bearer(&by.access)
}

fn look(app: &TestApp, by: &Guest, ticket: &Value) -> Call {
    app.post("/v1/me/merge", &json!({"merge_ticket": ticket, "dry_run": true})).bearer(&by.access)
}

fn transfer(app: &TestApp, method: &str, merged: &Value, more: &str) -> Call {
    app.call(method, &format!("/v1/transfers/{}{more}", merged["transfer"]["id"].as_str().unwrap()))
}

on_both! {
    async fn the_preview_is_what_comes(engine) {
        let app = with_merge(engine, SUM).await;
        let owner = account(&app, ADA, &json!({"views": 3, "name": "Ada", "cart": {"a": 1}, "tags": ["x"]})).await;
        let guest = guest_with(&app, &json!({"views": 2, "name": "Guest", "cart": {"b": 2}, "tags": ["y", "x"], "big": 9_007_199_254_740_993_i64})).await;
        let (account, answer) = offered(&app, &guest).await;
        assert_eq!((&account.id, answer["ticket_expires_in"].as_i64()), (&owner.id, Some(600)));
        let preview = &answer["preview"];
        assert_eq!(preview["guest"], json!({"id": guest.id, "data": guest.body["user"]["data"]}));
        assert_eq!(preview["account"], json!({"id": owner.id, "data": owner.body["user"]["data"]}));
        assert_eq!((&preview["data"]["views"], &preview["more"]), (&json!(5), &json!(false)));
        let conflicts = preview["conflicts"].as_array().unwrap();
        let views = conflicts.iter().find(|c| c["path"] == "/views").unwrap();
        assert_eq!(*views, json!({"path": "/views", "guest": 2, "account": 3, "kept": "both"}));
        assert!(preview["policy"].as_str().is_some_and(|p| !p.is_empty()));
        // a look changes nothing, whoever of the two looks
        for by in [&guest, &account] {
            let looked = look(&app, by, &answer["merge_ticket"]).send().await.expect(200).json();
            assert_eq!(looked, json!({"preview": preview}));
        }
        assert_eq!(me(&app, &guest.access).await["kind"], "anonymous");
        let done = merge(&app, &account, &answer["merge_ticket"]).send().await;
        assert_eq!(done.expect(200).header("cache-control"), "no-store");
        let merged = done.json();
        assert_eq!((&merged["user"]["id"], &merged["user"]["data"]), (&json!(owner.id), &preview["data"]));
        assert_eq!(me(&app, &account.access).await["data"], preview["data"]);
        let it = &merged["transfer"];
        assert_eq!((&it["state"], &it["guest_id"], &it["account_id"]), (&json!("done"), &json!(guest.id), &json!(owner.id)));
        assert!(it["undo_until"].is_string() && it["receipt"] == merged["receipt"]);
        let receipt = merged["receipt"].as_str().unwrap();
        let said = claims(receipt);
        assert_eq!((&said["sub"], &said["guest_id"], &said["jti"]), (&json!(owner.id), &json!(guest.id), &it["id"]));
        assert_ne!(head(receipt)["typ"], head(&account.access)["typ"]);
        app.get("/v1/me").bearer(receipt).send().await.refused(401, "invalid_token");

        // the guest is a pointer
        is_dead(&app, &guest).await;
        merge(&app, &guest, &answer["merge_ticket"]).send().await.refused(409, "guest_merged");
        let shown = app.get(&format!("/v1/users/{}", guest.id)).bearer(ROOT).send().await.expect(200).json();
        assert_eq!((&shown["id"], &shown["resolved_from"]), (&json!(owner.id), &json!(guest.id)));
        let shown = app.get(&format!("/v1/users/{}", owner.id)).bearer(ROOT).send().await.expect(200).json();
        assert_eq!(shown.get("resolved_from"), None);
        // the same receipt at every asking
        for _ in 0..2 {
            let again = merge(&app, &account, &answer["merge_ticket"]).send().await.expect(200).json();
            assert_eq!((&again["receipt"], &again["transfer"]), (&merged["receipt"], it));
        }
        assert_eq!(me(&app, &account.access).await["data"], preview["data"], "not a second time");
        for call in [transfer(&app, "GET", &merged, "").bearer(&account.access), transfer(&app, "GET", &merged, "").bearer(ROOT)] {
            assert_eq!(call.send().await.expect(200).json(), json!({"transfer": it}));
        }
        let other = app.guest().await;
        transfer(&app, "GET", &merged, "").bearer(&other.access).send().await.refused(404, "not_found");
        transfer(&app, "GET", &merged, "").send().await.refused(401, "unauthenticated");
    }

    async fn line_33_fifty_at_once_one_transfer(engine) {
        let app = with_merge(engine, SUM).await;
        account(&app, ADA, &json!({"views": 3})).await;
        let guest = guest_with(&app, &json!({"views": 2})).await;
        let (account, answer) = offered(&app, &guest).await;
        let by = |n: usize| if n.is_multiple_of(2) { &account } else { &guest };
        let calls: Vec<_> = (0..50).map(|n| tokio::spawn(merge(&app, by(n), &answer["merge_ticket"]).send())).collect();
        let mut receipts = std::collections::HashSet::new();
        for call in calls {
            let answer = call.await.unwrap();
            if answer.status == 200 {
                receipts.insert(answer.json()["receipt"].as_str().unwrap().to_owned());
            } else {
                answer.refused(409, "guest_merged");
            }
        }
        assert_eq!(receipts.len(), 1);
        assert_eq!(me(&app, &account.access).await["data"], json!({"views": 5}));
    }

    async fn undone_by_the_account_byte_for_byte(engine) {
        let app = with_merge(engine, SUM).await;
        let before = json!({"views": 3, "z": 1.0, "a": {"b": [1, null]}});
        let owner = account(&app, ADA, &before).await;
        let text = app.get("/v1/me").bearer(&owner.access).send().await.text();
        let data = |text: &str| text[text.find("\"data\":").unwrap()..text.find(",\"version\"").unwrap()].to_owned();
        let guest = guest_with(&app, &json!({"views": 2, "b": "new"})).await;
        let guests = app.get("/v1/me").bearer(&guest.access).send().await.text();
        let (account, answer) = offered(&app, &guest).await;
        let merged = merge(&app, &account, &answer["merge_ticket"]).send().await.expect(200).json();
        assert_eq!(merged["user"]["data"]["views"], 5);
        transfer(&app, "POST", &merged, "/undo").bearer(&guest.access).send().await.refused(401, "session_ended");
        let other = crate::accounts::account(&app, "other@example.com", &json!({})).await;
        transfer(&app, "POST", &merged, "/undo").bearer(&other.access).send().await.refused(404, "not_found");
        let undone = transfer(&app, "POST", &merged, "/undo").bearer(&account.access).send().await.expect(200).json();
        assert_eq!((&undone["transfer"]["state"], &undone["conflicts"], &undone["more"]), (&json!("undone"), &json!([]), &json!(false)));
        let now = app.get("/v1/me").bearer(&account.access).send().await.text();
        assert_eq!(data(&now), data(&text));
        let back = Guest::of(&undone["guest"]);
        assert_eq!((&back.id, &undone["guest"]["user"]["kind"]), (&guest.id, &json!("anonymous")));
        let again = app.get("/v1/me").bearer(&back.access).send().await.expect(200).text();
        assert_eq!(data(&again), data(&guests));
        // what was the guest's before is not again
        is_dead(&app, &guest).await;
        let shown = app.get(&format!("/v1/users/{}", guest.id)).bearer(ROOT).send().await.expect(200).json();
        assert_eq!((&shown["id"], shown.get("resolved_from")), (&json!(guest.id), None));
        transfer(&app, "POST", &merged, "/undo").bearer(&account.access).send().await.refused(409, "transfer_state");
        // and once more into the account
        let (account, answer) = offered(&app, &back).await;
        let second = merge(&app, &account, &answer["merge_ticket"]).send().await.expect(200).json();
        assert_ne!(second["transfer"]["id"], merged["transfer"]["id"]);
        assert_eq!(second["user"]["data"]["views"], 5);
    }

    async fn an_undo_leaves_what_was_written_since(engine) {
        let app = with_merge(engine, SUM).await;
        account(&app, ADA, &json!({"views": 3, "name": "Ada"})).await;
        let guest = guest_with(&app, &json!({"views": 2, "cart": [1]})).await;
        let (account, answer) = offered(&app, &guest).await;
        let merged = merge(&app, &account, &answer["merge_ticket"]).send().await.expect(200).json();
        let patch = app.call("PATCH", "/v1/me/data").bearer(&account.access);
        patch.raw(br#"{"views":9,"since":true}"#.to_vec(), "application/merge-patch+json").send().await.expect(200);
        app.advance(Duration::from_secs(6 * 24 * 3600));
        let undone = transfer(&app, "POST", &merged, "/undo").bearer(ROOT).send().await.expect(200).json();
        assert_eq!(undone["conflicts"], json!([{"path": "/views", "before": 3, "now": 9}]));
        let (fresh, _) = offered_alone(&app).await;
        assert_eq!(me(&app, &fresh.access).await["data"], json!({"views": 9, "name": "Ada", "since": true}));
        // an operator gets a code, by which one device comes in
        assert!(undone.get("guest").is_none());
        let take = json!({"client_id": "demo-spa", "code": undone["code"]});
        let back = app.post("/v1/guests/hand-off", &take).send().await.expect(200).json();
        assert_eq!((&back["user"]["id"], &back["user"]["data"]), (&json!(guest.id), &json!({"views": 2, "cart": [1]})));
        app.post("/v1/guests/hand-off", &take).send().await.refused(400, "invalid_code");
        // the window
        let (account, answer) = offered(&app, &Guest::of(&back)).await;
        let merged = merge(&app, &account, &answer["merge_ticket"]).send().await.expect(200).json();
        app.advance(Duration::from_secs(7 * 24 * 3600 + 1));
        transfer(&app, "POST", &merged, "/undo").bearer(ROOT).send().await.refused(409, "transfer_state");
    }

    async fn the_application_confirms(engine) {
        let app = with_merge(engine, "confirm = true").await;
        let owner = account(&app, ADA, &json!({"a": 1})).await;
        let guest = guest_with(&app, &json!({"b": 2})).await;
        let (account, answer) = offered(&app, &guest).await;
        let merged = merge(&app, &account, &answer["merge_ticket"]).send().await.expect(200).json();
        assert_eq!(merged["transfer"]["state"], "pending");
        // frozen: it can be looked at, and nothing of it is written
        assert_eq!(me(&app, &guest.access).await["data"], json!({"b": 2}));
        let patch = app.call("PATCH", "/v1/me/data").bearer(&guest.access);
        patch.raw(br#"{"c":3}"#.to_vec(), "application/merge-patch+json").send().await.refused(409, "guest_frozen");
        app.post("/v1/me/identifiers", &json!({"email": "b@example.com"})).bearer(&guest.access).send().await.refused(409, "guest_frozen");
        let confirm = || transfer(&app, "POST", &merged, "/confirm");
        confirm().bearer(&account.access).send().await.expect(401);
        confirm().send().await.refused(401, "unauthenticated");
        for _ in 0..2 {
            let done = confirm().bearer(ROOT).send().await.expect(200).json();
            assert_eq!((&done["transfer"]["state"], &done["transfer"]["receipt"]), (&json!("done"), &merged["receipt"]));
        }
        is_dead(&app, &guest).await;
        let shown = app.get(&format!("/v1/users/{}", guest.id)).bearer(ROOT).send().await.expect(200).json();
        assert_eq!((&shown["id"], &shown["data"]), (&json!(owner.id), &json!({"a": 1, "b": 2})));
        // taken back while it waits: the guest goes on where it was
        let guest = guest_with(&app, &json!({"d": 4})).await;
        let (account, answer) = offered(&app, &guest).await;
        let merged = merge(&app, &account, &answer["merge_ticket"]).send().await.expect(200).json();
        transfer(&app, "POST", &merged, "/undo").bearer(ROOT).send().await.expect(200);
        assert_eq!(me(&app, &guest.access).await["data"], json!({"d": 4}));
        transfer(&app, "POST", &merged, "/confirm").bearer(ROOT).send().await.refused(409, "transfer_state");
        assert_eq!(me(&app, &account.access).await["data"], json!({"a": 1, "b": 2}));
    }

    async fn line_34_no_merge_without_both_proofs(engine) {
        let app = with_merge(engine, SUM).await;
        account(&app, ADA, &json!({"views": 3})).await;
        let other = crate::accounts::account(&app, "other@example.com", &json!({})).await;
        let (guest, stranger) = (guest_with(&app, &json!({"views": 2})).await, app.guest().await);
        let (account, answer) = offered(&app, &guest).await;
        let ticket = &answer["merge_ticket"];
        // missing
        app.post("/v1/me/merge", &json!({"merge_ticket": ticket})).send().await.refused(401, "unauthenticated");
        let none = app.post("/v1/me/merge", &json!({})).bearer(&guest.access).send().await;
        assert_eq!(none.refused(400, "invalid_request")["field"], "/merge_ticket");
        // foreign
        for by in [&stranger, &other] {
            merge(&app, by, ticket).send().await.refused(400, "invalid_merge_ticket");
            look(&app, by, ticket).send().await.refused(400, "invalid_merge_ticket");
        }
        app.post("/v1/me/merge", &json!({"merge_ticket": ticket})).bearer(ROOT).send().await.refused(401, "invalid_token");
        // another session of the same account is not the one that proved itself
        let (second, _) = offered_alone(&app).await;
        merge(&app, &second, ticket).send().await.refused(400, "invalid_merge_ticket");
        // something else than a ticket
        for text in [&*guest.access, &*guest.session_token, &*account.session_token, &*account.refresh, "", "x", "a.b.c.d.e"] {
            merge(&app, &account, &json!(text)).send().await.refused(400, "invalid_merge_ticket");
        }
        // a ticket is no token
        app.get("/v1/me").bearer(ticket.as_str().unwrap()).send().await.refused(401, "invalid_token");
        let as_session = json!({"client_id": "demo-spa", "session_token": ticket});
        app.post("/v1/guests", &as_session).send().await.refused(401, "invalid_session_token");
        // changed
        let mut broken = ticket.as_str().unwrap().to_owned();
        let at = broken.len() - 20;
        let letter = if &broken[at..=at] == "A" { "B" } else { "A" };
        broken.replace_range(at..=at, letter);
        merge(&app, &account, &json!(broken)).send().await.refused(400, "invalid_merge_ticket");
        // stale
        app.advance(Duration::from_secs(601));
        merge(&app, &account, ticket).send().await.refused(400, "invalid_merge_ticket");
        merge(&app, &guest, ticket).send().await.refused(400, "invalid_merge_ticket");
        // the account's proof is over
        let (account, answer) = offered(&app, &guest).await;
        app.call("POST", "/v1/logout").bearer(&account.access).send().await.expect(204);
        merge(&app, &guest, &answer["merge_ticket"]).send().await.refused(403, "reauthentication_required");
        merge(&app, &account, &answer["merge_ticket"]).send().await.refused(401, "session_ended");
        // the guest's proof is over
        let key = DeviceKey::new();
        let keyed = Guest::of(&key.ensure(&app).await.expect(201).json());
        let (account, answer) = offered(&app, &keyed).await;
        app.call("POST", "/v1/logout").bearer(&keyed.access).send().await.expect(204);
        merge(&app, &account, &answer["merge_ticket"]).send().await.refused(400, "invalid_merge_ticket");
        // the guest became somebody by itself
        let (account, answer) = offered(&app, &guest).await;
        let id = claim(&app, &guest, &json!({"email": "third@example.com"})).await;
        verify(&app, &guest, &id, &json!({"code": code(&app, "third@example.com").await})).send().await.expect(200);
        merge(&app, &account, &answer["merge_ticket"]).send().await.refused(409, "guest_converted");
        merge(&app, &guest, &answer["merge_ticket"]).send().await.refused(409, "guest_converted");
        // nothing happened to anybody
        assert_eq!(me(&app, &account.access).await["data"], json!({"views": 3}));
        // an account is no guest
        let beside = enter(&app, ADA, crate::accounts::PASSWORD).bearer(&other.access).send().await;
        assert!(beside.status.is_client_error() || beside.json().get("merge_ticket").is_none(), "{}", beside.text());
    }

    async fn a_guest_goes_into_one_account_only(engine) {
        let app = with_merge(engine, SUM).await;
        account(&app, ADA, &json!({"a": 1})).await;
        crate::accounts::account(&app, "other@example.com", &json!({})).await;
        let guest = guest_with(&app, &json!({"g": 1})).await;
        let (ada, first) = offered(&app, &guest).await;
        let entered = enter(&app, "other@example.com", crate::accounts::PASSWORD).bearer(&guest.access).send().await;
        let second = entered.expect(200).json();
        let other = Guest::of(&second);
        merge(&app, &ada, &first["merge_ticket"]).send().await.expect(200);
        merge(&app, &other, &second["merge_ticket"]).send().await.refused(409, "guest_merged");
        look(&app, &other, &second["merge_ticket"]).send().await.refused(409, "guest_merged");
        assert_eq!(me(&app, &other.access).await["data"], json!({}));
        // another guest into the same account
        let next = guest_with(&app, &json!({"h": 2})).await;
        let (ada, third) = offered(&app, &next).await;
        merge(&app, &ada, &third["merge_ticket"]).send().await.expect(200);
        assert_eq!(me(&app, &ada.access).await["data"], json!({"a": 1, "g": 1, "h": 2}));
    }

    async fn a_policy_that_changed_is_looked_at_again(engine) {
        let app = with_merge(engine, SUM).await;
        account(&app, ADA, &json!({"views": 3})).await;
        let guest = guest_with(&app, &json!({"views": 2})).await;
        let (account, answer) = offered(&app, &guest).await;
        let app = app.with_config(|t| t.replace("policy = \"sum\"", "policy = \"keep_guest\"")).restart().await;
        let refused = merge(&app, &account, &answer["merge_ticket"]).send().await;
        let body = refused.refused(409, "preview_outdated");
        assert_eq!(body["preview"]["data"], json!({"views": 2}));
        let merged = merge(&app, &account, &body["merge_ticket"]).send().await.expect(200).json();
        assert_eq!(merged["user"]["data"], json!({"views": 2}));
    }

    async fn where_merges_are_refused(engine) {
        let app = with_merge(engine, "policy = \"refuse\"").await;
        let owner = account(&app, ADA, &json!({})).await;
        let guest = app.guest().await;
        let (entered, answer) = offered(&app, &guest).await;
        assert_eq!((&entered.id, answer.get("merge_ticket")), (&owner.id, None));
        assert_eq!(me(&app, &guest.access).await["kind"], "anonymous");
    }
}

/// Signs in without a guest.
async fn offered_alone(app: &TestApp) -> (Guest, Value) {
    let answer = enter(app, ADA, crate::accounts::PASSWORD).send().await.expect(200).json();
    assert!(answer.get("merge_ticket").is_none() && answer.get("preview").is_none());
    (Guest::of(&answer), answer)
}
