//! Signing in, and what a regular user and a back end do with identifiers and passwords; the pages of links.

use std::time::Duration;

use serde_json::{Value, json};

use crate::{
    accounts::{
        OWN, PASSWORD, ROOT, account, begin, claim, code, enter, guest_with, is_dead, letters, link, me, prove, submit,
        token, verify, wrong,
    },
    app::{Call, Guest, TestApp},
    on_both,
};

const ADA: &str = "ada@example.com";
const NEW: &str = "eleven sleepy lighthouses";

fn sign_in(app: &TestApp, body: Value) -> Call {
    let mut whole = json!({"client_id": "demo-spa"});
    whole.as_object_mut().unwrap().extend(body.as_object().unwrap().clone());
    begin(app, "/v1/sign-in", &whole)
}

fn by_root(app: &TestApp, method: &str, path: &str) -> Call {
    app.call(method, path).bearer(ROOT)
}

on_both! {
    async fn line_43_nobody_is_told_who_has_an_account(engine) {
        let app = TestApp::new(engine).await;
        let owner = account(&app, ADA, &json!({"a": 1})).await;
        let wrong_password = enter(&app, ADA, "not the password").send().await;
        let nobody = enter(&app, "nobody@example.com", PASSWORD).send().await;
        assert_eq!(wrong_password.refused(401, "invalid_credentials"), nobody.refused(401, "invalid_credentials"));
        assert_eq!(wrong_password.headers.get("www-authenticate"), nobody.headers.get("www-authenticate"));
        assert_eq!(nobody.header("www-authenticate"), "Bearer realm=\"passerby\"");
        for method in ["code", "link"] {
            let there = sign_in(&app, json!({"method": method, "email": ADA})).send().await.expect(202).json();
            let not = sign_in(&app, json!({"method": method, "email": "nobody@example.com"})).send().await.expect(202).json();
            for answer in [&there, &not] {
                let members: Vec<_> = answer["claim"].as_object().unwrap().keys().cloned().collect();
                assert_eq!(members, ["id", "kind", "value", "expires_at", "check"]);
            }
            assert_eq!(there["claim"]["id"].as_str().unwrap().len(), not["claim"]["id"].as_str().unwrap().len());
            let bad = |claim: &Value| json!({"method": method, "claim": claim["claim"]["id"], "code": "000000"});
            let (a, b) = (sign_in(&app, bad(&there)).send().await, sign_in(&app, bad(&not)).send().await);
            assert_eq!(a.refused(400, "invalid_code"), b.refused(400, "invalid_code"));
        }
        for address in [ADA, "nobody@example.com"] {
            let asked = begin(&app, "/v1/password/forgot", &json!({"client_id": "demo-spa", "email": address})).send().await;
            assert_eq!((asked.expect(202).text(), asked.header("set-cookie")), ("{}".to_owned(), ""));
        }
        assert_eq!(me(&app, &owner.access).await["kind"], "regular");
    }

    async fn by_code_and_by_link(engine) {
        let app = TestApp::new(engine).await;
        let owner = account(&app, ADA, &json!({"a": 1})).await;
        // the newer code voids the older
        let first = sign_in(&app, json!({"method": "code", "email": ADA})).send().await.expect(202).json();
        let first_code = code(&app, ADA).await;
        let second = sign_in(&app, json!({"method": "code", "email": ADA, "device": "Tablet"})).send().await.expect(202).json();
        let second_code = code(&app, ADA).await;
        let finish = |claim: &Value, code: &str| sign_in(&app, json!({"method": "code", "claim": claim["claim"]["id"], "code": code}));
        finish(&first, &first_code).send().await.refused(404, "not_found");
        let wrong_one = finish(&second, &wrong(&second_code)).send().await;
        assert_eq!(wrong_one.refused(400, "invalid_code")["field"], "/code");
        let entered = finish(&second, &second_code).send().await.expect(200).json();
        assert_eq!((&entered["user"]["id"], &entered["user"]["data"]), (&json!(owner.id), &json!({"a": 1})));
        finish(&second, &second_code).send().await.refused(404, "not_found");
        // the older session lives on: nothing was proven anew that its owner had not proven
        assert_eq!(me(&app, &owner.access).await["id"], entered["user"]["id"]);

        // by link: the page shows and spends nothing, the button of this or that device does
        let asked = sign_in(&app, json!({"method": "link", "email": ADA, "device": "Tablet <b>"})).send().await.expect(202).json();
        let wait = |claim: &Value| sign_in(&app, json!({"method": "link", "claim": claim["claim"]["id"]}));
        wait(&asked).send().await.refused(409, "claim_pending");
        let path = link(&app, ADA).await;
        let page = app.get(&path).send().await.expect(200).text();
        assert!(page.contains("Tablet &lt;b&gt;") && page.contains(asked["claim"]["check"].as_str().unwrap()), "{page}");
        assert!(page.contains("value=\"here\""));
        let done = submit(&app, "/ui/link", &[("token", &token(&path)), ("action", "confirm")]).send().await;
        assert_eq!(done.expect(200).header("set-cookie"), "");
        let entered = wait(&asked).send().await.expect(200).json();
        assert_eq!(entered["user"]["id"], json!(owner.id));
        wait(&asked).send().await.refused(404, "not_found");

        // signed in here: a cookie here, and nothing there
        let asked = sign_in(&app, json!({"method": "link", "email": ADA})).send().await.expect(202).json();
        let path = link(&app, ADA).await;
        let token = token(&path);
        let here = [("token", token.as_str()), ("action", "here")];
        app.call("POST", "/ui/link").form(&here).header("origin", "https://evil.example").send().await.expect(403);
        app.call("POST", "/ui/link").form(&here).send().await.expect(403);
        submit(&app, "/ui/link", &[("token", &token), ("action", "else")]).send().await.expect(400);
        let done = submit(&app, "/ui/link", &here).send().await;
        let cookie = done.expect(200).cookies()["passerby_session"].clone();
        assert_eq!(app.get("/v1/me").cookie(&cookie).send().await.expect(200).json()["id"], owner.id);
        wait(&asked).send().await.refused(404, "not_found");
        submit(&app, "/ui/link", &here).send().await.expect(400);
        // a link that is over
        sign_in(&app, json!({"method": "link", "email": ADA})).send().await.expect(202);
        let path = link(&app, ADA).await;
        app.advance(Duration::from_secs(3601));
        app.get(&path).send().await.expect(400);
        for bad in ["/ui/link", "/ui/link?token=", "/ui/link?token=x", "/ui/password?token=x", "/ui/link?token=%ff"] {
            let page = app.get(bad).send().await;
            assert_eq!((page.expect(400).header("content-type"), page.header("cache-control")), ("text/html; charset=utf-8", "no-store"));
        }
    }

    async fn line_28_a_password_is_set_by_a_link_and_everything_older_is_dead(engine) {
        let app = TestApp::new(engine).await;
        let owner = account(&app, ADA, &json!({"a": 1})).await;
        let forgot = json!({"client_id": "demo-spa", "email": ADA, "state": {"plan": "pro & \"x\""}, "redirect_uri": "http://localhost:8080/callback"});
        begin(&app, "/v1/password/forgot", &forgot).send().await.expect(202);
        let path = link(&app, ADA).await;
        assert!(path.starts_with("/ui/password?token="), "{path}");
        let token = token(&path);
        for method in ["GET", "HEAD"] {
            app.call(method, &path).send().await.expect(200);
        }
        // of another kind
        app.get(&path.replace("password", "link")).send().await.expect(400);
        submit(&app, "/ui/link", &[("token", &token), ("action", "confirm")]).send().await.expect(400);
        let set = |password: &str, again: &str| {
            submit(&app, "/ui/password", &[("token", &token), ("password", password), ("again", again)])
        };
        app.call("POST", "/ui/password").form(&[("token", &token), ("password", NEW), ("again", NEW)]).send().await.expect(403);
        for (password, again) in [("short", "short"), ("password", "password"), (NEW, "another")] {
            let page = set(password, again).send().await;
            assert!(page.expect(400).text().contains("aria-invalid=\"true\""), "{}", page.text());
            assert!(!page.text().contains(NEW), "a password is not sent back");
        }
        let done = set(NEW, NEW).send().await;
        let state = "%7B%22plan%22%3A%22pro%20%26%20%5C%22x%5C%22%22%7D";
        assert_eq!(done.expect(303).header("location"), format!("http://localhost:8080/callback?state={state}"));
        assert_eq!(done.header("set-cookie"), "");
        set(NEW, NEW).send().await.expect(400);
        is_dead(&app, &owner).await;
        enter(&app, ADA, PASSWORD).send().await.refused(401, "invalid_credentials");
        let entered = enter(&app, ADA, NEW).send().await.expect(200).json();
        assert_eq!(entered["user"]["id"], json!(owner.id));
        // the same by the API, in a page of the app's own
        begin(&app, "/v1/password/forgot", &json!({"client_id": "demo-spa", "email": ADA})).send().await.expect(202);
        let fresh = crate::accounts::token(&link(&app, ADA).await);
        let reset = |token: &str, password: &str| app.post("/v1/password/reset", &json!({"token": token, "password": password}));
        let weak = reset(&fresh, "short").send().await;
        assert_eq!(weak.refused(400, "invalid_value")["field"], "/password");
        reset(&token, NEW).send().await.refused(400, "invalid_code");
        reset(&fresh, PASSWORD).send().await.expect(204);
        reset(&fresh, PASSWORD).send().await.refused(400, "invalid_code");
        is_dead(&app, &Guest::of(&entered)).await;
        enter(&app, ADA, PASSWORD).send().await.expect(200);
        // an address that nobody has got nothing that opens anything
        begin(&app, "/v1/password/forgot", &json!({"client_id": "demo-spa", "email": "nobody@example.com"})).send().await.expect(202);
        assert!(letters(&app, "nobody@example.com").await.iter().all(|l| l.link.is_none()));
    }

    async fn line_24_members_add_and_remove_identifiers_and_the_last_way_in_stays(engine) {
        let app = TestApp::new(engine).await;
        let owner = account(&app, ADA, &json!({"a": 1})).await;
        let second = "second@example.com";
        let added = prove(&app, &owner, second).await.expect(200).json();
        assert_eq!((&added["outcome"], &added["identifier"]["value"]), (&json!("added"), &json!(second)));
        assert_eq!((&added["user"]["id"], added["user"]["identifiers"].as_array().unwrap().len()), (&json!(owner.id), 2));
        // the session that added it lives on, and the owner was told
        assert_eq!(me(&app, &owner.access).await["identifiers"], added["user"]["identifiers"]);
        assert!(letters(&app, ADA).await.iter().any(|l| l.wording.text.contains(second)));
        enter(&app, second, PASSWORD).send().await.expect(200);
        // one of somebody else
        let other = account(&app, "other@example.com", &json!({})).await;
        let id = claim(&app, &owner, &json!({"email": "other@example.com"})).await;
        let proof = json!({"code": code(&app, "other@example.com").await});
        verify(&app, &owner, &id, &proof).send().await.refused(409, "identifier_taken");
        assert_eq!(me(&app, &other.access).await["identifiers"].as_array().unwrap().len(), 1);
        let ids = |list: &Value| list["items"].as_array().unwrap().iter().map(|i| i["id"].as_str().unwrap().to_owned()).collect::<Vec<_>>();
        let list = app.get("/v1/me/identifiers").bearer(&owner.access).send().await.expect(200).json();
        assert_eq!((ids(&list).len(), &list["password"]), (2, &json!(true)));
        let remove = |id: &str| app.call("DELETE", &format!("/v1/me/identifiers/{id}")).bearer(&owner.access);
        remove("nonsense").send().await.refused(404, "not_found");
        remove(&ids(&list)[0]).send().await.expect(204);
        remove(&ids(&list)[0]).send().await.refused(404, "not_found");
        remove(&ids(&list)[1]).send().await.refused(409, "last_way_in");
        enter(&app, ADA, PASSWORD).send().await.refused(401, "invalid_credentials");
        enter(&app, second, PASSWORD).send().await.expect(200);
        // free for somebody else
        let next = app.guest().await;
        assert_eq!(prove(&app, &next, ADA).await.expect(200).json()["outcome"], "converted");
        // two removed at once: one stays
        let third = prove(&app, &owner, "third@example.com").await.expect(200).json();
        let calls: Vec<_> = third["user"]["identifiers"].as_array().unwrap().iter()
            .map(|i| tokio::spawn(remove(i["id"].as_str().unwrap()).send())).collect();
        let mut gone = 0;
        for call in calls {
            let answer = call.await.unwrap();
            if answer.status == 204 { gone += 1; } else { answer.refused(409, "last_way_in"); }
        }
        assert_eq!(gone, 1);
        // a claim can be dropped, too
        let id = claim(&app, &owner, &json!({"email": "fourth@example.com"})).await;
        remove(&id).send().await.expect(204);
        verify(&app, &owner, &id, &json!({"code": code(&app, "fourth@example.com").await})).send().await.refused(404, "not_found");
    }

    async fn line_26_a_changed_password_ends_everything_older(engine) {
        let app = TestApp::new(engine).await;
        let owner = account(&app, ADA, &json!({})).await;
        let thief = Guest::of(&enter(&app, ADA, PASSWORD).send().await.expect(200).json());
        let change = |by: &Guest, body: Value| app.post("/v1/me/password", &body).bearer(&by.access);
        let none = change(&owner, json!({"password": NEW})).send().await;
        assert!(matches!(none.status.as_u16(), 400 | 401), "{}", none.text());
        change(&owner, json!({"current_password": "wrong one here", "password": NEW})).send().await.refused(401, "invalid_credentials");
        let weak = change(&owner, json!({"current_password": PASSWORD, "password": "password"})).send().await;
        assert_eq!(weak.refused(400, "invalid_value")["field"], "/password");
        let done = change(&owner, json!({"current_password": PASSWORD, "password": NEW})).send().await.expect(200).json();
        let after = Guest::of(&done);
        assert_eq!((&after.id, done.get("created"), done.get("outcome")), (&owner.id, None, None));
        is_dead(&app, &owner).await;
        is_dead(&app, &thief).await;
        me(&app, &after.access).await;
        enter(&app, ADA, PASSWORD).send().await.refused(401, "invalid_credentials");
        enter(&app, ADA, NEW).send().await.expect(200);
        let guest = app.guest().await;
        change(&guest, json!({"password": NEW})).send().await.refused(400, "invalid_request");
        // without a password so far: by a fresh sign-in alone
        let bare = app.guest().await;
        let bare = Guest::of(&prove(&app, &bare, "bare@example.com").await.expect(200).json());
        app.advance(Duration::from_secs(601));
        change(&bare, json!({"password": NEW})).send().await.refused(403, "reauthentication_required");
        let asked = sign_in(&app, json!({"method": "code", "email": "bare@example.com"})).send().await.expect(202).json();
        let finish = json!({"method": "code", "claim": asked["claim"]["id"], "code": code(&app, "bare@example.com").await});
        let fresh = Guest::of(&sign_in(&app, finish).send().await.expect(200).json());
        change(&fresh, json!({"password": NEW})).send().await.expect(200);
        enter(&app, "bare@example.com", NEW).send().await.expect(200);
    }

    async fn back_ends_make_and_change_accounts(engine) {
        let app = TestApp::new(engine).await;
        // bcrypt of "correct horse battery staple", cost 4
        let hash = "$2b$04$abcdefghijklmnopqrstuuTYoV5ROSFTKjlKXb3/CFnnzALd2pq0e";
        let body = json!({"kind": "regular", "data": {"a": 1}, "identifiers": [{"kind": "email", "value": ADA, "verified": true}, {"kind": "external_id", "value": "crm-7"}], "password": PASSWORD});
        let made = by_root(&app, "POST", "/v1/users").json(&body).send().await.expect(201).json();
        assert_eq!((&made["kind"], made["identifiers"].as_array().unwrap().len()), (&json!("regular"), 2));
        let id = made["id"].as_str().unwrap();
        let entered = Guest::of(&enter(&app, ADA, PASSWORD).send().await.expect(200).json());
        assert_eq!(entered.id, id);
        by_root(&app, "POST", "/v1/users").json(&body).send().await.refused(409, "identifier_taken");
        for (body, field) in [
            (json!({"kind": "robot"}), "/kind"),
            (json!({"identifiers": [{"kind": "email"}]}), "/identifiers/0/value"),
            (json!({"identifiers": [{"kind": "fax", "value": "1"}]}), "/identifiers/0/kind"),
            (json!({"identifiers": [{"kind": "email", "value": "x@example.com", "verified": "yes"}]}), "/identifiers/0/verified"),
            (json!({"password": "a", "password_hash": hash}), "/password_hash"),
        ] {
            let refused = by_root(&app, "POST", "/v1/users").json(&body).send().await;
            refused.expect(400);
            assert_eq!(refused.json()["field"], field, "{}", refused.text());
        }
        let path = |more: &str| format!("/v1/users/{id}{more}");
        by_root(&app, "POST", &path("/password")).json(&json!({"password": NEW})).send().await.expect(204);
        is_dead(&app, &entered).await;
        enter(&app, ADA, NEW).send().await.expect(200);
        by_root(&app, "POST", &path("/password")).json(&json!({})).send().await.refused(400, "invalid_request");
        by_root(&app, "POST", &path("/password")).json(&json!({"password_hash": "nonsense"})).send().await.refused(400, "invalid_value");
        let added = by_root(&app, "POST", &path("/identifiers")).json(&json!({"username": "ada", "verified": true})).send().await.expect(201).json();
        assert_eq!(added["identifiers"].as_array().unwrap().len(), 3);
        let name = added["identifiers"].as_array().unwrap().iter().find(|i| i["kind"] == "username").unwrap()["id"].as_str().unwrap();
        by_root(&app, "DELETE", &path(&format!("/identifiers/{name}"))).send().await.expect(204);
        by_root(&app, "DELETE", &path(&format!("/identifiers/{name}"))).send().await.refused(404, "not_found");
        let guests = app.guest().await;
        app.post(&path("/password"), &json!({"password": NEW})).bearer(&guests.access).send().await.refused(401, "invalid_token");

        // a guest that a back end converts: the one transition
        let guest = guest_with(&app, &json!({"g": 1})).await;
        let given = json!({"email": "guest@example.com", "verified": true});
        let converted = by_root(&app, "POST", &format!("/v1/users/{}/identifiers", guest.id)).json(&given).send().await.expect(201).json();
        assert_eq!((&converted["kind"], &converted["data"]), (&json!("regular"), &json!({"g": 1})));
        is_dead(&app, &guest).await;
        // by a link that the answer has, or that is mailed
        let link_of = json!({"client_id": "demo-spa", "state": {"welcome": true}, "redirect_uri": "http://localhost:8080/"});
        let made = by_root(&app, "POST", &format!("/v1/users/{}/password-link", guest.id)).json(&link_of).send().await.expect(201).json();
        let token = token(made["url"].as_str().unwrap());
        assert!(made["expires_at"].is_string());
        let form = [("token", token.as_str()), ("password", NEW), ("again", NEW)];
        let done = submit(&app, "/ui/password", &form).send().await;
        assert_eq!(done.expect(303).header("location"), "http://localhost:8080/?state=%7B%22welcome%22%3Atrue%7D");
        assert_eq!(enter(&app, "guest@example.com", NEW).send().await.expect(200).json()["user"]["id"], json!(guest.id));
        app.advance(Duration::from_millis(1));
        let sent = json!({"client_id": "demo-spa", "send": true});
        let made = by_root(&app, "POST", &format!("/v1/users/{}/password-link", guest.id)).json(&sent).send().await.expect(201).json();
        assert!(made.get("url").is_none());
        assert!(link(&app, "guest@example.com").await.starts_with("/ui/password?token="));
        by_root(&app, "POST", "/v1/users/nobody/password-link").json(&sent).send().await.refused(404, "not_found");
        by_root(&app, "POST", &format!("/v1/users/{}/password-link", guest.id)).json(&json!({})).send().await.refused(400, "invalid_request");
    }

    async fn a_guest_stays_beside_a_sign_in_without_a_merge(engine) {
        let app = TestApp::new(engine).await;
        account(&app, ADA, &json!({"a": 1})).await;
        let guest = guest_with(&app, &json!({"g": 1})).await;
        let by_token = json!({"method": "password", "email": ADA, "password": PASSWORD, "session_token": guest.session_token});
        let entered = sign_in(&app, by_token).send().await.expect(200).json();
        assert!(entered["merge_ticket"].is_string() && entered["preview"]["data"] == json!({"a": 1, "g": 1}));
        assert_eq!(me(&app, &guest.access).await["data"], json!({"g": 1}));
        // a broken credential is told, and signs nobody in
        let broken = json!({"method": "password", "email": ADA, "password": PASSWORD, "session_token": "x"});
        sign_in(&app, broken).send().await.refused(401, "invalid_session_token");
        // a guest in a cookie: another site can do nothing
        let made = app.post("/v1/guests", &json!({"client_id": "demo-spa", "session_type": "cookie"})).send().await;
        let cookie = made.expect(201).cookies()["passerby_session"].clone();
        let enter = || enter(&app, ADA, PASSWORD).cookie(&cookie);
        enter().header("origin", "https://evil.example").send().await.expect(403);
        let entered = enter().header("origin", OWN).send().await;
        let entered = entered.status.is_success().then(|| entered.json());
        if let Some(entered) = entered {
            assert!(entered["merge_ticket"].is_string());
        }
        let registered = enter().header("origin", "http://localhost:8080").send().await.expect(200).json();
        assert!(registered["merge_ticket"].is_string());
    }
}
