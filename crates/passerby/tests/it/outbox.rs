//! The outbox: what is due arrives, in order, once; what fails is tried again and at last given up, and can be sent again.

use std::{sync::Arc, time::Duration};

use passerby_core::{message::Delivery, testing::Pigeonhole};
use serde_json::{Value, json};

use crate::{
    accounts::{ROOT, claim, claim_call, prove},
    app::{Engine, TestApp},
    on_both,
};

/// No development: what was delivered says nothing any more. The master key lies in the folder.
fn in_earnest(folder: &tempfile::TempDir) -> String {
    let key = folder.path().join("key");
    std::fs::write(&key, "Xk3vT9qLw2Zr8YbN5mJc7HdPf4Gs6UaEoQi1Rt0WyVU").unwrap();
    format!(
        "listen = \"127.0.0.1:9011\"\nissuer = \"https://localhost:9011\"\ndev = false\nmaster_key_file = \"{}\"\n\
         [[tenants]]\nid = \"11111111-1111-4111-8111-111111111111\"\nname = \"default\"\n\
         [[tenants.clients]]\nid = \"demo-spa\"\nname = \"App\"\ntype = \"native\"\npersistence = \"eager\"\n",
        key.display()
    )
}

/// All bodies of the outbox.
async fn bodies(app: &TestApp) -> Vec<Vec<u8>> {
    if let Some(path) = app.database.strip_prefix("sqlite:") {
        let db = rusqlite::Connection::open(path).unwrap();
        let mut all = db.prepare("select body from outbox where target = 1").unwrap();
        return all.query_map([], |row| row.get(0)).unwrap().collect::<Result<_, _>>().unwrap();
    }
    let (client, connection) = tokio_postgres::connect(&app.database, tokio_postgres::NoTls).await.unwrap();
    tokio::spawn(connection);
    let rows = client.query("select body from outbox where target = 1", &[]).await.unwrap();
    rows.iter().map(|row| row.get(0)).collect()
}

async fn begun(engine: Engine) -> (TestApp, Arc<Pigeonhole>) {
    TestApp::with_post(engine, |text| text).await
}

fn later() -> Delivery {
    Delivery::Later("451 not now".into(), None)
}

async fn dead(app: &TestApp) -> Vec<Value> {
    let list = app.get("/v1/outbox/dead").bearer(ROOT).send().await.expect(200).json();
    list["items"].as_array().unwrap().clone()
}

/// Names of the newest events, newest first.
async fn events(app: &TestApp) -> Vec<String> {
    let list = app.get("/v1/events?limit=100").bearer(ROOT).send().await.expect(200).json();
    list["items"].as_array().unwrap().iter().map(|e| e["name"].as_str().unwrap().to_owned()).collect()
}

