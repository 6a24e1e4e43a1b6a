//! Links in messages: looking at one spends nothing, a person's POST does, once; it signs in the device that began, and
//! its address is the server's own (security checklist 9, 10, 39 and 40).

use std::time::Duration;

use serde_json::json;

use crate::{
    accounts::{self, OWN, PASSWORD, ROOT, account, code, enter, guest_with, letters, link, submit, token, verify},
    app::{Guest, TestApp},
    loot::written,
    on_both,
};

const HERS: &str = "her@example.com";
const ANEW: &str = "a password set by a link";

async fn claim(app: &TestApp, guest: &Guest) -> String {
    app.advance(Duration::from_millis(10));
    accounts::claim(app, guest, &json!({"email": HERS})).await
}

async fn begin(app: &TestApp, client: &str, method: &str) -> String {
    app.advance(Duration::from_millis(10));
    let body = json!({"client_id": client, "method": method, "email": HERS});
    let answer = app.post("/v1/sign-in", &body).send().await;
    answer.expect(202).json()["claim"]["id"].as_str().unwrap().to_owned()
}

async fn finish(app: &TestApp, client: &str, claim: &str) -> crate::app::Answer {
    app.post("/v1/sign-in", &json!({"client_id": client, "method": "link", "claim": claim})).send().await
}

async fn forgot(app: &TestApp) -> String {
    app.advance(Duration::from_millis(10));
    app.post("/v1/password/forgot", &json!({"client_id": "demo-spa", "email": HERS})).send().await.expect(202);
    link(app, HERS).await
}

fn press(app: &TestApp, link: &str, action: &str) -> crate::app::Call {
    submit(app, "/ui/link", &[("token", &token(link)), ("action", action)])
}

