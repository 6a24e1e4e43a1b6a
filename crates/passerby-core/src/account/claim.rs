//! Claiming an identifier: it goes into a flow of the user's, a code and a link go to the address. A claim is inert: it
//! signs nobody in, is found by its own user alone, and stops nobody.

use std::time::Duration;

use passerby_jose::{b64, sha256};
use serde::{Deserialize, Serialize};

use crate::{
    Code, Error, Timestamp,
    caller::{Access, Caller},
    device::{TRIES, body, read_body},
    hold::{Held, Row},
    identifier::{Identifier, IdentifierKind},
    message::{Message, MessageKind, Purpose},
    model::{Item, ItemKind, Kind},
    passerby::Passerby,
    port::{CommitError, ItemChange, Turn},
    settings::{SignInMethod, Tenant},
};

use super::{
    AccountView,
    code::{CODE_LIFE, LINK_LIFE, MOST_TRIES, OneTime, Sent, Use},
    flow::TRIES_LIFE,
    identity::{identifier_id, identifiers_of},
};

/// A claim that nobody proves ends after so long.
const CLAIM_LIFE: Duration = Duration::from_hours(24);

/// An identifier as it came.
#[derive(Debug, Clone, Copy)]
pub enum ClaimWhat<'a> {
    /// An e-mail address.
    Email(&'a str),
    /// A phone number.
    Phone(&'a str),
    /// A user name.
    Username(&'a str),
    /// A name in another system; only back ends give one.
    ExternalId(&'a str),
}

impl ClaimWhat<'_> {
    /// Reads it as the tenant does.
    ///
    /// # Errors
    /// [`Code::InvalidValue`] at its field.
    pub(crate) fn read(self, tenant: &Tenant) -> Result<Identifier, Error> {
        match self {
            Self::Email(text) => Identifier::parse(IdentifierKind::Email, text),
            Self::Username(text) => Identifier::parse(IdentifierKind::Username, text),
            Self::ExternalId(text) => Identifier::parse(IdentifierKind::ExternalId, text),
            Self::Phone(text) => match tenant.sign_in.region {
                Some(region) => Identifier::parse_phone(text, region),
                None => Identifier::parse(IdentifierKind::Phone, text),
            },
        }
    }
}

/// A claim as it was asked for.
#[derive(Debug, Clone, Copy)]
pub struct ClaimRequest<'a> {
    /// What is claimed.
    pub what: ClaimWhat<'a>,
    /// Where the link's page leads afterwards: one of the client's redirect targets.
    pub redirect_uri: Option<&'a str>,
}

/// A claim as its own user sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClaimView {
    /// Its id, by which it is verified; in lists a name that finds it, but lets nobody finish without the code.
    pub id: Box<str>,
    /// What is claimed.
    pub kind: IdentifierKind,
    /// As it was typed.
    pub value: Box<str>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it ends by itself.
    pub expires_at: Timestamp,
    /// Two digits that the link's page shows too.
    pub check: Box<str>,
    /// A person confirmed the link: the claim can be verified without the code, by this id.
    pub proven: bool,
}

/// A claim at rest.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct KeptClaim {
    /// The id, base64url.
    pub(crate) id: Box<str>,
    pub(crate) kind: Box<str>,
    pub(crate) normal: Box<str>,
    pub(crate) shown: Box<str>,
    /// The session that began and alone may finish; `None`: a back end set the claim.
    pub(crate) session: Option<Box<str>>,
    /// Number of the client.
    pub(crate) client: i32,
    /// Milliseconds.
    pub(crate) created_at: i64,
    /// When the first of the wrong codes came: milliseconds.
    pub(crate) tries_since: i64,
    pub(crate) redirect_uri: Option<Box<str>>,
    /// `None`: a user name needs no proof.
    pub(crate) sent: Option<OneTime>,
}

impl KeptClaim {
    pub(crate) fn identifier(&self) -> Option<Identifier> {
        let kind = IdentifierKind::parse(&self.kind)?;
        Some(Identifier { kind, normal: self.normal.clone(), shown: self.shown.clone() })
    }

