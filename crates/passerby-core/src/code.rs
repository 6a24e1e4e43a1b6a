//! What hand-off and recovery codes have in common: a device asks with a code and is told to wait, and only that device may
//! come back for the tokens.

use passerby_jose::{b64, same};
use serde::{Deserialize, Serialize};

use crate::{
    Code, Error, Timestamp,
    caller::{Caller, ClientClaim},
    client::{Grant, KnownClient, grant},
    device::checked_name,
    dpop::Thumbprint,
    guest::CreationKey,
    hold::{Held, Proven},
    id::UserId,
    model::{Item, LookUpKind, Session, SessionKind, Standing},
    passerby::Passerby,
};

/// A device that asks to be let in by a code.
#[derive(Clone, Copy)]
pub struct Asking<'a> {
    /// The client.
    pub client: ClientClaim<'a>,
    /// The code, as it was typed.
    pub code: &'a str,
    /// What the first answer gave; a device that shows a key needs none.
    pub id: Option<&'a str>,
    /// Names the device: at most 64 characters.
    pub device: Option<&'a str>,
    /// What the answer carries.
    pub session_type: SessionKind,
    /// Bind the tokens to the key whose proof comes along.
    pub bind_tokens: bool,
    /// The access token's audience.
    pub audience: Option<&'a str>,
    /// Its scopes.
    pub scope: Option<&'a str>,
    /// `Idempotency-Key`, as sent: with it a lost answer can be asked for again.
    pub idempotency_key: Option<&'a str>,
    /// The whole body, which the key is bound to.
    pub body: &'a [u8],
}

opaque_debug!(Asking<'_>);

/// Who asked, as it is kept.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Asker {
    /// 128 random bits: who holds them asked. Base64url.
    pub(crate) id: Box<str>,
    /// The key that was shown; then it alone tells the asker.
    pub(crate) jkt: Option<Box<str>>,
    /// The hash of the `Idempotency-Key`, by which the asker is known as well: the answer with `id` may have been lost.
    #[serde(default)]
    pub(crate) request: Option<Box<str>>,
    pub(crate) device: Option<Box<str>>,
    /// Milliseconds.
    pub(crate) at: i64,
}

impl Asker {
    /// Whether the device that asks now is the one that asked.
    pub(crate) fn is(&self, asking: &Asked<'_>) -> bool {
        match (&self.jkt, &asking.key) {
            (Some(jkt), Some(key)) => **jkt == b64::encode(key),
            (Some(_), None) => false,
            (None, _) => {
                let by_request = asking.request_key.map(|key| b64::encode(&key.hash));
                asking.request.id.is_some_and(|id| same(id.as_bytes(), self.id.as_bytes()))
                    || by_request.is_some_and(|hash| self.request.as_deref() == Some(&*hash))
            }
        }
    }
}

/// A request that was checked as far as it can be without its code.
pub(crate) struct Asked<'a> {
    pub(crate) known: KnownClient,
    pub(crate) request: Asking<'a>,
    pub(crate) key: Option<Thumbprint>,
    pub(crate) bound: bool,
    pub(crate) device: Option<Box<str>>,
    pub(crate) grant: Grant,
    /// By which the answer can be asked for again.
    pub(crate) request_key: Option<CreationKey>,
}

/// A code that is there and alive.
pub(crate) struct GoodCode {
    pub(crate) standing: Standing,
    pub(crate) item: Item,
    /// Everything of the user's, the code's own among them.
    pub(crate) items: Vec<Item>,
}

pub(crate) fn wrong_code() -> Error {
    Error::at(Code::InvalidCode, "/code", "The code is wrong, was used, or is over.")
}

