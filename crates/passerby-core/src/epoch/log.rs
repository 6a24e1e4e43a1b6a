//! What this process remembers of raised epochs: by second for those who ask again and again, and in the order in which
//! it learnt of them for those who keep a stream open. Plain data under one lock; whoever holds it waits for nothing.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::Arc,
};

use futures_util::task::AtomicWaker;

use super::{Cursor, Entry, Page, page::Block};
use crate::id::{TenantNo, UserId};

/// So many raised epochs are remembered over all tenants, some 150 bytes each; older ones are read from the store.
pub(super) const REMEMBERED: usize = 200_000;

/// So many milliseconds lie at least between two parts of a stream: thousands of streams are not woken for each of many
/// raises by themselves.
pub(super) const GAP: i64 = 500;

/// So many parts are kept for streams whose readers are slow. One that is further behind goes on from its cursor.
const PARTS: usize = 64;

/// The same in entries, for parts that are long.
const PARTS_ENTRIES: usize = 50_000;

/// What all tenants raised.
pub(super) struct Log {
    tenants: HashMap<TenantNo, Raised>,
    /// The highest epoch of each user that is remembered.
    known: HashMap<(TenantNo, UserId), i32>,
    len: usize,
    room: usize,
    /// From this second on the store was read; `i64::MAX` before the first time.
    read_from: i64,
    /// Seconds before this one were forgotten, in part.
    forgotten: i64,
    /// What was raised before this second is all known.
    safe: i64,
    /// When the store was last read up to the present, on the monotonic clock.
    read_at: Option<i64>,
}

/// What one tenant raised.
#[derive(Default)]
struct Raised {
    seconds: BTreeMap<i64, Arc<Block>>,
    /// How many were learnt.
    head: u64,
    streams: HashMap<u64, Arc<AtomicWaker>>,
    /// Learnt, and in no part yet. Kept only while there are streams.
    pending: Vec<Entry>,
    parts: VecDeque<Arc<Page>>,
    /// The number of the part that will be made next.
    next_part: u64,
    /// When the last part was made, on the monotonic clock.
    parted_at: Option<i64>,
}

impl Default for Log {
    fn default() -> Self {
        Self::new(REMEMBERED)
    }
}

/// What a stream finds at its place.
pub(super) enum News {
    /// The next part, and the place after it.
    Part(Arc<Page>, u64),
    /// Its place is no longer kept; a new one.
    Lost(u64),
    /// There is something; it becomes a part in so many milliseconds.
    Soon(i64),
    /// Nothing.
    Nothing,
}

/// Where memory stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct State {
    /// From this second on everything is remembered; `i64::MAX`: nothing was read yet.
    pub whole_from: i64,
    /// See [`Log::safe`].
    pub safe: i64,
    /// See [`Log::read_at`].
    pub read_at: Option<i64>,
    /// How many raises of the tenant were learnt.
    pub head: u64,
}

impl Log {
    pub(super) fn new(room: usize) -> Self {
        Self {
            tenants: HashMap::new(),
            known: HashMap::new(),
            len: 0,
            room,
            read_from: i64::MAX,
            forgotten: 0,
            safe: 0,
            read_at: None,
        }
    }

    /// Learns of a raise; one that is known already changes nothing. A lower epoch says nothing beside a higher one, even
    /// where it was decided later by a clock that is ahead: whoever has been told the higher one needs no other.
    pub(super) fn learn(&mut self, tenant: TenantNo, entry: Entry) {
        let known = self.known.get(&(tenant, entry.user)).copied();
        if known.is_some_and(|epoch| epoch >= entry.epoch) {
            return;
        }
        let second = entry.at.seconds();
        let raised = self.tenants.entry(tenant).or_default();
        raised.head += 1;
        if !raised.streams.is_empty() {
            raised.pending.push(entry.clone());
            if raised.pending.len() == 1 {
                raised.wake();
            }
        }
        if second >= self.forgotten {
            self.known.insert((tenant, entry.user), entry.epoch);
            raised.seconds.entry(second).or_default().add(entry);
            self.len += 1;
        }
        while self.len > self.room {
            self.forget_oldest();
        }
    }

    fn forget_oldest(&mut self) {
        let oldest = self.tenants.values().filter_map(|r| r.seconds.keys().next()).min().copied();
        self.forget_before(oldest.map_or(i64::MAX, |second| second + 1));
    }

    /// Forgets what was raised before a second.
    pub(super) fn forget_before(&mut self, second: i64) {
        for (tenant, raised) in &mut self.tenants {
            while let Some(first) = raised.seconds.first_entry().filter(|e| *e.key() < second) {
                for entry in first.remove().entries() {
                    self.len -= 1;
                    if self.known.get(&(*tenant, entry.user)) == Some(&entry.epoch) {
                        self.known.remove(&(*tenant, entry.user));
                    }
                }
            }
        }
        self.forgotten = self.forgotten.max(second);
    }

