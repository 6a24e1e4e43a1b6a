//! Identifiers and passwords as rows of a user, and who an identifier belongs to.

use std::time::Duration;

use passerby_jose::b64;
use serde::{Deserialize, Serialize};

use crate::{
    Code, Error, Timestamp,
    device::{body, read_body},
    hold::Held,
    id::{SessionId, TenantNo, UserId},
    identifier::{Identifier, IdentifierKind},
    model::{Item, ItemKind, LookUp, LookUpKind, Record, RecordKind, User},
    passerby::Passerby,
    password::PasswordHash,
    port::{Found, RecordChange},
};

/// So many wrong codes for one address within [`TRIES_WINDOW`], whoever tried them; then only links prove it.
const MOST_WRONG: u32 = 30;
const TRIES_WINDOW: Duration = Duration::from_hours(24);

/// The id of the one row of its kind.
pub(crate) const ONE: [u8; 32] = [0; 32];

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct KeptIdentifier {
    pub(crate) kind: Box<str>,
    pub(crate) normal: Box<str>,
    pub(crate) shown: Box<str>,
    /// When it became the user's: milliseconds.
    pub(crate) at: i64,
    /// Its owner has proven that messages to it arrive; a user name or external id needs no proof.
    pub(crate) proven: bool,
}

#[derive(Serialize, Deserialize)]
pub(crate) struct KeptPassword {
    pub(crate) hash: Box<str>,
    /// When it was set: milliseconds.
    pub(crate) at: i64,
}

#[derive(Serialize, Deserialize)]
struct KeptTries {
    wrong: u32,
}

/// An identifier as doors show it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdentifierView {
    /// Opaque.
    pub id: String,
    /// Its kind.
    pub kind: IdentifierKind,
    /// As it was typed.
    pub value: Box<str>,
    /// Since when it is the user's.
    pub verified_at: Timestamp,
}

/// What a regular user has beside the profile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccountView {
    /// What it signs in with, oldest first.
    pub identifiers: Vec<IdentifierView>,
    /// It has a password.
    pub password: bool,
    /// When the guest became this account; `None`: it never was a guest.
    pub converted_at: Option<Timestamp>,
}

/// Opaque, stable, and short enough for a path.
pub(crate) fn identifier_id(item: &Item) -> String {
    b64::encode(&item.id[..12])
}

impl KeptIdentifier {
    pub(crate) fn identifier(&self) -> Option<Identifier> {
        let kind = IdentifierKind::parse(&self.kind)?;
        Some(Identifier { kind, normal: self.normal.clone(), shown: self.shown.clone() })
    }
}

impl AccountView {
    /// Of what a user has.
    pub(crate) fn of(user: &User, items: &[Item]) -> Result<Self, Error> {
        let mut identifiers = items
            .iter()
            .filter(|i| i.kind == ItemKind::Identifier)
            .filter_map(|item| view_of(item).transpose())
            .collect::<Result<Vec<_>, Error>>()?;
        identifiers.sort_by(|a, b| (a.verified_at, &a.id).cmp(&(b.verified_at, &b.id)));
        let password = items.iter().any(|i| i.kind == ItemKind::Password);
        Ok(Self { identifiers, password, converted_at: user.converted_at })
    }
}

/// `None`: of a kind that this version does not know.
pub(crate) fn view_of(item: &Item) -> Result<Option<IdentifierView>, Error> {
    let kept: KeptIdentifier = read_body(item)?;
    Ok(IdentifierKind::parse(&kept.kind).map(|kind| IdentifierView {
        id: identifier_id(item),
        kind,
        value: kept.shown,
        verified_at: Timestamp::from_millis(kept.at),
    }))
}

/// The identifiers among what a user has.
pub(crate) fn identifiers_of(items: &[Item]) -> Result<Vec<KeptIdentifier>, Error> {
    items.iter().filter(|i| i.kind == ItemKind::Identifier).map(read_body).collect()
}

/// The hash of a user's password.
pub(crate) fn password_of(items: &[Item]) -> Result<Option<PasswordHash>, Error> {
    let Some(item) = items.iter().find(|i| i.kind == ItemKind::Password) else { return Ok(None) };
    let kept: KeptPassword = read_body(item)?;
    PasswordHash::parse(&kept.hash).map(Some)
}

/// The row of a password, in place of the one that is there.
pub(crate) fn password_item(hash: &PasswordHash, revision: i32, now: Timestamp) -> Item {
    let kept = KeptPassword { hash: hash.as_str().into(), at: now.millis() };
    Item { kind: ItemKind::Password, id: ONE, revision, ends_at: Timestamp::MAX, body: body(&kept) }
}

impl Passerby {
    /// The hash under which an identifier is looked up.
    pub(crate) fn identifier_hash(&self, tenant: TenantNo, identifier: &Identifier) -> Result<[u8; 32], Error> {
        self.hash_of(tenant, "identifier", identifier)
    }

