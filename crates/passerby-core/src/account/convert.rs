//! The one transition from guest to regular user, for every method and every door: identifier proven and exclusive,
//! credential set, kind, moment and epoch, all in one commit; everything older dies in it.

use serde::Serialize;

use crate::{
    Code, Error, Timestamp,
    device::read_body,
    id::{SessionId, UserId},
    identifier::{Identifier, IdentifierKind},
    message::{Message, MessageKind},
    model::{Item, ItemKind, Kind, OutRow, Session, User},
    passerby::Passerby,
    password::PasswordHash,
    port::{Ending, ItemChange, RecordChange, Turn, UserWrite},
    settings::{SignInMethod, Tenant},
};

use super::{
    claim::is_claim,
    identity::{KeptIdentifier, KeptPassword, ONE, identifier_id, identifiers_of, password_item},
};

/// What somebody becomes a regular user by.
pub(crate) struct Becoming<'a> {
    /// Identifiers, and whether they were proven.
    pub(crate) identifiers: &'a [(Identifier, bool)],
    /// The password that is set with them.
    pub(crate) password: Option<&'a PasswordHash>,
    /// How it was proven: a word for the event.
    pub(crate) method: &'static str,
    /// The session that may finish (`None`: a back end does).
    pub(crate) by: Option<SessionId>,
    /// The session that is opened; its key lives on by a fresh proof.
    pub(crate) open: Option<Session>,
    /// What is known of the wrong codes for the address.
    pub(crate) forgiven: Option<RecordChange>,
}

#[derive(Serialize)]
struct ConvertedFacts<'a> {
    user_id: String,
    method: &'a str,
    identifiers: Vec<&'a str>,
    epoch: i32,
}

#[derive(Serialize)]
struct VerifiedFacts<'a> {
    user_id: String,
    kind: &'a str,
}

/// How many of what one can sign in by the decision saw: "the last way in stays" holds when two go at once.
pub(crate) fn ways_in_of(items: &[Item]) -> Vec<(ItemKind, usize)> {
    [ItemKind::Identifier, ItemKind::Password]
        .map(|kind| (kind, items.iter().filter(|i| i.kind == kind).count()))
        .to_vec()
}

/// Whether one can sign in by what is left.
fn opens(tenant: &Tenant, identifiers: &[KeptIdentifier], password: bool) -> bool {
    let by_message = |i: &KeptIdentifier| {
        let code = tenant.sign_in.allows(SignInMethod::Code);
        match IdentifierKind::parse(&i.kind) {
            Some(IdentifierKind::Email) => i.proven && (code || tenant.sign_in.allows(SignInMethod::Link)),
            Some(IdentifierKind::Phone) => i.proven && code,
            _ => false,
        }
    };
    let by_password = |i: &KeptIdentifier| i.proven || matches!(&*i.kind, "username" | "external_id");
    identifiers.iter().any(by_message)
        || (password && tenant.sign_in.allows(SignInMethod::Password) && identifiers.iter().any(by_password))
}

/// An account needs a way to be signed in to.
///
/// # Errors
/// [`Code::InvalidValue`] at `/password`.
pub(crate) fn needs_way_in(tenant: &Tenant, identifiers: &[(Identifier, bool)], password: bool) -> Result<(), Error> {
    let kept: Vec<KeptIdentifier> = identifiers
        .iter()
        .map(|(i, proven)| KeptIdentifier {
            kind: i.kind.as_str().into(),
            normal: i.normal.clone(),
            shown: i.shown.clone(),
            at: 0,
            proven: *proven,
        })
        .collect();
    if opens(tenant, &kept, password) {
        return Ok(());
    }
    Err(Error::at(Code::InvalidValue, "/password", "A password is needed: nothing else would open the account."))
}

