//! The merge itself: both proofs again, one commit, one receipt. Whoever asks again gets the same one.

use std::sync::Arc;

use serde::Serialize;

use crate::{
    Code, Error, Timestamp,
    account::became,
    caller::{Access, Caller},
    client::{Grant, KnownClient, grant},
    code::random,
    device::{TRIES, body},
    guest::{CreationKey, Ensured},
    hold::{Held, Proven},
    id::{TenantNo, UserId},
    mint::Grade,
    model::{ItemKind, Kind, OutRow, SessionKind, Target},
    passerby::Passerby,
    port::{Act, CommitError, StoreError, Turn, UserWrite},
    settings::Tenant,
};

use super::{
    Preview,
    receipt::Receipt,
    ticket::{Side, Ticket, bad_ticket, may_merge, outcome, preview_of, rules_of, shown, user_of},
    transfer::{
        CONFIRM_WITHIN, KeptAbsorbed, KeptTransfer, KeptUndo, ONE, Transfer, TransferState, TransferView, absorbed_key,
        as_it_is, put, raw, retire, transfer_id,
    },
};

/// So many guests may have come into one account: all of its rows are read with it.
const MOST_ABSORBED: usize = 1_000;

/// The name of the timer that ends a merge which nobody confirms.
const EXPIRE: &str = "transfer.expire";

/// A merge as it was asked for.
#[derive(Clone, Copy)]
pub struct MergeRequest<'a> {
    /// The ticket.
    pub ticket: &'a str,
    /// Only look.
    pub dry_run: bool,
    /// What the answer carries; `None`: as the caller's session.
    pub session_type: Option<SessionKind>,
    /// The access token's audience.
    pub audience: Option<&'a str>,
    /// Its scopes.
    pub scope: Option<&'a str>,
    /// `Idempotency-Key`, as sent: with it the guest, whose token dies of the merge, can ask for a lost answer again.
    pub idempotency_key: Option<&'a str>,
    /// The whole body, which the key is bound to.
    pub body: &'a [u8],
}

/// What an `Idempotency-Key` of this call is hashed with.
const MERGING: &str = "merging";

/// What came of it.
#[derive(Debug, Clone)]
pub enum MergeAnswer {
    /// Nothing was changed.
    Preview {
        /// What it would come to.
        preview: Preview,
        /// A newer ticket, where the policies have changed since the one that was shown; it lives no longer than that.
        ticket: Option<String>,
    },
    /// The guest came into the account, now or by an earlier request.
    Done(Box<MergedInto>),
}

/// A guest that came into an account.
#[derive(Debug, Clone)]
pub struct MergedInto {
    /// A JWT signed by the tenant's key; the same at every asking.
    pub receipt: Box<str>,
    /// How the transfer stands.
    pub transfer: TransferView,
    /// The account, with the tokens or the cookie of one of its sessions.
    pub ensured: Ensured,
}

opaque_debug!(MergeRequest<'_>);

/// What the answer is to carry.
#[derive(Clone, Copy)]
pub(super) struct Wish<'a> {
    /// `None`: as the caller's session.
    pub(super) kind: Option<SessionKind>,
    pub(super) own_kind: SessionKind,
    pub(super) audience: Option<&'a str>,
    pub(super) scope: Option<&'a str>,
    pub(super) grade: Grade,
}

/// A wish that was checked.
pub(super) struct Granted {
    kind: SessionKind,
    grant: Grant,
    grade: Grade,
}

impl Wish<'_> {
    /// What tokens of this session can be had: asked before anything is changed.
    ///
    /// # Errors
    /// [`Code::InvalidTarget`], [`Code::InvalidScope`]; [`Code::InvalidValue`] for a cookie of a bound session.
    pub(super) fn of(self, account: &Held) -> Result<Granted, Error> {
        let bound = account.bound_to().is_some();
        let kind = match self.kind {
            Some(SessionKind::Cookie) if bound => {
                let detail = "The session is bound to a key, which a cookie cannot prove.";
                return Err(Error::at(Code::InvalidValue, "/session_type", detail));
            }
            Some(kind) => kind,
            None if bound => SessionKind::Tokens,
            None => self.own_kind,
        };
        let grant = grant(&account.tenant, &account.client, self.audience, self.scope, false)?;
        Ok(Granted { kind, grant, grade: self.grade })
    }
}

