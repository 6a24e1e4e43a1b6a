//! Signing in to an account: by password, or by a code or link that was sent to its address. Whether an account has the
//! address shows in nothing before the address is proven: neither in the answer nor in the work.

use crate::{
    Code, Error, Timestamp,
    caller::{AccessToken, Caller, ClientClaim, ProofClaim, Site},
    client::{Grant, KnownClient, grant},
    device::{TRIES, checked_name},
    dpop::Thumbprint,
    guest::{CreationKey, Ensured},
    hold::{Held, Proven},
    id::UserId,
    merge::Offer,
    model::{ItemKind, Kind, LookUp, OutRow, Session, SessionKind, User},
    passerby::{Passerby, count},
    password::{Password, PasswordHash, Verdict},
    port::{Act, CommitError, StoreError, Turn},
    secret::Sealed,
    settings::{SignInMethod, Tenant},
};

use super::{
    ClaimView, ClaimWhat,
    claim::checked_redirect,
    convert::{rehash_password, ways_in_of},
    flow::{is_account, opens_by},
    identity::password_of,
};

/// By what somebody signs in.
#[derive(Clone, Copy)]
pub enum SignInBy<'a> {
    /// A password.
    Password {
        /// What the account is known by.
        what: ClaimWhat<'a>,
        /// Its password.
        password: &'a str,
    },
    /// A code or a link is to be sent.
    Begin {
        /// Where to: an e-mail address or a phone number.
        what: ClaimWhat<'a>,
        /// A link alone; else a code, with a link beside it where the tenant has links.
        by_link: bool,
        /// Where the link's page leads afterwards: one of the client's redirect targets.
        redirect_uri: Option<&'a str>,
    },
    /// The second step.
    Finish {
        /// The claim's id, as the first step gave it.
        claim: &'a str,
        /// The code; `None`: the link was confirmed.
        code: Option<&'a str>,
    },
}

/// A sign-in as it came.
#[derive(Clone, Copy)]
pub struct SignIn<'a> {
    /// The client.
    pub client: ClientClaim<'a>,
    /// By what.
    pub by: SignInBy<'a>,
    /// An access token of a guest that is to come along.
    pub token: Option<AccessToken<'a>>,
    /// The session cookie, perhaps a guest's.
    pub cookie: Option<&'a str>,
    /// A session token of a guest that is to come along.
    pub session_token: Option<&'a str>,
    /// What the answer carries.
    pub session_type: SessionKind,
    /// Bind the tokens to the key whose proof comes along.
    pub bind_tokens: bool,
    /// That key's proof, where the request's own is of the key to which the guest's token is bound.
    pub proof: Option<&'a str>,
    /// The access token's audience.
    pub audience: Option<&'a str>,
    /// Its scopes.
    pub scope: Option<&'a str>,
    /// Names the device, for the link's page: at most 64 characters.
    pub device: Option<&'a str>,
    /// `Idempotency-Key`, as sent: with it a lost answer can be asked for again.
    pub idempotency_key: Option<&'a str>,
    /// The whole body, which the key is bound to.
    pub body: &'a [u8],
}

/// What came of it.
#[derive(Debug, Clone)]
pub enum SignInAnswer {
    /// Code and link are on their way.
    Claim(ClaimView),
    /// In.
    Done {
        /// The account and its new session.
        ensured: Box<Ensured>,
        /// What becomes of the guest that was presented, if it may be merged.
        offer: Option<Box<Offer>>,
    },
}

opaque_debug!(SignIn<'_>, SignInBy<'_>);

/// A sign-in that was checked as far as it can be without its proof.
pub(super) struct Entering<'a> {
    pub(super) known: KnownClient,
    request: SignIn<'a>,
    /// The key of the session that is opened.
    key: Option<Thumbprint>,
    grant: Grant,
    /// By which the answer can be asked for again.
    pub(super) request_key: Option<CreationKey>,
    /// The guest that is to come along.
    pub(super) guest: Option<Held>,
    clear_cookie: bool,
    /// The session that is opened.
    pub(super) session: Session,
}

/// Wrong password, no such account: one answer.
fn refused() -> Error {
    Error::new(Code::InvalidCredentials, "There is no account with this identifier and password.")
}

