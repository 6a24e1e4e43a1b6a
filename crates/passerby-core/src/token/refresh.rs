//! Refresh tokens are computed, not kept: HMAC(tenant's key; user, session, epoch, generation). The row holds the
//! generation only; a stolen database signs in nowhere, and the same successor can be given twice.

use std::time::Duration;

use passerby_jose::{MacKey, b64, same};

use crate::{
    id::{SessionId, UserId},
    model::Session,
    time::Timestamp,
};

/// Marks the kind for people and scanners of leaked secrets.
const PREFIX: &str = "pbr_";
const MAC: usize = 24;
const LENGTH: usize = 16 + 16 + 4 + 4 + MAC;

/// For so long after a rotation the last three tokens yield the newest: tabs of one browser.
const GRACE: Duration = Duration::from_secs(10);

/// What a refresh token says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RefreshToken {
    pub(crate) user: UserId,
    pub(crate) session: SessionId,
    pub(crate) epoch: i32,
    pub(crate) generation: i32,
}

impl RefreshToken {
    fn body(&self) -> [u8; 40] {
        let mut out = [0u8; 40];
        out[..16].copy_from_slice(self.user.as_bytes());
        out[16..32].copy_from_slice(self.session.as_bytes());
        out[32..36].copy_from_slice(&self.epoch.to_be_bytes());
        out[36..].copy_from_slice(&self.generation.to_be_bytes());
        out
    }

    /// The token's text.
    pub(crate) fn write(&self, key: &MacKey) -> String {
        let body = self.body();
        let mut all = [0u8; LENGTH];
        all[..40].copy_from_slice(&body);
        all[40..].copy_from_slice(&key.mac(&[&body])[..MAC]);
        let mut out = Vec::with_capacity(PREFIX.len() + LENGTH.div_ceil(3) * 4);
        out.extend_from_slice(PREFIX.as_bytes());
        b64::encode_into(&all, &mut out);
        String::from_utf8(out).unwrap_or_default()
    }

    /// Reads a token that this key made.
    pub(crate) fn read(text: &str, key: &MacKey) -> Option<Self> {
        let all: [u8; LENGTH] = b64::decode(text.strip_prefix(PREFIX)?)?.try_into().ok()?;
        if !same(&key.mac(&[&all[..40]])[..MAC], &all[40..]) {
            return None;
        }
        let part = |from: usize| <[u8; 4]>::try_from(&all[from..from + 4]).map(i32::from_be_bytes).ok();
        Some(Self {
            user: UserId::from_bytes(all[..16].try_into().ok()?),
            session: SessionId::from_bytes(all[16..32].try_into().ok()?),
            epoch: part(32)?,
            generation: part(36)?,
        })
    }

    /// Whether a text looks like one, without its key.
    pub(crate) fn looks_like(text: &str) -> bool {
        text.starts_with(PREFIX)
    }
}

/// What to do with a refresh token of a living session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Decision {
    /// It is the newest: rotate.
    Rotate,
    /// One of the last three (the newest and two before it) within ten seconds of the rotation: the newest again,
    /// nothing changes.
    Same,
    /// The previous one, late, its successor unused: the same successor, and remember that it was late.
    Late,
    /// Anything older, or late for a second generation running: end the session (RFC 9700 section 4.14.2).
    Reuse,
}