#[derive(Serialize)]
struct Expires<'a> {
    transfer: &'a str,
}

pub(super) fn sign_in_again() -> Error {
    let detail = "The account's session has ended, or its sign-in is too long ago; sign in to it again.";
    Error::new(Code::ReauthenticationRequired, detail)
}

fn merged_elsewhere() -> Error {
    Error::new(Code::GuestMerged, "This guest was merged into an account already.")
}

/// Faults that say nothing about the credential.
fn is_fault(error: &Error) -> bool {
    matches!(error.code, Code::Unavailable | Code::Internal | Code::StorageFull)
}

impl Passerby {
    /// Merges the ticket's guest into its account, asked by either of the two with the session that the ticket was made
    /// for; both are looked at again. Asked again by the account the answer is the first one's receipt, whatever became of
    /// ticket and sessions.
    ///
    /// # Errors
    /// [`Code::InvalidMergeTicket`]; [`Code::ReauthenticationRequired`] when the account's session is over;
    /// [`Code::GuestMerged`], [`Code::GuestConverted`], also with the guest's dead token; [`Code::PreviewOutdated`] when the
    /// policies changed; [`Code::MergeRefused`]; [`Code::Data`] where the outcome would break a limit or the tenant's
    /// schema; what can be wrong with audience and scope; as for [`Passerby::me`].
    pub async fn merge_guest(
        &self,
        caller: &Caller<'_>,
        access: &Access<'_>,
        request: MergeRequest<'_>,
    ) -> Result<MergeAnswer, Error> {
        let now = self.now();
        let (held, grade) = match self.hold_graded(caller, access, now).await {
            Ok(held) => held,
            Err(e) => return self.late_merger(caller, access, &request, e, now).await,
        };
        let tenant = held.tenant.clone();
        let ticket = self.open_ticket(&tenant, request.ticket).ok_or_else(bad_ticket)?;
        let by_guest = held.user == ticket.guest.user;
        if !by_guest && held.user != ticket.account.user {
            return Err(bad_ticket());
        }
        let wish = Wish {
            kind: request.session_type,
            own_kind: held.session_kind(),
            audience: request.audience,
            scope: request.scope,
            // by the guest: the account's session was opened by the sign-in that the ticket stands for
            grade: if by_guest { Grade::Session } else { grade },
        };
        // whose tokens the answer has
        let answers = if by_guest { ticket.account } else { Side::of(&held) };
        let known_side = if by_guest { ticket.guest.is(&held) } else { ticket.account.is(&held) };
        if let Some(before) = self.merged_before(tenant.no, ticket.guest.user, ticket.account.user).await? {
            if request.dry_run {
                return Err(merged_elsewhere());
            }
            if by_guest && !known_side {
                return Err(bad_ticket());
            }
            let account = self.account_side(&tenant, &answers, now).await?;
            let granted = wish.of(&account)?;
            return Ok(MergeAnswer::Done(Box::new(self.merged_answer(&before.kept, &account, &granted, now).await?)));
        }
        if !known_side || ticket.expires_at <= now {
            return Err(bad_ticket());
        }
        if request.dry_run {
            return self.look_at_merge(&tenant, &ticket, now).await;
        }
        let known = KnownClient { tenant: tenant.clone(), client: held.client.clone(), authenticated: false };
        let key = request.idempotency_key.map(|k| self.creation_key(&known, MERGING, k, request.body)).transpose()?;
        let key = key.as_ref().map(|key| (&known, key));
        let (kept, granted) = self.merge_sides(&tenant, &ticket, &wish, key, now).await?;
        let account = self.account_side(&tenant, &answers, now).await?;
        Ok(MergeAnswer::Done(Box::new(self.merged_answer(&kept, &account, &granted, now).await?)))
    }