    /// The id's bytes.
    pub(crate) fn flow(&self) -> [u8; 16] {
        b64::decode(&self.id).and_then(|b| b.try_into().ok()).unwrap_or_default()
    }
}

/// The key of a claim's row.
pub(crate) fn claim_key(id: &str) -> [u8; 32] {
    sha256(id.as_bytes())
}

/// Whether the row is of the claim with this id, or with this name in lists.
pub(crate) fn is_claim(item: &Item, id: &str) -> bool {
    item.id == claim_key(id) || identifier_id(item) == id
}

pub(crate) fn no_such_claim() -> Error {
    Error::new(Code::NotFound, "You have no such claim; it may have ended, or another took its place.")
}

/// Where a link leads afterwards must be registered, to the letter (security checklist 40).
pub(crate) fn checked_redirect(held_targets: &[Box<str>], uri: Option<&str>) -> Result<Option<Box<str>>, Error> {
    match uri {
        Some(uri) if !held_targets.iter().any(|t| **t == *uri) => Err(Error::at(
            Code::InvalidValue,
            "/redirect_uri",
            "Expected one of the client's registered redirect_uris, to the letter.",
        )),
        uri => Ok(uri.map(Into::into)),
    }
}

impl Passerby {
    /// Claims an identifier for the caller. The answer and the work are the same whether or not somebody has it already.
    /// Another claim that the user made before ends with it.
    ///
    /// # Errors
    /// [`Code::InvalidValue`] at what cannot be read; [`Code::TooManyRequests`] for messages; [`Code::GuestFrozen`]; as
    /// for [`Passerby::me`].
    pub async fn claim_identifier(
        &self,
        caller: &Caller<'_>,
        access: &Access<'_>,
        request: ClaimRequest<'_>,
    ) -> Result<ClaimView, Error> {
        let now = self.now();
        let mut held = self.hold_caller(caller, access, now).await?;
        let identifier = request.what.read(&held.tenant)?;
        if identifier.kind == IdentifierKind::ExternalId {
            return Err(Error::at(Code::InvalidValue, "/external_id", "Only a back end gives an external id."));
        }
        signed_in_lately(&held, now)?;
        let redirect_uri = checked_redirect(&held.client.redirect_uris, request.redirect_uri)?;
        if identifier.kind != IdentifierKind::Username {
            self.limit_message(held.tenant.no, caller.address, &identifier)?;
        }
        for _ in 0..TRIES {
            not_frozen(&held)?;
            let items = match &held.row {
                Row::Stored(_) => self.store.items(held.tenant.no, held.user, None).await?,
                Row::Floating(_) => Vec::new(),
            };
            if identifiers_of(&items)?.len() >= held.tenant.sign_in.max_identifiers {
                let detail = "You have as many identifiers as may be; remove one first.";
                return Err(Error::at(Code::InvalidValue, identifier.kind.field(), detail));
            }
            let mut turn = Turn::of(held.user, held.epoch);
            turn.by = Some(held.session);
            let mut tries = (0, now.millis());
            for item in items.iter().filter(|i| i.kind == ItemKind::Claim) {
                let older: KeptClaim = read_body(item)?;
                let fresh = Timestamp::from_millis(older.tries_since).plus(TRIES_LIFE) > now;
                if let Some(sent) = older.sent.as_ref().filter(|_| older.normal == identifier.normal && fresh)
                    && sent.tries > tries.0
                {
                    tries = (sent.tries, older.tries_since);
                }
                // one that a back end set stays until something is proven
                if older.session.is_some() {
                    turn.items.push(ItemChange::Remove { kind: item.kind, id: item.id, was: item.revision });
                }
            }
            if tries.0 >= MOST_TRIES {
                let wait = Timestamp::from_millis(tries.1).plus(TRIES_LIFE).since(now);
                let detail = "Too many wrong codes for this address; use the link, or wait.";
                return Err(Error::at(Code::TooManyRequests, identifier.kind.field(), detail).after(wait));
            }
            let session = Some(held.session.to_string().into());
            let by =
                ClaimedBy { user: held.user, client: held.client.no.0, session, redirect_uri: redirect_uri.clone() };
            let (kept, item, letter) = self.new_claim(&held.tenant, &identifier, by, tries, now)?;
            turn.items.push(ItemChange::Put { item, was: None });
            let out = match letter {
                Some(message) => {
                    let life = if message.link.is_some() { LINK_LIFE } else { CODE_LIFE };
                    vec![self.letter(&held.tenant, held.user, &message, Some(now.plus(life)), now)?]
                }
                None => Vec::new(),
            };
            match self.turn_with(&held, turn, out, now).await {
                Ok(()) => return self.claim_view(&held.tenant, &kept),
                Err(CommitError::Moved | CommitError::Taken) => held = self.hold_again(&held, now).await?,
                Err(e) => return Err(e.into()),
            }
        }
        Err(CommitError::Moved.into())
    }

