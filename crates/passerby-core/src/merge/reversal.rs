//! A merge is taken back: by the account, by an operator, or because the application never confirmed it. The account
//! loses what came with the guest, but for what was written since; the guest is a guest again.

use std::sync::Arc;

use serde_json::value::RawValue;

use crate::{
    Code, Error, Timestamp,
    api_key::Manager,
    caller::{Access, Caller},
    client::{Grant, KnownClient, grant},
    device::{TRIES, read_body},
    guest::Ensured,
    hand_off::OpenCode,
    hold::{Held, Proven},
    id::TenantNo,
    mint::Grade,
    model::{Item, ItemKind, Kind, Session, SessionKind, User},
    passerby::Passerby,
    port::{Act, CommitError, ItemChange, StoreError, Turn, UserWrite},
    settings::{ApiScope, Tenant},
};

use super::{
    Left, Undone,
    transfer::{
        KeptTransfer, KeptUndo, Transfer, TransferState, TransferView, absorbed_key, as_it_is, no_such_transfer,
        removed, wrong_state,
    },
    undo,
};

/// A merge that was taken back.
#[derive(Debug, Clone)]
pub struct UndoneMerge {
    /// How it stands now.
    pub transfer: TransferView,
    /// Places of the account's data that the merge had changed and somebody wrote since: they stay as they are.
    pub left: Vec<Left>,
    /// There are more of them.
    pub more: bool,
    /// Undone by the account: the guest with a new session.
    pub guest: Option<Ensured>,
    /// Undone by an operator: a hand-off code that lets one device in, once, without confirmation.
    pub code: Option<String>,
}

/// Who takes it back, and what the guest is opened by afterwards.
enum By<'a> {
    /// The account, by this session: the guest's new one, for the same client.
    Account(&'a Held, Box<Session>),
    /// An operator: a code.
    Operator(OpenCode),
    /// Nobody: the application has not confirmed it.
    Time,
}

/// What came of it.
struct Taken {
    kept: KeptTransfer,
    undone: Undone,
}

/// What is there before a merge is taken back.
struct Before {
    transfer: Transfer,
    undo: Item,
    texts: KeptUndo,
    guest: User,
    account: User,
    absorbed: Option<Item>,
}

impl Passerby {
    /// Takes back a merge into the caller's account. The guest gets a new session of the caller's client.
    ///
    /// # Errors
    /// [`Code::NotFound`]; [`Code::TransferState`] when the window is over or it was undone already; as for
    /// [`Passerby::me`].
    pub async fn undo_merge(&self, caller: &Caller<'_>, access: &Access<'_>, id: &str) -> Result<UndoneMerge, Error> {
        let now = self.now();
        let held = self.hold_caller(caller, access, now).await?;
        let known = KnownClient { tenant: held.tenant.clone(), client: held.client.clone(), authenticated: false };
        let grant = guests_grant(&held)?;
        let bound = held.bound_to().copied();
        // a cookie is the account's, and stays so
        let session = self.new_session(&known, bound, bound.is_some(), SessionKind::Tokens, now);
        let opened = session.id;
        let taken = self.take_back(&held.tenant, id, &By::Account(&held, Box::new(session)), now).await?;
        let transfer = self.find_transfer(held.tenant.no, id).await?;
        let guest = self.read_again(&held.tenant, transfer.guest, opened, Proven::Key(bound), now).await?;
        let ensured = self.dress(SessionKind::Tokens, &guest, &grant, Grade::Session, false, None, now)?;
        Ok(UndoneMerge { guest: Some(ensured), ..answer(taken) })
    }

    /// Takes back any merge of the tenant. One device gets into the guest by the code.
    ///
    /// # Errors
    /// As [`Passerby::api_key`]; [`Code::NotFound`]; [`Code::TransferState`] when the window is over or it was undone
    /// already.
    pub async fn undo_merge_of(&self, by: &Manager<'_>, id: &str) -> Result<UndoneMerge, Error> {
        let (tenant, _) = self.manager(by, ApiScope::TransfersWrite).await?;
        let now = self.now();
        let code = self.open_code(tenant.no, now)?;
        let by = By::Operator(code);
        let taken = self.take_back(&tenant, id, &by, now).await?;
        let By::Operator(code) = by else { return Err(no_such_transfer()) };
        Ok(UndoneMerge { code: Some(code.text), ..answer(taken) })
    }

