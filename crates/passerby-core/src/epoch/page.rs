//! Cursors, and pages of raised epochs that are shared by all who ask for the same.

use std::{
    fmt,
    sync::{Arc, OnceLock},
};

use passerby_jose::sha256;
use quick_cache::Weighter;

use super::{log::State, watch::EpochWatch};
use crate::{
    Timestamp,
    id::{TenantNo, UserId},
    model::EpochRow,
};

/// An answer with more raises than this is the same for a second, though others have risen meanwhile.
const SMALL: usize = 500;

/// How long such an answer, and one from the store, stays the same. Milliseconds.
const SAME: i64 = 1_000;

/// Whoever learns nothing new keeps the cursor for so many seconds, so that its next question has the same answer.
const KEEP: i64 = 60;

/// A raised epoch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// When it was decided, a whole second.
    pub at: Timestamp,
    /// Whose.
    pub user: UserId,
    /// The epoch from then on.
    pub epoch: i32,
    /// The user's id as the caller chose it: shown in the other one's place.
    pub chosen_id: Option<Box<str>>,
}

/// Up to where somebody was told: a second.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cursor(pub(super) i64);

/// The form of the cursor that is written today.
const VERSION: &str = "e1-";

impl Cursor {
    /// Reads what [`fmt::Display`] wrote, and nothing else.
    pub fn parse(text: &str) -> Option<Self> {
        let digits = text.strip_prefix(VERSION).filter(|d| d.len() <= 11)?;
        let second = i64::from_str_radix(digits, 16).ok()?;
        let cursor = Self(second);
        (second <= Timestamp::MAX.seconds() && cursor.to_string() == text).then_some(cursor)
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{VERSION}{:x}", self.0)
    }
}

/// Some raised epochs and where to go on. Shared by all who ask for the same.
#[derive(Debug)]
pub struct Page {
    /// The raises.
    pub entries: Box<[Entry]>,
    /// Where to go on.
    pub cursor: Cursor,
    /// The page was cut; the rest is to be asked for at once.
    pub more: bool,
    pub(super) basis: Basis,
    dressed: OnceLock<Dressed>,
}

/// A page as a door writes it.
#[derive(Debug, Clone)]
pub struct Dressed {
    /// Its bytes.
    pub body: Arc<[u8]>,
    /// A short hash of them.
    pub tag: [u8; 16],
}

/// How long an answer is the same.
#[derive(Debug, Clone, Copy)]
pub(super) enum Basis {
    /// A part of streams.
    Part,
    /// From memory as it was then.
    Memory(State, i64),
    /// From the store, up to a present of the monotonic clock; the number of the read.
    Present(i64, u64),
    /// From the store, and nothing that may still change.
    Settled,
}

impl Page {
    pub(super) fn new(entries: Vec<Entry>, cursor: Cursor, more: bool) -> Self {
        Self { entries: entries.into(), cursor, more, basis: Basis::Part, dressed: OnceLock::new() }
    }

    pub(super) fn on(self, basis: Basis) -> Arc<Self> {
        Arc::new(Self { basis, ..self })
    }

    /// The page as the door writes it: written once for all who ask.
    pub fn dressed(&self, write: impl FnOnce(&Self) -> Vec<u8>) -> &Dressed {
        self.dressed.get_or_init(|| {
            let body = write(self);
            let mut tag = [0; 16];
            tag.copy_from_slice(&sha256(&body)[..16]);
            Dressed { body: body.into(), tag }
        })
    }

    /// Whether the page is what would be answered now.
    pub(super) fn holds(&self, state: State, now: i64) -> bool {
        let young = |at: i64| (0..SAME).contains(&(now - at));
        match self.basis {
            Basis::Part => false,
            Basis::Memory(then, at) => then == state || (self.entries.len() > SMALL && young(at)),
            Basis::Present(at, _) => young(at),
            Basis::Settled => true,
        }
    }

    /// Whether everything is in it that was learnt, here, before a stream began.
    pub(super) fn covers(&self, watch: &EpochWatch) -> bool {
        match self.basis {
            Basis::Part => false,
            Basis::Memory(then, _) => then.head >= watch.head,
            Basis::Present(_, read) => read > watch.read,
            Basis::Settled => true,
        }
    }
}

/// Where to go on after a page that tells everything from `from` to the present.
pub(super) fn cursor_after(entries: &[Entry], from: i64, safe: i64) -> Cursor {
    Cursor(if entries.is_empty() && safe - from < KEEP { from } else { safe.max(from) })
}

#[derive(Debug, Clone)]
pub(super) struct Weigh;

impl Weighter<(TenantNo, i64), Arc<Page>> for Weigh {
    fn weight(&self, _: &(TenantNo, i64), page: &Arc<Page>) -> u64 {
        // an entry and its text
        let of_entry = |e: &Entry| 180 + 2 * e.chosen_id.as_ref().map_or(0, |id| id.len() as u64);
        256 + page.entries.iter().map(of_entry).sum::<u64>()
    }
}

impl From<EpochRow> for Entry {
    fn from(row: EpochRow) -> Self {
        Self { at: row.at, user: row.user, epoch: row.epoch, chosen_id: row.chosen_id }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cursors_have_one_spelling() {
        for second in [0, 1, 1_795_219_200, Timestamp::MAX.seconds()] {
            assert_eq!(Cursor::parse(&Cursor(second).to_string()), Some(Cursor(second)));
        }
        for text in [
            "",
            "e1-",
            "e1-g",
            "e1-01",
            "e1-+1",
            "e1--1",
            "e1-A",
            "e2-1",
            "1",
            "e1-1 ",
            "E1-1",
            "e1-fffffffffff",
            "e1-ffffffffffffffffffff",
            "é",
        ] {
            assert_eq!(Cursor::parse(text), None, "{text:?}");
        }
    }

    #[test]
    fn a_page_is_written_once() {
        let page = Page::new(Vec::new(), Cursor(7), false);
        let first = page.dressed(|_| b"one".to_vec()).clone();
        let again = page.dressed(|_| b"two".to_vec());
        assert_eq!((&*again.body, again.tag), (&b"one"[..], first.tag));
        assert_ne!(Page::new(Vec::new(), Cursor(7), false).dressed(|_| b"two".to_vec()).tag, first.tag);
    }

    #[test]
    fn whoever_learns_nothing_keeps_the_cursor_for_a_while() {
        assert_eq!(cursor_after(&[], 100, 130), Cursor(100));
        assert_eq!(cursor_after(&[], 100, 160), Cursor(160));
        let entry = Entry { at: Timestamp::default(), user: UserId::from_bytes([0; 16]), epoch: 1, chosen_id: None };
        assert_eq!(cursor_after(&[entry], 100, 130), Cursor(130));
    }
}
