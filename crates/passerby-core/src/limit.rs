//! Limits by rate: per address (an IPv6 /64 is one) and per client, each in this process. Time comes from the clock
//! port, so tests hold it still.

use std::{
    collections::HashMap,
    net::IpAddr,
    num::NonZeroU32,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use governor::{
    Quota, RateLimiter,
    clock::{Clock as GovernorClock, Reference},
    middleware::NoOpMiddleware,
    nanos::Nanos,
    state::keyed::DashMapStateStore,
};

use crate::{
    Code, Error,
    id::{ClientNo, TenantNo},
    port::Clock,
    settings::{Rate, RateLimits},
};

/// Above so many keys addresses are held together more coarsely (IPv4 /16, IPv6 /32): memory stays bounded.
const MOST_KEYS: usize = 500_000;

/// The clock port, as the limiter wants it.
#[derive(Clone)]
struct PortClock(Arc<dyn Clock>);

impl GovernorClock for PortClock {
    type Instant = Nanos;

    fn now(&self) -> Nanos {
        Nanos::new(self.0.monotonic_millis().unsigned_abs().saturating_mul(1_000_000))
    }
}

type Keyed<K> = RateLimiter<K, DashMapStateStore<K>, PortClock, NoOpMiddleware<Nanos>>;

struct Limiter<K: Clone + Eq + std::hash::Hash> {
    keyed: Keyed<K>,
    clock: PortClock,
    coarse: AtomicBool,
}

impl<K: Clone + Eq + std::hash::Hash> Limiter<K> {
    fn new(rate: Rate, clock: &PortClock) -> Option<Self> {
        let burst = NonZeroU32::new(rate.count)?;
        let quota = Quota::with_period(rate.per / rate.count)?.allow_burst(burst);
        Some(Self {
            keyed: RateLimiter::new(quota, DashMapStateStore::default(), clock.clone()),
            clock: clock.clone(),
            coarse: AtomicBool::new(false),
        })
    }

    fn check(&self, key: &K) -> Result<(), Duration> {
        self.keyed.check_key(key).map_err(|until| {
            Duration::from_nanos(until.earliest_possible().duration_since(self.clock.now()).into())
                .max(Duration::from_millis(1))
        })
    }

    fn tidy(&self) {
        self.keyed.retain_recent();
        self.keyed.shrink_to_fit();
        self.coarse.store(self.keyed.len() > MOST_KEYS, Ordering::Relaxed);
    }
}

/// The limiters of one tenant.
pub(crate) struct Limits {
    per_address: Option<Limiter<u64>>,
    per_client: Option<Limiter<ClientNo>>,
    sign_ins_per_address: Option<Limiter<u64>>,
    sign_ins_per_account: Option<Limiter<u64>>,
    messages_per_address: Option<Limiter<u64>>,
    messages_per_recipient: Option<Limiter<u64>>,
}

impl Limits {
    pub(crate) fn new(rates: &RateLimits, clock: &Arc<dyn Clock>) -> Self {
        let clock = PortClock(clock.clone());
        Self {
            per_address: rates.creations_per_address.and_then(|r| Limiter::new(r, &clock)),
            per_client: rates.creations_per_client.and_then(|r| Limiter::new(r, &clock)),
            sign_ins_per_address: rates.sign_ins_per_address.and_then(|r| Limiter::new(r, &clock)),
            sign_ins_per_account: rates.sign_ins_per_account.and_then(|r| Limiter::new(r, &clock)),
            messages_per_address: rates.messages_per_address.and_then(|r| Limiter::new(r, &clock)),
            messages_per_recipient: rates.messages_per_recipient.and_then(|r| Limiter::new(r, &clock)),
        }
    }

    /// Asked before a password or code is looked at. `account`: a number that stands for the identifier, whether or not
    /// anybody has it.
    pub(crate) fn sign_in(&self, address: IpAddr, account: u64) -> Result<(), Error> {
        let detail = "Too many sign-ins; wait and try again.";
        both(self.sign_ins_per_address.as_ref(), self.sign_ins_per_account.as_ref(), address, account, detail)
    }

    /// Asked before a message is sent.
    pub(crate) fn message(&self, address: IpAddr, recipient: u64) -> Result<(), Error> {
        let detail = "Too many messages; wait and try again.";
        both(self.messages_per_address.as_ref(), self.messages_per_recipient.as_ref(), address, recipient, detail)
    }

    /// Asked at every creation.
    pub(crate) fn creation(&self, address: IpAddr, client: ClientNo) -> Result<(), Error> {
        let too_many = |whose: &'static str, wait| {
            Err(Error::new(Code::TooManyRequests, format!("Too many guests were made {whose}; wait and try again."))
                .after(wait))
        };
        if let Some(limiter) = &self.per_address
            && let Err(wait) = limiter.check(&address_key(address, limiter.coarse.load(Ordering::Relaxed)))
        {
            return too_many("from this address", wait);
        }
        if let Some(limiter) = &self.per_client
            && let Err(wait) = limiter.check(&client)
        {
            return too_many("for this client", wait);
        }
        Ok(())
    }

    /// Forgets keys that are no longer limited.
    pub(crate) fn tidy(&self) {
        if let Some(l) = &self.per_client {
            l.tidy();
        }
        let by_number = [
            &self.per_address,
            &self.sign_ins_per_address,
            &self.sign_ins_per_account,
            &self.messages_per_address,
            &self.messages_per_recipient,
        ];
        for l in by_number.into_iter().flatten() {
            l.tidy();
        }
    }
}

