//! Proving a claim: by the code, or after its link was confirmed. A guest becomes a regular user by it, a regular user
//! gets one more identifier; where the address has an account already, the way leads to a merge.

use std::net::IpAddr;

use crate::{
    Code, Error, Timestamp,
    caller::{Access, Caller},
    client::{Grant, KnownClient, grant},
    device::{Late, TRIES, body, read_body},
    dpop::Thumbprint,
    guest::{CreationKey, Ensured},
    hold::{Held, Proven, Row},
    id::UserId,
    identifier::{Identifier, IdentifierKind},
    me::UserView,
    merge::Offer,
    mint::Grade,
    model::{Item, ItemKind, Kind, Session, SessionKind, User},
    passerby::Passerby,
    password::{Password, PasswordHash},
    port::{Act, CommitError, Found, ItemChange, StoreError, Turn},
    secret::Sealed,
    settings::SignInMethod,
    token::Dress,
};

use super::{
    AccountView, IdentifierView,
    claim::{KeptClaim, is_claim, no_such_claim, not_frozen},
    code::{MOST_TRIES, Use, wrong_code},
    convert::{Becoming, needs_way_in},
    flow::{is_older, opens_by},
    identity::{AddressTries, view_of},
};

/// What an `Idempotency-Key` of this call is hashed with.
const VERIFYING: &str = "verifying";

/// How a claim is proven.
#[derive(Clone, Copy)]
pub struct VerifyClaim<'a> {
    /// Its id.
    pub claim: &'a str,
    /// The code; `None`: its link was confirmed, or it needs no proof.
    pub code: Option<&'a str>,
    /// The password that the account gets.
    pub password: Option<&'a str>,
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

/// What came of it.
#[derive(Debug, Clone)]
pub enum Verified {
    /// The guest is a regular user: its new session.
    Converted(Box<Ensured>),
    /// A regular user has one more identifier.
    Added {
        /// The user with what it has by now.
        user: Box<UserView>,
        /// The identifier.
        identifier: IdentifierView,
    },
    /// The address has an account, which was signed in to by this proof: the guest may be merged into it.
    MergeRequired(Box<Offer>),
    /// The address has an account, and this proof does not sign in to it.
    SignInRequired,
}

/// One try to finish.
enum Step {
    Done(Verified),
    /// Something changed meanwhile.
    Again,
}

/// What the request asks for, checked before anything is looked at.
struct Wanted<'a> {
    request: VerifyClaim<'a>,
    known: KnownClient,
    grant: Grant,
    kind: SessionKind,
    key: Option<Thumbprint>,
    bound: bool,
    request_key: Option<CreationKey>,
    password: Option<Password>,
    /// Who asks: hashing has its price.
    address: IpAddr,
}

impl Passerby {
    /// Proves a claim of the caller's.
    ///
    /// # Errors
    /// [`Code::NotFound`] for no such claim of this session; [`Code::InvalidCode`]; [`Code::ClaimPending`];
    /// [`Code::TooManyRequests`]; [`Code::IdentifierTaken`]; [`Code::InvalidValue`] for the password;
    /// [`Code::GuestConverted`] when another was faster; [`Code::Unavailable`] while too many passwords are hashed; as for
    /// [`Passerby::me`].
    pub async fn verify_claim(
        &self,
        caller: &Caller<'_>,
        access: &Access<'_>,
        request: VerifyClaim<'_>,
    ) -> Result<Verified, Error> {
        let now = self.now();
        let (mut held, key) = match self.hold_or_late(caller, access, now).await {
            Ok(held) => held,
            Err(late) => return self.verified_before(caller, access, request, late, now).await,
        };
        let mut wanted = self.wanted(&held, request, key, caller.address)?;
        if let Some(again) = self.verified_again(&held, &wanted, now).await? {
            return Ok(again);
        }
        let mut hash = None;
        let session = self.new_session(&wanted.known, wanted.key, wanted.bound, wanted.kind, now);
        for _ in 0..2 * TRIES {
            not_frozen(&held)?;
            let gone = match self.try_claim(&held, &mut wanted, &mut hash, &session, now).await {
                Ok(Step::Done(verified)) => return Ok(verified),
                Ok(Step::Again) => None,
                // the claim may have gone with the guest, which became an account after it was read here; one that floats
                // has no claim and no row to read again
                Err(e) if e.code == Code::NotFound && matches!(held.row, Row::Stored(_)) => Some(e),
                Err(e) => return Err(e),
            };
            held = match (self.hold_again(&held, now).await, gone) {
                (Ok(again), Some(gone)) if again.epoch == held.epoch => return Err(gone),
                (Ok(again), _) => again,
                (Err(error), _) => {
                    return self.verified_before(caller, access, request, Late { error, key }, now).await;
                }
            };
        }
        Err(CommitError::Moved.into())
    }

