//! Transfers: what is kept of a merge on the guest and on the account, who may see it, and the application's word that
//! makes a pending one final.

use std::{sync::Arc, time::Duration};

use passerby_jose::{b64, sha256};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::{
    Code, Error, Timestamp,
    api_key::Manager,
    caller::{Access, Caller},
    device::{TRIES, body, read_body},
    hold::Held,
    id::{SessionId, TenantNo, UserId},
    model::{Item, ItemKind, Kind, OutRow, User},
    passerby::{Passerby, count},
    port::{Act, CommitError, Ending, ItemChange, StoreError, Turn, UserWrite},
    settings::{ApiScope, Tenant},
};

/// The id of the one row of its kind.
pub(super) const ONE: [u8; 32] = [0; 32];

/// An application that does not confirm within so long has not moved its rows: the merge is undone.
pub(super) const CONFIRM_WITHIN: Duration = Duration::from_hours(7 * 24);

/// How a transfer stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TransferState {
    /// It waits for the application's word; the guest is frozen.
    Pending,
    /// The guest lives on as a pointer to the account.
    Done,
    /// It was taken back.
    Undone,
}

impl TransferState {
    /// The word of the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Done => "done",
            Self::Undone => "undone",
        }
    }
}

/// A transfer as doors show it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TransferView {
    /// Opaque; whoever has it can do nothing by it alone.
    pub id: Box<str>,
    /// How it stands.
    pub state: TransferState,
    /// The guest's id as shown.
    pub guest_id: String,
    /// The account's id as shown.
    pub account_id: String,
    /// When it was made.
    pub created_at: Timestamp,
    /// Until when it can be undone; `None`: it cannot. One that is pending can be in any case.
    pub undo_until: Option<Timestamp>,
    /// The signed receipt, the same at every asking: it says how the transfer stood when it was made.
    pub receipt: Box<str>,
}

/// A transfer at rest, on the guest.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct KeptTransfer {
    pub(super) id: Box<str>,
    /// The account.
    pub(super) account: Box<str>,
    pub(super) state: TransferState,
    /// Both ids as they are shown.
    pub(super) guest_id: Box<str>,
    pub(super) account_id: Box<str>,
    /// Milliseconds.
    pub(super) created_at: i64,
    /// The version of the policies.
    pub(super) policy: Box<str>,
    pub(super) receipt: Box<str>,
    /// So many seconds it can be undone once it is done.
    pub(super) window: u64,
    /// Milliseconds.
    pub(super) undo_until: Option<i64>,
}

/// What an undo needs, on the guest. Texts are kept to the byte.
#[derive(Serialize, Deserialize)]
pub(super) struct KeptUndo {
    /// The guest's data; while the transfer waits it is the guest's still.
    pub(super) guest: Option<Box<RawValue>>,
    /// The account's data before.
    pub(super) before: Box<RawValue>,
    /// And after.
    pub(super) after: Box<RawValue>,
}

/// On the account: which guest came into it.
#[derive(Serialize, Deserialize)]
pub(super) struct KeptAbsorbed {
    pub(super) guest: Box<str>,
    pub(super) transfer: Box<str>,
    /// Milliseconds.
    pub(super) at: i64,
}

/// A transfer that was read.
#[derive(Debug, Clone)]
pub(super) struct Transfer {
    pub(super) guest: UserId,
    pub(super) account: UserId,
    pub(super) item: Item,
    pub(super) kept: KeptTransfer,
}

impl KeptTransfer {
    pub(super) fn view(&self) -> TransferView {
        TransferView {
            id: self.id.clone(),
            state: self.state,
            guest_id: self.guest_id.to_string(),
            account_id: self.account_id.to_string(),
            created_at: Timestamp::from_millis(self.created_at),
            undo_until: self.undo_until.map(Timestamp::from_millis),
            receipt: self.receipt.clone(),
        }
    }

    /// Writes it, in place of one that is there.
    pub(super) fn put(&self, there: Option<&Item>) -> ItemChange {
        put(ItemKind::Transfer, ONE, Timestamp::MAX, body(self), there)
    }
}

impl Transfer {
    /// The same with another state.
    pub(super) fn becomes(&self, state: TransferState, undo_until: Option<Timestamp>) -> KeptTransfer {
        KeptTransfer { state, undo_until: undo_until.map(Timestamp::millis), ..self.kept.clone() }
    }
}

