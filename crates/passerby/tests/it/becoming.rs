//! A guest becomes a regular user: by every method, once, with everything it has, and nothing that was there before opens
//! the account.

use std::time::Duration;

use serde_json::{Value, json};

use crate::{
    accounts::{
        OWN, PASSWORD, ROOT, account, begin, claim, claim_call, code, enter, guest_with, is_dead, link, me, prove,
        submit, token, verify, wrong,
    },
    app::{Answer, Guest, TestApp, claims},
    keys::DeviceKey,
    on_both,
};

const ADA: &str = "Ada@Example.com";
const PHONE: &str = "+4915112345678";

/// Data whose order, numbers and texts must come through as they are.
fn luggage() -> Value {
    json!({"views": 3, "z": {"b": [1, 1.5, null], "a": "Zoë \"x\""}, "big": 9_007_199_254_740_993_i64})
}

/// The guest of before and the account of after are one user.
#[track_caller]
fn same_person(before: &Guest, after: &Answer) -> Guest {
    let body = after.expect(200).json();
    assert_eq!(body["outcome"], "converted", "{body}");
    let (old, new) = (&before.body["user"], &body["user"]);
    for member in ["id", "data", "version", "created_at", "stored"] {
        assert_eq!(old[member], new[member], "{member}");
    }
    assert_eq!((&new["kind"], &new["expires_at"]), (&json!("regular"), &Value::Null));
    assert!(new["converted_at"].is_string() && new["identifiers"].as_array().is_some_and(|l| !l.is_empty()), "{new}");
    assert_ne!(body["session"]["id"], before.body["session"]["id"]);
    assert!(body.get("created").is_none());
    Guest::of(&body)
}

