//! Hand-off: a guest goes to, or is shared with, a second device by a short code that the first device confirms. The code
//! alone is worth nothing: who asks with it waits, both devices show the same two digits, and only a person at the first
//! one lets the second in.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{
    Code, Error, Timestamp,
    account::not_frozen,
    caller::{Access, Caller},
    code::{Asked, Asker, Asking, GoodCode, random, wrong_code},
    device::{TRIES, body, count_of, mark_beside, read_body},
    guest::{Ensured, only_guests},
    hold::{Claimed, Held, Proven, decide},
    id::{SessionId, TenantNo, UserId},
    model::{Item, ItemKind, Kind, LookUp, LookUpKind, Session},
    notice::NoticeKind,
    passerby::Passerby,
    port::{Act, CommitError, Ending, ItemChange, StoreError, Turn},
};

/// A code lives so long.
const LIFE: Duration = Duration::from_mins(5);

/// A code that needs no confirmation lives so long.
const OPEN_LIFE: Duration = Duration::from_hours(24);

/// So many letters it has: 140 bits, since it opens a guest by itself.
const OPEN_LETTERS: usize = 28;

/// Crockford's base 32: no letter that looks like another, 40 bits in eight.
const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";

/// What becomes of the first device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HandOffMode {
    /// It stays.
    #[default]
    Share,
    /// It is signed out, its key removed.
    Move,
}

impl HandOffMode {
    /// The word of the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Share => "share",
            Self::Move => "move",
        }
    }
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Kept {
    mode: HandOffMode,
    /// The session that made it, which alone confirms.
    session: Box<str>,
    asker: Option<Asker>,
    /// Two digits that both devices show.
    check: Option<u8>,
    confirmed: bool,
    /// Another device asked: it is over, and the first one is told so.
    #[serde(default)]
    cancelled: bool,
    /// An operator gave it out: the first device that has it comes in, and nobody confirms.
    #[serde(default)]
    open: bool,
}

/// A code by which one device comes into a guest, once, without confirmation.
pub(crate) struct OpenCode {
    /// As it is told.
    pub(crate) text: String,
    /// The hash by which it is found.
    pub(crate) id: [u8; 32],
    ends_at: Timestamp,
}

impl OpenCode {
    /// Its rows with the guest that it opens.
    pub(crate) fn rows(&self, user: UserId) -> (Item, LookUp) {
        let kept = Kept {
            mode: HandOffMode::Share,
            session: Box::default(),
            asker: None,
            check: None,
            confirmed: true,
            cancelled: false,
            open: true,
        };
        let (id, ends_at) = (self.id, self.ends_at);
        let item = Item { kind: ItemKind::HandOff, id, revision: 1, ends_at, body: body(&kept) };
        let session = SessionId::from_bytes([0; 16]);
        (item, LookUp { kind: LookUpKind::HandOff, hash: id, user, session, body: [0; 32], ends_at })
    }
}

/// A code that was just made.
#[derive(Clone, PartialEq, Eq)]
pub struct HandOff {
    /// Eight characters and a hyphen.
    pub code: String,
    /// Where the code is typed, with the code: for a link or a QR code.
    pub url: String,
    /// What becomes of the first device.
    pub mode: HandOffMode,
    /// The code's end.
    pub expires_at: Timestamp,
}

/// A device that waits for confirmation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WaitingDevice {
    /// What to confirm.
    pub id: Box<str>,
    /// As the device named itself.
    pub device: Option<Box<str>>,
    /// Two digits that it shows.
    pub check: String,
    /// When it asked.
    pub asked_at: Timestamp,
    /// What becomes of the first device.
    pub mode: HandOffMode,
    /// The code's end.
    pub expires_at: Timestamp,
}

/// What the second device is told.
#[derive(Debug, Clone)]
pub enum HandOffAnswer {
    /// Wait for the first device.
    Waiting {
        /// To be shown beside the code when asking again.
        id: Box<str>,
        /// Two digits, shown on both devices.
        check: String,
        /// The code's end.
        expires_at: Timestamp,
    },
    /// In.
    Done(Box<Ensured>),
}

/// The code as it is hashed: upper case, look-alikes folded, nothing between. `None`: no code of ours.
fn normal(code: &str) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(OPEN_LETTERS);
    for c in code.chars().filter(|c| !matches!(c, '-' | ' ' | '\u{2010}'..='\u{2015}')) {
        let c = match c.to_ascii_uppercase() {
            'O' => b'0',
            'I' | 'L' => b'1',
            c if c.is_ascii() => c as u8,
            _ => return None,
        };
        if !ALPHABET.contains(&c) || out.len() == OPEN_LETTERS {
            return None;
        }
        out.push(c);
    }
    matches!(out.len(), 8 | OPEN_LETTERS).then_some(out)
}

