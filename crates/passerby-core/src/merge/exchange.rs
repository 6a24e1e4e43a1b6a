//! Merging by token exchange (RFC 8693): an app that has only a plain OAuth library shows a guest's token beside an
//! account's.

use crate::{
    Code, Error, Timestamp,
    account::became,
    caller::{AccessToken, Caller, ClientClaim, Scheme},
    client::KnownClient,
    dpop::Thumbprint,
    guest::only_guests,
    hold::{FRESH, Held, Proven, Row},
    id::UserId,
    mint::Grade,
    model::{Kind, SessionKind},
    passerby::Passerby,
    secret::Sealed,
};

use super::{
    commit::{MergedInto, Wish, sign_in_again},
    ticket::{Side, Ticket, rules_of},
};

/// A token of one of the two.
#[derive(Clone, Copy)]
pub enum TokenText<'a> {
    /// An access token for this server (`urn:ietf:params:oauth:token-type:access_token`).
    Access(&'a str),
    /// A session token.
    Session(&'a str),
}

/// A merge by two tokens: a guest's, and an account's of a session that was opened within the last ten minutes. Which of
/// them is subject and which actor makes no difference: tokens say whose they are.
#[derive(Clone, Copy)]
pub struct TokenMerge<'a> {
    /// The client that asks: both sessions are of it.
    pub client: ClientClaim<'a>,
    /// `subject_token`.
    pub subject: TokenText<'a>,
    /// `actor_token`.
    pub actor: TokenText<'a>,
    /// The access token's audience.
    pub audience: Option<&'a str>,
    /// Its scopes.
    pub scope: Option<&'a str>,
}

opaque_debug!(TokenText<'_>, TokenMerge<'_>);

/// A token with the name of its parameter.
#[derive(Clone, Copy)]
struct Shown<'a> {
    token: TokenText<'a>,
    field: &'static str,
}

impl Shown<'_> {
    /// An error that is about this token.
    fn named(self, e: Error) -> Error {
        match e.code {
            Code::InvalidToken
            | Code::InvalidSessionToken
            | Code::TokenExpired
            | Code::SessionEnded
            | Code::SessionExpired => self.blamed(e),
            _ => e,
        }
    }

    fn blamed(self, e: Error) -> Error {
        Error { field: Some(self.field.into()), ..e }
    }
}

impl Passerby {
    /// Merges the guest of one token into the account of the other. Both must be alive; the account's sign-in must be
    /// fresh. Repeated, with the guest's dead token too, it gives the first receipt. The answer has an access token of the
    /// account that lives no longer than the one that was shown.
    ///
    /// # Errors
    /// What can be wrong with client, tokens, proof, audience and scope; [`Code::InvalidRequest`] for two guests or two
    /// accounts; [`Code::ReauthenticationRequired`] where the account's session is not fresh; [`Code::InvalidToken`] for
    /// tokens of other clients; as for [`Passerby::merge_guest`].
    pub async fn merge_tokens(&self, caller: &Caller<'_>, request: TokenMerge<'_>) -> Result<MergedInto, Error> {
        let now = self.now();
        let known = self.known_client(caller, &request.client, now).await?;
        known.origin_allowed(caller)?;
        let key = self.proven(caller, &known.tenant, None, now).await?;
        let subject = Shown { token: request.subject, field: "subject_token" };
        let actor = Shown { token: request.actor, field: "actor_token" };
        let subject_is_guest = self.is_guests(caller, subject, now).await?;
        let (theirs, ours) = match (subject_is_guest, self.is_guests(caller, actor, now).await?) {
            (true, false) => (subject, actor),
            (false, true) => (actor, subject),
            (both_guests, _) => {
                let whose = if both_guests { "guests'" } else { "accounts'" };
                let detail = format!("Both tokens are {whose}: a guest's and an account's are exchanged for one.");
                return Err(Error::at(Code::InvalidRequest, "actor_token", detail));
            }
        };
        let (account, until) = self.hold_text(caller, ours.token, key, now).await.map_err(|e| ours.named(e))?;
        own_side(&known, &account).map_err(|e| ours.blamed(e))?;
        if account.kind != Kind::Regular {
            return Err(ours.blamed(sign_in_again()));
        }
        let wish = Wish {
            kind: Some(SessionKind::Tokens),
            own_kind: SessionKind::Tokens,
            audience: request.audience,
            scope: request.scope,
            grade: Grade::Access { until },
        };
        let tenant = known.tenant.clone();
        let guest = match self.hold_text(caller, theirs.token, key, now).await {
            Ok((guest, _)) => guest,
            Err(e) if e.code == Code::SessionEnded => {
                let e = theirs.named(e);
                let Some(user) = self.user_of_text(&known, theirs.token, now) else { return Err(e) };
                // the answer of the first request may have been lost
                if let Some(before) = self.merged_before(tenant.no, user, account.user).await? {
                    return self.merged_answer(&before.kept, &account, &wish.of(&account)?, now).await;
                }
                return Err(self.user_row(tenant.no, user).await?.and_then(|user| became(&user)).unwrap_or(e));
            }
            Err(e) => return Err(theirs.named(e)),
        };
        own_side(&known, &guest).map_err(|e| theirs.blamed(e))?;
        only_guests(&guest).map_err(|e| theirs.blamed(e))?;
        if let Some(before) = self.merged_before(tenant.no, guest.user, account.user).await? {
            return self.merged_answer(&before.kept, &account, &wish.of(&account)?, now).await;
        }
        if !account.is_fresh(now) {
            return Err(ours.blamed(sign_in_again()));
        }
        let guest = match &guest.row {
            Row::Stored(_) => guest,
            Row::Floating(_) => self.stored_guest(&guest, now).await?,
        };
        let ticket = Ticket {
            guest: Side::of(&guest),
            account: Side::of(&account),
            policy: rules_of(&account).policies.version().into(),
            expires_at: now.plus(FRESH),
        };
        let (kept, granted) = self.merge_sides(&tenant, &ticket, &wish, None, now).await?;
        let account = self.account_side(&tenant, &ticket.account, now).await?;
        self.merged_answer(&kept, &account, &granted, now).await
    }

