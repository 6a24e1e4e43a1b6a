//! A planted guest: whoever put their own guest into somebody's browser has nothing of the account that it becomes, and no
//! other site makes a browser sign in or convert (security checklist 20 and 21); and what was made for one client or tenant
//! is nothing to another (9 and 10).

use std::time::Duration;

use serde_json::{Value, json};

use crate::{
    accounts::{OWN, PASSWORD, account, claim, code, enter, guest_with, is_dead, link, me, prove, token, verify},
    app::{Call, Engine, Guest, TestApp},
    keys::DeviceKey,
    loot::written,
    on_both,
};

const HERS: &str = "her@example.com";
const SPA: &str = "http://localhost:8080";
const EVIL: &str = "https://evil.example";
const OTHER: &str = "/t/33333333-3333-4333-8333-333333333333";
const CREATION_KEY: &str = "planted-creation-key-0123456789";

/// With another tenant, whose client has the same settings.
async fn two_tenants(engine: Engine) -> TestApp {
    TestApp::with(engine, |text| {
        format!(
            "{text}\n[[tenants]]\nid = \"33333333-3333-4333-8333-333333333333\"\nname = \"other\"\n\
             [[tenants.clients]]\nid = \"other-spa\"\nname = \"Other\"\ntype = \"spa\"\n\
             redirect_uris = [\"http://localhost:8080/\"]\norigins = [\"http://localhost:8080\"]\n"
        )
    })
    .await
}

async fn resume(app: &TestApp, session_token: &str) -> Guest {
    let body = json!({"client_id": "demo-spa", "session_token": session_token});
    Guest::of(&app.post("/v1/guests", &body).send().await.expect(200).json())
}

