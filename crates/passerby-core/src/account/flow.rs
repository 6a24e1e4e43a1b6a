//! Codes and links on their way to an address, whether or not an account has it: records of the tenant. Of each purpose an
//! address has one at a time; asking again voids what was sent before, and forgives no wrong code.

use std::time::Duration;

use passerby_jose::{b64, same, sha256};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::{
    Code, Error, Timestamp,
    code::random,
    device::{body, read_body},
    id::{ClientNo, TenantNo, UserId},
    identifier::{Identifier, IdentifierKind},
    model::{Item, ItemKind, Kind, Record, RecordKind, User},
    passerby::Passerby,
    password::PasswordHash,
    port::RecordChange,
    profile::{Limits, parse_object},
    settings::{Client, Tenant},
};

use super::{
    code::{LinkToken, OneTime, Use},
    identity::{KeptIdentifier, KeptPassword, password_of},
};

/// Wrong codes count for the next code to the same address for so long.
pub(super) const TRIES_LIFE: Duration = Duration::from_hours(1);

/// Bytes of the object that an application gives along.
const MOST_STATE: usize = 4096;

/// Whose a flow is beside the address's: part of its place.
#[derive(Clone, Copy)]
pub(super) enum Within {
    /// Signing in with this client.
    Client(ClientNo),
    /// Setting the password of whoever has the address.
    Tenant,
    /// Setting the first password of this user, who does not have the address yet.
    User(UserId),
}

/// A flow at rest.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct KeptFlow {
    pub(super) of: Use,
    /// 128 random bits, base64url: who began has them, and part of every hash is them.
    pub(super) flow: Box<str>,
    pub(super) kind: Box<str>,
    pub(super) normal: Box<str>,
    pub(super) shown: Box<str>,
    /// Number of the client.
    pub(super) client: i32,
    /// A back end made it for this user.
    pub(super) user: Option<Box<str>>,
    /// Who follows the link has received a message of ours: the address is proven by it.
    pub(super) mailed: bool,
    pub(super) device: Option<Box<str>>,
    /// Milliseconds.
    pub(super) created_at: i64,
    /// When the first of the wrong codes came: milliseconds.
    pub(super) tries_since: i64,
    pub(super) redirect_uri: Option<Box<str>>,
    /// What the application gave along: a JSON object.
    pub(super) state: Option<Box<RawValue>>,
    pub(super) sent: OneTime,
}

impl KeptFlow {
    pub(super) fn identifier(&self) -> Option<Identifier> {
        let kind = IdentifierKind::parse(&self.kind)?;
        Some(Identifier { kind, normal: self.normal.clone(), shown: self.shown.clone() })
    }

    pub(super) fn bytes(&self) -> [u8; 16] {
        b64::decode(&self.flow).and_then(|b| b.try_into().ok()).unwrap_or_default()
    }

    /// What belongs to a user since later than the flow began voids it: the address that was another's or nobody's then,
    /// and the password that was set since.
    pub(super) fn is_void_for(&self, identifier: &KeptIdentifier, items: &[Item]) -> Result<bool, Error> {
        is_older(self.created_at, identifier, items)
    }
}

/// Whether something began (milliseconds) before the identifier was its user's, or before the user's password was set.
pub(super) fn is_older(created_at: i64, identifier: &KeptIdentifier, items: &[Item]) -> Result<bool, Error> {
    let password = items.iter().find(|i| i.kind == ItemKind::Password);
    let set_at = password.map(read_body::<KeptPassword>).transpose()?.map(|p| p.at);
    Ok(identifier.at > created_at || set_at.is_some_and(|at| at > created_at))
}

/// A living flow.
pub(super) struct Flow {
    pub(super) record: Record,
    pub(super) kept: KeptFlow,
}

impl Flow {
    /// The change that writes it anew.
    pub(super) fn put(&self, kept: &KeptFlow, ends_at: Timestamp) -> RecordChange {
        put(&self.record.id, Some(self.record.revision), kept, self.record.ends_at.max(ends_at))
    }

    /// The change that spends it.
    pub(super) fn gone(&self) -> RecordChange {
        RecordChange::Remove { kind: RecordKind::Flow, id: self.record.id, was: self.record.revision }
    }
}

/// Writes a flow in place of the one that was read.
pub(super) fn put(id: &[u8; 32], was: Option<i32>, kept: &KeptFlow, ends_at: Timestamp) -> RecordChange {
    let revision = was.map_or(1, |r| r.wrapping_add(1));
    let record = Record { kind: RecordKind::Flow, id: *id, revision, ends_at, body: body(kept) };
    RecordChange::Put { record, was }
}

/// The id of a flow as the device that began is told it: where the flow is, and what only this one has.
pub(super) fn flow_id(place: &[u8; 16], flow: &[u8; 16]) -> Box<str> {
    b64::encode(&[&place[..], &flow[..]].concat()).into()
}

