//! API keys: made, listed, changed, rotated, removed, by the API and by the command line; what they reach and for how
//! long they are taken.

use std::{process::Command, time::Duration};

use serde_json::{Value, json};

use crate::{
    app::{Answer, Call, TestApp},
    on_both,
};

const ROOT: &str = "acceptance-root-key-0123456789abcdef0123456789";
const BINARY: &str = env!("CARGO_BIN_EXE_passerby");

fn by(app: &TestApp, key: &str, method: &str, path: &str) -> Call {
    app.call(method, path).bearer(key)
}

async fn make(app: &TestApp, key: &str, body: &Value) -> Answer {
    by(app, key, "POST", "/v1/api-keys").json(body).send().await
}

/// A key's id and text.
async fn made(app: &TestApp, body: &Value) -> (String, String) {
    let made = make(app, ROOT, body).await.expect(201).json();
    (made["id"].as_str().unwrap().to_owned(), made["key"].as_str().unwrap().to_owned())
}

async fn taken(app: &TestApp, key: &str) -> bool {
    let answer = by(app, key, "GET", "/v1/users").send().await;
    if answer.status != 200 {
        answer.refused(401, "invalid_token");
    }
    answer.status == 200
}

on_both! {
    async fn line_07_a_text_is_shown_once_and_kept_as_a_hash(engine) {
        let app = TestApp::new(engine).await;
        let body = json!({"name": "shop", "scopes": ["users:read"], "permissions": [{"path": "/", "methods": ["GET"]}], "expires_at": "2030-01-31T00:00:00+01:00"});
        let answer = make(&app, ROOT, &body).await.expect(201).json();
        let (id, text) = (answer["id"].as_str().unwrap(), answer["key"].as_str().unwrap());
        let (prefix, secret) = text.split_at(12);
        assert_eq!((answer["prefix"].as_str(), secret.len()), (Some(prefix), 44));
        assert!(text.starts_with("pbk_") && secret.starts_with('_'));
        assert_eq!((&answer["scopes"], &answer["permissions"]), (&body["scopes"], &body["permissions"]));
        assert_eq!(answer["expires_at"], "2030-01-30T23:00:00.000Z");
        let path = format!("/v1/api-keys/{id}");
        let one = by(&app, ROOT, "GET", &path).send().await;
        let all = by(&app, ROOT, "GET", "/v1/api-keys").send().await;
        for answer in [&one, &all] {
            assert!(!answer.expect(200).text().contains(secret), "{}", answer.text());
        }
        assert!(taken(&app, text).await);
        app.core.run_jobs().await;
        let stored = stored(&app.database).await;
        assert!(stored.contains(prefix) && !stored.contains(&secret[1..]), "{stored}");
        // a part of it, or its hash, is nothing
        let hash = passerby_jose::b64::encode(&passerby_jose::sha256(text.as_bytes()));
        for wrong in [prefix, secret, &text[..55], &format!("{text}A"), &hash, &text.to_uppercase()] {
            assert!(!taken(&app, wrong).await, "{wrong}");
        }
    }

    async fn a_key_ends_when_it_says(engine) {
        let app = TestApp::new(engine).await;
        let (id, text) = made(&app, &json!({"name": "short", "expires_at": "2026-11-21T01:00:00Z"})).await;
        app.advance(Duration::from_secs(3599));
        assert!(taken(&app, &text).await);
        app.advance(Duration::from_secs(1));
        assert!(!taken(&app, &text).await, "even while it is remembered");
        let patch = by(&app, ROOT, "PATCH", &format!("/v1/api-keys/{id}"));
        patch.json(&json!({"expires_at": null})).send().await.expect(200);
        assert!(taken(&app, &text).await);
        for wrong in ["2026-11-21T00:59:59Z", "soon", "", "2030-01-31", "1e9"] {
            let problem = make(&app, ROOT, &json!({"name": "x", "expires_at": wrong})).await.refused(400, "invalid_value");
            assert_eq!(problem["field"], "/expires_at", "{wrong}");
        }
    }

    async fn a_rotation_leaves_the_old_text_for_a_while(engine) {
        let app = TestApp::new(engine).await;
        let (id, first) = made(&app, &json!({"name": "turns"})).await;
        let rotate = |body: Value| by(&app, ROOT, "POST", &format!("/v1/api-keys/{id}/rotate")).json(&body).send();
        let second = rotate(json!({})).await.expect(201).json();
        assert_eq!((&second["id"], &second["previous_expires_at"]), (&json!(id), &json!("2026-11-22T00:00:00.000Z")));
        let second = second["key"].as_str().unwrap().to_owned();
        assert!(taken(&app, &first).await && taken(&app, &second).await);
        app.advance(Duration::from_secs(86_399));
        assert!(taken(&app, &first).await);
        app.advance(Duration::from_secs(1));
        assert!(!taken(&app, &first).await, "even while it is remembered");
        assert!(taken(&app, &second).await);
        let shown = by(&app, ROOT, "GET", &format!("/v1/api-keys/{id}")).send().await.expect(200).json();
        assert_eq!(shown["previous_expires_at"], Value::Null);
        // within an overlap the oldest dies, and without one the old
        let third = rotate(json!({"overlap": "30d"})).await.expect(201).json()["key"].as_str().unwrap().to_owned();
        let fourth = rotate(json!({"overlap": "1h"})).await.expect(201).json()["key"].as_str().unwrap().to_owned();
        assert!(!taken(&app, &second).await && taken(&app, &third).await && taken(&app, &fourth).await);
        let fifth = rotate(json!({"overlap": "0s"})).await.expect(201).json();
        assert_eq!(fifth["previous_expires_at"], Value::Null);
        let fifth = fifth["key"].as_str().unwrap();
        assert!(!taken(&app, &third).await && !taken(&app, &fourth).await && taken(&app, fifth).await);
        for wrong in [json!("31d"), json!("-1h"), json!("soon"), json!(7)] {
            assert_eq!(rotate(json!({"overlap": wrong})).await.refused(400, "invalid_value")["field"], "/overlap");
        }
        assert_eq!(rotate(json!({"overlaps": "1h"})).await.refused(400, "invalid_value")["field"], "/overlaps");
        by(&app, ROOT, "POST", &format!("/v1/api-keys/{id}/rotate")).send().await.expect(201);
    }

    async fn line_19_a_removed_key_is_refused_at_once_and_elsewhere_in_two_seconds(engine) {
        let app = TestApp::new(engine).await;
        let other = app.replica().await;
        let (id, text) = made(&app, &json!({"name": "leaked"})).await;
        assert!(taken(&app, &text).await && taken(&other, &text).await, "made here, known there");
        by(&app, ROOT, "DELETE", &format!("/v1/api-keys/{id}")).send().await.expect(204);
        assert!(!taken(&app, &text).await);
        other.advance(Duration::from_secs(2));
        assert!(!taken(&other, &text).await);
        by(&app, ROOT, "DELETE", &format!("/v1/api-keys/{id}")).send().await.refused(404, "not_found");
        // what a key may do less of holds as soon
        let (id, text) = made(&app, &json!({"name": "narrowed"})).await;
        assert!(taken(&app, &text).await && taken(&other, &text).await);
        let narrow = by(&app, ROOT, "PATCH", &format!("/v1/api-keys/{id}")).json(&json!({"scopes": ["keys:read"]}));
        narrow.send().await.expect(200);
        by(&app, &text, "GET", "/v1/users").send().await.refused(403, "insufficient_scope");
        other.advance(Duration::from_secs(2));
        by(&other, &text, "GET", "/v1/users").send().await.refused(403, "insufficient_scope");
    }

    async fn line_12_a_key_hands_out_no_more_than_it_has(engine) {
        let app = TestApp::new(engine).await;
        let (strong, strong_text) = made(&app, &json!({"name": "strong"})).await;
        let grants = json!({"name": "maker", "scopes": ["keys:read", "keys:write", "users:read"], "permissions": [{"path": "/api/user", "methods": ["GET"]}]});
        let (maker, text) = made(&app, &grants).await;
        for (more, field) in [
            (json!({"name": "x"}), "/scopes"),
            (json!({"name": "x", "scopes": ["users:write"]}), "/scopes"),
            (json!({"name": "x", "scopes": ["users:read", "epochs:read"]}), "/scopes"),
            (json!({"name": "x", "permissions": [{"path": "/api", "methods": ["GET"]}]}), "/permissions"),
            (json!({"name": "x", "permissions": [{"path": "/api/user", "methods": ["GET", "POST"]}]}), "/permissions"),
            (json!({"name": "x", "permissions": [{"path": "/", "methods": ["GET"]}]}), "/permissions"),
        ] {
            let problem = make(&app, &text, &more).await.refused(403, "insufficient_scope");
            assert_eq!(problem["field"], field, "{more}");
        }
        let less = json!({"name": "less", "scopes": ["users:read"], "permissions": [{"path": "/api/user/7", "methods": ["GET", "HEAD"]}]});
        let less = make(&app, &text, &less).await.expect(201).json();
        let less_path = format!("/v1/api-keys/{}", less["id"].as_str().unwrap());
        // neither by widening, nor by taking over a stronger one
        for body in [json!({"scopes": null, "permissions": null}), json!({"scopes": ["users:read", "sessions:write"]})] {
            by(&app, &text, "PATCH", &less_path).json(&body).send().await.refused(403, "insufficient_scope");
            by(&app, &text, "PATCH", &format!("/v1/api-keys/{maker}")).json(&body).send().await.refused(403, "insufficient_scope");
        }
        let strong_path = format!("/v1/api-keys/{strong}");
        by(&app, &text, "PATCH", &strong_path).json(&json!({"name": "mine"})).send().await.refused(403, "insufficient_scope");
        by(&app, &text, "POST", &format!("{strong_path}/rotate")).send().await.refused(403, "insufficient_scope");
        by(&app, &text, "DELETE", &strong_path).send().await.refused(403, "insufficient_scope");
        assert!(taken(&app, &strong_text).await);
        let renamed = by(&app, &text, "PATCH", &less_path).json(&json!({"name": "fewer", "permissions": null})).send().await.expect(200).json();
        assert_eq!((&renamed["name"], &renamed["scopes"], &renamed["permissions"]), (&json!("fewer"), &json!(["users:read"]), &Value::Null));
        by(&app, &text, "POST", &format!("{less_path}/rotate")).send().await.expect(201);
        by(&app, &text, "DELETE", &less_path).send().await.expect(204);
        // nor one that outlives it
        let (_, short) = made(&app, &json!({"name": "short", "expires_at": "2026-12-01T00:00:00Z"})).await;
        for end in [Value::Null, json!("2026-12-01T00:00:01Z")] {
            let problem = make(&app, &short, &json!({"name": "x", "expires_at": end})).await.refused(403, "insufficient_scope");
            assert_eq!(problem["field"], "/expires_at");
        }
        by(&app, &short, "POST", &format!("{strong_path}/rotate")).send().await.refused(403, "insufficient_scope");
        make(&app, &short, &json!({"name": "x", "expires_at": "2026-12-01T00:00:00Z"})).await.expect(201);
        by(&app, &short, "DELETE", &strong_path).send().await.expect(204);
    }

    async fn what_is_no_key_is_said_by_name(engine) {
        let app = TestApp::new(engine).await;
        for (body, field) in [
            (json!({}), "/name"),
            (json!({"name": " "}), "/name"),
            (json!({"name": "x".repeat(101)}), "/name"),
            (json!({"name": 7}), "/name"),
            (json!({"name": "x", "scopes": "users:read"}), "/scopes"),
            (json!({"name": "x", "scopes": ["users:read", "root"]}), "/scopes/1"),
            (json!({"name": "x", "permisions": []}), "/permisions"),
            (json!({"name": "x", "permissions": [{"path": "api", "methods": ["GET"]}]}), "/permissions/0/path"),
            (json!({"name": "x", "permissions": [{"methods": ["GET"]}]}), "/permissions/0/path"),
            (json!({"name": "x", "permissions": [{"path": "/api"}]}), "/permissions/0/methods"),
            (json!({"name": "x", "permissions": [{"path": "/api", "methods": ["get"]}]}), "/permissions/0/methods/0"),
            (json!({"name": "x", "permissions": [{"path": "/api", "methods": ["GET"], "more": 1}]}), "/permissions/0/more"),
        ] {
            let problem = make(&app, ROOT, &body).await.refused(400, "invalid_value");
            assert_eq!(problem["field"], field, "{body}");
        }
        make(&app, ROOT, &json!([])).await.refused(400, "invalid_value");
        by(&app, ROOT, "POST", "/v1/api-keys").raw(b"name=x".to_vec(), "application/x-www-form-urlencoded").send().await.refused(415, "unsupported_media_type");
        let list = by(&app, ROOT, "GET", "/v1/api-keys").send().await.expect(200).json();
        assert_eq!(list["items"], json!([]), "none was made");
        for id in ["x", "018f2d5e-0000-7abc-8def-0123456789ab", "018F2D5E-0000-7ABC-8DEF-0123456789AB"] {
            by(&app, ROOT, "GET", &format!("/v1/api-keys/{id}")).send().await.refused(404, "not_found");
        }
    }

    async fn uses_are_written_in_batches(engine) {
        let app = TestApp::new(engine).await;
        let (id, text) = made(&app, &json!({"name": "used"})).await;
        let (idle, _) = made(&app, &json!({"name": "idle"})).await;
        let last = async |app: &TestApp, id: &str| {
            by(app, ROOT, "GET", &format!("/v1/api-keys/{id}")).send().await.expect(200).json()["last_used_at"].clone()
        };
        app.core.run_jobs().await;
        app.advance(Duration::from_secs(10));
        assert!(taken(&app, &text).await);
        app.advance(Duration::from_secs(20));
        app.core.run_jobs().await;
        assert_eq!(last(&app, &id).await, Value::Null, "not yet");
        assert!(taken(&app, &text).await);
        app.advance(Duration::from_secs(60));
        app.core.run_jobs().await;
        assert_eq!(last(&app, &id).await, "2026-11-21T00:00:30.000Z");
        assert!(taken(&app, &text).await);
        let app = app.restart().await;
        assert_eq!(last(&app, &id).await, "2026-11-21T00:01:30.000Z", "written at the end");
        assert_eq!(last(&app, &idle).await, Value::Null);
        // newest first, by pages
        let first = by(&app, ROOT, "GET", "/v1/api-keys?limit=1").send().await.expect(200).json();
        assert_eq!((&first["items"][0]["name"], first["items"].as_array().unwrap().len()), (&json!("idle"), 1));
        let path = format!("/v1/api-keys?limit=1&cursor={}", first["cursor"].as_str().unwrap());
        let second = by(&app, ROOT, "GET", &path).send().await.expect(200).json();
        assert_eq!((&second["items"][0]["name"], &second["cursor"]), (&json!("used"), &Value::Null));
    }

    async fn the_command_line_works_beside_a_running_server(engine) {
        let app = TestApp::new(engine).await;
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("c.toml"), crate::app::contract()).unwrap();
        let run = |args: &[&str]| {
            let out = Command::new(BINARY)
                .args(args)
                .args(["--config", "c.toml", "--database", &app.database])
                .env("PASSERBY_MASTER_KEY", passerby_jose::b64::encode(&[7; 32]))
                .current_dir(folder.path())
                .output()
                .unwrap();
            let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
            (out.status.code().unwrap(), text(out.stdout), text(out.stderr))
        };
        let (code, out, note) = run(&["key", "create", "--name", "ops", "--scope", "users:read,epochs:read", "--permission", "GET,POST:/api/user", "--expires", "90d"]);
        assert_eq!(code, 0, "{note}");
        let text = out.trim_end();
        assert!(text.len() == 56 && !text.contains('\n'), "the text alone: {out:?}");
        assert!(note.contains(&text[..12]) && !note.contains(text) && note.contains("users:read epochs:read GET,POST:/api/user"), "{note}");
        assert!(taken(&app, text).await, "known at once");
        by(&app, text, "POST", "/v1/users").json(&json!({})).send().await.refused(403, "insufficient_scope");

        let (code, out, _) = run(&["key", "list", "--json"]);
        let listed: Value = serde_json::from_str(&out).unwrap();
        assert_eq!((code, &listed[0]["name"], listed.as_array().unwrap().len()), (0, &json!("ops"), 1));
        assert!(!out.contains(&text[13..]));
        let id = listed[0]["id"].as_str().unwrap();
        assert!(run(&["key", "list"]).1.contains(id));

        let (code, out, note) = run(&["key", "rotate", &text[..12], "--overlap", "0s", "--json"]);
        assert_eq!(code, 0, "{note}");
        let rotated: Value = serde_json::from_str(&out).unwrap();
        assert_eq!(rotated["id"], id);
        app.advance(Duration::from_secs(2));
        assert!(!taken(&app, text).await && taken(&app, rotated["key"].as_str().unwrap()).await);

        let (code, out, note) = run(&["key", "revoke", id]);
        assert_eq!((code, out.as_str()), (0, ""), "{note}");
        app.advance(Duration::from_secs(2));
        assert!(!taken(&app, rotated["key"].as_str().unwrap()).await);
        assert!(run(&["key", "list"]).2.contains("no keys"));

        let (code, _, note) = run(&["key", "create", "--name", "all"]);
        assert!(code == 0 && note.contains("may do everything"), "{note}");
        for (args, expected) in [
            (&["key", "revoke", id][..], "no such key"),
            (&["key", "create", "--name", "x", "--scope", "root"], "--scope: Expected one of users:read"),
            (&["key", "create", "--name", "x", "--permission", "/api"], "--permission: expected METHODS:/PATH"),
            (&["key", "create", "--name", "x", "--permission", "get:/api"], "--permission: Expected one of GET"),
            (&["key", "create", "--name", "x", "--expires", "yesterday"], "--expires: Expected a moment to come"),
            (&["key", "create", "--name", " "], "--name: Expected"),
            (&["key", "create", "--name", "x", "--tenant", "44444444-4444-4444-8444-444444444444"], "no such tenant"),
        ] {
            let (code, out, note) = run(args);
            assert!(code == 1 && out.is_empty() && note.contains(expected), "{args:?}: {note}");
        }
    }
}

/// The table of API keys as text, blobs in hexadecimal digits and as they read.
async fn stored(database: &str) -> String {
    if let Some(path) = database.strip_prefix("sqlite:") {
        let db = rusqlite::Connection::open(path).unwrap();
        let mut statement =
            db.prepare("select prefix, name, grants, hex(hash), cast(hash as text) from api_keys").unwrap();
        let mut rows = statement.query([]).unwrap();
        let mut text = String::new();
        while let Some(row) = rows.next().unwrap() {
            for i in 0..4 {
                text.push_str(&row.get::<_, String>(i).unwrap());
            }
        }
        return text;
    }
    let (client, connection) = tokio_postgres::connect(database, tokio_postgres::NoTls).await.unwrap();
    tokio::spawn(connection);
    let rows = client.query("select row_to_json(k)::text from api_keys k", &[]).await.unwrap();
    rows.iter().map(|row| row.get::<_, String>(0)).collect()
}
