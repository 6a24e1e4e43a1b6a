//! Signing in by a code or a link: sent to the address whoever has it, and finished by the device that began.

use std::sync::Arc;

use passerby_jose::b64;

use crate::{
    Code, Error, Timestamp,
    caller::Caller,
    client::KnownClient,
    device::TRIES,
    guest::CreationKey,
    id::UserId,
    identifier::{Identifier, IdentifierKind},
    message::{Message, MessageKind, Purpose},
    model::Session,
    passerby::{Passerby, count},
    port::{Act, CommitError},
    settings::{SignInMethod, Tenant},
};

use super::{
    ClaimView, ClaimWhat, SignInAnswer,
    claim::{link_of, no_such_claim},
    code::{CODE_LIFE, LINK_LIFE, MOST_TRIES, Use, wrong_code},
    convert::ways_in_of,
    flow::{
        Flow, KeptFlow, TRIES_LIFE, Within, flow_id, is_account, opens_by, put, read_flow, read_flow_id, record_id,
    },
    identity::AddressTries,
    sign_in::{Entering, must_allow},
};

/// A proven flow that is to open an account.
pub(super) struct Opening<'a> {
    pub(super) tenant: &'a Arc<Tenant>,
    pub(super) flow: &'a Flow,
    pub(super) tries: &'a AddressTries,
    pub(super) session: &'a Session,
    pub(super) method: SignInMethod,
    /// By which the answer can be asked for again.
    pub(super) request_key: Option<(&'a KnownClient, &'a CreationKey)>,
    /// Whose the key of a bound session must not be.
    pub(super) guest: Option<UserId>,
}

impl Passerby {
    /// Sends a code or a link, whoever has the address. The newest counts; wrong codes of an older one count on.
    pub(super) async fn begin_sign_in(
        &self,
        caller: &Caller<'_>,
        known: &KnownClient,
        what: ClaimWhat<'_>,
        by_link: bool,
        (device, redirect_uri): (Option<Box<str>>, Option<Box<str>>),
        now: Timestamp,
    ) -> Result<ClaimView, Error> {
        let tenant = &known.tenant;
        must_allow(tenant, if by_link { SignInMethod::Link } else { SignInMethod::Code })?;
        let identifier = what.read(tenant)?;
        match identifier.kind {
            IdentifierKind::Email => {}
            IdentifierKind::Phone if !by_link => {}
            kind => {
                let detail =
                    if by_link { "A link goes to an e-mail address." } else { "A code goes to an address or number." };
                return Err(Error::at(Code::InvalidValue, kind.field(), detail));
            }
        }
        self.limit_message(tenant.no, caller.address, &identifier)?;
        let place = self.flow_place(tenant.no, Use::SignIn, Within::Client(known.client.no), &identifier)?;
        let stands_for = self.place_of(tenant.no, &identifier)?;
        for _ in 0..TRIES {
            let there = self.flow_record(tenant.no, &place).await?;
            let older = there.as_ref().filter(|r| r.ends_at > now).map(read_flow).transpose()?;
            let (tries, tries_since) = carried(older.as_ref(), now);
            if tries >= MOST_TRIES && !by_link {
                let wait = Timestamp::from_millis(tries_since).plus(TRIES_LIFE).since(now);
                let detail = "Too many wrong codes for this address; ask for a link, or wait.";
                return Err(Error::at(Code::TooManyRequests, identifier.kind.field(), detail).after(wait));
            }
            let flow = self.secret_id()?;
            let mut sent = self.one_time(tenant.no, Use::SignIn, place, flow, now)?;
            sent.kept.tries = tries;
            let message = if by_link {
                sent.kept.code = None;
                Message {
                    link: Some(link_of(tenant, "link", &sent.token)),
                    valid_seconds: Some(LINK_LIFE.as_secs()),
                    purpose: Some(Purpose::SignIn),
                    ..self.message(tenant, MessageKind::LinkByEmail, &identifier.shown)
                }
            } else {
                self.code_letter(tenant, &identifier, &sent, Purpose::SignIn)
            };
            let expires_at = now.plus(if message.link.is_some() { LINK_LIFE } else { CODE_LIFE });
            let kept = KeptFlow {
                of: Use::SignIn,
                flow: b64::encode(&flow).into(),
                kind: identifier.kind.as_str().into(),
                normal: identifier.normal.clone(),
                shown: identifier.shown.clone(),
                client: known.client.no.0,
                user: None,
                mailed: true,
                device: device.clone(),
                created_at: now.millis(),
                tries_since,
                redirect_uri: redirect_uri.clone(),
                state: None,
                sent: sent.kept,
            };
            let ends_at = now.plus(LINK_LIFE.max(TRIES_LIFE));
            let change = put(&record_id(&place), there.map(|r| r.revision), &kept, ends_at);
            let out = vec![self.letter(tenant, stands_for, &message, Some(expires_at), now)?];
            match self.commit_with(tenant.no, None, Act::Records(vec![change]), out).await {
                Ok(_) => {
                    return Ok(ClaimView {
                        id: flow_id(&place, &flow),
                        kind: identifier.kind,
                        value: identifier.shown,
                        created_at: now,
                        expires_at,
                        check: self.check_of(tenant.no, &flow)?.into(),
                        proven: false,
                    });
                }
                Err(CommitError::Moved) => {}
                Err(e) => return Err(e.into()),
            }
        }
        Err(CommitError::Moved.into())
    }