    /// The caller's session, and what its credential may yield.
    async fn hold_graded(
        &self,
        caller: &Caller<'_>,
        access: &Access<'_>,
        now: Timestamp,
    ) -> Result<(Held, Grade), Error> {
        if let Some(token) = access.token {
            let (seen, held) = self.hold_access(caller, token, now).await?;
            return Ok((held, Grade::Access { until: seen.expires_at }));
        }
        Ok((self.hold_caller(caller, access, now).await?, Grade::Session))
    }

    /// A caller whose session is over. A guest is given the answer of its merge again, by the same `Idempotency-Key`, or is
    /// told what became of it; the account is told to sign in.
    async fn late_merger(
        &self,
        caller: &Caller<'_>,
        access: &Access<'_>,
        request: &MergeRequest<'_>,
        error: Error,
        now: Timestamp,
    ) -> Result<MergeAnswer, Error> {
        let Some((known, user)) = self.late_caller(caller, access, &error, now)? else { return Err(error) };
        let ticket = self.open_ticket(&known.tenant, request.ticket);
        if ticket.as_ref().is_some_and(|t| t.account.user == user) {
            return Err(error);
        }
        if let (Some(key), Some(ticket)) = (request.idempotency_key, ticket.filter(|t| t.guest.user == user))
            && let Some(before) = self.merged_before(known.tenant.no, user, ticket.account.user).await?
        {
            let key = self.creation_key(&known, MERGING, key, request.body)?;
            // the account's session was opened by the sign-in that the ticket stands for
            if let Some(account) = self.held_by_key(&known, &key, Proven::Unasked, now).await?
                && ticket.account.is(&account)
            {
                let wish = Wish {
                    kind: request.session_type,
                    own_kind: account.session_kind(),
                    audience: request.audience,
                    scope: request.scope,
                    grade: Grade::Session,
                };
                let granted = wish.of(&account)?;
                let answer = self.merged_answer(&before.kept, &account, &granted, now).await?;
                return Ok(MergeAnswer::Done(Box::new(answer)));
            }
        }
        Err(self.what_became_of(&known, user).await?.unwrap_or(error))
    }

    /// The transfer of this guest into this account, where there is one that was not undone.
    ///
    /// # Errors
    /// [`Code::GuestMerged`] when it went into another.
    pub(super) async fn merged_before(
        &self,
        tenant: TenantNo,
        guest: UserId,
        account: UserId,
    ) -> Result<Option<Transfer>, Error> {
        match self.transfer_of_guest(tenant, guest).await? {
            Some(t) if t.kept.state == TransferState::Undone => Ok(None),
            Some(t) if t.account != account => Err(merged_elsewhere()),
            found => Ok(found),
        }
    }

    /// The guest's proof, looked at again.
    async fn guest_side(&self, tenant: &Arc<Tenant>, side: &Side, now: Timestamp) -> Result<Held, Error> {
        match self.read_again(tenant, side.user, side.session, Proven::Unasked, now).await {
            Ok(held) if held.epoch == side.epoch => Ok(held),
            Err(e) if is_fault(&e) => Err(e),
            _ => {
                let user = self.user_row(tenant.no, side.user).await?;
                Err(user.and_then(|user| became(&user)).unwrap_or_else(bad_ticket))
            }
        }
    }

    /// The account's proof, looked at again.
    pub(super) async fn account_side(&self, tenant: &Arc<Tenant>, side: &Side, now: Timestamp) -> Result<Held, Error> {
        match self.read_again(tenant, side.user, side.session, Proven::Unasked, now).await {
            Ok(held) if held.epoch == side.epoch => Ok(held),
            Err(e) if is_fault(&e) => Err(e),
            _ => Err(sign_in_again()),
        }
    }

