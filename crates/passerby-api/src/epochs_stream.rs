//! Raised epochs as an event stream (HTML standard, section 9.2). A stream holds its place among what the process learns
//! and the part that it is writing, nothing else: a reader that is slow goes on from its cursor.

use std::{collections::VecDeque, convert::Infallible, future::poll_fn, task::Poll, time::Duration};

use axum::{body::Body, response::Response};
use bytes::Bytes;
use futures_util::stream;
use http::{HeaderName, HeaderValue, StatusCode};
use passerby_core::{
    Code,
    epoch::{Cursor, EpochWatch, KeptFollower, Page, Watched},
    id::TenantNo,
};
use passerby_http::{App, answer};
use tokio::time::{Interval, MissedTickBehavior, interval, sleep};

use crate::epochs::dressed;

const EVENTS: HeaderValue = HeaderValue::from_static("text/event-stream");

/// A comment is sent so often, so that both sides and what lies between see that the other is there.
const HEARTBEAT: Duration = Duration::from_secs(15);

/// The credential is looked at again with every second one.
const CHECK: u32 = 2;

/// How long a stream waits for a page that is about to be made for all.
const MOMENT: Duration = Duration::from_millis(200);

struct Events {
    app: App,
    watch: EpochWatch,
    follower: KeptFollower,
    /// The tenant that the request named, and the one whose epochs are told.
    tenant: (Option<TenantNo>, TenantNo),
    /// Everything before was told.
    since: Option<Cursor>,
    /// What lies between `since` and the stream's place must be asked for.
    behind: bool,
    beats: Interval,
    beaten: u32,
    /// Ready to be written.
    out: VecDeque<Bytes>,
}

/// What comes next.
enum Turn {
    Beat,
    Watched(Watched),
}

/// The answer that stays open.
pub(crate) fn answer(
    app: App,
    watch: EpochWatch,
    follower: KeptFollower,
    tenant: (Option<TenantNo>, TenantNo),
    since: Option<Cursor>,
) -> Response {
    let mut beats = interval(HEARTBEAT);
    beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // the first tick of an interval is at once
    beats.reset();
    let out = VecDeque::with_capacity(3);
    let events = Events { app, watch, follower, tenant, since, behind: true, beats, beaten: 0, out };
    let body = stream::unfold(events, async |mut events| {
        let bytes = events.next().await?;
        Some((Ok::<_, Infallible>(bytes), events))
    });
    let mut response = answer::of(StatusCode::OK, EVENTS, Body::from_stream(body));
    // a proxy that collects an answer before it passes it on would hold back a raise
    response.headers_mut().insert(HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no"));
    response
}

impl Events {
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            if let Some(bytes) = self.out.pop_front() {
                return Some(bytes);
            }
            if self.behind {
                // whoever cannot be told everything is to come back with its cursor
                match self.app.core().epochs_for(&self.watch, self.since).await.ok()? {
                    Some(page) => {
                        self.behind = page.more;
                        self.tell(&page);
                    }
                    None => sleep(MOMENT).await,
                }
                continue;
            }
            match self.turn().await {
                Turn::Beat => self.beat().await?,
                Turn::Watched(Watched::Page(page)) => self.tell(&page),
                Turn::Watched(Watched::Behind) => self.behind = true,
                Turn::Watched(Watched::Soon(wait)) => sleep(wait).await,
                Turn::Watched(Watched::Ended) => return None,
            }
        }
    }

    async fn turn(&mut self) -> Turn {
        let core = self.app.core();
        poll_fn(|cx| {
            // first the beat: raises without a pause must not put off looking at the credential
            if self.beats.poll_tick(cx).is_ready() {
                return Poll::Ready(Turn::Beat);
            }
            core.poll_epochs(&mut self.watch, cx).map(Turn::Watched)
        })
        .await
    }

    fn tell(&mut self, page: &Page) {
        self.since = Some(page.cursor);
        let head = format!("id: {}\nevent: epochs\ndata: ", page.cursor);
        self.out.extend([head.into(), Bytes::from_owner(dressed(page).body.clone()), Bytes::from_static(b"\n\n")]);
    }

    /// `None`: the stream is to end.
    async fn beat(&mut self) -> Option<()> {
        let core = self.app.core();
        self.beaten = self.beaten.wrapping_add(1);
        if self.beaten.is_multiple_of(CHECK) {
            match core.may_follow_epochs(self.tenant.0, self.follower.lend()).await {
                Ok(tenant) if tenant == self.tenant.1 => {}
                // a store that does not answer says nothing about the credential
                Err(e) if matches!(e.code, Code::Unavailable | Code::Internal | Code::StorageFull) => {}
                Ok(_) | Err(_) => return None,
            }
        }
        // a block with nothing but an id is no event, and moves the cursor of whoever reconnects
        let beat = match core.epochs_stand(&self.watch).await.ok()? {
            Some(cursor) => {
                self.since = Some(cursor);
                format!(":\nid: {cursor}\n\n").into()
            }
            None => Bytes::from_static(b":\n\n"),
        };
        self.out.push_back(beat);
        Some(())
    }
}
