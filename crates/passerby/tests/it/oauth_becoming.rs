//! `/oauth2/token` alone: a guest made, renewed, converted, signed in and merged by what any OAuth library can send.

use serde_json::{Value, json};

use crate::{
    accounts::{code, wrong},
    app::{Answer, Call, Engine, Guest, TestApp, claims},
    credentials::SECRET,
    keys::DeviceKey,
    loot::written,
    on_both,
};

pub const GUEST: &str = "urn:passerby:params:oauth:grant-type:guest";
pub const CLAIM: &str = "urn:passerby:params:oauth:grant-type:claim";
pub const EXCHANGE: &str = "urn:ietf:params:oauth:grant-type:token-exchange";
pub const ACCESS: &str = "urn:ietf:params:oauth:token-type:access_token";
pub const JWT: &str = "urn:ietf:params:oauth:token-type:jwt";
pub const SESSION: &str = "urn:passerby:params:oauth:token-type:session-token";
const API: &str = "https://api.example.com";

fn ask(app: &TestApp, client: &str, grant: &str, more: &[(&str, &str)]) -> Call {
    app.call("POST", "/oauth2/token").form(&[&[("grant_type", grant), ("client_id", client)], more].concat())
}

#[track_caller]
fn refused(answer: &Answer, error: &str) -> Value {
    let body = answer.expect(400).json();
    assert_eq!(body["error"], error, "{body}");
    assert!(body["error_description"].as_str().is_some_and(|d| !d.is_empty()), "{body}");
    assert_eq!(answer.header("cache-control"), "no-store");
    assert!(answer.header("www-authenticate").is_empty(), "a 400 asks for nothing");
    body
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("no text: {value}")).to_owned()
}

/// Somebody's tokens.
#[derive(Debug, Clone)]
struct Person {
    id: String,
    access: String,
    refresh: String,
    session_token: String,
}

impl Person {
    #[track_caller]
    fn of(answer: &Answer) -> Self {
        let body = answer.expect(200).json();
        assert_eq!(answer.header("cache-control"), "no-store");
        let access = text(&body["access_token"]);
        let [refresh, session_token] = ["refresh_token", "session_token"].map(|n| text(&body[n]));
        assert_eq!(body["expires_in"], 900);
        Self { id: text(&claims(&access)["sub"]), access, refresh, session_token }
    }
}

async fn guest(app: &TestApp, client: &str) -> Person {
    Person::of(&ask(app, client, GUEST, &[]).send().await)
}

/// A guest claims an address.
async fn claim(app: &TestApp, access: &str, email: &str) -> String {
    app.advance(std::time::Duration::from_secs(1));
    let answer = app.post("/v1/me/identifiers", &json!({"email": email})).bearer(access).send().await;
    text(&answer.expect(202).json()["claim"]["id"])
}

async fn prove(app: &TestApp, client: &str, access: &str, claim: &str, code: &str) -> Answer {
    ask(app, client, CLAIM, &[("subject_token", access), ("claim", claim), ("code", code)]).send().await
}

/// An account with this address, by its own guest.
async fn account(app: &TestApp, client: &str, email: &str) -> Person {
    let guest = guest(app, client).await;
    let claim = claim(app, &guest.access, email).await;
    Person::of(&prove(app, client, &guest.access, &claim, &code(app, email).await).await)
}

/// A first step of a sign-in.
async fn begin(app: &TestApp, client: &str, email: &str) -> String {
    app.advance(std::time::Duration::from_secs(1));
    let body = json!({"client_id": client, "method": "code", "email": email});
    text(&app.post("/v1/sign-in", &body).send().await.expect(202).json()["claim"]["id"])
}

async fn exchange(app: &TestApp, client: &str, subject: (&str, &str), actor: (&str, &str)) -> Answer {
    let more = [
        ("subject_token", subject.0),
        ("subject_token_type", subject.1),
        ("actor_token", actor.0),
        ("actor_token_type", actor.1),
    ];
    ask(app, client, EXCHANGE, &more).send().await
}

async fn put(app: &TestApp, access: &str, data: &Value) {
    let call = app.call("PATCH", "/v1/me/data").bearer(access);
    call.raw(data.to_string().into_bytes(), "application/merge-patch+json").send().await.expect(200);
}

/// With another tenant, whose client is `other-app`.
async fn house(engine: Engine) -> TestApp {
    TestApp::with(engine, |t| {
        format!(
            "{t}\n[[tenants]]\nid = \"33333333-3333-4333-8333-333333333333\"\nname = \"other\"\n[[tenants.clients]]\n\
             id = \"other-app\"\nname = \"Other\"\ntype = \"native\"\npersistence = \"eager\"\n"
        )
    })
    .await
}