    async fn look_at_merge(&self, tenant: &Arc<Tenant>, ticket: &Ticket, now: Timestamp) -> Result<MergeAnswer, Error> {
        let guest = self.guest_side(tenant, &ticket.guest, now).await?;
        let account = self.account_side(tenant, &ticket.account, now).await?;
        may_merge(&guest, &account)?;
        let (rules, theirs, ours) = (rules_of(&account), user_of(&guest)?, user_of(&account)?);
        let preview = preview_of(rules, theirs, ours, outcome(tenant, rules, theirs, ours)?);
        let newer =
            (preview.policy != ticket.policy).then(|| Ticket { policy: preview.policy.clone(), ..ticket.clone() });
        let ticket = newer.map(|newer| self.seal_ticket(tenant, &newer, now)).transpose()?;
        Ok(MergeAnswer::Preview { preview, ticket })
    }

    /// Merges, once: whoever was faster with this pair, it is their transfer that is given back.
    pub(super) async fn merge_sides(
        &self,
        tenant: &Arc<Tenant>,
        ticket: &Ticket,
        wish: &Wish<'_>,
        key: Option<(&KnownClient, &CreationKey)>,
        now: Timestamp,
    ) -> Result<(KeptTransfer, Granted), Error> {
        let mut tail = [0; 16];
        random(&mut tail)?;
        let id = transfer_id(ticket.guest.user, tail);
        for _ in 0..TRIES {
            let account = self.account_side(tenant, &ticket.account, now).await?;
            let granted = wish.of(&account)?;
            if let Some(before) = self.merged_before(tenant.no, ticket.guest.user, ticket.account.user).await? {
                return Ok((before.kept, granted));
            }
            let guest = self.guest_side(tenant, &ticket.guest, now).await?;
            may_merge(&guest, &account)?;
            if *rules_of(&account).policies.version() != *ticket.policy {
                let detail = "What becomes of the data was changed since the preview; look at the new one.";
                return Err(Error::new(Code::PreviewOutdated, detail));
            }
            let (kept, mut turns, out) = self.merging(&id, &guest, &account, now).await?;
            if let (Some((known, key)), Some(into)) = (key, turns.last_mut()) {
                into.look_ups.push(key.row(known, account.user, account.session, now));
            }
            match self.commit_with(tenant.no, None, Act::Turns(turns), out).await {
                Ok(_) => {
                    if kept.state == TransferState::Done {
                        let epoch = guest.epoch.saturating_add(1);
                        self.note_epoch(tenant.no, guest.user, epoch, guest.chosen_id(), now);
                    }
                    return Ok((kept, granted));
                }
                // what is there now tells who was faster, this very request perhaps
                Err(
                    CommitError::Moved
                    | CommitError::Gone
                    | CommitError::Frozen
                    | CommitError::Taken
                    | CommitError::Store(StoreError::Unavailable(_)),
                ) => {}
                Err(e) => return Err(e.into()),
            }
        }
        Err(CommitError::Moved.into())
    }