impl Passerby {
    /// Everything about a device that asks but the code.
    pub(crate) async fn asked<'a>(
        &self,
        caller: &Caller<'_>,
        what: LookUpKind,
        request: Asking<'a>,
        now: Timestamp,
    ) -> Result<Asked<'a>, Error> {
        let known = self.known_client(caller, &request.client, now).await?;
        known.may_make_guests()?;
        known.origin_allowed(caller)?;
        if !known.client.first_party {
            return Err(Error::at(
                Code::UnauthorizedClient,
                "client_id",
                "Codes work for the tenant's first-party clients only.",
            ));
        }
        let key = self.proven(caller, &known.tenant, None, now).await?;
        let bound = known.binding(request.bind_tokens, key, request.session_type)?.is_some();
        let device = checked_name(request.device, "/device")?;
        let grant = grant(&known.tenant, &known.client, request.audience, request.scope, true)?;
        let what = if what == LookUpKind::HandOff { "taking a hand-off" } else { "recovering" };
        let request_key = request.idempotency_key.map(|k| self.creation_key(&known, what, k, request.body));
        let request_key = request_key.transpose()?;
        Ok(Asked { known, request, key, bound, device, grant, request_key })
    }

    /// Finds what a code opens. Every guess counts until it was right.
    ///
    /// # Errors
    /// [`Code::InvalidCode`], [`Code::TooManyRequests`] after too many of them.
    pub(crate) async fn good_code(
        &self,
        caller: &Caller<'_>,
        known: &KnownClient,
        kind: LookUpKind,
        hash: Option<[u8; 32]>,
        now: Timestamp,
    ) -> Result<GoodCode, Error> {
        let tenant = known.tenant.no;
        let guess = self.wrong_codes.guess(tenant, caller.address, self.clock.monotonic_millis())?;
        let found = match hash {
            Some(hash) => self.look_for_code(known, kind, hash, now).await,
            None => Ok(None),
        };
        match found {
            Ok(None) => return Err(wrong_code()),
            // a fault of ours is not the visitor's either
            Ok(Some(_)) | Err(_) => guess.passes(),
        }
        found?.ok_or_else(wrong_code)
    }

    async fn look_for_code(
        &self,
        known: &KnownClient,
        kind: LookUpKind,
        hash: [u8; 32],
        now: Timestamp,
    ) -> Result<Option<GoodCode>, Error> {
        let tenant = known.tenant.no;
        let found = self.store.found(tenant, kind, hash).await?;
        let Some(found) = found.filter(|f| f.look_up.ends_at > now) else { return Ok(None) };
        let Some(user) = found.standing.user.as_ref().filter(|u| u.merged_into.is_none()) else { return Ok(None) };
        let items = self.store.items(tenant, user.id, None).await?;
        let item = items.iter().find(|i| i.kind.look_up() == Some(kind) && i.id == hash && i.ends_at > now).cloned();
        Ok(item.map(|item| GoodCode { standing: found.standing, item, items }))
    }

    /// A device key that comes in by a code must be nobody else's. `true`: it is this user's already.
    pub(crate) async fn key_may_come(&self, asked: &Asked<'_>, user: UserId, now: Timestamp) -> Result<bool, Error> {
        let Some(key) = &asked.key else { return Ok(true) };
        match self.owner_of_key(asked.known.tenant.no, key, now).await? {
            Some(owner) if owner != user => {
                Err(Error::at(Code::DeviceKeyTaken, "DPoP", "This key is another guest's; make a new one."))
            }
            owner => Ok(owner.is_some()),
        }
    }

    /// A new asker.
    pub(crate) fn asker(asked: &Asked<'_>, now: Timestamp) -> Result<Asker, Error> {
        let mut id = [0u8; 16];
        random(&mut id)?;
        Ok(Asker {
            id: b64::encode(&id).into(),
            jkt: asked.key.as_ref().map(|k| b64::encode(k).into()),
            request: asked.request_key.map(|key| b64::encode(&key.hash).into()),
            device: asked.device.clone(),
            at: now.millis(),
        })
    }

    /// The session that a code opened before, by the same `Idempotency-Key`.
    pub(crate) async fn opened_before(&self, asked: &Asked<'_>, now: Timestamp) -> Result<Option<Held>, Error> {
        match &asked.request_key {
            Some(key) => self.held_by_key(&asked.known, key, Proven::Key(asked.key), now).await,
            None => Ok(None),
        }
    }

    /// The session that a code opened although the commit's answer was lost; `None`: it was somebody else's.
    pub(crate) async fn opened(
        &self,
        asked: &Asked<'_>,
        user: Option<UserId>,
        session: &Session,
        now: Timestamp,
    ) -> Result<Option<Held>, Error> {
        let Some(user) = user else { return Ok(None) };
        let tenant = &asked.known.tenant;
        if self.store.standing(tenant.no, user, session.id).await?.session(session.id).is_none() {
            return Ok(None);
        }
        self.read_again(tenant, user, session.id, Proven::Key(asked.key), now).await.map(Some)
    }

    /// The full answer for a session that a code opened.
    pub(crate) fn let_in(
        &self,
        asked: &Asked<'_>,
        held: &Held,
        now: Timestamp,
    ) -> Result<crate::guest::Ensured, Error> {
        self.dress(asked.request.session_type, held, &asked.grant, crate::mint::Grade::Session, false, None, now)
    }
}

/// Secret bytes.
pub(crate) fn random(out: &mut [u8]) -> Result<(), Error> {
    passerby_jose::fill_random(out).map_err(|_| Error::new(Code::Internal, "There is no randomness."))
}