    fn wanted<'a>(
        &self,
        held: &Held,
        request: VerifyClaim<'a>,
        key: Option<Thumbprint>,
        address: IpAddr,
    ) -> Result<Wanted<'a>, Error> {
        let known = KnownClient { tenant: held.tenant.clone(), client: held.client.clone(), authenticated: false };
        let kind = request.session_type.unwrap_or_else(|| held.session_kind());
        // a session that is bound stays so
        let asked = request.bind_tokens || held.bound_to().is_some();
        let bound = known.binding(asked, key, kind)?.is_some();
        let grant = grant(&held.tenant, &held.client, request.audience, request.scope, false)?;
        let request_key = request.idempotency_key.map(|k| self.creation_key(&known, VERIFYING, k, request.body));
        let password = request.password.map(Password::new).transpose()?;
        let request_key = request_key.transpose()?;
        Ok(Wanted { request, known, grant, kind, key, bound, request_key, password, address })
    }

    async fn try_claim(
        &self,
        held: &Held,
        wanted: &mut Wanted<'_>,
        hash: &mut Option<PasswordHash>,
        session: &Session,
        now: Timestamp,
    ) -> Result<Step, Error> {
        let tenant = held.tenant.no;
        let Row::Stored(stored) = &held.row else { return Err(no_such_claim()) };
        let items = self.store.items(tenant, held.user, None).await?;
        let (item, claim) = claim_of(&items, wanted.request.claim, held, now)?;
        let identifier = claim.identifier().ok_or_else(no_such_claim)?;
        // a link lets in who began, not whoever shares the session and reads the list
        let began = *claim.id == *wanted.request.claim;
        let tries = match self.prove(held, &item, &claim, (&identifier, began), wanted.request.code, now).await? {
            Ok(tries) => tries,
            Err(Step::Done(verified)) => return Ok(Step::Done(verified)),
            Err(Step::Again) => return Ok(Step::Again),
        };
        let proven = claim.sent.is_some();
        let owner = self.owner_of(tenant, &identifier, now).await?;
        if let Some(owner) = owner.as_ref().filter(|o| o.look_up.user != held.user) {
            return self.meet_owner(held, wanted, owner, (&item, &claim, &identifier), tries, session, now).await;
        }
        let identifiers = [(identifier, proven)];
        if stored.user.kind == Kind::Regular {
            if wanted.password.is_some() {
                let detail = "You have an account: set its password by itself.";
                return Err(Error::at(Code::InvalidValue, "/password", detail));
            }
            return self.add_identifier(held, &stored.user, (&items, &item), &identifiers[0], tries, now).await;
        }
        needs_way_in(&held.tenant, &identifiers, wanted.password.is_some() || hash.is_some())?;
        // asked before anything is hashed, or one claim would keep the hashing threads busy for ever
        if let Some(key) = &wanted.key
            && self.owner_of_key(tenant, key, now).await?.is_some_and(|owner| owner != held.user)
        {
            return Err(Error::at(Code::DeviceKeyTaken, "DPoP", "This key is another guest's; make a new one."));
        }
        if let Some(password) = wanted.password.take() {
            self.limit_sign_in(tenant, wanted.address, &identifiers[0].0)?;
            let own = vec![identifiers[0].0.clone()];
            *hash = Some(self.passwords.take(&held.tenant.sign_in, password, own).await?);
        }
        let what = Becoming {
            identifiers: &identifiers,
            password: hash.as_ref(),
            method: method_of(&claim, wanted.request.code),
            by: Some(held.session),
            open: Some(session.clone()),
            forgiven: tries.and_then(|t| t.forgiven()),
        };
        let (mut turn, out) = self.conversion(&held.tenant, &stored.user, &items, what, now)?;
        // the claim as it was looked at: a try that came meanwhile is decided first
        turn.items.insert(0, ItemChange::Remove { kind: ItemKind::Claim, id: item.id, was: item.revision });
        turn.look_ups.extend(wanted.request_key.map(|key| key.row(&wanted.known, held.user, session.id, now)));
        match self.turn_with(held, turn, out, now).await {
            Ok(()) => {}
            // somebody was faster, or our own answer was lost
            Err(
                CommitError::Moved
                | CommitError::Taken
                | CommitError::Gone
                | CommitError::Store(StoreError::Unavailable(_)),
            ) => {
                let standing = self.store.standing(tenant, held.user, session.id).await?;
                if standing.session(session.id).is_none() {
                    return Ok(Step::Again);
                }
            }
            Err(e) => return Err(e.into()),
        }
        self.converted_answer(wanted, held.user, session, now)
            .await
            .map(|e| Step::Done(Verified::Converted(Box::new(e))))
    }

    /// Whether the claim is proven; a wrong code is counted before it is answered. `Ok(None)`: it needs no proof. `began`:
    /// the claim was named by the id that only who began was told.
    async fn prove(
        &self,
        held: &Held,
        item: &Item,
        claim: &KeptClaim,
        (identifier, began): (&Identifier, bool),
        code: Option<&str>,
        now: Timestamp,
    ) -> Result<Result<Option<AddressTries>, Step>, Error> {
        let tenant = held.tenant.no;
        let Some(sent) = &claim.sent else {
            return match code {
                Some(_) => Err(Error::at(Code::InvalidValue, "/code", "This identifier needs no code.")),
                None => Ok(Ok(None)),
            };
        };
        let tries = self.wrong_codes_of(tenant, identifier, now).await?;
        let Some(code) = code else {
            if sent.proven && began {
                return Ok(Ok(Some(tries)));
            }
            let detail = "Give the code, or confirm the link that was sent.";
            return Err(Error::at(Code::ClaimPending, "/code", detail));
        };
        tries.check(now)?;
        if self.code_is_right(tenant, Use::Claim, &claim.flow(), sent, code, now)? {
            return Ok(Ok(Some(tries)));
        }
        // a code that is over is not guessed at: else one claim would use up all tries of an address
        if sent.code.is_none() || sent.tries >= MOST_TRIES || sent.code_ends <= now.millis() {
            return Err(wrong_code());
        }
        let mut counted = claim.clone();
        if sent.tries == 0 {
            counted.tries_since = now.millis();
        }
        if let Some(sent) = &mut counted.sent {
            sent.tries = sent.tries.saturating_add(1);
        }
        let was = item.revision;
        let item = Item { revision: was.wrapping_add(1), body: body(&counted), ..item.clone() };
        let mut turn = Turn::of(held.user, held.epoch);
        turn.by = Some(held.session);
        turn.items.push(ItemChange::Put { item, was: Some(was) });
        turn.records.push(tries.wrong(now));
        match self.turn_with(held, turn, Vec::new(), now).await {
            Ok(()) => Err(wrong_code()),
            Err(CommitError::Moved) => Ok(Err(Step::Again)),
            Err(e) => Err(e.into()),
        }
    }

    /// The identifier is somebody else's, and the caller has proven to reach it.
    #[expect(clippy::too_many_arguments, reason = "each is one independent fact")]
    async fn meet_owner(
        &self,
        held: &Held,
        wanted: &Wanted<'_>,
        owner: &Found,
        (item, claim, identifier): (&Item, &KeptClaim, &Identifier),
        tries: Option<AddressTries>,
        session: &Session,
        now: Timestamp,
    ) -> Result<Step, Error> {
        let taken = || Error::at(Code::IdentifierTaken, identifier.kind.field(), "This identifier is another's.");
        let account: &User = owner.standing.user.as_ref().ok_or_else(taken)?;
        let guest = held.kind == Kind::Anonymous;
        if claim.sent.is_none() || !guest || account.kind != Kind::Regular {
            return Err(taken());
        }
        let by_code = wanted.request.code.is_some();
        let method = if by_code { SignInMethod::Code } else { SignInMethod::Link };
        let rules = held.client.merge.clone();
        if !held.tenant.sign_in.allows(method) || rules.policies.refuses() {
            return Ok(Step::Done(Verified::SignInRequired));
        }
        // what was sent before the account had the address, or before its password was set, opens it no more
        let theirs = self.store.items(held.tenant.no, account.id, None).await?;
        let hash = self.identifier_hash(held.tenant.no, identifier)?;
        let opens = match opens_by(&theirs, &hash)? {
            Some(kept) => kept.proven && !is_older(claim.created_at, &kept, &theirs)?,
            None => false,
        };
        if !opens {
            return Ok(Step::Done(Verified::SignInRequired));
        }
        let Row::Stored(stored) = &held.row else { return Err(no_such_claim()) };
        // nothing is spent on a merge that cannot be
        crate::merge::can_merge(&held.tenant, &rules, &stored.user, account)?;
        // the proof is a sign-in: spent with the session that it opens
        let mut mine = Turn::of(held.user, held.epoch);
        mine.by = Some(held.session);
        mine.items.push(ItemChange::Remove { kind: ItemKind::Claim, id: item.id, was: item.revision });
        mine.records.extend(tries.and_then(|t| t.forgiven()));
        let mut theirs = Turn::of(account.id, account.epoch);
        let mut session = session.clone();
        if !session.bound {
            // the key is the guest's
            session.key = None;
        }
        theirs.open = Some(Box::new(session.clone()));
        theirs.look_ups.extend(wanted.request_key.map(|key| key.row(&wanted.known, account.id, session.id, now)));
        let out = vec![self.login_event(&held.tenant, account.id, method.as_str(), now)];
        match self.commit_with(held.tenant.no, None, Act::Turns(vec![mine, theirs]), out).await {
            Ok(_) => {}
            Err(CommitError::Moved | CommitError::Store(StoreError::Unavailable(_))) => {
                let standing = self.store.standing(held.tenant.no, account.id, session.id).await?;
                if standing.session(session.id).is_none() {
                    return Ok(Step::Again);
                }
            }
            Err(e) => return Err(e.into()),
        }
        let proven = Proven::Key(wanted.key);
        let account = self.read_again(&held.tenant, account.id, session.id, proven, now).await?;
        let offer = self.offer_merge(held, &account, now).await?;
        Ok(Step::Done(Verified::MergeRequired(Box::new(offer))))
    }

    async fn add_identifier(
        &self,
        held: &Held,
        user: &User,
        (items, claim): (&[Item], &Item),
        (identifier, proven): &(Identifier, bool),
        tries: Option<AddressTries>,
        now: Timestamp,
    ) -> Result<Step, Error> {
        let hash = self.identifier_hash(held.tenant.no, identifier)?;
        let (mut turn, out) = if items.iter().any(|i| i.kind == ItemKind::Identifier && i.id == hash) {
            // theirs already: the proof is spent, and nothing else changes
            (Turn::of(user.id, user.epoch), Vec::new())
        } else {
            self.addition(&held.tenant, user, items, (identifier, *proven), now)?
        };
        turn.by = Some(held.session);
        // the claim as it was looked at: a try that came meanwhile is decided first
        turn.items.insert(0, ItemChange::Remove { kind: ItemKind::Claim, id: claim.id, was: claim.revision });
        turn.records.extend(tries.and_then(|t| t.forgiven()));
        match self.turn_with(held, turn, out, now).await {
            Ok(()) => {}
            Err(CommitError::Moved | CommitError::Taken) => return Ok(Step::Again),
            Err(e) => return Err(e.into()),
        }
        let items = self.store.items(held.tenant.no, held.user, None).await?;
        let item = items.iter().find(|i| i.kind == ItemKind::Identifier && i.id == hash).ok_or_else(no_such_claim)?;
        let identifier = view_of(item)?.ok_or_else(no_such_claim)?;
        let account = AccountView::of(user, &items)?;
        let user = UserView { account: Some(Box::new(account)), ..held.user_view(Dress::default()) };
        Ok(Step::Done(Verified::Added { user: Box::new(user), identifier }))
    }

    /// The full answer for a session that a conversion opened.
    async fn converted_answer(
        &self,
        wanted: &Wanted<'_>,
        user: UserId,
        session: &Session,
        now: Timestamp,
    ) -> Result<Ensured, Error> {
        let proven = Proven::Key(wanted.key);
        let held = self.read_again(&wanted.known.tenant, user, session.id, proven, now).await?;
        self.dress_account(wanted.kind, &held, &wanted.grant, now).await
    }

    /// Tokens of a regular user's session, with what the account has.
    pub(crate) async fn dress_account(
        &self,
        kind: SessionKind,
        held: &Held,
        grant: &Grant,
        now: Timestamp,
    ) -> Result<Ensured, Error> {
        let mut ensured = self.dress(kind, held, grant, Grade::Session, false, None, now)?;
        ensured.user.account = self.account_of(held).await?.map(Box::new);
        Ok(ensured)
    }

    /// The answer that was given for the same `Idempotency-Key` before, while the caller's session lives: it proved to
    /// reach another's address, or came by a cookie that the answer had set already.
    async fn verified_again(
        &self,
        held: &Held,
        wanted: &Wanted<'_>,
        now: Timestamp,
    ) -> Result<Option<Verified>, Error> {
        let Some(key) = &wanted.request_key else { return Ok(None) };
        let Some(opened) = self.held_by_key(&wanted.known, key, Proven::Key(wanted.key), now).await? else {
            return Ok(None);
        };
        if opened.user == held.user {
            let ensured = self.dress_account(wanted.kind, &opened, &wanted.grant, now).await?;
            return Ok(Some(Verified::Converted(Box::new(ensured))));
        }
        let offer = self.offer_merge(held, &opened, now).await?;
        Ok(Some(Verified::MergeRequired(Box::new(offer))))
    }

    /// The caller's session is over. Where the guest was converted, by this very request or by another, that is said.
    async fn verified_before(
        &self,
        caller: &Caller<'_>,
        access: &Access<'_>,
        request: VerifyClaim<'_>,
        late: Late,
        now: Timestamp,
    ) -> Result<Verified, Error> {
        let Late { error, key: proven } = late;
        let Some((known, user)) = self.late_caller(caller, access, &error, now)? else { return Err(error) };
        if let Some(key) = request.idempotency_key {
            let key = self.creation_key(&known, VERIFYING, key, request.body)?;
            if let Some(held) = self.held_by_key(&known, &key, Proven::Key(proven), now).await?
                && held.user == user
            {
                let grant = grant(&held.tenant, &held.client, request.audience, request.scope, false)?;
                let ensured = self.dress_account(held.session_kind(), &held, &grant, now).await?;
                return Ok(Verified::Converted(Box::new(ensured)));
            }
        }
        Err(self.what_became_of(&known, user).await?.unwrap_or(error))
    }

    /// Who a caller was whose session is over: client and user of a credential that is ours and not past its end.
    pub(crate) fn late_caller(
        &self,
        caller: &Caller<'_>,
        access: &Access<'_>,
        error: &Error,
        now: Timestamp,
    ) -> Result<Option<(KnownClient, UserId)>, Error> {
        if !matches!(error.code, Code::SessionEnded | Code::SessionExpired) {
            return Ok(None);
        }
        let settings = self.settings();
        let (tenant, client, user) = if let Some(token) = access.token {
            let seen = self.read_own(caller, token, now)?;
            let Some(person) = &seen.person else { return Ok(None) };
            (seen.tenant, seen.client.clone(), person.user)
        } else {
            let Some(seen) = access.cookie.and_then(|c| self.read_session_token(Sealed::Cookie, c, now)) else {
                return Ok(None);
            };
            let client = settings.clients.get(&seen.client_id).map(|(_, client)| client.clone());
            let Some(client) = client else { return Ok(None) };
            (seen.tenant, client, seen.user)
        };
        let Some(tenant) = settings.tenant(tenant).cloned() else { return Ok(None) };
        Ok(Some((KnownClient { tenant, client, authenticated: false }, user)))
    }

    /// What became of a guest whose credential is over; `None`: nothing that is to be told.
    pub(crate) async fn what_became_of(&self, known: &KnownClient, user: UserId) -> Result<Option<Error>, Error> {
        let nobody = crate::id::SessionId::from_bytes([0; 16]);
        let user = self.store.standing(known.tenant.no, user, nobody).await?.user;
        Ok(user.and_then(|user| became(&user)))
    }
}

