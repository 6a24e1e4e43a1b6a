//! The mailbox of development: what people would have got.

use serde_json::{Value, json};

use crate::{accounts::claim, app::TestApp, on_both};

async fn messages(app: &TestApp, query: &str) -> Vec<Value> {
    let answer = app.get(&format!("/dev/mailbox/messages{query}")).send().await;
    assert_eq!(answer.expect(200).header("cache-control"), "no-store");
    answer.json().as_array().unwrap().clone()
}

on_both! {
    async fn messages_are_shown_newest_first_and_by_address(engine) {
        let app = TestApp::new(engine).await;
        assert!(messages(&app, "").await.is_empty());
        for (n, what) in [
            json!({"email": "Ada@Example.com"}),
            json!({"phone": "+491701234567"}),
            json!({"email": "bob@example.com"}),
        ].iter().enumerate() {
            let guest = app.guest().await;
            claim(&app, &guest, what).await;
            app.advance(std::time::Duration::from_secs(n as u64 + 1));
        }
        let all = messages(&app, "").await;
        assert_eq!(all.iter().map(|m| m["to"].as_str().unwrap()).collect::<Vec<_>>(), ["bob@example.com", "+491701234567", "Ada@Example.com"]);
        for to in ["ada@example.com", "ADA@EXAMPLE.COM", "Ada%40Example.com"] {
            let one = messages(&app, &format!("?to={to}")).await;
            assert_eq!(one, [all[2].clone()], "{to}");
        }
        for to in ["+491701234567", "%2B491701234567"] {
            let one = messages(&app, &format!("?to={to}")).await;
            assert_eq!(one, [all[1].clone()], "{to}");
        }
        assert!(messages(&app, "?to=nobody@example.com").await.is_empty());
        assert_eq!(messages(&app, "?limit=2").await, all[..2]);
        for odd in ["0", "501", "-1", "x"] {
            app.get(&format!("/dev/mailbox/messages?limit={odd}")).send().await.refused(400, "invalid_value");
        }

        let mail = &all[2];
        assert_eq!(mail["channel"], "email");
        let (code, link) = (mail["codes"][0].as_str().unwrap(), mail["links"][0].as_str().unwrap());
        assert!(code.len() == 6 && link.starts_with("http://localhost:9011/ui/link?token="), "{mail}");
        for part in ["subject", "text", "html"] {
            assert!(mail[part].as_str().unwrap().contains(code), "{part}");
        }
        assert!(mail["text"].as_str().unwrap().contains(link) && mail["at"].as_str().unwrap().ends_with('Z'));
        let sms = &all[1];
        assert_eq!((&sms["channel"], &sms["html"], &sms["subject"]), (&json!("sms"), &Value::Null, &json!("")));
        assert_eq!((sms["links"].as_array().unwrap().len(), sms["codes"].as_array().unwrap().len()), (0, 1));

        // nothing waits for a way out that is not there
        app.core.run_outbox().await;
        assert_eq!(messages(&app, "").await, all);
        app.advance(std::time::Duration::from_hours(73));
        app.core.run_jobs().await;
        assert!(messages(&app, "").await.is_empty(), "three days");
    }

    async fn what_was_delivered_is_still_shown(engine) {
        let (app, post) = TestApp::with_post(engine, |text| text).await;
        claim(&app, &app.guest().await, &json!({"email": "ada@example.com"})).await;
        app.core.run_outbox().await;
        let id = post.take().remove(0).0;
        let all = messages(&app, "").await;
        assert_eq!((all.len(), &all[0]["id"]), (1, &json!(id)));
    }
}
