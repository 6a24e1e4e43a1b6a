//! Rotation, forgiveness, reuse (domain.md "Sessions and lifetimes"; security checklist 14, 15, 17).

use std::time::Duration;

use serde_json::{Value, json};

use crate::{
    app::{Answer, Guest, TestApp},
    on_both,
};

async fn refresh(app: &TestApp, token: &str) -> Answer {
    app.post("/v1/refresh", &json!({"client_id": "demo-spa", "refresh_token": token})).send().await
}

fn token(answer: &Answer) -> String {
    answer.expect(200).json()["refresh_token"].as_str().unwrap().to_owned()
}

on_both! {
    async fn a_refresh_rotates_and_old_tokens_are_forgiven_for_ten_seconds(engine) {
        let app = TestApp::new(engine).await;
        let t0 = app.guest().await.refresh;
        let t1 = token(&refresh(&app, &t0).await);
        let t2 = token(&refresh(&app, &t1).await);
        assert!(t0 != t1 && t1 != t2);
        // tabs: the last three yield the newest itself
        app.advance(Duration::from_secs(9));
        assert_eq!(token(&refresh(&app, &t1).await), t2);
        assert_eq!(token(&refresh(&app, &t0).await), t2);
        let t3 = token(&refresh(&app, &t2).await);
        assert_ne!(t3, t2);
    }

    async fn line_15_a_lost_answer_is_given_again_but_not_for_two_generations_running(engine) {
        let app = TestApp::new(engine).await;
        let t0 = app.guest().await.refresh;
        let t1 = token(&refresh(&app, &t0).await);
        app.advance(Duration::from_mins(10));
        assert_eq!(token(&refresh(&app, &t0).await), t1, "the same successor");
        app.advance(Duration::from_mins(10));
        assert_eq!(token(&refresh(&app, &t0).await), t1, "and again, while it is unused");
        let t2 = token(&refresh(&app, &t1).await);
        app.advance(Duration::from_mins(10));
        let refused = refresh(&app, &t1).await;
        refused.refused(401, "session_ended");
        refresh(&app, &t2).await.refused(401, "session_ended");
    }

    async fn line_15_reuse_after_the_window_ends_the_session(engine) {
        let app = TestApp::new(engine).await;
        let guest = app.guest().await;
        let t1 = token(&refresh(&app, &guest.refresh).await);
        let t2 = token(&refresh(&app, &t1).await);
        app.advance(Duration::from_secs(11));
        refresh(&app, &guest.refresh).await.refused(401, "session_ended");
        refresh(&app, &t2).await.refused(401, "session_ended");
        app.get("/v1/me").bearer(&guest.access).send().await.refused(401, "session_ended");
        assert_eq!(app.core.counts().reused.load(std::sync::atomic::Ordering::Relaxed), 1);
    }

    async fn line_14_parallel_uses_of_one_token_give_one_lineage(engine) {
        let app = TestApp::new(engine).await;
        let guest = app.guest().await;
        let calls: Vec<_> = (0..20).map(|_| {
            tokio::spawn(app.post("/v1/refresh", &json!({"client_id": "demo-spa", "refresh_token": guest.refresh})).send())
        }).collect();
        let mut successors = std::collections::HashSet::new();
        for call in calls {
            successors.insert(token(&call.await.unwrap()));
        }
        assert_eq!(successors.len(), 1);
    }

    async fn line_17_a_refresh_token_belongs_to_its_client(engine) {
        let app = TestApp::new(engine).await;
        let guest = app.guest().await;
        app.post("/v1/refresh", &json!({"client_id": "demo-native", "refresh_token": guest.refresh})).send().await
            .refused(401, "invalid_refresh_token");
        // and ends nothing
        token(&refresh(&app, &guest.refresh).await);
        for bad in ["", "pbr_", "pbr_AAAA", &guest.access, &guest.session_token, &guest.refresh[..guest.refresh.len() - 1]] {
            let answer = refresh(&app, bad).await;
            assert!(matches!(answer.status.as_u16(), 400 | 401), "{bad}: {}", answer.text());
        }
        app.post("/v1/refresh", &json!({"client_id": "demo-spa"})).send().await.expect(400);
    }

    async fn the_grant_of_the_oauth_endpoint_is_the_same(engine) {
        let app = TestApp::new(engine).await;
        let guest = app.guest().await;
        let answer = app.call("POST", "/oauth2/token").form(&[("grant_type", "refresh_token"), ("client_id", "demo-spa"),
            ("refresh_token", &guest.refresh), ("audience", "https://api.example.com")]).send().await;
        let body = answer.expect(200).json();
        assert_eq!(body["token_type"], "Bearer");
        assert_eq!(body["scope"], "read:cart write:cart");
        assert_eq!(crate::app::claims(body["access_token"].as_str().unwrap())["aud"], "https://api.example.com");
        app.advance(Duration::from_secs(11));
        token(&refresh(&app, body["refresh_token"].as_str().unwrap()).await);
        app.advance(Duration::from_secs(11));
        let refused = app.call("POST", "/oauth2/token").form(&[("grant_type", "refresh_token"), ("client_id", "demo-spa"),
            ("refresh_token", &guest.refresh)]).send().await;
        assert_eq!(refused.expect(400).json()["error"], "invalid_grant");
    }

    async fn a_resume_rotates_nothing(engine) {
        let app = TestApp::new(engine).await;
        let guest = app.guest().await;
        for _ in 0..3 {
            let again = app.post("/v1/guests", &json!({"client_id": "demo-spa", "session_token": guest.session_token})).send().await;
            assert_eq!(Guest::of(&again.expect(200).json()).refresh, guest.refresh);
        }
        let body: Value = refresh(&app, &guest.refresh).await.expect(200).json();
        assert_eq!(body["user"]["id"], json!(guest.id));
    }
}