on_both! {
    async fn a_message_waits_for_nobody_and_arrives_once(engine) {
        let (app, post) = begun(engine).await;
        let guest = app.guest().await;
        claim(&app, &guest, &json!({"email": "ada@example.com"})).await;
        assert!(post.take().is_empty(), "no request carries a message itself");
        app.core.run_outbox().await;
        let arrived = post.take();
        assert_eq!(arrived.len(), 1);
        assert_eq!(&*arrived[0].1.to, "ada@example.com");
        for _ in 0..3 {
            app.advance(Duration::from_hours(1));
            app.core.run_outbox().await;
        }
        assert!(post.take().is_empty());
        let metrics = app.get("/metrics").send().await.text();
        assert!(metrics.contains("passerby_messages_delivered_total 1\n"), "{metrics}");
        assert!(metrics.contains("passerby_outbox_waiting 0\n"));
    }

    async fn failures_are_tried_again_ever_more_slowly_under_one_id(engine) {
        let (app, post) = begun(engine).await;
        let guest = app.guest().await;
        claim(&app, &guest, &json!({"email": "ada@example.com"})).await;
        post.answer([later(), later(), later()]);
        let mut tried = Vec::new();
        let mut ids = Vec::new();
        for second in 0..40 {
            app.core.run_outbox().await;
            for (id, _) in post.take() {
                tried.push(second);
                ids.push(id);
            }
            app.advance(Duration::from_secs(1));
        }
        ids.dedup();
        assert_eq!((tried.len(), ids.len()), (4, 1), "{tried:?}");
        // 2, 4 and 8 seconds, a quarter more or less, seen at whole seconds
        for (pair, (least, most)) in tried.windows(2).zip([(1, 4), (3, 6), (6, 11)]) {
            let wait = pair[1] - pair[0];
            assert!((least..=most).contains(&wait), "{tried:?}");
        }
        assert!(dead(&app).await.is_empty());
    }

    async fn a_server_that_asks_for_time_gets_it(engine) {
        let (app, post) = begun(engine).await;
        let guest = app.guest().await;
        claim(&app, &guest, &json!({"email": "ada@example.com"})).await;
        post.answer([Delivery::Later("429".into(), Some(Duration::from_mins(2)))]);
        app.core.run_outbox().await;
        app.advance(Duration::from_secs(119));
        app.core.run_outbox().await;
        assert_eq!(post.take().len(), 1);
        app.advance(Duration::from_secs(1));
        app.core.run_outbox().await;
        assert_eq!(post.take().len(), 1);
    }

    async fn messages_to_one_address_keep_their_order_and_hold_up_no_other(engine) {
        let (app, post) = begun(engine).await;
        let guest = app.guest().await;
        let first = claim(&app, &guest, &json!({"email": "ada@example.com"})).await;
        app.advance(Duration::from_millis(1));
        app.call("DELETE", &format!("/v1/me/identifiers/{first}")).bearer(&guest.access).send().await.expect(204);
        claim(&app, &guest, &json!({"email": "Ada@Example.com"})).await;
        claim(&app, &guest, &json!({"email": "bob@example.com"})).await;
        post.answer([later(), later()]);
        app.core.run_outbox().await;
        let tried: Vec<String> = post.take().into_iter().map(|(_, m)| m.to.to_lowercase()).collect();
        assert_eq!(tried.iter().filter(|to| *to == "ada@example.com").count(), 1, "{tried:?}");
        assert!(tried.contains(&"bob@example.com".to_owned()));
        app.advance(Duration::from_secs(3));
        app.core.run_outbox().await;
        let rest: Vec<_> = post.take().into_iter().filter(|(_, m)| m.to.starts_with(['a', 'A'])).collect();
        assert_eq!(rest.len(), 2);
        assert!(rest[0].0 < rest[1].0, "the older first");
    }

    async fn two_processes_deliver_once_and_the_second_takes_over(engine) {
        let (app, post) = begun(engine).await;
        let other = app.replica().await;
        let guest = app.guest().await;
        for n in 0..20 {
            let what = json!({"email": format!("p{n}@example.com")});
            let id = claim(&app, &guest, &what).await;
            app.call("DELETE", &format!("/v1/me/identifiers/{id}")).bearer(&guest.access).send().await.expect(204);
        }
        tokio::join!(app.core.run_outbox(), other.core.run_outbox(), app.core.run_outbox(), other.core.run_outbox());
        let mut ids: Vec<String> = post.take().into_iter().map(|(id, _)| id).collect();
        assert_eq!(ids.len(), 20);
        ids.sort();
        ids.dedup();
        assert_eq!(ids.len(), 20, "each once");
        // whoever had it is gone without a word: thirty seconds later the other goes on
        claim_call(&app, &guest, &json!({"email": "last@example.com"})).send().await.expect(202);
        app.advance(Duration::from_secs(31));
        other.core.run_outbox().await;
        assert_eq!(post.take().len(), 1);
        // one that stops in order gives it back at once
        claim_call(&app, &guest, &json!({"email": "next@example.com"})).send().await.expect(202);
        app.core.run_outbox().await;
        assert!(post.take().is_empty(), "the other has the lease");
        other.core.stop().await;
        app.advance(Duration::from_secs(4));
        app.core.run_outbox().await;
        assert_eq!(post.take().len(), 1);
    }

    async fn what_is_refused_for_good_is_dead_and_can_be_sent_again(engine) {
        let (app, post) = begun(engine).await;
        let guest = app.guest().await;
        let made = prove(&app, &guest, "ada@example.com").await.expect(200).json();
        app.core.run_outbox().await;
        post.take();
        // tells the owner: a message that no code ends
        let access = made["access_token"].as_str().unwrap();
        let id = app.post("/v1/me/identifiers", &json!({"email": "two@example.com"})).bearer(access).send().await;
        let id = id.expect(202).json()["claim"]["id"].as_str().unwrap().to_owned();
        let code = crate::accounts::code(&app, "two@example.com").await;
        app.core.run_outbox().await;
        post.take();
        let proof = json!({"code": code});
        app.post(&format!("/v1/me/identifiers/{id}/verify"), &proof).bearer(access).send().await.expect(200);
        post.answer([Delivery::Never("550 no such mailbox".into())]);
        app.core.run_outbox().await;
        let told = post.take();
        assert_eq!(told.len(), 1);
        let list = dead(&app).await;
        assert_eq!(list.len(), 1);
        assert_eq!((&list[0]["kind"], &list[0]["tries"]), (&json!("identifier_changed"), &json!(1)));
        assert_eq!((&list[0]["replayable"], &list[0]["name"]), (&json!(true), &json!("message.mail")));
        assert!(!list[0].to_string().contains("example.com"), "no address is told");
        assert_eq!(list[0]["id"], told[0].0);

        let replay = |id: &str| app.call("POST", &format!("/v1/outbox/{id}/replay")).bearer(ROOT);
        replay(&told[0].0).send().await.expect(202);
        replay(&told[0].0).send().await.refused(404, "not_found");
        app.core.run_outbox().await;
        let again = post.take();
        assert_eq!(again.len(), 1);
        assert_eq!(again[0].0, told[0].0, "receivers tell the repeat by its id");
        assert!(dead(&app).await.is_empty());
        for odd in ["", "x", "%ff", "00000000-0000-0000-0000-000000000000", &told[0].0.to_uppercase()] {
            replay(odd).send().await.refused(404, "not_found");
        }
        app.get("/v1/outbox/dead").send().await.refused(401, "unauthenticated");
    }

    async fn a_code_that_is_over_is_never_sent(engine) {
        let (app, post) = begun(engine).await;
        let guest = app.guest().await;
        claim(&app, &guest, &json!({"email": "ada@example.com"})).await;
        post.answer(std::iter::repeat_n(later(), 100));
        let mut tries = 0;
        for _ in 0..3700 {
            app.core.run_outbox().await;
            tries += post.take().len();
            app.advance(Duration::from_secs(1));
        }
        assert!((50..90).contains(&tries), "about once a minute, for the code's sake: {tries}");
        let list = dead(&app).await;
        assert_eq!(list.len(), 1);
        app.advance(Duration::from_secs(1));
        let list = dead(&app).await;
        assert_eq!(list[0]["replayable"], false, "{list:?}");
        let id = list[0]["id"].as_str().unwrap();
        app.call("POST", &format!("/v1/outbox/{id}/replay")).bearer(ROOT).send().await.refused(404, "not_found");
        // one that nobody tried in time
        claim(&app, &app.guest().await, &json!({"email": "bob@example.com"})).await;
        app.advance(Duration::from_hours(1));
        app.core.run_outbox().await;
        assert!(post.take().is_empty());
        let list = dead(&app).await;
        assert_eq!((list.len(), &list[0]["kind"]), (2, &Value::Null), "its code is forgotten");
    }

    async fn what_arrived_lies_about_nowhere(engine) {
        let folder = tempfile::tempdir().unwrap();
        let text = in_earnest(&folder);
        let (app, post) = TestApp::with_post(engine, |_| text).await;
        let guest = app.guest().await;
        claim(&app, &guest, &json!({"email": "ada@example.com"})).await;
        app.get("/dev/mailbox/messages").send().await.expect(404);
        assert!(app.core.mailbox(None, None, 1).await.is_err());
        let sealed = bodies(&app).await;
        assert_eq!(sealed.len(), 1);
        app.core.run_outbox().await;
        let (_, message) = post.take().remove(0);
        let code = message.code.unwrap();
        let has = |part: &str| sealed[0].windows(part.len()).any(|window| window == part.as_bytes());
        assert!(!has("ada@") && !has(&code) && sealed[0].len() > 100, "it waits under a seal");
        assert_eq!(bodies(&app).await, [Vec::<u8>::new()], "and says nothing once it arrived");
    }

    async fn events_are_told_newest_first_and_by_pages(engine) {
        let (app, _post) = begun(engine).await;
        let guest = app.guest().await;
        prove(&app, &guest, "ada@example.com").await.expect(200);
        let other = app.guest().await;
        app.advance(Duration::from_secs(1));
        app.call("POST", "/v1/logout").bearer(&other.access).send().await.expect(204);
        app.advance(Duration::from_secs(1));
        app.call("DELETE", &format!("/v1/users/{}", other.id)).bearer(ROOT).send().await.expect(204);
        let names = events(&app).await;
        assert_eq!(names[0], "user.deleted");
        for name in ["guest.converted", "identifier.verified"] {
            assert!(names.iter().any(|n| n == name), "{name} is not among {names:?}");
        }
        assert!(!names.iter().any(|n| n == "session.revoked" || n == "guest.created"), "{names:?}");
        let list = app.get("/v1/events?limit=1").bearer(ROOT).send().await.expect(200).json();
        let first = &list["items"][0];
        assert_eq!((&first["name"], &first["user_id"]), (&json!("user.deleted"), &json!(other.id)));
        assert_eq!(first["data"], json!({"user_id": other.id}), "the bare id alone");
        let cursor = list["cursor"].as_str().unwrap();
        let next = app.get(&format!("/v1/events?limit=100&cursor={cursor}")).bearer(ROOT).send().await.expect(200).json();
        assert_eq!(next["items"].as_array().unwrap().len(), names.len() - 1);
        assert_eq!(next["cursor"], Value::Null);
        for odd in ["cursor=x", "limit=0", "limit=101"] {
            app.get(&format!("/v1/events?{odd}")).bearer(ROOT).send().await.refused(400, "invalid_value");
        }
        app.get("/v1/events").send().await.refused(401, "unauthenticated");
    }

    async fn everything_is_told_where_it_is_wished(engine) {
        let all = |text: String| text.replacen("[tenants.guests]", "[tenants.events]\nall = true\nkeep = \"1d\"\n\n[tenants.guests]", 1);
        let app = TestApp::with(engine, all).await;
        let guest = app.guest().await;
        app.call("PATCH", "/v1/me/data").bearer(&guest.access).raw(b"{\"a\":1}".to_vec(), "application/merge-patch+json").send().await.expect(200);
        let lazy = app.guest_of("demo-game").await;
        app.call("PATCH", "/v1/me/data").bearer(&lazy.access).raw(b"{\"a\":1}".to_vec(), "application/merge-patch+json").send().await.expect(200);
        let mut names = events(&app).await;
        names.reverse();
        names.sort();
        assert_eq!(names, ["guest.created", "guest.stored", "user.updated", "user.updated"]);
        // as long as was wished
        app.advance(Duration::from_hours(25));
        app.core.run_jobs().await;
        assert!(events(&app).await.is_empty());
    }

    async fn a_stolen_refresh_token_is_told(engine) {
        let app = TestApp::new(engine).await;
        let guest = app.guest().await;
        let refresh = |token: &str| app.post("/v1/refresh", &json!({"client_id": "demo-spa", "refresh_token": token}));
        let first = refresh(&guest.refresh).send().await.expect(200).json();
        app.advance(Duration::from_secs(60));
        refresh(first["refresh_token"].as_str().unwrap()).send().await.expect(200);
        app.advance(Duration::from_secs(60));
        refresh(&guest.refresh).send().await.expect(401);
        let names = events(&app).await;
        assert!(names.contains(&"token.reuse_detected".to_owned()) && names.contains(&"session.revoked".to_owned()), "{names:?}");
    }
}
