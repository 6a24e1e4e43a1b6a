//! A proof works once (RFC 9449 section 11.1), for the one request that it names; and how long its nonce lives.

use std::time::Duration;

use passerby_jose::b64;
use serde_json::json;

use crate::{
    app::{Answer, Engine, Guest, TestApp},
    keys::DeviceKey,
    on_both,
    places::{House, INVALID, NONCE, Place, refused, with},
};

const OTHER: &str = "33333333-3333-4333-8333-333333333333";

/// A second tenant on the same origin.
fn second_tenant(text: String) -> String {
    format!(
        "{text}\n[[tenants]]\nid = \"{OTHER}\"\nname = \"other\"\n[[tenants.clients]]\nid = \"other-app\"\nname = \"Other\"\ntype = \"native\"\npersistence = \"eager\"\n"
    )
}

/// The order of P-256's group.
const ORDER: [u8; 32] = [
    0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xbc, 0xe6, 0xfa, 0xad, 0xa7,
    0x17, 0x9e, 0x84, 0xf3, 0xb9, 0xca, 0xc2, 0xfc, 0x63, 0x25, 0x51,
];

/// The same proof under the other signature that is as good (r, n - s): another text, and no other proof.
fn twin(proof: &str) -> String {
    let (input, signature) = proof.rsplit_once('.').unwrap();
    let mut signature = b64::decode(signature).unwrap();
    let mut borrow = 0;
    for i in (0..32).rev() {
        let difference = i16::from(ORDER[i]) - i16::from(signature[32 + i]) - borrow;
        borrow = i16::from(difference < 0);
        signature[32 + i] = (difference + 256 * borrow) as u8;
    }
    format!("{input}.{}", b64::encode(&signature))
}

/// Whether the proof itself was refused.
fn is_refused(answer: &Answer) -> bool {
    let body = answer.json();
    [INVALID, NONCE].iter().any(|code| body["code"] == *code || body["error"] == *code)
}

