//! Profile data through the doors (api.md "operations", "data"; security checklist 37).

use std::time::Duration;

use serde_json::{Value, json};

use crate::{
    app::{Answer, TestApp},
    on_both,
};

async fn operations(app: &TestApp, token: &str, list: Value) -> Answer {
    app.post("/v1/me/data/operations", &json!({ "operations": list })).bearer(token).send().await
}

on_both! {
    async fn line_37_operations_are_atomic_batched_and_idempotent(engine) {
        let app = TestApp::new(engine).await;
        let guest = app.guest().await;
        let answer = operations(&app, &guest.access, json!([
            {"op": "increment", "path": "/views", "by": 1}, {"op": "set", "path": "/a/b", "value": [1]}, {"op": "append", "path": "/a/b", "value": 2},
            {"op": "add_to_set", "path": "/tags", "value": "x"}, {"op": "add_to_set", "path": "/tags", "value": "x"}, {"op": "max", "path": "/best", "value": 7},
            {"op": "min", "path": "/worst", "value": 7}, {"op": "unset", "path": "/none"}, {"op": "remove_from_set", "path": "/tags", "value": "y"},
            {"op": "test", "path": "/views", "value": 1}])).await;
        let body = answer.expect(200).json();
        assert_eq!(body, json!({"data": {"views": 1, "a": {"b": [1, 2]}, "tags": ["x"], "best": 7, "worst": 7}, "version": 2}));
        assert_eq!(answer.header("etag"), "\"2\"");
        // one refused, all refused
        let refused = operations(&app, &guest.access, json!([{"op": "increment", "path": "/views", "by": 1}, {"op": "increment", "path": "/a", "by": 1}])).await;
        assert_eq!(refused.refused(409, "type_mismatch")["field"], "/operations/1");
        let refused = operations(&app, &guest.access, json!([{"op": "set", "path": "/x", "value": 1}, {"op": "test", "path": "/views", "value": 9}])).await;
        assert_eq!(refused.refused(409, "test_failed")["field"], "/operations/1");
        let refused = operations(&app, &guest.access, json!([{"op": "set", "path": "/views", "value": i64::MAX}, {"op": "increment", "path": "/views", "by": i64::MAX}, {"op": "increment", "path": "/views", "by": i64::MAX}])).await;
        assert_eq!(refused.refused(422, "number_out_of_range")["field"], "/operations/1");
        let me = app.get("/v1/me").bearer(&guest.access).send().await.json();
        assert_eq!((&me["data"]["views"], &me["version"]), (&json!(1), &json!(2)));
        // the same key again changes nothing; another body with it is refused
        let keyed = app.post("/v1/me/data/operations", &json!({"operations": [{"op": "increment", "path": "/views", "by": 1}]}))
            .bearer(&guest.access).header("idempotency-key", "press-1");
        assert_eq!(keyed.clone().send().await.expect(200).json()["version"], 3);
        assert_eq!(keyed.clone().send().await.expect(200).json(), keyed.clone().send().await.json());
        assert_eq!(keyed.send().await.json()["data"]["views"], 2);
        app.post("/v1/me/data/operations", &json!({"operations": [{"op": "increment", "path": "/views", "by": 2}]}))
            .bearer(&guest.access).header("idempotency-key", "press-1").send().await.refused(422, "idempotency_mismatch");
    }

    async fn line_37_concurrent_increments_are_exact(engine) {
        let app = TestApp::new(engine).await;
        let guest = app.guest_of("demo-game").await;
        let calls: Vec<_> = (0..200).map(|_| tokio::spawn(
            app.post("/v1/me/data/operations", &json!({"operations": [{"op": "increment", "path": "/n", "by": 1}]})).bearer(&guest.access).send())).collect();
        for call in calls { call.await.unwrap().expect(200); }
        let me = app.get("/v1/me").bearer(&guest.access).send().await.json();
        assert_eq!((&me["data"]["n"], &me["version"]), (&json!(200), &json!(201)));
        assert_eq!(app.users().await, 1);
    }

    async fn patches_and_if_match(engine) {
        let app = TestApp::new(engine).await;
        let guest = app.guest().await;
        let patch = |media: &'static str, body: &str| app.call("PATCH", "/v1/me/data").bearer(&guest.access).raw(body.as_bytes().to_vec(), media);
        let merge = "application/merge-patch+json";
        let json_patch = "application/json-patch+json";
        assert_eq!(patch(merge, r#"{"a":{"b":1},"c":null}"#).header("if-match", "\"1\"").send().await.expect(200).json(), json!({"data": {"a": {"b": 1}}, "version": 2}));
        patch(merge, r#"{"a":1}"#).header("if-match", "\"1\"").send().await.refused(412, "precondition_failed");
        patch(merge, r#"{"a":1}"#).header("if-match", "junk").send().await.refused(400, "invalid_value");
        assert_eq!(patch(json_patch, r#"[{"op":"test","path":"/a/b","value":1},{"op":"move","from":"/a/b","path":"/z"}]"#).send().await.expect(200).json(), json!({"data": {"a": {}, "z": 1}, "version": 3}));
        patch(json_patch, r#"[{"op":"test","path":"/z","value":2}]"#).send().await.refused(409, "test_failed");
        patch("application/json", "{}").send().await.refused(415, "unsupported_media_type");
        patch(merge, "[]").send().await.refused(400, "not_an_object");
        for (body, status, code) in [
            (r#"{"a":1,"a":2}"#, 400, "duplicate_member"), (r#"{"a":"\ud800"}"#, 400, "malformed_json"), (r#"{"a":"\u0000"}"#, 422, "nul_character"),
            (r#"{"__proto__":{}}"#, 422, "reserved_key"), (r#"{"a":123456789012345678901234567890}"#, 422, "number_out_of_range"),
            (r#"{"a":NaN}"#, 400, "malformed_json"), (r#"{"a":1e999}"#, 422, "number_out_of_range"), ("{", 400, "malformed_json"),
        ] {
            patch(merge, body).send().await.refused(status, code);
        }
        let deep = format!("{}1{}", r#"{"a":"#.repeat(20), "}".repeat(20));
        patch(merge, &deep).send().await.refused(422, "too_deep");
        let bottomless = format!("{}1{}", r#"{"a":"#.repeat(20_000), "}".repeat(20_000));
        assert!(patch(merge, &bottomless).send().await.status.is_client_error());
        patch(merge, &format!(r#"{{"a":"{}"}}"#, "x".repeat(33_000))).send().await.refused(413, "data_too_large");
        patch(merge, r#"{"n":9007199254740993,"m":18446744073709551615}"#).send().await.expect(200);
        let text = app.get("/v1/me").bearer(&guest.access).send().await.text();
        assert!(text.contains("9007199254740993") && text.contains("18446744073709551615"), "{text}");
    }

    async fn a_tenants_schema_holds_for_every_way_in(engine) {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("schema.json");
        std::fs::write(&file, r#"{"type":"object","properties":{"level":{"type":"integer","maximum":9}},"additionalProperties":false}"#).unwrap();
        let app = TestApp::with(engine, |t| t.replacen("[tenants.guests]", &format!("[tenants.guests]\ndata_schema_file = \"{}\"", file.display()), 1)).await;
        app.post("/v1/guests", &json!({"client_id": "demo-spa", "data": {"level": 10}})).send().await.refused(422, "schema_violation");
        let guest = app.guest().await;
        operations(&app, &guest.access, json!([{"op": "set", "path": "/level", "value": 9}])).await.expect(200);
        operations(&app, &guest.access, json!([{"op": "increment", "path": "/level", "by": 1}])).await.refused(422, "schema_violation");
        operations(&app, &guest.access, json!([{"op": "set", "path": "/other", "value": 9}])).await.refused(422, "schema_violation");
    }

    async fn line_44_export_holds_everything_and_erase_leaves_a_mark_only(engine) {
        let app = TestApp::new(engine).await;
        let body = json!({"client_id": "demo-spa", "data": {"canary": "kanarie-4711"}, "entry": "landing-b"});
        let guest = crate::app::Guest::of(&app.post("/v1/guests", &body).send().await.expect(201).json());
        app.post("/v1/me/data/operations", &json!({"operations": [{"op": "set", "path": "/k", "value": "kanarie-4712"}]}))
            .bearer(&guest.access).header("idempotency-key", "kanarie-4713").send().await.expect(200);
        let export = app.get("/v1/me/export").bearer(&guest.access).send().await.expect(200).text();
        for word in ["kanarie-4711", "kanarie-4712", "landing-b", &guest.id, &guest.session] {
            assert!(export.contains(word), "{word} in {export}");
        }
        app.call("DELETE", "/v1/me").bearer(&guest.access).send().await.expect(204);
        assert_eq!(app.users().await, 0);
        app.core.run_jobs().await;
        if let Some(path) = app.database.strip_prefix("sqlite:") {
            let db = rusqlite::Connection::open(path).unwrap();
            for (table, rows) in [("users", 0), ("sessions", 0), ("operation_keys", 0), ("marks", 1)] {
                let n: i64 = db.query_row(&format!("select count(*) from {table}"), [], |r| r.get(0)).unwrap();
                assert_eq!(n, rows, "{table}");
            }
        }
        app.advance(Duration::from_secs(1));
        app.post("/v1/refresh", &json!({"client_id": "demo-spa", "refresh_token": guest.refresh})).send().await.refused(401, "session_ended");
    }
}
