//! Templates that an operator edits: bounded, tried before they are kept, and what messages are worded by.

use serde_json::{Value, json};

use crate::{
    accounts::{ROOT, claim, letters},
    app::{Answer, TestApp},
    on_both,
};

const KINDS: [&str; 8] = [
    "code_by_email",
    "link_by_email",
    "code_by_sms",
    "set_password",
    "password_changed",
    "identifier_changed",
    "address_tried",
    "came_back",
];

async fn put(app: &TestApp, kind: &str, body: &Value, if_match: Option<&str>) -> Answer {
    let call = app.call("PUT", &format!("/v1/templates/{kind}")).bearer(ROOT).json(body);
    match if_match {
        Some(tag) => call.header("if-match", tag),
        None => call,
    }
    .send()
    .await
}

on_both! {
    async fn a_template_is_put_used_and_taken_away(engine) {
        let app = TestApp::new(engine).await;
        let list = app.get("/v1/templates").bearer(ROOT).send().await.expect(200).json();
        let kinds: Vec<&str> = list["items"].as_array().unwrap().iter().map(|t| t["kind"].as_str().unwrap()).collect();
        assert_eq!(kinds, KINDS);
        assert!(list["items"].as_array().unwrap().iter().all(|t| t["custom"] == false && t["version"] == 0));

        let own = json!({"subject": "Psst: {{ code }}", "text": "{{ app_name }} says {{ code }}", "html": "<b>{{ code }}</b>"});
        let made = put(&app, "code_by_email", &own, Some("\"0\"")).await;
        assert_eq!(made.expect(200).header("etag"), "\"1\"");
        assert_eq!((&made.json()["custom"], &made.json()["version"]), (&json!(true), &json!(1)));
        put(&app, "code_by_email", &own, Some("\"0\"")).await.refused(412, "precondition_failed");
        assert_eq!(put(&app, "code_by_email", &own, None).await.expect(200).header("etag"), "\"2\"");

        let guest = app.guest().await;
        claim(&app, &guest, &json!({"email": "ada@example.com"})).await;
        let letter = letters(&app, "ada@example.com").await.remove(0);
        let code = letter.code.unwrap();
        assert_eq!(&*letter.wording.subject, format!("Psst: {code}"));
        assert_eq!(&*letter.wording.text, format!("default says {code}"));
        assert_eq!(letter.wording.html.as_deref(), Some(&*format!("<b>{code}</b>")));

        let path = "/v1/templates/code_by_email";
        app.call("DELETE", path).bearer(ROOT).header("if-match", "\"1\"").send().await.refused(412, "precondition_failed");
        app.call("DELETE", path).bearer(ROOT).send().await.expect(204);
        app.call("DELETE", path).bearer(ROOT).send().await.expect(204);
        let now = app.get(path).bearer(ROOT).send().await;
        assert_eq!(now.expect(200).header("etag"), "\"0\"");
        assert_eq!(now.json()["custom"], false);
    }

    async fn a_broken_template_is_refused_with_part_and_line(engine) {
        let app = TestApp::new(engine).await;
        let good = json!({"subject": "s {{ code }}", "text": "{{ code }}", "html": "{{ code }}"});
        let with = |name: &str, value: Value| {
            let mut body = good.clone();
            body[name] = value;
            body
        };
        for (body, field, said) in [
            (with("text", json!("a\n{{ nobody }} {{ code }}")), "/text", "line 2"),
            (with("text", json!("{{ code")), "/text", "line 1"),
            (with("text", json!("no more")), "/text", "code"),
            (with("text", Value::Null), "/text", "empty"),
            (with("subject", json!("")), "/subject", "empty"),
            (with("subject", json!("a\nBcc: all@example.com")), "/subject", "line break"),
            (with("html", json!("<script>{{ code }}</script>")), "/html", ""),
            (with("html", json!("<a href={{ link }}>{{ code }}</a>")), "/html", ""),
            (with("text", json!("{{ code }}{% for a in range(1000000000) %}x{% endfor %}")), "/text", ""),
            (with("text", json!(format!("{{{{ code }}}}{}", "x".repeat(65_536)))), "/text", "64 KiB"),
        ] {
            let refused = put(&app, "code_by_email", &body, None).await.refused(400, "invalid_value");
            assert_eq!(refused["field"], field, "{refused}");
            assert!(refused["detail"].as_str().unwrap().contains(said), "{refused}");
        }
        let sms = put(&app, "code_by_sms", &json!({"text": "{{ code }}", "subject": "s"}), None).await;
        assert_eq!(sms.refused(400, "invalid_value")["field"], "/subject");
        for body in ["", "{}", "[]", "{\"text\":7}", "{\"text\":\"{{ code }}\",\"css\":\"x\"}", "{"] {
            let sent = app.call("PUT", "/v1/templates/code_by_sms").bearer(ROOT).raw(body.into(), "application/json");
            assert_eq!(sent.send().await.status, 400, "{body}");
        }
        put(&app, "code_by_sms", &json!({"text": "{{ code }}"}), None).await.expect(200);
        put(&app, "code_by_pigeon", &good, None).await.refused(404, "not_found");
        put(&app, "%ff", &good, None).await.refused(404, "not_found");
        put(&app, "code_by_email", &good, Some("1")).await.refused(400, "invalid_value");
    }

    async fn a_preview_keeps_nothing(engine) {
        let app = TestApp::new(engine).await;
        let preview = |kind: &str| app.call("POST", &format!("/v1/templates/{kind}/preview")).bearer(ROOT);
        for kind in KINDS {
            let shown = preview(kind).send().await.expect(200).json();
            let text = shown["text"].as_str().unwrap();
            assert!(text.contains("Shop") && !text.contains("{{"), "{kind}: {text}");
            assert_eq!(shown["html"].is_null(), kind == "code_by_sms");
        }
        let own = json!({"subject": "s", "text": "{{ code }} {{ to }}"});
        let shown = preview("code_by_email").json(&own).send().await.expect(200).json();
        assert_eq!(shown, json!({"subject": "s", "text": "482913 ada@example.com", "html": null}));
        assert_eq!(preview("code_by_email").json(&json!({"text": "x"})).send().await.status, 400);
        let there = app.get("/v1/templates/code_by_email").bearer(ROOT).send().await.json();
        assert_eq!(there["custom"], false);
    }

    async fn only_who_may_sees_or_writes_templates(engine) {
        let app = TestApp::new(engine).await;
        let key = async |scopes: Value| {
            let made = app.post("/v1/api-keys", &json!({"name": "k", "scopes": scopes})).bearer(ROOT).send().await;
            made.expect(201).json()["key"].as_str().unwrap().to_owned()
        };
        let (reads, writes) = (key(json!(["templates:read"])).await, key(json!(["templates:write"])).await);
        let sms = json!({"text": "{{ code }}"});
        let path = "/v1/templates/code_by_sms";
        app.get("/v1/templates").bearer(&reads).send().await.expect(200);
        app.get(path).bearer(&reads).send().await.expect(200);
        app.call("PUT", path).bearer(&reads).json(&sms).send().await.refused(403, "insufficient_scope");
        app.call("DELETE", path).bearer(&reads).send().await.refused(403, "insufficient_scope");
        app.call("PUT", path).bearer(&writes).json(&sms).send().await.expect(200);
        app.get(path).bearer(&writes).send().await.refused(403, "insufficient_scope");
        app.get("/v1/events").bearer(&reads).send().await.refused(403, "insufficient_scope");
        app.get("/v1/outbox/dead").bearer(&reads).send().await.refused(403, "insufficient_scope");
        let none = "/v1/outbox/00000000-0000-0000-0000-000000000000/replay";
        app.call("POST", none).bearer(&reads).send().await.refused(403, "insufficient_scope");
        for path in ["/v1/templates", path] {
            app.get(path).send().await.refused(401, "unauthenticated");
        }
    }
}
