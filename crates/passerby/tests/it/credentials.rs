//! One of every kind of credential, code and name that the server gives out or takes: for tests that offer each where
//! another is taken, and for those that steal them.

use std::sync::atomic::{AtomicU32, Ordering};

use passerby_jose::{b64, sha256};
use serde_json::{Value, json};

use crate::{
    accounts,
    app::{Call, Engine, Guest, TestApp, claims},
    keys::DeviceKey,
};

pub const ROOT: &str = "acceptance-root-key-0123456789abcdef0123456789";
pub const SECRET: &str = "demo-web-secret-0123456789abcdef";
pub const ASSERTION_TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

/// What there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// An access token for this server, bound to no key.
    Access,
    /// One that is bound to a key.
    BoundAccess,
    /// A floating guest's.
    FloatingAccess,
    /// One for an API, not for this server.
    ApiAccess,
    /// A confidential client's own.
    ClientAccess,
    Refresh,
    BoundRefresh,
    /// A session token, sealed.
    Session,
    BoundSession,
    /// A session token, signed (the setting `session_token = "jws"`).
    SignedSession,
    /// A floating guest's session token, from the Auth0 dialect.
    FloatingSession,
    /// The value of the page's cookie.
    Cookie,
    /// The Auth0 dialect's ticket.
    TransferTicket,
    HandOffCode,
    /// What a device got that asked with a hand-off code.
    HandOffId,
    RecoveryCode,
    /// What a device got that asked with a recovery code.
    RecoveryId,
    /// An API key of the configuration.
    ConfigKey,
    /// An API key that was made.
    ApiKey,
    ClientSecret,
    ClientAssertion,
    /// An `Idempotency-Key` that made a guest.
    CreationKey,
    /// An `Idempotency-Key` of profile operations.
    OperationKey,
    /// A DPoP proof for `POST /v1/guests`.
    Proof,
    Nonce,
    /// The sealed state in a floating guest's access token.
    FloatingState,
    EpochCursor,
    UsersCursor,
    KeysCursor,
    /// The code of a claim; beside it the claim.
    ClaimCode,
    /// The token of the link that proves a claim.
    ClaimLink,
    /// The token of the link that sets a password.
    PasswordLink,
    MergeTicket,
    /// A merge's.
    Receipt,
    // names, which are no secrets and open nothing
    UserId,
    ChosenId,
    SessionId,
    TokenId,
    Thumbprint,
    ApiKeyId,
    ApiKeyPrefix,
    CheckDigits,
    /// A claim; beside it its code.
    ClaimId,
    /// A merge; the guest is its account.
    TransferId,
}

impl Kind {
    pub const ALL: [Self; 44] = [
        Self::Access,
        Self::BoundAccess,
        Self::FloatingAccess,
        Self::ApiAccess,
        Self::ClientAccess,
        Self::Refresh,
        Self::BoundRefresh,
        Self::Session,
        Self::BoundSession,
        Self::SignedSession,
        Self::FloatingSession,
        Self::Cookie,
        Self::TransferTicket,
        Self::HandOffCode,
        Self::HandOffId,
        Self::RecoveryCode,
        Self::RecoveryId,
        Self::ConfigKey,
        Self::ApiKey,
        Self::ClientSecret,
        Self::ClientAssertion,
        Self::CreationKey,
        Self::OperationKey,
        Self::Proof,
        Self::Nonce,
        Self::FloatingState,
        Self::EpochCursor,
        Self::UsersCursor,
        Self::KeysCursor,
        Self::ClaimCode,
        Self::ClaimLink,
        Self::PasswordLink,
        Self::MergeTicket,
        Self::Receipt,
        Self::UserId,
        Self::ChosenId,
        Self::SessionId,
        Self::TokenId,
        Self::Thumbprint,
        Self::ApiKeyId,
        Self::ApiKeyPrefix,
        Self::CheckDigits,
        Self::ClaimId,
        Self::TransferId,
    ];