/// Reads [`flow_id`].
pub(super) fn read_flow_id(text: &str) -> Option<([u8; 16], [u8; 16])> {
    let bytes: [u8; 32] = b64::decode(text)?.try_into().ok()?;
    let (mut place, mut flow) = ([0; 16], [0; 16]);
    place.copy_from_slice(&bytes[..16]);
    flow.copy_from_slice(&bytes[16..]);
    Some((place, flow))
}

/// The key of the record at a place.
pub(super) fn record_id(place: &[u8; 16]) -> [u8; 32] {
    sha256(place)
}

/// The object that an application gives along with a password's link.
///
/// # Errors
/// [`Code::Data`] at `/state`: no object, or more than 4 KiB.
pub(super) fn checked_state(state: Option<&RawValue>) -> Result<Option<Box<RawValue>>, Error> {
    let Some(state) = state else { return Ok(None) };
    let limits = Limits { max_bytes: MOST_STATE, ..Limits::default() };
    let text = parse_object(state.get().as_bytes(), "/state", &limits)?;
    let raw = RawValue::from_string(text.into());
    raw.map(Some).map_err(|_| Error::at(Code::InvalidValue, "/state", "Expected a JSON object."))
}

/// Whether one signs in to this user: an account, and no pointer to one.
pub(super) fn is_account(user: &User) -> bool {
    user.kind == Kind::Regular && user.merged_into.is_none()
}

/// The identifier among what a user has, if one signs in by it: an address or number only when it was proven.
pub(super) fn opens_by(items: &[Item], hash: &[u8; 32]) -> Result<Option<KeptIdentifier>, Error> {
    let Some(item) = items.iter().find(|i| i.kind == ItemKind::Identifier && i.id == *hash) else { return Ok(None) };
    let kept: KeptIdentifier = read_body(item)?;
    let by_name = matches!(&*kept.kind, "username" | "external_id");
    Ok(Some(kept).filter(|kept| kept.proven || by_name))
}

/// Whether the user's password is this one already.
pub(super) fn has_password(items: &[Item], hash: &PasswordHash) -> Result<bool, Error> {
    Ok(password_of(items)?.is_some_and(|kept| kept.as_str() == hash.as_str()))
}

/// Enough of an address for its owner to know it again, and no more: who has only the link learns little.
pub(super) fn hidden_form(kind: &str, shown: &str) -> Box<str> {
    const DOTS: &str = "\u{2022}\u{2022}\u{2022}";
    let first = |text: &str| text.chars().take(1).collect::<String>();
    match (kind, shown.rsplit_once('@')) {
        ("email", Some((local, domain))) => format!("{}{DOTS}@{domain}", first(local)).into(),
        ("phone", _) => {
            let last: Vec<char> = shown.chars().rev().filter(char::is_ascii_digit).take(2).collect();
            format!("{DOTS}{}", last.iter().rev().collect::<String>()).into()
        }
        _ => format!("{}{DOTS}", first(shown)).into(),
    }
}

impl Passerby {
    /// Where the flow of an address is: from it nobody learns the address.
    pub(super) fn flow_place(
        &self,
        tenant: TenantNo,
        of: Use,
        within: Within,
        identifier: &Identifier,
    ) -> Result<[u8; 16], Error> {
        let of: &[u8] = match of {
            Use::Claim => b"claim",
            Use::SignIn => b"sign in",
            Use::Password => b"password",
        };
        let within = match within {
            Within::Client(no) => [&b"client "[..], &no.0.to_be_bytes()].concat(),
            Within::Tenant => b"tenant".to_vec(),
            Within::User(id) => [&b"user "[..], id.as_bytes()].concat(),
        };
        let parts = [of, &within, identifier.kind.as_str().as_bytes(), identifier.normal.as_bytes()];
        let hash = self.secrets_of(tenant)?.look_up_hash("flow", &parts);
        let mut place = [0; 16];
        place.copy_from_slice(&hash[..16]);
        Ok(place)
    }

    /// The record at a place, dead or alive.
    pub(super) async fn flow_record(&self, tenant: TenantNo, place: &[u8; 16]) -> Result<Option<Record>, Error> {
        Ok(self.store.record(tenant, RecordKind::Flow, record_id(place)).await?)
    }

    /// The living flow at a place, if it is this one.
    pub(super) async fn flow_at(
        &self,
        tenant: TenantNo,
        of: Use,
        place: &[u8; 16],
        flow: &[u8; 16],
        now: Timestamp,
    ) -> Result<Option<Flow>, Error> {
        let Some(record) = self.flow_record(tenant, place).await?.filter(|r| r.ends_at > now) else {
            return Ok(None);
        };
        let kept = read_flow(&record)?;
        let this = kept.of == of && same(&kept.bytes(), flow);
        Ok(this.then_some(Flow { record, kept }))
    }