/// Decides. Pure: the session's row, the token's generation, the time.
pub(crate) fn decide(session: &Session, generation: i32, now: Timestamp) -> Decision {
    let behind = i64::from(session.generation) - i64::from(generation);
    let fresh = session.rotated_at.is_some_and(|at| now.since(at) <= GRACE);
    match behind {
        0 => Decision::Rotate,
        1 | 2 if fresh => Decision::Same,
        1 => match session.late_generation {
            // asked again for the same lost answer
            Some(late) if late == session.generation => Decision::Late,
            Some(late) if late == session.generation - 1 => Decision::Reuse,
            _ => Decision::Late,
        },
        // a generation that was never made cannot carry a good MAC; the arm is for old ones
        _ => Decision::Reuse,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{id::ClientNo, model::SessionKind};

    fn session(generation: i32, rotated_at: i64, late: Option<i32>) -> Session {
        Session {
            id: SessionId::from_bytes([2; 16]),
            client: ClientNo(1),
            kind: SessionKind::Tokens,
            created_at: Timestamp::from_seconds(0),
            active_at: Timestamp::from_seconds(0),
            ended_at: None,
            generation,
            rotated_at: (generation > 0).then(|| Timestamp::from_seconds(rotated_at)),
            late_generation: late,
            has_denied_tokens: false,
            metadata: None,
            parent: None,
            key: None,
            bound: false,
        }
    }

    #[test]
    fn forgiveness_and_its_end() {
        let at = Timestamp::from_seconds;
        let s = session(3, 100, None);
        assert_eq!(decide(&s, 3, at(500)), Decision::Rotate);
        for old in [1, 2] {
            assert_eq!(decide(&s, old, at(110)), Decision::Same, "tabs, generation {old}");
        }
        assert_eq!(decide(&s, 0, at(101)), Decision::Reuse, "not among the last three");
        assert_eq!(decide(&s, 2, at(111)), Decision::Late, "a phone in a tunnel");
        assert_eq!(decide(&s, 1, at(111)), Decision::Reuse);
        assert_eq!(decide(&session(3, 100, Some(3)), 2, at(500)), Decision::Late, "the same lost answer again");
        assert_eq!(decide(&session(4, 600, Some(3)), 3, at(700)), Decision::Reuse, "late two generations running");
        assert_eq!(decide(&session(5, 600, Some(3)), 4, at(700)), Decision::Late);
        assert_eq!(decide(&s, 2, at(1)), Decision::Same, "a clock that went back ends no session");
    }

    proptest! {
        #[test]
        fn only_its_own_key_reads_it(user: [u8; 16], sid: [u8; 16], epoch: i32, generation: i32, flip in 0usize..64, bit in 0u8..8) {
            let key = MacKey::new(b"k1");
            let token = RefreshToken { user: UserId::from_bytes(user), session: SessionId::from_bytes(sid), epoch, generation };
            let text = token.write(&key);
            prop_assert_eq!(RefreshToken::read(&text, &key), Some(token));
            prop_assert_eq!(RefreshToken::read(&text, &MacKey::new(b"k2")), None);
            let mut bytes = b64::decode(&text[4..]).unwrap();
            bytes[flip] ^= 1 << bit;
            let forged = format!("pbr_{}", b64::encode(&bytes));
            prop_assert_eq!(RefreshToken::read(&forged, &key), None);
        }

        #[test]
        fn reading_never_panics(text in ".{0,200}") {
            let _ = RefreshToken::read(&text, &MacKey::new(b"k"));
            let _ = RefreshToken::read(&format!("pbr_{text}"), &MacKey::new(b"k"));
        }

        #[test]
        fn a_thief_beside_the_owner_is_found(uses in prop::collection::vec((any::<bool>(), 0i64..40), 3..40)) {
            // owner and thief each hold a copy of generation 0 and use the newest they know; whenever both have used
            // theirs with more than the grace between, twice over, the session must have ended
            let (mut owner, mut thief) = (0, 0);
            let mut s = session(0, 0, None);
            let mut now = 0;
            for (is_owner, wait) in uses {
                now += wait;
                let mine = if is_owner { &mut owner } else { &mut thief };
                match decide(&s, *mine, Timestamp::from_seconds(now)) {
                    Decision::Rotate => {
                        s.generation += 1;
                        s.rotated_at = Some(Timestamp::from_seconds(now));
                        *mine = s.generation;
                    }
                    Decision::Same => *mine = s.generation,
                    Decision::Late => {

                        prop_assert!(s.late_generation != Some(s.generation - 1), "two generations running");
                        s.late_generation = Some(s.generation);
                        *mine = s.generation;
                    }
                    Decision::Reuse => return Ok(()),
                }
            }
        }
    }
}
