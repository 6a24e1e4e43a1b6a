//! Events that follow from what a change does, whichever use case makes it. Those that say more than the change knows are
//! written by their use cases.

use serde::Serialize;

use crate::{
    Timestamp,
    id::{SessionId, TenantNo, UserId},
    model::{Kind, NewGuest, OutRow},
    passerby::Passerby,
    port::{Act, Half},
    settings::Tenant,
};

/// What most events say. A member that does not belong to one is left away.
#[derive(Serialize, Default)]
struct Facts<'a> {
    user_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    client_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    session_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    all: Option<bool>,
}

impl Passerby {
    /// What a change tells others by itself. Of guests that come and write only where the tenant wants all events: each is
    /// a row more on the hottest paths.
    pub(crate) fn events_of(&self, tenant: TenantNo, keep: Option<&NewGuest>, act: &Act, at: Timestamp) -> Vec<OutRow> {
        let told = keep.is_some()
            || matches!(
                act,
                Act::Create(..)
                    | Act::CreateChosen(..)
                    | Act::AddUser(_)
                    | Act::Edit(_)
                    | Act::Manage(_)
                    | Act::Erase { .. }
                    | Act::EndSession { .. }
            );
        if !told {
            return Vec::new();
        }
        let settings = self.settings();
        let Some(tenant) = settings.tenant(tenant) else { return Vec::new() };
        let all = tenant.events.all;
        let of = |user: UserId| Facts { user_id: user.to_string(), ..Facts::default() };
        let new = |new: &NewGuest| Facts {
            client_id: Some(tenant.client_id(new.user.client)).filter(|id| !id.is_empty()),
            ..of(new.user.id)
        };
        let mut out = Vec::new();
        if let Some(kept) = keep.filter(|_| all) {
            out.push(self.event(tenant, kept.user.id, "guest.stored", &new(kept), at));
        }
        match act {
            Act::Create(guest, _) | Act::CreateChosen(guest, _) if all => {
                out.push(self.event(tenant, guest.user.id, "guest.created", &new(guest), at));
            }
            Act::AddUser(rows) if rows.user.kind == Kind::Anonymous => {
                out.push(self.event(tenant, rows.user.id, "guest.created", &of(rows.user.id), at));
            }
            Act::Edit(edit) if all && edit.half == Half::Data => {
                out.push(self.event(tenant, edit.user, "user.updated", &of(edit.user), at));
            }
            Act::Manage(change) => out.push(self.event(tenant, change.user, "user.updated", &of(change.user), at)),
            Act::Erase { user, .. } => out.push(self.event(tenant, *user, "user.deleted", &of(*user), at)),
            Act::EndSession { user, session, .. } => {
                let facts = Facts { session_id: Some(session.to_string()), ..of(*user) };
                out.push(self.event(tenant, *user, "session.revoked", &facts, at));
            }
            _ => {}
        }
        out
    }

    /// All sessions of a user were ended.
    pub(crate) fn all_revoked_event(&self, tenant: &Tenant, user: UserId, at: Timestamp) -> OutRow {
        let facts = Facts { user_id: user.to_string(), all: Some(true), ..Facts::default() };
        self.event(tenant, user, "session.revoked", &facts, at)
    }

    /// An old refresh token was used again.
    pub(crate) fn reuse_event(&self, tenant: &Tenant, user: UserId, session: SessionId, at: Timestamp) -> OutRow {
        let facts = Facts { user_id: user.to_string(), session_id: Some(session.to_string()), ..Facts::default() };
        self.event(tenant, user, "token.reuse_detected", &facts, at)
    }
}
