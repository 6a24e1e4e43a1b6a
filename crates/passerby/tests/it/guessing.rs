//! Guessing codes: tries are counted per flow and per address, over every flow, guest, process and moment, and a code is
//! of use where it was asked for alone (security checklist 9, 10 and 38).

use std::time::Duration;

use serde_json::{Value, json};

use crate::{
    accounts::{self, PASSWORD, account, claim_call, code, guest_with, link, me, submit, token, verify, wrong},
    app::{Answer, Call, Engine, Guest, TestApp},
    loot::tables,
    on_both,
};

const TARGET: &str = "target@example.com";
/// Wrong codes for one address within a day, of everybody together.
const BUDGET: usize = 30;

/// A claim with a message of its own moment, so that the newest message is this one's.
async fn claim(app: &TestApp, guest: &Guest) -> String {
    app.advance(Duration::from_millis(10));
    accounts::claim(app, guest, &json!({"email": TARGET})).await
}

fn begin_call(app: &TestApp, client: &str, method: &str) -> Call {
    app.advance(Duration::from_millis(10));
    app.post("/v1/sign-in", &json!({"client_id": client, "method": method, "email": TARGET}))
}

async fn begin(app: &TestApp, client: &str) -> String {
    let answer = begin_call(app, client, "code").send().await;
    answer.expect(202).json()["claim"]["id"].as_str().unwrap().to_owned()
}

fn finish(app: &TestApp, client: &str, claim: &str, code: &str) -> Call {
    app.post("/v1/sign-in", &json!({"client_id": client, "method": "code", "claim": claim, "code": code}))
}

/// The wrong codes that are on record: the kept numbers of every counter.
async fn counted(app: &TestApp) -> u64 {
    let tables = tables(app).await;
    let kept = tables["records"].iter().flatten().filter_map(|value| serde_json::from_slice::<Value>(value).ok());
    kept.filter_map(|body| body["wrong"].as_u64()).sum()
}

/// Sends all at once.
async fn at_once(calls: Vec<Call>) -> Vec<Answer> {
    let calls: Vec<_> = calls.into_iter().map(|call| tokio::spawn(call.send())).collect();
    let mut answers = Vec::new();
    for call in calls {
        answers.push(call.await.unwrap());
    }
    answers
}

/// So many codes, none of them this one.
fn guesses(right: &str, n: usize) -> Vec<String> {
    (0..=n).map(|n| format!("{:06}", n * 7919)).filter(|guess| guess != right).take(n).collect()
}

fn codes_of(answers: &[Answer]) -> Vec<(u16, String)> {
    answers.iter().map(|a| (a.status.as_u16(), a.json()["code"].as_str().unwrap_or_default().to_owned())).collect()
}

/// A second tenant with a client of its own, whose settings are the same.
async fn two_tenants(engine: Engine) -> TestApp {
    TestApp::with(engine, |text| {
        format!(
            "{text}\n[[tenants]]\nid = \"33333333-3333-4333-8333-333333333333\"\nname = \"other\"\n\
             [[tenants.clients]]\nid = \"other-spa\"\nname = \"Other\"\ntype = \"spa\"\n\
             redirect_uris = [\"http://localhost:8080/\"]\norigins = [\"http://localhost:8080\"]\n"
        )
    })
    .await
}

