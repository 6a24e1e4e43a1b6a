//! Recovery without personal data: 128 bits as twelve words, shown once and kept as a hash. It brings the guest to a
//! device that has nothing else of it; everything that was open before is shut.

use std::time::Duration;

use passerby_jose::b64;
use serde::{Deserialize, Serialize};

use crate::{
    Code, Error, Timestamp,
    account::not_frozen,
    caller::{Access, Caller},
    code::{Asked, Asker, Asking, GoodCode, random, wrong_code},
    device::{TRIES, body, last_way_in, lasting_of, read_body},
    guest::{Ensured, only_guests},
    hold::{Held, Proven},
    id::TenantNo,
    model::{Item, ItemKind, Kind, LookUp, LookUpKind, Session, Standing},
    notice::NoticeKind,
    passerby::Passerby,
    port::{Act, CommitError, Ending, ItemChange, StoreError, Turn},
};

/// A recovery that waited and may come in gives way to another device after at least this time.
const GRACE: Duration = Duration::from_mins(10);

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Kept {
    /// Milliseconds.
    created_at: i64,
    /// The session that a recovery opened, of the code that came with it.
    #[serde(default)]
    of: Option<Box<str>>,
    pending: Option<Pending>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Pending {
    asker: Asker,
    /// Milliseconds.
    ready_at: i64,
}

/// The caller's recovery code, as far as it can be told.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RecoveryState {
    /// When the code was made; `None`: there is none.
    pub created_at: Option<Timestamp>,
    /// A recovery that waits.
    pub pending: Option<PendingRecovery>,
}

/// A recovery that waits, as the living sessions see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PendingRecovery {
    /// Tells recoveries apart; opens nothing (what the asker holds is another).
    pub id: String,
    /// As the device named itself.
    pub device: Option<Box<str>>,
    /// When it asked.
    pub asked_at: Timestamp,
    /// When it may come in.
    pub ready_at: Timestamp,
}

/// What a device that recovers is told.
#[derive(Clone)]
pub enum RecoveryAnswer {
    /// Wait.
    Waiting {
        /// To be shown beside the code when asking again.
        id: Box<str>,
        /// When to ask again.
        ready_at: Timestamp,
    },
    /// In.
    Done {
        /// The guest.
        ensured: Box<Ensured>,
        /// The used code is spent; this is its successor, shown once. `None`: an answer that is given again after the
        /// guest has made another code.
        code: Option<String>,
    },
}

opaque_debug!(RecoveryAnswer);

/// A fresh code: its words and its bits.
fn fresh_code() -> Result<(String, [u8; 16]), Error> {
    let mut bits = [0u8; 16];
    random(&mut bits)?;
    let words = bip39::Mnemonic::from_entropy_in(bip39::Language::English, &bits)
        .map_err(|_| Error::new(Code::Internal, "A recovery code could not be made."))?;
    Ok((words.to_string(), bits))
}

/// The bits of a code as it was typed: twelve words of the list with a good check sum, in any case, with spaces, punctuation or numbers between.
fn read_code(text: &str) -> Option<[u8; 16]> {
    if text.len() > 400 {
        return None;
    }
    // with whatever stands between them on a note
    let words = text.split(|c: char| c.is_whitespace() || c.is_ascii_punctuation() || c.is_ascii_digit());
    let words: Vec<String> = words.filter(|w| !w.is_empty()).map(str::to_ascii_lowercase).collect();
    let code = bip39::Mnemonic::parse_in_normalized(bip39::Language::English, &words.join(" ")).ok()?;
    code.to_entropy().try_into().ok()
}

impl Passerby {
    fn recovery_hash(&self, tenant: TenantNo, bits: &[u8; 16]) -> Result<[u8; 32], Error> {
        Ok(self.secrets_of(tenant)?.look_up_hash("recovery", &[bits]))
    }