impl Passerby {
    /// The turn that makes a guest a regular user, and what it tells others. `items`: all that the user has.
    ///
    /// # Errors
    /// [`Code::Internal`].
    pub(crate) fn conversion(
        &self,
        tenant: &Tenant,
        user: &User,
        items: &[Item],
        what: Becoming<'_>,
        now: Timestamp,
    ) -> Result<(Turn, Vec<OutRow>), Error> {
        let mut turn = Turn::of(user.id, user.epoch);
        turn.by = what.by;
        turn.raise = true;
        turn.end = Ending::All { but: None };
        turn.write = Some(UserWrite {
            version: None,
            was: Kind::Anonymous,
            data: None,
            kind: Kind::Regular,
            converted_at: Some(now),
            merged_into: None,
            frozen: false,
            thaws: false,
        });
        // a login id that the app gave the guest stays until the app removes it; its password was set before the proof
        for kind in [ItemKind::Claim, ItemKind::HandOff, ItemKind::Recovery, ItemKind::Password] {
            turn.items.push(ItemChange::RemoveAll { kind, but: None });
        }
        // another device's key stays known as gone: it never makes its owner a new guest in silence
        let key = what.open.as_ref().and_then(|s| s.key);
        let kept_key = key.as_ref().map(|key| self.device_key_hash(tenant.no, key)).transpose()?;
        turn.items.push(ItemChange::RetireAll { kind: ItemKind::DeviceKey, but: kept_key });
        if let (Some(key), Some(session)) = (&key, &what.open) {
            if let Some(still) = self.still_there(tenant.no, key, items)? {
                turn.items.push(still);
            } else {
                let (item, look_up) =
                    self.device_key_rows(tenant.no, key, user.id, session.id, session.client, None, now)?;
                turn.items.push(ItemChange::Put { item, was: None });
                turn.look_ups.push(look_up);
            }
        }
        let mut out = Vec::new();
        for (identifier, proven) in what.identifiers {
            let (item, look_up) = self.identifier_rows(tenant.no, user.id, identifier, *proven, now)?;
            turn.items.push(ItemChange::Put { item, was: None });
            turn.look_ups.push(look_up);
            if *proven {
                let facts = VerifiedFacts { user_id: user.id.to_string(), kind: identifier.kind.as_str() };
                out.push(self.event(tenant, user.id, "identifier.verified", &facts, now));
            }
        }
        if let Some(hash) = what.password {
            // after the older one was removed in this same turn
            turn.items.push(ItemChange::Put { item: password_item(hash, 1, now), was: None });
        }
        turn.open = what.open.map(Box::new);
        turn.records.extend(what.forgiven);
        let facts = ConvertedFacts {
            user_id: user.id.to_string(),
            method: what.method,
            identifiers: what.identifiers.iter().map(|(i, _)| i.kind.as_str()).collect(),
            epoch: user.epoch + 1,
        };
        out.push(self.event(tenant, user.id, "guest.converted", &facts, now));
        Ok((turn, out))
    }

    /// The turn that gives a regular user one more identifier.
    ///
    /// # Errors
    /// [`Code::Internal`].
    pub(crate) fn addition(
        &self,
        tenant: &Tenant,
        user: &User,
        items: &[Item],
        identifier: (&Identifier, bool),
        now: Timestamp,
    ) -> Result<(Turn, Vec<OutRow>), Error> {
        let (identifier, proven) = identifier;
        let mut turn = Turn::of(user.id, user.epoch);
        turn.items.push(ItemChange::RemoveAll { kind: ItemKind::Claim, but: None });
        turn.counted = ways_in_of(items);
        let (item, look_up) = self.identifier_rows(tenant.no, user.id, identifier, proven, now)?;
        turn.items.push(ItemChange::Put { item, was: None });
        turn.look_ups.push(look_up);
        turn.write = Some(UserWrite {
            version: None,
            was: Kind::Regular,
            data: None,
            kind: Kind::Regular,
            converted_at: None,
            merged_into: None,
            frozen: false,
            thaws: false,
        });
        let facts = VerifiedFacts { user_id: user.id.to_string(), kind: identifier.kind.as_str() };
        let mut out = vec![self.event(tenant, user.id, "identifier.verified", &facts, now)];
        out.extend(self.tell_owner(tenant, user.id, items, (identifier, false), now)?);
        Ok((turn, out))
    }

