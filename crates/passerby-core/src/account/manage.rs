//! What back ends do with accounts: identifiers, passwords, links by which a password is set.

use std::time::Duration;

use serde::Serialize;
use serde_json::value::RawValue;

use crate::{
    Code, Error, Timestamp,
    api_key::Manager,
    device::TRIES,
    id::UserId,
    identifier::{Identifier, IdentifierKind},
    manage::ManagedUser,
    model::{Item, ItemKind, Kind, LookUp, OutRow, User},
    passerby::Passerby,
    password::{Password, PasswordHash},
    port::{Act, CommitError, ItemChange, Turn},
    settings::{ApiScope, SignInMethod, Tenant},
};

use super::{
    ClaimWhat,
    claim::{ClaimedBy, KeptClaim, checked_redirect, claim_key},
    code::OneTime,
    convert::{Becoming, needs_way_in, ways_in_of},
    flow::{checked_state, is_account},
    identity::{KeptIdentifier, identifiers_of, password_item},
    password::{NewPasswordFlow, known_by},
    sign_in::must_allow,
};

/// A link that a back end makes lives so long: people are invited by it.
const INVITED: Duration = Duration::from_hours(24);

/// An identifier that a back end gives a user.
#[derive(Clone, Copy)]
pub struct NewIdentifier<'a> {
    /// What.
    pub what: ClaimWhat<'a>,
    /// The back end knows that the address or number is the user's; a user name or external id needs no proof.
    pub verified: bool,
}

/// A password that a back end sets.
#[derive(Clone, Copy)]
pub enum NewPassword<'a> {
    /// In clear: the tenant's rules hold.
    Clear(&'a str),
    /// Another system's hash, see [`PasswordHash::parse`](crate::password::PasswordHash::parse).
    Hash(&'a str),
}

/// A link by which a user sets a password.
#[derive(Clone, Copy)]
pub struct PasswordLink<'a> {
    /// The client that the link's page leads back to.
    pub client_id: &'a str,
    /// A JSON object of the application, at most 4 KiB.
    pub state: Option<&'a RawValue>,
    /// Where the link's page leads afterwards: one of the client's redirect targets.
    pub redirect_uri: Option<&'a str>,
    /// Sends it to the user's address; else the answer has it.
    pub send: bool,
}

opaque_debug!(NewIdentifier<'_>, NewPassword<'_>, PasswordLink<'_>);

#[derive(Serialize)]
struct CreatedFacts {
    user_id: String,
    identifiers: Vec<&'static str>,
}

/// What a user that a back end makes has.
#[derive(Default)]
pub(crate) struct NewAccount {
    pub(crate) regular: bool,
    pub(crate) items: Vec<Item>,
    pub(crate) look_ups: Vec<LookUp>,
    pub(crate) out: Vec<OutRow>,
    /// What must be nobody else's.
    pub(crate) exclusive: Vec<Identifier>,
}

impl NewIdentifier<'_> {
    /// The identifier, and whether it is the user's alone from now on: a name is once it is set.
    fn read(self, tenant: &Tenant) -> Result<(Identifier, bool), Error> {
        let identifier = self.what.read(tenant)?;
        let by_name = matches!(identifier.kind, IdentifierKind::Username | IdentifierKind::ExternalId);
        Ok((identifier, self.verified || by_name))
    }
}

/// Whether messages go there: only then there is something to prove.
fn is_proof(identifier: &Identifier) -> bool {
    matches!(identifier.kind, IdentifierKind::Email | IdentifierKind::Phone)
}

fn too_many(field: &'static str) -> Error {
    Error::at(Code::InvalidValue, field, "The user has as many identifiers as may be; remove one first.")
}

impl Passerby {
    /// A password that a back end sets, as a hash.
    async fn given_password(
        &self,
        tenant: &Tenant,
        new: NewPassword<'_>,
        known: Vec<Identifier>,
    ) -> Result<PasswordHash, Error> {
        match new {
            NewPassword::Clear(text) => self.passwords.take(&tenant.sign_in, Password::new(text)?, known).await,
            NewPassword::Hash(text) => PasswordHash::parse(text),
        }
    }