    /// Rows of a new code.
    fn recovery_rows(
        &self,
        tenant: TenantNo,
        standing: &Owner,
        bits: &[u8; 16],
        successor: bool,
        now: Timestamp,
    ) -> Result<(Item, LookUp), Error> {
        let id = self.recovery_hash(tenant, bits)?;
        let of = successor.then(|| standing.session.to_string().into());
        let kept = Kept { created_at: now.millis(), of, pending: None };
        let ends_at = Timestamp::MAX;
        let item = Item { kind: ItemKind::Recovery, id, revision: 1, ends_at, body: body(&kept) };
        let look_up = LookUp {
            kind: LookUpKind::Recovery,
            hash: id,
            user: standing.user,
            session: standing.session,
            body: [0; 32],
            ends_at,
        };
        Ok((item, look_up))
    }

    /// Makes a recovery code, shown this once; it replaces an older one, and a recovery that waits with that ends.
    ///
    /// # Errors
    /// [`Code::NotAGuest`]; as for [`Passerby::me`].
    pub async fn make_recovery_code(&self, caller: &Caller<'_>, access: &Access<'_>) -> Result<String, Error> {
        let now = self.now();
        let mut held = self.hold_caller(caller, access, now).await?;
        only_guests(&held)?;
        not_frozen(&held)?;
        for _ in 0..TRIES {
            let (words, bits) = fresh_code()?;
            let owner = Owner { user: held.user, session: held.session };
            let (item, look_up) = self.recovery_rows(held.tenant.no, &owner, &bits, false, now)?;
            let items = self.store.items(held.tenant.no, held.user, None).await?;
            let mut turn = Turn::of(held.user, held.epoch);
            turn.by = Some(held.session);
            turn.items.push(ItemChange::RemoveAll { kind: ItemKind::Recovery, but: None });
            turn.items.push(ItemChange::Put { item, was: None });
            turn.items.extend(self.told(&items, NoticeKind::RecoveryCodeMade, None, now));
            turn.look_ups.push(look_up);
            match self.turn(&held, turn, now).await {
                Ok(()) => return Ok(words),
                Err(CommitError::Moved | CommitError::Taken) => held = self.hold_again(&held, now).await?,
                Err(e) => return Err(e.into()),
            }
        }
        Err(CommitError::Moved.into())
    }

    /// What the caller's recovery code stands at.
    ///
    /// # Errors
    /// As for [`Passerby::me`].
    pub async fn my_recovery(&self, caller: &Caller<'_>, access: &Access<'_>) -> Result<RecoveryState, Error> {
        let held = self.hold_caller(caller, access, self.now()).await?;
        state_of(&self.store.items(held.tenant.no, held.user, Some(ItemKind::Recovery)).await?)
    }

    /// Removes the caller's recovery code, and with it a recovery that waits: whoever began that knows the code. Nothing
    /// there is no error. A code that nobody uses and that is the last lasting way in stays unless `force`d.
    ///
    /// # Errors
    /// [`Code::LastWayIn`]; as for [`Passerby::me`].
    pub async fn cancel_recovery(&self, caller: &Caller<'_>, access: &Access<'_>, force: bool) -> Result<(), Error> {
        let now = self.now();
        let mut held = self.hold_caller(caller, access, now).await?;
        for _ in 0..TRIES {
            let items = self.store.items(held.tenant.no, held.user, None).await?;
            let Some(item) = items.iter().find(|i| i.kind == ItemKind::Recovery) else { return Ok(()) };
            let kept: Kept = read_body(item)?;
            let has_key = items.iter().any(|i| i.kind == ItemKind::DeviceKey);
            if !force && !has_key && kept.pending.is_none() && held.kind == Kind::Anonymous {
                return Err(last_way_in());
            }
            let mut turn = Turn::of(held.user, held.epoch);
            turn.by = Some(held.session);
            turn.counted = lasting_of(&items);
            turn.items.push(ItemChange::Remove { kind: ItemKind::Recovery, id: item.id, was: item.revision });
            if let Some(pending) = kept.pending {
                let device = pending.asker.device.as_deref();
                turn.items.extend(self.told(&items, NoticeKind::RecoveryCancelled, device, now));
            }
            match self.turn(&held, turn, now).await {
                Ok(()) => return Ok(()),
                Err(CommitError::Moved) => held = self.hold_again(&held, now).await?,
                Err(e) => return Err(e.into()),
            }
        }
        Err(CommitError::Moved.into())
    }

