//! Every place where a proof of possession is taken, and how it looks when one is refused.

use serde_json::{Value, json};

use crate::{
    app::{Answer, Call, Engine, Guest, TestApp},
    keys::DeviceKey,
};

const SECRET: &str = "demo-web-secret-0123456789abcdef";
pub const INVALID: &str = "invalid_dpop_proof";
pub const NONCE: &str = "use_dpop_nonce";

/// Where proofs are taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// `POST /v1/guests` by the device key.
    Guests,
    /// `POST /v1/guests` with a bound session token.
    Resume,
    /// `POST /v1/guests` with a bound access token.
    Account,
    /// `POST /v1/guests/hand-off`.
    HandOff,
    /// `POST /v1/guests/recover`.
    Recover,
    /// `POST /v1/refresh`.
    Refresh,
    /// `POST /anonymous/token` with a bound session token.
    Dialect,
    /// `POST /oauth2/token`, `refresh_token`.
    Token,
    /// `POST /oauth2/token`, `client_credentials`.
    Own,
    /// `GET /v1/me` with a bound access token.
    Me,
    /// `GET /oauth2/userinfo`.
    UserInfo,
    /// `POST /oauth2/userinfo`.
    UserInfoByPost,
    /// `POST /v1/me/device-keys` with an unbound access token.
    AddKey,
    /// The same with a bound one.
    AddKeyBound,
}

impl Place {
    pub const ALL: [Self; 14] = [
        Self::Guests,
        Self::Resume,
        Self::Account,
        Self::HandOff,
        Self::Recover,
        Self::Refresh,
        Self::Dialect,
        Self::Token,
        Self::Own,
        Self::Me,
        Self::UserInfo,
        Self::UserInfoByPost,
        Self::AddKey,
        Self::AddKeyBound,
    ];

    pub fn target(self) -> (&'static str, &'static str) {
        match self {
            Self::Guests | Self::Resume | Self::Account => ("POST", "/v1/guests"),
            Self::HandOff => ("POST", "/v1/guests/hand-off"),
            Self::Recover => ("POST", "/v1/guests/recover"),
            Self::Refresh => ("POST", "/v1/refresh"),
            Self::Dialect => ("POST", "/anonymous/token"),
            Self::Token | Self::Own => ("POST", "/oauth2/token"),
            Self::Me => ("GET", "/v1/me"),
            Self::UserInfo => ("GET", "/oauth2/userinfo"),
            Self::UserInfoByPost => ("POST", "/oauth2/userinfo"),
            Self::AddKey | Self::AddKeyBound => ("POST", "/v1/me/device-keys"),
        }
    }

    /// Shown under the scheme `DPoP`: then the proof needs `ath`.
    pub fn by_scheme(self) -> bool {
        matches!(self, Self::Account | Self::Me | Self::UserInfo | Self::UserInfoByPost | Self::AddKeyBound)
    }

    pub fn shows_token(self) -> bool {
        self.by_scheme() || self == Self::AddKey
    }

    /// OAuth's own form of an error.
    pub fn is_oauth(self) -> bool {
        self.target().1.starts_with("/oauth2") || self == Self::Dialect
    }
}

/// A guest whose tokens are bound to `key`, and one whose are not.
pub struct House {
    pub app: TestApp,
    pub key: DeviceKey,
    pub guest: Guest,
    pub loose: Guest,
}

impl House {
    pub async fn new(engine: Engine) -> Self {
        Self::of(TestApp::new(engine).await).await
    }

    pub async fn of(app: TestApp) -> Self {
        let key = DeviceKey::new();
        let body = json!({"client_id": "demo-spa", "bind_tokens": true});
        let guest = Guest::of(&key.post(&app, "/v1/guests", &body).send().await.expect(201).json());
        let loose = app.guest().await;
        Self { app, key, guest, loose }
    }