on_both! {
    async fn line_21_a_planted_guest_is_worth_nothing_after_conversion(engine) {
        for by_link in [false, true] {
            let app = TestApp::new(engine).await;
            // the attacker's guest, with a way back of every kind
            let key = DeviceKey::new();
            let body = json!({"client_id": "demo-spa", "data": {"a": 1}});
            let make = || app.post("/v1/guests", &body).header("idempotency-key", CREATION_KEY);
            let planted = Guest::of(&make().send().await.expect(201).json());
            assert_eq!(make().send().await.json()["user"]["id"], json!(planted.id), "the key leads back, so far");
            key.call(&app, "POST", "/v1/me/device-keys").bearer(&planted.access).send().await.expect(201);
            let recovery = app.call("POST", "/v1/me/recovery-code").bearer(&planted.access).send().await.expect(201).json();
            let hand_off = app.post("/v1/me/hand-off", &json!({})).bearer(&planted.access).send().await.expect(201).json();
            let take = json!({"client_id": "demo-native", "code": hand_off["code"]});
            let asked = app.post("/v1/guests/hand-off", &take).send().await.expect(200).json();
            let confirm = format!("/v1/me/hand-off/{}/confirm", asked["id"].as_str().unwrap());
            app.call("POST", &confirm).bearer(&planted.access).send().await.expect(200);
            let by_key = Guest::of(&key.post(&app, "/v1/guests", &json!({"client_id": "demo-native"})).send().await.expect(200).json());
            let bound = json!({"client_id": "demo-spa", "bind_tokens": true});
            let page = app.post("/v1/guests", &json!({"client_id": "demo-spa", "session_type": "cookie", "session_token": planted.session_token}));
            let cookie = page.header("origin", SPA).send().await.cookies().get("passerby_session").cloned();
            let operations = json!({"operations": [{"op": "increment", "path": "/a", "by": 1}]});
            let operate = |access: &str| app.post("/v1/me/data/operations", &operations).header("idempotency-key", "operation-key-0123456789abcd").bearer(access);
            operate(&planted.access).send().await.expect(200);
            app.advance(Duration::from_secs(1));

            // the victim's browser holds it, and she keeps "her" progress
            let hers = resume(&app, &planted.session_token).await;
            let id = claim(&app, &hers, &json!({"email": HERS})).await;
            let proof = if by_link {
                let mail = link(&app, HERS).await;
                crate::accounts::submit(&app, "/ui/link", &[("token", &token(&mail)), ("action", "confirm")]).send().await.expect(200);
                json!({"password": PASSWORD})
            } else {
                json!({"code": code(&app, HERS).await, "password": PASSWORD})
            };
            let owner = Guest::of(&verify(&app, &hers, &id, &proof).send().await.expect(200).json());

            for copy in [&planted, &hers, &by_key] { is_dead(&app, copy).await; }
            if let Some(cookie) = cookie { app.get("/v1/me").cookie(&cookie).send().await.expect(401); }
            for body in [json!({"client_id": "demo-spa"}), json!({"client_id": "demo-native"}), bound] {
                key.post(&app, "/v1/guests", &body).send().await.refused(409, "guest_converted");
            }
            let again = make().send().await;
            assert!(again.status.is_client_error(), "{}", again.text());
            app.post("/v1/guests/recover", &json!({"client_id": "demo-spa", "code": recovery["code"]})).send().await.refused(400, "invalid_code");
            let mut confirmed = take.clone();
            confirmed["id"] = asked["id"].clone();
            for body in [take, confirmed] {
                app.post("/v1/guests/hand-off", &body).send().await.refused(400, "invalid_code");
            }
            operate(&planted.access).send().await.refused(401, "session_ended");
            for path in ["/anonymous/token"] {
                let body = json!({"client_id": "demo-spa", "session_token": planted.session_token});
                let answer = app.post(path, &body).send().await;
                assert!(answer.status.is_client_error(), "{path}: {}", answer.text());
            }
            // verifying the claim again by an older copy is told what became of the guest, and no more
            verify(&app, &by_key, &id, &proof).send().await.refused(409, "guest_converted");
            let now = me(&app, &owner.access).await;
            assert_eq!((&now["id"], &now["data"]), (&json!(planted.id), &json!({"a": 2})));
            let sessions = app.get("/v1/me/sessions").bearer(&owner.access).send().await.expect(200).json();
            assert_eq!(sessions["items"].as_array().map(Vec::len), Some(1), "{sessions}");
            assert_eq!(app.users().await, 1, "nobody became a new guest in silence");
        }
    }

    async fn line_21_another_session_of_the_guest_does_not_finish(engine) {
        let app = TestApp::new(engine).await;
        // the attacker keeps a session of the planted guest, and watches for what she claims in hers
        let key = DeviceKey::new();
        let planted = guest_with(&app, &json!({})).await;
        key.call(&app, "POST", "/v1/me/device-keys").bearer(&planted.access).send().await.expect(201);
        let hers = Guest::of(&key.post(&app, "/v1/guests", &json!({"client_id": "demo-native"})).send().await.expect(200).json());
        assert!(hers.id == planted.id && hers.session != planted.session);
        let id = claim(&app, &hers, &json!({"email": HERS})).await;
        let mail = link(&app, HERS).await;
        crate::accounts::submit(&app, "/ui/link", &[("token", &token(&mail)), ("action", "confirm")]).send().await.expect(200);
        // she confirmed; only the session that began goes on
        for proof in [json!({}), json!({"password": "attackers own long words"}), json!({"code": code(&app, HERS).await})] {
            verify(&app, &planted, &id, &proof).send().await.refused(404, "not_found");
        }
        assert_eq!(me(&app, &planted.access).await["kind"], "anonymous");
        assert_eq!(verify(&app, &hers, &id, &json!({})).send().await.expect(200).json()["outcome"], "converted");
        is_dead(&app, &planted).await;
    }

    async fn line_21_who_shares_the_session_does_not_finish_by_her_link(engine) {
        let app = TestApp::new(engine).await;
        // the very session that she has in her browser
        let planted = guest_with(&app, &json!({})).await;
        let hers = resume(&app, &planted.session_token).await;
        assert_eq!(hers.session, planted.session);
        let id = claim(&app, &hers, &json!({"email": HERS})).await;
        let mail = link(&app, HERS).await;
        crate::accounts::submit(&app, "/ui/link", &[("token", &token(&mail)), ("action", "confirm")]).send().await.expect(200);
        // the attacker looks what was claimed, and is faster
        let list = app.get("/v1/me/identifiers").bearer(&planted.access).send().await.expect(200).json();
        let named = list["claims"][0]["id"].as_str().unwrap();
        assert!(named != id && list["claims"][0]["proven"] == json!(false), "{list}");
        for proof in [json!({}), json!({"password": "attackers own long words"})] {
            verify(&app, &planted, named, &proof).send().await.refused(409, "claim_pending");
        }
        assert_eq!(verify(&app, &hers, &id, &json!({})).send().await.expect(200).json()["outcome"], "converted");
        is_dead(&app, &planted).await;
    }

    async fn line_21_no_other_site_signs_in_converts_or_merges(engine) {
        let app = TestApp::new(engine).await;
        let attacker = account(&app, "attacker@example.com", &json!({})).await;
        let page = app.post("/v1/guests", &json!({"client_id": "demo-spa", "session_type": "cookie"})).send().await;
        let cookie = page.cookies()["passerby_session"].clone();
        let by_page = |method: &str, path: &str, body: &Value| app.call(method, path).json(body).cookie(&cookie).header("origin", SPA);
        let claimed = by_page("POST", "/v1/me/identifiers", &json!({"email": HERS})).send().await.expect(202).json();
        let id = claimed["claim"]["id"].as_str().unwrap().to_owned();
        let right = code(&app, HERS).await;
        let begun = app.post("/v1/sign-in", &json!({"client_id": "demo-spa", "method": "code", "email": "attacker@example.com"})).send().await.expect(202).json();
        let theirs = code(&app, "attacker@example.com").await;
        let with_guest = json!({"client_id": "demo-spa", "method": "password", "email": "attacker@example.com", "password": PASSWORD});
        let ticket = by_page("POST", "/v1/sign-in", &with_guest).send().await.expect(200).json()["merge_ticket"].clone();
        assert!(ticket.is_string(), "the cookie's guest came along");
        let before = written(&app).await;
        let changes = [
            ("/v1/sign-in", json!({"client_id": "demo-spa", "method": "password", "email": "attacker@example.com", "password": PASSWORD, "session_type": "cookie"})),
            ("/v1/sign-in", json!({"client_id": "demo-spa", "method": "code", "claim": begun["claim"]["id"], "code": theirs, "session_type": "cookie"})),
            ("/v1/me/identifiers", json!({"email": "attacker@example.com"})),
            (&format!("/v1/me/identifiers/{id}/verify"), json!({"code": right})),
            ("/v1/me/merge", json!({"merge_ticket": ticket})),
            ("/v1/me/password", json!({"password": "attackers own long words"})),
        ];
        for (path, body) in &changes {
            let call = || app.post(path, body).cookie(&cookie);
            for (name, value) in [("origin", EVIL), ("origin", "null"), ("origin", "http://localhost:8081"), ("sec-fetch-site", "cross-site"), ("sec-fetch-site", "same-site")] {
                let answer = call().header(name, value).send().await;
                assert_eq!(answer.status, 403, "{path} {name}: {value}: {}", answer.text());
                assert!(answer.header("set-cookie").is_empty());
                assert!(!["*", EVIL].contains(&answer.header("access-control-allow-origin")));
            }
            // as a form can send it
            for media in ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"] {
                let answer = call().header("origin", EVIL).raw(body.to_string().into_bytes(), media).send().await;
                assert!([403, 415].contains(&answer.status.as_u16()), "{path} {media}: {}", answer.text());
                assert!(answer.header("set-cookie").is_empty());
            }
        }
        // pages of ours that a form of theirs is sent to
        app.advance(Duration::from_millis(10));
        app.post("/v1/sign-in", &json!({"client_id": "demo-spa", "method": "link", "email": "attacker@example.com"})).send().await.expect(202);
        let mail = token(&link(&app, "attacker@example.com").await);
        let again = written(&app).await;
        for action in ["confirm", "here"] {
            for (name, value) in [("origin", EVIL), ("origin", "null"), ("origin", SPA), ("sec-fetch-site", "cross-site"), ("x-none", "1")] {
                let form = app.call("POST", "/ui/link").header(name, value).form(&[("token", &mail), ("action", action)]);
                let answer = form.cookie(&cookie).send().await;
                assert!(answer.expect(403).header("set-cookie").is_empty(), "{name} {value}");
            }
        }
        assert_eq!(written(&app).await, again);
        assert_ne!(again, before);
        assert_eq!(me(&app, &attacker.access).await["data"], json!({}));
        // our own pages may
        let own = app.call("POST", "/ui/link").header("origin", OWN).form(&[("token", &mail), ("action", "here")]);
        assert!(own.send().await.expect(200).cookies().contains_key("passerby_session"));
        by_page("POST", &format!("/v1/me/identifiers/{id}/verify"), &json!({"code": right})).send().await.expect(200);
    }

    async fn line_09_claims_tickets_and_receipts_stay_with_client_and_tenant(engine) {
        let app = two_tenants(engine).await;
        let made = app.post(&format!("{OTHER}/v1/guests"), &json!({"client_id": "other-spa"})).send().await;
        let foreign = Guest::of(&made.expect(201).json());
        let owner = account(&app, HERS, &json!({"views": 3})).await;
        let guest = guest_with(&app, &json!({"views": 2})).await;
        let native = app.guest_of("demo-native").await;
        app.advance(Duration::from_millis(10));
        let offer = prove(&app, &guest, HERS).await.expect(200).json();
        let ticket = offer["merge_ticket"].as_str().unwrap().to_owned();
        let id = claim(&app, &guest, &json!({"email": "new@example.com"})).await;
        let right = code(&app, "new@example.com").await;
        let before = written(&app).await;

        // a claim by another user, client or tenant, with the right code
        for (path, who) in [("", &native), ("", &owner), (OTHER, &foreign)] {
            let call = app.post(&format!("{path}/v1/me/identifiers/{id}/verify"), &json!({"code": right})).bearer(&who.access);
            call.send().await.refused(404, "not_found");
            let look = app.get(&format!("{path}/v1/me/identifiers/{id}")).bearer(&who.access).send().await;
            look.refused(404, "not_found");
        }
        // a token at the other tenant's address
        for (path, who) in [(OTHER, &guest), (OTHER, &native), (OTHER, &owner)] {
            for (place, body) in [("/v1/me/identifiers", json!({"email": "x@example.com"})), (&format!("/v1/me/identifiers/{id}/verify"), json!({"code": right})), ("/v1/me/merge", json!({"merge_ticket": ticket})), ("/v1/me/password", json!({"password": PASSWORD}))] {
                app.post(&format!("{path}{place}"), &body).bearer(&who.access).send().await.refused(401, "invalid_token");
            }
        }
        // the ticket in other hands
        for (path, who, word) in [("", &native, "invalid_merge_ticket"), (OTHER, &foreign, "invalid_merge_ticket"), ("", &owner, "invalid_merge_ticket")] {
            let call = app.post(&format!("{path}/v1/me/merge"), &json!({"merge_ticket": ticket})).bearer(&who.access);
            call.send().await.refused(400, word);
        }
        // and where a ticket is none
        let others = [guest.access.clone(), owner.access.clone(), owner.refresh.clone(), guest.session_token.clone(), id.clone(), String::new(), format!("{ticket}A"), ticket.to_uppercase()];
        for text in &others {
            app.post("/v1/me/merge", &json!({"merge_ticket": text})).bearer(&guest.access).send().await.refused(400, "invalid_merge_ticket");
        }
        let tries = |text: &str| -> Vec<Call> {
            vec![
                app.get("/v1/me").bearer(text),
                app.get("/v1/me").cookie(text),
                app.post("/v1/refresh", &json!({"client_id": "demo-spa", "refresh_token": text})),
                app.post("/v1/guests", &json!({"client_id": "demo-spa", "session_token": text})),
                app.post("/v1/password/reset", &json!({"token": text, "password": PASSWORD})),
                app.post("/v1/sign-in", &json!({"client_id": "demo-spa", "method": "link", "claim": text})),
                app.post("/v1/sign-in", &json!({"client_id": "demo-spa", "method": "password", "email": HERS, "password": PASSWORD, "session_token": text})),
                app.get("/v1/users").bearer(text),
                app.post("/v1/guests/recover", &json!({"client_id": "demo-spa", "code": text})),
            ]
        };
        for call in tries(&ticket).into_iter().chain(tries(&id)) {
            let answer = call.send().await;
            assert!(answer.status.is_client_error(), "{}", answer.text());
        }
        // sessions of another client or tenant beside a sign-in are not merged
        for (client, path, who) in [("demo-spa", "", &native), ("demo-spa", "", &foreign), ("demo-native", "", &guest)] {
            let body = json!({"client_id": client, "method": "password", "email": HERS, "password": PASSWORD, "session_token": who.session_token});
            let answer = app.post(&format!("{path}/v1/sign-in"), &body).send().await;
            assert_eq!(answer.status, 401, "{}", answer.text());
        }
        let mut after = written(&app).await;
        let mut before = before;
        // a password that was right has told nothing but that
        after.remove("epochs");
        before.remove("epochs");
        assert_eq!(after, before);

        let merged = app.post("/v1/me/merge", &json!({"merge_ticket": ticket})).bearer(&guest.access).send().await.expect(200).json();
        let receipt = merged["receipt"].as_str().unwrap();
        for call in tries(receipt) {
            let answer = call.send().await;
            assert!(answer.status.is_client_error(), "a receipt signs nobody in: {}", answer.text());
        }
        app.post("/v1/me/merge", &json!({"merge_ticket": receipt})).bearer(&owner.access).send().await.refused(400, "invalid_merge_ticket");
        let transfer = merged["transfer"]["id"].as_str().unwrap();
        for (path, who) in [("", &native), (OTHER, &foreign)] {
            for (method, place) in [("GET", ""), ("POST", "/undo"), ("POST", "/confirm")] {
                let answer = app.call(method, &format!("{path}/v1/transfers/{transfer}{place}")).bearer(&who.access).send().await;
                assert!(answer.status.is_client_error(), "{method} {place}: {}", answer.text());
            }
        }
        enter(&app, HERS, PASSWORD).send().await.expect(200);
    }
}
