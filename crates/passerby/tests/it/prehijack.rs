//! The attacks by which an account is taken before its owner arrives ("Pre-hijacked accounts", Sudhodanan and Paverd,
//! 2022), for every method that needs no provider: security checklist 25 to 28, 30 and 32.

use std::time::Duration;

use serde_json::{Value, json};

use crate::{
    accounts::{
        self, PASSWORD, ROOT, account, claim_call, code, enter, guest_with, is_dead, letters, link, me, prove, submit,
        token, verify,
    },
    app::{Answer, Guest, TestApp},
    keys::DeviceKey,
    on_both,
};

const VICTIM: &str = "victim@example.com";
const NUMBER: &str = "+4915112345678";
const EVIL_PASSWORD: &str = "attackers own long words";
const FRESH_PASSWORD: &str = "only the owner knows this";

/// How the owner proves to be it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum By {
    EmailCode,
    EmailLink,
    PhoneCode,
    /// A back end invites, by a link that sets a password.
    Invitation,
    /// An API key says that the address is the user's.
    ApiKey,
}

impl By {
    const ALL: [Self; 5] = [Self::EmailCode, Self::EmailLink, Self::PhoneCode, Self::Invitation, Self::ApiKey];

    fn what(self) -> Value {
        if self == Self::PhoneCode { json!({"phone": NUMBER}) } else { json!({"email": VICTIM}) }
    }

    fn to(self) -> &'static str {
        if self == Self::PhoneCode { NUMBER } else { VICTIM }
    }
}

fn confirm<'a>(link: &'a str, token: &'a str) -> (&'a str, [(&'a str, &'a str); 2]) {
    (link.split('?').next().unwrap(), [("token", token), ("action", "confirm")])
}

async fn follow(app: &TestApp, link: &str) -> Answer {
    let token = token(link);
    let (page, pairs) = confirm(link, &token);
    submit(app, page, &pairs).send().await
}

async fn reset(app: &TestApp, token: &str, password: &str) -> Answer {
    app.post("/v1/password/reset", &json!({"token": token, "password": password})).send().await
}

async fn forgot(app: &TestApp, email: &str) {
    app.advance(Duration::from_millis(10));
    let answer = app.post("/v1/password/forgot", &json!({"client_id": "demo-spa", "email": email})).send().await;
    assert_eq!(answer.expect(202).json(), json!({}));
}

/// A claim with a message of its own moment, so that the newest message is this one's.
async fn claim(app: &TestApp, guest: &Guest, what: &Value) -> String {
    app.advance(Duration::from_millis(10));
    accounts::claim(app, guest, what).await
}

/// The owner makes this guest an account; what the owner holds afterwards.
async fn become_by(app: &TestApp, guest: &Guest, by: By) -> Guest {
    let users = |path: &str| format!("/v1/users/{}{path}", guest.id);
    match by {
        By::EmailCode | By::PhoneCode => {
            let id = claim(app, guest, &by.what()).await;
            let proof = json!({"code": code(app, by.to()).await});
            Guest::of(&verify(app, guest, &id, &proof).send().await.expect(200).json())
        }
        By::EmailLink => {
            let id = claim(app, guest, &by.what()).await;
            follow(app, &link(app, VICTIM).await).await.expect(200);
            Guest::of(&verify(app, guest, &id, &json!({})).send().await.expect(200).json())
        }
        By::Invitation => {
            let add = json!({"email": VICTIM, "verified": false});
            app.post(&users("/identifiers"), &add).bearer(ROOT).send().await;
            let send = json!({"client_id": "demo-spa", "send": true});
            let sent = app.post(&users("/password-link"), &send).bearer(ROOT).send().await;
            assert!(sent.status.is_success(), "{}", sent.text());
            let token = token(&link(app, VICTIM).await);
            reset(app, &token, FRESH_PASSWORD).await.expect(204);
            Guest::of(&enter(app, VICTIM, FRESH_PASSWORD).send().await.expect(200).json())
        }
        By::ApiKey => {
            let mut add = by.what();
            add["verified"] = json!(true);
            let added = app.post(&users("/identifiers"), &add).bearer(ROOT).send().await;
            assert!(added.status.is_success(), "{}", added.text());
            sign_in_by_code(app, by).await
        }
    }
}