    /// The request of a place without a proof.
    pub fn bare(&self, place: Place) -> Call {
        let (method, path) = place.target();
        let call = self.app.call(method, path);
        let spa = "demo-spa";
        match place {
            Place::Guests => call.json(&json!({"client_id": spa})),
            Place::Resume | Place::Dialect => {
                call.json(&json!({"client_id": spa, "session_token": self.guest.session_token}))
            }
            Place::HandOff | Place::Recover => call.json(&json!({"client_id": spa, "code": "AAAA-AAAA"})),
            Place::Refresh => call.json(&json!({"client_id": spa, "refresh_token": self.guest.refresh})),
            Place::Token => call.form(&[
                ("grant_type", "refresh_token"),
                ("client_id", spa),
                ("refresh_token", &self.guest.refresh),
            ]),
            Place::Own => call.basic("demo-web", SECRET).form(&[("grant_type", "client_credentials")]),
            Place::AddKey => call.bearer(&self.loose.access),
            Place::Account => self.shown(call).json(&json!({"client_id": spa})),
            Place::Me | Place::UserInfo | Place::UserInfoByPost | Place::AddKeyBound => self.shown(call),
        }
    }

    fn shown(&self, call: Call) -> Call {
        call.header("authorization", &format!("DPoP {}", self.guest.access))
    }

    /// The claims of a good proof for a place.
    pub fn claims(&self, place: Place) -> Value {
        let (method, path) = place.target();
        DeviceKey::claims(&self.app, method, path, place.by_scheme().then_some(&*self.guest.access))
    }

    /// The key that a place wants: adding to the loose guest takes one of its own.
    pub fn key(&self, place: Place) -> DeviceKey {
        if place == Place::AddKey { DeviceKey::new() } else { self.key.clone() }
    }

    pub fn proof(&self, place: Place) -> String {
        let key = self.key(place);
        key.sign(&key.header(), &self.claims(place))
    }

    pub async fn ask(&self, place: Place, proofs: &[impl AsRef<str>]) -> Answer {
        proofs.iter().fold(self.bare(place), |call, proof| call.header("dpop", proof.as_ref())).send().await
    }

    /// A good proof works: what is behind the check is reached.
    pub async fn takes(&self, place: Place, proof: &str, what: &str) -> Answer {
        let answer = self.ask(place, &[proof]).await;
        let text = answer.text();
        match place {
            Place::HandOff | Place::Recover => assert_eq!(answer.json()["code"], "invalid_code", "{place:?} {what}"),
            _ => assert!(answer.status.is_success(), "{place:?} {what}: {} {text}", answer.status),
        }
        assert!(!answer.header("dpop-nonce").is_empty(), "{place:?} {what}: a nonce with every answer to a proof");
        answer
    }
}

/// A refused proof: status, word, challenge, a nonce for the next one.
pub fn refused(answer: &Answer, place: Place, code: &str, what: &str) {
    let text = answer.text();
    let status = if place.shows_token() { 401 } else { 400 };
    assert_eq!(answer.status.as_u16(), status, "{place:?} {what}: {text}");
    let word = if place.is_oauth() { "error" } else { "code" };
    assert_eq!(answer.json()[word], code, "{place:?} {what}: {text}");
    assert_eq!(answer.headers.get_all("dpop-nonce").iter().count(), 1, "{place:?} {what}");
    assert_eq!(answer.header("cache-control"), "no-store", "{place:?} {what}");
    let challenge = answer.header("www-authenticate");
    if status == 401 {
        let expected = format!("DPoP error=\"{code}\"");
        assert!(challenge.starts_with(&expected) && challenge.contains("algs="), "{place:?} {what}: {challenge}");
    } else {
        assert_eq!(challenge, "", "{place:?} {what}");
    }
}

pub fn with(mut object: Value, name: &str, value: Value) -> Value {
    object[name] = value;
    object
}

pub fn without(mut object: Value, name: &str) -> Value {
    object.as_object_mut().unwrap().remove(name);
    object
}