    /// A client that the kind was made for.
    fn client(self) -> &'static str {
        match self {
            Self::SignedSession => "demo-native",
            Self::FloatingAccess | Self::FloatingSession | Self::FloatingState => "demo-game",
            _ => "demo-spa",
        }
    }
}

/// One of a kind.
#[derive(Clone)]
pub struct Made {
    pub kind: Kind,
    pub text: String,
    /// The client whose it is.
    pub client: &'static str,
    /// The key that it is bound to; one of nobody's where it is bound to none.
    pub key: DeviceKey,
    /// The guest behind it.
    pub guest: Guest,
    /// What must be shown beside it: the code that an asking id belongs to.
    pub beside: String,
}

/// A server where all kinds can be made.
pub struct Mint {
    pub app: TestApp,
    /// Signs the client `demo-signed`'s assertions.
    pub signer: DeviceKey,
    /// A guest that nothing else belongs to.
    pub loose: Guest,
    /// One whose tokens are bound to a key.
    pub bound: Guest,
    /// A regular user, of the client `demo-spa`.
    pub account: Guest,
    _folder: tempfile::TempDir,
    made: AtomicU32,
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("no text: {value}")).to_owned()
}

impl Mint {
    pub async fn new(engine: Engine) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let signer = DeviceKey::new();
        let set = folder.path().join("keys.json");
        std::fs::write(&set, json!({"keys": [signer.jwk]}).to_string()).unwrap();
        let app = TestApp::with(engine, |c| {
            let c =
                c.replacen("lifetime     = \"365d\"", "lifetime     = \"365d\"\nrecovery_wait = \"1d\"", 1).replacen(
                    "id            = \"demo-native\"",
                    "id            = \"demo-native\"\nsession_token = \"jws\"",
                    1,
                );
            let client = format!(
                "[[tenants.clients]]\nid = \"demo-signed\"\ntype = \"machine\"\njwks_file = \"{}\"\n\n",
                set.display()
            );
            c.replacen("[[tenants.api_keys]]", &format!("{client}[[tenants.api_keys]]"), 1)
        })
        .await;
        app.core.run_jobs().await;
        let loose = app.guest().await;
        let bind = json!({"client_id": "demo-spa", "bind_tokens": true});
        let bound = Guest::of(&DeviceKey::new().post(&app, "/v1/guests", &bind).send().await.expect(201).json());
        let account = accounts::account(&app, "account@example.com", &json!({})).await;
        Self { app, signer, loose, bound, account, _folder: folder, made: AtomicU32::new(0) }
    }

    pub fn next(&self) -> u32 {
        self.made.fetch_add(1, Ordering::Relaxed)
    }

    /// An address that no other call came from, so that guesses are not limited.
    pub fn address(&self) -> String {
        let [_, b, c, d] = self.next().to_be_bytes();
        format!("10.{b}.{c}.{d}")
    }

    pub fn root(&self, method: &str, path: &str) -> Call {
        self.app.call(method, path).bearer(ROOT)
    }

    pub fn assertion(&self) -> String {
        let now = self.app.now();
        let claims = json!({
            "iss": "demo-signed", "sub": "demo-signed", "aud": "http://localhost:9011", "exp": now + 120,
            "jti": format!("assertion-{}", self.next()),
        });
        self.signer.sign(&json!({"alg": "ES256", "typ": "JWT"}), &claims)
    }

    /// A new one of a kind, with a guest of its own where it has one.
    pub async fn make(&self, kind: Kind) -> Made {
        let app = &self.app;
        let (client, key) = (kind.client(), DeviceKey::new());
        let mut made =
            Made { kind, text: String::new(), client, key, guest: Guest::of(&Value::Null), beside: String::new() };
        made.guest = match kind {
            Kind::BoundAccess | Kind::BoundRefresh | Kind::BoundSession => {
                let body = json!({"client_id": client, "bind_tokens": true});
                Guest::of(&made.key.post(app, "/v1/guests", &body).send().await.expect(201).json())
            }
            Kind::Thumbprint => Guest::of(&made.key.ensure(app).await.expect(201).json()),
            Kind::ChosenId => {
                let body = json!({"client_id": client, "user_id": format!("player {}", self.next())});
                Guest::of(&app.post("/v1/guests", &body).send().await.expect(201).json())
            }
            Kind::ApiAccess => {
                let body = json!({"client_id": client, "audience": "https://api.example.com"});
                Guest::of(&app.post("/v1/guests", &body).send().await.expect(201).json())
            }
            _ => app.guest_of(client).await,
        };
        let guest = made.guest.clone();
        made.text = match kind {
            Kind::Access | Kind::BoundAccess | Kind::FloatingAccess | Kind::ApiAccess => guest.access,
            Kind::Refresh | Kind::BoundRefresh => guest.refresh,
            Kind::Session | Kind::BoundSession | Kind::SignedSession => guest.session_token,
            Kind::UserId | Kind::ChosenId => guest.id,
            Kind::SessionId => guest.session,
            Kind::TokenId => text(&claims(&guest.access)["jti"]),
            Kind::FloatingState => text(&claims(&guest.access)["state"]),
            Kind::Thumbprint => made.key.thumbprint(),
            Kind::ConfigKey => ROOT.into(),
            Kind::ClientSecret => SECRET.into(),
            Kind::ClientAssertion => self.assertion(),
            Kind::Nonce => app.core.dpop_nonce(),
            Kind::Proof => made.key.proof(app, "POST", "/v1/guests", None),
            Kind::CheckDigits => "42".into(),
            Kind::CreationKey => {
                let key = format!("creation-key-{}-abcdefghijklmnop", self.next());
                let call = app.post("/v1/guests", &json!({"client_id": client})).header("idempotency-key", &key);
                made.guest = Guest::of(&call.send().await.expect(201).json());
                key
            }
            Kind::OperationKey => {
                let key = format!("operation-key-{}-abcdefghijklmnop", self.next());
                let call = app.post("/v1/me/data/operations", &increment()).bearer(&guest.access);
                call.header("idempotency-key", &key).send().await.expect(200);
                key
            }
            Kind::Cookie => {
                let body = json!({"client_id": client, "session_type": "cookie"});
                let answer = app.post("/v1/guests", &body).send().await;
                made.guest = Guest::of(&answer.expect(201).json());
                answer.cookies()["passerby_session"].clone()
            }
            _ => self.ask_for(kind, &mut made).await,
        };
        assert!(made.text.len() > 1, "{kind:?}");
        made
    }

    /// What a further call gives.
    async fn ask_for(&self, kind: Kind, made: &mut Made) -> String {
        let app = &self.app;
        let by_guest = |method: &str, path: &str| app.call(method, path).bearer(&made.guest.access);
        match kind {
            Kind::ClientAccess => {
                let call = app.call("POST", "/oauth2/token").basic("demo-web", SECRET);
                text(
                    &call.form(&[("grant_type", "client_credentials")]).send().await.expect(200).json()["access_token"],
                )
            }
            Kind::FloatingSession => {
                let call = app.post("/anonymous/token", &json!({"client_id": "demo-game"}));
                text(&call.send().await.expect(200).json()["session_token"])
            }
            Kind::TransferTicket => {
                let body = json!({"client_id": made.client, "session_token": made.guest.session_token, "audience": "urn:auth0:anon_transfer"});
                text(&app.post("/anonymous/token", &body).send().await.expect(200).json()["anon_transfer_token"])
            }
            Kind::HandOffCode | Kind::HandOffId => {
                let code = text(&by_guest("POST", "/v1/me/hand-off").send().await.expect(201).json()["code"]);
                if kind == Kind::HandOffCode {
                    return code;
                }
                let body = json!({"client_id": "demo-spa", "code": code});
                let asked = app.post("/v1/guests/hand-off", &body).peer(&self.address()).send().await;
                made.beside = code;
                text(&asked.expect(200).json()["id"])
            }
            Kind::RecoveryCode | Kind::RecoveryId => {
                let code = text(&by_guest("POST", "/v1/me/recovery-code").send().await.expect(201).json()["code"]);
                if kind == Kind::RecoveryCode {
                    return code;
                }
                let body = json!({"client_id": "demo-spa", "code": code});
                let asked = app.post("/v1/guests/recover", &body).peer(&self.address()).send().await;
                made.beside = code;
                text(&asked.expect(202).json()["id"])
            }
            Kind::ApiKey | Kind::ApiKeyId | Kind::ApiKeyPrefix => {
                let body = json!({"name": format!("key {}", self.next())});
                let key = self.root("POST", "/v1/api-keys").json(&body).send().await.expect(201).json();
                text(
                    &key[match kind {
                        Kind::ApiKey => "key",
                        Kind::ApiKeyId => "id",
                        _ => "prefix",
                    }],
                )
            }
            Kind::ClaimCode | Kind::ClaimId | Kind::ClaimLink => {
                let email = format!("claim{}@example.com", self.next());
                let claim = accounts::claim(app, &made.guest, &json!({"email": email})).await;
                let code = accounts::code(app, &email).await;
                match kind {
                    Kind::ClaimLink => accounts::token(&accounts::link(app, &email).await),
                    Kind::ClaimCode => {
                        made.beside = claim;
                        code
                    }
                    _ => {
                        made.beside = code;
                        claim
                    }
                }
            }
            Kind::PasswordLink => {
                let email = format!("link{}@example.com", self.next());
                made.guest = accounts::account(app, &email, &json!({})).await;
                let body = json!({"client_id": "demo-spa", "email": email});
                // newer than the letter with the code
                app.advance(std::time::Duration::from_millis(1));
                app.post("/v1/password/forgot", &body).send().await.expect(202);
                accounts::token(&accounts::link(app, &email).await)
            }
            Kind::MergeTicket | Kind::Receipt | Kind::TransferId => {
                let email = format!("merge{}@example.com", self.next());
                let account = accounts::account(app, &email, &json!({})).await;
                let call = accounts::enter(app, &email, accounts::PASSWORD).bearer(&made.guest.access);
                let ticket = text(&call.send().await.expect(200).json()["merge_ticket"]);
                if kind == Kind::MergeTicket {
                    return ticket;
                }
                let call = app.post("/v1/me/merge", &json!({"merge_ticket": ticket})).bearer(&made.guest.access);
                let merged = call.send().await.expect(200).json();
                made.guest = account;
                text(if kind == Kind::Receipt { &merged["receipt"] } else { &merged["transfer"]["id"] })
            }
            Kind::EpochCursor => text(&self.root("GET", "/v1/epochs").send().await.expect(200).json()["cursor"]),
            Kind::UsersCursor => {
                app.guest().await;
                text(&self.root("GET", "/v1/users?limit=1").send().await.expect(200).json()["cursor"])
            }
            Kind::KeysCursor => {
                for name in ["a", "b"] {
                    self.root("POST", "/v1/api-keys").json(&json!({"name": name})).send().await.expect(201);
                }
                text(&self.root("GET", "/v1/api-keys?limit=1").send().await.expect(200).json()["cursor"])
            }
            other => unreachable!("{other:?}"),
        }
    }

    /// A proof of a key for a request that shows a token.
    pub fn proof(&self, key: &DeviceKey, method: &str, path: &str, token: &str) -> String {
        let claims = DeviceKey::claims(&self.app, method, path, None);
        let ath = b64::encode(&sha256(token.as_bytes()));
        key.sign(&key.header(), &crate::places::with(claims, "ath", ath.into()))
    }
}

pub fn increment() -> Value {
    json!({"operations": [{"op": "increment", "path": "/n", "by": 1}]})
}