    /// The living flow of a link, if the link is right.
    pub(super) async fn flow_of_link(
        &self,
        tenant: &Tenant,
        token: &LinkToken,
        now: Timestamp,
    ) -> Result<Option<Flow>, Error> {
        let flow = self.flow_at(tenant.no, token.of, &token.place, &token.flow, now).await?;
        let Some(flow) = flow else { return Ok(None) };
        let right = self.link_is_right(tenant.no, token, &flow.kept.sent, now)?;
        Ok(right.then_some(flow))
    }

    /// A new flow's secret id.
    #[expect(clippy::unused_self, reason = "reads as the other sources of ids do")]
    pub(super) fn secret_id(&self) -> Result<[u8; 16], Error> {
        let mut id = [0; 16];
        random(&mut id)?;
        Ok(id)
    }

    /// The client that a flow began with; `None`: it is no longer declared.
    pub(super) fn client_of<'a>(tenant: &'a Tenant, kept: &KeptFlow) -> Option<&'a std::sync::Arc<Client>> {
        tenant.clients_by_no.get(&ClientNo(kept.client))
    }
}

/// Reads what the core itself wrote.
pub(super) fn read_flow(record: &Record) -> Result<KeptFlow, Error> {
    serde_json::from_str(&record.body).map_err(|e| {
        tracing::error!(kind = ?record.kind, error = %e, "a record of the store cannot be read");
        Error::new(Code::Internal, "The server failed; this is its fault.")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_read_back_and_anything_else_is_none() {
        let id = flow_id(&[1; 16], &[2; 16]);
        assert_eq!(read_flow_id(&id), Some(([1; 16], [2; 16])));
        for text in ["", "x", "!!", &id[..42], &format!("{id}A"), &b64::encode(&[0; 31])] {
            assert_eq!(read_flow_id(text), None, "{text}");
        }
    }

    #[test]
    fn line_43_an_address_is_hidden_but_for_its_owner() {
        for (kind, shown, hidden) in [
            ("email", "anne@example.com", "a•••@example.com"),
            ("email", "é@b\u{fc}cher.example", "é•••@bücher.example"),
            ("phone", "+49 170 1234567", "•••67"),
            ("phone", "+", "•••"),
            ("username", "anne", "a•••"),
            ("username", "", "•••"),
        ] {
            assert_eq!(&*hidden_form(kind, shown), hidden);
        }
    }

    #[test]
    fn state_is_an_object_of_bounded_size() {
        let raw = |text: &str| RawValue::from_string(text.into()).unwrap();
        assert!(checked_state(None).unwrap().is_none());
        assert_eq!(checked_state(Some(&raw("{ \"a\" : [1] }"))).unwrap().unwrap().get(), r#"{"a":[1]}"#);
        let long = format!(r#"{{"a":"{}"}}"#, "x".repeat(MOST_STATE));
        for text in ["[]", "1", "null", "\"{}\"", &long, r#"{"a":1,"a":2}"#, r#"{"__proto__":1}"#] {
            let e = checked_state(Some(&raw(text))).unwrap_err();
            assert!(e.field.as_deref().is_some_and(|f| f.starts_with("/state")), "{text:.20}: {:?}", e.field);
        }
    }

    fn flow(created_at: i64) -> KeptFlow {
        let sent = OneTime { code: None, code_ends: 0, tries: 0, link: None, link_ends: 0, proven: false };
        KeptFlow {
            of: Use::Password,
            flow: b64::encode(&[7; 16]).into(),
            kind: "email".into(),
            normal: "a@b.example".into(),
            shown: "A@b.example".into(),
            client: 1,
            user: None,
            mailed: true,
            device: None,
            created_at,
            tries_since: created_at,
            redirect_uri: None,
            state: checked_state(Some(&RawValue::from_string("{\"a\":1}".into()).unwrap())).unwrap(),
            sent,
        }
    }

    #[test]
    fn a_flow_is_kept_and_read_back() {
        let kept = flow(5);
        let RecordChange::Put { record, was: None } = put(&[1; 32], None, &kept, Timestamp::from_millis(9)) else {
            panic!("not a new one");
        };
        let again = read_flow(&record).unwrap();
        assert_eq!((again.bytes(), again.of, again.created_at), ([7; 16], Use::Password, 5));
        assert_eq!(again.state.unwrap().get(), "{\"a\":1}");
        assert_eq!(again.sent.link_ends, 0);
    }

    #[test]
    fn line_28_what_is_newer_than_a_flow_voids_it() {
        let identifier = |at| KeptIdentifier {
            kind: "email".into(),
            normal: "a@b.example".into(),
            shown: "a@b.example".into(),
            at,
            proven: true,
        };
        let password = |at: i64| Item {
            kind: ItemKind::Password,
            id: [0; 32],
            revision: 1,
            ends_at: Timestamp::MAX,
            body: body(&KeptPassword { hash: "x".into(), at }),
        };
        let void = |at, set_at| flow(100).is_void_for(&identifier(at), &[password(set_at)]).unwrap();
        assert!(!void(99, 99) && !void(100, 100));
        assert!(void(101, 99) && void(99, 101));
        assert!(!flow(100).is_void_for(&identifier(1), &[]).unwrap());
    }
}
