//! Changing a password, and setting it anew by a link.

use std::time::Duration;

use passerby_jose::b64;
use serde::Serialize;
use serde_json::value::RawValue;

use crate::{
    Code, Error, Timestamp,
    caller::{Access, Caller, ClientClaim},
    client::{KnownClient, grant},
    device::{Late, TRIES, read_body},
    guest::Ensured,
    hold::{Held, Proven, Row},
    id::{SessionId, UserId},
    identifier::{Identifier, IdentifierKind},
    message::{Message, MessageKind, Purpose},
    model::{Item, ItemKind, Kind, OutRow, SessionKind, User},
    passerby::Passerby,
    password::{Password, PasswordHash},
    port::{Act, CommitError, Ending, ItemChange, Turn},
    settings::{SignInMethod, Tenant},
};

use super::{
    ClaimWhat,
    claim::{KeptClaim, checked_redirect, link_of},
    code::{LINK_LIFE, LinkToken, Use},
    convert::{Becoming, put_password, ways_in_of},
    flow::{Flow, KeptFlow, Within, checked_state, has_password, is_account, opens_by, put, record_id},
    identity::{KeptIdentifier, identifiers_of, password_of},
    link::{LinkDone, dead_link},
    sign_in::{look_again, must_allow},
};

/// A change of the caller's password.
#[derive(Clone, Copy)]
pub struct ChangePassword<'a> {
    /// The one so far; `None` where there is none.
    pub current: Option<&'a str>,
    /// The new one.
    pub password: &'a str,
    /// What the answer carries; `None`: as the caller's session.
    pub session_type: Option<SessionKind>,
    /// Bind the tokens to the key whose proof comes along.
    pub bind_tokens: bool,
    /// The access token's audience.
    pub audience: Option<&'a str>,
    /// Its scopes.
    pub scope: Option<&'a str>,
    /// `Idempotency-Key`, as sent: with it a lost answer can be asked for again.
    pub idempotency_key: Option<&'a str>,
    /// The whole body, which the key is bound to.
    pub body: &'a [u8],
}

/// What an `Idempotency-Key` of this call is hashed with.
const CHANGING: &str = "changing a password";

/// Somebody forgot a password.
#[derive(Clone, Copy)]
pub struct ForgotPassword<'a> {
    /// The client.
    pub client: ClientClaim<'a>,
    /// The e-mail address.
    pub what: ClaimWhat<'a>,
    /// A JSON object of the application, at most 4 KiB, which the message's template and the link's page see.
    pub state: Option<&'a RawValue>,
    /// Where the link's page leads afterwards: one of the client's redirect targets.
    pub redirect_uri: Option<&'a str>,
}

opaque_debug!(ChangePassword<'_>, ForgotPassword<'_>);

#[derive(Serialize)]
struct ChangedFacts {
    user_id: String,
    by: &'static str,
}

/// What a flow's link is to send, and for whom.
pub(super) struct NewPasswordFlow<'a> {
    pub(super) identifier: &'a Identifier,
    /// Number of the client.
    pub(super) client: i32,
    /// A back end makes it for this user.
    pub(super) user: Option<UserId>,
    /// A message says it.
    pub(super) mailed: bool,
    pub(super) state: Option<Box<RawValue>>,
    pub(super) redirect_uri: Option<Box<str>>,
    pub(super) life: Duration,
}

/// Whose password a link sets.
enum Setting {
    /// An account's.
    Anew(Box<User>, Vec<Item>),
    /// The first one of a user whom a back end gave the address.
    First(Box<User>, Vec<Item>, Identifier),
}

/// What a new password must not say.
pub(super) fn known_by(items: &[Item]) -> Result<Vec<Identifier>, Error> {
    Ok(identifiers_of(items)?.iter().filter_map(KeptIdentifier::identifier).collect())
}

