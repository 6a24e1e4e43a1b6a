//! The cross matrix: every kind of credential, code and name is offered at every place that takes another. It is refused in
//! the place's own words and nothing is done; what belongs there works, before and after all that.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::{
    app::{Answer, Guest},
    credentials::{Kind, Made, Mint, increment},
    loot::written,
    matrix_places::{Place, Refusal, table},
    oauth_becoming::CLAIM,
    on_both,
};

/// Kinds that no place of the table takes: what is looked at elsewhere, or opens nothing at all.
const NOWHERE: [Kind; 9] = [
    Kind::CreationKey,
    Kind::OperationKey,
    Kind::FloatingState,
    Kind::TokenId,
    Kind::ApiKeyPrefix,
    Kind::CheckDigits,
    // spent at the authorization endpoint, which is not there yet
    Kind::TransferTicket,
    Kind::Receipt,
    // a wrong one is counted, so that it has a test of its own
    Kind::ClaimCode,
];

fn is(answer: &Answer, refusal: Refusal) -> bool {
    let status = answer.status.as_u16();
    let body = || serde_json::from_slice::<Value>(&answer.body).unwrap_or_default();
    match refusal {
        Refusal::Problem(expected, code) => status == expected && body()["code"] == code,
        Refusal::OAuth(expected, error) => status == expected && body()["error"] == error,
        Refusal::Inactive => status == 200 && body() == json!({"active": false}),
        Refusal::Ignored => status == 200 && answer.body.is_empty(),
        Refusal::Page(expected) => status == expected && answer.header("content-type").starts_with("text/html"),
    }
}

fn refused(answer: &Answer, place: &Place, made: &Made) -> Result<(), String> {
    let what = format!("{:?} at {}: {} {}", made.kind, place.name, answer.status, answer.text());
    if !is(answer, place.refusal_of(made.kind)) {
        return Err(what);
    }
    for set in answer.headers.get_all("set-cookie") {
        if !set.to_str().unwrap().contains("Max-Age=0") {
            return Err(format!("a cookie is set: {what}"));
        }
    }
    // whatever comes in is not sent back, but for the few that stand in a path
    if made.text.len() > 40 && answer.text().contains(&made.text) {
        return Err(format!("it is repeated: {what}"));
    }
    Ok(())
}

fn taken(answer: &Answer, place: &Place, kind: Kind) -> Result<(), String> {
    let what = format!("{kind:?} at {}: {} {}", place.name, answer.status, answer.text());
    let gives = ["_token\":", "\"code\":", "\"key\":", "recovery_code"].iter().any(|word| answer.text().contains(word));
    if gives && answer.header("cache-control") != "no-store" {
        return Err(format!("may be kept by a cache: {what}"));
    }
    let is_refused = is(answer, place.refusal) && place.refusal != Refusal::Ignored;
    if answer.status.as_u16() == place.status && !is_refused { Ok(()) } else { Err(what) }
}

#[track_caller]
fn none(wrong: &[String]) {
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
}