fn fresh_code<const N: usize>() -> Result<[u8; N], Error> {
    let mut bytes = [0u8; N];
    random(&mut bytes)?;
    // 256 is a multiple of 32: every letter is as likely
    Ok(bytes.map(|b| ALPHABET[usize::from(b % 32)]))
}

fn check_text(check: Option<u8>) -> String {
    format!("{:02}", check.unwrap_or_default())
}

impl Passerby {
    fn hand_off_hash(&self, tenant: TenantNo, code: &[u8]) -> Result<[u8; 32], Error> {
        Ok(self.secrets_of(tenant)?.look_up_hash("hand-off", &[code]))
    }

    /// A code that an operator gives out, not stored yet.
    ///
    /// # Errors
    /// [`Code::Internal`].
    pub(crate) fn open_code(&self, tenant: TenantNo, now: Timestamp) -> Result<OpenCode, Error> {
        let letters = fresh_code::<OPEN_LETTERS>()?;
        let groups: Vec<_> = letters.chunks(4).map(String::from_utf8_lossy).collect();
        Ok(OpenCode { text: groups.join("-"), id: self.hand_off_hash(tenant, &letters)?, ends_at: now.plus(OPEN_LIFE) })
    }

    /// Makes a code on the first device; an older one that is not finished dies.
    ///
    /// # Errors
    /// [`Code::NotAGuest`]; as for [`Passerby::me`].
    pub async fn make_hand_off(
        &self,
        caller: &Caller<'_>,
        access: &Access<'_>,
        mode: HandOffMode,
    ) -> Result<HandOff, Error> {
        let now = self.now();
        let mut held = self.hold_caller(caller, access, now).await?;
        only_guests(&held)?;
        not_frozen(&held)?;
        let ends_at = now.plus(LIFE);
        for _ in 0..TRIES {
            let code = fresh_code::<8>()?;
            let id = self.hand_off_hash(held.tenant.no, &code)?;
            let kept = Kept {
                mode,
                session: held.session.to_string().into(),
                asker: None,
                check: None,
                confirmed: false,
                cancelled: false,
                open: false,
            };
            let item = Item { kind: ItemKind::HandOff, id, revision: 1, ends_at, body: body(&kept) };
            let mut turn = Turn::of(held.user, held.epoch);
            turn.by = Some(held.session);
            turn.items.push(ItemChange::RemoveAll { kind: ItemKind::HandOff, but: None });
            turn.items.push(ItemChange::Put { item, was: None });
            turn.look_ups.push(LookUp {
                kind: LookUpKind::HandOff,
                hash: id,
                user: held.user,
                session: held.session,
                body: [0; 32],
                ends_at,
            });
            match self.turn(&held, turn, now).await {
                Ok(()) => {
                    let (head, tail) = code.split_at(4);
                    let code = format!("{}-{}", String::from_utf8_lossy(head), String::from_utf8_lossy(tail));
                    return Ok(HandOff { url: link(&held, &code), code, mode, expires_at: ends_at });
                }
                Err(CommitError::Moved | CommitError::Taken) => held = self.hold_again(&held, now).await?,
                Err(e) => return Err(e.into()),
            }
        }
        Err(CommitError::Moved.into())
    }

    /// The unfinished hand-off that the caller's session made.
    async fn own_hand_off(&self, held: &Held, now: Timestamp) -> Result<Option<(Item, Kept)>, Error> {
        for item in self.store.items(held.tenant.no, held.user, Some(ItemKind::HandOff)).await? {
            let kept: Kept = read_body(&item)?;
            if item.ends_at > now && !kept.cancelled && *kept.session == held.session.to_string() {
                return Ok(Some((item, kept)));
            }
        }
        Ok(None)
    }

    /// Devices that wait for the caller's session to confirm: one or none.
    ///
    /// # Errors
    /// As for [`Passerby::me`].
    pub async fn my_hand_offs(&self, caller: &Caller<'_>, access: &Access<'_>) -> Result<Vec<WaitingDevice>, Error> {
        let now = self.now();
        let held = self.hold_caller(caller, access, now).await?;
        let Some((item, kept)) = self.own_hand_off(&held, now).await? else { return Ok(Vec::new()) };
        let waiting = kept.asker.filter(|_| !kept.confirmed).map(|asker| WaitingDevice {
            id: asker.id,
            device: asker.device,
            check: check_text(kept.check),
            asked_at: Timestamp::from_millis(asker.at),
            mode: kept.mode,
            expires_at: item.ends_at,
        });
        Ok(waiting.into_iter().collect())
    }

