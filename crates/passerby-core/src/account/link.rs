//! Links in messages. Looking at one changes nothing, since mail scanners look at all of them; a person confirms it by a
//! request of its own.

use std::sync::Arc;

use serde_json::value::RawValue;

use crate::{
    Code, Error, Timestamp,
    caller::Caller,
    client::{Grant, KnownClient},
    device::{TRIES, body, read_body},
    guest::Cookie,
    hold::Proven,
    id::{ClientNo, SessionId, UserId},
    mint::Grade,
    model::{Item, ItemKind, SessionKind, User},
    passerby::Passerby,
    port::{Act, CommitError, ItemChange, Turn},
    settings::{SignInMethod, Tenant},
};

use super::{
    by_message::Opening,
    claim::KeptClaim,
    code::{LinkToken, Use},
    flow::{Flow, hidden_form},
    sign_in::must_allow,
};

/// What a link is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LinkUse {
    /// Proving an address that somebody claimed.
    Claim,
    /// Signing in.
    SignIn,
    /// Setting a password.
    Password,
}

/// What a link's page shows.
#[derive(Debug, Clone)]
pub struct LinkPage {
    /// What the link is for.
    pub of: LinkUse,
    /// The application, as people know it.
    pub app_name: Box<str>,
    /// The address, most of it hidden.
    pub address: Box<str>,
    /// Two digits that the device which began shows, too.
    pub check: Box<str>,
    /// The client's name for people.
    pub client_name: Box<str>,
    /// The device that began, as it was named.
    pub device: Option<Box<str>>,
    /// When it began.
    pub asked_at: Timestamp,
    /// Whether the person may sign in with the browser that shows the page.
    pub can_sign_in_here: bool,
    /// Where the page leads when it is done; registered by the client.
    pub redirect_uri: Option<Box<str>>,
    /// What the application gave along: a JSON object.
    pub state: Option<Box<RawValue>>,
}

/// What came of a link.
#[derive(Clone)]
pub struct LinkDone {
    /// Where the page leads now; registered by the client.
    pub redirect_uri: Option<Box<str>>,
    /// What the application gave along: a JSON object.
    pub state: Option<Box<RawValue>>,
    /// The cookie of a session that was opened here.
    pub cookie: Option<Cookie>,
}

opaque_debug!(LinkDone);

/// A link that cannot be followed; why, its holder is not told.
pub(super) fn dead_link() -> Error {
    Error::at(Code::InvalidCode, "/token", "The link is wrong, was used, or is over.")
}

/// A claim that a link belongs to.
struct ClaimOfLink {
    user: User,
    item: Item,
    kept: KeptClaim,
}

impl Passerby {
    /// The tenant that a link was followed to: what the path or the host names, else the first, whose issuer is the
    /// server's own address. The token of another tenant is none here.
    pub(super) fn tenant_of_link(&self, caller: &Caller<'_>) -> Result<Arc<Tenant>, Error> {
        let settings = self.settings();
        let tenant = match caller.tenant {
            Some(no) => settings.tenant(no),
            None => settings.tenants.first(),
        };
        tenant.cloned().ok_or_else(dead_link)
    }

    /// The living claim of a link, if the link is right.
    async fn claim_of_link(
        &self,
        tenant: &Tenant,
        token: &LinkToken,
        now: Timestamp,
    ) -> Result<Option<ClaimOfLink>, Error> {
        let user = UserId::from_bytes(token.place);
        let nobody = SessionId::from_bytes([0; 16]);
        let user = self.store.standing(tenant.no, user, nobody).await?.user;
        let Some(user) = user.filter(|user| user.merged_into.is_none()) else { return Ok(None) };
        for item in self.store.items(tenant.no, user.id, Some(ItemKind::Claim)).await? {
            let kept: KeptClaim = read_body(&item)?;
            let Some(sent) = kept.sent.as_ref().filter(|_| item.ends_at > now && kept.flow() == token.flow) else {
                continue;
            };
            if self.link_is_right(tenant.no, token, sent, now)? {
                return Ok(Some(ClaimOfLink { user, item, kept }));
            }
        }
        Ok(None)
    }

    /// What a link's page shows. Changes nothing.
    ///
    /// # Errors
    /// [`Code::InvalidCode`] for a link that is wrong, was used, or is over.
    pub async fn link_page(&self, caller: &Caller<'_>, token: &str) -> Result<LinkPage, Error> {
        let now = self.now();
        let tenant = self.tenant_of_link(caller)?;
        let token = LinkToken::parse(token).ok_or_else(dead_link)?;
        let client = |no: i32| tenant.clients_by_no.get(&ClientNo(no));
        let name = |no: i32| client(no).map_or_else(Box::default, |c| c.name.clone());
        let check = self.check_of(tenant.no, &token.flow)?.into();
        if token.of == Use::Claim {
            let ClaimOfLink { kept, .. } = self.claim_of_link(&tenant, &token, now).await?.ok_or_else(dead_link)?;
            return Ok(LinkPage {
                of: LinkUse::Claim,
                app_name: tenant.mail.app_name.clone(),
                address: hidden_form(&kept.kind, &kept.shown),
                check,
                client_name: name(kept.client),
                device: None,
                asked_at: Timestamp::from_millis(kept.created_at),
                can_sign_in_here: false,
                redirect_uri: kept.redirect_uri,
                state: None,
            });
        }
        let Flow { kept, .. } = self.flow_of_link(&tenant, &token, now).await?.ok_or_else(dead_link)?;
        // the cookie is of all first-party clients, and no proof goes with it
        let takes_cookies = client(kept.client).is_some_and(|c| c.first_party && !c.dpop_bound_access_tokens);
        let of = if kept.of == Use::SignIn { LinkUse::SignIn } else { LinkUse::Password };
        Ok(LinkPage {
            of,
            app_name: tenant.mail.app_name.clone(),
            address: hidden_form(&kept.kind, &kept.shown),
            check,
            client_name: name(kept.client),
            device: kept.device,
            asked_at: Timestamp::from_millis(kept.created_at),
            can_sign_in_here: of == LinkUse::SignIn && takes_cookies,
            redirect_uri: kept.redirect_uri,
            state: kept.state,
        })
    }