    /// A claim's row, and the message that goes with it.
    pub(crate) fn new_claim(
        &self,
        tenant: &Tenant,
        identifier: &Identifier,
        by: ClaimedBy,
        (tries, tries_since): (u8, i64),
        now: Timestamp,
    ) -> Result<(KeptClaim, Item, Option<Message>), Error> {
        let flow = self.fresh_id();
        let mut kept = KeptClaim {
            id: b64::encode(&flow).into(),
            kind: identifier.kind.as_str().into(),
            normal: identifier.normal.clone(),
            shown: identifier.shown.clone(),
            session: by.session,
            client: by.client,
            created_at: now.millis(),
            tries_since,
            redirect_uri: by.redirect_uri,
            sent: None,
        };
        let mut letter = None;
        if identifier.kind == IdentifierKind::Email || identifier.kind == IdentifierKind::Phone {
            let mut sent = self.one_time(tenant.no, Use::Claim, *by.user.as_bytes(), flow, now)?;
            sent.kept.tries = tries;
            letter = Some(self.code_letter(tenant, identifier, &sent, Purpose::Verify));
            kept.sent = Some(sent.kept);
        }
        let item = Item {
            kind: ItemKind::Claim,
            id: claim_key(&kept.id),
            revision: 1,
            ends_at: now.plus(CLAIM_LIFE),
            body: body(&kept),
        };
        Ok((kept, item, letter))
    }

    /// The message that says a code, with a link where the tenant has links.
    pub(crate) fn code_letter(
        &self,
        tenant: &Tenant,
        identifier: &Identifier,
        sent: &Sent,
        purpose: Purpose,
    ) -> Message {
        let by_sms = identifier.kind == IdentifierKind::Phone;
        let kind = if by_sms { MessageKind::CodeBySms } else { MessageKind::CodeByEmail };
        let links = !by_sms && tenant.sign_in.allows(SignInMethod::Link);
        Message {
            code: Some(sent.code.as_str().into()),
            link: links.then(|| link_of(tenant, "link", &sent.token)),
            valid_seconds: Some(CODE_LIFE.as_secs()),
            purpose: Some(purpose),
            ..self.message(tenant, kind, &identifier.shown)
        }
    }

    pub(crate) fn claim_view(&self, tenant: &Tenant, kept: &KeptClaim) -> Result<ClaimView, Error> {
        let created_at = Timestamp::from_millis(kept.created_at);
        Ok(ClaimView {
            id: kept.id.clone(),
            kind: kept.identifier().ok_or_else(no_such_claim)?.kind,
            value: kept.shown.clone(),
            created_at,
            expires_at: created_at.plus(CLAIM_LIFE),
            check: self.check_of(tenant.no, &kept.flow())?.into(),
            proven: kept.sent.as_ref().is_some_and(|s| s.proven),
        })
    }