    /// Lets the waiting device in. Confirming again changes nothing.
    ///
    /// # Errors
    /// [`Code::NotFound`] when no device waits under this id; as for [`Passerby::me`].
    pub async fn confirm_hand_off(&self, caller: &Caller<'_>, access: &Access<'_>, id: &str) -> Result<(), Error> {
        let now = self.now();
        let mut held = self.hold_caller(caller, access, now).await?;
        for _ in 0..TRIES {
            let unknown = || Error::new(Code::NotFound, "No device waits under this id.");
            let (item, mut kept) = self.own_hand_off(&held, now).await?.ok_or_else(unknown)?;
            if kept.asker.as_ref().is_none_or(|a| &*a.id != id) {
                return Err(unknown());
            }
            if kept.confirmed {
                return Ok(());
            }
            kept.confirmed = true;
            let mut turn = Turn::of(held.user, held.epoch);
            turn.by = Some(held.session);
            turn.items.push(put(&item, &kept));
            match self.turn(&held, turn, now).await {
                Ok(()) => return Ok(()),
                Err(CommitError::Moved) => held = self.hold_again(&held, now).await?,
                Err(e) => return Err(e.into()),
            }
        }
        Err(CommitError::Moved.into())
    }

    /// Withdraws the caller's code; a device that waits gets nothing. Nothing to withdraw is no error.
    ///
    /// # Errors
    /// As for [`Passerby::me`].
    pub async fn withdraw_hand_off(&self, caller: &Caller<'_>, access: &Access<'_>) -> Result<(), Error> {
        let now = self.now();
        let mut held = self.hold_caller(caller, access, now).await?;
        for _ in 0..TRIES {
            let Some((item, _)) = self.own_hand_off(&held, now).await? else { return Ok(()) };
            let mut turn = Turn::of(held.user, held.epoch);
            turn.by = Some(held.session);
            turn.items.push(ItemChange::Remove { kind: ItemKind::HandOff, id: item.id, was: item.revision });
            match self.turn(&held, turn, now).await {
                Ok(()) => return Ok(()),
                Err(CommitError::Moved) => held = self.hold_again(&held, now).await?,
                Err(e) => return Err(e.into()),
            }
        }
        Err(CommitError::Moved.into())
    }