impl Passerby {
    /// The turn that gives an account another password: everything older dies in it, but perhaps one device key. `by`: a
    /// word for the event.
    ///
    /// # Errors
    /// [`Code::Internal`].
    pub(super) fn password_turn(
        &self,
        tenant: &Tenant,
        user: &User,
        items: &[Item],
        (hash, by): (&PasswordHash, &'static str),
        kept_key: Option<[u8; 32]>,
        now: Timestamp,
    ) -> Result<(Turn, Vec<OutRow>), Error> {
        let mut turn = Turn::of(user.id, user.epoch);
        turn.raise = true;
        turn.end = Ending::All { but: None };
        for kind in [ItemKind::Claim, ItemKind::HandOff, ItemKind::Recovery] {
            turn.items.push(ItemChange::RemoveAll { kind, but: None });
        }
        turn.items.push(ItemChange::RetireAll { kind: ItemKind::DeviceKey, but: kept_key });
        turn.items.push(put_password(items, hash, now));
        let facts = ChangedFacts { user_id: user.id.to_string(), by };
        let mut out = vec![self.event(tenant, user.id, "user.password.changed", &facts, now)];
        out.extend(self.tell_of_password(tenant, user.id, items, now)?);
        Ok((turn, out))
    }

    /// The caller's session is over, perhaps by this very change: its answer again, by the same `Idempotency-Key`.
    async fn changed_before(
        &self,
        caller: &Caller<'_>,
        access: &Access<'_>,
        request: &ChangePassword<'_>,
        late: Late,
        now: Timestamp,
    ) -> Result<Ensured, Error> {
        let Late { error, key } = late;
        let Some((known, user)) = self.late_caller(caller, access, &error, now)? else { return Err(error) };
        let Some(request_key) = request.idempotency_key else { return Err(error) };
        let request_key = self.creation_key(&known, CHANGING, request_key, request.body)?;
        match self.held_by_key(&known, &request_key, Proven::Key(key), now).await? {
            Some(held) if held.user == user => {
                let grant = grant(&held.tenant, &held.client, request.audience, request.scope, false)?;
                let Row::Stored(stored) = &held.row else { return Err(error) };
                self.dress_account(stored.session.kind, &held, &grant, now).await
            }
            _ => Err(error),
        }
    }

    /// Changes the caller's password, or sets the first one. Everything older dies: the answer is a new session.
    ///
    /// # Errors
    /// [`Code::InvalidCredentials`] at `/current_password` for a wrong one; [`Code::ReauthenticationRequired`] where there
    /// is none and the session is older than ten minutes; [`Code::InvalidValue`] for the new one;
    /// [`Code::InvalidRequest`] for a guest; [`Code::MethodNotEnabled`]; [`Code::TooManyRequests`];
    /// [`Code::DeviceKeyTaken`]; [`Code::Unavailable`] while too many passwords are hashed; as for [`Passerby::me`].
    pub async fn change_password(
        &self,
        caller: &Caller<'_>,
        access: &Access<'_>,
        request: ChangePassword<'_>,
    ) -> Result<Ensured, Error> {
        let now = self.now();
        let (mut held, key) = match self.hold_or_late(caller, access, now).await {
            Ok(held) => held,
            Err(late) => return self.changed_before(caller, access, &request, late, now).await,
        };
        let own_kind = match &held.row {
            Row::Stored(stored) if stored.user.kind == Kind::Regular => stored.session.kind,
            _ => {
                let detail = "A guest has no password; claim an identifier, and give the password with its proof.";
                return Err(Error::new(Code::InvalidRequest, detail));
            }
        };
        let tenant = held.tenant.clone();
        must_allow(&tenant, SignInMethod::Password)?;
        let known = KnownClient { tenant: tenant.clone(), client: held.client.clone(), authenticated: false };
        let kind = request.session_type.unwrap_or(own_kind);
        // a session that is bound stays so
        let bound = known.binding(request.bind_tokens || held.bound_to().is_some(), key, kind)?.is_some();
        let grant = grant(&tenant, &held.client, request.audience, request.scope, false)?;
        let request_key = request.idempotency_key.map(|k| self.creation_key(&known, CHANGING, k, request.body));
        let request_key = request_key.transpose()?;
        if let Some(key_of_request) = &request_key
            && let Some(again) = self.held_by_key(&known, key_of_request, Proven::Key(key), now).await?
        {
            return self.dress_account(kind, &again, &grant, now).await;
        }
        let mut session = self.new_session(&known, None, bound, kind, now);
        let mut items = self.store.items(tenant.no, held.user, None).await?;
        self.may_change_password(caller, &held, &items, &request, now).await?;
        let password = Password::new(request.password)?;
        let hash = self.passwords.take(&tenant.sign_in, password, known_by(&items)?).await?;
        let seen = password_text(&items)?;
        for _ in 0..TRIES {
            let Row::Stored(stored) = &held.row else { break };
            if password_text(&items)? != seen {
                let detail = "The password was changed meanwhile; sign in with it.";
                return Err(Error::new(Code::ReauthenticationRequired, detail));
            }
            // the key of the caller's own device lives on by its fresh proof
            let mut own = None;
            if let Some(key) = &key {
                match self.owner_of_key(tenant.no, key, now).await? {
                    Some(owner) if owner != held.user => {
                        let detail = "This key is another user's; make a new one.";
                        return Err(Error::at(Code::DeviceKeyTaken, "DPoP", detail));
                    }
                    Some(_) => own = self.still_there(tenant.no, key, &items)?,
                    None => {}
                }
                session.key = (own.is_some() || bound).then_some(*key);
            }
            let kept = key.as_ref().map(|key| self.device_key_hash(tenant.no, key)).transpose()?;
            let (mut turn, out) = self.password_turn(&tenant, &stored.user, &items, (&hash, "user"), kept, now)?;
            turn.by = Some(held.session);
            turn.items.extend(own);
            turn.open = Some(Box::new(session.clone()));
            turn.look_ups.extend(request_key.map(|key| key.row(&known, held.user, session.id, now)));
            match self.turn_with(&held, turn, out, now).await {
                Ok(()) => return self.with_new_password(&held, key, kind, &grant, session.id, now).await,
                Err(e) if look_again(&e) => {
                    let standing = self.store.standing(tenant.no, held.user, session.id).await?;
                    if standing.session(session.id).is_some() {
                        self.note_epoch(tenant.no, held.user, held.epoch + 1, held.chosen_id(), now);
                        return self.with_new_password(&held, key, kind, &grant, session.id, now).await;
                    }
                }
                Err(e) => return Err(e.into()),
            }
            held = self.hold_again(&held, now).await?;
            items = self.store.items(tenant.no, held.user, None).await?;
        }
        Err(CommitError::Moved.into())
    }

    /// Whether the caller has shown enough to set a password.
    async fn may_change_password(
        &self,
        caller: &Caller<'_>,
        held: &Held,
        items: &[Item],
        request: &ChangePassword<'_>,
        now: Timestamp,
    ) -> Result<(), Error> {
        let field = "/current_password";
        match (password_of(items)?, request.current) {
            (None, None) if held.is_fresh(now) => match known_by(items)?.first() {
                Some(identifier) => self.limit_sign_in(held.tenant.no, caller.address, identifier),
                None => Ok(()),
            },
            (None, None) => {
                let detail = "Sign in again: the session is too old to set a first password with.";
                Err(Error::new(Code::ReauthenticationRequired, detail))
            }
            (None, Some(_)) => Err(Error::at(Code::InvalidValue, field, "There is no password yet; leave this out.")),
            (Some(_), None) => Err(Error::at(Code::InvalidValue, field, "The current password is needed.")),
            (Some(hash), Some(current)) => {
                let at_field = |e: Error| Error { field: e.field.map(|_| field.into()), ..e };
                let current = Password::new(current).map_err(at_field)?;
                if let Some(identifier) = known_by(items)?.first() {
                    self.limit_sign_in(held.tenant.no, caller.address, identifier)?;
                }
                if self.passwords.verify(Some(hash), current).await?.is_right() {
                    return Ok(());
                }
                Err(Error::at(Code::InvalidCredentials, field, "This is not the current password."))
            }
        }
    }

    async fn with_new_password(
        &self,
        held: &Held,
        key: Option<crate::dpop::Thumbprint>,
        kind: SessionKind,
        grant: &crate::client::Grant,
        session: SessionId,
        now: Timestamp,
    ) -> Result<Ensured, Error> {
        let held = self.read_again(&held.tenant, held.user, session, Proven::Key(key), now).await?;
        self.dress_account(kind, &held, grant, now).await
    }

    /// Sends a link by which a password is set anew, if an account has the address; else the address is told that none
    /// has. The answer is the same, and so is the work.
    ///
    /// # Errors
    /// [`Code::InvalidValue`] for what is no e-mail address; [`Code::Data`] for the state; [`Code::MethodNotEnabled`];
    /// [`Code::TooManyRequests`]; what can be wrong with the client.
    pub async fn forgot_password(&self, caller: &Caller<'_>, request: ForgotPassword<'_>) -> Result<(), Error> {
        let now = self.now();
        let known = self.known_client(caller, &request.client, now).await?;
        known.origin_allowed(caller)?;
        let tenant = &known.tenant;
        must_allow(tenant, SignInMethod::Password)?;
        let identifier = request.what.read(tenant)?;
        if identifier.kind != IdentifierKind::Email {
            let detail = "A link by which a password is set goes to an e-mail address.";
            return Err(Error::at(Code::InvalidValue, identifier.kind.field(), detail));
        }
        let redirect_uri = checked_redirect(&known.client.redirect_uris, request.redirect_uri)?;
        let state = checked_state(request.state)?;
        self.limit_message(tenant.no, caller.address, &identifier)?;
        let hash = self.identifier_hash(tenant.no, &identifier)?;
        let stands_for = self.place_of(tenant.no, &identifier)?;
        for _ in 0..TRIES {
            let owner = self.owner_of(tenant.no, &identifier, now).await?;
            let account = owner.as_ref().and_then(|o| o.standing.user.as_ref()).filter(|user| is_account(user));
            let at = account.map_or(stands_for, |user| user.id);
            let items = self.store.items(tenant.no, at, Some(ItemKind::Identifier)).await?;
            // to the address as its owner proved it, not as somebody typed it
            let proven = opens_by(&items, &hash)?.and_then(|kept| kept.identifier());
            let new = NewPasswordFlow {
                identifier: &identifier,
                client: known.client.no.0,
                user: None,
                mailed: true,
                state: state.clone(),
                redirect_uri: redirect_uri.clone(),
                life: LINK_LIFE,
            };
            let (change, link) = self.password_flow(tenant, new, now).await?;
            let message = if let Some(proven) = &proven {
                self.password_letter(tenant, proven, &link, LINK_LIFE, state.clone())
            } else {
                let message = self.message(tenant, MessageKind::AddressTried, &identifier.shown);
                Message { at: Some(now.millis()), ..message }
            };
            let out = vec![self.letter(tenant, stands_for, &message, Some(now.plus(LINK_LIFE)), now)?];
            match self.commit_with(tenant.no, None, Act::Records(vec![change]), out).await {
                Ok(_) => return Ok(()),
                Err(CommitError::Moved) => {}
                Err(e) => return Err(e.into()),
            }
        }
        Err(CommitError::Moved.into())
    }

    /// The record of a new link, in place of the one that is there, and the link.
    pub(super) async fn password_flow(
        &self,
        tenant: &Tenant,
        new: NewPasswordFlow<'_>,
        now: Timestamp,
    ) -> Result<(crate::port::RecordChange, Box<str>), Error> {
        let within = new.user.map_or(Within::Tenant, Within::User);
        let place = self.flow_place(tenant.no, Use::Password, within, new.identifier)?;
        let there = self.flow_record(tenant.no, &place).await?;
        let flow = self.secret_id()?;
        let mut sent = self.one_time(tenant.no, Use::Password, place, flow, now)?;
        sent.kept.code = None;
        sent.kept.link_ends = now.plus(new.life).millis();
        let link = link_of(tenant, "password", &sent.token);
        let kept = KeptFlow {
            of: Use::Password,
            flow: b64::encode(&flow).into(),
            kind: new.identifier.kind.as_str().into(),
            normal: new.identifier.normal.clone(),
            shown: new.identifier.shown.clone(),
            client: new.client,
            user: new.user.map(|id| id.to_string().into()),
            mailed: new.mailed,
            device: None,
            created_at: now.millis(),
            tries_since: now.millis(),
            redirect_uri: new.redirect_uri,
            state: new.state,
            sent: sent.kept,
        };
        let change = put(&record_id(&place), there.map(|r| r.revision), &kept, now.plus(new.life));
        Ok((change, link))
    }

    pub(super) fn password_letter(
        &self,
        tenant: &Tenant,
        identifier: &Identifier,
        link: &str,
        life: Duration,
        state: Option<Box<RawValue>>,
    ) -> Message {
        Message {
            link: Some(link.into()),
            valid_seconds: Some(life.as_secs()),
            purpose: Some(Purpose::ResetPassword),
            state,
            ..self.message(tenant, MessageKind::SetPassword, &identifier.shown)
        }
    }

    /// Sets the password that a link is for. The link is spent, everything older dies, and nobody is signed in. Where a
    /// back end gave a guest the address, the guest becomes a regular user by it.
    ///
    /// # Errors
    /// [`Code::InvalidCode`] at `/token` for a link that is wrong, was used, or is over; [`Code::InvalidValue`] for the
    /// password; [`Code::IdentifierTaken`]; [`Code::MethodNotEnabled`]; [`Code::TooManyRequests`]; [`Code::Unavailable`]
    /// while too many passwords are hashed.
    pub async fn reset_password(&self, caller: &Caller<'_>, token: &str, password: &str) -> Result<LinkDone, Error> {
        let now = self.now();
        let tenant = self.tenant_of_link(caller)?;
        let token = LinkToken::parse(token).filter(|t| t.of == Use::Password).ok_or_else(dead_link)?;
        must_allow(&tenant, SignInMethod::Password)?;
        let mut hash: Option<PasswordHash> = None;
        let mut tried: Option<(UserId, LinkDone)> = None;
        for _ in 0..TRIES {
            let Some(flow) = self.flow_of_link(&tenant, &token, now).await? else {
                // spent, perhaps by a commit of ours whose answer was lost
                if let (Some(hash), Some((user, done))) = (&hash, tried) {
                    let items = self.store.items(tenant.no, user, Some(ItemKind::Password)).await?;
                    if has_password(&items, hash)? {
                        return Ok(done);
                    }
                }
                return Err(dead_link());
            };
            let setting = self.whose_password(&tenant, &flow, now).await?.ok_or_else(dead_link)?;
            let (user, items) = match &setting {
                Setting::Anew(user, items) | Setting::First(user, items, ..) => (user, items),
            };
            let hash = match &mut hash {
                Some(hash) => &*hash,
                none => {
                    let mut known = known_by(items)?;
                    if let Some(identifier) = flow.kept.identifier() {
                        self.limit_sign_in(tenant.no, caller.address, &identifier)?;
                        known.push(identifier);
                    }
                    none.insert(self.passwords.take(&tenant.sign_in, Password::new(password)?, known).await?)
                }
            };
            let (mut turn, out) = match &setting {
                Setting::Anew(user, items) => {
                    let (mut turn, out) = self.password_turn(&tenant, user, items, (hash, "link"), None, now)?;
                    // the address may be taken from the account meanwhile
                    turn.counted = ways_in_of(items);
                    (turn, out)
                }
                Setting::First(user, items, identifier) => {
                    // who followed the link has received our message
                    let identifiers = [(identifier.clone(), true)];
                    let what = Becoming {
                        identifiers: &identifiers,
                        password: Some(hash),
                        method: "password_link",
                        by: None,
                        open: None,
                        forgiven: None,
                    };
                    self.conversion(&tenant, user, items, what, now)?
                }
            };
            turn.records.push(flow.gone());
            let done =
                LinkDone { redirect_uri: flow.kept.redirect_uri.clone(), state: flow.kept.state.clone(), cookie: None };
            match self.turn_of(&tenant, user, turn, out, now).await {
                Ok(()) => return Ok(done),
                // the address has an owner by now, which the next round finds
                Err(CommitError::Taken) if tried.is_some() => {
                    return Err(Error::new(Code::IdentifierTaken, "The address is another's by now."));
                }
                Err(e) if look_again(&e) => tried = Some((user.id, done)),
                Err(e) => return Err(e.into()),
            }
        }
        Err(CommitError::Moved.into())
    }

    /// Whose password a link sets; `None`: the address is not theirs any more, or became it after the link was made.
    async fn whose_password(&self, tenant: &Tenant, flow: &Flow, now: Timestamp) -> Result<Option<Setting>, Error> {
        let Some(identifier) = flow.kept.identifier() else { return Ok(None) };
        let hash = self.identifier_hash(tenant.no, &identifier)?;
        let user = if let Some(id) = &flow.kept.user {
            let Some(id) = UserId::parse(id) else { return Ok(None) };
            self.store.standing(tenant.no, id, SessionId::from_bytes([0; 16])).await?.user
        } else {
            self.owner_of(tenant.no, &identifier, now).await?.and_then(|found| found.standing.user)
        };
        let Some(user) = user.filter(|user| user.merged_into.is_none()) else { return Ok(None) };
        let items = self.store.items(tenant.no, user.id, None).await?;
        if is_account(&user) {
            let kept = opens_by(&items, &hash)?;
            let good = match &kept {
                Some(kept) => !flow.kept.is_void_for(kept, &items)?,
                None => false,
            };
            return Ok(good.then(|| Setting::Anew(Box::new(user), items)));
        }
        // a guest, whom a back end gave the address: the claim must be there still
        let given = |item: &Item| -> Result<bool, Error> {
            let claim: KeptClaim = read_body(item)?;
            let same = claim.kind == flow.kept.kind && claim.normal == flow.kept.normal;
            Ok(claim.session.is_none() && same && claim.created_at <= flow.kept.created_at)
        };
        let claims = items.iter().filter(|i| i.kind == ItemKind::Claim && i.ends_at > now);
        let given = claims.map(given).collect::<Result<Vec<_>, Error>>()?.contains(&true);
        if flow.kept.user.is_none() || !given || !flow.kept.mailed {
            return Ok(None);
        }
        Ok(Some(Setting::First(Box::new(user), items, identifier)))
    }

    /// Commits a turn of a user that no session of theirs made.
    pub(super) async fn turn_of(
        &self,
        tenant: &Tenant,
        user: &User,
        turn: Turn,
        out: Vec<OutRow>,
        now: Timestamp,
    ) -> Result<(), CommitError> {
        let raise = turn.raise;
        self.commit_with(tenant.no, None, Act::Turn(Box::new(turn)), out).await?;
        if raise {
            self.note_epoch(tenant.no, user.id, user.epoch + 1, user.chosen_id.as_deref(), now);
        }
        Ok(())
    }
}

/// The hash of the password as it is kept.
fn password_text(items: &[Item]) -> Result<Option<Box<str>>, Error> {
    Ok(password_of(items)?.map(|hash| hash.as_str().into()))
}