on_both! {
    async fn line_38_five_tries_and_no_more_for_asking_again(engine) {
        let app = TestApp::new(engine).await;
        let guest = guest_with(&app, &json!({})).await;
        for n in 0..3 {
            let id = claim(&app, &guest).await;
            let right = code(&app, TARGET).await;
            verify(&app, &guest, &id, &json!({"code": wrong(&right)})).send().await.refused(400, "invalid_code");
            assert_eq!(counted(&app).await, n + 1);
        }
        let id = claim(&app, &guest).await;
        let right = code(&app, TARGET).await;
        for _ in 0..2 {
            verify(&app, &guest, &id, &json!({"code": wrong(&right)})).send().await.refused(400, "invalid_code");
        }
        // the sixth, though it is right
        verify(&app, &guest, &id, &json!({"code": right})).send().await.refused(400, "invalid_code");
        let refused = claim_call(&app, &guest, &json!({"email": TARGET})).send().await;
        refused.refused(429, "too_many_requests");
        assert!(refused.header("retry-after").parse::<u64>().is_ok_and(|s| (1..=3600).contains(&s)));
        // waiting brings new tries
        app.advance(Duration::from_secs(3601));
        let renew = json!({"client_id": "demo-spa", "refresh_token": guest.refresh});
        let guest = Guest::of(&app.post("/v1/refresh", &renew).send().await.expect(200).json());
        let id = claim(&app, &guest).await;
        let proof = json!({"code": code(&app, TARGET).await});
        assert_eq!(verify(&app, &guest, &id, &proof).send().await.expect(200).json()["outcome"], "converted");
    }

    async fn line_38_five_tries_of_a_sign_in_over_two_processes(engine) {
        let app = TestApp::new(engine).await;
        account(&app, TARGET, &json!({})).await;
        let other = app.replica().await;
        for n in 0..5 {
            let place = if n % 2 == 0 { &app } else { &other };
            let flow = begin(place, "demo-spa").await;
            let right = code(&app, TARGET).await;
            let asked = if n % 2 == 0 { &other } else { &app };
            finish(asked, "demo-spa", &flow, &wrong(&right)).send().await.refused(400, "invalid_code");
        }
        for place in [&app, &other] {
            begin_call(place, "demo-spa", "code").send().await.refused(429, "too_many_requests");
        }
        assert_eq!(counted(&app).await, 5);
        // the link is a way that cannot be guessed
        let flow = begin_call(&app, "demo-spa", "link").send().await.expect(202).json();
        let link = link(&app, TARGET).await;
        submit(&other, "/ui/link", &[("token", &token(&link)), ("action", "confirm")]).send().await.expect(200);
        let body = json!({"client_id": "demo-spa", "method": "link", "claim": flow["claim"]["id"]});
        other.post("/v1/sign-in", &body).send().await.expect(200);
    }

    async fn line_38_forty_flows_for_one_address_over_two_processes(engine) {
        let app = TestApp::new(engine).await;
        let other = app.replica().await;
        let mut refused = 0;
        for n in 0..40 {
            let place = if n % 2 == 0 { &app } else { &other };
            // flows of guests, and of sign-ins by several clients
            let answer = if n % 4 == 3 {
                let client = ["demo-spa", "demo-native", "demo-game"][n / 4 % 3];
                let asked = begin_call(place, client, "code").send().await;
                if asked.status == 429 { refused += 1; continue; }
                let flow = asked.json()["claim"]["id"].as_str().unwrap().to_owned();
                finish(place, client, &flow, &wrong(&code(&app, TARGET).await)).send().await
            } else {
                let guest = guest_with(place, &json!({})).await;
                let id = claim(place, &guest).await;
                verify(place, &guest, &id, &json!({"code": wrong(&code(&app, TARGET).await)})).send().await
            };
            if n < BUDGET { answer.refused(400, "invalid_code"); } else { answer.refused(429, "too_many_requests"); refused += 1; }
        }
        assert_eq!((refused, counted(&app).await), (10, BUDGET as u64));
        // right ones are not looked at either, whoever brings them
        let guest = guest_with(&app, &json!({})).await;
        let id = claim(&app, &guest).await;
        let right = code(&app, TARGET).await;
        for place in [&app, &other] {
            verify(place, &guest, &id, &json!({"code": right})).send().await.refused(429, "too_many_requests");
        }
        // other addresses are none of this, and the link works
        let stranger = guest_with(&app, &json!({})).await;
        assert_eq!(accounts::prove(&app, &stranger, "stranger@example.com").await.expect(200).json()["outcome"], "converted");
        let link = link(&app, TARGET).await;
        submit(&app, "/ui/link", &[("token", &token(&link)), ("action", "confirm")]).send().await.expect(200);
        assert_eq!(verify(&app, &guest, &id, &json!({})).send().await.expect(200).json()["outcome"], "converted");
        assert_eq!(counted(&app).await, 0, "its owner is not made to wait any longer");
    }

    async fn line_38_the_budget_of_an_address_comes_back_after_a_day(engine) {
        let app = TestApp::new(engine).await;
        for _ in 0..BUDGET {
            let guest = guest_with(&app, &json!({})).await;
            let id = claim(&app, &guest).await;
            verify(&app, &guest, &id, &json!({"code": wrong(&code(&app, TARGET).await)})).send().await.refused(400, "invalid_code");
        }
        app.advance(Duration::from_secs(23 * 3600));
        let guest = guest_with(&app, &json!({})).await;
        let id = claim(&app, &guest).await;
        let late = verify(&app, &guest, &id, &json!({"code": code(&app, TARGET).await})).send().await;
        late.refused(429, "too_many_requests");
        assert!(late.header("retry-after").parse::<u64>().is_ok_and(|s| (3000..=3600).contains(&s)));
        app.advance(Duration::from_secs(3600));
        let guest = guest_with(&app, &json!({})).await;
        let id = claim(&app, &guest).await;
        verify(&app, &guest, &id, &json!({"code": code(&app, TARGET).await})).send().await.expect(200);
    }

    async fn line_38_fifty_guesses_at_once_count_as_fifty(engine) {
        let app = TestApp::new(engine).await;
        let other = app.replica().await;
        let guest = guest_with(&app, &json!({})).await;
        let id = claim(&app, &guest).await;
        let right = code(&app, TARGET).await;
        let places = [&app, &other];
        let calls = guesses(&right, 50).iter().enumerate().map(|(n, guess)| verify(places[n % 2], &guest, &id, &json!({"code": guess}))).collect();
        let answers = codes_of(&at_once(calls).await);
        let wrong_ones = answers.iter().filter(|a| **a == (400, "invalid_code".into())).count();
        // nobody is told "wrong" before it is counted, but of a claim that is dead; who is told something else has learnt nothing
        assert!(wrong_ones >= 5 && counted(&app).await == 5, "a claim that is dead is not guessed at: {answers:?}");
        assert!(answers.iter().all(|(status, _)| [400, 409, 429, 503].contains(status)), "{answers:?}");
        verify(&app, &guest, &id, &json!({"code": right})).send().await.refused(400, "invalid_code");
        assert_eq!(me(&app, &guest.access).await["kind"], "anonymous");
        // of a sign-in
        let app = TestApp::new(engine).await;
        let other = app.replica().await;
        account(&app, TARGET, &json!({})).await;
        let flow = begin(&app, "demo-spa").await;
        let right = code(&app, TARGET).await;
        let places = [&app, &other];
        let calls = guesses(&right, 50).iter().enumerate().map(|(n, guess)| finish(places[n % 2], "demo-spa", &flow, guess)).collect();
        let answers = codes_of(&at_once(calls).await);
        let wrong_ones = answers.iter().filter(|a| **a == (400, "invalid_code".into())).count();
        assert!(wrong_ones >= 5 && counted(&app).await == 5, "a flow that is dead is not guessed at: {answers:?}");
        finish(&app, "demo-spa", &flow, &right).send().await.refused(400, "invalid_code");
    }

    async fn line_38_the_right_code_at_once_works_once(engine) {
        let app = TestApp::new(engine).await;
        let other = app.replica().await;
        let places = [&app, &other];
        let guest = guest_with(&app, &json!({"views": 3})).await;
        let id = claim(&app, &guest).await;
        let proof = json!({"code": code(&app, TARGET).await, "password": PASSWORD});
        let answers = at_once((0..50).map(|n| verify(places[n % 2], &guest, &id, &proof)).collect()).await;
        let told = codes_of(&answers);
        assert_eq!(told.iter().filter(|(status, _)| *status == 200).count(), 1, "{told:?}");
        assert!(told.iter().all(|t| t.0 == 200 || (t.0, &*t.1) == (409, "guest_converted")), "{told:?}");
        let won = Guest::of(&answers.iter().find(|a| a.status == 200).unwrap().json());
        let sessions = app.get("/v1/me/sessions").bearer(&won.access).send().await.expect(200).json();
        assert_eq!(sessions["items"].as_array().unwrap().len(), 1, "{sessions}");
        // of a sign-in
        let flow = begin(&app, "demo-spa").await;
        let right = code(&app, TARGET).await;
        let answers = codes_of(&at_once((0..50).map(|n| finish(places[n % 2], "demo-spa", &flow, &right)).collect()).await);
        assert_eq!(answers.iter().filter(|(status, _)| *status == 200).count(), 1, "{answers:?}");
        assert!(answers.iter().all(|t| t.0 == 200 || (t.0, &*t.1) == (404, "not_found")), "{answers:?}");
        let sessions = app.get("/v1/me/sessions").bearer(&won.access).send().await.expect(200).json();
        assert_eq!(sessions["items"].as_array().unwrap().len(), 2, "{sessions}");
    }

    async fn line_09_a_code_is_of_use_where_it_was_asked_for(engine) {
        let app = two_tenants(engine).await;
        // the same address asks for everything at once; each gets six digits
        let one = guest_with(&app, &json!({})).await;
        let claim_one = claim(&app, &one).await;
        let code_one = code(&app, TARGET).await;
        let two = guest_with(&app, &json!({})).await;
        let claim_two = claim(&app, &two).await;
        let code_two = code(&app, TARGET).await;
        let spa = begin(&app, "demo-spa").await;
        let code_spa = code(&app, TARGET).await;
        let native = begin(&app, "demo-native").await;
        let code_native = code(&app, TARGET).await;
        app.advance(Duration::from_millis(10));
        let path = "/t/33333333-3333-4333-8333-333333333333";
        let body = json!({"client_id": "other-spa", "method": "code", "email": TARGET});
        let foreign = app.post(&format!("{path}/v1/sign-in"), &body).send().await.expect(202).json();
        let foreign = foreign["claim"]["id"].as_str().unwrap().to_owned();
        let code_foreign = code(&app, TARGET).await;
        let all = [&code_one, &code_two, &code_spa, &code_native, &code_foreign];
        let others = |own: &str| all.into_iter().filter(|c| **c != own).cloned().collect::<Vec<_>>();
        for foreign_code in others(&code_one) {
            verify(&app, &one, &claim_one, &json!({"code": foreign_code})).send().await.refused(400, "invalid_code");
        }
        for foreign_code in others(&code_spa) {
            finish(&app, "demo-spa", &spa, &foreign_code).send().await.refused(400, "invalid_code");
        }
        // the right one, but another's flow: of a guest, a session, a purpose, a client, a tenant
        verify(&app, &two, &claim_one, &json!({"code": code_one})).send().await.refused(404, "not_found");
        verify(&app, &one, &claim_two, &json!({"code": code_two})).send().await.refused(404, "not_found");
        verify(&app, &one, &spa, &json!({"code": code_spa})).send().await.refused(404, "not_found");
        finish(&app, "demo-spa", &claim_two, &code_two).send().await.refused(404, "not_found");
        finish(&app, "demo-native", &spa, &code_spa).send().await.refused(404, "not_found");
        finish(&app, "demo-spa", &native, &code_native).send().await.refused(404, "not_found");
        finish(&app, "demo-spa", &foreign, &code_foreign).send().await.refused(404, "not_found");
        let body = json!({"client_id": "other-spa", "method": "code", "claim": native, "code": code_native});
        app.post(&format!("{path}/v1/sign-in"), &body).send().await.refused(404, "not_found");
        app.post(&format!("{path}/v1/me/identifiers/{claim_two}/verify"), &json!({"code": code_two})).bearer(&two.access).send().await.expect(401);
        // a second session of the guest did not begin it
        let resume = json!({"client_id": "demo-spa", "session_token": two.session_token});
        let same = Guest::of(&app.post("/v1/guests", &resume).send().await.expect(200).json());
        assert_eq!(same.session, two.session);
        let key = crate::keys::DeviceKey::new();
        key.call(&app, "POST", "/v1/me/device-keys").bearer(&two.access).send().await.expect(201);
        let second = Guest::of(&key.post(&app, "/v1/guests", &json!({"client_id": "demo-native"})).send().await.expect(200).json());
        assert!(second.id == two.id && second.session != two.session);
        verify(&app, &second, &claim_two, &json!({"code": code_two})).send().await.refused(404, "not_found");
        // who began it finishes
        verify(&app, &two, &claim_two, &json!({"code": code_two})).send().await.expect(200);
    }
}
