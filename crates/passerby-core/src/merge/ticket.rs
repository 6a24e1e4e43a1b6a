//! Merge tickets: what somebody who holds a guest and has just signed in to an account may do with both. A ticket is
//! sealed, names the two sessions that it was made for, and is worth nothing without one of them.

use passerby_jose::peek_jwe;
use serde::{Deserialize, Serialize};

use crate::{
    Code, Error, Timestamp,
    account::became,
    guest::only_guests,
    hold::{FRESH, Held, Row},
    id::{SessionId, UserId},
    model::{Kind, User},
    passerby::{Passerby, count},
    port::{Act, CommitError},
    secret::{Sealed, read_seal_kid},
    settings::{MergeRules, Tenant},
    token::Dress,
};

use super::{Conflict, Merged, merge};

/// What a merge would come to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Preview {
    /// The guest's id as shown.
    pub guest_id: String,
    /// Its data.
    pub guest_data: Box<str>,
    /// The account's id as shown.
    pub account_id: String,
    /// Its data.
    pub account_data: Box<str>,
    /// The outcome.
    pub data: Box<str>,
    /// Where both have a value.
    pub conflicts: Vec<Conflict>,
    /// There are more of them.
    pub more: bool,
    /// The version of the policies.
    pub policy: Box<str>,
}

/// A merge that may be made.
#[derive(Clone)]
pub struct Offer {
    /// Sealed; worth nothing without the guest's or the account's own session.
    pub ticket: String,
    /// What it would come to.
    pub preview: Preview,
    /// Seconds that the ticket lives.
    pub expires_in: u64,
}

opaque_debug!(Offer);

/// One of the two that a merge is about: a user by a session of theirs, under the epoch that the proof saw.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Side {
    pub(super) user: UserId,
    pub(super) session: SessionId,
    pub(super) epoch: i32,
}

impl Side {
    pub(super) fn of(held: &Held) -> Self {
        Self { user: held.user, session: held.session, epoch: held.epoch }
    }

    /// Whether it is this very session.
    pub(super) fn is(&self, held: &Held) -> bool {
        self.user == held.user && self.session == held.session
    }
}

/// A ticket that was opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Ticket {
    pub(super) guest: Side,
    pub(super) account: Side,
    /// The version of the policies that its preview was made by.
    pub(super) policy: Box<str>,
    pub(super) expires_at: Timestamp,
}

#[derive(Serialize, Deserialize)]
struct KeptSide {
    u: Box<str>,
    s: Box<str>,
    e: i32,
}

#[derive(Serialize, Deserialize)]
struct KeptTicket {
    g: KeptSide,
    a: KeptSide,
    p: Box<str>,
    exp: i64,
}

impl KeptSide {
    fn of(side: Side) -> Self {
        Self { u: side.user.to_string().into(), s: side.session.to_string().into(), e: side.epoch }
    }

    fn side(&self) -> Option<Side> {
        Some(Side { user: UserId::parse(&self.u)?, session: SessionId::parse(&self.s)?, epoch: self.e })
    }
}

impl Ticket {
    fn write(&self) -> Vec<u8> {
        let kept = KeptTicket {
            g: KeptSide::of(self.guest),
            a: KeptSide::of(self.account),
            p: self.policy.clone(),
            exp: self.expires_at.millis(),
        };
        // a type of ours, without members that could fail
        serde_json::to_vec(&kept).unwrap_or_default()
    }

    fn read(text: &[u8]) -> Option<Self> {
        let kept: KeptTicket = serde_json::from_slice(text).ok()?;
        let expires_at = Timestamp::from_millis(kept.exp);
        Some(Self { guest: kept.g.side()?, account: kept.a.side()?, policy: kept.p, expires_at })
    }
}

pub(super) fn bad_ticket() -> Error {
    let detail = "The ticket is broken, over, or was made for others than you; get a new one.";
    Error::at(Code::InvalidMergeTicket, "/merge_ticket", detail)
}

/// A user's id as it is shown.
pub(super) fn shown(user: &User) -> String {
    Dress::default().shown(user.id, user.chosen_id.as_deref())
}

/// The rows of a stored session's user.
pub(super) fn user_of(held: &Held) -> Result<&User, Error> {
    match &held.row {
        Row::Stored(stored) => Ok(&stored.user),
        Row::Floating(_) => Err(Error::new(Code::Internal, "A guest without a row was to be merged.")),
    }
}

/// What holds for a merge into an account that was signed in to by this session.
pub(super) fn rules_of(account: &Held) -> &MergeRules {
    account.tenant.merge_of(account.client.no)
}

/// Whether these two may be merged at all. Pure.
///
/// # Errors
/// [`Code::GuestMerged`], [`Code::GuestConverted`], [`Code::GuestFrozen`], [`Code::NotAGuest`] for the guest;
/// [`Code::ReauthenticationRequired`] for what is no account; [`Code::MergeRefused`] by policy.
pub(super) fn may_merge(guest: &Held, account: &Held) -> Result<(), Error> {
    if let Row::Stored(stored) = &guest.row {
        if let Some(became) = became(&stored.user) {
            return Err(became);
        }
        if stored.user.frozen {
            return Err(CommitError::Frozen.into());
        }
    }
    only_guests(guest)?;
    if account.kind != Kind::Regular || account.tenant.no != guest.tenant.no || account.user == guest.user {
        let detail = "A guest is merged into an account of the same tenant; sign in to one.";
        return Err(Error::new(Code::ReauthenticationRequired, detail));
    }
    if rules_of(account).policies.refuses() {
        return Err(Error::new(Code::MergeRefused, "Guests are not merged into accounts here."));
    }
    Ok(())
}

