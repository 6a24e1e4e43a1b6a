//! What runs in the background, a pass each second: touches, limits, keys of other processes, rotation, sweeping.

use std::{
    sync::atomic::{AtomicBool, AtomicI64, Ordering},
    time::Duration,
};

use crate::{
    Error, Timestamp,
    id::TenantNo,
    passerby::Passerby,
    port::{Act, Clock, Touch},
};

/// The wall clock may run off the monotonic one, or the store's heartbeat, by so much before deleting jobs stop.
const TRUST: i64 = 3_600_000;

/// So long after a start that found an old heartbeat deleting jobs wait: it may have been a long stop, or a clock that
/// jumped ahead.
const PROBATION_MS: i64 = 86_400_000;

/// One pass of sweeping takes no longer, in milliseconds; the next begins a minute after it began. Less than a server that
/// stops waits for what it does.
const SWEEP_FOR: i64 = 5_000;

/// So many touches are kept for another try.
const MOST_TOUCHES: usize = 200_000;

/// When each job ran last, on the monotonic clock.
pub(crate) struct Jobs {
    started_wall: i64,
    started_monotonic: i64,
    trusted_from: AtomicI64,
    keys: AtomicI64,
    beat: AtomicI64,
    sweep: AtomicI64,
    limits: AtomicI64,
    key_uses: AtomicI64,
    declared_keys: AtomicBool,
}

impl Jobs {
    pub(crate) fn new(clock: &dyn Clock) -> Self {
        let monotonic = clock.monotonic_millis();
        Self {
            started_wall: clock.now().millis(),
            started_monotonic: monotonic,
            trusted_from: AtomicI64::new(monotonic),
            keys: AtomicI64::new(monotonic),
            beat: AtomicI64::new(i64::MIN / 2),
            sweep: AtomicI64::new(monotonic),
            limits: AtomicI64::new(monotonic),
            key_uses: AtomicI64::new(monotonic),
            declared_keys: AtomicBool::new(false),
        }
    }

    fn due(last: &AtomicI64, monotonic: i64, every: Duration) -> bool {
        let due = monotonic.saturating_sub(last.load(Ordering::Relaxed)) >= every.as_millis() as i64;
        if due {
            last.store(monotonic, Ordering::Relaxed);
        }
        due
    }
}

impl Passerby {
    /// One pass over what is due. The program calls it each second; tests call it when they like. Faults are logged
    /// and met again at the next pass.
    pub async fn run_jobs(&self) {
        let monotonic = self.clock.monotonic_millis();
        let seconds = Duration::from_secs;
        if let Err(e) = self.flush_touches().await {
            tracing::warn!(error = %e, "touches were not written; they will be tried again");
        }
        if !self.jobs.declared_keys.load(Ordering::Relaxed) {
            match self.ensure_declared_keys().await {
                Ok(()) => self.jobs.declared_keys.store(true, Ordering::Relaxed),
                Err(e) => tracing::warn!(error = %e, "declared keys will be made at the next pass"),
            }
        }
        if Jobs::due(&self.jobs.limits, monotonic, seconds(5)) {
            self.tidy_limits();
        }
        if Jobs::due(&self.jobs.key_uses, monotonic, seconds(60))
            && let Err(e) = self.flush_key_uses().await
        {
            tracing::warn!(error = %e, "uses of API keys were not written; they will be tried again");
        }
        if Jobs::due(&self.jobs.keys, monotonic, seconds(5))
            && let Err(e) = self.reload_keys().await
        {
            tracing::warn!(error = %e, "signing keys were not read again");
        }
        let trusted = self.clock_is_trusted();
        self.counts().clock_distrusted.store(u64::from(!trusted), Ordering::Relaxed);
        // after an hour of keeping step the clock may be told to the store, so that the next start trusts it at once
        let steady = self.clock_keeps_step() && monotonic - self.jobs.started_monotonic >= TRUST;
        if (trusted || steady) && Jobs::due(&self.jobs.beat, monotonic, seconds(60)) {
            let now = self.clock.now().millis().to_be_bytes().to_vec();
            if let Err(e) = self.commit(TenantNo(0), None, Act::SetMeta("heartbeat", now)).await {
                tracing::warn!(error = %e, "the heartbeat was not written");
            }
        }
        if trusted && Jobs::due(&self.jobs.sweep, monotonic, seconds(60)) {
            if let Err(e) = self.rotate_due().await {
                tracing::warn!(error = %e, "key rotation will be tried again");
            }
            self.sweep().await;
        }
    }