/// # Errors
/// [`Code::MethodNotEnabled`].
pub(super) fn must_allow(tenant: &Tenant, method: SignInMethod) -> Result<(), Error> {
    if tenant.sign_in.allows(method) {
        return Ok(());
    }
    let detail = format!("Nobody signs in by {} here.", method.as_str());
    Err(Error::new(Code::MethodNotEnabled, detail))
}

/// Whether a commit may have been made although its answer does not say so, or somebody else was faster.
pub(super) fn look_again(e: &CommitError) -> bool {
    matches!(
        e,
        CommitError::Moved | CommitError::Taken | CommitError::Gone | CommitError::Store(StoreError::Unavailable(_))
    )
}

impl Passerby {
    /// Signs in to an account, or sends what signs in.
    ///
    /// # Errors
    /// [`Code::InvalidCredentials`]; [`Code::InvalidCode`]; [`Code::NotFound`] for a claim that is over;
    /// [`Code::ClaimPending`]; [`Code::NoAccount`] after the proof; [`Code::MethodNotEnabled`];
    /// [`Code::TooManyRequests`]; [`Code::NotAGuest`] for a regular user's token beside it; [`Code::DeviceKeyTaken`];
    /// [`Code::Unavailable`] while too many passwords are hashed; what can be wrong with client, credential, proof,
    /// audience and scope.
    pub async fn sign_in(&self, caller: &Caller<'_>, request: SignIn<'_>) -> Result<SignInAnswer, Error> {
        let now = self.now();
        let known = self.known_client(caller, &request.client, now).await?;
        known.origin_allowed(caller)?;
        if let SignInBy::Begin { what, by_link, redirect_uri } = request.by {
            let device = checked_name(request.device, "/device")?;
            let redirect_uri = checked_redirect(&known.client.redirect_uris, redirect_uri)?;
            let view = self.begin_sign_in(caller, &known, what, by_link, (device, redirect_uri), now).await?;
            return Ok(SignInAnswer::Claim(view));
        }
        // nobody is signed in by another site's page
        if request.session_type == SessionKind::Cookie && caller.site == Site::Cross {
            caller.site.may_change_by_cookie(&known.tenant)?;
        }
        let key = self.proven(caller, &known.tenant, request.token, now).await?;
        let own_key = match (request.proof, &caller.proof) {
            (None, _) => key,
            (Some(proof), Some(guests)) => {
                let claim = ProofClaim { jwt: Some(proof), ..guests.clone() };
                let proven = self.check_proof(&claim, &known.tenant, None, now).await;
                Some(proven.map_err(|e| Error { field: Some("/proof".into()), token_shown: false, ..e })?)
            }
            (Some(_), None) => {
                let detail = "Without a guest's bound token beside it the proof goes into the DPoP header.";
                return Err(Error::at(Code::InvalidValue, "/proof", detail));
            }
        };
        let bound = known.binding(request.bind_tokens, own_key, request.session_type)?;
        let grant = grant(&known.tenant, &known.client, request.audience, request.scope, false)?;
        let request_key = request.idempotency_key.map(|k| self.creation_key(&known, "signing in", k, request.body));
        let request_key = request_key.transpose()?;
        let (guest, clear_cookie) = self.guest_beside(caller, &known, &request, key, now).await?;
        let session = self.new_session(&known, bound, bound.is_some(), request.session_type, now);
        let entering = Entering { known, request, key: own_key, grant, request_key, guest, clear_cookie, session };
        match request.by {
            SignInBy::Password { what, password } => {
                self.sign_in_by_password(caller, &entering, what, password, now).await
            }
            SignInBy::Finish { claim, code } => self.finish_sign_in(caller, &entering, claim, code, now).await,
            SignInBy::Begin { .. } => Err(Error::new(Code::Internal, "The server failed; this is its fault.")),
        }
    }