    /// A keyed hash of an identifier, another one for each purpose.
    fn hash_of(&self, tenant: TenantNo, purpose: &str, identifier: &Identifier) -> Result<[u8; 32], Error> {
        let parts = [identifier.kind.as_str().as_bytes(), identifier.normal.as_bytes()];
        Ok(self.secrets_of(tenant)?.look_up_hash(purpose, &parts))
    }

    /// The id that stands for an address where no user may: of the outbox's rows for flows. No user ever has it.
    pub(crate) fn place_of(&self, tenant: TenantNo, identifier: &Identifier) -> Result<UserId, Error> {
        let hash = self.hash_of(tenant, "place", identifier)?;
        let mut bytes = [0u8; 16];
        bytes.copy_from_slice(&hash[..16]);
        Ok(uuid::Builder::from_custom_bytes(bytes).into_uuid().into())
    }

    /// Item and look-up by which an identifier is the user's alone.
    pub(crate) fn identifier_rows(
        &self,
        tenant: TenantNo,
        user: UserId,
        identifier: &Identifier,
        proven: bool,
        now: Timestamp,
    ) -> Result<(Item, LookUp), Error> {
        let id = self.identifier_hash(tenant, identifier)?;
        let kept = KeptIdentifier {
            kind: identifier.kind.as_str().into(),
            normal: identifier.normal.clone(),
            shown: identifier.shown.clone(),
            at: now.millis(),
            proven,
        };
        let ends_at = Timestamp::MAX;
        let item = Item { kind: ItemKind::Identifier, id, revision: 1, ends_at, body: body(&kept) };
        let session = SessionId::from_bytes([0; 16]);
        let look_up = LookUp { kind: LookUpKind::Identifier, hash: id, user, session, body: [0; 32], ends_at };
        Ok((item, look_up))
    }

    /// Whose an identifier is.
    pub(crate) async fn owner_of(
        &self,
        tenant: TenantNo,
        identifier: &Identifier,
        now: Timestamp,
    ) -> Result<Option<Found>, Error> {
        let hash = self.identifier_hash(tenant, identifier)?;
        let found = self.store.found(tenant, LookUpKind::Identifier, hash).await?;
        Ok(found.filter(|f| f.look_up.ends_at > now && f.standing.user.is_some()))
    }

    /// The wrong codes for an address, of everybody together.
    pub(crate) async fn wrong_codes_of(
        &self,
        tenant: TenantNo,
        identifier: &Identifier,
        now: Timestamp,
    ) -> Result<AddressTries, Error> {
        let id = self.hash_of(tenant, "wrong codes", identifier)?;
        let there = self.store.record(tenant, RecordKind::Tries, id).await?;
        let wrong = match there.as_ref().filter(|r| r.ends_at > now) {
            None => 0,
            Some(record) => serde_json::from_str::<KeptTries>(&record.body).map_or(MOST_WRONG, |k| k.wrong),
        };
        Ok(AddressTries { id, there, wrong })
    }

    /// The account of a held regular user; a guest has none.
    pub(crate) async fn account_of(&self, held: &Held) -> Result<Option<AccountView>, Error> {
        match &held.row {
            crate::hold::Row::Stored(stored) if stored.user.kind == crate::model::Kind::Regular => {
                let items = self.store.items(held.tenant.no, held.user, None).await?;
                AccountView::of(&stored.user, &items).map(Some)
            }
            _ => Ok(None),
        }
    }
}

/// See [`Passerby::wrong_codes_of`].
pub(crate) struct AddressTries {
    id: [u8; 32],
    there: Option<Record>,
    wrong: u32,
}

impl AddressTries {
    /// Whether codes for the address are looked at.
    ///
    /// # Errors
    /// [`Code::TooManyRequests`] with the wait.
    pub(crate) fn check(&self, now: Timestamp) -> Result<(), Error> {
        if self.wrong < MOST_WRONG {
            return Ok(());
        }
        let wait = self.there.as_ref().map_or(TRIES_WINDOW, |r| r.ends_at.since(now));
        let detail = "Too many wrong codes for this address; use the link, or wait.";
        Err(Error::new(Code::TooManyRequests, detail).after(wait))
    }

    /// One more.
    pub(crate) fn wrong(&self, now: Timestamp) -> RecordChange {
        let alive = self.there.as_ref().filter(|r| r.ends_at > now);
        let ends_at = alive.map_or_else(|| now.plus(TRIES_WINDOW), |r| r.ends_at);
        let was = self.there.as_ref().map(|r| r.revision);
        let body = body(&KeptTries { wrong: self.wrong + 1 });
        let revision = was.map_or(1, |r| r.wrapping_add(1));
        RecordChange::Put { record: Record { kind: RecordKind::Tries, id: self.id, revision, ends_at, body }, was }
    }

    /// None any more: the address was proven. Fails the change when somebody tried meanwhile.
    pub(crate) fn forgiven(&self) -> Option<RecordChange> {
        let there = self.there.as_ref()?;
        Some(RecordChange::Remove { kind: RecordKind::Tries, id: self.id, was: there.revision })
    }
}
