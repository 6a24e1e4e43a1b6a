//! The event log, and what could not be delivered.

use uuid::Uuid;

use super::{LETTER_LIFE, shown_id};
use crate::{
    Code, Error, Timestamp,
    api_key::Manager,
    manage::{Page, PageRequest},
    message::MessageKind,
    model::{KeptRow, OutState, Target},
    passerby::Passerby,
    port::{Act, OutQuery, Settled},
    settings::ApiScope,
};

/// What is delivered, and can be dead.
const DELIVERED: [Target; 3] = [Target::Mail, Target::Sms, Target::Timer];

/// An event as back ends see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventView {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: Box<str>,
    /// Whose it is.
    pub user_id: String,
    /// When it happened.
    pub at: Timestamp,
    /// The user's number of it: it grows with each of the user's events and messages.
    pub number: i64,
    /// What it says: a JSON object.
    pub data: Box<str>,
}

/// A message, or something the server was to do later, that was given up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetter {
    /// Its id.
    pub id: String,
    /// `message.mail`, `message.sms`, or what was to be done.
    pub name: Box<str>,
    /// The kind of message; `None` for what is none, or says nothing any more.
    pub kind: Option<MessageKind>,
    /// Whose it is; of a message to an address without an account, an id that stands for the address.
    pub user_id: String,
    /// When it was written.
    pub at: Timestamp,
    /// How often it was tried.
    pub tries: i32,
    /// Whether it can be sent again: what its code or link was for may be over.
    pub replayable: bool,
}

/// Where a page of rows ends: its moment and id.
fn place(row: &KeptRow) -> [u8; 24] {
    let mut bytes = [0; 24];
    bytes[..8].copy_from_slice(&row.row.at.millis().to_be_bytes());
    bytes[8..].copy_from_slice(&row.row.id);
    bytes
}

fn read_place(bytes: [u8; 24]) -> (Timestamp, [u8; 16]) {
    let (mut at, mut id) = ([0; 8], [0; 16]);
    at.copy_from_slice(&bytes[..8]);
    id.copy_from_slice(&bytes[8..]);
    (Timestamp::from_millis(i64::from_be_bytes(at)), id)
}

impl Passerby {
    /// The tenant's events, the newest first.
    ///
    /// # Errors
    /// As [`Passerby::api_key`]; [`Code::InvalidValue`] for the page.
    pub async fn event_log(&self, by: &Manager<'_>, page: &PageRequest<'_>) -> Result<Page<EventView>, Error> {
        let (tenant, _) = self.manager(by, ApiScope::EventsRead).await?;
        let (before, limit) = page.read::<24>(b'e')?;
        let query = OutQuery {
            tenant: Some(tenant.no),
            targets: &[Target::Log],
            before: before.map(read_place),
            limit: limit as u32 + 1,
            ..OutQuery::default()
        };
        let rows = self.store.outbox(query).await?;
        Ok(Page::cut(rows, limit, b'e', place).map(|kept| EventView {
            id: shown_id(&kept.row.id),
            user_id: kept.row.user.to_string(),
            at: kept.row.at,
            number: kept.seq,
            data: String::from_utf8(kept.row.body.into_vec()).unwrap_or_default().into(),
            name: kept.row.name,
        }))
    }

    /// What could not be delivered, the newest first; kept for thirty days.
    ///
    /// # Errors
    /// As [`Passerby::event_log`].
    pub async fn dead_letters(&self, by: &Manager<'_>, page: &PageRequest<'_>) -> Result<Page<DeadLetter>, Error> {
        let (tenant, _) = self.manager(by, ApiScope::EventsRead).await?;
        let now = self.now();
        let (before, limit) = page.read::<24>(b'd')?;
        let query = OutQuery {
            tenant: Some(tenant.no),
            targets: &DELIVERED,
            state: Some(OutState::Dead),
            before: before.map(read_place),
            limit: limit as u32 + 1,
            ..OutQuery::default()
        };
        let rows = self.store.outbox(query).await?;
        Ok(Page::cut(rows, limit, b'd', place).map(|kept| DeadLetter {
            id: shown_id(&kept.row.id),
            kind: self.open_letter(kept.tenant, &kept.row).map(|message| message.kind),
            replayable: self.replayable(&kept, now),
            user_id: kept.row.user.to_string(),
            at: kept.row.at,
            tries: kept.tries,
            name: kept.row.name,
        }))
    }

    fn replayable(&self, kept: &KeptRow, now: Timestamp) -> bool {
        match kept.row.target {
            Target::Timer => true,
            _ => self.open_letter(kept.tenant, &kept.row).is_some_and(|message| !message.is_over(kept.row.at, now)),
        }
    }

    /// Has a dead letter sent again, as if it were written now; its id stays.
    ///
    /// # Errors
    /// As [`Passerby::api_key`]; [`Code::NotFound`] when no letter with this id is dead, or what it says is over.
    pub async fn replay(&self, by: &Manager<'_>, id: &str) -> Result<(), Error> {
        let (tenant, _) = self.manager(by, ApiScope::EventsWrite).await?;
        let now = self.now();
        let none = || Error::new(Code::NotFound, "There is no dead letter with this id, or what it said is over.");
        let id = Uuid::try_parse(id).ok().filter(|uuid| uuid.to_string() == id).ok_or_else(none)?;
        let query = OutQuery {
            tenant: Some(tenant.no),
            targets: &DELIVERED,
            state: Some(OutState::Dead),
            id: Some(*id.as_bytes()),
            limit: 1,
            ..OutQuery::default()
        };
        let mut rows = self.store.outbox(query).await?;
        let kept = rows.pop().filter(|kept| self.replayable(kept, now)).ok_or_else(none)?;
        let end = self.open_letter(kept.tenant, &kept.row).and_then(|message| message.end(kept.row.at));
        let ends_at = end.unwrap_or_else(|| now.plus(LETTER_LIFE));
        let settled = Settled {
            tenant: kept.tenant,
            user: kept.row.user,
            seq: kept.seq,
            id: kept.row.id,
            was: (kept.state, kept.tries),
            state: OutState::Waiting,
            due_at: Some(now),
            ends_at,
            tries: 0,
            body: None,
        };
        self.commit(tenant.no, None, Act::Settle(vec![settled])).await?;
        self.outbox.call().raise();
        Ok(())
    }
}