fn both(
    per_address: Option<&Limiter<u64>>,
    per_other: Option<&Limiter<u64>>,
    address: IpAddr,
    other: u64,
    detail: &'static str,
) -> Result<(), Error> {
    let too_many = |wait| Error::new(Code::TooManyRequests, detail).after(wait);
    if let Some(limiter) = per_address {
        limiter.check(&address_key(address, limiter.coarse.load(Ordering::Relaxed))).map_err(too_many)?;
    }
    if let Some(limiter) = per_other {
        limiter.check(&other).map_err(too_many)?;
    }
    Ok(())
}

/// One number for what counts as one visitor: an IPv4 address, an IPv6 /64 (RFC 6177: what one site gets at least).
fn address_key(address: IpAddr, coarse: bool) -> u64 {
    match address.to_canonical() {
        IpAddr::V4(a) => {
            let bits = u64::from(a.to_bits());
            // the all-zero top half is never a /64 of the public Internet
            if coarse { bits & 0xffff_0000 } else { bits }
        }
        IpAddr::V6(a) => {
            let network = (a.to_bits() >> 64) as u64;
            if coarse { network & 0xffff_ffff_0000_0000 } else { network }
        }
    }
}

/// So many wrong codes from one address within [`WRONG_WINDOW_MS`], then nothing more is looked at.
const MOST_WRONG: u32 = 10;

/// Ten minutes.
const WRONG_WINDOW_MS: i64 = 600_000;

/// Guesses at hand-off and recovery codes, by tenant and address. One that is being looked at counts as well, so that
/// guesses at the same moment are not one too many.
#[derive(Default)]
pub(crate) struct WrongCodes {
    by_address: Mutex<HashMap<Guesser, Guesses>>,
}

type Guesser = (TenantNo, u64);

#[derive(Default)]
struct Guesses {
    wrong: u32,
    looked_at: u32,
    /// When the window began: monotonic milliseconds.
    since: i64,
}

/// A guess that is being looked at. Dropped without more it was a wrong one.
pub(crate) struct Guess<'a> {
    codes: &'a WrongCodes,
    by: Guesser,
    counts: bool,
}

impl Guess<'_> {
    /// The guess was right, or could not be looked at: it does not count.
    pub(crate) fn passes(mut self) {
        self.counts = false;
    }
}

impl Drop for Guess<'_> {
    fn drop(&mut self) {
        let mut map = self.codes.map();
        let Some(guesses) = map.get_mut(&self.by) else { return };
        guesses.looked_at = guesses.looked_at.saturating_sub(1);
        guesses.wrong += u32::from(self.counts);
        if guesses.wrong == 0 && guesses.looked_at == 0 {
            map.remove(&self.by);
        }
    }
}

impl WrongCodes {
    fn map(&self) -> MutexGuard<'_, HashMap<Guesser, Guesses>> {
        self.by_address.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets a guess be looked at; refuses it where too many were wrong. `monotonic`: milliseconds.
    ///
    /// # Errors
    /// [`Code::TooManyRequests`] with the wait.
    pub(crate) fn guess(&self, tenant: TenantNo, address: IpAddr, monotonic: i64) -> Result<Guess<'_>, Error> {
        let mut map = self.map();
        let by = (tenant, address_key(address, map.len() > MOST_KEYS));
        let guesses = map.entry(by).or_insert_with(|| Guesses { since: monotonic, ..Guesses::default() });
        if monotonic - guesses.since >= WRONG_WINDOW_MS {
            (guesses.wrong, guesses.since) = (0, monotonic);
        }
        let left = if guesses.wrong >= MOST_WRONG {
            Duration::from_millis((guesses.since + WRONG_WINDOW_MS - monotonic).unsigned_abs())
        } else if guesses.wrong + guesses.looked_at >= MOST_WRONG {
            // those before it may be right
            Duration::from_secs(1)
        } else {
            guesses.looked_at += 1;
            return Ok(Guess { codes: self, by, counts: true });
        };
        let detail = "Too many wrong codes from this address; wait and try again.";
        Err(Error::new(Code::TooManyRequests, detail).after(left))
    }

    /// A guess that counted was an earlier answer's, asked for again.
    pub(crate) fn forgive(&self, tenant: TenantNo, address: IpAddr) {
        let mut map = self.map();
        let by = (tenant, address_key(address, map.len() > MOST_KEYS));
        if let Some(guesses) = map.get_mut(&by) {
            guesses.wrong = guesses.wrong.saturating_sub(1);
        }
    }

    /// Forgets what no longer counts.
    pub(crate) fn tidy(&self, monotonic: i64) {
        self.map().retain(|_, g| g.looked_at > 0 || monotonic - g.since < WRONG_WINDOW_MS);
    }
}