    /// The store was read from a second up to the present, which was `at` on the monotonic clock: before `safe` nothing
    /// new can come up.
    pub(super) fn was_read(&mut self, from: i64, safe: i64, at: i64) {
        self.read_from = self.read_from.min(from);
        self.safe = safe;
        self.read_at = Some(at);
        // so that what waits for the end of a gap becomes a part although nobody raises any more
        for raised in self.tenants.values().filter(|r| !r.pending.is_empty()) {
            raised.wake();
        }
    }

    pub(super) fn state(&self, tenant: TenantNo) -> State {
        State {
            whole_from: self.read_from.max(self.forgotten),
            safe: self.safe,
            read_at: self.read_at,
            head: self.tenants.get(&tenant).map_or(0, |r| r.head),
        }
    }

    /// What a tenant raised from a second on, a block for each second: once there are `most` raises, no further second
    /// that is safe. The second from which to go on, where something was left.
    pub(super) fn since(&self, tenant: TenantNo, from: i64, most: usize) -> (Vec<Arc<Block>>, Option<i64>) {
        let (mut blocks, mut entries) = (Vec::new(), 0);
        for (&second, block) in self.tenants.get(&tenant).into_iter().flat_map(|r| r.seconds.range(from..)) {
            if entries >= most && second <= self.safe {
                return (blocks, Some(second));
            }
            entries += block.entries().len();
            blocks.push(block.clone());
        }
        (blocks, None)
    }

    /// A stream begins; it is told what is learnt from here on. Its place.
    pub(super) fn join(&mut self, tenant: TenantNo, stream: u64, waker: Arc<AtomicWaker>) -> u64 {
        let raised = self.tenants.entry(tenant).or_default();
        raised.streams.insert(stream, waker);
        raised.next_part
    }

    /// A stream ends.
    pub(super) fn leave(&mut self, tenant: TenantNo, stream: u64) {
        if let Some(raised) = self.tenants.get_mut(&tenant) {
            raised.streams.remove(&stream);
            if raised.streams.is_empty() {
                raised.pending = Vec::new();
                raised.parts = VecDeque::new();
            }
        }
    }

    /// Wakes all streams.
    pub(super) fn wake_all(&self) {
        self.tenants.values().for_each(Raised::wake);
    }

    /// Whether a stream at this place was told everything.
    pub(super) fn is_idle(&self, tenant: TenantNo, place: u64) -> bool {
        self.tenants.get(&tenant).is_none_or(|r| r.next_part == place && r.pending.is_empty())
    }

    /// What a stream finds at its place; `now` on the monotonic clock.
    pub(super) fn news(&mut self, tenant: TenantNo, place: u64, now: i64) -> News {
        let safe = self.safe;
        let Some(raised) = self.tenants.get_mut(&tenant) else { return News::Nothing };
        let first = raised.next_part - raised.parts.len() as u64;
        if place < first {
            return News::Lost(raised.next_part);
        }
        if let Some(part) = usize::try_from(place - first).ok().and_then(|n| raised.parts.get(n)) {
            return News::Part(part.clone(), place + 1);
        }
        if raised.pending.is_empty() {
            return News::Nothing;
        }
        // a clock that went back does not make anybody wait
        let since = raised.parted_at.map_or(GAP, |at| now - at);
        if (0..GAP).contains(&since) {
            return News::Soon(GAP - since);
        }
        let block = Block::new(std::mem::take(&mut raised.pending));
        let part = Arc::new(Page::new(vec![block], Cursor(safe), false));
        raised.parts.push_back(part.clone());
        raised.next_part += 1;
        raised.parted_at = Some(now);
        let mut entries: usize = raised.parts.iter().map(|p| p.len()).sum();
        while raised.parts.len() > PARTS || (entries > PARTS_ENTRIES && raised.parts.len() > 1) {
            entries -= raised.parts.pop_front().map_or(0, |p| p.len());
        }
        // others may have found nothing before this one made the part
        raised.wake();
        News::Part(part, place + 1)
    }
}

impl Raised {
    fn wake(&self) {
        self.streams.values().for_each(|waker| waker.wake());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Timestamp;

    const A: TenantNo = TenantNo(1);
    const B: TenantNo = TenantNo(2);

    fn entry(user: u8, epoch: i32, second: i64) -> Entry {
        let user = UserId::from_bytes([user; 16]);
        Entry { at: Timestamp::from_seconds(second), user, epoch, chosen_id: None }
    }

    fn users<'a>(entries: impl IntoIterator<Item = &'a Entry>) -> Vec<(u8, i32)> {
        entries.into_iter().map(|e| (e.user.as_bytes()[0], e.epoch)).collect()
    }

    fn since(log: &Log, tenant: TenantNo, from: i64) -> Vec<(u8, i32)> {
        let (blocks, next) = log.since(tenant, from, usize::MAX);
        assert_eq!(next, None);
        users(blocks.iter().flat_map(|b| b.entries()))
    }

