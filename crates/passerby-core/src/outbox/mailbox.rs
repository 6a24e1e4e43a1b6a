//! The built-in mailbox of development: what was sent, or would have been.

use std::collections::HashMap;

use super::shown_id;
use crate::{
    Code, Error, Timestamp,
    id::TenantNo,
    message::{MessageKind, Rendered, Wording},
    model::{KeptRow, Target},
    passerby::Passerby,
    port::OutQuery,
};

/// A message as the mailbox shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MailboxMessage {
    /// Its id.
    pub id: String,
    /// The address or number.
    pub to: Box<str>,
    /// By mail, or as a short message.
    pub target: Target,
    /// In words.
    pub wording: Wording,
    /// Its link.
    pub link: Option<Box<str>>,
    /// Its code.
    pub code: Option<Box<str>>,
    /// When it was written.
    pub at: Timestamp,
}

impl Passerby {
    /// Messages of the tenant, or of all, newest first, at most `limit`; with `to`, those to this address alone, compared
    /// without case. They stay for three days.
    ///
    /// # Errors
    /// [`Code::NotFound`] but in development.
    pub async fn mailbox(
        &self,
        tenant: Option<TenantNo>,
        to: Option<&str>,
        limit: u32,
    ) -> Result<Vec<MailboxMessage>, Error> {
        let settings = self.settings();
        if !settings.dev {
            return Err(Error::new(Code::NotFound, "There is no mailbox but in development."));
        }
        let asked = |of| OutQuery { tenant: of, targets: &[Target::Mail, Target::Sms], limit, ..OutQuery::default() };
        let mut rows = Vec::new();
        if let Some(to) = to {
            for of in settings.tenants.iter().map(|t| t.no).filter(|no| tenant.is_none_or(|tenant| tenant == *no)) {
                let lane = Some(self.lane_of(of, to)?);
                rows.extend(self.store.outbox(OutQuery { lane, ..asked(Some(of)) }).await?);
            }
            rows.sort_by_key(|kept| std::cmp::Reverse((kept.row.at, kept.row.id)));
            rows.truncate(limit as usize);
        } else {
            rows = self.store.outbox(asked(tenant)).await?;
        }
        let mut templates = HashMap::new();
        let mut messages = Vec::with_capacity(rows.len());
        for kept in rows {
            messages.extend(self.shown(&kept, &mut templates).await?);
        }
        Ok(messages)
    }

    async fn shown(
        &self,
        kept: &KeptRow,
        templates: &mut HashMap<(TenantNo, &'static str), Option<Wording>>,
    ) -> Result<Option<MailboxMessage>, Error> {
        // what was delivered before this was development says nothing any more
        let Some(message) = self.open_letter(kept.tenant, &kept.row) else { return Ok(None) };
        let kind: MessageKind = message.kind;
        let key = (kept.tenant, kind.as_str());
        let template = match templates.get(&key) {
            Some(template) => template.clone(),
            None => self.kept_template(kept.tenant, kind).await?.map(|(wording, _)| wording),
        };
        let rendered = self.post.render(&message, template.as_ref());
        templates.insert(key, template);
        let Some(Rendered(wording)) = rendered else { return Ok(None) };
        Ok(Some(MailboxMessage {
            id: shown_id(&kept.row.id),
            target: kept.row.target,
            wording,
            link: message.link,
            code: message.code,
            to: message.to,
            at: kept.row.at,
        }))
    }
}