    /// Takes away a claim or an identifier: the changes, and what they tell others.
    ///
    /// # Errors
    /// [`Code::NotFound`]; [`Code::LastWayIn`].
    pub(crate) fn removal(
        &self,
        tenant: &Tenant,
        user: UserId,
        items: &[Item],
        id: &str,
        now: Timestamp,
    ) -> Result<(Vec<ItemChange>, Vec<OutRow>), Error> {
        for item in items.iter().filter(|i| i.kind == ItemKind::Claim) {
            if is_claim(item, id) {
                let gone = ItemChange::Remove { kind: item.kind, id: item.id, was: item.revision };
                return Ok((vec![gone], Vec::new()));
            }
        }
        let unknown = || Error::new(Code::NotFound, "You have no such identifier or claim.");
        let mut identifiers = items.iter().filter(|i| i.kind == ItemKind::Identifier);
        let item = identifiers.find(|i| identifier_id(i) == id).ok_or_else(unknown)?;
        let kept: KeptIdentifier = read_body(item)?;
        let left: Vec<KeptIdentifier> =
            identifiers_of(items)?.into_iter().filter(|i| (&i.kind, &i.normal) != (&kept.kind, &kept.normal)).collect();
        let password = items.iter().any(|i| i.kind == ItemKind::Password);
        if !opens(tenant, &left, password) {
            let detail = "This is the account's last way in; add another first.";
            return Err(Error::new(Code::LastWayIn, detail));
        }
        let gone = ItemChange::Remove { kind: item.kind, id: item.id, was: item.revision };
        let claims = ItemChange::RemoveAll { kind: ItemKind::Claim, but: None };
        let identifier = kept.identifier().ok_or_else(unknown)?;
        Ok((vec![gone, claims], self.tell_owner(tenant, user, items, (&identifier, true), now)?))
    }

    /// Mails to a regular user's addresses that an identifier was added or removed; a removed address is told, too.
    pub(crate) fn tell_owner(
        &self,
        tenant: &Tenant,
        user: UserId,
        items: &[Item],
        (identifier, removed): (&Identifier, bool),
        now: Timestamp,
    ) -> Result<Vec<OutRow>, Error> {
        let message = |to: &str| Message {
            at: Some(now.millis()),
            identifier: Some((identifier.kind.as_str().into(), identifier.shown.clone())),
            removed,
            ..self.message(tenant, MessageKind::IdentifierChanged, to)
        };
        proven_addresses(items)?.iter().map(|to| self.letter(tenant, user, &message(to), None, now)).collect()
    }

    /// Mails to a regular user's addresses that the password was changed.
    pub(crate) fn tell_of_password(
        &self,
        tenant: &Tenant,
        user: UserId,
        items: &[Item],
        now: Timestamp,
    ) -> Result<Vec<OutRow>, Error> {
        let message =
            |to: &str| Message { at: Some(now.millis()), ..self.message(tenant, MessageKind::PasswordChanged, to) };
        proven_addresses(items)?.iter().map(|to| self.letter(tenant, user, &message(to), None, now)).collect()
    }
}

/// The addresses to which a user's owner is told things.
fn proven_addresses(items: &[Item]) -> Result<Vec<Box<str>>, Error> {
    let list = identifiers_of(items)?;
    Ok(list.into_iter().filter(|i| i.proven && &*i.kind == "email").map(|i| i.shown).collect())
}

/// The change that writes the password's hash anew, as the settings are by now; the password stays the one that was set.
pub(crate) fn rehash_password(items: &[Item], hash: &PasswordHash, now: Timestamp) -> Result<ItemChange, Error> {
    let set_at = match items.iter().find(|i| i.kind == ItemKind::Password && i.id == ONE) {
        Some(item) => Timestamp::from_millis(read_body::<KeptPassword>(item)?.at),
        None => now,
    };
    Ok(put_password(items, hash, set_at))
}

/// The change that sets a password in place of the one that is there.
pub(crate) fn put_password(items: &[Item], hash: &PasswordHash, now: Timestamp) -> ItemChange {
    let was = items.iter().find(|i| i.kind == ItemKind::Password && i.id == ONE).map(|i| i.revision);
    ItemChange::Put { item: password_item(hash, was.map_or(1, |r| r.wrapping_add(1)), now), was }
}