/// What a merge of the two comes to now. Pure.
///
/// # Errors
/// [`Code::Data`] where the outcome would break a limit or the tenant's schema.
pub(super) fn outcome(tenant: &Tenant, rules: &MergeRules, guest: &User, account: &User) -> Result<Merged, Error> {
    let (policies, limits) = (&rules.policies, &tenant.data_limits);
    let merged = merge(&guest.data, guest.updated_at, &account.data, account.updated_at, policies, limits)?;
    if let Some(schema) = tenant.schema.as_ref().filter(|_| merged.changed) {
        schema.check_text(&merged.data, "")?;
    }
    Ok(merged)
}

/// Whether the outcome keeps to the tenant's limits and schema. Pure.
///
/// # Errors
/// [`Code::Data`].
pub(crate) fn can_merge(tenant: &Tenant, rules: &MergeRules, guest: &User, account: &User) -> Result<(), Error> {
    outcome(tenant, rules, guest, account).map(drop)
}

/// The outcome as people look at it.
pub(super) fn preview_of(rules: &MergeRules, guest: &User, account: &User, merged: Merged) -> Preview {
    Preview {
        guest_id: shown(guest),
        guest_data: guest.data.clone(),
        account_id: shown(account),
        account_data: account.data.clone(),
        data: merged.data,
        conflicts: merged.conflicts,
        more: merged.more,
        policy: rules.policies.version().into(),
    }
}

impl Passerby {
    /// A ticket for this guest and this account, both held by their living sessions. A floating guest is stored by it.
    ///
    /// # Errors
    /// [`Code::MergeRefused`] by policy; [`Code::GuestMerged`], [`Code::GuestConverted`] and [`Code::GuestFrozen`] for a
    /// guest that is none any more or waits for another merge; [`Code::NotAGuest`]; [`Code::Data`] where the outcome
    /// would break a limit or the tenant's schema.
    pub(crate) async fn offer_merge(&self, guest: &Held, account: &Held, now: Timestamp) -> Result<Offer, Error> {
        may_merge(guest, account)?;
        let kept;
        let guest = match &guest.row {
            Row::Stored(_) => guest,
            Row::Floating(_) => {
                kept = self.stored_guest(guest, now).await?;
                &kept
            }
        };
        let (rules, theirs, ours) = (rules_of(account), user_of(guest)?, user_of(account)?);
        let merged = outcome(&account.tenant, rules, theirs, ours)?;
        let ticket = self.seal_ticket(
            &account.tenant,
            &Ticket {
                guest: Side::of(guest),
                account: Side::of(account),
                policy: rules.policies.version().into(),
                expires_at: now.plus(FRESH),
            },
            now,
        )?;
        Ok(Offer { ticket, preview: preview_of(rules, theirs, ours, merged), expires_in: FRESH.as_secs() })
    }

    /// A floating guest gets its row: only what is stored can be merged exactly once.
    pub(super) async fn stored_guest(&self, guest: &Held, now: Timestamp) -> Result<Held, Error> {
        if let Some(rows) = guest.to_keep(now) {
            self.commit(guest.tenant.no, Some(rows), Act::Keep).await?;
            count(&self.counts().kept);
        }
        self.hold_again(guest, now).await
    }

    pub(super) fn seal_ticket(&self, tenant: &Tenant, ticket: &Ticket, now: Timestamp) -> Result<String, Error> {
        let sealed = self.secrets_of(tenant.no)?.seal(Sealed::Merge, &ticket.write(), now);
        sealed.ok_or_else(|| Error::new(Code::Internal, "A ticket could not be made."))
    }

    /// Opens a ticket of this tenant, whether or not it is over. `None`: not ours, with no hint which check failed.
    pub(super) fn open_ticket(&self, tenant: &Tenant, text: &str) -> Option<Ticket> {
        let header = peek_jwe(text).ok().filter(|h| h.typ == Sealed::Merge.typ())?;
        let (no, month) = read_seal_kid(&header.kid).filter(|(no, _)| *no == tenant.no)?;
        Ticket::read(&self.secrets(no)?.open(Sealed::Merge, text, month)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn side(n: u8) -> Side {
        Side { user: UserId::from_bytes([n; 16]), session: SessionId::from_bytes([n + 1; 16]), epoch: n.into() }
    }

    #[test]
    fn a_ticket_is_read_as_it_was_written() {
        let ticket = Ticket {
            guest: side(1),
            account: side(3),
            policy: "swzlhEXdWPjJt2VJ".into(),
            expires_at: Timestamp::from_millis(1_790_000_000_123),
        };
        assert_eq!(Ticket::read(&ticket.write()), Some(ticket));
        for text in ["", "{}", r#"{"g":{"u":"x","s":"y","e":0},"a":{"u":"x","s":"y","e":0},"p":"","exp":1}"#] {
            assert_eq!(Ticket::read(text.as_bytes()), None, "{text}");
        }
    }
}