on_both! {
    async fn line_39_a_scanner_spends_nothing(engine) {
        let app = TestApp::new(engine).await;
        account(&app, HERS, &json!({})).await;
        let guest = guest_with(&app, &json!({})).await;
        claim(&app, &guest).await;
        let claimed = link(&app, HERS).await;
        begin(&app, "demo-spa", "code").await;
        let signing = link(&app, HERS).await;
        let setting = forgot(&app).await;
        let before = written(&app).await;
        for link in [&claimed, &signing, &setting] {
            for _ in 0..3 {
                for method in ["GET", "HEAD", "OPTIONS"] {
                    for plain in [true, false] {
                        let mut call = app.call(method, link);
                        if plain { call = call.header("sec-purpose", "prefetch;prerender").header("user-agent", "Mail scanner"); }
                        let answer = call.send().await;
                        assert!(!answer.status.is_server_error() && answer.header("set-cookie").is_empty(), "{method} {link}");
                        if method == "GET" {
                            answer.expect(200);
                            assert!(answer.header("cache-control").contains("no-store"));
                            assert!(["strict-origin", "no-referrer"].contains(&answer.header("referrer-policy")), "the token stays here");
                        }
                    }
                }
            }
            // what posts without being our page is none either
            let path = link.split('?').next().unwrap();
            let token = token(link);
            let pairs = [("token", token.as_str()), ("action", "confirm"), ("password", ANEW), ("again", ANEW)];
            app.call("POST", link).send().await;
            app.call("POST", path).form(&pairs).send().await.expect(403);
            app.call("POST", path).header("origin", "https://evil.example").form(&pairs).send().await.expect(403);
            app.call("POST", path).header("origin", "null").form(&pairs).send().await.expect(403);
            app.call("POST", path).header("sec-fetch-site", "cross-site").form(&pairs).send().await.expect(403);
            app.call("POST", path).header("origin", OWN).json(&json!({"token": token, "action": "confirm"})).send().await.expect(415);
        }
        assert_eq!(written(&app).await, before);
        for link in [&claimed, &signing] { press(&app, link, "confirm").send().await.expect(200); }
        submit(&app, "/ui/password", &[("token", &token(&setting)), ("password", ANEW), ("again", ANEW)]).send().await.expect(200);
        enter(&app, HERS, ANEW).send().await.expect(200);
    }

    async fn line_39_a_link_works_once(engine) {
        let app = TestApp::new(engine).await;
        let owner = account(&app, HERS, &json!({})).await;
        let guest = guest_with(&app, &json!({})).await;
        claim(&app, &guest).await;
        let claimed = link(&app, HERS).await;
        begin(&app, "demo-spa", "code").await;
        let signing = link(&app, HERS).await;
        for link in [&claimed, &signing] {
            press(&app, link, "confirm").send().await.expect(200);
            let before = written(&app).await;
            for action in ["confirm", "here", "confirm"] {
                press(&app, link, action).send().await.expect(400);
            }
            app.get(link).send().await.expect(400);
            assert_eq!(written(&app).await, before);
        }
        // eight at once, in two processes
        let other = app.replica().await;
        begin(&app, "demo-spa", "code").await;
        let signing = link(&app, HERS).await;
        let places = [&app, &other];
        let calls: Vec<_> = (0..8).map(|n| tokio::spawn(press(places[n % 2], &signing, "here").send())).collect();
        let mut cookies = 0;
        for call in calls {
            let answer = call.await.unwrap();
            if answer.cookies().contains_key("passerby_session") { answer.expect(200); cookies += 1; } else { answer.expect(400); }
        }
        assert_eq!(cookies, 1);
        let setting = token(&forgot(&app).await);
        let set = |place: &TestApp, n: usize| place.post("/v1/password/reset", &json!({"token": setting, "password": format!("{ANEW} {n}")})).send();
        let calls: Vec<_> = (0..8).map(|n| tokio::spawn(set(places[n % 2], n))).collect();
        let mut done = Vec::new();
        for (n, call) in calls.into_iter().enumerate() {
            let answer = call.await.unwrap();
            if answer.status == 204 { done.push(n); } else { answer.refused(400, "invalid_code"); }
        }
        assert_eq!(done.len(), 1, "{done:?}");
        assert_eq!(enter(&app, HERS, &format!("{ANEW} {}", done[0])).send().await.expect(200).json()["user"]["id"], json!(owner.id));
    }

    async fn line_39_opened_elsewhere_it_signs_in_who_began(engine) {
        let app = TestApp::new(engine).await;
        let owner = account(&app, HERS, &json!({})).await;
        // the second browser has a guest of its own, which stays what it is
        let page = app.post("/v1/guests", &json!({"client_id": "demo-spa", "session_type": "cookie"})).send().await;
        let elsewhere = page.cookies()["passerby_session"].clone();
        let flow = begin(&app, "demo-spa", "code").await;
        let mail = link(&app, HERS).await;
        finish(&app, "demo-spa", &flow).await.refused(409, "claim_pending");
        let shown = app.get(&mail).cookie(&elsewhere).send().await;
        assert!(shown.expect(200).text().contains("example.com") && !shown.text().contains(HERS), "the address is hidden");
        let done = press(&app, &mail, "confirm").cookie(&elsewhere).send().await;
        assert!(done.expect(200).header("set-cookie").is_empty(), "nobody is signed in here");
        let still = app.get("/v1/me").cookie(&elsewhere).send().await.expect(200).json();
        assert_eq!((&still["id"], &still["kind"]), (&page.json()["user"]["id"], &json!("anonymous")));
        // who has the mail but not the flow has nothing; who began is in, once
        finish(&app, "demo-native", &flow).await.refused(404, "not_found");
        let begun = finish(&app, "demo-spa", &flow).await.expect(200).json();
        assert_eq!(begun["user"]["id"], json!(owner.id));
        finish(&app, "demo-spa", &flow).await.refused(404, "not_found");
        // here, when the person says so: then who began has nothing
        let flow = begin(&app, "demo-spa", "link").await;
        let mail = link(&app, HERS).await;
        let done = press(&app, &mail, "here").send().await;
        let cookie = done.expect(200).cookies()["passerby_session"].clone();
        let me = app.get("/v1/me").cookie(&cookie).send().await.expect(200).json();
        assert_eq!((&me["id"], &me["kind"]), (&json!(owner.id), &json!("regular")));
        finish(&app, "demo-spa", &flow).await.refused(404, "not_found");
        // a claim's link signs nobody in, there or here
        let guest = guest_with(&app, &json!({})).await;
        claim(&app, &guest).await;
        let mail = link(&app, HERS).await;
        let before = written(&app).await;
        let done = press(&app, &mail, "here").send().await;
        assert!(done.expect(400).header("set-cookie").is_empty());
        press(&app, &mail, "").send().await.expect(400);
        assert_eq!(written(&app).await, before);
    }

    async fn line_39_a_superseded_or_old_link_is_dead(engine) {
        let app = TestApp::new(engine).await;
        account(&app, HERS, &json!({})).await;
        let guest = guest_with(&app, &json!({})).await;
        claim(&app, &guest).await;
        let first = link(&app, HERS).await;
        let second = claim(&app, &guest).await;
        let newer = link(&app, HERS).await;
        begin(&app, "demo-spa", "code").await;
        let first_flow = link(&app, HERS).await;
        begin(&app, "demo-spa", "link").await;
        let newer_flow = link(&app, HERS).await;
        let first_reset = forgot(&app).await;
        let newer_reset = forgot(&app).await;
        for dead in [&first, &first_flow, &first_reset] {
            app.get(dead).send().await.expect(400);
            press(&app, dead, "confirm").send().await.expect(400);
        }
        // an hour, to the second
        app.advance(Duration::from_secs(3590));
        for alive in [&newer, &newer_flow, &newer_reset] { app.get(alive).send().await.expect(200); }
        app.advance(Duration::from_secs(11));
        for dead in [&newer, &newer_flow, &newer_reset] { app.get(dead).send().await.expect(400); }
        press(&app, &newer, "confirm").send().await.expect(400);
        press(&app, &newer_flow, "here").send().await.expect(400);
        app.post("/v1/password/reset", &json!({"token": token(&newer_reset), "password": ANEW})).send().await.refused(400, "invalid_code");
        enter(&app, HERS, PASSWORD).send().await.expect(200);
        // the session's end is the claim's
        let guest = guest_with(&app, &json!({})).await;
        let id = claim(&app, &guest).await;
        let mail = link(&app, HERS).await;
        app.call("POST", "/v1/me/recovery-code").bearer(&guest.access).send().await.expect(201);
        app.call("DELETE", "/v1/me/sessions").bearer(&guest.access).send().await.expect(204);
        press(&app, &mail, "confirm").send().await.expect(400);
        verify(&app, &guest, &id, &json!({})).send().await.expect(401);
        assert_ne!(second, id);
    }

    async fn line_09_a_links_token_is_for_its_purpose_and_tenant(engine) {
        let app = TestApp::with(engine, |text| {
            format!("{text}\n[[tenants]]\nid = \"33333333-3333-4333-8333-333333333333\"\nname = \"other\"\n\
                     [[tenants.clients]]\nid = \"other-spa\"\nname = \"Other\"\ntype = \"spa\"\n")
        }).await;
        account(&app, HERS, &json!({})).await;
        let guest = guest_with(&app, &json!({})).await;
        claim(&app, &guest).await;
        let claimed = token(&link(&app, HERS).await);
        begin(&app, "demo-spa", "code").await;
        let signing = token(&link(&app, HERS).await);
        let setting = token(&forgot(&app).await);
        let before = written(&app).await;
        let other = "/t/33333333-3333-4333-8333-333333333333";
        let letters = ["c", "s", "p"];
        for (own, token) in [("c", &claimed), ("s", &signing), ("p", &setting)] {
            let (letter, rest) = token.split_once('.').unwrap();
            assert_eq!(letter, own);
            // a purpose that is written over it, a place, a flow or a secret of another
            for swapped in letters.into_iter().filter(|l| *l != own) {
                let forged = format!("{swapped}.{rest}");
                for path in ["/ui/link", "/ui/password"] {
                    app.get(&format!("{path}?token={forged}")).send().await.expect(400);
                    for action in ["confirm", "here"] {
                        submit(&app, path, &[("token", &forged), ("action", action), ("password", ANEW), ("again", ANEW)]).send().await.expect(400);
                    }
                }
                app.post("/v1/password/reset", &json!({"token": forged, "password": ANEW})).send().await.refused(400, "invalid_code");
            }
            let bytes = passerby_jose::b64::decode(rest).unwrap();
            for (_, foreign) in [("c", &claimed), ("s", &signing), ("p", &setting)].into_iter().filter(|(l, _)| *l != own) {
                let theirs = passerby_jose::b64::decode(foreign.split_once('.').unwrap().1).unwrap();
                for part in 0..3 {
                    let mut mixed = bytes.clone();
                    mixed[16 * part..16 * (part + 1)].copy_from_slice(&theirs[16 * part..16 * (part + 1)]);
                    let forged = format!("{own}.{}", passerby_jose::b64::encode(&mixed));
                    submit(&app, "/ui/link", &[("token", &forged), ("action", "confirm")]).send().await.expect(400);
                    app.post("/v1/password/reset", &json!({"token": forged, "password": ANEW})).send().await.refused(400, "invalid_code");
                }
            }
            // at another tenant's address it is none
            for path in ["/ui/link", "/ui/password"] {
                app.get(&format!("{other}{path}?token={token}")).send().await.expect(400);
                submit(&app, &format!("{other}{path}"), &[("token", token), ("action", "confirm"), ("password", ANEW), ("again", ANEW)]).send().await.expect(400);
            }
            app.post(&format!("{other}/v1/password/reset"), &json!({"token": token, "password": ANEW})).send().await.refused(400, "invalid_code");
        }
        // neither confirms the other's kind of page
        app.post("/v1/password/reset", &json!({"token": signing, "password": ANEW})).send().await.refused(400, "invalid_code");
        submit(&app, "/ui/link", &[("token", &setting), ("action", "confirm")]).send().await.expect(400);
        submit(&app, "/ui/password", &[("token", &claimed), ("password", ANEW), ("again", ANEW)]).send().await.expect(400);
        assert_eq!(written(&app).await, before);
        enter(&app, HERS, ANEW).send().await.refused(401, "invalid_credentials");
    }

    async fn line_40_no_message_takes_its_host_from_a_request(engine) {
        let app = TestApp::new(engine).await;
        let owner = account(&app, HERS, &json!({})).await;
        let guest = guest_with(&app, &json!({})).await;
        let hostile = [("host", "evil.example"), ("host", "evil.example:9011"), ("host", "localhost:9011@evil.example"), ("x-forwarded-host", "evil.example"), ("forwarded", "host=evil.example;proto=http"), ("x-original-url", "http://evil.example/"), ("x-forwarded-proto", "gopher"), ("origin", "http://localhost:8080"), ("x-host", "evil.example")];
        for (name, value) in hostile {
            let calls = [
                app.post("/v1/me/identifiers", &json!({"email": HERS})).bearer(&guest.access),
                app.post("/v1/sign-in", &json!({"client_id": "demo-spa", "method": "code", "email": HERS})),
                app.post("/v1/sign-in", &json!({"client_id": "demo-spa", "method": "link", "email": HERS})),
                app.post("/v1/password/forgot", &json!({"client_id": "demo-spa", "email": HERS})),
                app.post(&format!("/v1/users/{}/password-link", owner.id), &json!({"client_id": "demo-spa", "send": true})).bearer(ROOT),
            ];
            for call in calls {
                let answer = call.header(name, value).send().await;
                assert!(answer.status.is_success() || answer.status == 404 || answer.status == 400, "{name} {}", answer.text());
                assert!(!answer.text().contains("evil"), "{}", answer.text());
            }
        }
        let all = letters(&app, HERS).await;
        assert!(all.iter().filter(|l| l.link.is_some()).count() >= 20, "{}", all.len());
        for letter in all {
            let said = format!("{:?} {:?}", letter.wording, letter.link);
            assert!(!said.contains("evil") && !said.contains("gopher"), "{said}");
            assert!(letter.link.is_none_or(|l| l.starts_with("http://localhost:9011/ui/")));
        }
    }

    async fn line_40_redirect_targets_match_to_the_letter(engine) {
        let app = TestApp::new(engine).await;
        account(&app, HERS, &json!({})).await;
        let guest = guest_with(&app, &json!({})).await;
        let good = "http://localhost:8080/callback";
        let before = written(&app).await;
        for bad in [
            "javascript:alert(1)", "JavaScript:alert(1)//http://localhost:8080/callback", "data:text/html,x", "//evil.example", "//localhost:8080/callback", "/callback", "callback", "",
            "http://localhost:8080/callback/", "http://localhost:8080/callback?x=1", "http://localhost:8080/callback#x", "http://localhost:8080/callbackx", "http://localhost:8080/callback/../",
            "http://localhost:8081/callback", "http://localhost/callback", "https://localhost:8080/callback", "http://LOCALHOST:8080/callback", "http://localhost:8080/Callback", "http://localhost:8080//callback",
            "http://localhost:8080/callback%00", "http://localhost:8080/%63allback", " http://localhost:8080/callback", "http://localhost:8080/callback ", "http://localhost:8080/callback\r\nx: y",
            "http://localhost:8080@evil.example/callback", "http://evil.example/http://localhost:8080/callback", "http://localhost:8080.evil.example/callback", "http://localhost:8080\\@evil.example/callback",
            "http://127.0.0.1:8080/callback", "com.example.app://host/path", "http://localhost:8080",
        ] {
            let calls = [
                app.post("/v1/me/identifiers", &json!({"email": HERS, "redirect_uri": bad})).bearer(&guest.access),
                app.post("/v1/sign-in", &json!({"client_id": "demo-spa", "method": "code", "email": HERS, "redirect_uri": bad})),
                app.post("/v1/password/forgot", &json!({"client_id": "demo-spa", "email": HERS, "redirect_uri": bad})),
            ];
            for call in calls {
                assert_eq!(call.send().await.refused(400, "invalid_value")["field"], "/redirect_uri", "{bad}");
            }
        }
        assert_eq!(written(&app).await, before, "and nothing was sent");
        // a good one is where the pages lead, with the state as the application gave it
        app.advance(Duration::from_millis(10));
        app.post("/v1/sign-in", &json!({"client_id": "demo-spa", "method": "code", "email": HERS, "redirect_uri": good})).send().await.expect(202);
        let done = press(&app, &link(&app, HERS).await, "confirm").send().await;
        assert!(done.status.is_redirection() || done.status == 200, "{}", done.text());
        let leads_to = if done.status.is_redirection() { done.header("location").to_owned() } else { done.text() };
        assert!(leads_to.contains(good), "{leads_to}");
        // what the form says is not asked
        begin(&app, "demo-spa", "code").await;
        let mail = link(&app, HERS).await;
        let pairs = [("token", token(&mail)), ("action", "confirm".to_owned()), ("redirect_uri", "http://evil.example".to_owned()), ("return_to", "//evil.example".to_owned())];
        let pairs: Vec<(&str, &str)> = pairs.iter().map(|(n, v)| (*n, v.as_str())).collect();
        let done = submit(&app, "/ui/link", &pairs).send().await;
        assert!(!done.text().contains("evil.example") && !done.header("location").contains("evil"), "{}", done.text());
        let hostile = json!({"client_id": "demo-spa", "email": HERS, "state": {"a": "<script>\"'"}, "redirect_uri": good});
        app.advance(Duration::from_millis(10));
        app.post("/v1/password/forgot", &hostile).send().await.expect(202);
        let page = app.get(&link(&app, HERS).await).send().await;
        assert!(!page.expect(200).text().contains("<script>\""), "{}", page.text());
    }

    async fn line_39_a_code_is_not_spent_by_its_link(engine) {
        let app = TestApp::new(engine).await;
        let guest = guest_with(&app, &json!({})).await;
        let id = claim(&app, &guest).await;
        let (sent, mail) = (code(&app, HERS).await, link(&app, HERS).await);
        press(&app, &mail, "confirm").send().await.expect(200);
        // one proof is one proof: who confirmed may go on by either, once
        verify(&app, &guest, &id, &json!({"code": sent})).send().await.expect(200);
        press(&app, &mail, "confirm").send().await.expect(400);
        verify(&app, &guest, &id, &json!({})).send().await.refused(409, "guest_converted");
    }
}