on_both! {
    async fn a_guest(engine) {
        let app = TestApp::new(engine).await;
        let stored = guest(&app, "demo-spa").await;
        assert!(stored.refresh.starts_with("pbr_") && stored.refresh != stored.session_token);
        assert_eq!(claims(&stored.access)["is_anonymous"], true);
        let me = app.get("/v1/me").bearer(&stored.access).send().await.expect(200).json();
        assert_eq!((&me["id"], &me["stored"]), (&json!(stored.id), &json!(true)));
        // a floating one is renewed by its session token, under the one name that libraries know
        let users = app.users().await;
        let floating = guest(&app, "demo-game").await;
        assert_eq!(floating.refresh, floating.session_token);
        assert_eq!(app.users().await, users);
        // what it is made with, as form and as JSON
        let more = [("persist", "true"), ("data", r#"{"level":3}"#), ("entry", "shop"), ("resource", API), ("scope", "read:cart")];
        let body = json!({"grant_type": GUEST, "client_id": "demo-game", "persist": true, "data": {"level": 3}, "entry": "shop", "audience": API, "scope": "read:cart"});
        for call in [ask(&app, "demo-game", GUEST, &more), app.post("/oauth2/token", &body)] {
            let answer = call.send().await;
            let made = Person::of(&answer);
            let told = claims(&made.access);
            assert_eq!((&told["aud"], &told["scope"], &answer.json()["scope"]), (&json!(API), &json!("read:cart"), &json!("read:cart")));
            let own = Person::of(&ask(&app, "demo-game", "refresh_token", &[("refresh_token", &made.refresh)]).send().await);
            let me = app.get("/v1/me").bearer(&own.access).send().await.expect(200).json();
            assert_eq!((&me["data"], &me["stored"], &me["id"]), (&json!({"level": 3}), &json!(true), &json!(made.id)));
        }
        // by a client that authenticates
        app.call("POST", "/oauth2/token").form(&[("grant_type", GUEST), ("client_id", "demo-web")]).send().await.expect(401);
        let web = app.call("POST", "/oauth2/token").basic("demo-web", SECRET).form(&[("grant_type", GUEST)]).send().await;
        assert_eq!(claims(&Person::of(&web).access)["client_id"], "demo-web");
    }

    async fn no_guest(engine) {
        let app = TestApp::new(engine).await;
        let before = written(&app).await;
        for (name, value, error) in [
            ("persist", "maybe", "invalid_request"),
            ("data", "[1]", "invalid_request"),
            ("data", "{", "invalid_request"),
            ("data", r#"{"a":1,"a":2}"#, "invalid_request"),
            ("entry", &"x".repeat(65), "invalid_request"),
            ("audience", "https://nowhere.example", "invalid_target"),
            ("scope", "admin", "invalid_scope"),
        ] {
            refused(&ask(&app, "demo-spa", GUEST, &[(name, value)]).send().await, error);
        }
        for (grant, client) in [(GUEST, "nobody"), (CLAIM, "nobody"), (EXCHANGE, "nobody")] {
            let more = [("claim", "x"), ("code", "123456"), ("subject_token", "x"), ("subject_token_type", ACCESS), ("actor_token", "y"), ("actor_token_type", ACCESS)];
            let more = if grant == CLAIM { &more[..3] } else { &more[..] };
            assert_eq!(ask(&app, client, grant, more).send().await.expect(401).json()["error"], "invalid_client");
            let cross = ask(&app, "demo-spa", grant, more).header("origin", "https://evil.example").send().await;
            assert_eq!(cross.expect(403).json()["error"], "access_denied", "{grant}");
        }
        assert_eq!(written(&app).await, before);
        // a page's cookie and a bearer are nothing here
        let page = app.post("/v1/guests", &json!({"client_id": "demo-spa", "session_type": "cookie"})).send().await;
        let cookie = page.cookies()["passerby_session"].clone();
        let other = Person::of(&ask(&app, "demo-spa", GUEST, &[]).cookie(&cookie).header("origin", "http://localhost:8080").send().await);
        assert_ne!(json!(other.id), page.json()["user"]["id"]);
        let bearer = ask(&app, "demo-spa", GUEST, &[]).bearer(&other.access).send().await;
        assert_eq!(bearer.expect(401).json()["error"], "invalid_client");
    }

    async fn one_key_one_guest(engine) {
        let app = TestApp::new(engine).await;
        let key = "creation-key-0123456789-abcdef";
        let make = |level: &str, key: &str| {
            let data = format!(r#"{{"level":{level}}}"#);
            app.call("POST", "/oauth2/token").basic("demo-web", SECRET).header("idempotency-key", key)
                .form(&[("grant_type", GUEST), ("data", &data)])
        };
        let first = Person::of(&make("1", key).send().await);
        let users = app.users().await;
        let again = Person::of(&make("1", key).send().await);
        assert_eq!((&first.id, app.users().await), (&again.id, users));
        refused(&make("2", key).send().await, "invalid_request");
        refused(&make("1", "short").send().await, "invalid_request");
        // the same wish by another way of authenticating is the same
        let by_body = app.call("POST", "/oauth2/token").header("idempotency-key", key).form(&[
            ("data", r#"{"level":1}"#), ("client_secret", SECRET), ("client_id", "demo-web"), ("grant_type", GUEST),
        ]);
        assert_eq!(Person::of(&by_body.send().await).id, again.id);
        assert_eq!(app.users().await, users);
    }

    async fn renewing(engine) {
        let app = TestApp::new(engine).await;
        let renew = |client: &'static str, token: &str| ask(&app, client, "refresh_token", &[("refresh_token", token)]).send();
        let floating = guest(&app, "demo-game").await;
        app.advance(std::time::Duration::from_secs(1200));
        app.get("/v1/me").bearer(&floating.access).send().await.expect(401);
        let users = app.users().await;
        let second = Person::of(&renew("demo-game", &floating.refresh).await);
        assert_eq!((&second.id, app.users().await), (&floating.id, users), "still floating");
        assert_eq!(second.refresh, second.session_token);
        app.get("/v1/me").bearer(&second.access).send().await.expect(200);
        // it is stored: the next renewal gives a token that rotates, the old name goes on
        put(&app, &second.access, &json!({"a": 1})).await;
        let third = Person::of(&renew("demo-game", &second.refresh).await);
        assert!(third.id == floating.id && third.refresh.starts_with("pbr_"));
        let fourth = Person::of(&renew("demo-game", &third.refresh).await);
        assert!(fourth.id == floating.id && fourth.refresh != third.refresh);
        assert_eq!(Person::of(&renew("demo-game", &fourth.session_token).await).id, floating.id);
        // another client's is refused, and ends nothing
        for token in [&floating.refresh, &second.refresh, &fourth.refresh, &fourth.session_token] {
            refused(&renew("demo-native", token).await, "invalid_grant");
        }
        for junk in ["x", "a.b.c", "pbr_xxx", &fourth.access] {
            refused(&renew("demo-game", junk).await, "invalid_grant");
        }
        refused(&ask(&app, "demo-game", "refresh_token", &[]).send().await, "invalid_request");
        let audience = ask(&app, "demo-game", "refresh_token", &[("refresh_token", &floating.refresh), ("audience", API), ("scope", "read:cart")]);
        assert_eq!(claims(&Person::of(&audience.send().await).access)["scope"], "read:cart");
        // the cookie is no token
        let page = app.post("/v1/guests", &json!({"client_id": "demo-spa", "session_type": "cookie"})).send().await;
        refused(&renew("demo-spa", &page.cookies()["passerby_session"]).await, "invalid_grant");
        // over
        app.post("/v1/logout", &json!({})).bearer(&fourth.access).send().await.expect(204);
        for token in [&floating.refresh, &fourth.refresh, &fourth.session_token] {
            refused(&renew("demo-game", token).await, "invalid_grant");
        }
        let alone = guest(&app, "demo-game").await;
        app.call("POST", "/oauth2/revoke").form(&[("token", &alone.refresh), ("client_id", "demo-game")]).send().await.expect(200);
        refused(&renew("demo-game", &alone.refresh).await, "invalid_grant");
        let idle = guest(&app, "demo-game").await;
        app.advance(std::time::Duration::from_secs(31 * 86_400));
        refused(&renew("demo-game", &idle.refresh).await, "invalid_grant");
    }

    async fn line_20_conversion_kills_everything_older(engine) {
        let app = TestApp::new(engine).await;
        for client in ["demo-spa", "demo-game"] {
            let email = format!("ada@{client}.example.com");
            let old = guest(&app, client).await;
            put(&app, &old.access, &json!({"level": 3})).await;
            let id = claim(&app, &old.access, &email).await;
            let right = code(&app, &email).await;
            refused(&prove(&app, client, &old.access, &id, &wrong(&right)).await, "invalid_grant");
            let new = Person::of(&prove(&app, client, &old.access, &id, &right).await);
            assert_eq!(new.id, old.id);
            assert_eq!(claims(&new.access)["is_anonymous"], false);
            let me = app.get("/v1/me").bearer(&new.access).send().await.expect(200).json();
            assert_eq!((&me["kind"], &me["data"]), (&json!("regular"), &json!({"level": 3})));
            app.get("/v1/me").bearer(&old.access).send().await.refused(401, "session_ended");
            for token in [&old.refresh, &old.session_token] {
                refused(&ask(&app, client, "refresh_token", &[("refresh_token", token)]).send().await, "invalid_grant");
            }
            // the same again: it has become an account
            refused(&prove(&app, client, &old.access, &id, &right).await, "invalid_grant");
            refused(&prove(&app, client, &new.access, &id, &right).await, "invalid_request");
            let renewed = Person::of(&ask(&app, client, "refresh_token", &[("refresh_token", &new.refresh)]).send().await);
            assert_eq!(renewed.id, old.id);
        }
    }

    async fn a_lost_answer(engine) {
        let app = TestApp::new(engine).await;
        let old = guest(&app, "demo-spa").await;
        let id = claim(&app, &old.access, "lost@example.com").await;
        let right = code(&app, "lost@example.com").await;
        let more = [("subject_token", &*old.access), ("claim", &id), ("code", &right), ("password", "correct horse battery")];
        let call = || ask(&app, "demo-spa", CLAIM, &more).header("idempotency-key", "converting-0123456789-abcdef");
        let first = Person::of(&call().send().await);
        let again = Person::of(&call().send().await);
        assert_eq!(first.id, again.id);
        assert_eq!(claims(&first.access)["sid"], claims(&again.access)["sid"]);
        // and the password is one
        let body = json!({"client_id": "demo-spa", "method": "password", "email": "lost@example.com", "password": "correct horse battery"});
        assert_eq!(app.post("/v1/sign-in", &body).send().await.expect(200).json()["user"]["id"], json!(first.id));
        // but there is no grant for it
        let grant = ask(&app, "demo-spa", "password", &[("username", "lost@example.com"), ("password", "correct horse battery")]);
        refused(&grant.send().await, "unsupported_grant_type");
    }

    async fn line_09_a_claim_is_proven_by_its_own_guest_alone(engine) {
        let app = house(engine).await;
        let old = guest(&app, "demo-spa").await;
        let id = claim(&app, &old.access, "own@example.com").await;
        let right = code(&app, "own@example.com").await;
        let floating = guest(&app, "demo-game").await;
        let ended = guest(&app, "demo-spa").await;
        app.post("/v1/logout", &json!({})).bearer(&ended.access).send().await.expect(204);
        let machine = app.call("POST", "/oauth2/token").basic("demo-web", SECRET).form(&[("grant_type", "client_credentials")]);
        let machine = text(&machine.send().await.expect(200).json()["access_token"]);
        let api = Person::of(&ask(&app, "demo-spa", GUEST, &[("audience", API)]).send().await);
        let theirs = guest(&app, "other-app").await;
        let another = guest(&app, "demo-spa").await;
        let regular = account(&app, "demo-spa", "someone@example.com").await;
        let before = written(&app).await;
        for (what, client, subject, error) in [
            ("another guest's", "demo-spa", &*another.access, "invalid_grant"),
            ("another client's", "demo-native", &old.access, "invalid_grant"),
            ("a floating guest's", "demo-game", &floating.access, "invalid_grant"),
            ("a refresh token", "demo-spa", &old.refresh, "invalid_grant"),
            ("a session token", "demo-spa", &old.session_token, "invalid_grant"),
            ("of an ended session", "demo-spa", &ended.access, "invalid_grant"),
            ("a client's own", "demo-web", &machine, "invalid_client"),
            ("for an API", "demo-spa", &api.access, "invalid_grant"),
            ("another tenant's", "demo-spa", &theirs.access, "invalid_grant"),
            ("another tenant's, its client", "other-app", &theirs.access, "invalid_grant"),
            ("ours at another tenant's client", "other-app", &old.access, "invalid_grant"),
            ("a regular user's", "demo-spa", &regular.access, "invalid_request"),
            ("junk", "demo-spa", "a.b.c", "invalid_grant"),
        ] {
            let answer = prove(&app, client, subject, &id, &right).await;
            assert!(answer.status.is_client_error(), "{what}");
            assert_eq!(answer.json()["error"], error, "{what}: {}", answer.text());
        }
        let good = [("subject_token", &*old.access), ("claim", &id), ("code", &right)];
        for (more, error) in [
            (&[("subject_token_type", SESSION)][..], "invalid_request"),
            (&[("actor_token", &*another.access), ("actor_token_type", ACCESS)], "invalid_request"),
            (&[("audience", "https://nowhere.example")], "invalid_target"),
            (&[("scope", "admin")], "invalid_scope"),
            (&[("password", "short")], "invalid_request"),
        ] {
            refused(&ask(&app, "demo-spa", CLAIM, &[&good[..], more].concat()).send().await, error);
        }
        refused(&ask(&app, "demo-spa", CLAIM, &[("subject_token", &old.access), ("code", &right)]).send().await, "invalid_request");
        refused(&ask(&app, "demo-spa", CLAIM, &[("subject_token_type", ACCESS), ("claim", &id), ("code", &right)]).send().await, "invalid_request");
        refused(&ask(&app, "demo-spa", CLAIM, &[("subject_token", &old.access), ("claim", "nothing"), ("code", &right)]).send().await, "invalid_grant");
        // its claim is a guest's, no sign-in's
        refused(&ask(&app, "demo-spa", CLAIM, &[("claim", &id), ("code", &right)]).send().await, "invalid_grant");
        // without a code it waits for the link
        refused(&ask(&app, "demo-spa", CLAIM, &good[..2]).send().await, "authorization_pending");
        let mut after = written(&app).await;
        let mut before = before;
        // a sign-in that nobody began may be counted as a try
        for tables in [&mut before, &mut after] {
            tables.remove("records");
        }
        assert_eq!(after, before);
        let typed = [&good[..], &[("subject_token_type", JWT)]].concat();
        assert_eq!(Person::of(&ask(&app, "demo-spa", CLAIM, &typed).send().await).id, old.id);
    }

    async fn signing_in_by_a_code(engine) {
        let app = TestApp::new(engine).await;
        let ada = account(&app, "demo-spa", "ada@example.com").await;
        let id = begin(&app, "demo-spa", "ada@example.com").await;
        let right = code(&app, "ada@example.com").await;
        let finish = |client: &'static str, more: &[(&'static str, &str)]| ask(&app, client, CLAIM, more).send();
        refused(&finish("demo-spa", &[("claim", &id), ("code", &wrong(&right))]).await, "invalid_grant");
        refused(&finish("demo-native", &[("claim", &id), ("code", &right)]).await, "invalid_grant");
        refused(&finish("demo-spa", &[("claim", &id)]).await, "authorization_pending");
        refused(&finish("demo-spa", &[("claim", &id), ("code", &right), ("password", "correct horse battery")]).await, "invalid_request");
        // a sign-in's claim is no guest's
        let other = guest(&app, "demo-spa").await;
        refused(&finish("demo-spa", &[("subject_token", &other.access), ("claim", &id), ("code", &right)]).await, "invalid_grant");
        let signed_in = Person::of(&finish("demo-spa", &[("claim", &id), ("code", &right)]).await);
        assert_eq!(signed_in.id, ada.id);
        assert_ne!(claims(&signed_in.access)["sid"], claims(&ada.access)["sid"]);
        refused(&finish("demo-spa", &[("claim", &id), ("code", &right)]).await, "invalid_grant");
        // nobody has it: told only to who proves the address
        let id = begin(&app, "demo-spa", "nobody@example.com").await;
        refused(&finish("demo-spa", &[("claim", &id), ("code", "000000")]).await, "invalid_grant");
    }

    async fn the_address_has_an_account(engine) {
        let app = TestApp::new(engine).await;
        let ada = account(&app, "demo-spa", "ada@example.com").await;
        put(&app, &ada.access, &json!({"level": 3})).await;
        let guest = guest(&app, "demo-spa").await;
        put(&app, &guest.access, &json!({"hat": "red"})).await;
        let id = claim(&app, &guest.access, "ADA@example.com").await;
        let answer = prove(&app, "demo-spa", &guest.access, &id, &code(&app, "ada@example.com").await).await;
        let told = refused(&answer, "merge_required");
        assert_eq!(told["expires_in"], 600);
        assert!(!answer.text().contains(&ada.id) && told.get("access_token").is_none());
        let ticket = json!({"merge_ticket": told["merge_ticket"]});
        let merged = app.post("/v1/me/merge", &ticket).bearer(&guest.access).send().await.expect(200).json();
        assert_eq!((&merged["user"]["id"], &merged["user"]["data"]), (&json!(ada.id), &json!({"level": 3, "hat": "red"})));
    }

    async fn the_proof_signs_in_nowhere(engine) {
        let app = TestApp::with(engine, |t| t.replacen("[tenants.tokens]", "[tenants.sign_in]\nmethods = [\"password\"]\n\n[tenants.tokens]", 1)).await;
        let first = guest(&app, "demo-spa").await;
        let id = claim(&app, &first.access, "ada@example.com").await;
        let right = code(&app, "ada@example.com").await;
        let more = [("subject_token", &*first.access), ("claim", &id), ("code", &right), ("password", "correct horse battery")];
        let ada = Person::of(&ask(&app, "demo-spa", CLAIM, &more).send().await);
        let second = guest(&app, "demo-spa").await;
        let id = claim(&app, &second.access, "ada@example.com").await;
        let answer = prove(&app, "demo-spa", &second.access, &id, &code(&app, "ada@example.com").await).await;
        let told = refused(&answer, "sign_in_required");
        assert!(told.get("merge_ticket").is_none() && !answer.text().contains(&ada.id));
        app.get("/v1/me").bearer(&second.access).send().await.expect(200);
    }

    async fn an_exchange_merges(engine) {
        let app = TestApp::new(engine).await;
        for (n, order) in ["account first", "guest first", "session tokens", "jwt"].into_iter().enumerate() {
            let ada = account(&app, "demo-game", &format!("ada{n}@example.com")).await;
            put(&app, &ada.access, &json!({"level": 3})).await;
            let guest = Person::of(&ask(&app, "demo-game", GUEST, &[("data", r#"{"level":9,"hat":"red"}"#)]).send().await);
            let (a, g) = match order {
                "session tokens" => ((&*ada.session_token, SESSION), (&*guest.session_token, SESSION)),
                "jwt" => ((&*ada.access, JWT), (&*guest.access, JWT)),
                _ => ((&*ada.access, ACCESS), (&*guest.access, ACCESS)),
            };
            let (subject, actor) = if order == "guest first" { (g, a) } else { (a, g) };
            let answer = exchange(&app, "demo-game", subject, actor).await;
            let body = answer.expect(200).json();
            assert_eq!((&body["issued_token_type"], &body["token_type"]), (&json!(ACCESS), &json!("Bearer")), "{order}");
            assert_eq!((&body["transfer"]["state"], &body["transfer"]["account_id"], &body["transfer"]["guest_id"]), (&json!("done"), &json!(ada.id), &json!(guest.id)));
            assert!(body.get("refresh_token").is_none(), "nothing that outlives what was shown");
            let access = text(&body["access_token"]);
            assert_eq!((&claims(&access)["sub"], &claims(&access)["sid"]), (&json!(ada.id), &claims(&ada.access)["sid"]));
            let me = app.get("/v1/me").bearer(&access).send().await.expect(200).json();
            assert_eq!(me["data"], json!({"level": 3, "hat": "red"}));
            app.get("/v1/me").bearer(&guest.access).send().await.expect(401);
            refused(&ask(&app, "demo-game", "refresh_token", &[("refresh_token", &guest.refresh)]).send().await, "invalid_grant");
            // the answer was lost
            let again = exchange(&app, "demo-game", subject, actor).await.expect(200).json();
            assert_eq!((&again["receipt"], &again["transfer"]["id"]), (&body["receipt"], &body["transfer"]["id"]), "{order}");
            let path = format!("/v1/transfers/{}", text(&body["transfer"]["id"]));
            let seen = app.get(&path).bearer(&access).send().await.expect(200).json();
            assert_eq!(seen["transfer"]["receipt"], body["receipt"]);
        }
    }

    async fn line_33_no_exchange_without_both_live_proofs(engine) {
        let app = house(engine).await;
        let ada = account(&app, "demo-spa", "ada@example.com").await;
        let bob = account(&app, "demo-spa", "bob@example.com").await;
        let native = account(&app, "demo-native", "eve@example.com").await;
        let elsewhere = account(&app, "other-app", "ada@example.com").await;
        let gone = account(&app, "demo-spa", "gone@example.com").await;
        app.post("/v1/logout", &json!({})).bearer(&gone.access).send().await.expect(204);
        let made = guest(&app, "demo-spa").await;
        let second = guest(&app, "demo-spa").await;
        let native_guest = guest(&app, "demo-native").await;
        let theirs = guest(&app, "other-app").await;
        let ended = guest(&app, "demo-spa").await;
        app.post("/v1/logout", &json!({})).bearer(&ended.access).send().await.expect(204);
        let api = Person::of(&ask(&app, "demo-spa", "refresh_token", &[("refresh_token", &ada.refresh), ("audience", API)]).send().await);
        let api_guest = Person::of(&ask(&app, "demo-spa", "refresh_token", &[("refresh_token", &made.refresh), ("audience", API)]).send().await);
        let machine = app.call("POST", "/oauth2/token").basic("demo-web", SECRET).form(&[("grant_type", "client_credentials")]);
        let machine = text(&machine.send().await.expect(200).json()["access_token"]);
        let accounts = [
            ("another account's of another client", &*native.access, ACCESS),
            ("another tenant's account", &elsewhere.access, ACCESS),
            ("its session token", &elsewhere.session_token, SESSION),
            ("a session that ended", &gone.access, ACCESS),
            ("its session token", &gone.session_token, SESSION),
            ("for an API", &api.access, ACCESS),
            ("a refresh token", &ada.refresh, ACCESS),
            ("a refresh token as what it is", &ada.refresh, "urn:ietf:params:oauth:token-type:refresh_token"),
            ("a session token as an access token", &ada.session_token, ACCESS),
            ("a session token as a JWT", &ada.session_token, JWT),
            ("an access token as a session token", &ada.access, SESSION),
            ("an access token as an ID token", &ada.access, "urn:ietf:params:oauth:token-type:id_token"),
            ("a client's own", &machine, ACCESS),
            ("the guest's own", &made.access, ACCESS),
            ("another guest's", &second.access, ACCESS),
            ("another guest's session token", &second.session_token, SESSION),
            ("an id", &ada.id, ACCESS),
            ("junk", "a.b.c", ACCESS),
        ];
        let guests = [
            ("another client's", &*native_guest.access, ACCESS),
            ("its session token", &native_guest.session_token, SESSION),
            ("another tenant's", &theirs.access, ACCESS),
            ("its session token", &theirs.session_token, SESSION),
            ("a session that ended", &ended.access, ACCESS),
            ("its session token", &ended.session_token, SESSION),
            ("for an API", &api_guest.access, ACCESS),
            ("a refresh token", &made.refresh, ACCESS),
            ("a session token as an access token", &made.session_token, ACCESS),
            ("an access token as a session token", &made.access, SESSION),
            ("an account's", &bob.access, ACCESS),
            ("the same", &ada.access, ACCESS),
            ("the same account's other token", &ada.session_token, SESSION),
            ("a client's own", &machine, ACCESS),
            ("an id", &made.id, ACCESS),
            ("junk", "x", SESSION),
        ];
        let before = written(&app).await;
        let check = async |what: &str, subject: (&str, &str), actor: (&str, &str)| {
            for (subject, actor) in [(subject, actor), (actor, subject)] {
                let answer = exchange(&app, "demo-spa", subject, actor).await;
                assert_eq!((answer.status.as_u16(), &answer.json()["error"]), (400, &json!("invalid_request")), "{what}: {}", answer.text());
            }
        };
        for (what, token, kind) in accounts {
            check(what, (token, kind), (&made.access, ACCESS)).await;
        }
        for (what, token, kind) in guests {
            check(what, (&ada.access, ACCESS), (token, kind)).await;
        }
        // what is good, but asked for by another
        for client in ["demo-native", "demo-game", "other-app"] {
            refused(&exchange(&app, client, (&ada.access, ACCESS), (&made.access, ACCESS)).await, "invalid_request");
            refused(&exchange(&app, client, (&ada.session_token, SESSION), (&made.session_token, SESSION)).await, "invalid_request");
        }
        assert_eq!(exchange(&app, "demo-web", (&ada.access, ACCESS), (&made.access, ACCESS)).await.expect(401).json()["error"], "invalid_client");
        // what is missing
        let all = [
            ("subject_token", &*ada.access), ("subject_token_type", ACCESS),
            ("actor_token", &made.access), ("actor_token_type", ACCESS),
        ];
        for n in 0..all.len() {
            let mut some = all.to_vec();
            some.remove(n);
            refused(&ask(&app, "demo-spa", EXCHANGE, &some).send().await, "invalid_request");
        }
        refused(&ask(&app, "demo-spa", EXCHANGE, &[]).send().await, "invalid_request");
        refused(&ask(&app, "demo-spa", EXCHANGE, &all[..2]).send().await, "invalid_request");
        for (name, value, error) in [
            ("requested_token_type", "urn:ietf:params:oauth:token-type:refresh_token", "invalid_request"),
            ("requested_token_type", SESSION, "invalid_request"),
            ("audience", "https://nowhere.example", "invalid_target"),
            ("scope", "admin", "invalid_scope"),
        ] {
            refused(&ask(&app, "demo-spa", EXCHANGE, &[&all[..], &[(name, value)]].concat()).send().await, error);
        }
        assert_eq!(written(&app).await, before, "nothing is done");
        // the sign-in is too long ago
        app.advance(std::time::Duration::from_secs(601));
        let renewed = Person::of(&ask(&app, "demo-spa", "refresh_token", &[("refresh_token", &ada.refresh)]).send().await);
        check("not fresh", (&renewed.access, ACCESS), (&made.access, ACCESS)).await;
        check("not fresh", (&renewed.session_token, SESSION), (&made.session_token, SESSION)).await;
        // a new one is not
        let id = begin(&app, "demo-spa", "ada@example.com").await;
        let fresh = [("claim", &*id), ("code", &*code(&app, "ada@example.com").await)];
        let fresh = Person::of(&ask(&app, "demo-spa", CLAIM, &fresh).send().await);
        let asked = [
            ("subject_token", &*fresh.access), ("subject_token_type", ACCESS), ("actor_token", &made.access),
            ("actor_token_type", ACCESS), ("requested_token_type", ACCESS), ("audience", API), ("scope", "read:cart"),
        ];
        let merged = ask(&app, "demo-spa", EXCHANGE, &asked).send().await.expect(200).json();
        assert_eq!((&claims(&text(&merged["access_token"]))["aud"], &merged["scope"]), (&json!(API), &json!("read:cart")));
        // and the guest goes nowhere else
        check("merged already", (&bob.access, ACCESS), (&made.access, ACCESS)).await;
    }

    async fn line_17_bound_tokens_need_their_key(engine) {
        let app = TestApp::new(engine).await;
        let (key, thief) = (DeviceKey::new(), DeviceKey::new());
        let by = |key: &DeviceKey, grant: &str, more: &[(&str, &str)]| {
            let proof = key.proof(&app, "POST", "/oauth2/token", None);
            ask(&app, "demo-spa", grant, more).header("dpop", &proof).send()
        };
        let made = by(&key, GUEST, &[]).await;
        assert_eq!(made.json()["token_type"], "DPoP");
        let made = Person::of(&made);
        assert_eq!(claims(&made.access)["cnf"]["jkt"], json!(key.thumbprint()));
        assert_eq!(Person::of(&by(&key, GUEST, &[]).await).id, made.id, "one key, one guest");
        for token in [&made.refresh, &made.session_token] {
            let renew = [("refresh_token", &**token)];
            refused(&ask(&app, "demo-spa", "refresh_token", &renew).send().await, "invalid_dpop_proof");
            refused(&by(&thief, "refresh_token", &renew).await, "invalid_dpop_proof");
            assert_eq!(Person::of(&by(&key, "refresh_token", &renew).await).id, made.id);
        }
        let claimed = key.with_token(&app, "POST", "/v1/me/identifiers", &made.access).json(&json!({"email": "key@example.com"}));
        let id = text(&claimed.send().await.expect(202).json()["claim"]["id"]);
        let right = code(&app, "key@example.com").await;
        let proof = [("subject_token", &*made.access), ("claim", &id), ("code", &right)];
        refused(&ask(&app, "demo-spa", CLAIM, &proof).send().await, "invalid_dpop_proof");
        refused(&by(&thief, CLAIM, &proof).await, "invalid_dpop_proof");
        let converted = by(&key, CLAIM, &proof).await;
        assert_eq!(converted.json()["token_type"], "DPoP");
        let ada = Person::of(&converted);
        assert_eq!(ada.id, made.id);
        // an exchange: one of the two is bound, then both
        let loose = guest(&app, "demo-spa").await;
        let tokens = |actor: &str| {
            [("subject_token", ada.access.clone()), ("subject_token_type", ACCESS.into()), ("actor_token", actor.to_owned()), ("actor_token_type", ACCESS.into())]
        };
        let asked = tokens(&loose.access);
        let asked: Vec<(&str, &str)> = asked.iter().map(|(n, v)| (*n, &**v)).collect();
        refused(&ask(&app, "demo-spa", EXCHANGE, &asked).send().await, "invalid_dpop_proof");
        refused(&by(&thief, EXCHANGE, &asked).await, "invalid_dpop_proof");
        let bound = Person::of(&by(&thief, GUEST, &[]).await);
        let other = tokens(&bound.access);
        let other: Vec<(&str, &str)> = other.iter().map(|(n, v)| (*n, &**v)).collect();
        for one in [&key, &thief] {
            refused(&by(one, EXCHANGE, &other).await, "invalid_dpop_proof");
        }
        let merged = by(&key, EXCHANGE, &asked).await.expect(200).json();
        assert_eq!((&merged["token_type"], &merged["transfer"]["account_id"]), (&json!("DPoP"), &json!(ada.id)));
    }

    async fn discovery_names_the_grants(engine) {
        let app = TestApp::new(engine).await;
        let metadata = app.get("/.well-known/openid-configuration").send().await.expect(200).json();
        assert_eq!(metadata["grant_types_supported"], json!(["refresh_token", "client_credentials", GUEST, CLAIM, EXCHANGE]));
        for grant in ["refresh_token", GUEST, CLAIM, EXCHANGE] {
            let answer = ask(&app, "demo-spa", grant, &[]).send().await;
            assert_ne!(answer.json()["error"], "unsupported_grant_type", "{grant}");
        }
        // a guest of the native API is the same one
        let made = app.guest().await;
        let Guest { id, refresh, .. } = made;
        assert_eq!(Person::of(&ask(&app, "demo-spa", "refresh_token", &[("refresh_token", &refresh)]).send().await).id, id);
    }
}