    /// The second device asks, and asks again until it is let in. The first to ask is the one that may; another cancels
    /// the hand-off for both.
    ///
    /// # Errors
    /// [`Code::InvalidCode`], [`Code::TooManyRequests`], [`Code::HandOffCancelled`], [`Code::DeviceKeyTaken`]; what can be
    /// wrong with client, proof, audience and scope.
    pub async fn take_hand_off(&self, caller: &Caller<'_>, request: Asking<'_>) -> Result<HandOffAnswer, Error> {
        let now = self.now();
        let asked = self.asked(caller, LookUpKind::HandOff, request, now).await?;
        let tenant = asked.known.tenant.no;
        if let Some(held) = self.opened_before(&asked, now).await? {
            return Ok(HandOffAnswer::Done(Box::new(self.let_in(&asked, &held, now)?)));
        }
        let hash = normal(request.code).map(|code| self.hand_off_hash(tenant, &code)).transpose()?;
        let session = self.new_session(&asked.known, asked.key, asked.bound, request.session_type, now);
        let mut tried = None;
        for _ in 0..TRIES {
            let good = match self.good_code(caller, &asked.known, LookUpKind::HandOff, hash, now).await {
                // spent, perhaps by this very request
                Err(e) if e.code == Code::InvalidCode && (tried.is_some() || asked.request_key.is_some()) => {
                    let held = match self.opened(&asked, tried, &session, now).await? {
                        Some(held) => held,
                        None => self.opened_before(&asked, now).await?.ok_or(e)?,
                    };
                    self.wrong_codes.forgive(tenant, caller.address);
                    return Ok(HandOffAnswer::Done(Box::new(self.let_in(&asked, &held, now)?)));
                }
                good => good?,
            };
            let mut kept: Kept = read_body(&good.item)?;
            if kept.open {
                let user = good.standing.user.as_ref().filter(|u| u.kind == Kind::Anonymous).ok_or_else(wrong_code)?;
                let known_key = self.key_may_come(&asked, user.id, now).await?;
                tried = Some(user.id);
                let opened = Opened { user: user.id, epoch: user.epoch, by: None };
                match self.let_in_by_hand_off(&asked, &opened, &good, &kept, known_key, session.clone(), now).await? {
                    Some(ensured) => return Ok(HandOffAnswer::Done(Box::new(ensured))),
                    None => continue,
                }
            }
            let maker = maker(&asked, &good, &kept, now)?;
            let known_key = self.key_may_come(&asked, maker.user, now).await?;
            let (turn, answer) = match &kept.asker {
                None => {
                    let asker = Self::asker(&asked, now)?;
                    let mut check = [0u8; 2];
                    random(&mut check)?;
                    let check = (u16::from_be_bytes(check) % 100) as u8;
                    (kept.asker, kept.check) = (Some(asker.clone()), Some(check));
                    let mut turn = Turn::of(maker.user, maker.epoch);
                    turn.by = Some(maker.session);
                    turn.items.push(put(&good.item, &kept));
                    (turn, Some(waiting(&asker, kept.check, &good.item)))
                }
                Some(asker) if kept.cancelled => {
                    return Err(if asker.is(&asked) { cancelled() } else { wrong_code() });
                }
                Some(asker) if !asker.is(&asked) => {
                    kept.cancelled = true;
                    let mut turn = Turn::of(maker.user, maker.epoch);
                    turn.items.push(put(&good.item, &kept));
                    turn.items.extend(self.told(
                        &good.items,
                        NoticeKind::HandOffCancelled,
                        asked.device.as_deref(),
                        now,
                    ));
                    (turn, None)
                }
                Some(asker) if !kept.confirmed => return Ok(waiting(asker, kept.check, &good.item)),
                Some(_) => {
                    tried = Some(maker.user);
                    let session = session.clone();
                    let maker = Opened { user: maker.user, epoch: maker.epoch, by: Some(&maker) };
                    match self.let_in_by_hand_off(&asked, &maker, &good, &kept, known_key, session, now).await? {
                        Some(ensured) => return Ok(HandOffAnswer::Done(Box::new(ensured))),
                        None => continue,
                    }
                }
            };
            match self.commit(tenant, None, Act::Turn(Box::new(turn))).await {
                Ok(_) => {
                    return answer.ok_or_else(cancelled);
                }
                Err(CommitError::Moved) => {}
                Err(CommitError::Gone) => return Err(wrong_code()),
                Err(e) => return Err(e.into()),
            }
        }
        Err(CommitError::Moved.into())
    }

    /// One step: the code is spent, the session opened, the key added, the first device signed out if it moves. `None`:
    /// something changed meanwhile, decide again.
    #[expect(clippy::too_many_arguments, reason = "each is one independent fact")]
    async fn let_in_by_hand_off(
        &self,
        asked: &Asked<'_>,
        opened: &Opened<'_>,
        good: &GoodCode,
        kept: &Kept,
        known_key: bool,
        session: Session,
        now: Timestamp,
    ) -> Result<Option<Ensured>, Error> {
        let tenant = asked.known.tenant.no;
        let id = session.id;
        let device = asked.device.as_ref().or(kept.asker.as_ref().and_then(|a| a.device.as_ref())).cloned();
        let mut turn = Turn::of(opened.user, opened.epoch);
        turn.by = opened.by.map(|maker| maker.session);
        turn.items.push(removed(&good.item));
        if let Some(maker) = opened.by.filter(|_| kept.mode == HandOffMode::Move) {
            turn.end = match maker.device_key() {
                // with its key everything goes that hangs on it
                Some(key) => Ending::ByKey {
                    key: *key,
                    but: None,
                    also: Some(maker.session),
                    mark_until: mark_beside(maker, now),
                },
                None => Ending::Some(vec![(maker.session, maker.mark_until())]),
            };
            if let Some(key) = maker.device_key()
                && asked.key.as_ref() != Some(key)
            {
                let hash = self.device_key_hash(tenant, key)?;
                let old = good.items.iter().find(|i| i.kind == ItemKind::DeviceKey && i.id == hash);
                turn.items.extend(old.map(removed));
            }
        }
        if known_key && let Some(key) = &asked.key {
            let Some(still) = self.still_there(tenant, key, &good.items)? else { return Ok(None) };
            turn.items.push(still);
        }
        if let Some(key) = asked.key.as_ref().filter(|_| !known_key) {
            // one that goes in the same step makes room
            if !turn.items.iter().any(|i| matches!(i, ItemChange::Remove { kind: ItemKind::DeviceKey, .. })) {
                self.check_room_for_key(&good.items)?;
            }
            turn.counted = vec![count_of(&good.items, ItemKind::DeviceKey)];
            let name = device.clone();
            let (item, look_up) =
                self.device_key_rows(tenant, key, opened.user, id, asked.known.client.no, name, now)?;
            turn.items.push(ItemChange::Put { item, was: None });
            turn.look_ups.push(look_up);
        }
        turn.look_ups.extend(asked.request_key.map(|key| key.row(&asked.known, opened.user, id, now)));
        turn.items.extend(self.told(&good.items, NoticeKind::HandOffCompleted, device.as_deref(), now));
        turn.open = Some(Box::new(session));
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
        let proven = Proven::Key(asked.key);
        let held = self.read_again(&asked.known.tenant, opened.user, id, proven, now).await?;
        self.let_in(asked, &held, now).map(Some)
    }
}