/// Writes an item, in place of one that is there.
pub(super) fn put(
    kind: ItemKind,
    id: [u8; 32],
    ends_at: Timestamp,
    body: Box<str>,
    there: Option<&Item>,
) -> ItemChange {
    let was = there.map(|i| i.revision);
    let revision = was.map_or(1, |r| r.wrapping_add(1));
    ItemChange::Put { item: Item { kind, id, revision, ends_at, body }, was }
}

/// Removes an item as it was seen.
pub(super) fn removed(item: &Item) -> ItemChange {
    ItemChange::Remove { kind: item.kind, id: item.id, was: item.revision }
}

/// A text of the profile, to the byte.
pub(super) fn raw(text: &str) -> Result<Box<RawValue>, Error> {
    RawValue::from_string(text.to_owned())
        .map_err(|_| Error::new(Code::Internal, "The server failed; this is its fault."))
}

/// A transfer's id leads to its guest, so that no index is needed; the other half makes it a new one each time.
pub(super) fn transfer_id(guest: UserId, random: [u8; 16]) -> Box<str> {
    b64::encode(&[guest.as_bytes().as_slice(), &random].concat()).into()
}

/// The guest that a transfer's id leads to.
fn guest_of(id: &str) -> Option<UserId> {
    let bytes: [u8; 32] = b64::decode(id)?.try_into().ok()?;
    let mut guest = [0; 16];
    guest.copy_from_slice(&bytes[..16]);
    Some(UserId::from_bytes(guest))
}

/// The key of the row that an account has of a guest that came into it.
pub(super) fn absorbed_key(guest: UserId) -> [u8; 32] {
    sha256(guest.as_bytes())
}

pub(super) fn no_such_transfer() -> Error {
    Error::new(Code::NotFound, "There is no such transfer.")
}

pub(super) fn wrong_state(detail: &'static str) -> Error {
    Error::new(Code::TransferState, detail)
}

/// What a merge changes of the guest's own row, and all that dies with it. Device keys stay as rows, of no use while the
/// user points to another, so that an undo gives them back.
pub(super) fn retire(turn: &mut Turn, guest: &User, account: UserId, thaws: bool) {
    turn.raise = true;
    turn.end = Ending::All { but: None };
    for kind in [ItemKind::Claim, ItemKind::HandOff, ItemKind::Recovery] {
        turn.items.push(ItemChange::RemoveAll { kind, but: None });
    }
    turn.write = Some(UserWrite {
        data: Some("{}".into()),
        merged_into: Some(account),
        thaws,
        ..as_it_is(Kind::Anonymous, Some(guest.version))
    });
}

/// A write that changes nothing, of a user of this kind.
pub(super) fn as_it_is(kind: Kind, version: Option<i64>) -> UserWrite {
    UserWrite {
        version,
        was: kind,
        data: None,
        kind,
        converted_at: None,
        merged_into: None,
        frozen: false,
        thaws: false,
    }
}

/// Facts of an event about a transfer.
#[derive(Serialize)]
struct Facts<'a> {
    user_id: &'a str,
    guest_id: &'a str,
    account_id: &'a str,
    transfer_id: &'a str,
    policy: &'a str,
    state: TransferState,
}

impl Passerby {
    /// Says on both sides what became of a transfer.
    pub(super) fn transfer_events(
        &self,
        tenant: &Tenant,
        (guest, account): (UserId, UserId),
        kept: &KeptTransfer,
        name: &'static str,
        now: Timestamp,
    ) -> Vec<OutRow> {
        let row = |user, user_id| {
            let facts = Facts {
                user_id,
                guest_id: &kept.guest_id,
                account_id: &kept.account_id,
                transfer_id: &kept.id,
                policy: &kept.policy,
                state: kept.state,
            };
            self.event(tenant, user, name, &facts, now)
        };
        vec![row(guest, &kept.guest_id), row(account, &kept.account_id)]
    }

    /// The guest's transfer, undone ones too.
    pub(super) async fn transfer_of_guest(&self, tenant: TenantNo, guest: UserId) -> Result<Option<Transfer>, Error> {
        let items = self.store.items(tenant, guest, Some(ItemKind::Transfer)).await?;
        let Some(item) = items.into_iter().find(|i| i.id == ONE) else { return Ok(None) };
        let kept: KeptTransfer = read_body(&item)?;
        let account = UserId::parse(&kept.account).ok_or_else(no_such_transfer)?;
        Ok(Some(Transfer { guest, account, item, kept }))
    }

