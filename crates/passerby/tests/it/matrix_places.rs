//! The table of the cross matrix: every place where a credential, a code or a name is taken, what is right there, and how
//! anything else is refused.

use serde_json::{Value, json};

use crate::{
    app::Call,
    credentials::{ASSERTION_TYPE, Kind, Made, Mint, ROOT, SECRET, increment},
    keys::DeviceKey,
    places::with,
};

/// How a thing that does not belong there is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// A problem of the native API.
    Problem(u16, &'static str),
    /// An error of the OAuth endpoints and the dialect.
    OAuth(u16, &'static str),
    /// Introspection: nothing but `active: false`.
    Inactive,
    /// Revocation: 200, as for any text, and nothing is done.
    Ignored,
    /// A page for people.
    Page(u16),
}

use Refusal::{Ignored, Inactive, OAuth, Problem};

type Ask = Box<dyn Fn(&Mint, &Made) -> Call + Send + Sync>;

/// A place.
pub struct Place {
    pub name: String,
    pub ask: Ask,
    /// What belongs there, and the status then: behind the check a thing may still be missing.
    pub right: &'static [Kind],
    pub status: u16,
    pub refusal: Refusal,
    /// Kinds that are refused in another word.
    pub but: &'static [(Kind, Refusal)],
}

impl Place {
    pub fn refusal_of(&self, kind: Kind) -> Refusal {
        self.but.iter().find(|(k, _)| *k == kind).map_or(self.refusal, |(_, refusal)| *refusal)
    }
}

const OWN: &[Kind] = &[Kind::Access, Kind::FloatingAccess];
const KEYS: &[Kind] = &[Kind::ConfigKey, Kind::ApiKey];

/// A request that is good but for who asks: method, path, body, the status for the right ones.
pub type Target = (&'static str, &'static str, Value, u16);

/// What a guest's access token opens.
pub fn own() -> Vec<Target> {
    let none = Value::Null;
    let mut all = vec![
        ("GET", "/v1/me", none.clone(), 200),
        ("PATCH", "/v1/me/data", json!({"a": 1}), 200),
        ("POST", "/v1/me/data/operations", increment(), 200),
        ("GET", "/v1/me/sessions", none.clone(), 200),
        ("DELETE", "/v1/me/sessions?force=true", none.clone(), 204),
        ("DELETE", "/v1/me/sessions/x", none.clone(), 404),
        ("GET", "/v1/me/export", none.clone(), 200),
        ("GET", "/v1/me/device-keys", none.clone(), 200),
        ("PATCH", "/v1/me/device-keys/x", json!({"name": "x"}), 404),
        ("DELETE", "/v1/me/device-keys/x", none.clone(), 404),
        ("GET", "/v1/me/notices", none.clone(), 200),
        ("POST", "/v1/me/hand-off", none.clone(), 201),
        ("GET", "/v1/me/hand-off", none.clone(), 200),
        ("POST", "/v1/me/hand-off/x/confirm", none.clone(), 404),
        ("DELETE", "/v1/me/hand-off", none.clone(), 204),
        ("POST", "/v1/me/recovery-code", none.clone(), 201),
        ("GET", "/v1/me/recovery", none.clone(), 200),
        ("DELETE", "/v1/me/recovery", none.clone(), 204),
        ("POST", "/v1/logout", json!({}), 204),
        ("DELETE", "/v1/me", none, 204),
    ];
    all.extend(crate::matrix_accounts::own());
    all
}

/// What an API key opens.
fn managed() -> Vec<Target> {
    let none = Value::Null;
    let mut all = vec![
        ("GET", "/v1/users", none.clone(), 200),
        ("POST", "/v1/users", json!({}), 201),
        ("GET", "/v1/users/018f2d5e-0000-7abc-8def-0123456789ab", none.clone(), 404),
        ("PATCH", "/v1/users/018f2d5e-0000-7abc-8def-0123456789ab", json!({}), 404),
        ("DELETE", "/v1/users/018f2d5e-0000-7abc-8def-0123456789ab", none.clone(), 404),
        ("PUT", "/v1/users/018f2d5e-0000-7abc-8def-0123456789ab/hold", none.clone(), 404),
        ("DELETE", "/v1/users/018f2d5e-0000-7abc-8def-0123456789ab/hold", none.clone(), 404),
        ("GET", "/v1/users/018f2d5e-0000-7abc-8def-0123456789ab/sessions", none.clone(), 404),
        ("DELETE", "/v1/users/018f2d5e-0000-7abc-8def-0123456789ab/sessions/x", none.clone(), 404),
        ("POST", "/v1/users/018f2d5e-0000-7abc-8def-0123456789ab/revoke-all", none.clone(), 404),
        ("GET", "/v1/api-keys", none.clone(), 200),
        ("POST", "/v1/api-keys", json!({"name": "x"}), 201),
        ("GET", "/v1/api-keys/018f2d5e-0000-7abc-8def-0123456789ab", none.clone(), 404),
        ("PATCH", "/v1/api-keys/018f2d5e-0000-7abc-8def-0123456789ab", json!({"name": "x"}), 404),
        ("DELETE", "/v1/api-keys/018f2d5e-0000-7abc-8def-0123456789ab", none.clone(), 404),
        ("POST", "/v1/api-keys/018f2d5e-0000-7abc-8def-0123456789ab/rotate", none.clone(), 404),
        ("GET", "/v1/epochs", none, 200),
    ];
    all.extend(crate::matrix_accounts::managed());
    all
}

pub fn call(mint: &Mint, (method, path, body, _): &Target, query: &str) -> Call {
    let call = mint.app.call(method, &format!("{path}{query}"));
    match (*path, body) {
        (_, Value::Null) => call,
        ("/v1/me/data", body) => call.raw(body.to_string().into_bytes(), "application/merge-patch+json"),
        ("/oauth2/introspect", _) => call.form(&[("token", "x")]),
        (_, body) => call.json(body),
    }
}

pub fn escaped(text: &str) -> String {
    text.bytes().fold(String::new(), |all, b| all + &format!("%{b:02x}"))
}

/// Who names something in a path: the guest whose it is, else one that it is not.
fn guest_of(mint: &Mint, made: &Made) -> String {
    match made.kind {
        Kind::SessionId | Kind::Thumbprint | Kind::HandOffId => made.guest.access.clone(),
        _ => mint.loose.access.clone(),
    }
}

fn root(_: &Mint, _: &Made) -> String {
    ROOT.into()
}

#[derive(Default)]
pub struct Table(Vec<Place>);

impl Table {
    pub fn put(
        &mut self,
        name: impl Into<String>,
        right: &'static [Kind],
        status: u16,
        refusal: Refusal,
        ask: impl Fn(&Mint, &Made) -> Call + Send + Sync + 'static,
    ) -> &mut Place {
        let (name, ask) = (name.into(), Box::new(ask));
        self.0.push(Place { name, ask, right, status, refusal, but: &[] });
        self.0.last_mut().unwrap()
    }

    fn bearer(&mut self, target: &Target, right: &'static [Kind], refusal: Refusal) -> &mut Place {
        let t = target.clone();
        self.put(format!("Bearer {} {}", t.0, t.1), right, t.3, refusal, move |m, made| {
            call(m, &t, "").bearer(&made.text)
        })
    }

    fn dpop(&mut self, target: &Target, right: &'static [Kind], refusal: Refusal) {
        let t = target.clone();
        self.put(format!("DPoP {} {}", t.0, t.1), right, t.3, refusal, move |m, made| {
            let proof = m.proof(&made.key, t.0, t.1, &made.text);
            call(m, &t, "").header("authorization", &format!("DPoP {}", made.text)).header("dpop", &proof)
        });
    }

    fn basic(&mut self, target: &Target, right: &'static [Kind], refusal: Refusal) {
        let t = target.clone();
        self.put(format!("Basic {} {}", t.0, t.1), right, t.3, refusal, move |m, made| {
            call(m, &t, "").basic("demo-web", &made.text).peer(&m.address())
        });
    }

    fn cookie(&mut self, target: &Target, right: &'static [Kind], refusal: Refusal) {
        let t = target.clone();
        self.put(format!("Cookie {} {}", t.0, t.1), right, t.3, refusal, move |m, made| {
            call(m, &t, "").cookie(&made.text).header("origin", "http://localhost:9011")
        });
    }

    /// In the URL, where no token is ever taken (RFC 6750 section 2.3).
    fn query(&mut self, target: &Target, refusal: Refusal) {
        let t = target.clone();
        self.put(format!("access_token= {} {}", t.0, t.1), &[], 0, refusal, move |m, made| {
            let sign = if t.1.contains('?') { '&' } else { '?' };
            call(m, &t, &format!("{sign}access_token={}", escaped(&made.text)))
        });
    }

    /// A member of a body, beside others; a `client_id` that is missing there is the one of the thing itself.
    pub fn member(
        &mut self,
        path: &'static str,
        body: &Value,
        name: &'static str,
        right: &'static [Kind],
        status: u16,
        refusal: Refusal,
    ) -> &mut Place {
        let body = body.clone();
        self.put(format!("{name} {path} {body}"), right, status, refusal, move |m, made| {
            m.body(path, &body, name, made)
        })
    }

    /// The same with a proof of the thing's key.
    fn member_proven(
        &mut self,
        path: &'static str,
        body: &Value,
        name: &'static str,
        right: &'static [Kind],
        refusal: Refusal,
    ) {
        let body = body.clone();
        self.put(format!("{name} {path} {body} and a proof"), right, 200, refusal, move |m, made| {
            m.body(path, &body, name, made).header("dpop", &made.key.proof(&m.app, "POST", path, None))
        });
    }

    /// In a path or a query, by somebody who may.
    pub fn named(
        &mut self,
        (method, path): (&'static str, &'static str),
        right: &'static [Kind],
        status: u16,
        refusal: Refusal,
        by: fn(&Mint, &Made) -> String,
    ) {
        self.put(format!("{method} {path}"), right, status, refusal, move |m, made| {
            let path = path.replace("{}", &escaped(&made.text)).replace("{user}", &escaped(&made.guest.id));
            m.app.call(method, &path).bearer(&by(m, made))
        });
    }
}

impl Mint {
    fn body(&self, path: &str, body: &Value, name: &str, made: &Made) -> Call {
        let mut body = with(body.clone(), name, made.text.clone().into());
        if body["client_id"].is_null() {
            body["client_id"] = made.client.into();
        }
        if name == "id" && !made.beside.is_empty() {
            body["code"] = made.beside.clone().into();
        }
        let call = self.app.call("POST", path).peer(&self.address());
        if !path.starts_with("/oauth2") {
            return call.json(&body);
        }
        let pairs: Vec<(&str, &str)> =
            body.as_object().unwrap().iter().map(|(n, v)| (n.as_str(), v.as_str().unwrap())).collect();
        call.form(&pairs)
    }
}

fn sessions(table: &mut Table) {
    use Kind::{
        Access, BoundAccess, BoundRefresh, BoundSession, Cookie, FloatingAccess, FloatingSession, Refresh, Session,
        SignedSession,
    };
    for target in &own() {
        let invalid = Problem(401, "invalid_token");
        table.bearer(target, OWN, invalid);
        table.dpop(target, &[BoundAccess], invalid);
        table.basic(target, &[], invalid);
        table.cookie(target, &[Cookie], Problem(401, "session_ended"));
        table.query(target, Problem(401, "unauthenticated"));
    }
    for method in ["GET", "POST"] {
        let target = (method, "/oauth2/userinfo", Value::Null, 200);
        let invalid = OAuth(401, "invalid_token");
        table.bearer(&target, OWN, invalid);
        table.dpop(&target, &[BoundAccess], invalid);
        table.basic(&target, &[], invalid);
        table.cookie(&target, &[], invalid);
        table.query(&target, invalid);
    }
    table.member("/oauth2/userinfo", &json!({}), "access_token", &[], 0, OAuth(401, "invalid_token"));
    let unproven = Problem(400, "invalid_dpop_proof");
    let wrong = Problem(401, "invalid_session_token");
    table
        .member("/v1/guests", &json!({}), "session_token", &[Session, SignedSession, FloatingSession], 200, wrong)
        .but = &[(BoundSession, Problem(400, "invalid_dpop_proof"))];
    let all = &[Session, SignedSession, FloatingSession, BoundSession];
    table.member_proven("/v1/guests", &json!({}), "session_token", all, wrong);
    let wrong = OAuth(400, "invalid_session_token");
    let place = table.member("/anonymous/token", &json!({}), "session_token", &all[..3], 200, wrong);
    place.but = &[(BoundSession, OAuth(400, "invalid_dpop_proof"))];
    table.member_proven("/anonymous/token", &json!({}), "session_token", all, wrong);
    let wrong = Problem(401, "invalid_refresh_token");
    table.member("/v1/refresh", &json!({}), "refresh_token", &[Refresh], 200, wrong).but =
        &[(BoundRefresh, Problem(400, "invalid_dpop_proof"))];
    table.member_proven("/v1/refresh", &json!({}), "refresh_token", &[Refresh, BoundRefresh], wrong);
    let (grant, wrong) = (json!({"grant_type": "refresh_token"}), OAuth(400, "invalid_grant"));
    // a session token too: what a plain library keeps of a floating guest
    let renewing = &[Refresh, Session, SignedSession, FloatingSession];
    table.member("/oauth2/token", &grant, "refresh_token", renewing, 200, wrong).but =
        &[(BoundRefresh, OAuth(400, "invalid_dpop_proof")), (BoundSession, OAuth(400, "invalid_dpop_proof"))];
    let renewing = &[Refresh, BoundRefresh, Session, SignedSession, FloatingSession, BoundSession];
    table.member_proven("/oauth2/token", &grant, "refresh_token", renewing, wrong);
    for (grant, name) in [
        ("authorization_code", "code"),
        ("password", "password"),
        ("urn:ietf:params:oauth:grant-type:jwt-bearer", "assertion"),
        ("urn:ietf:params:oauth:grant-type:device_code", "device_code"),
    ] {
        let body = json!({"grant_type": grant});
        table.member("/oauth2/token", &body, name, &[], 0, OAuth(400, "unsupported_grant_type"));
    }
    // an access token that resumes, and one that gives its guest a key
    let invalid = Problem(401, "invalid_token");
    table.put("Bearer POST /v1/guests", &[Access, FloatingAccess], 200, invalid, |m, made| {
        m.app.post("/v1/guests", &json!({"client_id": made.client})).bearer(&made.text)
    });
    table.put("DPoP POST /v1/guests", &[BoundAccess], 200, invalid, |m, made| {
        let proof = m.proof(&made.key, "POST", "/v1/guests", &made.text);
        let call = m.app.post("/v1/guests", &json!({"client_id": made.client})).header("dpop", &proof);
        call.header("authorization", &format!("DPoP {}", made.text))
    });
    table.put("Bearer POST /v1/me/device-keys", OWN, 201, invalid, |m, made| {
        made.key.call(&m.app, "POST", "/v1/me/device-keys").bearer(&made.text)
    });
    table.dpop(&("POST", "/v1/me/device-keys", Value::Null, 200), &[BoundAccess], invalid);
    // proofs
    for path in ["/v1/guests", "/v1/guests/hand-off", "/v1/guests/recover"] {
        let right: &[Kind] = if path == "/v1/guests" { &[Kind::Proof] } else { &[] };
        table.put(format!("DPoP: {path}"), right, 201, unproven, move |m, made| {
            let body = json!({"client_id": "demo-spa", "code": "AAAA-AAAA"});
            m.app.post(path, &body).header("dpop", &made.text).peer(&m.address())
        });
    }
    table.put("DPoP: /v1/refresh", &[], 0, unproven, |m, made| {
        let body = json!({"client_id": "demo-spa", "refresh_token": m.bound.refresh});
        m.app.post("/v1/refresh", &body).header("dpop", &made.text)
    });
    table.put("DPoP: /anonymous/token", &[], 0, OAuth(400, "invalid_dpop_proof"), |m, made| {
        let body = json!({"client_id": "demo-spa", "session_token": m.bound.session_token});
        m.app.post("/anonymous/token", &body).header("dpop", &made.text)
    });
    table.put("DPoP: /oauth2/token", &[], 0, OAuth(400, "invalid_dpop_proof"), |m, made| {
        let form = [("grant_type", "refresh_token"), ("client_id", "demo-spa"), ("refresh_token", &m.bound.refresh)];
        m.app.call("POST", "/oauth2/token").form(&form).header("dpop", &made.text)
    });
    for (method, path, refusal) in [
        ("GET", "/v1/me", Problem(401, "invalid_dpop_proof")),
        ("GET", "/oauth2/userinfo", OAuth(401, "invalid_dpop_proof")),
    ] {
        table.put(format!("DPoP: {path}"), &[], 0, refusal, move |m, made| {
            let call = m.app.call(method, path).header("authorization", &format!("DPoP {}", m.bound.access));
            call.header("dpop", &made.text)
        });
    }
    table.put("nonce of a proof", &[Kind::Nonce], 201, Problem(400, "use_dpop_nonce"), |m, made| {
        let claims = with(DeviceKey::claims(&m.app, "POST", "/v1/guests", None), "nonce", made.text.clone().into());
        let proof = made.key.sign(&made.key.header(), &claims);
        m.app.post("/v1/guests", &json!({"client_id": "demo-spa"})).header("dpop", &proof)
    });
}

/// Where clients authenticate: by header, by secret, by assertion.
fn clients(table: &mut Table) {
    for (path, body, status) in [
        ("/v1/guests", json!({}), 201),
        ("/v1/guests/hand-off", json!({"code": "AAAA-AAAA"}), 400),
        ("/v1/guests/recover", json!({"code": "AAAA-AAAA"}), 400),
        ("/v1/refresh", json!({"refresh_token": "x"}), 401),
        ("/anonymous/token", json!({}), 200),
        ("/oauth2/token", json!({"grant_type": "client_credentials"}), 200),
        ("/oauth2/introspect", json!({"token": "x"}), 200),
        ("/oauth2/revoke", json!({"token": "x"}), 200),
    ] {
        let is_oauth = path.starts_with("/oauth2") || path.starts_with("/anonymous");
        let refusal = if is_oauth { OAuth(401, "invalid_client") } else { Problem(401, "invalid_client") };
        table.basic(&("POST", path, body.clone(), status), &[Kind::ClientSecret], refusal);
        let web = with(body.clone(), "client_id", "demo-web".into());
        table.member(path, &web, "client_secret", &[Kind::ClientSecret], status, refusal);
        let signed =
            with(with(body.clone(), "client_id", "demo-signed".into()), "client_assertion_type", ASSERTION_TYPE.into());
        // a machine is nobody's first party: codes are not for it
        let status = if path.starts_with("/v1/guests/") { 403 } else { status };
        table.member(path, &signed, "client_assertion", &[Kind::ClientAssertion], status, refusal);
        table.member(path, &body, "client_id", &[], 0, refusal);
    }
}

fn operators(table: &mut Table) {
    for target in &managed() {
        let invalid = Problem(401, "invalid_token");
        table.bearer(target, KEYS, invalid);
        table.dpop(target, &[], invalid);
        if target.1 == "/v1/epochs" {
            table.basic(target, &[Kind::ClientSecret], Problem(401, "invalid_client"));
        } else {
            table.basic(target, &[], invalid);
        }
        table.cookie(target, &[], Problem(401, "unauthenticated"));
        table.query(target, Problem(401, "unauthenticated"));
    }
    let target = ("POST", "/oauth2/introspect", json!({"token": "x"}), 200);
    // what has spaces in it is no token of any scheme
    table.bearer(&target, KEYS, OAuth(401, "invalid_token")).but =
        &[(Kind::RecoveryCode, OAuth(401, "invalid_client")), (Kind::ChosenId, OAuth(401, "invalid_client"))];
    table.dpop(&target, &[], OAuth(401, "invalid_client"));
    table.cookie(&target, &[], OAuth(401, "invalid_client"));
    let living = &[
        Kind::Access,
        Kind::BoundAccess,
        Kind::FloatingAccess,
        Kind::ApiAccess,
        Kind::ClientAccess,
        Kind::Refresh,
        Kind::BoundRefresh,
        Kind::Session,
        Kind::BoundSession,
        Kind::SignedSession,
        Kind::FloatingSession,
    ];
    table.put("token /oauth2/introspect", living, 200, Inactive, |m, made| {
        m.app.call("POST", "/oauth2/introspect").basic("demo-web", SECRET).form(&[("token", &made.text)])
    });
    table.put("token /oauth2/revoke", living, 200, Ignored, |m, made| {
        let call = m.app.call("POST", "/oauth2/revoke");
        if made.kind == Kind::ClientAccess {
            return call.basic("demo-web", SECRET).form(&[("token", &made.text)]);
        }
        call.form(&[("token", &made.text), ("client_id", made.client)])
    });
    table.put("token /oauth2/revoke of another client", &[], 0, Ignored, |m, made| {
        let other = if made.client == "demo-native" { "demo-spa" } else { "demo-native" };
        m.app.call("POST", "/oauth2/revoke").form(&[("token", &made.text), ("client_id", other)])
    });
}

fn codes_and_names(table: &mut Table) {
    use Kind::{
        ApiKeyId, ChosenId, EpochCursor, HandOffCode, HandOffId, KeysCursor, RecoveryCode, RecoveryId, SessionId,
        Thumbprint, UserId, UsersCursor,
    };
    let (spa, wrong) = (json!({"client_id": "demo-spa"}), Problem(400, "invalid_code"));
    table.member("/v1/guests/hand-off", &spa, "code", &[HandOffCode], 200, wrong);
    table.member("/v1/guests/recover", &spa, "code", &[RecoveryCode], 202, wrong);
    let guess = json!({"client_id": "demo-spa", "code": "AAAA-AAAA"});
    table.member("/v1/guests/hand-off", &guess, "id", &[HandOffId], 200, wrong);
    table.member("/v1/guests/recover", &guess, "id", &[RecoveryId], 202, wrong);
    let missing = Problem(404, "not_found");
    table.named(("POST", "/v1/me/hand-off/{}/confirm"), &[HandOffId], 200, missing, guest_of);
    table.named(("DELETE", "/v1/me/sessions/{}"), &[SessionId], 204, missing, guest_of);
    table.named(("DELETE", "/v1/me/device-keys/{}?force=true"), &[Thumbprint], 204, missing, guest_of);
    table.named(("GET", "/v1/users/{}"), &[UserId, ChosenId], 200, missing, root);
    table.named(("DELETE", "/v1/users/{user}/sessions/{}"), &[SessionId], 204, missing, root);
    table.named(("GET", "/v1/api-keys/{}"), &[ApiKeyId], 200, missing, root);
    let bad = Problem(400, "invalid_value");
    table.named(("GET", "/v1/epochs?since={}"), &[EpochCursor], 200, bad, root);
    table.named(("GET", "/v1/users?cursor={}"), &[UsersCursor], 200, bad, root);
    table.named(("GET", "/v1/api-keys?cursor={}"), &[KeysCursor], 200, bad, root);
}

/// All places.
pub fn table() -> Vec<Place> {
    let mut table = Table::default();
    sessions(&mut table);
    clients(&mut table);
    operators(&mut table);
    codes_and_names(&mut table);
    crate::matrix_accounts::places(&mut table);
    table.0
}
