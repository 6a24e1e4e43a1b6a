//! Ends of sessions and tokens, the clock, marks (domain.md "Sessions and lifetimes", "No resurrection").

use std::time::Duration;

use serde_json::json;

use crate::{
    app::{TestApp, claims},
    on_both,
};

const DAY: Duration = Duration::from_hours(24);

fn short(text: String) -> String {
    text.replace("idle_timeout = \"30d\"", "idle_timeout = \"10d\"")
        .replace("lifetime     = \"365d\"", "lifetime = \"30d\"")
}

on_both! {
    async fn line_16_idle_and_absolute_lifetimes_both_hold(engine) {
        let app = TestApp::with(engine, short).await;
        let guest = app.guest().await;
        let mut refresh = guest.refresh.clone();
        // used every nine days it lives on, but not past thirty
        for _ in 0..3 {
            app.advance(9 * DAY);
            let body = app.post("/v1/refresh", &json!({"client_id": "demo-spa", "refresh_token": refresh})).send().await.expect(200).json();
            refresh = body["refresh_token"].as_str().unwrap().to_owned();
            assert_eq!(body["session"]["expires_at"], "2026-12-21T00:00:00.000Z");
        }
        app.advance(3 * DAY);
        app.post("/v1/refresh", &json!({"client_id": "demo-spa", "refresh_token": refresh})).send().await.refused(401, "session_ended");
        // unused for ten days another one ends
        let idle = app.guest().await;
        app.advance(10 * DAY);
        app.post("/v1/refresh", &json!({"client_id": "demo-spa", "refresh_token": idle.refresh})).send().await.refused(401, "session_ended");
    }

    async fn a_changed_setting_holds_for_sessions_that_exist(engine) {
        let app = TestApp::new(engine).await;
        let guest = app.guest().await;
        app.advance(20 * DAY);
        let app = app.with_config(short).restart().await;
        app.post("/v1/refresh", &json!({"client_id": "demo-spa", "refresh_token": guest.refresh})).send().await.refused(401, "session_ended");
    }

    async fn an_access_token_ends_and_never_outlives_its_session(engine) {
        let app = TestApp::with(engine, |t| t.replace("idle_timeout = \"30d\"", "idle_timeout = \"10m\"")).await;
        let guest = app.guest().await;
        assert_eq!(guest.body["expires_in"], 600, "fifteen minutes, but the session idles out after ten");
        app.advance(Duration::from_secs(601));
        let refused = app.get("/v1/me").bearer(&guest.access).send().await;
        refused.refused(401, "token_expired");
        assert!(refused.header("www-authenticate").starts_with("Bearer"), "{}", refused.header("www-authenticate"));
    }

    async fn use_extends_idle_time_in_steps_and_in_batches(engine) {
        let app = TestApp::with(engine, |t| t.replace("idle_timeout = \"30d\"", "idle_timeout = \"10m\"")).await;
        let guest = app.guest().await;
        for _ in 0..4 {
            app.advance(Duration::from_secs(200));
            app.get("/v1/me").bearer(&guest.access).send().await.expect(200);
            app.core.run_jobs().await;
            if claims(&guest.access)["exp"].as_i64().unwrap() <= crate::app::START + 800 { break; }
        }
        let body = app.post("/v1/refresh", &json!({"client_id": "demo-spa", "refresh_token": guest.refresh})).send().await.expect(200).json();
        assert_ne!(body["user"]["last_active_at"], guest.body["user"]["last_active_at"]);
    }

    async fn line_19_logout_and_erase_end_every_credential(engine) {
        let app = TestApp::new(engine).await;
        for (method, path) in [("POST", "/v1/logout"), ("DELETE", "/v1/me")] {
            for client in ["demo-spa", "demo-game"] {
                let guest = app.guest_of(client).await;
                app.call(method, path).json(&json!({})).bearer(&guest.access).send().await.expect(204);
                app.get("/v1/me").bearer(&guest.access).send().await.refused(401, "session_ended");
                app.post("/v1/guests", &json!({"client_id": client, "session_token": guest.session_token})).send().await.expect(401);
                app.call("PATCH", "/v1/me/data").bearer(&guest.access).raw(b"{}".to_vec(), "application/merge-patch+json").send().await.expect(401);
                let again = app.post("/anonymous/token", &json!({"client_id": client, "session_token": guest.session_token})).send().await;
                assert_eq!(again.expect(400).json()["error"], "invalid_session_token");
                let revived = app.post("/v1/guests", &json!({"client_id": client, "session_token": guest.session_token, "persist": true})).send().await;
                revived.expect(401);
            }
        }
        // logged out: the row stays (its things are somebody's who may come back by another way); erased: gone
        assert_eq!(app.users().await, 1);
    }

    async fn an_erased_floating_guest_never_comes_back_from_any_of_its_tokens(engine) {
        let app = TestApp::new(engine).await;
        let guest = app.guest_of("demo-game").await;
        let again = app.post("/v1/guests", &json!({"client_id": "demo-game", "session_token": guest.session_token})).send().await.expect(200).json();
        app.call("DELETE", "/v1/me").bearer(&guest.access).send().await.expect(204);
        app.advance(200 * DAY);
        app.core.run_jobs().await;
        for token in [&guest.session_token, &again["session_token"].as_str().unwrap().to_owned()] {
            app.post("/v1/guests", &json!({"client_id": "demo-game", "session_token": token})).send().await.expect(401);
        }
        assert_eq!(app.users().await, 0);
        // once no floating token of it can live, the mark is swept
        app.advance(300 * DAY);
        app.core.run_jobs().await;
        app.post("/v1/guests", &json!({"client_id": "demo-game", "session_token": guest.session_token})).send().await.expect(401);
    }

    async fn line_19_a_floating_session_that_was_stored_and_ended_stays_ended(engine) {
        let app = TestApp::new(engine).await;
        let web = |extra: serde_json::Value| {
            let mut body = json!({"client_id": "demo-web", "client_secret": "demo-web-secret-0123456789abcdef"});
            body.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
            app.post("/v1/guests", &body)
        };
        for how in ["logout", "session", "revoke"] {
            let id = format!("victim-{how}");
            let old = crate::app::Guest::of(&web(json!({"user_id": id})).send().await.expect(201).json());
            assert_eq!(old.body["user"]["stored"], false);
            app.call("PATCH", "/v1/me/data").bearer(&old.access).raw(br#"{"a":1}"#.to_vec(), "application/merge-patch+json").send().await.expect(200);
            let stored = web(json!({"session_token": old.session_token})).send().await.expect(200).json();
            match how {
                "logout" => app.post("/v1/logout", &json!({})).bearer(&old.access).send().await.expect(204).status,
                "session" => app.call("DELETE", &format!("/v1/me/sessions/{}", old.session)).bearer(&old.access).send().await.expect(204).status,
                _ => app.call("POST", "/oauth2/revoke").basic("demo-web", "demo-web-secret-0123456789abcdef")
                    .form(&[("token", stored["refresh_token"].as_str().unwrap())]).send().await.expect(200).status,
            };
            // a day later the row of the ended session goes, when the client opens another
            app.advance(Duration::from_hours(25));
            web(json!({"user_id": id, "persist": true})).send().await.expect(200);
            web(json!({"session_token": old.session_token})).send().await.expect(401);
            web(json!({"session_token": old.session_token, "persist": true})).send().await.expect(401);
        }
    }

    async fn a_long_stop_costs_a_day_of_sweeping_once(engine) {
        let trusted = |app: &TestApp| app.core.counts().clock_distrusted.load(std::sync::atomic::Ordering::Relaxed) == 0;
        let app = TestApp::new(engine).await;
        app.core.run_jobs().await;
        assert!(trusted(&app));
        app.advance(3 * DAY);
        let app = app.restart().await;
        app.core.run_jobs().await;
        assert!(!trusted(&app), "a long stop, or a clock that jumped");
        app.advance(Duration::from_hours(2));
        app.core.run_jobs().await;
        assert!(!trusted(&app));
        // the clock kept step for an hour: a restart does not begin the wait anew
        let app = app.restart().await;
        app.core.run_jobs().await;
        assert!(trusted(&app));
    }

    async fn line_13_a_changed_algorithm_is_published_before_it_signs(engine) {
        let app = TestApp::new(engine).await;
        let old = app.guest().await;
        let app = app.with_config(|t| t.replace("signing_algorithm     = \"ES256\"", "signing_algorithm = \"EdDSA\"")).restart().await;
        let algorithms = |v: &serde_json::Value| v["keys"].as_array().unwrap().iter().map(|k| k["alg"].as_str().unwrap().to_owned()).collect::<Vec<_>>();
        assert!(algorithms(&app.get("/.well-known/jwks.json").send().await.json()).contains(&"EdDSA".to_owned()));
        assert_eq!(crate::app::head(&app.guest().await.access)["alg"], "ES256");
        app.advance(Duration::from_hours(2));
        assert_eq!(crate::app::head(&app.guest().await.access)["alg"], "EdDSA");
        // back again: a new key, not the old one
        let app = app.with_config(|t| t.replace("signing_algorithm = \"EdDSA\"", "signing_algorithm = \"ES256\"")).restart().await;
        app.advance(Duration::from_hours(2));
        let new = app.guest().await;
        assert_eq!(crate::app::head(&new.access)["alg"], "ES256");
        assert_ne!(crate::app::head(&new.access)["kid"], crate::app::head(&old.access)["kid"]);
    }

    async fn another_session_that_stored_the_id_first_refuses_the_token(engine) {
        let app = TestApp::new(engine).await;
        let body = json!({"client_id": "demo-spa", "user_id": "shared", "persist": false});
        let first = crate::app::Guest::of(&app.post("/v1/guests", &body).send().await.expect(201).json());
        let second = crate::app::Guest::of(&app.post("/v1/guests", &body).send().await.expect(201).json());
        app.call("PATCH", "/v1/me/data").bearer(&second.access).raw(br#"{"mine":1}"#.to_vec(), "application/merge-patch+json").send().await.expect(200);
        app.get("/v1/me").bearer(&first.access).send().await.refused(401, "session_ended");
        app.call("PATCH", "/v1/me/data").bearer(&first.access).raw(br#"{"mine":2}"#.to_vec(), "application/merge-patch+json").send().await.refused(401, "session_ended");
        app.get("/v1/me").bearer(&second.access).send().await.expect(200);
    }

    async fn a_clock_that_jumps_loses_nothing(engine) {
        let app = TestApp::new(engine).await;
        let stored = app.guest().await;
        let floating = app.guest_of("demo-game").await;
        let erased = app.guest_of("demo-game").await;
        app.call("DELETE", "/v1/me").bearer(&erased.access).send().await.expect(204);
        // back: nothing from the future is made, no session is lost
        app.clock.jump(-3_600_000 * 5);
        app.get("/v1/me").bearer(&stored.access).send().await.expect(200);
        let early = app.guest().await;
        let token = claims(&early.access);
        assert!(token["iat"].as_i64().unwrap() < crate::app::START);
        app.post("/v1/refresh", &json!({"client_id": "demo-spa", "refresh_token": stored.refresh})).send().await.expect(200);
        app.clock.jump(3_600_000 * 5);
        // a year ahead, for long enough that every job runs
        let year = 400 * 86_400_000;
        app.clock.jump(year);
        for _ in 0..10 {
            app.core.run_jobs().await;
            app.advance(Duration::from_mins(1));
        }
        assert_eq!(app.core.counts().clock_distrusted.load(std::sync::atomic::Ordering::Relaxed), 1);
        app.get("/v1/me").bearer(&stored.access).send().await.expect(401);
        app.clock.jump(-year);
        app.core.run_jobs().await;
        app.post("/v1/guests", &json!({"client_id": "demo-spa", "session_token": early.session_token})).send().await.expect(200);
        app.post("/v1/guests", &json!({"client_id": "demo-spa", "session_token": stored.session_token})).send().await.expect(200);
        app.post("/v1/guests", &json!({"client_id": "demo-game", "session_token": floating.session_token})).send().await.expect(200);
        app.post("/v1/guests", &json!({"client_id": "demo-game", "session_token": erased.session_token})).send().await.expect(401);
    }

    async fn line_13_keys_rotate_without_losing_a_token(engine) {
        let app = TestApp::new(engine).await;
        let guest = app.guest().await;
        let tenant = app.core.settings().tenants[0].no;
        app.core.run_jobs().await;
        let kids = |v: &serde_json::Value| v["keys"].as_array().unwrap().iter().map(|k| k["kid"].as_str().unwrap().to_owned()).collect::<Vec<_>>();
        let old = crate::app::head(&guest.access)["kid"].as_str().unwrap().to_owned();
        app.core.rotate_signing_key(tenant, false).await.unwrap();
        let set = app.get("/.well-known/jwks.json").send().await.expect(200).json();
        assert_eq!(kids(&set).len(), 3, "old, next and the declared one: {set}");
        assert!(set.to_string().find("\"d\"").is_none());
        // published, not yet in use
        assert_eq!(crate::app::head(&app.guest().await.access)["kid"], json!(old));
        app.advance(Duration::from_hours(2));
        app.core.run_jobs().await;
        let later = app.guest().await;
        assert_ne!(crate::app::head(&later.access)["kid"], json!(old));
        // a token of the old key, made just before, still counts; then the key goes
        app.core.rotate_signing_key(tenant, true).await.unwrap();
        app.get("/v1/me").bearer(&later.access).send().await.expect(200);
        app.advance(2 * DAY);
        app.core.run_jobs().await;
        let set = app.get("/.well-known/jwks.json").send().await.expect(200).json();
        assert!(!kids(&set).contains(&old));
        assert_eq!(kids(&set).len(), 2);
        app.get("/v1/me").bearer(&guest.access).send().await.expect(401);
        app.post("/v1/refresh", &json!({"client_id": "demo-spa", "refresh_token": guest.refresh})).send().await.expect(200);
        // by schedule
        app.advance(90 * DAY);
        app.core.run_jobs().await;
        assert_eq!(kids(&app.get("/.well-known/jwks.json").send().await.expect(200).json()).len(), 3);
    }
}