    /// A device without anything else comes in by the recovery code. Where the tenant lets recoveries wait and a session
    /// of the guest lives, it is told to ask again, and the living sessions may cancel. Success spends the code, gives its
    /// successor, ends all other sessions, removes all other device keys and raises the epoch.
    ///
    /// # Errors
    /// [`Code::InvalidCode`], [`Code::TooManyRequests`], [`Code::RecoveryPending`], [`Code::DeviceKeyTaken`]; what can be
    /// wrong with client, proof, audience and scope.
    pub async fn recover(&self, caller: &Caller<'_>, request: Asking<'_>) -> Result<RecoveryAnswer, Error> {
        let now = self.now();
        let asked = self.asked(caller, LookUpKind::Recovery, request, now).await?;
        let tenant = asked.known.tenant.no;
        if let Some(held) = self.opened_before(&asked, now).await? {
            return self.recovered_again(&asked, held, now).await;
        }
        let hash = read_code(request.code).map(|bits| self.recovery_hash(tenant, &bits)).transpose()?;
        let session = self.new_session(&asked.known, asked.key, asked.bound, request.session_type, now);
        let (words, successor) = fresh_code()?;
        let mut tried = None;
        for _ in 0..TRIES {
            let good = match self.good_code(caller, &asked.known, LookUpKind::Recovery, hash, now).await {
                // spent, perhaps by this very request
                Err(e) if e.code == Code::InvalidCode && (tried.is_some() || asked.request_key.is_some()) => {
                    if let Some(held) = self.opened(&asked, tried, &session, now).await? {
                        self.note_epoch(tenant, held.user, held.epoch, held.chosen_id(), now);
                        self.wrong_codes.forgive(tenant, caller.address);
                        let ensured = Box::new(self.let_in(&asked, &held, now)?);
                        return Ok(RecoveryAnswer::Done { ensured, code: Some(words) });
                    }
                    let held = self.opened_before(&asked, now).await?.ok_or(e)?;
                    self.wrong_codes.forgive(tenant, caller.address);
                    return self.recovered_again(&asked, held, now).await;
                }
                good => good?,
            };
            let user = good.standing.user.as_ref().ok_or_else(wrong_code)?;
            if user.kind != Kind::Anonymous {
                return Err(wrong_code());
            }
            let known_key = self.key_may_come(&asked, user.id, now).await?;
            let mut kept: Kept = read_body(&good.item)?;
            let named = kept.pending.as_ref().and_then(|p| p.asker.device.clone());
            let wait = asked.known.tenant.rules_of(user.client).recovery_wait;
            let watched = !wait.is_zero() && has_living_session(&asked, &good.standing, now);
            // who does not come for it in time gives way to the next
            kept.pending.take_if(|p| Timestamp::from_millis(p.ready_at).plus(wait.max(GRACE)) <= now);
            match kept.pending {
                Some(pending) if watched && !pending.asker.is(&asked) => {
                    return Err(Error::at(
                        Code::RecoveryPending,
                        "/code",
                        "Another device waits with this code; a living session may cancel it.",
                    ));
                }
                Some(pending) if watched && pending.ready_at > now.millis() => {
                    return Ok(RecoveryAnswer::Waiting {
                        id: pending.asker.id,
                        ready_at: Timestamp::from_millis(pending.ready_at),
                    });
                }
                None if watched => {
                    let asker = Self::asker(&asked, now)?;
                    let ready_at = now.plus(wait);
                    let answer = RecoveryAnswer::Waiting { id: asker.id.clone(), ready_at };
                    let pending = Some(Pending { asker, ready_at: ready_at.millis() });
                    let was = good.item.revision;
                    let item = Item { revision: was + 1, body: body(&Kept { pending, ..kept }), ..good.item.clone() };
                    let mut turn = Turn::of(user.id, user.epoch);
                    turn.items.push(ItemChange::Put { item, was: Some(was) });
                    let device = asked.device.as_deref();
                    turn.items.extend(self.told(&good.items, NoticeKind::RecoveryStarted, device, now));
                    match self.commit(tenant, None, Act::Turn(Box::new(turn))).await {
                        Ok(_) => return Ok(answer),
                        Err(CommitError::Moved) => continue,
                        Err(CommitError::Gone) => return Err(wrong_code()),
                        Err(e) => return Err(e.into()),
                    }
                }
                _ => {}
            }
            let device = asked.device.clone().or(named);
            tried = Some(user.id);
            let opening = (session.clone(), &successor);
            if let Some(ensured) = self.let_in_by_recovery(&asked, &good, known_key, device, opening, now).await? {
                return Ok(RecoveryAnswer::Done { ensured: Box::new(ensured), code: Some(words) });
            }
        }
        Err(CommitError::Moved.into())
    }