    /// Takes back a merge that the application has not confirmed in time. One that stands otherwise, or is not there any
    /// more, stays as it is.
    ///
    /// # Errors
    /// The store's faults; [`Code::Unavailable`] for a tenant that is not configured.
    pub(crate) async fn undo_unconfirmed(&self, tenant: TenantNo, id: &str) -> Result<(), Error> {
        let settings = self.settings();
        // it waits for its tenant to be declared again
        let unknown = || Error::new(Code::Unavailable, "The transfer's tenant is not configured.");
        let tenant = settings.tenant(tenant).ok_or_else(unknown)?;
        match self.undo_pending(tenant, id, self.now()).await {
            Err(e) if !matches!(e.code, Code::NotFound | Code::TransferState) => Err(e),
            _ => Ok(()),
        }
    }

    /// Takes back a merge that waits.
    pub(super) async fn undo_pending(&self, tenant: &Arc<Tenant>, id: &str, now: Timestamp) -> Result<(), Error> {
        self.take_back(tenant, id, &By::Time, now).await.map(drop)
    }

    async fn take_back(&self, tenant: &Arc<Tenant>, id: &str, by: &By<'_>, now: Timestamp) -> Result<Taken, Error> {
        let mut tried = None;
        for _ in 0..TRIES {
            let before = match self.before_undo(tenant, id, by, now).await? {
                Ok(before) => before,
                // undone: by this very request, if its answer was lost
                Err(transfer) => {
                    return match tried.take() {
                        Some(taken) if self.opened_by_undo(tenant, &transfer, by).await? => Ok(taken),
                        _ => Err(wrong_state("The transfer was undone already.")),
                    };
                }
            };
            let undone = undo(before.texts.before.get(), before.texts.after.get(), &before.account.data)?;
            let was_done = before.transfer.kept.state == TransferState::Done;
            let kept = before.transfer.becomes(TransferState::Undone, None);
            let turns = turns_back(&before, &kept, &undone, by)?;
            let sides = (before.guest.id, before.account.id);
            let out = self.transfer_events(tenant, sides, &kept, "guest.merge.undone", now);
            match self.commit_with(tenant.no, None, Act::Turns(turns), out).await {
                Ok(_) => {
                    if was_done {
                        let epoch = before.guest.epoch.saturating_add(1);
                        self.note_epoch(tenant.no, before.guest.id, epoch, before.guest.chosen_id.as_deref(), now);
                    }
                    return Ok(Taken { kept, undone });
                }
                Err(CommitError::Moved | CommitError::Taken) => {}
                Err(CommitError::Store(StoreError::Unavailable(_))) => tried = Some(Taken { kept, undone }),
                Err(e) => return Err(e.into()),
            }
        }
        Err(CommitError::Moved.into())
    }

    /// Everything that the undo is decided by. The inner error: it was undone already.
    async fn before_undo(
        &self,
        tenant: &Tenant,
        id: &str,
        by: &By<'_>,
        now: Timestamp,
    ) -> Result<Result<Before, Transfer>, Error> {
        let transfer = match by {
            By::Account(held, _) => self.own_transfer(held, id).await?,
            By::Operator(_) | By::Time => self.find_transfer(tenant.no, id).await?,
        };
        if transfer.kept.state == TransferState::Undone {
            return Ok(Err(transfer));
        }
        may_undo(&transfer.kept, matches!(by, By::Time), now)?;
        let undo = self.undo_item(tenant.no, transfer.guest).await?.ok_or_else(too_late)?;
        let texts = read_body(&undo)?;
        let guest = self.user_row(tenant.no, transfer.guest).await?.ok_or_else(no_such_transfer)?;
        let account = self.user_row(tenant.no, transfer.account).await?.ok_or_else(no_such_transfer)?;
        let key = absorbed_key(guest.id);
        let absorbed = self.store.items(tenant.no, account.id, Some(ItemKind::Absorbed)).await?;
        let absorbed = absorbed.into_iter().find(|i| i.id == key);
        Ok(Ok(Before { transfer, undo, texts, guest, account, absorbed }))
    }

