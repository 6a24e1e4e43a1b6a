//! The outbox: what a change tells others, in rows of its own transaction. Events stay in the log for a while; messages
//! to people are delivered by one runner, and are sealed until they are.

mod events;
mod lease;
mod log;
mod mailbox;
mod places;
mod run;
mod template;

use serde::Serialize;

use crate::{
    Code, Error, Timestamp,
    id::{TenantNo, UserId, token_id},
    message::Message,
    model::{OutRow, Target},
    passerby::Passerby,
    settings::Tenant,
};

pub(crate) use self::run::Outbox;
pub use self::{
    log::{DeadLetter, EventView},
    mailbox::MailboxMessage,
    template::TemplateView,
};

/// A message that says no code is of use for so long.
const LETTER_LIFE: std::time::Duration = std::time::Duration::from_hours(72);

/// What a message is sealed for; a row's id is bound to it, so that none passes for another.
pub(crate) fn sealed_for(id: &[u8; 16]) -> Vec<u8> {
    [b"passerby/v1/outbox/", &id[..]].concat()
}

/// A row's id as it is shown, and as receivers tell repeats by: a UUID.
fn shown_id(id: &[u8; 16]) -> String {
    uuid::Uuid::from_bytes(*id).to_string()
}

impl Passerby {
    /// Ids of rows grow with time, like those of users.
    fn out_id(&self, now: Timestamp) -> [u8; 16] {
        *self.ids.fresh(now, self.random.as_ref()).user.as_bytes()
    }

    /// An event for the log.
    pub(crate) fn event(
        &self,
        tenant: &Tenant,
        user: UserId,
        name: &'static str,
        facts: &impl Serialize,
        now: Timestamp,
    ) -> OutRow {
        OutRow {
            id: self.out_id(now),
            user,
            name: name.into(),
            at: now,
            target: Target::Log,
            lane: [0; 16],
            due_at: None,
            ends_at: now.plus(tenant.events.keep),
            // a type of ours, without members that could fail
            body: serde_json::to_vec(facts).unwrap_or_default().into(),
        }
    }

    /// Somebody signed in.
    pub(crate) fn login_event(&self, tenant: &Tenant, user: UserId, method: &str, now: Timestamp) -> OutRow {
        #[derive(Serialize)]
        struct Facts<'a> {
            user_id: String,
            method: &'a str,
        }
        self.event(tenant, user, "user.login.succeeded", &Facts { user_id: user.to_string(), method }, now)
    }

    /// A message on its way: of no use after `ends_at`, or after three days.
    ///
    /// # Errors
    /// [`Code::Internal`].
    pub(crate) fn letter(
        &self,
        tenant: &Tenant,
        user: UserId,
        message: &Message,
        ends_at: Option<Timestamp>,
        now: Timestamp,
    ) -> Result<OutRow, Error> {
        let fault = || Error::new(Code::Internal, "A message could not be written.");
        let id = self.out_id(now);
        let text = serde_json::to_vec(message).map_err(|_| fault())?;
        let secrets = self.secrets_of(tenant.no)?;
        let body = secrets.outbox.seal(&sealed_for(&id), &text).map_err(|_| fault())?;
        let target = message.target();
        // in development a message that no one carries stays, for the mailbox to show
        let goes = self.post.carries(target) || !self.settings().dev;
        Ok(OutRow {
            id,
            user,
            name: if target == Target::Sms { "message.sms".into() } else { "message.mail".into() },
            at: now,
            target,
            lane: self.lane_of(tenant.no, &message.to)?,
            due_at: goes.then_some(now),
            ends_at: if goes { ends_at.unwrap_or_else(|| now.plus(LETTER_LIFE)) } else { now.plus(LETTER_LIFE) },
            body: body.into(),
        })
    }

    /// Messages to one address wait for each other, and for nobody else's.
    pub(crate) fn lane_of(&self, tenant: TenantNo, to: &str) -> Result<[u8; 16], Error> {
        let hash = self.secrets_of(tenant)?.look_up_hash("lane", &[to.to_lowercase().as_bytes()]);
        let mut lane = [0; 16];
        lane.copy_from_slice(&hash[..16]);
        Ok(lane)
    }

    /// Opens what a row of the outbox says.
    pub(crate) fn open_letter(&self, tenant: TenantNo, row: &OutRow) -> Option<Message> {
        let text = self.secrets(tenant)?.outbox.open(&sealed_for(&row.id), &row.body).ok()?;
        serde_json::from_slice(&text).ok()
    }

    /// A message of the tenant's, with nothing in it yet.
    #[expect(clippy::unused_self, reason = "it is called beside `letter` and `event`")]
    pub(crate) fn message(&self, tenant: &Tenant, kind: crate::message::MessageKind, to: &str) -> Message {
        Message {
            kind,
            to: to.into(),
            app_name: tenant.mail.app_name.clone(),
            app_url: tenant.mail.app_url.clone(),
            from: tenant.mail.from.clone(),
            code: None,
            link: None,
            valid_seconds: None,
            purpose: None,
            state: None,
            at: None,
            device: None,
            identifier: None,
            removed: false,
            by_recovery: false,
        }
    }

    /// Random bytes for an id that nobody guesses.
    pub(crate) fn fresh_id(&self) -> [u8; 16] {
        token_id(self.random.as_ref())
    }
}
