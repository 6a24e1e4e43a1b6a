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

/// Raises that stand together: of one second, or of one part of a stream. What a door writes of them is written once,
/// however many answers they stand in.
#[derive(Debug, Default)]
pub(super) struct Block {
    entries: Vec<Entry>,
    dressed: OnceLock<Dressed>,
}

/// Some raised epochs and where to go on. Shared by all who ask for the same.
#[derive(Debug)]
pub struct Page {
    blocks: Box<[Arc<Block>]>,
    /// Where to go on.
    pub cursor: Cursor,
    /// The page was cut; the rest is to be asked for at once.
    pub more: bool,
    pub(super) basis: Basis,
    dressed: OnceLock<Dressed>,
}

/// Raises as a door writes them.
#[derive(Debug, Clone)]
pub struct Dressed {
    /// The bytes.
    pub body: Arc<[u8]>,
    /// A short hash of them.
    pub tag: [u8; 16],
}

impl Dressed {
    fn new(body: Vec<u8>, tagged: &[u8]) -> Self {
        let mut tag = [0; 16];
        tag.copy_from_slice(&sha256(tagged)[..16]);
        Self { body: body.into(), tag }
    }
}

impl Block {
    pub(super) fn new(entries: Vec<Entry>) -> Arc<Self> {
        Arc::new(Self { entries, dressed: OnceLock::new() })
    }

    /// Adds a raise; answers that hold the block already stay as they are.
    pub(super) fn add(self: &mut Arc<Self>, entry: Entry) {
        if let Some(block) = Arc::get_mut(self) {
            block.dressed = OnceLock::new();
            block.entries.push(entry);
        } else {
            let mut entries = Vec::with_capacity(self.entries.len() + 64);
            entries.extend_from_slice(&self.entries);
            entries.push(entry);
            *self = Self::new(entries);
        }
    }

    pub(super) fn entries(&self) -> &[Entry] {
        &self.entries
    }
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
    pub(super) fn new(blocks: Vec<Arc<Block>>, cursor: Cursor, more: bool) -> Self {
        Self { blocks: blocks.into(), cursor, more, basis: Basis::Part, dressed: OnceLock::new() }
    }

    pub(super) fn on(self, basis: Basis) -> Arc<Self> {
        Arc::new(Self { basis, ..self })
    }

    /// The raises.
    pub fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.blocks.iter().flat_map(|block| &block.entries)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.blocks.iter().map(|block| block.entries.len()).sum()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.blocks.iter().all(|block| block.entries.is_empty())
    }

    /// The page as the door writes it, once for all who ask: `block` writes raises that stand together, at least one,
    /// `page` puts together what it wrote.
    pub fn dressed(
        &self,
        block: impl Fn(&[Entry]) -> Vec<u8>,
        page: impl FnOnce(&Self, &[&[u8]]) -> Vec<u8>,
    ) -> &Dressed {
        self.dressed.get_or_init(|| {
            let written = |b: &Block| {
                let body = block(&b.entries);
                let tag = sha256(&body);
                Dressed::new(body, &tag)
            };
            let blocks = self.blocks.iter().filter(|b| !b.entries.is_empty());
            let blocks: Vec<&Dressed> = blocks.map(|b| b.dressed.get_or_init(|| written(b))).collect();
            let bodies: Vec<&[u8]> = blocks.iter().map(|d| &*d.body).collect();
            // of the hashes: hashing a long answer takes as long as sending it
            let mut tagged = format!("{} {} ", self.cursor, self.more).into_bytes();
            tagged.extend(blocks.iter().flat_map(|d| d.tag));
            Dressed::new(page(self, &bodies), &tagged)
        })
    }

    /// Whether the page is what would be answered now.
    pub(super) fn holds(&self, state: State, now: i64) -> bool {
        let young = |at: i64| (0..SAME).contains(&(now - at));
        match self.basis {
            Basis::Part => false,
            Basis::Memory(then, at) => then == state || (young(at) && self.len() > SMALL),
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
pub(super) fn cursor_after(nothing: bool, from: i64, safe: i64) -> Cursor {
    Cursor(if nothing && safe - from < KEEP { from } else { safe.max(from) })
}

#[derive(Debug, Clone)]
pub(super) struct Weigh;

impl Weighter<(TenantNo, i64), Arc<Page>> for Weigh {
    fn weight(&self, _: &(TenantNo, i64), page: &Arc<Page>) -> u64 {
        // an entry and its text, though pages share them
        let of_entry = |e: &Entry| 180 + 2 * e.chosen_id.as_ref().map_or(0, |id| id.len() as u64);
        256 + page.entries().map(of_entry).sum::<u64>()
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

    fn entry(user: u8) -> Entry {
        Entry { at: Timestamp::default(), user: UserId::from_bytes([user; 16]), epoch: 1, chosen_id: None }
    }

    fn text(page: &Page) -> (String, [u8; 16]) {
        let block = |entries: &[Entry]| entries.iter().map(|e| e.user.as_bytes()[0]).collect();
        let dressed =
            page.dressed(block, |page, blocks| [&blocks.join(&b','), page.cursor.to_string().as_bytes()].concat());
        (String::from_utf8(dressed.body.to_vec()).unwrap(), dressed.tag)
    }

    #[test]
    fn raises_are_written_once_and_pages_tell_themselves_apart() {
        let mut block = Block::new(vec![entry(b'a'), entry(b'b')]);
        let (other, none) = (Block::new(vec![entry(b'c')]), Block::new(Vec::new()));
        let page = Page::new(vec![block.clone(), none, other.clone()], Cursor(7), false);
        let (body, tag) = text(&page);
        assert_eq!((&*body, page.len(), page.is_empty()), ("ab,ce1-7", 3, false));
        let written: Vec<_> = page.blocks.iter().filter_map(|b| b.dressed.get()).map(|d| d.body.as_ptr()).collect();
        assert_eq!(written.len(), 2);
        // another page of the same block takes what was written
        let same = Page::new(vec![block.clone(), other.clone()], Cursor(7), false);
        assert_eq!(text(&same), (body.clone(), tag));
        assert_eq!(same.blocks[0].dressed.get().unwrap().body.as_ptr(), written[0]);
        // and keeps it when the block grows
        block.add(entry(b'd'));
        assert_eq!(text(&page), (body, tag));
        let grown = Page::new(vec![block.clone(), other.clone()], Cursor(7), false);
        assert_eq!(text(&grown).0, "abd,ce1-7");
        drop((grown, page, same));
        block.add(entry(b'e'));
        assert!(block.dressed.get().is_none(), "a block that grew in place is written anew");
        let tags = [
            tag,
            text(&Page::new(vec![block, other.clone()], Cursor(7), false)).1,
            text(&Page::new(vec![other.clone()], Cursor(7), true)).1,
            text(&Page::new(vec![other.clone()], Cursor(8), false)).1,
            text(&Page::new(vec![other], Cursor(7), false)).1,
        ];
        assert!((0..5).all(|n| !tags[..n].contains(&tags[n])));
    }

    #[test]
    fn whoever_learns_nothing_keeps_the_cursor_for_a_while() {
        assert_eq!(cursor_after(true, 100, 130), Cursor(100));
        assert_eq!(cursor_after(true, 100, 160), Cursor(160));
        assert_eq!(cursor_after(false, 100, 130), Cursor(130));
    }
}