/// What a user is that was a guest.
pub(crate) fn became(user: &User) -> Option<Error> {
    if user.merged_into.is_some() {
        return Some(Error::new(Code::GuestMerged, "This guest was merged into an account; sign in to it."));
    }
    let converted = user.kind == Kind::Regular && user.converted_at.is_some();
    converted.then(|| Error::new(Code::GuestConverted, "This guest has become an account; sign in to it."))
}

/// The living claim of this session.
fn claim_of(items: &[Item], id: &str, held: &Held, now: Timestamp) -> Result<(Item, KeptClaim), Error> {
    let item = items.iter().find(|i| i.kind == ItemKind::Claim && is_claim(i, id) && i.ends_at > now);
    let item = item.ok_or_else(no_such_claim)?;
    let claim: KeptClaim = read_body(item)?;
    let mine = claim.session.as_deref().is_none_or(|s| *s == *held.session.to_string());
    if mine { Ok((item.clone(), claim)) } else { Err(no_such_claim()) }
}

fn method_of(claim: &KeptClaim, code: Option<&str>) -> &'static str {
    match (IdentifierKind::parse(&claim.kind), code) {
        (Some(IdentifierKind::Email), Some(_)) => "email_code",
        (Some(IdentifierKind::Email), None) => "email_link",
        (Some(IdentifierKind::Phone), _) => "sms_code",
        _ => "password",
    }
}

opaque_debug!(VerifyClaim<'_>);