    /// Whether a token is, or was, a guest's; whether it lives is asked later.
    async fn is_guests(&self, caller: &Caller<'_>, shown: Shown<'_>, now: Timestamp) -> Result<bool, Error> {
        match shown.token {
            TokenText::Access(text) => {
                let token = AccessToken { text, scheme: Scheme::Body };
                let seen = self.read_own(caller, token, now).map_err(|e| shown.named(e))?;
                let person = seen.person.as_ref().ok_or_else(|| {
                    Error::at(Code::InvalidToken, shown.field, "The access token is a client's own, not a person's.")
                })?;
                Ok(person.anonymous)
            }
            TokenText::Session(text) => {
                let seen = self.read_session_token(Sealed::Session, text, now).ok_or_else(|| {
                    Error::at(Code::InvalidSessionToken, shown.field, "The session token is not valid.")
                })?;
                let row = self.user_row(seen.tenant, seen.user).await?;
                Ok(row.is_none_or(|user| user.kind == Kind::Anonymous))
            }
        }
    }

    /// The session that a token stands for, and the end of what it may yield.
    async fn hold_text(
        &self,
        caller: &Caller<'_>,
        token: TokenText<'_>,
        key: Option<Thumbprint>,
        now: Timestamp,
    ) -> Result<(Held, Timestamp), Error> {
        match token {
            TokenText::Access(text) => {
                let seen = self.read_own(caller, AccessToken { text, scheme: Scheme::Body }, now)?;
                let (seen, held) = self.hold_proven(seen, key, now).await?;
                Ok((held, seen.expires_at))
            }
            TokenText::Session(text) => {
                let held = self.hold_session(caller, Sealed::Session, text, true, Proven::Key(key), now).await?;
                let until = held.ends.absolute;
                Ok((held, until))
            }
        }
    }

    /// Whose a token of the asking client's is or was.
    fn user_of_text(&self, known: &KnownClient, token: TokenText<'_>, now: Timestamp) -> Option<UserId> {
        match token {
            TokenText::Access(text) => {
                let seen = self.read_access_token(text, now).ok()?;
                let own = seen.tenant == known.tenant.no && seen.client.no == known.client.no;
                seen.person.as_ref().filter(|_| own).map(|p| p.user)
            }
            TokenText::Session(text) => {
                let seen = self.read_session_token(Sealed::Session, text, now)?;
                let own = seen.tenant == known.tenant.no && seen.client_id == known.client.id;
                own.then_some(seen.user)
            }
        }
    }
}

/// Tokens belong to their client (`api.md`, "which client"): another's use is refused and ends nothing.
fn own_side(known: &KnownClient, held: &Held) -> Result<(), Error> {
    if held.tenant.no == known.tenant.no && held.client.no == known.client.no {
        return Ok(());
    }
    Err(Error::new(Code::InvalidToken, "The token belongs to another client."))
}