    /// The caller's identifiers and claims. `named`: the id of a claim that is looked for, as who began it was told. The
    /// others are told by name alone: whoever shares the session, as who planted it does, must not finish what another
    /// began once that one confirms the link (security checklist 21).
    ///
    /// # Errors
    /// As for [`Passerby::me`].
    pub async fn my_identifiers(
        &self,
        caller: &Caller<'_>,
        access: &Access<'_>,
        named: Option<&str>,
    ) -> Result<(AccountView, Vec<ClaimView>), Error> {
        let now = self.now();
        let held = self.hold_caller(caller, access, now).await?;
        let Row::Stored(stored) = &held.row else {
            return Ok((AccountView { identifiers: Vec::new(), password: false, converted_at: None }, Vec::new()));
        };
        let items = self.store.items(held.tenant.no, held.user, None).await?;
        let mut claims = items
            .iter()
            .filter(|i| i.kind == ItemKind::Claim && i.ends_at > now)
            .map(|item| {
                let view = self.claim_view(&held.tenant, &read_body(item)?)?;
                let began = named.is_some_and(|id| *view.id == *id);
                Ok(if began { view } else { ClaimView { id: identifier_id(item).into(), proven: false, ..view } })
            })
            .collect::<Result<Vec<_>, Error>>()?;
        claims.sort_by(|a, b| (b.created_at, &b.id).cmp(&(a.created_at, &a.id)));
        Ok((AccountView::of(&stored.user, &items)?, claims))
    }

    /// Removes a claim of the caller's, or one of a regular user's identifiers; the last way in stays.
    ///
    /// # Errors
    /// [`Code::NotFound`]; [`Code::LastWayIn`]; as for [`Passerby::me`].
    pub async fn remove_identifier(&self, caller: &Caller<'_>, access: &Access<'_>, id: &str) -> Result<(), Error> {
        let now = self.now();
        let mut held = self.hold_caller(caller, access, now).await?;
        for _ in 0..TRIES {
            not_frozen(&held)?;
            let items = self.store.items(held.tenant.no, held.user, None).await?;
            if items.iter().any(|i| i.kind == ItemKind::Identifier && identifier_id(i) == id) {
                signed_in_lately(&held, now)?;
            }
            let (change, out) = self.removal(&held.tenant, held.user, &items, id, now)?;
            let mut turn = Turn::of(held.user, held.epoch);
            turn.by = Some(held.session);
            turn.counted = super::convert::ways_in_of(&items);
            turn.items = change;
            match self.turn_with(&held, turn, out, now).await {
                Ok(()) => return Ok(()),
                Err(CommitError::Moved) => held = self.hold_again(&held, now).await?,
                Err(e) => return Err(e.into()),
            }
        }
        Err(CommitError::Moved.into())
    }
}

/// Who claims.
pub(crate) struct ClaimedBy {
    pub(crate) user: crate::id::UserId,
    pub(crate) client: i32,
    pub(crate) session: Option<Box<str>>,
    pub(crate) redirect_uri: Option<Box<str>>,
}

/// A page of ours, by a link in a message: never from the request's host (security checklist 40).
pub(crate) fn link_of(tenant: &Tenant, page: &str, token: &str) -> Box<str> {
    format!("{}/ui/{page}?token={token}", tenant.issuer.trim_end_matches('/')).into()
}

/// What somebody signs in with is changed by who has just signed in: a stolen access token takes no account over.
///
/// # Errors
/// [`Code::ReauthenticationRequired`].
fn signed_in_lately(held: &Held, now: Timestamp) -> Result<(), Error> {
    if held.kind != Kind::Regular || held.is_fresh(now) {
        return Ok(());
    }
    let detail = "What one signs in with is changed within ten minutes of a sign-in; sign in again.";
    Err(Error::new(Code::ReauthenticationRequired, detail))
}

/// While a merge waits for the application's word, nothing of the guest is written.
pub(crate) fn not_frozen(held: &Held) -> Result<(), Error> {
    match &held.row {
        Row::Stored(stored) if stored.user.frozen && stored.user.kind == Kind::Anonymous => {
            Err(CommitError::Frozen.into())
        }
        _ => Ok(()),
    }
}