async fn begin(app: &TestApp, by: By, method: &str) -> String {
    app.advance(Duration::from_millis(10));
    let mut body = by.what();
    body["client_id"] = json!("demo-spa");
    body["method"] = json!(method);
    let answer = app.post("/v1/sign-in", &body).send().await;
    answer.expect(202).json()["claim"]["id"].as_str().unwrap().to_owned()
}

async fn finish(app: &TestApp, claim: &str, code: Option<&str>) -> Answer {
    let method = if code.is_some() { "code" } else { "link" };
    let body = json!({"client_id": "demo-spa", "method": method, "claim": claim, "code": code});
    app.post("/v1/sign-in", &body).send().await
}

async fn sign_in_by_code(app: &TestApp, by: By) -> Guest {
    let claim = begin(app, by, "code").await;
    Guest::of(&finish(app, &claim, Some(&code(app, by.to()).await)).await.expect(200).json())
}

/// Everything by which somebody got into a guest.
struct Footholds {
    guest: Guest,
    key: DeviceKey,
    recovery: String,
    hand_off: String,
}

impl Footholds {
    /// A guest with a device key, a recovery code and a hand-off code, all of them the attacker's.
    async fn plant(app: &TestApp) -> Self {
        let key = DeviceKey::new();
        let body = json!({"client_id": "demo-spa", "data": {"whose": "planted"}});
        let guest = Guest::of(&key.post(app, "/v1/guests", &body).send().await.expect(201).json());
        let made = app.call("POST", "/v1/me/recovery-code").bearer(&guest.access).send().await.expect(201).json();
        let recovery = made["code"].as_str().unwrap().to_owned();
        let made = app.post("/v1/me/hand-off", &json!({})).bearer(&guest.access).send().await.expect(201).json();
        Self { guest, key, recovery, hand_off: made["code"].as_str().unwrap().to_owned() }
    }

    /// None of them leads to the user any more; `word`: what a device is told whose key it was.
    async fn are_gone(&self, app: &TestApp, word: &str) {
        is_dead(app, &self.guest).await;
        let ask = self.key.post(app, "/v1/guests", &json!({"client_id": "demo-spa"}));
        ask.send().await.refused(409, word);
        for (path, code) in [("/v1/guests/recover", &self.recovery), ("/v1/guests/hand-off", &self.hand_off)] {
            let body = json!({"client_id": "demo-spa", "code": code});
            app.post(path, &body).send().await.refused(400, "invalid_code");
        }
    }
}

/// No password of the attacker's signs in under the victim's names.
async fn no_password_opens(app: &TestApp) {
    enter(app, VICTIM, EVIL_PASSWORD).send().await.refused(401, "invalid_credentials");
    let body = json!({"client_id": "demo-spa", "method": "password", "phone": NUMBER, "password": EVIL_PASSWORD});
    app.post("/v1/sign-in", &body).send().await.refused(401, "invalid_credentials");
}

/// An account by a user name, which needs no proof.
async fn named_account(app: &TestApp, name: &str, password: &str) -> Guest {
    let guest = guest_with(app, &json!({})).await;
    let id = claim(app, &guest, &json!({"username": name})).await;
    Guest::of(&verify(app, &guest, &id, &json!({"password": password})).send().await.expect(200).json())
}

/// What a user has, as a back end sees it.
async fn shown(app: &TestApp, id: &str) -> Value {
    app.get(&format!("/v1/users/{id}")).bearer(ROOT).send().await.expect(200).json()
}

fn values(user: &Value) -> Vec<&str> {
    user["identifiers"].as_array().map_or_else(Vec::new, |l| l.iter().map(|i| i["value"].as_str().unwrap()).collect())
}