    /// What one commit writes: on both sides, or not at all.
    async fn merging(
        &self,
        id: &str,
        guest: &Held,
        account: &Held,
        now: Timestamp,
    ) -> Result<(KeptTransfer, Vec<Turn>, Vec<OutRow>), Error> {
        let (tenant, rules) = (&account.tenant, rules_of(account));
        let (theirs, ours) = (user_of(guest)?, user_of(account)?);
        let merged = outcome(tenant, rules, theirs, ours)?;
        let state = if rules.confirm { TransferState::Pending } else { TransferState::Done };
        let (guest_id, account_id) = (shown(theirs), shown(ours));
        let policy = rules.policies.version();
        let receipt = self.sign_receipt(
            tenant,
            &Receipt {
                iss: &tenant.issuer,
                sub: &account_id,
                guest_id: &guest_id,
                jti: id,
                iat: now.seconds(),
                policy,
                state,
                data_version: ours.version.saturating_add(merged.changed.into()),
            },
            now,
        )?;
        let window = rules.undo_window;
        let until = if rules.confirm { window.max(CONFIRM_WITHIN) } else { window };
        let undo_until = (!until.is_zero()).then(|| now.plus(until));
        let kept = KeptTransfer {
            id: id.into(),
            account: ours.id.to_string().into(),
            state,
            guest_id: guest_id.into(),
            account_id: account_id.into(),
            created_at: now.millis(),
            policy: policy.into(),
            receipt,
            window: window.as_secs(),
            undo_until: undo_until.map(Timestamp::millis),
        };
        let mut mine = Turn::of(guest.user, guest.epoch);
        mine.by = Some(guest.session);
        match state {
            TransferState::Done => retire(&mut mine, theirs, ours.id, false),
            _ => mine.write = Some(UserWrite { frozen: true, ..as_it_is(Kind::Anonymous, Some(theirs.version)) }),
        }
        let earlier = self.transfer_of_guest(tenant.no, guest.user).await?;
        mine.items.push(kept.put(earlier.as_ref().map(|t| &t.item)));
        if let Some(undo_until) = undo_until {
            let texts = KeptUndo {
                guest: (state == TransferState::Done).then(|| raw(&theirs.data)).transpose()?,
                before: raw(&ours.data)?,
                after: raw(&merged.data)?,
            };
            // while it waits it can always be undone, however late somebody looks
            let end = if state == TransferState::Done { undo_until } else { Timestamp::MAX };
            let there = self.undo_item(tenant.no, guest.user).await?;
            mine.items.push(put(ItemKind::TransferUndo, ONE, end, body(&texts), there.as_ref()));
        }
        let before = self.store.items(tenant.no, account.user, Some(ItemKind::Absorbed)).await?;
        if before.len() >= MOST_ABSORBED {
            let detail = "As many guests as may be have come into this account.";
            return Err(Error::new(Code::MergeRefused, detail));
        }
        let mut into = Turn::of(account.user, account.epoch);
        into.by = Some(account.session);
        into.counted = vec![(ItemKind::Absorbed, before.len())];
        let data = merged.changed.then_some(merged.data);
        into.write = Some(UserWrite { data, ..as_it_is(Kind::Regular, Some(ours.version)) });
        let absorbed = KeptAbsorbed { guest: guest.user.to_string().into(), transfer: id.into(), at: now.millis() };
        let key = absorbed_key(guest.user);
        // of one that was erased under an id that came again
        let there = before.iter().find(|i| i.id == key);
        into.items.push(put(ItemKind::Absorbed, key, Timestamp::MAX, body(&absorbed), there));
        let name = if rules.confirm { "guest.merge.pending" } else { "guest.merged" };
        let mut out = self.transfer_events(tenant, (guest.user, account.user), &kept, name, now);
        if rules.confirm {
            out.push(self.expiry(guest.user, &kept, now));
        }
        Ok((kept, vec![mine, into], out))
    }

    /// What takes the merge back when nobody has confirmed it.
    fn expiry(&self, guest: UserId, kept: &KeptTransfer, now: Timestamp) -> OutRow {
        let id = self.fresh_id();
        OutRow {
            id,
            user: guest,
            name: EXPIRE.into(),
            at: now,
            target: Target::Timer,
            // it holds up nothing else of the guest's
            lane: id,
            due_at: Some(now.plus(CONFIRM_WITHIN)),
            ends_at: Timestamp::MAX,
            body: body(&Expires { transfer: &kept.id }).as_bytes().into(),
        }
    }

    /// The answer, with tokens of this session of the account.
    pub(super) async fn merged_answer(
        &self,
        kept: &KeptTransfer,
        account: &Held,
        granted: &Granted,
        now: Timestamp,
    ) -> Result<MergedInto, Error> {
        let Granted { kind, grant, grade } = granted;
        let mut ensured = self.dress(*kind, account, grant, *grade, false, None, now)?;
        ensured.user.account = self.account_of(account).await?.map(Box::new);
        Ok(MergedInto { receipt: kept.receipt.clone(), transfer: kept.view(), ensured })
    }
}
