//! The cross matrix's places of accounts: claims, links, passwords, tickets, transfers, and the grants of the token endpoint that
//! an app with nothing but an OAuth library uses.

use serde_json::{Value, json};

use crate::{
    accounts::{OWN, PASSWORD},
    credentials::{Kind, Made, Mint, ROOT},
    matrix_places::{
        Refusal::{OAuth, Page, Problem},
        Table, Target, escaped,
    },
    oauth_becoming::{ACCESS, CLAIM, EXCHANGE, JWT, SESSION},
};

/// What the caller's own access token opens.
pub fn own() -> Vec<Target> {
    vec![
        ("POST", "/v1/me/identifiers", json!({"email": "somebody@example.com"}), 202),
        ("GET", "/v1/me/identifiers", Value::Null, 200),
        ("GET", "/v1/me/identifiers/x", Value::Null, 404),
        ("DELETE", "/v1/me/identifiers/x", Value::Null, 404),
        ("POST", "/v1/me/identifiers/x/verify", json!({"code": "123456"}), 404),
        ("POST", "/v1/me/merge", json!({"merge_ticket": "x"}), 400),
    ]
}

/// What an API key opens.
pub fn managed() -> Vec<Target> {
    let none = Value::Null;
    vec![
        ("POST", "/v1/users/018f2d5e-0000-7abc-8def-0123456789ab/identifiers", json!({"email": "a@example.com"}), 404),
        ("DELETE", "/v1/users/018f2d5e-0000-7abc-8def-0123456789ab/identifiers/x", none.clone(), 404),
        ("POST", "/v1/users/018f2d5e-0000-7abc-8def-0123456789ab/password", json!({"password": PASSWORD}), 404),
        ("POST", "/v1/transfers/x/confirm", none.clone(), 404),
        ("GET", "/v1/templates", none.clone(), 200),
        ("GET", "/v1/events", none.clone(), 200),
        ("GET", "/v1/outbox/dead", none, 200),
    ]
}

/// The access token beside a thing: its own guest's where there is one that it belongs to.
fn beside(m: &Mint, made: &Made) -> String {
    match made.kind {
        Kind::ClaimId | Kind::MergeTicket | Kind::TransferId => made.guest.access.clone(),
        _ => m.loose.access.clone(),
    }
}

/// All of them.
pub fn places(table: &mut Table) {
    let missing = Problem(404, "not_found");
    for (method, path, right, status) in [
        ("GET", "/v1/me/identifiers/{}", &[Kind::ClaimId], 200),
        ("DELETE", "/v1/me/identifiers/{}", &[Kind::ClaimId], 204),
        ("GET", "/v1/transfers/{}", &[Kind::TransferId], 200),
        ("POST", "/v1/transfers/{}/undo", &[Kind::TransferId], 200),
    ] {
        table.named((method, path), right, status, missing, beside);
    }
    table.named(("GET", "/v1/transfers/{}"), &[Kind::TransferId], 200, missing, |_, _| ROOT.into());
    table.put("claim of POST /v1/me/identifiers/{}/verify", &[Kind::ClaimId], 200, missing, |m, made| {
        let path = format!("/v1/me/identifiers/{}/verify", escaped(&made.text));
        let code = if made.kind == Kind::ClaimId { &*made.beside } else { "123456" };
        m.app.post(&path, &json!({"code": code})).bearer(&beside(m, made))
    });
    let ticket = Problem(400, "invalid_merge_ticket");
    table.put("merge_ticket /v1/me/merge", &[Kind::MergeTicket], 200, ticket, |m, made| {
        m.app.post("/v1/me/merge", &json!({"merge_ticket": made.text})).bearer(&beside(m, made))
    });
    let link = Problem(400, "invalid_code");
    let reset = json!({"client_id": "demo-spa", "password": PASSWORD});
    table.member("/v1/password/reset", &reset, "token", &[Kind::PasswordLink], 204, link);
    for (page, right) in [("/ui/link", &[Kind::ClaimLink]), ("/ui/password", &[Kind::PasswordLink])] {
        table.put(format!("token {page}"), right, 200, Page(400), move |m, made| {
            let form = [("token", &*made.text), ("action", "confirm"), ("password", PASSWORD), ("again", PASSWORD)];
            m.app.call("POST", page).header("origin", OWN).form(&form)
        });
        table.put(format!("token GET {page}"), right, 200, Page(400), move |m, made| {
            m.app.get(&format!("{page}?token={}", escaped(&made.text)))
        });
    }
    grants(table);
}

fn grants(table: &mut Table) {
    let invalid = OAuth(400, "invalid_grant");
    table.put("claim of a guest, /oauth2/token", &[Kind::ClaimId], 200, invalid, |m, made| {
        let (guest, code) = match made.kind {
            Kind::ClaimId => (&made.guest, &*made.beside),
            _ => (&m.loose, "123456"),
        };
        let form = [
            ("grant_type", CLAIM),
            ("client_id", "demo-spa"),
            ("subject_token", &*guest.access),
            ("claim", &made.text),
            ("code", code),
        ];
        m.app.call("POST", "/oauth2/token").form(&form)
    });
    let sign_in = json!({"grant_type": CLAIM, "client_id": "demo-spa", "code": "123456"});
    table.member("/oauth2/token", &sign_in, "claim", &[], 0, invalid);
    // a claim that there is not: whoever comes so far has been let in
    let subject = json!({"grant_type": CLAIM, "claim": "x", "code": "123456"});
    table.member("/oauth2/token", &subject, "subject_token", &[], 0, invalid).but =
        &[(Kind::BoundAccess, OAuth(400, "invalid_dpop_proof"))];
    for (kind, right, bound) in [
        (ACCESS, &[Kind::Access], Kind::BoundAccess),
        (JWT, &[Kind::Access], Kind::BoundAccess),
        (SESSION, &[Kind::Session], Kind::BoundSession),
    ] {
        let but: &'static [_] = match bound {
            Kind::BoundAccess => &[(Kind::BoundAccess, OAuth(400, "invalid_dpop_proof"))],
            _ => &[(Kind::BoundSession, OAuth(400, "invalid_dpop_proof"))],
        };
        for (own, other) in [("subject", "actor"), ("actor", "subject")] {
            let name = format!("{own}_token of {kind} beside an account's");
            let place = table.put(name, right, 200, OAuth(400, "invalid_request"), move |m, made| {
                exchange(m, made, (own, kind), (other, &m.account.access))
            });
            place.but = but;
            let name = format!("{own}_token of {kind} beside a guest's");
            table.put(name, &[], 0, OAuth(400, "invalid_request"), move |m, made| {
                exchange(m, made, (own, kind), (other, &m.loose.access))
            });
        }
    }
}

/// A thing, said to be a token of a kind, beside another's access token.
fn exchange(m: &Mint, made: &Made, (own, kind): (&str, &str), (other, token): (&str, &str)) -> crate::app::Call {
    let names =
        [format!("{own}_token"), format!("{own}_token_type"), format!("{other}_token"), format!("{other}_token_type")];
    let [own_token, own_type, other_token, other_type] = names;
    let form = [
        ("grant_type", EXCHANGE),
        ("client_id", made.client),
        (&*own_token, &*made.text),
        (&*own_type, kind),
        (&*other_token, token),
        (&*other_type, ACCESS),
    ];
    m.app.call("POST", "/oauth2/token").form(&form)
}