    /// The guest whose credential was sent along, and whether the cookie must be cleared. A cookie locks nobody out: one
    /// that is over, or a regular user's, is passed over; other credentials are held to what they say.
    async fn guest_beside(
        &self,
        caller: &Caller<'_>,
        known: &KnownClient,
        request: &SignIn<'_>,
        key: Option<Thumbprint>,
        now: Timestamp,
    ) -> Result<(Option<Held>, bool), Error> {
        let mut found: Option<Held> = None;
        if let Some(token) = request.token {
            let seen = self.read_own(caller, token, now)?;
            found = Some(self.hold_proven(seen, key, now).await?.1);
        }
        if let Some(token) = request.session_token {
            let held = self.hold_session(caller, Sealed::Session, token, true, Proven::Key(key), now).await?;
            if found.as_ref().is_some_and(|other| other.user != held.user) {
                return Err(Error::at(Code::CredentialConflict, "/session_token", "The credentials are two guests'."));
            }
            found = Some(held);
        }
        if let Some(held) = found {
            if held.tenant.no != known.tenant.no || held.client.no != known.client.no {
                return Err(Error::new(Code::InvalidToken, "The credential belongs to another client."));
            }
            if held.kind != Kind::Anonymous {
                let detail = "The credential beside a sign-in is a guest's; this one is a regular user's.";
                return Err(Error::new(Code::NotAGuest, detail));
            }
            return Ok((Some(held), false));
        }
        let Some(cookie) = request.cookie else { return Ok((None, false)) };
        match self.hold_session(caller, Sealed::Cookie, cookie, true, Proven::Key(key), now).await {
            Ok(held) => {
                let shared = held.client.no == known.client.no || (held.client.first_party && known.client.first_party);
                if held.tenant.no != known.tenant.no || held.kind != Kind::Anonymous || !shared {
                    return Ok((None, false));
                }
                caller.site.may_change_by_cookie(&held.tenant)?;
                Ok((Some(held), false))
            }
            Err(e) => match e.code {
                // the last: it lives, and is bound to a key by now
                Code::Unavailable | Code::Internal | Code::StorageFull | Code::InvalidDpopProof => Err(e),
                _ => {
                    let seen = self.read_session_token(Sealed::Cookie, cookie, now);
                    Ok((None, seen.is_none_or(|seen| seen.tenant == known.tenant.no)))
                }
            },
        }
    }

    /// The answer for a session that was opened, with what may become of the guest.
    pub(super) async fn entered(&self, e: &Entering<'_>, user: UserId, now: Timestamp) -> Result<SignInAnswer, Error> {
        let proven = Proven::Key(e.key);
        let held = self.read_again(&e.known.tenant, user, e.session.id, proven, now).await?;
        self.let_in_account(e, &held, now).await
    }

    async fn let_in_account(&self, e: &Entering<'_>, held: &Held, now: Timestamp) -> Result<SignInAnswer, Error> {
        let ensured = self.dress_account(e.request.session_type, held, &e.grant, now).await?;
        let mut offer = None;
        if let Some(guest) = &e.guest {
            match self.offer_merge(guest, held, now).await {
                Ok(made) => offer = Some(Box::new(made)),
                // asked for again it may work
                Err(e) if matches!(e.code, Code::Unavailable | Code::Internal | Code::StorageFull) => return Err(e),
                // what the guest has stays with the guest
                Err(e) => tracing::debug!(code = e.word(), "a sign-in offers no merge"),
            }
        }
        let ensured = Box::new(Ensured { clear_cookie: e.clear_cookie && ensured.cookie.is_none(), ..ensured });
        Ok(SignInAnswer::Done { ensured, offer })
    }

    /// The answer that was given for the same `Idempotency-Key` before.
    pub(super) async fn entered_before(&self, e: &Entering<'_>, now: Timestamp) -> Result<Option<SignInAnswer>, Error> {
        let Some(key) = &e.request_key else { return Ok(None) };
        match self.held_by_key(&e.known, key, Proven::Key(e.key), now).await? {
            Some(held) => self.let_in_account(e, &held, now).await.map(Some),
            None => Ok(None),
        }
    }

    /// A key that a new session is bound to is no other user's, not even the guest's that comes along: with it that one
    /// would come back.
    pub(super) async fn key_is_free(
        &self,
        tenant: &Tenant,
        session: &Session,
        account: UserId,
        guest: Option<UserId>,
        now: Timestamp,
    ) -> Result<(), Error> {
        let Some(key) = session.bound_to() else { return Ok(()) };
        let detail = match self.owner_of_key(tenant.no, key, now).await? {
            None => return Ok(()),
            Some(owner) if owner == account => return Ok(()),
            Some(owner) if Some(owner) == guest => "This key is the guest's; make a new one for the account.",
            Some(_) => "This key is another user's; make a new one.",
        };
        Err(Error::at(Code::DeviceKeyTaken, "DPoP", detail))
    }