    pub(super) async fn finish_sign_in(
        &self,
        caller: &Caller<'_>,
        e: &Entering<'_>,
        claim: &str,
        code: Option<&str>,
        now: Timestamp,
    ) -> Result<SignInAnswer, Error> {
        let tenant = &e.known.tenant;
        let (place, flow) = read_flow_id(claim).ok_or_else(no_such_claim)?;
        let mut limited = false;
        for _ in 0..2 * TRIES {
            let flow = self.flow_at(tenant.no, Use::SignIn, &place, &flow, now).await?;
            // of this client only; where another's is, it is none
            let Some(flow) = flow.filter(|f| f.kept.client == e.known.client.no.0) else {
                // spent, perhaps by this very request
                return self.entered_before(e, now).await?.ok_or_else(no_such_claim);
            };
            let identifier = flow.kept.identifier().ok_or_else(no_such_claim)?;
            if !limited {
                self.limit_sign_in(tenant.no, caller.address, &identifier)?;
                limited = true;
            }
            let tries = self.wrong_codes_of(tenant.no, &identifier, now).await?;
            let Some(method) = self.prove_flow(tenant, &flow, &tries, code, now).await? else { continue };
            let opening = Opening {
                tenant,
                flow: &flow,
                tries: &tries,
                session: &e.session,
                method,
                request_key: e.request_key.as_ref().map(|key| (&e.known, key)),
                guest: e.guest.as_ref().map(|g| g.user),
            };
            if let Some(account) = self.open_by_flow(opening, &identifier, now).await? {
                return self.entered(e, account, now).await;
            }
        }
        Err(CommitError::Moved.into())
    }

    /// By which method the flow is proven; a wrong code is counted before it is answered. `None`: something changed
    /// meanwhile.
    async fn prove_flow(
        &self,
        tenant: &Tenant,
        flow: &Flow,
        tries: &AddressTries,
        code: Option<&str>,
        now: Timestamp,
    ) -> Result<Option<SignInMethod>, Error> {
        let sent = &flow.kept.sent;
        let Some(code) = code else {
            must_allow(tenant, SignInMethod::Link)?;
            if sent.proven {
                return Ok(Some(SignInMethod::Link));
            }
            let detail = "Give the code, or confirm the link that was sent.";
            return Err(Error::at(Code::ClaimPending, "/code", detail));
        };
        must_allow(tenant, SignInMethod::Code)?;
        tries.check(now)?;
        if self.code_is_right(tenant.no, Use::SignIn, &flow.kept.bytes(), sent, code, now)? {
            return Ok(Some(SignInMethod::Code));
        }
        count(&self.counts().sign_ins_refused);
        // a code that is over is not guessed at
        if sent.code.is_none() || sent.tries >= MOST_TRIES || sent.code_ends <= now.millis() {
            return Err(wrong_code());
        }
        let mut counted = flow.kept.clone();
        if sent.tries == 0 {
            counted.tries_since = now.millis();
        }
        counted.sent.tries = sent.tries.saturating_add(1);
        let changes = vec![flow.put(&counted, now.plus(TRIES_LIFE)), tries.wrong(now)];
        match self.commit(tenant.no, None, Act::Records(changes)).await {
            Ok(_) => Err(wrong_code()),
            Err(CommitError::Moved) => Ok(None),
            Err(e) => Err(e.into()),
        }
    }

