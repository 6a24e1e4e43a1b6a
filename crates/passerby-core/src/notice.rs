//! What a user's sessions are told: every new way in, and every one that is gone. Kept a month, about fifty of them.

use std::{collections::BTreeMap, time::Duration};

use passerby_jose::b64;
use serde::{Deserialize, Serialize};

use crate::{
    Error, Timestamp,
    caller::{Access, Caller},
    device::{body, read_body},
    id::token_id,
    model::{Item, ItemKind},
    passerby::Passerby,
    port::ItemChange,
};

/// A notice is kept so long.
const LIFE: Duration = Duration::from_hours(30 * 24);

/// So many are kept of a user; then the oldest goes of the kind of which there are most.
const MOST: usize = 50;

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum NoticeKind {
    /// A device key was added.
    #[serde(rename = "device_key.added")]
    DeviceKeyAdded,
    /// A device key was removed.
    #[serde(rename = "device_key.removed")]
    DeviceKeyRemoved,
    /// Another device took the guest over a hand-off code.
    #[serde(rename = "hand_off.completed")]
    HandOffCompleted,
    /// Two devices asked with one hand-off code, which died of it.
    #[serde(rename = "hand_off.cancelled")]
    HandOffCancelled,
    /// A recovery waits.
    #[serde(rename = "recovery.started")]
    RecoveryStarted,
    /// A waiting recovery was cancelled.
    #[serde(rename = "recovery.cancelled")]
    RecoveryCancelled,
    /// The guest was recovered.
    #[serde(rename = "recovery.completed")]
    RecoveryCompleted,
    /// A recovery code was made.
    #[serde(rename = "recovery_code.made")]
    RecoveryCodeMade,
    /// Every session was ended.
    #[serde(rename = "sessions.revoked")]
    SessionsRevoked,
}

impl NoticeKind {
    /// The word of the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::DeviceKeyAdded => "device_key.added",
            Self::DeviceKeyRemoved => "device_key.removed",
            Self::HandOffCompleted => "hand_off.completed",
            Self::HandOffCancelled => "hand_off.cancelled",
            Self::RecoveryStarted => "recovery.started",
            Self::RecoveryCancelled => "recovery.cancelled",
            Self::RecoveryCompleted => "recovery.completed",
            Self::RecoveryCodeMade => "recovery_code.made",
            Self::SessionsRevoked => "sessions.revoked",
        }
    }
}

#[derive(Serialize, Deserialize)]
struct Kept {
    kind: NoticeKind,
    /// Milliseconds.
    at: i64,
    device: Option<Box<str>>,
}

/// A notice as doors show it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    /// Opaque.
    pub id: String,
    /// What happened.
    pub kind: NoticeKind,
    /// When.
    pub at: Timestamp,
    /// The device, as it was named.
    pub device: Option<Box<str>>,
}

impl Passerby {
    /// The change that tells a user's sessions something; `items`: what the user has.
    pub(crate) fn told(
        &self,
        items: &[Item],
        kind: NoticeKind,
        device: Option<&str>,
        now: Timestamp,
    ) -> Vec<ItemChange> {
        let mut id = [0u8; 32];
        // by time, then at random: the oldest is the smallest
        id[..8].copy_from_slice(&now.millis().to_be_bytes());
        id[8..24].copy_from_slice(&token_id(self.random.as_ref()));
        let kept = Kept { kind, at: now.millis(), device: device.map(Into::into) };
        let item = Item { kind: ItemKind::Notice, id, revision: 1, ends_at: now.plus(LIFE), body: body(&kept) };
        let mut changes = vec![ItemChange::Put { item, was: None }];
        let there: Vec<&Item> = items.iter().filter(|i| i.kind == ItemKind::Notice).collect();
        if there.len() >= MOST {
            // the oldest of what there is most of: much of one thing must not push out what it is to hide
            let kind_of = |i: &Item| read_body::<Kept>(i).map(|kept| kept.kind.as_str()).unwrap_or_default();
            let mut by_kind: BTreeMap<&str, Vec<&Item>> = BTreeMap::new();
            for item in there {
                by_kind.entry(kind_of(item)).or_default().push(item);
            }
            let most = by_kind.into_values().max_by_key(Vec::len).unwrap_or_default();
            changes.extend(most.iter().min_by_key(|i| i.id).map(|i| ItemChange::Remove {
                kind: ItemKind::Notice,
                id: i.id,
                was: i.revision,
            }));
        }
        changes
    }

    /// What the caller's sessions were told, newest first.
    ///
    /// # Errors
    /// As for [`Passerby::me`].
    pub async fn my_notices(&self, caller: &Caller<'_>, access: &Access<'_>) -> Result<Vec<Notice>, Error> {
        let now = self.now();
        let held = self.hold_caller(caller, access, now).await?;
        let items = self.store.items(held.tenant.no, held.user, Some(ItemKind::Notice)).await?;
        views_of(&items, now)
    }
}

/// The living notices among what a user has, newest first.
pub(crate) fn views_of(items: &[Item], now: Timestamp) -> Result<Vec<Notice>, Error> {
    let mut items: Vec<&Item> = items.iter().filter(|i| i.kind == ItemKind::Notice && i.ends_at > now).collect();
    items.sort_unstable_by_key(|i| std::cmp::Reverse(i.id));
    items
        .into_iter()
        .map(|item| {
            let kept: Kept = read_body(item)?;
            let id = b64::encode(&item.id[..24]);
            Ok(Notice { id, kind: kept.kind, at: Timestamp::from_millis(kept.at), device: kept.device })
        })
        .collect()
}