on_both! {
    async fn line_17_a_proof_works_once(engine) {
        let house = House::new(engine).await;
        for place in Place::ALL {
            let proof = house.proof(place);
            house.takes(place, &proof, "the first time").await;
            refused(&house.ask(place, &[&proof]).await, place, INVALID, "again");
            house.app.core.run_jobs().await;
            refused(&house.ask(place, &[&proof]).await, place, INVALID, "after the sweep");
            refused(&house.ask(place, &[&twin(&proof)]).await, place, INVALID, "its twin");
            // as long as the nonce lives, and then the nonce refuses it
            house.app.advance(Duration::from_secs(60));
            house.app.core.run_jobs().await;
            refused(&house.ask(place, &[&proof]).await, place, INVALID, "a minute later");
            house.app.advance(Duration::from_secs(1));
            refused(&house.ask(place, &[&proof]).await, place, NONCE, "another second later");
        }
    }

    async fn the_twin_of_a_proof_is_as_good_as_itself(engine) {
        // or the test above would show nothing
        let house = House::new(engine).await;
        house.takes(Place::Me, &twin(&house.proof(Place::Me)), "the twin alone").await;
    }

    async fn line_17_a_proof_is_for_one_request(engine) {
        let house = House::new(engine).await;
        for (from, to) in Place::ALL.into_iter().flat_map(|from| Place::ALL.into_iter().map(move |to| (from, to))) {
            if from.target() != to.target() || (to.by_scheme() && !from.by_scheme()) {
                refused(&house.ask(to, &[&house.proof(from)]).await, to, INVALID, &format!("one for {from:?}"));
            }
        }
        // one jti, two requests of one key
        let jti = json!("only-once");
        let one = |place| house.key.sign(&house.key.header(), &with(house.claims(place), "jti", jti.clone()));
        house.takes(Place::Me, &one(Place::Me), "the first").await;
        for place in [Place::UserInfo, Place::Guests, Place::Token] {
            refused(&house.ask(place, &[&one(place)]).await, place, INVALID, "the same jti");
        }
        // but of two keys
        let other = DeviceKey::new();
        let theirs = other.sign(&other.header(), &with(house.claims(Place::Guests), "jti", jti.clone()));
        house.ask(Place::Guests, &[&theirs]).await.expect(201);
        // a proof whose request was refused for another reason is spent all the same
        let proof = house.proof(Place::Guests);
        house.app.post("/v1/guests", &json!({"client_id": "demo-spa", "user_id": "somebody-else"})).header("dpop", &proof).send().await
            .refused(409, "credential_conflict");
        refused(&house.ask(Place::Guests, &[&proof]).await, Place::Guests, INVALID, "spent by a refused request");
    }

    async fn line_17_a_proof_of_one_tenant_is_none_in_another(engine) {
        let app = TestApp::with(engine, second_tenant).await;
        let key = DeviceKey::new();
        // one address serves both: the proof says nothing of the tenant, so it is spent for all
        let proof = key.proof(&app, "POST", "/v1/guests", None);
        app.post("/v1/guests", &json!({"client_id": "demo-spa"})).header("dpop", &proof).send().await.expect(201);
        let users = app.users().await;
        app.post("/v1/guests", &json!({"client_id": "other-app"})).header("dpop", &proof).send().await.refused(400, INVALID);
        assert_eq!(app.users().await, users);
        // the tenant's own address is another
        let prefixed = format!("/t/{OTHER}/v1/guests");
        let body = json!({"client_id": "other-app"});
        for (made_for, sent_to) in [("/v1/guests", &*prefixed), ("/t/44444444-4444-4444-8444-444444444444/v1/guests", &*prefixed)] {
            let proof = key.proof(&app, "POST", made_for, None);
            app.post(sent_to, &body).header("dpop", &proof).send().await.refused(400, INVALID);
        }
        let theirs = key.post(&app, &prefixed, &json!({"client_id": "other-app", "bind_tokens": true})).send().await;
        let theirs = Guest::of(&theirs.expect(201).json());
        let me = format!("/t/{OTHER}/v1/me");
        key.with_token(&app, "GET", &me, &theirs.access).send().await.expect(200);
        // tokens of one tenant under the other's address
        let ours = Guest::of(&key.post(&app, "/v1/guests", &json!({"client_id": "demo-spa", "bind_tokens": true})).send().await.expect(200).json());
        key.with_token(&app, "GET", &me, &ours.access).send().await.refused(401, "invalid_token");
        let proof = key.proof(&app, "GET", "/v1/me", Some(&theirs.access));
        app.get(&me).header("authorization", &format!("DPoP {}", theirs.access)).header("dpop", &proof).send().await.refused(401, INVALID);
        assert_ne!(theirs.id, ours.id, "one key is one guest in each tenant");
    }

    async fn line_17_a_proof_works_once_on_all_replicas(engine) {
        let house = House::new(engine).await;
        let second = house.app.replica().await;
        let proof = house.proof(Place::Me);
        house.takes(Place::Me, &proof, "here").await;
        let ask = |proof: &str| second.get("/v1/me").header("authorization", &format!("DPoP {}", house.guest.access)).header("dpop", proof);
        let there = ask(&proof).send().await;
        let fresh = ask(&house.proof(Place::Me)).send().await;
        match engine {
            Engine::Postgres => {
                refused(&there, Place::Me, INVALID, "there");
                fresh.expect(200);
            }
            // two processes on one file know nothing of each other's proofs, so each takes only its own nonces
            Engine::Sqlite => {
                refused(&there, Place::Me, NONCE, "there");
                refused(&fresh, Place::Me, NONCE, "another's nonce");
                let claims = with(house.claims(Place::Me), "nonce", json!(fresh.header("dpop-nonce")));
                ask(&house.key.sign(&house.key.header(), &claims)).send().await.expect(200);
            }
        }
    }

    async fn line_17_a_proof_works_once_over_a_restart(engine) {
        let House { app, key, guest, .. } = House::new(engine).await;
        let (used, unused) = (key.proof(&app, "GET", "/v1/me", Some(&guest.access)), key.proof(&app, "GET", "/v1/me", Some(&guest.access)));
        let scheme = format!("DPoP {}", guest.access);
        app.get("/v1/me").header("authorization", &scheme).header("dpop", &used).send().await.expect(200);
        let app = app.restart().await;
        let ask = |proof: &str| app.get("/v1/me").header("authorization", &scheme).header("dpop", proof).send();
        match engine {
            Engine::Postgres => {
                refused(&ask(&used).await, Place::Me, INVALID, "used before the restart");
                ask(&unused).await.expect(200);
                refused(&ask(&unused).await, Place::Me, INVALID, "and after it");
            }
            Engine::Sqlite => {
                refused(&ask(&used).await, Place::Me, NONCE, "used before the restart");
                refused(&ask(&unused).await, Place::Me, NONCE, "a nonce of another boot");
                key.with_token(&app, "GET", "/v1/me", &guest.access).send().await.expect(200);
            }
        }
    }

    async fn line_17_a_proof_many_times_at_once(engine) {
        let house = House::new(engine).await;
        let second = if engine == Engine::Postgres { Some(house.app.replica().await) } else { None };
        for round in 0..20 {
            let proof = house.proof(Place::Me);
            let calls: Vec<_> = (0..16).map(|n| {
                let at = second.as_ref().filter(|_| n % 2 == 1).unwrap_or(&house.app);
                let call = at.get("/v1/me").header("authorization", &format!("DPoP {}", house.guest.access));
                tokio::spawn(call.header("dpop", if n % 3 == 0 { twin(&proof) } else { proof.clone() }.as_str()).send())
            }).collect();
            let mut passed = 0;
            for call in calls {
                let answer = call.await.unwrap();
                if answer.status == 200 { passed += 1; } else { refused(&answer, Place::Me, INVALID, "parallel"); }
            }
            assert_eq!(passed, 1, "round {round}");
        }
        // a creation: one guest, and one only
        let key = DeviceKey::new();
        let (users, proof) = (house.app.users().await, key.proof(&house.app, "POST", "/v1/guests", None));
        let calls: Vec<_> = (0..16).map(|n| {
            let at = second.as_ref().filter(|_| n % 2 == 1).unwrap_or(&house.app);
            tokio::spawn(at.post("/v1/guests", &json!({"client_id": "demo-spa"})).header("dpop", &proof).send())
        }).collect();
        let mut passed = 0;
        for call in calls {
            let answer = call.await.unwrap();
            if !is_refused(&answer) { answer.expect(201); passed += 1; }
        }
        assert_eq!((passed, house.app.users().await), (1, users + 1));
    }

    async fn a_nonce_lives_a_minute(engine) {
        let house = House::new(engine).await;
        let app = &house.app;
        for (seconds, good) in [(0, true), (60, true), (61, false), (3600, false), (-10, true), (-11, false), (-60, false), (1 << 32, false)] {
            let nonce = app.core.dpop_nonce();
            app.clock.jump(seconds * 1000);
            let proof = house.key.sign(&house.key.header(), &with(house.claims(Place::Guests), "nonce", json!(nonce)));
            let answer = house.ask(Place::Guests, &[&proof]).await;
            if good { answer.expect(200); } else { refused(&answer, Place::Guests, NONCE, &format!("{seconds} s")); }
            // the one that comes with the refusal is good
            let proof = house.key.sign(&house.key.header(), &with(house.claims(Place::Guests), "nonce", json!(answer.header("dpop-nonce"))));
            house.ask(Place::Guests, &[&proof]).await.expect(200);
            app.clock.jump(-seconds * 1000);
        }
    }

    async fn line_17_a_nonce_of_a_fast_replica_does_not_outlive_the_spent_proof(engine) {
        let house = House::new(engine).await;
        let app = &house.app;
        app.clock.jump(10_000);
        let nonce = app.core.dpop_nonce();
        app.clock.jump(-10_000);
        let proof = house.key.sign(&house.key.header(), &with(house.claims(Place::Me), "nonce", json!(nonce)));
        house.takes(Place::Me, &proof, "ten seconds early").await;
        for _ in 0..70 {
            app.advance(Duration::from_secs(1));
            app.core.run_jobs().await;
            refused(&house.ask(Place::Me, &[&proof]).await, Place::Me, INVALID, "again");
        }
        app.advance(Duration::from_secs(1));
        refused(&house.ask(Place::Me, &[&proof]).await, Place::Me, NONCE, "past the nonce");
    }
}