    /// A transfer by its id.
    pub(super) async fn find_transfer(&self, tenant: TenantNo, id: &str) -> Result<Transfer, Error> {
        let guest = guest_of(id).ok_or_else(no_such_transfer)?;
        let found = self.transfer_of_guest(tenant, guest).await?;
        found.filter(|t| *t.kept.id == *id).ok_or_else(no_such_transfer)
    }

    /// What an undo of the guest's transfer needs.
    pub(super) async fn undo_item(&self, tenant: TenantNo, guest: UserId) -> Result<Option<Item>, Error> {
        let items = self.store.items(tenant, guest, Some(ItemKind::TransferUndo)).await?;
        Ok(items.into_iter().find(|i| i.id == ONE))
    }

    /// A user's row.
    pub(super) async fn user_row(&self, tenant: TenantNo, user: UserId) -> Result<Option<User>, Error> {
        Ok(self.store.standing(tenant, user, SessionId::from_bytes([0; 16])).await?.user)
    }

    /// A transfer into the caller's account.
    ///
    /// # Errors
    /// [`Code::NotFound`] for any other; as for [`Passerby::me`].
    pub async fn transfer(&self, caller: &Caller<'_>, access: &Access<'_>, id: &str) -> Result<TransferView, Error> {
        let held = self.hold_caller(caller, access, self.now()).await?;
        self.own_transfer(&held, id).await.map(|t| t.kept.view())
    }

    /// A transfer into the held account.
    pub(super) async fn own_transfer(&self, held: &Held, id: &str) -> Result<Transfer, Error> {
        let transfer = self.find_transfer(held.tenant.no, id).await?;
        if transfer.account == held.user { Ok(transfer) } else { Err(no_such_transfer()) }
    }

    /// Any transfer of the tenant.
    ///
    /// # Errors
    /// As [`Passerby::api_key`]; [`Code::NotFound`].
    pub async fn transfer_of(&self, by: &Manager<'_>, id: &str) -> Result<TransferView, Error> {
        let (tenant, _) = self.manager(by, ApiScope::TransfersRead).await?;
        self.find_transfer(tenant.no, id).await.map(|t| t.kept.view())
    }

    /// The application has moved its own rows: a pending transfer is done. Confirming again changes nothing.
    ///
    /// # Errors
    /// As [`Passerby::api_key`]; [`Code::NotFound`]; [`Code::TransferState`] for one that was undone.
    pub async fn confirm_merge(&self, by: &Manager<'_>, id: &str) -> Result<TransferView, Error> {
        let (tenant, _) = self.manager(by, ApiScope::TransfersWrite).await?;
        for _ in 0..TRIES {
            let now = self.now();
            let transfer = self.find_transfer(tenant.no, id).await?;
            match transfer.kept.state {
                TransferState::Done => return Ok(transfer.kept.view()),
                TransferState::Undone => return Err(wrong_state("The transfer was undone.")),
                TransferState::Pending => {}
            }
            let guest = self.user_row(tenant.no, transfer.guest).await?.ok_or_else(no_such_transfer)?;
            let account = self.user_row(tenant.no, transfer.account).await?.ok_or_else(no_such_transfer)?;
            let undo = self.undo_item(tenant.no, transfer.guest).await?.ok_or_else(no_such_transfer)?;
            // the window is for second thoughts, which begin when the guest is gone
            let window = Duration::from_secs(transfer.kept.window);
            let undo_until = (!window.is_zero()).then(|| now.plus(window));
            let done = transfer.becomes(TransferState::Done, undo_until);
            let mut theirs = Turn::of(guest.id, guest.epoch);
            retire(&mut theirs, &guest, account.id, true);
            theirs.items.push(done.put(Some(&transfer.item)));
            theirs.items.push(match undo_until {
                Some(end) => {
                    let texts = KeptUndo { guest: Some(raw(&guest.data)?), ..read_body(&undo)? };
                    put(ItemKind::TransferUndo, ONE, end, body(&texts), Some(&undo))
                }
                None => removed(&undo),
            });
            // the account must be there still
            let ours = Turn::of(account.id, account.epoch);
            let out = self.transfer_events(&tenant, (guest.id, account.id), &done, "guest.merged", now);
            match self.commit_with(tenant.no, None, Act::Turns(vec![theirs, ours]), out).await {
                Ok(_) => {
                    let epoch = guest.epoch.saturating_add(1);
                    self.note_epoch(tenant.no, guest.id, epoch, guest.chosen_id.as_deref(), now);
                    return Ok(done.view());
                }
                // what is there now tells who was faster, this very request perhaps
                Err(CommitError::Moved | CommitError::Gone | CommitError::Store(StoreError::Unavailable(_))) => {}
                Err(e) => return Err(e.into()),
            }
        }
        Err(CommitError::Moved.into())
    }