on_both! {
    async fn line_09_every_kind_at_every_place(engine) {
        let mint = Mint::new(engine).await;
        let mut all = Vec::new();
        for kind in Kind::ALL {
            all.push(mint.make(kind).await);
        }
        let (table, mut wrong, mut calls) = (table(), Vec::new(), 0);
        let before = written(&mint.app).await;
        for place in &table {
            for made in all.iter().filter(|made| !place.right.contains(&made.kind)) {
                calls += 1;
                wrong.extend(refused(&(place.ask)(&mint, made).send().await, place, made).err());
            }
            assert_eq!(written(&mint.app).await, before, "{} does something", place.name);
        }
        none(&wrong);
        assert!(calls > 6000, "{calls}");
        // none of them was spent or ended by that
        for made in &all {
            if let Some(place) = table.iter().find(|place| place.right.contains(&made.kind)) {
                wrong.extend(taken(&(place.ask)(&mint, made).send().await, place, made.kind).err());
            }
        }
        none(&wrong);
        let by_kind = |kind| all.iter().find(|made| made.kind == kind).unwrap();
        let key = by_kind(Kind::CreationKey);
        let again = mint.app.post("/v1/guests", &json!({"client_id": key.client})).header("idempotency-key", &key.text);
        assert_eq!(Guest::of(&again.send().await.expect(200).json()).id, key.guest.id);
        let key = by_kind(Kind::OperationKey);
        let again = mint.app.post("/v1/me/data/operations", &increment()).bearer(&key.guest.access);
        let again = again.header("idempotency-key", &key.text).send().await.expect(200).json();
        assert_eq!(again["data"]["n"], 1, "done once");
        let placeless: BTreeSet<Kind> =
            Kind::ALL.into_iter().filter(|kind| !table.iter().any(|place| place.right.contains(kind))).collect();
        assert_eq!(placeless, BTreeSet::from(NOWHERE));
    }

    async fn line_09_what_belongs_to_a_place_is_taken_there(engine) {
        let mint = Mint::new(engine).await;
        let mut wrong = Vec::new();
        for place in table() {
            for kind in place.right {
                let made = mint.make(*kind).await;
                let before = written(&mint.app).await;
                let answer = (place.ask)(&mint, &made).send().await;
                wrong.extend(taken(&answer, &place, *kind).err());
                if place.refusal == Refusal::Ignored && written(&mint.app).await == before {
                    wrong.push(format!("{kind:?} at {}: nothing was done", place.name));
                }
            }
        }
        none(&wrong);
    }

    async fn line_09_what_is_no_key_of_a_creation_opens_nothing(engine) {
        let mint = Mint::new(engine).await;
        let mut known = BTreeSet::new();
        let mut all = Vec::new();
        for kind in Kind::ALL {
            let made = mint.make(kind).await;
            known.insert(made.guest.id.clone());
            all.push(made);
        }
        let spa = json!({"client_id": "demo-spa"});
        for made in &all {
            // it is a key of the caller's choice: another guest, or too short for one
            if made.kind != Kind::CreationKey {
                let answer = mint.app.post("/v1/guests", &spa).header("idempotency-key", &made.text).send().await;
                if (22..=255).contains(&made.text.len()) {
                    assert_eq!(answer.expect(201).json()["created"], true, "{:?}", made.kind);
                    assert!(known.insert(Guest::of(&answer.json()).id), "{:?}", made.kind);
                } else {
                    assert_eq!(answer.refused(400, "invalid_value")["field"], "Idempotency-Key");
                }
            }
            // a cookie that is none is taken away, and locks nobody out
            if made.kind != Kind::Cookie {
                let call = mint.app.post("/v1/guests", &spa).cookie(&made.text).header("sec-fetch-site", "same-origin");
                let answer = call.send().await;
                assert!(known.insert(Guest::of(&answer.expect(201).json()).id), "{:?}", made.kind);
                assert!(answer.header("set-cookie").contains("Max-Age=0"), "{:?}", made.kind);
            }
        }
    }

    async fn line_09_an_asking_id_is_nothing_else(engine) {
        let mint = Mint::new(engine).await;
        for kind in Kind::ALL {
            let other = mint.make(kind).await;
            let asked = mint.make(Kind::HandOffId).await;
            let body = |id: &str| json!({"client_id": "demo-spa", "code": asked.beside, "id": id});
            let take = |id: &str| mint.app.post("/v1/guests/hand-off", &body(id)).peer(&mint.address()).send();
            take(&other.text).await.refused(409, "hand_off_cancelled");
            take(&asked.text).await.refused(409, "hand_off_cancelled");
            let asked = mint.make(Kind::RecoveryId).await;
            let body = |id: &str| json!({"client_id": "demo-spa", "code": asked.beside, "id": id});
            let take = |id: &str| mint.app.post("/v1/guests/recover", &body(id)).peer(&mint.address()).send();
            take(&other.text).await.refused(409, "recovery_pending");
            take(&asked.text).await.expect(202);
        }
    }

    async fn line_09_nothing_else_is_a_code(engine) {
        let mint = Mint::new(engine).await;
        for kind in Kind::ALL {
            let (other, claimed) = (mint.make(kind).await, mint.make(Kind::ClaimId).await);
            let path = format!("/v1/me/identifiers/{}/verify", claimed.text);
            let prove = |code: &str| mint.app.post(&path, &json!({"code": code})).bearer(&claimed.guest.access).send();
            let grant = |code: &str| {
                let form = [("grant_type", CLAIM), ("client_id", "demo-spa"), ("subject_token", &claimed.guest.access), ("claim", &claimed.text), ("code", code)];
                mint.app.call("POST", "/oauth2/token").form(&form).send()
            };
            // another claim's code is one of a million: the two may be the same
            if other.text != claimed.beside {
                let refused = prove(&other.text).await;
                assert!(is(&refused, Refusal::Problem(400, "invalid_code")), "{kind:?}: {}", refused.text());
                let refused = grant(&other.text).await;
                assert!(is(&refused, Refusal::OAuth(400, "invalid_grant")), "{kind:?}: {}", refused.text());
            }
            prove(&claimed.beside).await.expect(200);
        }
    }

    async fn line_06_an_id_alone_opens_nothing(engine) {
        let mint = Mint::new(engine).await;
        for kind in [Kind::UserId, Kind::ChosenId] {
            let made = mint.make(kind).await;
            let before = written(&mint.app).await;
            for client in ["demo-spa", "demo-native"] {
                let body = json!({"client_id": client, "user_id": made.text, "persist": true});
                let code = if client == "demo-spa" { (409, "user_id_taken") } else { (403, "user_id_not_allowed") };
                mint.app.post("/v1/guests", &body).send().await.refused(code.0, code.1);
                let answer = mint.app.post("/anonymous/token", &body).send().await;
                assert!(answer.status.is_client_error() && !answer.text().contains("token\":"), "{}", answer.text());
                // nor beside a credential of somebody else
                let other = mint.app.guest_of(client).await;
                let mixed = crate::places::with(body, "session_token", other.session_token.into());
                mint.app.post("/v1/guests", &mixed).send().await.refused(409, "credential_conflict");
            }
            mint.app.get("/v1/me").bearer(&made.guest.access).send().await.expect(200);
            let after = written(&mint.app).await;
            assert_eq!(after["users"].len(), before["users"].len() + 2, "the two others only");
        }
    }
}