/// What limiters are kept by.
pub(crate) type TenantLimits = HashMap<TenantNo, Limits>;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{testing::ManualClock, time::Timestamp};

    fn limits(rate: Rate) -> (Arc<ManualClock>, Limits) {
        let clock = Arc::new(ManualClock::new(Timestamp::from_seconds(1_790_000_000)));
        let port: Arc<dyn Clock> = clock.clone();
        (clock, Limits::new(&RateLimits { creations_per_address: Some(rate), ..RateLimits::default() }, &port))
    }

    #[test]
    fn ten_thousand_addresses_of_one_64_are_one_visitor() {
        let (_, limits) = limits(Rate { count: 5, per: Duration::from_mins(1) });
        let allowed = (0..10_000u128)
            .filter(|i| {
                let a = IpAddr::V6((0x2001_0db8_0001_0002_u128 << 64 | i).into());
                limits.creation(a, ClientNo(1)).is_ok()
            })
            .count();
        assert_eq!(allowed, 5);
        assert!(limits.creation("2001:db8:1:3::1".parse().unwrap(), ClientNo(1)).is_ok());
    }

    #[test]
    fn a_refusal_says_how_long_and_time_heals() {
        let (clock, limits) = limits(Rate { count: 2, per: Duration::from_secs(10) });
        let a: IpAddr = "203.0.113.9".parse().unwrap();
        assert!(limits.creation(a, ClientNo(1)).is_ok() && limits.creation(a, ClientNo(1)).is_ok());
        let e = limits.creation(a, ClientNo(1)).unwrap_err();
        assert_eq!(e.code, Code::TooManyRequests);
        let wait = e.wait.unwrap();
        assert!(wait > Duration::from_secs(4) && wait <= Duration::from_secs(5), "{wait:?}");
        clock.jump(86_400_000);
        assert!(limits.creation(a, ClientNo(1)).is_err(), "a jump of the wall clock gives nothing away");
        clock.advance(wait);
        assert!(limits.creation(a, ClientNo(1)).is_ok());
        // the mapped form of the same address is the same visitor
        assert!(limits.creation("::ffff:203.0.113.9".parse().unwrap(), ClientNo(1)).is_err());
        limits.tidy();
    }

    #[test]
    fn line_38_ten_wrong_codes_then_none_is_looked_at() {
        let wrong = WrongCodes::default();
        let (a, b): (IpAddr, IpAddr) = ("203.0.113.9".parse().unwrap(), "203.0.113.10".parse().unwrap());
        let tenant = TenantNo(1);
        for n in 0..100 {
            wrong.guess(tenant, a, n).unwrap().passes();
        }
        for n in 0..9 {
            drop(wrong.guess(tenant, a, 1000 + n).unwrap());
        }
        // the tenth is being looked at: those beside it wait for a moment, and no longer
        let tenth = wrong.guess(tenant, a, 1900).unwrap();
        let beside = wrong.guess(tenant, a, 1900).err().unwrap();
        assert_eq!((beside.code, beside.wait), (Code::TooManyRequests, Some(Duration::from_secs(1))));
        tenth.passes();
        drop(wrong.guess(tenant, a, 1900).unwrap());
        let e = wrong.guess(tenant, a, 2000).err().unwrap();
        assert_eq!((e.code, e.wait), (Code::TooManyRequests, Some(Duration::from_secs(599))));
        drop(wrong.guess(tenant, b, 2000).unwrap());
        drop(wrong.guess(TenantNo(2), a, 2000).unwrap());
        wrong.tidy(600_999);
        assert!(wrong.guess(tenant, a, 600_999).is_err());
        assert!(wrong.guess(tenant, a, 601_000).is_ok());
    }

    #[test]
    fn coarse_keys() {
        let key = |a: &str, coarse| address_key(a.parse().unwrap(), coarse);
        assert_ne!(key("203.0.113.9", false), key("203.0.1.1", false));
        assert_eq!(key("203.0.113.9", true), key("203.0.1.1", true));
        assert_eq!(key("2001:db8:1::1", true), key("2001:db8:2::1", true));
    }
}
