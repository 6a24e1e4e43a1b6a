//! What tests hold still: a clock that is advanced by hand, randomness from a seed, a post that keeps what it is given
//! and passwords that cost nothing. Small enough to be always there.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use crate::{
    Error,
    message::{Delivery, Message, MessageKind, Parcel, Rendered, Wording},
    model::Target,
    password::{HashPool, HashSettings, Passwords, PoolSettings},
    port::{Clock, Post, Random, Wait},
    time::Timestamp,
};

/// A clock that moves only when told.
#[derive(Debug)]
pub struct ManualClock {
    wall: AtomicI64,
    monotonic: AtomicI64,
}

impl ManualClock {
    /// Starts at `at`.
    pub fn new(at: Timestamp) -> Self {
        Self { wall: AtomicI64::new(at.millis()), monotonic: AtomicI64::new(0) }
    }

    /// Time passes.
    pub fn advance(&self, span: Duration) {
        let ms = span.as_millis() as i64;
        self.wall.fetch_add(ms, Ordering::SeqCst);
        self.monotonic.fetch_add(ms, Ordering::SeqCst);
    }

    /// The wall clock jumps by so many milliseconds, back or ahead; no time passes.
    pub fn jump(&self, ms: i64) {
        self.wall.fetch_add(ms, Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_millis(self.wall.load(Ordering::SeqCst))
    }

    fn monotonic_millis(&self) -> i64 {
        self.monotonic.load(Ordering::SeqCst)
    }
}

/// A generator (splitmix64) that gives the same bytes for the same seed.
#[derive(Debug)]
pub struct SeededRandom(Mutex<u64>);

impl SeededRandom {
    /// From a seed.
    pub fn new(seed: u64) -> Self {
        Self(Mutex::new(seed))
    }
}

impl Random for SeededRandom {
    fn fill(&self, out: &mut [u8]) {
        let mut state = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        for chunk in out.chunks_mut(8) {
            *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut z = *state;
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            z ^= z >> 31;
            chunk.copy_from_slice(&z.to_le_bytes()[..chunk.len()]);
        }
    }
}

/// A post that keeps what it is given. Each try is answered with the next of `answers`, and with `Done` once there are
/// no more.
#[derive(Debug, Default)]
pub struct Pigeonhole {
    kept: Mutex<Vec<(String, Message)>>,
    answers: Mutex<VecDeque<Delivery>>,
}

impl Pigeonhole {
    /// How the next tries end.
    pub fn answer(&self, answers: impl IntoIterator<Item = Delivery>) {
        self.answers.lock().unwrap_or_else(PoisonError::into_inner).extend(answers);
    }

    /// All that was given since the last call, failed tries too: ids and messages.
    pub fn take(&self) -> Vec<(String, Message)> {
        std::mem::take(&mut self.kept.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Post for Pigeonhole {
    fn carries(&self, target: Target) -> bool {
        matches!(target, Target::Mail | Target::Sms)
    }

    fn deliver<'a>(&'a self, parcel: &'a Parcel) -> Wait<'a, Delivery> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).push((parcel.id.clone(), parcel.message.clone()));
        let answer = self.answers.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
        Box::pin(std::future::ready(answer.unwrap_or(Delivery::Done)))
    }

    fn render(&self, message: &Message, template: Option<&Wording>) -> Option<Rendered> {
        Some(Rendered(template.cloned().unwrap_or_else(|| self.built_in(message.kind))))
    }

    fn check(&self, _: MessageKind, template: &Wording) -> Result<Rendered, Error> {
        Ok(Rendered(template.clone()))
    }

    fn built_in(&self, kind: MessageKind) -> Wording {
        Wording { subject: kind.as_str().into(), text: kind.as_str().into(), html: None }
    }
}

/// Hashing that costs next to nothing.
///
/// # Panics
/// When the system gives no thread.
#[expect(clippy::expect_used, reason = "tests alone call it")]
pub fn quick_passwords() -> Passwords {
    let settings = PoolSettings::new(2, 1000).expect("within bounds");
    let pool = HashPool::new(settings).expect("a thread");
    Passwords { settings: HashSettings::FOR_TESTS, pool: Arc::new(pool) }
}