on_both! {
    async fn line_25_who_reserves_the_address_first_has_no_access(engine) {
        for by in By::ALL {
            let app = TestApp::new(engine).await;
            // a guest, an account by name, and a guest of a back end all claim what is the victim's
            let attacker = guest_with(&app, &json!({"whose": "attacker"})).await;
            let member = named_account(&app, "mallory", EVIL_PASSWORD).await;
            let claims = [(attacker.clone(), claim(&app, &attacker, &by.what()).await), (member.clone(), claim(&app, &member, &by.what()).await)];
            for (who, id) in &claims {
                verify(&app, who, id, &json!({"password": EVIL_PASSWORD})).send().await.refused(409, "claim_pending");
            }
            let flow = begin(&app, by, "code").await;
            if by != By::PhoneCode {
                let given = guest_with(&app, &json!({})).await;
                let add = json!({"email": VICTIM, "verified": false});
                let answer = app.post(&format!("/v1/users/{}/identifiers", given.id), &add).bearer(ROOT).send().await;
                assert!(answer.status.is_success(), "{}", answer.text());
                assert_eq!(values(&shown(&app, &given.id).await), [""; 0], "a claim is none of its identifiers");
            }
            no_password_opens(&app).await;

            app.advance(Duration::from_secs(1));
            let guest = guest_with(&app, &json!({"whose": "victim"})).await;
            let owner = become_by(&app, &guest, by).await;
            assert_eq!(owner.id, guest.id, "{by:?}");
            let now = me(&app, &owner.access).await;
            assert_eq!((&now["data"], values(&now)), (&json!({"whose": "victim"}), vec![by.to()]));
            // neither what was set before the proof nor what waits for one opens the account
            no_password_opens(&app).await;
            for (who, id) in &claims {
                let answer = verify(&app, who, id, &json!({})).send().await;
                assert!([404, 409].contains(&answer.status.as_u16()), "{by:?} {}", answer.text());
                let theirs = me(&app, &who.access).await;
                assert_ne!(theirs["id"], json!(owner.id));
                assert_eq!(theirs["identifiers"].as_array().map_or(0, Vec::len), usize::from(who.id == member.id));
            }
            let late = finish(&app, &flow, None).await;
            assert!([404, 409].contains(&late.status.as_u16()), "{}", late.text());
            let sessions = app.get("/v1/me/sessions").bearer(&owner.access).send().await.expect(200).json();
            assert_eq!(sessions["items"].as_array().map(Vec::len), Some(1), "{sessions}");
            let keys = app.get("/v1/me/device-keys").bearer(&owner.access).send().await.expect(200).json();
            assert_eq!(keys["items"], json!([]));
            // and the owner comes back by what was proven
            assert_eq!(sign_in_by_code(&app, by).await.id, owner.id);
        }
    }

    async fn line_25_who_claims_the_address_later_has_no_access(engine) {
        for by in [By::EmailCode, By::EmailLink, By::PhoneCode, By::Invitation] {
            let app = TestApp::new(engine).await;
            let guest = guest_with(&app, &json!({"whose": "victim"})).await;
            let owner = become_by(&app, &guest, by).await;
            let attacker = guest_with(&app, &json!({"whose": "attacker"})).await;
            let member = named_account(&app, "mallory", EVIL_PASSWORD).await;
            for who in [&attacker, &member] {
                let id = claim(&app, who, &by.what()).await;
                verify(&app, who, &id, &json!({})).send().await.refused(409, "claim_pending");
                for wrong in ["", "000000", "999999", "1234567", "abcdef"] {
                    let answer = verify(&app, who, &id, &json!({"code": wrong})).send().await;
                    assert!([400, 404].contains(&answer.status.as_u16()), "{}", answer.text());
                }
                assert_eq!(me(&app, &who.access).await["id"], json!(who.id));
            }
            no_password_opens(&app).await;
            let flow = begin(&app, by, "code").await;
            finish(&app, &flow, None).await.refused(409, "claim_pending");
            // meanwhile the owner uses the account, and every way in still leads there
            assert_eq!(me(&app, &owner.access).await["data"], json!({"whose": "victim"}));
            if by == By::PhoneCode { continue; }
            let flow = begin(&app, by, "link").await;
            follow(&app, &link(&app, VICTIM).await).await.expect(200);
            assert_eq!(finish(&app, &flow, None).await.expect(200).json()["user"]["id"], json!(owner.id));
            forgot(&app, VICTIM).await;
            reset(&app, &token(&link(&app, VICTIM).await), FRESH_PASSWORD).await.expect(204);
            assert_eq!(enter(&app, VICTIM, FRESH_PASSWORD).send().await.expect(200).json()["user"]["id"], json!(owner.id));
        }
    }

    async fn line_25_a_merge_brings_nobody_along(engine) {
        let app = TestApp::new(engine).await;
        let owner = account(&app, VICTIM, &json!({"whose": "victim"})).await;
        // the victim's browser holds the attacker's guest when its owner signs in and takes things along
        let planted = Footholds::plant(&app).await;
        let body = json!({"client_id": "demo-spa", "method": "password", "email": VICTIM, "password": PASSWORD, "session_token": planted.guest.session_token});
        let entered = app.post("/v1/sign-in", &body).send().await.expect(200).json();
        assert_eq!(entered["user"]["id"], json!(owner.id));
        assert_eq!(entered["preview"]["guest"]["id"], json!(planted.guest.id), "it is shown what is joined");
        let entered = (Guest::of(&entered), entered["merge_ticket"].as_str().unwrap().to_owned());
        let merged = app.post("/v1/me/merge", &json!({"merge_ticket": entered.1})).bearer(&entered.0.access).send().await;
        assert_eq!(merged.expect(200).json()["transfer"]["state"], "done");
        planted.are_gone(&app, "guest_merged").await;
        // the ticket is nothing in the attacker's hands
        app.post("/v1/me/merge", &json!({"merge_ticket": entered.1})).bearer(&planted.guest.access).send().await.refused(409, "guest_merged");
        let other = guest_with(&app, &json!({})).await;
        app.post("/v1/me/merge", &json!({"merge_ticket": entered.1})).bearer(&other.access).send().await.refused(400, "invalid_merge_ticket");
        let keys = app.get("/v1/me/device-keys").bearer(&entered.0.access).send().await.expect(200).json();
        assert_eq!(keys["items"], json!([]));
        app.get("/v1/me").bearer(&owner.access).send().await.expect(200);
    }

    async fn line_26_a_session_kept_alive_dies_with_the_proof(engine) {
        for by in By::ALL {
            let app = TestApp::new(engine).await;
            let planted = Footholds::plant(&app).await;
            let mut kept = planted.guest.clone();
            for _ in 0..5 {
                app.advance(Duration::from_secs(6 * 3600));
                let renew = json!({"client_id": "demo-spa", "refresh_token": kept.refresh});
                let again = Guest::of(&app.post("/v1/refresh", &renew).send().await.expect(200).json());
                kept = Guest { session_token: kept.session_token.clone(), ..again };
            }
            let made = app.post("/v1/me/hand-off", &json!({})).bearer(&kept.access).send().await.expect(201).json();
            let planted = Footholds { guest: kept.clone(), hand_off: made["code"].as_str().unwrap().to_owned(), ..planted };
            // the owner proves the address in a browser that holds the same guest
            let resume = json!({"client_id": "demo-spa", "session_token": kept.session_token});
            let own = Guest::of(&app.post("/v1/guests", &resume).send().await.expect(200).json());
            let owner = become_by(&app, &own, by).await;
            assert_eq!(owner.id, kept.id);
            planted.are_gone(&app, "guest_converted").await;
            is_dead(&app, &own).await;
            app.get("/v1/me").bearer(&owner.access).send().await.expect(200);
        }
    }

    async fn line_26_a_session_kept_alive_dies_with_every_new_password(engine) {
        let app = TestApp::new(engine).await;
        let owner = account(&app, VICTIM, &json!({})).await;
        for way in ["reset", "change", "api key"] {
            // the attacker knows the password, and has a key and a cookie of the account
            let password = if way == "reset" { PASSWORD } else { FRESH_PASSWORD };
            let kept = Guest::of(&enter(&app, VICTIM, password).send().await.expect(200).json());
            let key = DeviceKey::new();
            key.call(&app, "POST", "/v1/me/device-keys").bearer(&kept.access).send().await.expect(201);
            let by_cookie = json!({"client_id": "demo-spa", "method": "password", "email": VICTIM, "password": password, "session_type": "cookie"});
            let page = app.post("/v1/sign-in", &by_cookie).header("origin", "http://localhost:8080").send().await;
            let cookie = page.expect(200).json();
            assert!(cookie.get("refresh_token").is_none());
            let cookie = page.cookies()["passerby_session"].clone();
            let renew = json!({"client_id": "demo-spa", "refresh_token": kept.refresh});
            let kept = Guest { session_token: kept.session_token, ..Guest::of(&app.post("/v1/refresh", &renew).send().await.expect(200).json()) };
            let pending = begin(&app, By::EmailCode, "code").await;
            let its_code = code(&app, VICTIM).await;
            let id = claim(&app, &kept, &json!({"email": "attacker@example.com"})).await;
            let claimed = code(&app, "attacker@example.com").await;
            app.advance(Duration::from_secs(1));
            match way {
                "reset" => {
                    forgot(&app, VICTIM).await;
                    reset(&app, &token(&link(&app, VICTIM).await), FRESH_PASSWORD).await.expect(204);
                }
                "change" => {
                    let own = Guest::of(&enter(&app, VICTIM, FRESH_PASSWORD).send().await.expect(200).json());
                    let body = json!({"current_password": FRESH_PASSWORD, "password": FRESH_PASSWORD});
                    let own = Guest::of(&app.post("/v1/me/password", &body).bearer(&own.access).send().await.expect(200).json());
                    app.get("/v1/me").bearer(&own.access).send().await.expect(200);
                }
                _ => {
                    let path = format!("/v1/users/{}/password", owner.id);
                    let answer = app.post(&path, &json!({"password": FRESH_PASSWORD})).bearer(ROOT).send().await;
                    assert!(answer.status.is_success(), "{}", answer.text());
                }
            }
            is_dead(&app, &kept).await;
            app.get("/v1/me").cookie(&cookie).send().await.expect(401);
            let answer = key.post(&app, "/v1/guests", &json!({"client_id": "demo-spa"})).send().await;
            assert_eq!(answer.status, 409, "{way}: {}", answer.text());
            // pending changes are void with it
            finish(&app, &pending, Some(&its_code)).await.refused(404, "not_found");
            let late = verify(&app, &kept, &id, &json!({"code": claimed})).send().await;
            assert!([401, 409].contains(&late.status.as_u16()), "{way}: {}", late.text());
            let entered = Guest::of(&enter(&app, VICTIM, FRESH_PASSWORD).send().await.expect(200).json());
            assert_eq!(entered.id, owner.id);
            assert_eq!(values(&me(&app, &entered.access).await), [VICTIM]);
            let open = app.get("/v1/me/identifiers").bearer(&entered.access).send().await.expect(200).json();
            assert_eq!(open["claims"], json!([]));
        }
        enter(&app, VICTIM, PASSWORD).send().await.refused(401, "invalid_credentials");
    }

    async fn line_27_what_was_added_before_the_proof_is_gone_or_seen(engine) {
        let app = TestApp::new(engine).await;
        // an account that the attacker named, with a number and a key, lies in the victim's browser
        let planted = named_account(&app, "mallory", EVIL_PASSWORD).await;
        let key = DeviceKey::new();
        key.call(&app, "POST", "/v1/me/device-keys").bearer(&planted.access).send().await.expect(201);
        let id = claim(&app, &planted, &json!({"phone": NUMBER})).await;
        verify(&app, &planted, &id, &json!({"code": code(&app, NUMBER).await})).send().await.expect(200);
        assert_eq!(prove(&app, &planted, VICTIM).await.expect(200).json()["outcome"], "added");
        // its owner sees each of them
        let list = app.get("/v1/me/identifiers").bearer(&planted.access).send().await.expect(200).json();
        let kinds: Vec<_> = list["items"].as_array().unwrap().iter().map(|i| i["kind"].as_str().unwrap()).collect();
        assert_eq!((kinds, &list["password"]), (vec!["username", "phone", "email"], &json!(true)));
        let keys = app.get("/v1/me/device-keys").bearer(&planted.access).send().await.expect(200).json();
        assert_eq!(keys["items"][0]["thumbprint"], json!(key.thumbprint()));
        // and drops them: a reset ends sessions, keys and password, the rest goes one by one
        app.advance(Duration::from_secs(1));
        forgot(&app, VICTIM).await;
        reset(&app, &token(&link(&app, VICTIM).await), FRESH_PASSWORD).await.expect(204);
        is_dead(&app, &planted).await;
        let answer = key.post(&app, "/v1/guests", &json!({"client_id": "demo-spa"})).send().await;
        assert_eq!(answer.status, 409, "{}", answer.text());
        let owner = Guest::of(&enter(&app, VICTIM, FRESH_PASSWORD).send().await.expect(200).json());
        for item in list["items"].as_array().unwrap().iter().filter(|i| i["kind"] != "email") {
            let path = format!("/v1/me/identifiers/{}", item["id"].as_str().unwrap());
            app.call("DELETE", &path).bearer(&owner.access).send().await.expect(204);
        }
        assert_eq!(values(&me(&app, &owner.access).await), [VICTIM]);
        let told = letters(&app, VICTIM).await;
        assert!(told.iter().filter(|l| l.link.is_none() && l.code.is_none()).count() >= 3, "each change is told");
        for (field, value) in [("username", "mallory"), ("phone", NUMBER)] {
            for password in [EVIL_PASSWORD, FRESH_PASSWORD] {
                let body = json!({"client_id": "demo-spa", "method": "password", field: value, "password": password});
                app.post("/v1/sign-in", &body).send().await.refused(401, "invalid_credentials");
            }
        }
        let flow = begin(&app, By::PhoneCode, "code").await;
        finish(&app, &flow, Some(&code(&app, NUMBER).await)).await.refused(404, "no_account");
    }

    async fn line_28_what_is_newer_voids_old_codes_and_links(engine) {
        let app = TestApp::new(engine).await;
        let guest = guest_with(&app, &json!({})).await;
        // a newer request for the same address
        let first = claim(&app, &guest, &json!({"email": VICTIM})).await;
        let (old_code, old_link) = (code(&app, VICTIM).await, link(&app, VICTIM).await);
        app.advance(Duration::from_secs(1));
        let second = claim(&app, &guest, &json!({"email": VICTIM})).await;
        verify(&app, &guest, &first, &json!({"code": old_code})).send().await.refused(404, "not_found");
        app.get(&old_link).send().await.expect(400);
        follow(&app, &old_link).await.expect(400);
        if old_code != code(&app, VICTIM).await {
            verify(&app, &guest, &second, &json!({"code": old_code})).send().await.refused(400, "invalid_code");
        }
        // another target: what was sent to the one proves nothing about the other
        app.advance(Duration::from_secs(1));
        let own = claim(&app, &guest, &json!({"email": "attacker@example.com"})).await;
        let (own_code, own_link) = (code(&app, "attacker@example.com").await, link(&app, "attacker@example.com").await);
        app.advance(Duration::from_secs(1));
        let target = claim(&app, &guest, &json!({"email": VICTIM})).await;
        follow(&app, &own_link).await.expect(400);
        verify(&app, &guest, &own, &json!({"code": own_code})).send().await.refused(404, "not_found");
        verify(&app, &guest, &target, &json!({})).send().await.refused(409, "claim_pending");
        if own_code != code(&app, VICTIM).await {
            verify(&app, &guest, &target, &json!({"code": own_code})).send().await.refused(400, "invalid_code");
        }
        // conversion by another method, by a back end too
        for by_key in [false, true] {
            let guest = guest_with(&app, &json!({})).await;
            let id = claim(&app, &guest, &json!({"email": VICTIM})).await;
            let (sent, link) = (code(&app, VICTIM).await, link(&app, VICTIM).await);
            app.advance(Duration::from_secs(1));
            if by_key {
                let add = json!({"email": "other@example.com", "verified": true});
                let path = format!("/v1/users/{}/identifiers", guest.id);
                assert!(app.post(&path, &add).bearer(ROOT).send().await.status.is_success());
            } else {
                let named = claim(&app, &guest, &json!({"username": "someone"})).await;
                verify(&app, &guest, &named, &json!({"password": EVIL_PASSWORD})).send().await.expect(200);
            }
            app.get(&link).send().await.expect(400);
            follow(&app, &link).await.expect(400);
            verify(&app, &guest, &id, &json!({"code": sent})).send().await.refused(409, "guest_converted");
            assert!(!values(&shown(&app, &guest.id).await).contains(&VICTIM));
        }
    }

    async fn line_28_a_proof_voids_what_was_sent_to_the_address_before(engine) {
        let app = TestApp::new(engine).await;
        // both had their messages, and the one even its confirmation, before the owner arrived
        let by_code = guest_with(&app, &json!({"whose": "attacker"})).await;
        let first = claim(&app, &by_code, &json!({"email": VICTIM})).await;
        let sent = code(&app, VICTIM).await;
        app.advance(Duration::from_secs(1));
        let by_link = guest_with(&app, &json!({"whose": "attacker"})).await;
        let second = claim(&app, &by_link, &json!({"email": VICTIM})).await;
        follow(&app, &link(&app, VICTIM).await).await.expect(200);
        app.advance(Duration::from_secs(1));
        let flow = begin(&app, By::EmailCode, "code").await;
        let flow_code = code(&app, VICTIM).await;
        app.advance(Duration::from_secs(1));
        let owner = account(&app, VICTIM, &json!({"whose": "victim"})).await;
        app.advance(Duration::from_secs(1));
        finish(&app, &flow, Some(&flow_code)).await.refused(404, "not_found");
        for (who, id, proof) in [(&by_code, &first, json!({"code": sent})), (&by_link, &second, json!({}))] {
            let answer = verify(&app, who, id, &proof).send().await;
            assert_eq!(answer.expect(200).json(), json!({"outcome": "sign_in_required"}), "no session of the account");
            assert_eq!(me(&app, &who.access).await["kind"], "anonymous");
        }
        // nor what was sent before the password was set anew
        let late = guest_with(&app, &json!({})).await;
        let third = claim(&app, &late, &json!({"email": VICTIM})).await;
        let sent = code(&app, VICTIM).await;
        app.advance(Duration::from_secs(1));
        forgot(&app, VICTIM).await;
        let old_reset = token(&link(&app, VICTIM).await);
        app.advance(Duration::from_secs(1));
        forgot(&app, VICTIM).await;
        reset(&app, &old_reset, EVIL_PASSWORD).await.refused(400, "invalid_code");
        let newest = token(&link(&app, VICTIM).await);
        reset(&app, &newest, FRESH_PASSWORD).await.expect(204);
        reset(&app, &newest, EVIL_PASSWORD).await.refused(400, "invalid_code");
        let answer = verify(&app, &late, &third, &json!({"code": sent})).send().await;
        assert_eq!(answer.expect(200).json(), json!({"outcome": "sign_in_required"}));
        is_dead(&app, &owner).await;
        // what is asked for from now on works
        app.advance(Duration::from_secs(1));
        assert_eq!(prove(&app, &late, VICTIM).await.expect(200).json()["outcome"], "merge_required");
    }

    async fn line_28_an_address_given_up_takes_its_links_along(engine) {
        let app = TestApp::new(engine).await;
        let owner = account(&app, "old@example.com", &json!({})).await;
        app.advance(Duration::from_secs(1));
        prove(&app, &owner, VICTIM).await.expect(200);
        app.advance(Duration::from_secs(1));
        forgot(&app, "old@example.com").await;
        let link = token(&link(&app, "old@example.com").await);
        let flow = json!({"client_id": "demo-spa", "method": "code", "email": "old@example.com"});
        let flow = app.post("/v1/sign-in", &flow).send().await.expect(202).json()["claim"]["id"].as_str().unwrap().to_owned();
        let sent = code(&app, "old@example.com").await;
        let list = app.get("/v1/me/identifiers").bearer(&owner.access).send().await.expect(200).json();
        let old = list["items"].as_array().unwrap().iter().find(|i| i["value"] == "old@example.com").unwrap();
        let path = format!("/v1/me/identifiers/{}", old["id"].as_str().unwrap());
        app.call("DELETE", &path).bearer(&owner.access).send().await.expect(204);
        reset(&app, &link, EVIL_PASSWORD).await.refused(400, "invalid_code");
        finish(&app, &flow, Some(&sent)).await.refused(404, "no_account");
        enter(&app, "old@example.com", PASSWORD).send().await.refused(401, "invalid_credentials");
        enter(&app, VICTIM, PASSWORD).send().await.expect(200);
    }

    async fn line_30_thirty_reservations_are_inert(engine) {
        let app = TestApp::new(engine).await;
        let mut attackers = Vec::new();
        for n in 0..30 {
            let guest = guest_with(&app, &json!({"n": n})).await;
            let id = claim(&app, &guest, &json!({"email": VICTIM})).await;
            attackers.push((guest, id));
        }
        app.advance(Duration::from_secs(1));
        // it cannot log in, be found, or receive a reset
        let flow = begin(&app, By::EmailCode, "code").await;
        finish(&app, &flow, Some(&code(&app, VICTIM).await)).await.refused(404, "no_account");
        app.get("/v1/users/victim@example.com").bearer(ROOT).send().await.refused(404, "not_found");
        forgot(&app, VICTIM).await;
        let newest = letters(&app, VICTIM).await.remove(0);
        assert!(newest.link.is_none() && newest.code.is_none(), "{newest:?}");
        for (guest, _) in attackers.iter().take(3) {
            assert_eq!(values(&shown(&app, &guest.id).await), [""; 0]);
            let link = json!({"client_id": "demo-spa", "send": true});
            let refused = app.post(&format!("/v1/users/{}/password-link", guest.id), &link).bearer(ROOT).send().await;
            assert_eq!(refused.refused(400, "invalid_value")["field"], "/send");
        }
        // nor stop the owner
        app.advance(Duration::from_secs(1));
        let owner = account(&app, VICTIM, &json!({"whose": "victim"})).await;
        for (guest, id) in &attackers {
            verify(&app, guest, id, &json!({})).send().await.refused(409, "claim_pending");
            claim_call(&app, guest, &json!({"email": VICTIM})).send().await.expect(202);
            assert_eq!(me(&app, &guest.access).await["kind"], "anonymous");
        }
        assert_eq!(me(&app, &owner.access).await["data"], json!({"whose": "victim"}));
    }

    async fn line_32_no_choice_of_methods_lets_an_unproven_address_in(engine) {
        let methods = ["password", "code", "link"];
        for choice in 1..8_u8 {
            let chosen: Vec<_> = methods.iter().enumerate().filter(|(n, _)| choice & (1 << n) != 0).map(|(_, m)| *m).collect();
            let app = TestApp::with(engine, |text| {
                let list = chosen.iter().map(|m| format!("\"{m}\"")).collect::<Vec<_>>().join(", ");
                let refuse = if choice % 2 == 0 { "\n[tenants.merge]\npolicy = \"refuse\"\n" } else { "" };
                text.replacen("[tenants.guests]", &format!("[tenants.sign_in]\nmethods = [{list}]\n{refuse}\n[tenants.guests]"), 1)
            }).await;
            let guest = guest_with(&app, &json!({})).await;
            let key = DeviceKey::new();
            key.call(&app, "POST", "/v1/me/device-keys").bearer(&guest.access).send().await.expect(201);
            for by in [By::EmailCode, By::PhoneCode] {
                let id = claim(&app, &guest, &by.what()).await;
                for proof in [json!({}), json!({"password": EVIL_PASSWORD}), json!({"code": "", "password": EVIL_PASSWORD}), json!({"code": id.clone()})] {
                    let answer = verify(&app, &guest, &id, &proof).send().await;
                    assert!([400, 409].contains(&answer.status.as_u16()), "{chosen:?} {proof}: {}", answer.text());
                }
                // by every method, whether or not it is chosen
                for method in methods {
                    let mut body = by.what();
                    body.as_object_mut().unwrap().extend([("client_id".into(), json!("demo-spa")), ("method".into(), json!(method))]);
                    if method == "password" { body["password"] = json!(EVIL_PASSWORD); }
                    let answer = app.post("/v1/sign-in", &body).send().await;
                    assert_ne!(answer.status, 200, "{chosen:?} {method}");
                    if answer.status == 202 {
                        let flow = answer.json()["claim"]["id"].as_str().unwrap().to_owned();
                        assert!(!finish(&app, &flow, None).await.status.is_success());
                        assert!(!finish(&app, &flow, Some("000000")).await.status.is_success());
                    } else if !chosen.contains(&method) {
                        answer.refused(403, "method_not_enabled");
                    }
                }
            }
            let add = json!({"email": VICTIM, "verified": false});
            app.post(&format!("/v1/users/{}/identifiers", guest.id), &add).bearer(ROOT).send().await;
            let link = json!({"client_id": "demo-spa", "send": false});
            let link = app.post(&format!("/v1/users/{}/password-link", guest.id), &link).bearer(ROOT).send().await;
            assert!(!link.status.is_success(), "{chosen:?}: a link without a message proves no address");
            let user = shown(&app, &guest.id).await;
            assert_eq!((&user["kind"], values(&user)), (&json!("anonymous"), vec![]), "{chosen:?}");
            // a proof is what it takes, and enough
            let id = claim(&app, &guest, &json!({"email": VICTIM})).await;
            let proof = json!({"code": code(&app, VICTIM).await, "password": FRESH_PASSWORD});
            let answer = verify(&app, &guest, &id, &proof).send().await;
            assert_eq!(answer.expect(200).json()["outcome"], "converted", "{chosen:?}");
            // and where the way is closed, a proof does not open the account of another either
            let other = guest_with(&app, &json!({})).await;
            app.advance(Duration::from_secs(1));
            let id = claim(&app, &other, &json!({"email": VICTIM})).await;
            let outcome = verify(&app, &other, &id, &json!({"code": code(&app, VICTIM).await})).send().await.expect(200).json();
            let opens = chosen.contains(&"code") && choice % 2 == 1;
            assert_eq!(outcome["outcome"], if opens { "merge_required" } else { "sign_in_required" }, "{chosen:?}");
        }
    }
}