    /// Whether what an undo would have opened is there: then the commit was this request's.
    async fn opened_by_undo(&self, tenant: &Tenant, transfer: &Transfer, by: &By<'_>) -> Result<bool, Error> {
        Ok(match by {
            By::Account(_, session) => {
                let standing = self.store.standing(tenant.no, transfer.guest, session.id).await?;
                standing.session(session.id).is_some()
            }
            By::Operator(code) => {
                let codes = self.store.items(tenant.no, transfer.guest, Some(ItemKind::HandOff)).await?;
                codes.iter().any(|i| i.id == code.id)
            }
            By::Time => true,
        })
    }
}

fn too_late() -> Error {
    wrong_state("The transfer cannot be undone any more.")
}

/// Whether a transfer that was not undone yet may be. Pure.
///
/// # Errors
/// [`Code::TransferState`].
fn may_undo(kept: &KeptTransfer, only_pending: bool, now: Timestamp) -> Result<(), Error> {
    match kept.state {
        TransferState::Pending => Ok(()),
        TransferState::Done if only_pending => Err(wrong_state("The transfer was confirmed.")),
        TransferState::Done if kept.undo_until.is_some_and(|end| Timestamp::from_millis(end) > now) => Ok(()),
        TransferState::Done | TransferState::Undone => Err(too_late()),
    }
}

/// The two turns of an undo. Pure.
fn turns_back(before: &Before, kept: &KeptTransfer, undone: &Undone, by: &By<'_>) -> Result<Vec<Turn>, Error> {
    let (guest, account) = (&before.guest, &before.account);
    let was_done = before.transfer.kept.state == TransferState::Done;
    let mut theirs = Turn::of(guest.id, guest.epoch);
    // one that only waited has lost none of its sessions, and keeps them
    theirs.raise = was_done;
    let data = match (&before.texts.guest, was_done) {
        (Some(data), true) => Some(RawValue::get(data).into()),
        (None, true) => return Err(too_late()),
        (_, false) => None,
    };
    theirs.write = Some(UserWrite { data, thaws: true, ..as_it_is(Kind::Anonymous, None) });
    theirs.items.push(kept.put(Some(&before.transfer.item)));
    theirs.items.push(removed(&before.undo));
    let mut ours = Turn::of(account.id, account.epoch);
    match by {
        By::Account(held, session) => {
            ours.by = Some(held.session);
            theirs.open = Some(session.clone());
        }
        By::Operator(code) => {
            let (item, look_up) = code.rows(guest.id);
            theirs.items.push(ItemChange::Put { item, was: None });
            theirs.look_ups.push(look_up);
        }
        By::Time => {}
    }
    let data = (undone.data != account.data).then(|| undone.data.clone());
    ours.write = Some(UserWrite { data, ..as_it_is(Kind::Regular, Some(account.version)) });
    ours.items.extend(before.absorbed.as_ref().map(removed));
    Ok(vec![theirs, ours])
}

/// What the guest's new tokens are for: where the tenant's own audience takes no guests, this server.
fn guests_grant(held: &Held) -> Result<Grant, Error> {
    grant(&held.tenant, &held.client, None, None, true)
        .or_else(|_| grant(&held.tenant, &held.client, Some(&held.tenant.issuer), None, true))
}