    /// A recovery whose answer was lost, asked for again by its `Idempotency-Key`: the same session, and another
    /// successor of the code in place of the one that nobody saw. A code that was made since stays.
    async fn recovered_again(
        &self,
        asked: &Asked<'_>,
        mut held: Held,
        now: Timestamp,
    ) -> Result<RecoveryAnswer, Error> {
        only_guests(&held)?;
        for _ in 0..TRIES {
            let items = self.store.items(held.tenant.no, held.user, None).await?;
            let unseen = items.iter().find(|i| i.kind == ItemKind::Recovery);
            let made: Option<Kept> = unseen.map(read_body).transpose()?;
            let unseen = unseen.filter(|_| {
                made.is_some_and(|kept| {
                    kept.of.as_deref() == Some(&*held.session.to_string()) && kept.pending.is_none()
                })
            });
            let Some(unseen) = unseen else {
                let ensured = Box::new(self.let_in(asked, &held, now)?);
                return Ok(RecoveryAnswer::Done { ensured, code: None });
            };
            let (words, bits) = fresh_code()?;
            let owner = Owner { user: held.user, session: held.session };
            let (item, look_up) = self.recovery_rows(held.tenant.no, &owner, &bits, true, now)?;
            let mut turn = Turn::of(held.user, held.epoch);
            turn.by = Some(held.session);
            turn.items.push(ItemChange::Remove { kind: unseen.kind, id: unseen.id, was: unseen.revision });
            turn.items.push(ItemChange::Put { item, was: None });
            turn.items.extend(self.told(&items, NoticeKind::RecoveryCodeMade, None, now));
            turn.look_ups.push(look_up);
            match self.turn(&held, turn, now).await {
                Ok(()) => {
                    let ensured = Box::new(self.let_in(asked, &held, now)?);
                    return Ok(RecoveryAnswer::Done { ensured, code: Some(words) });
                }
                Err(CommitError::Moved | CommitError::Taken) => held = self.hold_again(&held, now).await?,
                Err(e) => return Err(e.into()),
            }
        }
        Err(CommitError::Moved.into())
    }