    /// How many, and where to go on.
    fn four(log: &Log, from: i64) -> (usize, Option<i64>) {
        let (blocks, next) = log.since(A, from, 4);
        (blocks.iter().map(|b| b.entries().len()).sum(), next)
    }

    #[test]
    fn known_raises_and_lower_epochs_change_nothing() {
        let mut log = Log::new(10);
        log.learn(A, entry(1, 2, 100));
        for again in [entry(1, 2, 100), entry(1, 2, 101), entry(1, 1, 105)] {
            log.learn(A, again);
        }
        assert_eq!(since(&log, A, 0), [(1, 2)]);
        assert_eq!(log.state(A).head, 1);
        log.learn(A, entry(1, 3, 99));
        assert_eq!(since(&log, A, 0), [(1, 3), (1, 2)], "by second, not by arrival");
        log.learn(B, entry(1, 1, 99));
        assert_eq!(since(&log, B, 0), [(1, 1)], "another tenant's user of the same id");
        assert_eq!(since(&log, A, 100), [(1, 2)]);
    }

    #[test]
    fn memory_is_bounded_and_says_from_when_it_is_whole() {
        let mut log = Log::new(10);
        assert_eq!(log.state(A).whole_from, i64::MAX, "nothing was read");
        log.was_read(50, 90, 0);
        assert_eq!(log.state(A).whole_from, 50);
        for n in 0..200u8 {
            log.learn(if n % 2 == 0 { A } else { B }, entry(n, 1, 100 + i64::from(n / 4)));
        }
        assert!(log.len <= 10 && log.known.len() == log.len, "{} {}", log.len, log.known.len());
        let whole = log.state(A).whole_from;
        assert_eq!(since(&log, A, whole), [(192, 1), (194, 1), (196, 1), (198, 1)]);
        // what is older than memory is not taken up again, and what is forgotten may be learnt again
        let head = log.state(A).head;
        log.learn(A, entry(1, 1, whole - 1));
        assert_eq!((log.len, log.state(A).head), (8, head + 1));
        log.forget_before(1000);
        assert_eq!((log.len, log.known.len(), log.state(A).whole_from), (0, 0, 1000));
    }

    #[test]
    fn pages_end_between_two_seconds_that_are_safe() {
        let mut log = Log::new(100);
        for n in 0..30u8 {
            log.learn(A, entry(n, 1, 100 + i64::from(n / 3)));
        }
        log.was_read(0, 105, 0);
        assert_eq!(four(&log, 0), (6, Some(102)));
        assert_eq!(four(&log, 102), (6, Some(104)));
        assert_eq!(four(&log, 104), (18, None), "what may still change is always told to its end");
    }

    #[test]
    fn streams_share_parts_and_slow_ones_lose_their_place() {
        let mut log = Log::new(1000);
        log.learn(A, entry(0, 1, 100));
        let waker = Arc::new(AtomicWaker::new());
        let place = log.join(A, 1, waker.clone());
        let other = log.join(A, 2, waker.clone());
        assert!(matches!(log.news(A, place, 0), News::Nothing), "only what is new");
        log.learn(A, entry(1, 1, 100));
        log.learn(B, entry(2, 1, 100));
        let News::Part(part, place) = log.news(A, place, 10) else { panic!("at once") };
        assert_eq!(users(part.entries()), [(1, 1)]);
        let News::Part(same, other) = log.news(A, other, 11) else { panic!("the same") };
        assert!(Arc::ptr_eq(&part, &same));
        log.learn(A, entry(3, 1, 100));
        log.learn(A, entry(4, 1, 100));
        assert!(matches!(log.news(A, place, 10 + GAP / 2), News::Soon(ms) if ms == GAP / 2));
        let News::Part(part, _) = log.news(A, place, 10 + GAP) else { panic!("after the gap") };
        assert_eq!(users(part.entries()), [(3, 1), (4, 1)]);
        for n in 5..90u8 {
            log.learn(A, entry(n, 1, 100));
            let now = 1000 + i64::from(n) * GAP;
            assert!(matches!(log.news(A, log.tenants[&A].next_part, now), News::Part(..)));
        }
        assert_eq!(log.tenants[&A].parts.len(), PARTS);
        let News::Lost(place) = log.news(A, other, 100_000) else { panic!("too far behind") };
        assert!(matches!(log.news(A, place, 100_000), News::Nothing));
        log.leave(A, 1);
        log.leave(A, 2);
        log.learn(A, entry(91, 1, 100));
        assert!(log.tenants[&A].pending.is_empty() && log.tenants[&A].parts.is_empty(), "nobody listens");
        // whoever comes next is not told what its first pages tell
        let place = log.join(A, 3, waker);
        assert!(matches!(log.news(A, place, 200_000), News::Nothing));
    }
}