    /// Before an account is erased: the guests that came into it go first, so that none is left that leads nowhere; one
    /// whose merge waits is let go as it was.
    pub(crate) async fn thaw(&self, tenant: &Arc<Tenant>, guest: UserId, now: Timestamp) -> Result<(), Error> {
        let Some(transfer) = self.transfer_of_guest(tenant.no, guest).await? else { return Ok(()) };
        match self.undo_pending(tenant, &transfer.kept.id, now).await {
            Err(e) if !matches!(e.code, Code::NotFound | Code::TransferState) => Err(e),
            _ => Ok(()),
        }
    }

    /// Erases the guests that came into an account, which goes next; a merge that waits is taken back.
    ///
    /// # Errors
    /// The store's faults.
    pub(crate) async fn erase_absorbed(
        &self,
        tenant: &Arc<Tenant>,
        account: UserId,
        now: Timestamp,
    ) -> Result<(), Error> {
        let mark_until = now.plus(tenant.longest_lifetime());
        for item in self.store.items(tenant.no, account, Some(ItemKind::Absorbed)).await? {
            let kept: KeptAbsorbed = read_body(&item)?;
            let Some(guest) = UserId::parse(&kept.guest) else { continue };
            let Some(user) = self.user_row(tenant.no, guest).await? else { continue };
            if user.merged_into == Some(account) {
                let act = Act::Erase { user: guest, chosen_id: user.chosen_id.clone(), mark_until, epoch: None };
                self.commit(tenant.no, None, act).await?;
                let epoch = user.epoch.saturating_add(1);
                self.note_epoch(tenant.no, guest, epoch, user.chosen_id.as_deref(), now);
                count(&self.counts().erased);
            } else if user.frozen {
                match self.undo_pending(tenant, &kept.transfer, now).await {
                    Err(e) if !matches!(e.code, Code::NotFound | Code::TransferState) => return Err(e),
                    _ => {}
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_leads_to_its_guest() {
        let guest = UserId::from_bytes([7; 16]);
        let id = transfer_id(guest, [9; 16]);
        assert_eq!(guest_of(&id), Some(guest));
        assert_ne!(transfer_id(guest, [8; 16]), id);
        for text in ["", "x", &id[1..], &format!("{id}AAAA"), &id.replace(|_| true, "ä")] {
            assert_eq!(guest_of(text), None, "{text}");
        }
    }

    #[test]
    fn line_36_a_retired_guest_keeps_nothing_that_opens_it() {
        let guest =
            User { version: 4, ..User::guest(UserId::from_bytes([1; 16]), crate::id::ClientNo(1), Timestamp::MAX) };
        let account = UserId::from_bytes([2; 16]);
        let mut turn = Turn::of(guest.id, guest.epoch);
        retire(&mut turn, &guest, account, false);
        assert!(turn.raise && turn.end == Ending::All { but: None });
        let write = turn.write.unwrap();
        assert_eq!((write.merged_into, write.version, write.data.as_deref()), (Some(account), Some(4), Some("{}")));
        assert_eq!((write.was, write.kind, write.frozen), (Kind::Anonymous, Kind::Anonymous, false));
        for kind in [ItemKind::Claim, ItemKind::HandOff, ItemKind::Recovery] {
            assert!(turn.items.contains(&ItemChange::RemoveAll { kind, but: None }));
        }
    }

    #[test]
    fn texts_are_kept_to_the_byte() {
        let text = r#"{"b":1.0,"a":"é\u0000","n":10000000000000000}"#;
        let kept = KeptUndo { guest: Some(raw(text).unwrap()), before: raw("{}").unwrap(), after: raw(text).unwrap() };
        let read: KeptUndo = serde_json::from_str(&body(&kept)).unwrap();
        assert_eq!((read.guest.unwrap().get(), read.before.get(), read.after.get()), (text, "{}", text));
    }
}