    async fn sweep(&self) {
        // an access token that an epoch voids lives no longer, clocks that differ included
        let epochs_before = self.now().minus(self.settings().longest_access_token() + Duration::from_mins(5));
        let began = self.clock.monotonic_millis();
        // of all tenants at once, in short transactions: other writers go between two of them. What is left by then is
        // the next pass's.
        while self.clock.monotonic_millis() - began < SWEEP_FOR {
            match self.commit(TenantNo(0), None, Act::Sweep { limit: 500, epochs_before }).await {
                Ok(crate::port::Committed::Swept(n)) if n > 0 => {}
                Ok(_) => break,
                Err(e) => {
                    tracing::warn!(error = %e, "sweeping will be tried again");
                    break;
                }
            }
        }
    }

    /// Whether deleting jobs may run: the wall clock keeps step with the monotonic one, and the store's last
    /// heartbeat was neither ahead nor, unless a day has passed since, long behind.
    pub(crate) fn clock_is_trusted(&self) -> bool {
        self.clock_keeps_step() && self.clock.monotonic_millis() >= self.jobs.trusted_from.load(Ordering::Relaxed)
    }

    fn clock_keeps_step(&self) -> bool {
        let expected = self.jobs.started_wall + (self.clock.monotonic_millis() - self.jobs.started_monotonic);
        (self.clock.now().millis() - expected).abs() <= TRUST
    }

    /// At start: ids go on where the store's last heartbeat was, and a clock that looks wrong is not trusted.
    pub(crate) async fn look_at_heartbeat(&self) -> Result<(), Error> {
        let Some(beat) = self.store.meta("heartbeat").await? else { return Ok(()) };
        let Ok(bytes) = <[u8; 8]>::try_from(beat.as_slice()) else { return Ok(()) };
        let beat = i64::from_be_bytes(bytes);
        let now = self.clock.now().millis();
        let monotonic = self.clock.monotonic_millis();
        if beat > now + TRUST {
            tracing::warn!(
                heartbeat = %Timestamp::from_millis(beat),
                "the clock is behind the store's last heartbeat; nothing is deleted until it has caught up, or for a day"
            );
            self.jobs.trusted_from.store(monotonic.saturating_add((beat - now).min(PROBATION_MS)), Ordering::Relaxed);
        } else {
            self.ids.not_before(Timestamp::from_millis(beat));
            if now - beat > TRUST {
                tracing::info!(
                    heartbeat = %Timestamp::from_millis(beat),
                    "the store was last used long ago, or the clock is ahead; nothing is deleted for a day"
                );
                self.jobs.trusted_from.store(monotonic.saturating_add(PROBATION_MS), Ordering::Relaxed);
            }
        }
        Ok(())
    }

    /// Writes what was touched since the last pass.
    pub(crate) async fn flush_touches(&self) -> Result<(), Error> {
        let pending = std::mem::take(&mut *self.touches.lock().unwrap_or_else(std::sync::PoisonError::into_inner));
        let mut list: Vec<Touch> =
            pending.into_iter().map(|((tenant, user, session), at)| Touch { tenant, user, session, at }).collect();
        // rows are locked in key order
        list.sort_unstable_by_key(|t| (t.tenant, t.user, t.session));
        let mut batches = list.chunks(1000);
        while let Some(batch) = batches.next() {
            if let Err(e) = self.commit(TenantNo(0), None, Act::Touch(batch.to_vec())).await {
                let mut touches = self.touches.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                // a store that cannot write for long costs precision, not memory
                for t in batch.iter().chain(batches.flatten()).take(MOST_TOUCHES) {
                    touches.entry((t.tenant, t.user, t.session)).or_insert(t.at);
                }
                return Err(e.into());
            }
        }
        Ok(())
    }

    /// The end: what was touched is written, the store closed.
    pub async fn stop(&self) {
        if let Err(e) = self.flush_touches().await {
            tracing::warn!(error = %e, "the last touches were not written");
        }
        if let Err(e) = self.flush_key_uses().await {
            tracing::warn!(error = %e, "the last uses of API keys were not written");
        }
        self.leave_outbox().await;
        self.store.close().await;
    }
}