    /// Spends a proven flow: opens a session of the account that has the address. `None`: something changed meanwhile.
    ///
    /// # Errors
    /// [`Code::NoAccount`]; [`Code::NotFound`] where the flow is older than what it would open;
    /// [`Code::DeviceKeyTaken`], which spends nothing.
    pub(super) async fn open_by_flow(
        &self,
        o: Opening<'_>,
        identifier: &Identifier,
        now: Timestamp,
    ) -> Result<Option<UserId>, Error> {
        let tenant = o.tenant;
        let owner = self.owner_of(tenant.no, identifier, now).await?;
        let account = owner.as_ref().and_then(|owner| owner.standing.user.as_ref()).filter(|user| is_account(user));
        let spent = || std::iter::once(o.flow.gone()).chain(o.tries.forgiven());
        let mut why = Error::new(Code::NoAccount, "The address is yours, and no account has it.");
        if let Some(account) = account {
            let items = self.store.items(tenant.no, account.id, None).await?;
            let hash = self.identifier_hash(tenant.no, identifier)?;
            match opens_by(&items, &hash)? {
                Some(kept) if kept.proven && !o.flow.kept.is_void_for(&kept, &items)? => {
                    self.key_is_free(tenant, o.session, account.id, o.guest, now).await?;
                    let mut turn = self.entry(account, o.session, o.request_key, now);
                    turn.counted = ways_in_of(&items);
                    turn.records.extend(spent());
                    let out = vec![self.login_event(tenant, account.id, o.method.as_str(), now)];
                    let opened = self.open_entry(tenant, account.id, o.session, turn, out).await?;
                    return Ok(opened.then_some(account.id));
                }
                Some(_) => why = no_such_claim(),
                None => {}
            }
        }
        match self.commit(tenant.no, None, Act::Records(spent().collect())).await {
            Ok(_) => Err(why),
            Err(CommitError::Moved) => Ok(None),
            Err(e) => Err(e.into()),
        }
    }
}

/// The wrong codes of an older flow that still count, and since when.
fn carried(older: Option<&KeptFlow>, now: Timestamp) -> (u8, i64) {
    let counts = |k: &&KeptFlow| k.sent.tries > 0 && Timestamp::from_millis(k.tries_since).plus(TRIES_LIFE) > now;
    older.filter(counts).map_or((0, now.millis()), |k| (k.sent.tries, k.tries_since))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::account::code::OneTime;

    #[test]
    fn line_38_asking_again_forgives_no_wrong_code() {
        let start = Timestamp::from_seconds(1_790_000_000);
        let older = |tries| KeptFlow {
            of: Use::SignIn,
            flow: b64::encode(&[7; 16]).into(),
            kind: "email".into(),
            normal: "a@b.example".into(),
            shown: "a@b.example".into(),
            client: 1,
            user: None,
            mailed: true,
            device: None,
            created_at: start.millis(),
            tries_since: start.millis(),
            redirect_uri: None,
            state: None,
            sent: OneTime { code: None, code_ends: 0, tries, link: None, link_ends: 0, proven: false },
        };
        let later = start.plus(TRIES_LIFE.saturating_sub(std::time::Duration::from_millis(1)));
        assert_eq!(carried(None, later), (0, later.millis()));
        assert_eq!(carried(Some(&older(0)), later), (0, later.millis()));
        assert_eq!(carried(Some(&older(4)), later), (4, start.millis()));
        let over = start.plus(TRIES_LIFE);
        assert_eq!(carried(Some(&older(4)), over), (0, over.millis()));
    }
}