    async fn sign_in_by_password(
        &self,
        caller: &Caller<'_>,
        e: &Entering<'_>,
        what: ClaimWhat<'_>,
        password: &str,
        now: Timestamp,
    ) -> Result<SignInAnswer, Error> {
        let tenant = &e.known.tenant;
        must_allow(tenant, SignInMethod::Password)?;
        let identifier = what.read(tenant)?;
        Password::new(password)?;
        self.limit_sign_in(tenant.no, caller.address, &identifier)?;
        let hash = self.identifier_hash(tenant.no, &identifier)?;
        let place = self.place_of(tenant.no, &identifier)?;
        for _ in 0..TRIES {
            if let Some(answer) = self.entered_before(e, now).await? {
                return Ok(answer);
            }
            // whoever is there or not: one look-up, one read, one verification
            let owner = self.owner_of(tenant.no, &identifier, now).await?;
            let account = owner.as_ref().and_then(|o| o.standing.user.as_ref()).filter(|user| is_account(user));
            let at = account.map_or(place, |user| user.id);
            let kept = self.store.items(tenant.no, at, Some(ItemKind::Password)).await?;
            let verdict = self.passwords.verify(password_of(&kept)?, Password::new(password)?).await?;
            let Some(account) = account.filter(|_| verdict.is_right()) else {
                count(&self.counts().sign_ins_refused);
                return Err(refused());
            };
            let items = self.store.items(tenant.no, account.id, None).await?;
            if opens_by(&items, &hash)?.is_none() {
                count(&self.counts().sign_ins_refused);
                return Err(refused());
            }
            self.key_is_free(tenant, &e.session, account.id, e.guest.as_ref().map(|g| g.user), now).await?;
            let mut turn = self.entry(account, &e.session, e.request_key.as_ref().map(|key| (&e.known, key)), now);
            // the identifier may be taken from the account meanwhile
            turn.counted = ways_in_of(&items);
            if verdict == Verdict::RightButOld
                && let Some(new) = self.hashed_anew(password).await
            {
                // over the one that was verified: another that was set meanwhile stays
                turn.items.push(rehash_password(&kept, &new, now)?);
            }
            let out = vec![self.login_event(tenant, account.id, SignInMethod::Password.as_str(), now)];
            if self.open_entry(tenant, account.id, &e.session, turn, out).await? {
                return self.entered(e, account.id, now).await;
            }
        }
        Err(CommitError::Moved.into())
    }

    /// The password hashed as the settings are now; `None` where that does not work just now: the old hash does as well.
    async fn hashed_anew(&self, password: &str) -> Option<PasswordHash> {
        let password = Password::new(password).ok()?;
        let settings = self.passwords.settings;
        self.passwords.pool.run(move || settings.hash(&password)).await.ok()?.ok()
    }

    /// The turn that opens a session of an account.
    #[expect(clippy::unused_self, reason = "reads as the other turns do")]
    pub(super) fn entry(
        &self,
        account: &User,
        session: &Session,
        request_key: Option<(&KnownClient, &CreationKey)>,
        now: Timestamp,
    ) -> Turn {
        let row =
            |(known, key): (&KnownClient, &CreationKey)| -> LookUp { key.row(known, account.id, session.id, now) };
        let mut turn = Turn::of(account.id, account.epoch);
        turn.open = Some(Box::new(session.clone()));
        turn.look_ups.extend(request_key.map(row));
        turn
    }

    /// Commits it. `false`: something changed meanwhile, decide again.
    pub(super) async fn open_entry(
        &self,
        tenant: &Tenant,
        account: UserId,
        session: &Session,
        turn: Turn,
        out: Vec<OutRow>,
    ) -> Result<bool, Error> {
        match self.commit_with(tenant.no, None, Act::Turn(Box::new(turn)), out).await {
            Ok(_) => {}
            Err(e) if look_again(&e) => {
                let standing = self.store.standing(tenant.no, account, session.id).await?;
                if standing.session(session.id).is_none() {
                    return Ok(false);
                }
            }
            Err(e) => return Err(e.into()),
        }
        count(&self.counts().sign_ins);
        Ok(true)
    }
}