on_both! {
    async fn line_20_by_a_code_and_everything_older_is_dead(engine) {
        let app = TestApp::new(engine).await;
        let before = guest_with(&app, &luggage()).await;
        let recovery = app.call("POST", "/v1/me/recovery-code").bearer(&before.access).send().await.expect(201).json();
        let hand_off = app.post("/v1/me/hand-off", &json!({})).bearer(&before.access).send().await.expect(201).json();
        let answer = claim_call(&app, &before, &json!({"email": ADA})).send().await;
        let told = answer.expect(202).json()["claim"].clone();
        assert_eq!((&told["kind"], &told["value"]), (&json!("email"), &json!(ADA)));
        assert_eq!(answer.header("cache-control"), "no-store");
        let list = app.get("/v1/me/identifiers").bearer(&before.access).send().await.expect(200).json();
        assert_eq!((&list["items"], &list["password"]), (&json!([]), &json!(false)));
        let named = &list["claims"][0];
        assert!(named["id"].is_string() && named["id"] != told["id"], "the list names it, and tells no id: {named}");
        assert_eq!((&named["check"], &named["proven"]), (&told["check"], &json!(false)));
        let id = told["id"].as_str().unwrap();
        let one = app.get(&format!("/v1/me/identifiers/{id}")).bearer(&before.access).send().await.expect(200).json();
        assert_eq!((&one["id"], &one["value"], &one["created_at"]), (&told["id"], &named["value"], &named["created_at"]));
        // a claim is inert: the guest is a guest
        assert_eq!(me(&app, &before.access).await["kind"], "anonymous");

        let proof = json!({"code": code(&app, ADA).await});
        let after = same_person(&before, &verify(&app, &before, id, &proof).send().await);
        let now = me(&app, &after.access).await;
        assert_eq!(now["data"], luggage());
        assert_eq!(now["identifiers"][0]["value"], ADA);
        let (old, new) = (claims(&before.access), claims(&after.access));
        assert_eq!((&old["is_anonymous"], &new["is_anonymous"]), (&json!(true), &json!(false)));
        assert!(old["epoch"].as_i64() < new["epoch"].as_i64());
        assert_eq!(old["sub"], new["sub"]);

        is_dead(&app, &before).await;
        let recover = json!({"client_id": "demo-spa", "code": recovery["code"]});
        app.post("/v1/guests/recover", &recover).send().await.refused(400, "invalid_code");
        let take = json!({"client_id": "demo-spa", "code": hand_off["code"]});
        app.post("/v1/guests/hand-off", &take).send().await.refused(400, "invalid_code");
        // who asks again by the old token is told what became of the guest
        verify(&app, &before, id, &proof).send().await.refused(409, "guest_converted");
        claim_call(&app, &before, &json!({"email": "b@example.com"})).send().await.refused(401, "session_ended");
        // the new session lives on by itself
        let renew = json!({"client_id": "demo-spa", "refresh_token": after.refresh});
        let renewed = app.post("/v1/refresh", &renew).send().await.expect(200).json();
        assert_eq!((&renewed["user"]["id"], &renewed["user"]["kind"]), (&json!(before.id), &json!("regular")));
        let made = app.post("/v1/guests", &json!({"client_id": "demo-spa"})).bearer(&after.access).send().await;
        made.refused(409, "not_a_guest");
        let shown = app.get(&format!("/v1/users/{}", before.id)).bearer(ROOT).send().await.expect(200).json();
        assert_eq!((&shown["kind"], &shown["identifiers"][0]["value"]), (&json!("regular"), &json!(ADA)));
        assert_eq!(app.users().await, 1);
    }

    async fn by_phone(engine) {
        let app = TestApp::new(engine).await;
        let before = guest_with(&app, &luggage()).await;
        let id = claim(&app, &before, &json!({"phone": "+49 151 1234 5678"})).await;
        let proof = json!({"code": code(&app, "+49 151 1234 5678").await});
        let after = same_person(&before, &verify(&app, &before, &id, &proof).send().await);
        assert_eq!(after.body["user"]["identifiers"][0]["kind"], "phone");
        is_dead(&app, &before).await;
        // the number is known, however it is written
        let first = json!({"client_id": "demo-spa", "method": "code", "phone": PHONE});
        let asked = begin(&app, "/v1/sign-in", &first).send().await.expect(202).json();
        let second = json!({"client_id": "demo-spa", "method": "code", "claim": asked["claim"]["id"], "code": code(&app, PHONE).await});
        let entered = app.post("/v1/sign-in", &second).send().await.expect(200).json();
        assert_eq!(entered["user"]["id"], json!(before.id));
    }

    async fn by_name_and_password(engine) {
        let app = TestApp::new(engine).await;
        let before = guest_with(&app, &luggage()).await;
        let id = claim(&app, &before, &json!({"username": "Ada_L"})).await;
        let bare = verify(&app, &before, &id, &json!({})).send().await;
        assert_eq!(bare.refused(400, "invalid_value")["field"], "/password");
        let weak = verify(&app, &before, &id, &json!({"password": "password"})).send().await;
        assert_eq!(weak.refused(400, "invalid_value")["field"], "/password");
        verify(&app, &before, &id, &json!({"code": "123456", "password": PASSWORD})).send().await.refused(400, "invalid_value");
        assert_eq!(me(&app, &before.access).await["kind"], "anonymous");
        same_person(&before, &verify(&app, &before, &id, &json!({"password": PASSWORD})).send().await);
        is_dead(&app, &before).await;
        let body = json!({"client_id": "demo-spa", "method": "password", "username": "ada_l", "password": PASSWORD});
        let entered = app.post("/v1/sign-in", &body).send().await.expect(200).json();
        assert_eq!((&entered["user"]["id"], &entered["user"]["data"]), (&json!(before.id), &luggage()));
        // a name that is another's is refused at the proof
        let other = app.guest().await;
        let id = claim(&app, &other, &json!({"username": "ADA_L"})).await;
        verify(&app, &other, &id, &json!({"password": PASSWORD})).send().await.refused(409, "identifier_taken");
        assert_eq!(me(&app, &other.access).await["kind"], "anonymous");
    }

    async fn line_39_by_a_link_that_is_confirmed_elsewhere(engine) {
        let app = TestApp::new(engine).await;
        let before = guest_with(&app, &luggage()).await;
        let told = claim_call(&app, &before, &json!({"email": ADA, "redirect_uri": "http://localhost:8080/callback"})).send().await;
        let told = told.expect(202).json()["claim"].clone();
        let id = told["id"].as_str().unwrap();
        verify(&app, &before, id, &json!({})).send().await.refused(409, "claim_pending");
        let link = link(&app, ADA).await;
        // scanners look, and nothing happens
        for method in ["GET", "HEAD", "GET"] {
            let page = app.call(method, &link).send().await;
            page.expect(200);
            assert_eq!((page.header("cache-control"), page.header("set-cookie")), ("no-store", ""));
        }
        let page = app.get(&link).send().await;
        let text = page.text();
        let check = format!(">{}</output>", told["check"].as_str().unwrap());
        assert!(text.contains(&check) && text.contains("A•••@Example.com") && !text.contains(ADA), "{text}");
        assert!(!text.contains("<script") && !text.contains("{{"));
        let policy = page.header("content-security-policy");
        assert!(policy.contains("default-src 'none'") && policy.contains("form-action 'self' http://localhost:8080;"), "{policy}");
        verify(&app, &before, id, &json!({})).send().await.refused(409, "claim_pending");
        // no other site, and nothing that is no browser, presses the button
        let pairs = [("token", token(&link)), ("action", "confirm".to_owned())];
        let pairs: Vec<(&str, &str)> = pairs.iter().map(|(n, v)| (*n, v.as_str())).collect();
        let post = || app.call("POST", "/ui/link").form(&pairs);
        post().send().await.expect(403);
        post().header("origin", "https://evil.example").send().await.expect(403);
        post().header("origin", "http://localhost:8080").send().await.expect(403);
        post().header("origin", "null").send().await.expect(403);
        post().header("origin", "null").header("sec-fetch-site", "cross-site").send().await.expect(403);
        verify(&app, &before, id, &json!({})).send().await.refused(409, "claim_pending");
        let done = submit(&app, "/ui/link", &pairs).send().await;
        assert_eq!(done.expect(303).header("location"), "http://localhost:8080/callback");
        assert_eq!(done.header("set-cookie"), "", "the device that confirms is not signed in");
        // once
        submit(&app, "/ui/link", &pairs).send().await.expect(400);
        app.get(&link).send().await.expect(400);
        let one = app.get(&format!("/v1/me/identifiers/{id}")).bearer(&before.access).send().await.expect(200).json();
        assert_eq!(one["proven"], true);
        same_person(&before, &verify(&app, &before, id, &json!({})).send().await);
        is_dead(&app, &before).await;
    }

    async fn a_floating_guest(engine) {
        let app = TestApp::new(engine).await;
        let made = app.post("/v1/guests", &json!({"client_id": "demo-game", "data": {"level": 7}})).send().await;
        let before = Guest::of(&made.expect(201).json());
        assert_eq!(app.users().await, 0);
        let id = claim(&app, &before, &json!({"email": ADA})).await;
        let converted = verify(&app, &before, &id, &json!({"code": code(&app, ADA).await})).send().await;
        let body = converted.expect(200).json();
        assert_eq!((&body["user"]["id"], &body["user"]["data"]), (&json!(before.id), &json!({"level": 7})));
        assert_eq!((&body["user"]["kind"], &body["user"]["stored"]), (&json!("regular"), &json!(true)));
        app.get("/v1/me").bearer(&before.access).send().await.refused(401, "session_ended");
        let again = app.post("/v1/guests", &json!({"client_id": "demo-game", "session_token": before.session_token})).send().await;
        assert_eq!(again.status, 401, "{}", again.text());
        assert_eq!(app.users().await, 1);
    }

    async fn by_cookie(engine) {
        let app = TestApp::new(engine).await;
        let made = app.post("/v1/guests", &json!({"client_id": "demo-spa", "session_type": "cookie", "data": {"a": 1}})).send().await;
        let (guest, old) = (made.expect(201).json(), made.cookies()["passerby_session"].clone());
        let call = |path: &str, body: &Value, cookie: &str| app.post(path, body).cookie(cookie);
        call("/v1/me/identifiers", &json!({"email": ADA}), &old).header("origin", "https://evil.example").send().await.refused(403, "cross_site");
        call("/v1/me/identifiers", &json!({"email": ADA}), &old).send().await.refused(403, "cross_site");
        let told = call("/v1/me/identifiers", &json!({"email": ADA}), &old).header("origin", OWN).send().await.expect(202).json();
        let path = format!("/v1/me/identifiers/{}/verify", told["claim"]["id"].as_str().unwrap());
        let proof = json!({"code": code(&app, ADA).await, "password": PASSWORD});
        call(&path, &proof, &old).header("origin", "https://evil.example").send().await.refused(403, "cross_site");
        let done = call(&path, &proof, &old).header("origin", OWN).send().await;
        let body = done.expect(200).json();
        assert_eq!((&body["user"]["id"], &body["user"]["data"]), (&guest["user"]["id"], &json!({"a": 1})));
        assert!(body.get("access_token").is_none(), "a cookie's session has no tokens");
        let new = done.cookies()["passerby_session"].clone();
        assert_ne!(new, old);
        app.get("/v1/me").cookie(&old).send().await.refused(401, "session_ended");
        assert_eq!(app.get("/v1/me").cookie(&new).send().await.expect(200).json()["kind"], "regular");
        call(&path, &proof, &old).header("origin", OWN).send().await.refused(409, "guest_converted");
        // and by password into a cookie
        let body = json!({"client_id": "demo-spa", "method": "password", "email": ADA, "password": PASSWORD, "session_type": "cookie"});
        let entered = app.post("/v1/sign-in", &body).header("origin", OWN).send().await;
        assert!(entered.expect(200).json().get("access_token").is_none());
        let third = entered.cookies()["passerby_session"].clone();
        assert_eq!(app.get("/v1/me").cookie(&third).send().await.expect(200).json()["id"], guest["user"]["id"]);
    }

    async fn line_27_a_device_key_is_bound_anew_and_others_are_gone(engine) {
        let app = TestApp::new(engine).await;
        let (mine, planted) = (DeviceKey::new(), DeviceKey::new());
        let made = mine.post(&app, "/v1/guests", &json!({"client_id": "demo-spa", "bind_tokens": true})).send().await;
        let before = Guest::of(&made.expect(201).json());
        let plant = planted.proof(&app, "POST", "/v1/me/device-keys", None);
        mine.with_token(&app, "POST", "/v1/me/device-keys", &before.access).json(&json!({"proof": plant})).send().await.expect(201);
        let told = mine.with_token(&app, "POST", "/v1/me/identifiers", &before.access).json(&json!({"email": ADA})).send().await;
        let path = format!("/v1/me/identifiers/{}/verify", told.expect(202).json()["claim"]["id"].as_str().unwrap());
        let proof = json!({"code": code(&app, ADA).await});
        // without the proof of the key: nothing
        app.post(&path, &proof).bearer(&before.access).send().await.refused(401, "invalid_token");
        let done = mine.with_token(&app, "POST", &path, &before.access).json(&proof).send().await.expect(200).json();
        assert_eq!((&done["outcome"], &done["token_type"]), (&json!("converted"), &json!("DPoP")));
        let after = Guest::of(&done);
        let keys = mine.with_token(&app, "GET", "/v1/me/device-keys", &after.access).send().await.expect(200).json();
        assert_eq!(keys["items"].as_array().unwrap().len(), 1);
        assert_eq!(keys["items"][0]["thumbprint"], mine.thumbprint());
        // the planted key opens nothing, and makes nobody new in silence
        let back = planted.post(&app, "/v1/guests", &json!({"client_id": "demo-spa"})).send().await;
        assert_eq!(back.status, 409, "{}", back.text());
        assert_eq!(app.users().await, 1);
    }

    async fn twice_and_a_lost_answer(engine) {
        let app = TestApp::new(engine).await;
        let before = guest_with(&app, &luggage()).await;
        let id = claim(&app, &before, &json!({"email": ADA})).await;
        let proof = json!({"code": code(&app, ADA).await});
        let key = "a-lost-answer-0123456789abcdef";
        let ask = |proof: &Value| verify(&app, &before, &id, proof).header("idempotency-key", key);
        let first = same_person(&before, &ask(&proof).send().await);
        let again = ask(&proof).send().await.expect(200).json();
        assert_eq!((&again["outcome"], &again["session"]["id"]), (&json!("converted"), &json!(first.session)));
        ask(&json!({"code": "000000"})).send().await.refused(422, "idempotency_mismatch");
        verify(&app, &before, &id, &proof).send().await.refused(409, "guest_converted");
        assert_eq!(me(&app, &first.access).await["identifiers"].as_array().unwrap().len(), 1);
    }

    async fn line_22_fifty_at_once_one_wins(engine) {
        let app = TestApp::new(engine).await;
        let before = guest_with(&app, &luggage()).await;
        let id = claim(&app, &before, &json!({"email": ADA})).await;
        let proof = json!({"code": code(&app, ADA).await});
        let calls: Vec<_> = (0..50).map(|_| tokio::spawn(verify(&app, &before, &id, &proof).send())).collect();
        let mut won = Vec::new();
        for call in calls {
            let answer = call.await.unwrap();
            if answer.status == 200 { won.push(answer); } else { answer.refused(409, "guest_converted"); }
        }
        assert_eq!(won.len(), 1);
        let after = same_person(&before, &won[0]);
        let now = me(&app, &after.access).await;
        assert_eq!((&now["data"], now["identifiers"].as_array().unwrap().len()), (&luggage(), 1));
    }

    async fn line_22_two_devices_two_addresses(engine) {
        let app = TestApp::new(engine).await;
        let key = DeviceKey::new();
        let one = Guest::of(&key.ensure(&app).await.expect(201).json());
        // another session of the same guest
        let native = key.post(&app, "/v1/guests", &json!({"client_id": "demo-native"})).send().await;
        let two = Guest::of(&native.expect(200).json());
        assert_eq!(one.id, two.id);
        // the newer claim takes the place of the older
        let first = claim(&app, &one, &json!({"email": "one@example.com"})).await;
        let first_code = code(&app, "one@example.com").await;
        let second = claim(&app, &two, &json!({"email": "two@example.com"})).await;
        verify(&app, &one, &first, &json!({"code": first_code})).send().await.refused(404, "not_found");
        let second_code = code(&app, "two@example.com").await;
        // a claim is finished by the session that began
        verify(&app, &one, &second, &json!({"code": second_code})).send().await.refused(404, "not_found");
        let calls: Vec<_> = (0..8).map(|_| tokio::spawn(verify(&app, &two, &second, &json!({"code": second_code})).send())).collect();
        let mut won = 0;
        for call in calls {
            let answer = call.await.unwrap();
            if answer.status == 200 { won += 1; } else { answer.refused(409, "guest_converted"); }
        }
        assert_eq!(won, 1);
        verify(&app, &one, &first, &json!({"code": first_code})).send().await.refused(409, "guest_converted");
        is_dead(&app, &one).await;
    }

    async fn after_the_end_and_with_a_revoked_session(engine) {
        let app = TestApp::new(engine).await;
        // the code is over, then the claim
        let guest = app.guest().await;
        let id = claim(&app, &guest, &json!({"email": ADA})).await;
        let sent = code(&app, ADA).await;
        app.advance(Duration::from_secs(601));
        verify(&app, &guest, &id, &json!({"code": sent})).send().await.refused(400, "invalid_code");
        app.advance(Duration::from_secs(24 * 3600));
        let renewed = app.post("/v1/refresh", &json!({"client_id": "demo-spa", "refresh_token": guest.refresh})).send().await;
        let guest = Guest::of(&renewed.expect(200).json());
        verify(&app, &guest, &id, &json!({"code": sent})).send().await.refused(404, "not_found");
        // the session was ended
        let guest = app.guest().await;
        let id = claim(&app, &guest, &json!({"email": ADA})).await;
        let proof = json!({"code": code(&app, ADA).await});
        app.call("POST", "/v1/logout").bearer(&guest.access).send().await.expect(204);
        verify(&app, &guest, &id, &proof).send().await.refused(401, "session_ended");
        // the guest expired
        let guest = app.guest().await;
        let id = claim(&app, &guest, &json!({"email": ADA})).await;
        let proof = json!({"code": code(&app, ADA).await});
        app.advance(Duration::from_secs(31 * 24 * 3600));
        let late = verify(&app, &guest, &id, &proof).send().await;
        assert_eq!(late.status, 401, "{}", late.text());
        // the guest was erased
        let guest = app.guest().await;
        let id = claim(&app, &guest, &json!({"email": ADA})).await;
        let proof = json!({"code": code(&app, ADA).await});
        app.call("DELETE", "/v1/me").bearer(&guest.access).send().await.expect(204);
        let late = verify(&app, &guest, &id, &proof).send().await;
        assert_eq!(late.status, 401, "{}", late.text());
        // nobody has the address by now
        let free = app.guest().await;
        same_person(&free, &prove(&app, &free, ADA).await);
    }

    async fn line_30_a_claim_stops_nobody_and_grants_nothing(engine) {
        let app = TestApp::new(engine).await;
        let mut squatters = Vec::new();
        for _ in 0..3 {
            let squatter = app.guest().await;
            let id = claim(&app, &squatter, &json!({"email": ADA})).await;
            squatters.push((squatter, id, code(&app, ADA).await));
        }
        // the address signs in nowhere
        enter(&app, ADA, PASSWORD).send().await.refused(401, "invalid_credentials");
        begin(&app, "/v1/password/forgot", &json!({"client_id": "demo-spa", "email": ADA})).send().await.expect(202);
        let asked = begin(&app, "/v1/sign-in", &json!({"client_id": "demo-spa", "method": "code", "email": ADA})).send().await.expect(202).json();
        let second = json!({"client_id": "demo-spa", "method": "code", "claim": asked["claim"]["id"], "code": code(&app, ADA).await});
        app.post("/v1/sign-in", &second).send().await.refused(404, "no_account");
        // the owner comes, with the address written another way
        let owner = guest_with(&app, &luggage()).await;
        let after = same_person(&owner, &prove(&app, &owner, "ada@example.com").await);
        for (squatter, id, code) in &squatters {
            // older than the owner's: also its right code opens nothing
            let answer = verify(&app, squatter, id, &json!({"code": code})).send().await;
            assert_eq!(answer.expect(200).json(), json!({"outcome": "sign_in_required"}));
            assert_eq!(me(&app, &squatter.access).await["kind"], "anonymous");
        }
        assert_eq!(me(&app, &after.access).await["identifiers"].as_array().unwrap().len(), 1);
    }

    async fn line_25_what_was_set_before_the_proof_is_dead(engine) {
        let app = TestApp::new(engine).await;
        // an attacker's guest claims the victim's address, and lets the victim prove it: the password comes with the proof
        let attacker = app.guest().await;
        let other = account(&app, "other@example.com", &json!({})).await;
        let id = claim(&app, &attacker, &json!({"email": ADA})).await;
        let link = link(&app, ADA).await;
        // the victim does not confirm, but comes by itself
        let victim = app.guest().await;
        same_person(&victim, &prove(&app, &victim, ADA).await);
        let late = submit(&app, "/ui/link", &[("token", &token(&link)), ("action", "confirm")]).send().await;
        late.expect(200);
        // the attacker's claim is proven now, but older than the victim's: nothing of it is the attacker's
        let answer = verify(&app, &attacker, &id, &json!({"password": PASSWORD})).send().await;
        assert_eq!(answer.expect(200).json(), json!({"outcome": "sign_in_required"}));
        enter(&app, ADA, PASSWORD).send().await.refused(401, "invalid_credentials");
        assert_eq!(me(&app, &attacker.access).await["kind"], "anonymous");
        assert_eq!(me(&app, &other.access).await["identifiers"][0]["value"], "other@example.com");
    }

    async fn line_42_wrong_codes(engine) {
        let app = TestApp::new(engine).await;
        let guest = app.guest().await;
        let id = claim(&app, &guest, &json!({"email": ADA})).await;
        let right = code(&app, ADA).await;
        let bad = json!({"code": wrong(&right)});
        for _ in 0..3 {
            assert_eq!(verify(&app, &guest, &id, &bad).send().await.refused(400, "invalid_code")["field"], "/code");
        }
        // a password that is refused spends no try
        verify(&app, &guest, &id, &json!({"code": right, "password": "short"})).send().await.refused(400, "invalid_value");
        // asking again forgives none
        let id = claim(&app, &guest, &json!({"email": ADA})).await;
        let right = code(&app, ADA).await;
        let bad = json!({"code": wrong(&right)});
        for _ in 0..2 {
            verify(&app, &guest, &id, &bad).send().await.refused(400, "invalid_code");
        }
        verify(&app, &guest, &id, &json!({"code": right})).send().await.refused(400, "invalid_code");
        let refused = claim_call(&app, &guest, &json!({"email": ADA})).send().await;
        refused.refused(429, "too_many_requests");
        assert!(!refused.header("retry-after").is_empty());
        // the link still does
        let pairs = [("token", token(&link(&app, ADA).await)), ("action", "confirm".to_owned())];
        submit(&app, "/ui/link", &pairs.each_ref().map(|(n, v)| (*n, v.as_str()))).send().await.expect(200);
        same_person(&guest, &verify(&app, &guest, &id, &json!({})).send().await);
    }

    async fn line_42_wrong_codes_over_flows_and_replicas(engine) {
        let app = TestApp::new(engine).await;
        let replica = app.replica().await;
        // thirty wrong codes for one address, whoever tries: then no code of it is looked at for a day
        let mut wrong_ones = 0;
        'flows: for n in 0.. {
            let guest = if n % 2 == 0 { app.guest().await } else { replica.guest().await };
            let id = claim(&app, &guest, &json!({"email": ADA})).await;
            let bad = json!({"code": wrong(&code(&app, ADA).await)});
            for _ in 0..5 {
                let at = if n % 2 == 0 { &replica } else { &app };
                let answer = verify(at, &guest, &id, &bad).send().await;
                if answer.status == 429 { break 'flows; }
                answer.refused(400, "invalid_code");
                wrong_ones += 1;
            }
            assert!(wrong_ones <= 60, "no end");
        }
        assert_eq!(wrong_ones, 30);
        let guest = app.guest().await;
        let id = claim(&app, &guest, &json!({"email": ADA})).await;
        let right = json!({"code": code(&app, ADA).await});
        verify(&app, &guest, &id, &right).send().await.refused(429, "too_many_requests");
    }

    async fn a_taken_address_leads_to_the_account(engine) {
        let app = TestApp::new(engine).await;
        let owner = account(&app, ADA, &json!({"views": 3})).await;
        let guest = guest_with(&app, &json!({"views": 2, "cart": [1]})).await;
        let taken = claim_call(&app, &guest, &json!({"email": ADA})).send().await;
        let free = claim_call(&app, &app.guest().await, &json!({"email": "free@example.com"})).send().await;
        let members = |a: &Answer| a.json()["claim"].as_object().unwrap().keys().cloned().collect::<Vec<_>>();
        assert_eq!((taken.expect(202).status, members(&taken)), (free.status, members(&free)));
        let id = taken.json()["claim"]["id"].as_str().unwrap().to_owned();
        let met = verify(&app, &guest, &id, &json!({"code": code(&app, ADA).await})).send().await.expect(200).json();
        assert_eq!(met["outcome"], "merge_required");
        assert_eq!((&met["preview"]["guest"]["id"], &met["preview"]["account"]["id"]), (&json!(guest.id), &json!(owner.id)));
        assert!(met.get("access_token").is_none(), "no token of the account before the merge");
        let merged = app.post("/v1/me/merge", &json!({"merge_ticket": met["merge_ticket"]})).bearer(&guest.access).send().await.expect(200).json();
        assert_eq!((&merged["user"]["id"], &merged["user"]["data"]), (&json!(owner.id), &met["preview"]["data"]));
        assert_eq!(merged["user"]["data"], json!({"views": 3, "cart": [1]}));
        app.get("/v1/me").bearer(&guest.access).send().await.refused(401, "session_ended");
        verify(&app, &guest, &id, &json!({})).send().await.refused(409, "guest_merged");
    }

    async fn where_codes_do_not_sign_in_the_proof_is_no_sign_in(engine) {
        let app = TestApp::with(engine, |t| t.replace("[tenants.tokens]", "[tenants.sign_in]\nmethods = [\"password\"]\n\n[tenants.tokens]")).await;
        let owner = account(&app, ADA, &json!({})).await;
        let guest = app.guest().await;
        let met = prove(&app, &guest, ADA).await.expect(200).json();
        assert_eq!(met, json!({"outcome": "sign_in_required"}));
        let body = json!({"client_id": "demo-spa", "method": "code", "email": ADA});
        app.post("/v1/sign-in", &body).send().await.refused(403, "method_not_enabled");
        let entered = enter(&app, ADA, PASSWORD).bearer(&guest.access).send().await.expect(200).json();
        assert_eq!(entered["user"]["id"], json!(owner.id));
        assert!(entered["merge_ticket"].is_string());
    }
}