fn answer(taken: Taken) -> UndoneMerge {
    let Taken { kept, undone } = taken;
    UndoneMerge { transfer: kept.view(), left: undone.conflicts, more: undone.more, guest: None, code: None }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        id::{ClientNo, UserId},
        merge::transfer::{ONE, raw},
        port::Ending,
    };

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_seconds(1_790_000_000 + seconds)
    }

    fn kept(state: TransferState, undo_until: Option<Timestamp>) -> KeptTransfer {
        KeptTransfer {
            id: "id".into(),
            account: UserId::from_bytes([2; 16]).to_string().into(),
            state,
            guest_id: "g".into(),
            account_id: "a".into(),
            created_at: at(0).millis(),
            policy: "p".into(),
            receipt: "r".into(),
            window: 60,
            undo_until: undo_until.map(Timestamp::millis),
        }
    }

    fn item(kind: ItemKind, revision: i32) -> Item {
        Item { kind, id: ONE, revision, ends_at: Timestamp::MAX, body: "{}".into() }
    }

    fn before(state: TransferState) -> Before {
        let user = |n| User { version: 3, ..User::guest(UserId::from_bytes([n; 16]), ClientNo(1), at(0)) };
        let done = state == TransferState::Done;
        let (guest, account) = (
            User { merged_into: done.then(|| UserId::from_bytes([2; 16])), frozen: !done, ..user(1) },
            User { kind: Kind::Regular, data: r#"{"n":5}"#.into(), ..user(2) },
        );
        Before {
            transfer: Transfer {
                guest: guest.id,
                account: account.id,
                item: item(ItemKind::Transfer, 4),
                kept: kept(state, Some(at(60))),
            },
            undo: item(ItemKind::TransferUndo, 1),
            texts: KeptUndo {
                guest: done.then(|| raw(r#"{"n":2}"#).unwrap()),
                before: raw(r#"{"n":3}"#).unwrap(),
                after: raw(r#"{"n":5}"#).unwrap(),
            },
            guest,
            account,
            absorbed: Some(item(ItemKind::Absorbed, 1)),
        }
    }

    fn undone(data: &str) -> Undone {
        Undone { data: data.into(), conflicts: Vec::new(), more: false }
    }

    #[test]
    fn the_window_closes_for_what_is_done() {
        let pending = kept(TransferState::Pending, None);
        assert!(may_undo(&pending, false, at(0)).is_ok() && may_undo(&pending, true, Timestamp::MAX).is_ok());
        let done = kept(TransferState::Done, Some(at(60)));
        assert!(may_undo(&done, false, at(59)).is_ok());
        let refused = [
            may_undo(&done, false, at(60)),
            may_undo(&done, true, at(0)),
            may_undo(&kept(TransferState::Done, None), false, at(0)),
            may_undo(&kept(TransferState::Undone, Some(at(60))), false, at(0)),
        ];
        for refused in refused {
            assert_eq!(refused.unwrap_err().code, Code::TransferState);
        }
    }

    #[test]
    fn a_guest_that_was_gone_comes_back_under_a_new_epoch() {
        let before = before(TransferState::Done);
        let kept = before.transfer.becomes(TransferState::Undone, None);
        let turns = turns_back(&before, &kept, &undone(r#"{"n":3}"#), &By::Time).unwrap();
        let [theirs, ours] = turns.as_slice() else { panic!("{turns:?}") };
        assert!(theirs.raise && theirs.open.is_none() && theirs.end == Ending::Some(Vec::new()));
        let write = theirs.write.as_ref().unwrap();
        assert_eq!((write.data.as_deref(), write.merged_into, write.thaws), (Some(r#"{"n":2}"#), None, true));
        assert_eq!(theirs.items[1], removed(&before.undo));
        let write = ours.write.as_ref().unwrap();
        assert_eq!((write.data.as_deref(), write.version, write.was), (Some(r#"{"n":3}"#), Some(3), Kind::Regular));
        assert!(!ours.raise && ours.items == [removed(before.absorbed.as_ref().unwrap())]);
    }

    #[test]
    fn a_guest_that_waited_keeps_its_sessions_and_its_data() {
        let before = before(TransferState::Pending);
        let kept = before.transfer.becomes(TransferState::Undone, None);
        let turns = turns_back(&before, &kept, &undone(r#"{"n":5}"#), &By::Time).unwrap();
        assert!(!turns[0].raise);
        let write = turns[0].write.as_ref().unwrap();
        assert_eq!((write.data.as_deref(), write.frozen, write.thaws), (None, false, true));
        assert_eq!(turns[1].write.as_ref().unwrap().data, None, "nothing to write");
    }
}