    /// A claim that a back end sets: no code of it is ever right, and it stays as long as the user does; the address is
    /// proven by a set-password link that was sent there.
    fn given_claim(
        &self,
        tenant: &Tenant,
        user: UserId,
        identifier: &Identifier,
        now: Timestamp,
    ) -> Result<Item, Error> {
        let by = ClaimedBy { user, client: crate::id::ClientNo::NONE.0, session: None, redirect_uri: None };
        let (mut kept, mut item, _) = self.new_claim(tenant, identifier, by, (0, now.millis()), now)?;
        kept.sent = Some(OneTime { code: None, code_ends: 0, tries: 0, link: None, link_ends: 0, proven: false });
        item.id = claim_key(&kept.id);
        item.ends_at = Timestamp::MAX;
        item.body = crate::device::body(&kept);
        Ok(item)
    }

    /// What a user that a back end makes is known by, and signs in with. `kind`: what it must come to.
    ///
    /// # Errors
    /// [`Code::InvalidValue`] at what is to blame; [`Code::Unavailable`] while too many passwords are hashed.
    pub(crate) async fn new_account(
        &self,
        tenant: &Tenant,
        user: UserId,
        (kind, identifiers, password): (Option<Kind>, &[NewIdentifier<'_>], Option<NewPassword<'_>>),
        now: Timestamp,
    ) -> Result<NewAccount, Error> {
        if identifiers.len() > tenant.sign_in.max_identifiers {
            return Err(too_many("/identifiers"));
        }
        let mut read: Vec<(Identifier, bool)> = Vec::new();
        for (n, new) in identifiers.iter().enumerate() {
            let field = format!("/identifiers/{n}/value");
            let one = new.read(tenant).map_err(|e| Error { field: Some(field.clone().into()), ..e })?;
            if read.iter().any(|(i, _)| (i.kind, &i.normal) == (one.0.kind, &one.0.normal)) {
                return Err(Error::at(Code::InvalidValue, field, "This identifier is given twice."));
            }
            read.push(one);
        }
        let (own, claimed): (Vec<_>, Vec<_>) = read.into_iter().partition(|(_, own)| *own);
        let own: Vec<(Identifier, bool)> =
            own.into_iter().map(|(i, _)| (is_proof(&i), i)).map(|(p, i)| (i, p)).collect();
        let regular = !own.is_empty();
        match kind {
            Some(Kind::Anonymous) if regular => {
                let detail = "A user who can be signed in to is a regular one.";
                return Err(Error::at(Code::InvalidValue, "/kind", detail));
            }
            Some(Kind::Regular) if !regular => {
                let detail = "A regular user needs a verified address or number, or a user name with a password.";
                return Err(Error::at(Code::InvalidValue, "/identifiers", detail));
            }
            _ => {}
        }
        let mut made = NewAccount { regular, ..NewAccount::default() };
        if regular {
            needs_way_in(tenant, &own, password.is_some())?;
        } else if password.is_some() {
            let detail = "A password needs something that one signs in with beside it.";
            return Err(Error::at(Code::InvalidValue, "/password", detail));
        }
        if let Some(password) = password {
            let known = own.iter().chain(&claimed).map(|(i, _)| i.clone()).collect();
            let hash = self.given_password(tenant, password, known).await?;
            made.items.push(password_item(&hash, 1, now));
        }
        for (identifier, proven) in &own {
            let (item, look_up) = self.identifier_rows(tenant.no, user, identifier, *proven, now)?;
            made.items.push(item);
            made.look_ups.push(look_up);
        }
        for (identifier, _) in &claimed {
            made.items.push(self.given_claim(tenant, user, identifier, now)?);
        }
        if regular {
            let identifiers = own.iter().map(|(i, _)| i.kind.as_str()).collect();
            let facts = CreatedFacts { user_id: user.to_string(), identifiers };
            made.out.push(self.event(tenant, user, "user.created", &facts, now));
        }
        made.exclusive = own.into_iter().map(|(i, _)| i).collect();
        Ok(made)
    }

    /// Gives a user an identifier. A guest becomes a regular user by it where it opens the account; an address that is not
    /// verified is a claim, which blocks nobody.
    ///
    /// # Errors
    /// As [`Passerby::api_key`]; [`Code::NotFound`]; [`Code::InvalidValue`]; [`Code::IdentifierTaken`];
    /// [`Code::GuestFrozen`].
    pub async fn add_identifier_of(
        &self,
        by: &Manager<'_>,
        id: &str,
        new: NewIdentifier<'_>,
    ) -> Result<ManagedUser, Error> {
        let (tenant, _) = self.manager(by, ApiScope::UsersWrite).await?;
        let now = self.now();
        let (identifier, own) = new.read(&tenant)?;
        let hash = self.identifier_hash(tenant.no, &identifier)?;
        let taken = || Error::at(Code::IdentifierTaken, identifier.kind.field(), "This identifier is another's.");
        for _ in 0..TRIES {
            let user = self.user_of(&tenant, id).await?;
            let items = self.store.items(tenant.no, user.id, None).await?;
            if items.iter().any(|i| i.kind == ItemKind::Identifier && i.id == hash) {
                return self.managed_user(&tenant, id).await;
            }
            let waiting = items.iter().filter(|i| i.kind == ItemKind::Claim).count();
            if identifiers_of(&items)?.len() + waiting >= tenant.sign_in.max_identifiers {
                return Err(too_many(identifier.kind.field()));
            }
            let (turn, out) = if own {
                if self.owner_of(tenant.no, &identifier, now).await?.is_some_and(|o| o.look_up.user != user.id) {
                    return Err(taken());
                }
                self.own_identifier(&tenant, &user, &items, (identifier.clone(), is_proof(&identifier)), now)?
            } else {
                let mut turn = Turn::of(user.id, user.epoch);
                for item in items.iter().filter(|i| i.kind == ItemKind::Claim) {
                    let older: KeptClaim = crate::device::read_body(item)?;
                    // a newer one takes its place, with the links that were sent for it
                    if older.session.is_none() && older.identifier().as_ref() == Some(&identifier) {
                        turn.items.push(ItemChange::Remove { kind: item.kind, id: item.id, was: item.revision });
                    }
                }
                let item = self.given_claim(&tenant, user.id, &identifier, now)?;
                turn.items.push(ItemChange::Put { item, was: None });
                (turn, Vec::new())
            };
            match self.turn_of(&tenant, &user, turn, out, now).await {
                Ok(()) => return self.managed_user(&tenant, id).await,
                Err(CommitError::Moved | CommitError::Taken) => {}
                Err(CommitError::Gone) => return Err(Error::new(Code::NotFound, "There is no such user.")),
                Err(e) => return Err(e.into()),
            }
        }
        Err(CommitError::Moved.into())
    }

    /// The turn that makes an identifier the user's alone.
    fn own_identifier(
        &self,
        tenant: &Tenant,
        user: &User,
        items: &[Item],
        identifier: (Identifier, bool),
        now: Timestamp,
    ) -> Result<(Turn, Vec<OutRow>), Error> {
        if user.kind == Kind::Regular {
            return self.addition(tenant, user, items, (&identifier.0, identifier.1), now);
        }
        let identifiers = [identifier];
        needs_way_in(tenant, &identifiers, false)?;
        let what = Becoming {
            identifiers: &identifiers,
            password: None,
            method: "api_key",
            by: None,
            open: None,
            forgiven: None,
        };
        self.conversion(tenant, user, items, what, now)
    }

    /// Takes an identifier or a claim from a user; the last way in stays.
    ///
    /// # Errors
    /// As [`Passerby::api_key`]; [`Code::NotFound`]; [`Code::LastWayIn`].
    pub async fn remove_identifier_of(&self, by: &Manager<'_>, id: &str, identifier: &str) -> Result<(), Error> {
        let (tenant, _) = self.manager(by, ApiScope::UsersWrite).await?;
        let now = self.now();
        for _ in 0..TRIES {
            let user = self.user_of(&tenant, id).await?;
            let items = self.store.items(tenant.no, user.id, None).await?;
            let (changes, out) = self.removal(&tenant, user.id, &items, identifier, now)?;
            let mut turn = Turn::of(user.id, user.epoch);
            turn.counted = ways_in_of(&items);
            turn.items = changes;
            match self.turn_of(&tenant, &user, turn, out, now).await {
                Ok(()) => return Ok(()),
                Err(CommitError::Moved) => {}
                Err(CommitError::Gone) => return Err(Error::new(Code::NotFound, "There is no such user.")),
                Err(e) => return Err(e.into()),
            }
        }
        Err(CommitError::Moved.into())
    }

    /// Sets an account's password; everything older dies. The owner is told by mail.
    ///
    /// # Errors
    /// As [`Passerby::api_key`]; [`Code::NotFound`]; [`Code::InvalidValue`] for the password, or for a user that is a
    /// guest; [`Code::Unavailable`] while too many passwords are hashed.
    pub async fn set_password_of(&self, by: &Manager<'_>, id: &str, new: NewPassword<'_>) -> Result<(), Error> {
        let (tenant, _) = self.manager(by, ApiScope::UsersWrite).await?;
        let now = self.now();
        let mut hash: Option<PasswordHash> = None;
        for _ in 0..TRIES {
            let user = self.user_of(&tenant, id).await?;
            if !is_account(&user) {
                let detail = "A guest has no password; give it an identifier first.";
                return Err(Error::at(Code::InvalidValue, "/password", detail));
            }
            let items = self.store.items(tenant.no, user.id, None).await?;
            let hash = match &mut hash {
                Some(hash) => &*hash,
                none => none.insert(self.given_password(&tenant, new, known_by(&items)?).await?),
            };
            let (turn, out) = self.password_turn(&tenant, &user, &items, (hash, "api_key"), None, now)?;
            match self.turn_of(&tenant, &user, turn, out, now).await {
                Ok(()) => return Ok(()),
                Err(CommitError::Moved) => {}
                Err(CommitError::Gone) => return Err(Error::new(Code::NotFound, "There is no such user.")),
                Err(e) => return Err(e.into()),
            }
        }
        Err(CommitError::Moved.into())
    }

    /// Makes a link by which a user sets a password: sent to the user's address, or given back for the application to
    /// bring. An older one for the same address works no more. A guest whom a back end gave an address becomes a regular
    /// user by a link that is sent; one that the application brings proves no address. Gives the link, unless it was
    /// sent, and its end.
    ///
    /// # Errors
    /// As [`Passerby::api_key`]; [`Code::NotFound`]; [`Code::InvalidValue`] at `/client_id`, `/redirect_uri` and, where
    /// there is no such address, `/send`; [`Code::Data`] for the state; [`Code::MethodNotEnabled`].
    pub async fn password_link(
        &self,
        by: &Manager<'_>,
        id: &str,
        link: PasswordLink<'_>,
    ) -> Result<(Option<String>, Timestamp), Error> {
        let (tenant, _) = self.manager(by, ApiScope::UsersWrite).await?;
        let now = self.now();
        must_allow(&tenant, SignInMethod::Password)?;
        let unknown = || Error::at(Code::InvalidValue, "/client_id", "There is no such client.");
        let client = tenant.clients.get(link.client_id).ok_or_else(unknown)?;
        let redirect_uri = checked_redirect(&client.redirect_uris, link.redirect_uri)?;
        let state = checked_state(link.state)?;
        let ends_at = now.plus(INVITED);
        for _ in 0..TRIES {
            let user = self.user_of(&tenant, id).await?;
            let items = self.store.items(tenant.no, user.id, None).await?;
            let (identifier, first) = address_of(&user, &items, link.send, now)?;
            let new = NewPasswordFlow {
                identifier: &identifier,
                client: client.no.0,
                // nobody who only knows the address ends an invitation by asking for a link
                user: first.then_some(user.id),
                mailed: link.send,
                state: state.clone(),
                redirect_uri: redirect_uri.clone(),
                life: INVITED,
            };
            let (change, text) = self.password_flow(&tenant, new, now).await?;
            let mut out = Vec::new();
            if link.send {
                let message = self.password_letter(&tenant, &identifier, &text, INVITED, state.clone());
                out.push(self.letter(&tenant, user.id, &message, Some(ends_at), now)?);
            }
            match self.commit_with(tenant.no, None, Act::Records(vec![change]), out).await {
                Ok(_) => return Ok(((!link.send).then(|| text.into()), ends_at)),
                Err(CommitError::Moved) => {}
                Err(e) => return Err(e.into()),
            }
        }
        Err(CommitError::Moved.into())
    }
}

/// The address for a set-password link, and whether the user only gets it by that: the oldest proven one, else, without
/// a message, any name; of a guest what a back end claimed.
fn address_of(user: &User, items: &[Item], send: bool, now: Timestamp) -> Result<(Identifier, bool), Error> {
    let no_address = || Error::at(Code::InvalidValue, "/send", "The user has no address for this link.");
    if is_account(user) {
        let mut own = identifiers_of(items)?;
        own.sort_by_key(|i: &KeptIdentifier| (&*i.kind != "email", i.at));
        let good = |i: &&KeptIdentifier| if send { i.proven && &*i.kind == "email" } else { i.proven || !is_sent(i) };
        let found = own.iter().find(good).and_then(KeptIdentifier::identifier);
        return found.map(|i| (i, false)).ok_or_else(no_address);
    }
    if !send {
        let detail = "The user is a guest: only a link that is sent proves the address.";
        return Err(Error::at(Code::InvalidValue, "/send", detail));
    }
    for item in items.iter().filter(|i| i.kind == ItemKind::Claim && i.ends_at > now) {
        let claim: KeptClaim = crate::device::read_body(item)?;
        if claim.session.is_none()
            && let Some(identifier) = claim.identifier().filter(|i| i.kind == IdentifierKind::Email)
        {
            return Ok((identifier, true));
        }
    }
    Err(no_address())
}

/// Whether messages go there, so that it needs a proof.
fn is_sent(identifier: &KeptIdentifier) -> bool {
    matches!(&*identifier.kind, "email" | "phone")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{device::body, id::ClientNo};

    fn claim(session: Option<&str>, kind: &str, normal: &str) -> Item {
        let kept = KeptClaim {
            id: "x".into(),
            kind: kind.into(),
            normal: normal.into(),
            shown: normal.into(),
            session: session.map(Into::into),
            client: 0,
            created_at: 0,
            tries_since: 0,
            redirect_uri: None,
            sent: None,
        };
        Item { kind: ItemKind::Claim, id: [1; 32], revision: 1, ends_at: Timestamp::MAX, body: body(&kept) }
    }

    fn identifier(kind: &str, normal: &str, at: i64, proven: bool) -> Item {
        let kept = KeptIdentifier { kind: kind.into(), normal: normal.into(), shown: normal.into(), at, proven };
        Item { kind: ItemKind::Identifier, id: [2; 32], revision: 1, ends_at: Timestamp::MAX, body: body(&kept) }
    }

    #[test]
    fn line_30_a_link_goes_where_the_owner_is() {
        let now = Timestamp::from_seconds(1_790_000_000);
        let mut user = User::guest(UserId::from_bytes([1; 16]), ClientNo::NONE, now);
        let asked = |user: &User, items: &[Item], send| address_of(user, items, send, now);
        // a guest: what a back end gave, and only by a message
        let given = claim(None, "email", "a@b.example");
        assert_eq!(&*asked(&user, std::slice::from_ref(&given), true).unwrap().0.normal, "a@b.example");
        assert!(asked(&user, std::slice::from_ref(&given), false).is_err());
        for own in [claim(Some("s"), "email", "a@b.example"), claim(None, "phone", "+491701234567")] {
            assert!(asked(&user, &[own], true).is_err());
        }
        // an account: what is proven, the oldest address first
        user.kind = Kind::Regular;
        let name = identifier("username", "anne", 1, false);
        let (new, old) = (identifier("email", "n@b.example", 3, true), identifier("email", "o@b.example", 2, true));
        let unproven = identifier("email", "u@b.example", 1, false);
        assert!(asked(&user, std::slice::from_ref(&given), true).is_err());
        assert!(asked(&user, &[name.clone(), unproven.clone()], true).is_err());
        assert_eq!(&*asked(&user, &[name.clone(), unproven], false).unwrap().0.normal, "anne");
        assert_eq!(&*asked(&user, &[name, new, old], true).unwrap().0.normal, "o@b.example");
    }
}