/// The guest that a code opens.
struct Opened<'a> {
    user: UserId,
    epoch: i32,
    /// The session that made the code; `None`: an operator did.
    by: Option<&'a Held>,
}

/// The session that made the code; it must live still.
fn maker(asked: &Asked<'_>, good: &GoodCode, kept: &Kept, now: Timestamp) -> Result<Held, Error> {
    let session = SessionId::parse(&kept.session).ok_or_else(wrong_code)?;
    let standing = good.standing.clone();
    let user = standing.user.as_ref().ok_or_else(wrong_code)?;
    let client = standing.session(session).and_then(|s| asked.known.tenant.clients_by_no.get(&s.client));
    let client = client.ok_or_else(wrong_code)?.clone();
    let claimed = Claimed::stored(user.id, session, user.epoch, &client, Proven::Unasked, now);
    let held = decide(&asked.known.tenant, &claimed, standing, now).map_err(|_| wrong_code())?;
    only_guests(&held).map_err(|_| wrong_code())?;
    Ok(held)
}

fn cancelled() -> Error {
    let detail = "Another device asked with this code; the hand-off is cancelled. Make a new code.";
    Error::at(Code::HandOffCancelled, "/code", detail)
}

fn put(item: &Item, kept: &Kept) -> ItemChange {
    let was = item.revision;
    ItemChange::Put { item: Item { revision: was + 1, body: body(kept), ..item.clone() }, was: Some(was) }
}

fn removed(item: &Item) -> ItemChange {
    ItemChange::Remove { kind: item.kind, id: item.id, was: item.revision }
}

fn waiting(asker: &Asker, check: Option<u8>, item: &Item) -> HandOffAnswer {
    HandOffAnswer::Waiting { id: asker.id.clone(), check: check_text(check), expires_at: item.ends_at }
}

/// Where the second device goes. The code is in the fragment: no server and no log sees it on the way.
fn link(held: &Held, code: &str) -> String {
    let client_id: String = url::form_urlencoded::byte_serialize(held.client.id.as_bytes()).collect();
    let built_in;
    let page = if let Some(page) = &held.client.hand_off_uri {
        page
    } else {
        built_in = format!("{}/ui/hand-off", held.tenant.issuer.trim_end_matches('/'));
        built_in.as_str()
    };
    format!("{page}#code={code}&client_id={client_id}")
}

opaque_debug!(HandOff, OpenCode);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_is_read_as_people_write_it() {
        for text in ["AB01-CDEF", "ab01cdef", " aboi cdef ", "ABOL\u{2013}CDEF", "a-b-0-1-c-d-e-f"] {
            assert_eq!(normal(text).as_deref(), Some(b"AB01CDEF".as_slice()), "{text}");
        }
        for text in ["", "AB01-CDE", "AB01-CDEFG", "AB01-CDEU", "ÄB01CDEF", "AB01_CDEF", "AB01CDEF\0"] {
            assert_eq!(normal(text), None, "{text}");
        }
        let code = fresh_code::<8>().unwrap();
        assert_eq!(normal(&String::from_utf8_lossy(&code)), Some(code.to_vec()));
        assert_ne!(fresh_code().unwrap(), code);
        let code = fresh_code::<OPEN_LETTERS>().unwrap();
        assert_eq!(normal(&String::from_utf8_lossy(&code)), Some(code.to_vec()));
        assert_eq!(normal(&"A".repeat(OPEN_LETTERS + 1)), None);
    }
}