    /// A person confirms a link: the device that began may go on without the code. `here`: this browser is signed in
    /// instead, and the other device is not. A link works once.
    ///
    /// # Errors
    /// [`Code::InvalidCode`] for a link that is wrong, was used, is over, or sets a password; with `here`
    /// [`Code::CrossSite`] for a page that is not ours, [`Code::NoAccount`], and [`Code::InvalidValue`] where that is not
    /// offered.
    pub async fn confirm_link(&self, caller: &Caller<'_>, token: &str, here: bool) -> Result<LinkDone, Error> {
        let now = self.now();
        let tenant = self.tenant_of_link(caller)?;
        let token = LinkToken::parse(token).ok_or_else(dead_link)?;
        if here && token.of != Use::SignIn {
            return Err(Error::at(Code::InvalidValue, "/here", "This link signs nobody in."));
        }
        match token.of {
            Use::Claim => self.confirm_claim(&tenant, &token, now).await,
            Use::SignIn if here => {
                // else another's link could be followed by somebody who does not know whose account that is
                caller.site.may_change_by_cookie(&tenant)?;
                self.sign_in_here(&tenant, &token, now).await
            }
            Use::SignIn => self.confirm_sign_in(&tenant, &token, now).await,
            Use::Password => Err(dead_link()),
        }
    }

    async fn confirm_claim(&self, tenant: &Tenant, token: &LinkToken, now: Timestamp) -> Result<LinkDone, Error> {
        for _ in 0..TRIES {
            let found = self.claim_of_link(tenant, token, now).await?;
            let ClaimOfLink { user, item, mut kept } = found.ok_or_else(dead_link)?;
            if let Some(sent) = &mut kept.sent {
                sent.proven = true;
                sent.link = None;
            }
            let mut turn = Turn::of(user.id, user.epoch);
            // nobody else could finish
            turn.by = kept.session.as_deref().and_then(SessionId::parse);
            let was = item.revision;
            let item = Item { revision: was.wrapping_add(1), body: body(&kept), ..item };
            turn.items.push(ItemChange::Put { item, was: Some(was) });
            match self.commit(tenant.no, None, Act::Turn(Box::new(turn))).await {
                Ok(_) => return Ok(LinkDone { redirect_uri: kept.redirect_uri, state: None, cookie: None }),
                Err(CommitError::Moved) => {}
                Err(CommitError::Gone) => return Err(dead_link()),
                Err(e) => return Err(e.into()),
            }
        }
        Err(CommitError::Moved.into())
    }

    async fn confirm_sign_in(&self, tenant: &Tenant, token: &LinkToken, now: Timestamp) -> Result<LinkDone, Error> {
        for _ in 0..TRIES {
            let flow = self.flow_of_link(tenant, token, now).await?.ok_or_else(dead_link)?;
            let mut kept = flow.kept.clone();
            kept.sent.proven = true;
            kept.sent.link = None;
            let change = flow.put(&kept, flow.record.ends_at);
            match self.commit(tenant.no, None, Act::Records(vec![change])).await {
                Ok(_) => return Ok(LinkDone { redirect_uri: kept.redirect_uri, state: None, cookie: None }),
                Err(CommitError::Moved) => {}
                Err(e) => return Err(e.into()),
            }
        }
        Err(CommitError::Moved.into())
    }

    /// Opens a session with a cookie in the browser that followed the link, and spends the flow.
    async fn sign_in_here(&self, tenant: &Arc<Tenant>, token: &LinkToken, now: Timestamp) -> Result<LinkDone, Error> {
        must_allow(tenant, SignInMethod::Link)?;
        let mut session = None;
        for _ in 0..TRIES {
            let flow = self.flow_of_link(tenant, token, now).await?.ok_or_else(dead_link)?;
            let client = Self::client_of(tenant, &flow.kept).filter(|c| c.first_party).ok_or_else(|| {
                Error::at(Code::InvalidValue, "/here", "The application does not share this browser's cookie.")
            })?;
            let known = KnownClient { tenant: tenant.clone(), client: client.clone(), authenticated: false };
            known.binding(false, None, SessionKind::Cookie)?;
            let session =
                session.get_or_insert_with(|| self.new_session(&known, None, false, SessionKind::Cookie, now)).clone();
            let identifier = flow.kept.identifier().ok_or_else(dead_link)?;
            let tries = self.wrong_codes_of(tenant.no, &identifier, now).await?;
            let opening = Opening {
                tenant,
                flow: &flow,
                tries: &tries,
                session: &session,
                method: SignInMethod::Link,
                request_key: None,
                guest: None,
            };
            let opened = self.open_by_flow(opening, &identifier, now).await;
            let opened = opened.map_err(|e| if e.code == Code::NotFound { dead_link() } else { e })?;
            let Some(account) = opened else { continue };
            let held = self.read_again(tenant, account, session.id, Proven::Key(None), now).await?;
            let grant = Grant { audience: None, scope: None };
            let answer = self.dress(SessionKind::Cookie, &held, &grant, Grade::Session, false, None, now)?;
            return Ok(LinkDone { redirect_uri: flow.kept.redirect_uri, state: None, cookie: answer.cookie });
        }
        Err(CommitError::Moved.into())
    }
}
