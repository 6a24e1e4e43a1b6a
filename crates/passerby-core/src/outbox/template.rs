//! Templates of messages that operators edit. One that is not there is the one that comes with the server.

use passerby_jose::sha256;

use crate::{
    Code, Error, Timestamp,
    api_key::Manager,
    device::TRIES,
    id::TenantNo,
    me::parse_if_match,
    message::{MessageKind, Rendered, Wording},
    model::{Record, RecordKind},
    passerby::Passerby,
    port::{Act, CommitError, RecordChange},
    settings::ApiScope,
};

/// A template as operators see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TemplateView {
    /// Of which messages.
    pub kind: MessageKind,
    /// An operator wrote it; else it is the one that comes with the server.
    pub custom: bool,
    /// Counts an operator's changes; 0 of one that comes with the server.
    pub version: i64,
    /// What it says.
    pub wording: Wording,
}

fn template_id(kind: MessageKind) -> [u8; 32] {
    sha256(kind.as_str().as_bytes())
}

/// # Errors
/// [`Code::NotFound`].
fn kind_named(word: &str) -> Result<MessageKind, Error> {
    MessageKind::parse(word).ok_or_else(|| Error::new(Code::NotFound, "There is no such kind of message."))
}

fn outdated() -> Error {
    Error::at(Code::PreconditionFailed, "If-Match", "The template is another one by now.")
}

impl Passerby {
    /// The operator's template, and its revision.
    pub(super) async fn kept_template(
        &self,
        tenant: TenantNo,
        kind: MessageKind,
    ) -> Result<Option<(Wording, i32)>, Error> {
        let Some(record) = self.store.record(tenant, RecordKind::Template, template_id(kind)).await? else {
            return Ok(None);
        };
        let broken = |_| Error::new(Code::Internal, "A template cannot be read.");
        Ok(Some((serde_json::from_str(&record.body).map_err(broken)?, record.revision)))
    }

    async fn template_view(&self, tenant: TenantNo, kind: MessageKind) -> Result<TemplateView, Error> {
        Ok(match self.kept_template(tenant, kind).await? {
            Some((wording, revision)) => TemplateView { kind, custom: true, version: revision.into(), wording },
            None => TemplateView { kind, custom: false, version: 0, wording: self.post.built_in(kind) },
        })
    }

    /// All templates, in the order of [`MessageKind::ALL`].
    ///
    /// # Errors
    /// As [`Passerby::api_key`].
    pub async fn templates(&self, by: &Manager<'_>) -> Result<Vec<TemplateView>, Error> {
        let (tenant, _) = self.manager(by, ApiScope::TemplatesRead).await?;
        let mut all = Vec::with_capacity(MessageKind::ALL.len());
        for kind in MessageKind::ALL {
            all.push(self.template_view(tenant.no, kind).await?);
        }
        Ok(all)
    }

    /// One template.
    ///
    /// # Errors
    /// As [`Passerby::api_key`]; [`Code::NotFound`].
    pub async fn template(&self, by: &Manager<'_>, kind: &str) -> Result<TemplateView, Error> {
        let (tenant, _) = self.manager(by, ApiScope::TemplatesRead).await?;
        self.template_view(tenant.no, kind_named(kind)?).await
    }

    /// Puts a template in place of the one that is there. What could go wrong with it later is refused now.
    ///
    /// # Errors
    /// As [`Passerby::api_key`]; [`Code::NotFound`]; [`Code::InvalidValue`] at the part that is to blame;
    /// [`Code::PreconditionFailed`].
    pub async fn put_template(
        &self,
        by: &Manager<'_>,
        kind: &str,
        wording: Wording,
        if_match: Option<&str>,
    ) -> Result<TemplateView, Error> {
        let (tenant, _) = self.manager(by, ApiScope::TemplatesWrite).await?;
        let kind = kind_named(kind)?;
        let wanted = if_match.map(parse_if_match).transpose()?.flatten();
        self.post.check(kind, &wording)?;
        let fault = |_| Error::new(Code::Internal, "A template cannot be written.");
        let body: Box<str> = serde_json::to_string(&wording).map_err(fault)?.into();
        for _ in 0..TRIES {
            let was = self.kept_template(tenant.no, kind).await?.map(|(_, revision)| revision);
            if wanted.is_some_and(|wanted| wanted != i64::from(was.unwrap_or(0))) {
                return Err(outdated());
            }
            let revision = was.map_or(1, |revision| revision.wrapping_add(1));
            let record = Record {
                kind: RecordKind::Template,
                id: template_id(kind),
                revision,
                ends_at: Timestamp::MAX,
                body: body.clone(),
            };
            match self.commit(tenant.no, None, Act::Records(vec![RecordChange::Put { record, was }])).await {
                Ok(_) => return Ok(TemplateView { kind, custom: true, version: revision.into(), wording }),
                Err(CommitError::Moved) => {}
                Err(e) => return Err(e.into()),
            }
        }
        Err(CommitError::Moved.into())
    }

    /// Takes an operator's template away: from then on messages are worded as they come with the server. Nothing there is
    /// no error.
    ///
    /// # Errors
    /// As [`Passerby::api_key`]; [`Code::NotFound`]; [`Code::PreconditionFailed`].
    pub async fn delete_template(&self, by: &Manager<'_>, kind: &str, if_match: Option<&str>) -> Result<(), Error> {
        let (tenant, _) = self.manager(by, ApiScope::TemplatesWrite).await?;
        let kind = kind_named(kind)?;
        let wanted = if_match.map(parse_if_match).transpose()?.flatten();
        for _ in 0..TRIES {
            let was = self.kept_template(tenant.no, kind).await?.map(|(_, revision)| revision);
            if wanted.is_some_and(|wanted| wanted != i64::from(was.unwrap_or(0))) {
                return Err(outdated());
            }
            let Some(was) = was else { return Ok(()) };
            let gone = RecordChange::Remove { kind: RecordKind::Template, id: template_id(kind), was };
            match self.commit(tenant.no, None, Act::Records(vec![gone])).await {
                Ok(_) => return Ok(()),
                Err(CommitError::Moved) => {}
                Err(e) => return Err(e.into()),
            }
        }
        Err(CommitError::Moved.into())
    }

    /// A message of the kind as it would go out, with sample values: by this template, or by the one that is there.
    ///
    /// # Errors
    /// As [`Passerby::put_template`].
    pub async fn preview_template(
        &self,
        by: &Manager<'_>,
        kind: &str,
        wording: Option<Wording>,
    ) -> Result<Rendered, Error> {
        let (tenant, _) = self.manager(by, ApiScope::TemplatesRead).await?;
        let kind = kind_named(kind)?;
        let wording = match wording {
            Some(wording) => wording,
            None => self.template_view(tenant.no, kind).await?.wording,
        };
        self.post.check(kind, &wording)
    }
}