    /// One step; `None`: something changed meanwhile, decide again.
    async fn let_in_by_recovery(
        &self,
        asked: &Asked<'_>,
        good: &GoodCode,
        known_key: bool,
        device: Option<Box<str>>,
        (session, successor): (Session, &[u8; 16]),
        now: Timestamp,
    ) -> Result<Option<Ensured>, Error> {
        let tenant = asked.known.tenant.no;
        let user = good.standing.user.as_ref().ok_or_else(wrong_code)?;
        let id = session.id;
        let (code_item, code_look_up) =
            self.recovery_rows(tenant, &Owner { user: user.id, session: id }, successor, true, now)?;
        let mut turn = Turn::of(user.id, user.epoch);
        turn.raise = true;
        turn.end = Ending::All { but: None };
        turn.open = Some(Box::new(session));
        turn.items.push(ItemChange::Remove { kind: ItemKind::Recovery, id: good.item.id, was: good.item.revision });
        turn.items.push(ItemChange::RemoveAll { kind: ItemKind::HandOff, but: None });
        let kept_key = asked.key.as_ref().map(|key| self.device_key_hash(tenant, key)).transpose()?;
        turn.items.push(ItemChange::RemoveAll { kind: ItemKind::DeviceKey, but: kept_key });
        if known_key && let Some(key) = &asked.key {
            let Some(still) = self.still_there(tenant, key, &good.items)? else { return Ok(None) };
            turn.items.push(still);
        }
        turn.items.push(ItemChange::Put { item: code_item, was: None });
        turn.look_ups.push(code_look_up);
        turn.look_ups.extend(asked.request_key.map(|key| key.row(&asked.known, user.id, id, now)));
        if let Some(key) = asked.key.as_ref().filter(|_| !known_key) {
            let name = device.clone();
            let (item, look_up) = self.device_key_rows(tenant, key, user.id, id, asked.known.client.no, name, now)?;
            turn.items.push(ItemChange::Put { item, was: None });
            turn.look_ups.push(look_up);
        }
        turn.items.extend(self.told(&good.items, NoticeKind::RecoveryCompleted, device.as_deref(), now));
        match self.commit(tenant, None, Act::Turn(Box::new(turn))).await {
            Ok(_) => {}
            // somebody else changed something, or the answer was lost: what is there now tells which
            Err(
                CommitError::Moved
                | CommitError::Taken
                | CommitError::Gone
                | CommitError::Store(StoreError::Unavailable(_)),
            ) => return Ok(None),
            Err(e) => return Err(e.into()),
        }
        self.note_epoch(tenant, user.id, user.epoch + 1, user.chosen_id.as_deref(), now);
        let held = self.read_again(&asked.known.tenant, user.id, id, Proven::Key(asked.key), now).await?;
        self.let_in(asked, &held, now).map(Some)
    }
}

/// How recovery stands, by what a user has.
pub(crate) fn state_of(items: &[Item]) -> Result<RecoveryState, Error> {
    let Some(item) = items.iter().find(|i| i.kind == ItemKind::Recovery) else { return Ok(RecoveryState::default()) };
    let kept: Kept = read_body(item)?;
    Ok(RecoveryState {
        created_at: Some(Timestamp::from_millis(kept.created_at)),
        pending: kept.pending.map(|p| PendingRecovery {
            // what the asker shows is a secret of its own: the sessions are told its hash
            id: b64::encode(&passerby_jose::sha256(p.asker.id.as_bytes())[..12]),
            device: p.asker.device,
            asked_at: Timestamp::from_millis(p.asker.at),
            ready_at: Timestamp::from_millis(p.ready_at),
        }),
    })
}

/// Whose rows.
struct Owner {
    user: crate::id::UserId,
    session: crate::id::SessionId,
}

/// Whether somebody is there who could cancel.
fn has_living_session(asked: &Asked<'_>, standing: &Standing, now: Timestamp) -> bool {
    let tenant = &asked.known.tenant;
    // one that was opened from a cookie's ends with it
    let has_ended = |id| standing.session(id).is_none_or(|s| s.ended_at.is_some());
    standing
        .sessions
        .iter()
        .filter(|s| !s.parent.is_some_and(has_ended))
        .any(|s| s.ended_at.is_none() && tenant.rules_of(s.client).ends(s.created_at, s.active_at).idle > now)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn twelve_words_of_128_bits_read_as_people_write_them() {
        let (words, bits) = fresh_code().unwrap();
        assert_eq!(words.split(' ').count(), 12);
        assert_eq!(read_code(&words), Some(bits));
        assert_eq!(read_code(&format!("  {} \n", words.to_uppercase().replace(' ', "\t "))), Some(bits));
        let (other, _) = fresh_code().unwrap();
        assert_ne!(words, other);
    }

    #[test]
    fn what_is_no_code_is_none() {
        let good = "abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon about";
        assert_eq!(read_code(good), Some([0; 16]));
        for text in [
            "",
            "abandon",
            "abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon",
            "abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon zzz",
            &format!("{good} about"),
            &"abandon ".repeat(23).replace("  ", " "),
            &"a".repeat(500),
            "\0",
        ] {
            assert_eq!(read_code(text), None, "{text}");
        }
    }
}
