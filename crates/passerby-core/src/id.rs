//! Ids of users and sessions: made from the time and randomness that are passed in, or read back.

use std::{
    fmt,
    sync::atomic::{AtomicI64, Ordering},
};

use uuid::Uuid;

use crate::{port::Random, time::Timestamp};

macro_rules! uuid_newtype {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Uuid);

        impl $name {
            /// From the sixteen bytes that the stores keep.
            pub fn from_bytes(bytes: [u8; 16]) -> Self {
                Self(Uuid::from_bytes(bytes))
            }

            /// The sixteen bytes that the stores keep.
            pub fn as_bytes(&self) -> &[u8; 16] {
                self.0.as_bytes()
            }

            /// As a UUID.
            pub fn uuid(self) -> Uuid {
                self.0
            }

            /// Reads the hyphenated, lower-case form.
            pub fn parse(text: &str) -> Option<Self> {
                // only the form that is printed: one id has one spelling
                let lower = |b: u8| !b.is_ascii_uppercase();
                (text.len() == 36 && text.bytes().all(lower)).then(|| Uuid::try_parse(text).ok()).flatten().map(Self)
            }

            /// Writes the hyphenated form into `buffer` and lends it: no allocation on the guest path.
            pub fn write(self, buffer: &mut [u8; 36]) -> &str {
                self.0.hyphenated().encode_lower(buffer)
            }
        }

        impl From<Uuid> for $name {
            fn from(id: Uuid) -> Self {
                Self(id)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.hyphenated().fmt(f)
            }
        }
    };
}

uuid_newtype! {
    /// The key of a user: a UUIDv7, any UUID that the caller chose, or the UUID of a chosen string's keyed hash.
    UserId
}
uuid_newtype! {
    /// A session: a UUIDv7.
    SessionId
}

/// The short number under which a store keeps a tenant; it begins every key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TenantNo(pub i32);

/// The short number under which a store keeps a client of a tenant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClientNo(pub i32);

impl ClientNo {
    /// No client: of a user that a back end made. Stores number clients from 1.
    pub const NONE: Self = Self(0);
}

/// Whether a caller may choose this text as a user's id: 1 to 255 printable characters, not all of them blank. A UUID with
/// hyphens is written in lower case and without more around it: in another spelling it would be a second user, and one and the same to whoever
/// compares UUIDs.
pub(crate) fn may_be_chosen(id: &str) -> bool {
    is_opaque_id(id) && (!id.contains('-') || uuid::Uuid::parse_str(id).map_or(true, |uuid| uuid.to_string() == id))
}

/// Whether a text may name something of another system's: 1 to 255 printable characters, not all of them blank.
pub(crate) fn is_opaque_id(id: &str) -> bool {
    let printable =
        |c: char| !c.is_control() && !matches!(c, '\u{2028}' | '\u{2029}' | '\u{feff}' | '\u{fffe}' | '\u{ffff}');
    (1..=255).contains(&id.chars().count()) && id.chars().all(printable) && !id.trim().is_empty()
}

/// Makes time-ordered ids. Ids never fall behind the last one made here, even when the wall clock does: the stores
/// append at one end of their trees only while ids grow.
#[derive(Debug, Default)]
pub struct IdMaker {
    last: AtomicI64,
}

/// What one creation needs, drawn from the generator in a single call.
#[derive(Debug, Clone, Copy)]
pub struct FreshIds {
    /// The new user.
    pub user: UserId,
    /// The new session.
    pub session: SessionId,
    /// The access token's `jti`.
    pub token: [u8; 16],
}

impl IdMaker {
    /// Ids made from here on are not behind `at`.
    pub fn not_before(&self, at: Timestamp) {
        self.last.fetch_max(at.millis(), Ordering::Relaxed);
    }

    fn v7(&self, now: Timestamp, random: &[u8]) -> Uuid {
        let ms = self.last.fetch_max(now.millis(), Ordering::Relaxed).max(now.millis());
        let mut tail = [0u8; 10];
        tail.copy_from_slice(&random[..10]);
        uuid::Builder::from_unix_timestamp_millis(ms as u64, &tail).into_uuid()
    }

    /// Ids for a creation.
    pub fn fresh(&self, now: Timestamp, random: &dyn Random) -> FreshIds {
        let mut bytes = [0u8; 36];
        random.fill(&mut bytes);
        let mut token = [0u8; 16];
        token.copy_from_slice(&bytes[20..]);
        FreshIds { user: UserId(self.v7(now, &bytes[..10])), session: SessionId(self.v7(now, &bytes[10..20])), token }
    }
}

/// A `jti`: 128 random bits.
pub fn token_id(random: &dyn Random) -> [u8; 16] {
    let mut bytes = [0u8; 16];
    random.fill(&mut bytes);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::SeededRandom;

    #[test]
    fn ids_do_not_fall_behind_when_the_clock_does() {
        let (maker, random) = (IdMaker::default(), SeededRandom::new(1));
        let first = maker.fresh(Timestamp::from_millis(2_000_000), &random);
        let second = maker.fresh(Timestamp::from_millis(1_000), &random);
        assert_eq!(&first.user.as_bytes()[..6], &second.user.as_bytes()[..6]);
        assert_ne!(first.user, second.user);
        assert_eq!(first.user.uuid().get_version_num(), 7);
    }

    #[test]
    fn one_spelling() {
        let id = "018f2d5e-0000-7abc-8def-0123456789ab";
        assert_eq!(UserId::parse(id).unwrap().to_string(), id);
        for other in [
            "018f2d5e00007abc8def0123456789ab",
            "{018f2d5e-0000-7abc-8def-0123456789ab}",
            "urn:uuid:018f2d5e-0000-7abc-8def-0123456789ab",
            "",
        ] {
            assert!(UserId::parse(other).is_none(), "{other}");
        }
    }
}
