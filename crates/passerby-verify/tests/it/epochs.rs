//! The epoch feed: what it kills and when, out of order, repeated, behind, gone.

use std::{sync::atomic::Ordering, time::Duration};

use axum::http::StatusCode;
use passerby_verify::{EpochFeed, Error, Lack, TokenFault, Verifier};
use serde_json::{Value, json};

use crate::issuer::{NOW, World, bearer};

const DEAD: Option<Error> = Some(Error::Token(TokenFault::Revoked));
const BEHIND: Option<Error> = Some(Error::Unavailable(Lack::Epochs));
const HOUR: Duration = Duration::from_hours(1);

/// Polls by hand only, but for the first.
fn feed() -> EpochFeed {
    EpochFeed::api_key("pbk_00000000_key").interval(HOUR)
}

/// A verifier whose task has done its first poll and sleeps, with the keys in hand.
async fn following(world: &World, feed: EpochFeed) -> Verifier {
    let polls = || world.state.polls.lock().unwrap().len();
    let before = polls();
    let verifier = world.builder().epochs(feed).build().unwrap();
    while polls() == before {
        tokio::task::yield_now().await;
    }
    // waits for the task's, as there is one poll at a time
    verifier.poll_epochs().await.unwrap();
    assert!(bearer(&verifier, &token(world, "nobody", 0)).await.is_ok());
    verifier
}

/// Seconds since the epoch as RFC 3339.
fn time(at: i64) -> String {
    jiff::Timestamp::from_second(at).unwrap().to_string()
}

fn raised(user: &str, epoch: i64, at: i64) -> Value {
    json!({ "user_id": user, "epoch": epoch, "at": time(at) })
}

fn tell(world: &World, epochs: &[Value], cursor: &str) {
    *world.state.feed.lock().unwrap() = json!({ "epochs": epochs, "cursor": cursor });
}

fn token(world: &World, user: &str, epoch: i64) -> String {
    world.token_with(json!({ "sub": user, "epoch": epoch }))
}

#[tokio::test]
async fn line_19_an_older_epoch_is_dead_at_the_next_poll() {
    let world = World::new().await;
    let verifier = following(&world, feed()).await;
    let (old, new, other) = (token(&world, "ada", 0), token(&world, "ada", 1), token(&world, "bob", 0));
    let kept = bearer(&verifier, &old).await.unwrap();
    tell(&world, &[raised("ada", 1, NOW)], "1");
    assert!(bearer(&verifier, &old).await.is_ok(), "not yet told");
    verifier.poll_epochs().await.unwrap();
    assert_eq!(bearer(&verifier, &old).await.err(), DEAD);
    assert_eq!(verifier.check_again(&kept).err(), DEAD, "also where a connection is open");
    assert!(bearer(&verifier, &new).await.is_ok());
    assert!(bearer(&verifier, &other).await.is_ok());
    let unsaid = world.token_with(json!({ "sub": "ada", "epoch": null }));
    assert_eq!(bearer(&verifier, &unsaid).await.err(), DEAD, "no epoch is the lowest");
}

#[tokio::test]
async fn an_id_in_the_dress_of_the_auth0_dialect() {
    let world = World::new().await;
    tell(&world, &[raised("ada", 2, NOW), raised("anon@eve", 1, NOW)], "1");
    let verifier = following(&world, feed()).await;
    for user in ["ada", "anon@ada", "anon|ada"] {
        assert_eq!(bearer(&verifier, &token(&world, user, 1)).await.err(), DEAD, "{user}");
        assert!(bearer(&verifier, &token(&world, user, 2)).await.is_ok(), "{user}");
    }
    for user in ["ANON@ada", "anon@anon@ada", "eve", "ada@anon"] {
        assert!(bearer(&verifier, &token(&world, user, 0)).await.is_ok(), "{user}");
    }
    assert_eq!(bearer(&verifier, &token(&world, "anon@eve", 0)).await.err(), DEAD);
}

#[tokio::test]
async fn entries_out_of_order_and_repeated() {
    let world = World::new().await;
    let verifier = following(&world, feed()).await;
    for epochs in [
        vec![raised("ada", 3, NOW - 1), raised("ada", 1, NOW - 5)],
        vec![raised("ada", 2, NOW - 3)],
        vec![raised("bob", 1, NOW - 9), raised("ada", 3, NOW - 1), raised("bob", 1, NOW - 9)],
        vec![],
    ] {
        tell(&world, &epochs, "x");
        verifier.poll_epochs().await.unwrap();
        assert_eq!(bearer(&verifier, &token(&world, "ada", 2)).await.err(), DEAD);
        assert!(bearer(&verifier, &token(&world, "ada", 3)).await.is_ok());
    }
    assert_eq!(bearer(&verifier, &token(&world, "bob", 0)).await.err(), DEAD);
}

#[tokio::test]
async fn the_cursor_and_the_credential() {
    let world = World::new().await;
    let client = EpochFeed::client("web shop", "sëcret:%").interval(HOUR);
    tell(&world, &[], "a b/1=");
    let verifier = following(&world, client).await;
    verifier.poll_epochs().await.unwrap();
    let polls = world.state.polls.lock().unwrap().clone();
    assert_eq!(polls[0].1, None, "first everything");
    assert_eq!(polls.last().unwrap().1.as_deref(), Some("a b/1="));
    // web+shop:s%C3%ABcret%3A%25
    assert!(polls.iter().all(|(who, _)| who == "Basic d2ViK3Nob3A6cyVDMyVBQmNyZXQlM0ElMjU="), "{polls:?}");

    // a cursor that is not known any more: from the beginning
    *world.state.feed_status.lock().unwrap() = StatusCode::BAD_REQUEST;
    assert!(verifier.poll_epochs().await.is_err());
    *world.state.feed_status.lock().unwrap() = StatusCode::OK;
    verifier.poll_epochs().await.unwrap();
    assert_eq!(world.state.polls.lock().unwrap().last().unwrap().1, None);
    // one that was not taken over is asked for again
    tell(&world, &[], "next");
    for broken in [StatusCode::SERVICE_UNAVAILABLE, StatusCode::UNAUTHORIZED] {
        *world.state.feed_status.lock().unwrap() = broken;
        assert!(verifier.poll_epochs().await.is_err());
    }
    *world.state.feed_status.lock().unwrap() = StatusCode::OK;
    verifier.poll_epochs().await.unwrap();
    assert_eq!(world.state.polls.lock().unwrap().last().unwrap().1.as_deref(), Some("a b/1="));

    let keyed = following(&world, feed()).await;
    keyed.poll_epochs().await.unwrap();
    assert_eq!(world.state.polls.lock().unwrap().last().unwrap().0, "Bearer pbk_00000000_key");
}

#[tokio::test]
async fn an_answer_that_cannot_be_read_changes_nothing() {
    let world = World::new().await;
    tell(&world, &[raised("ada", 1, NOW)], "1");
    let verifier = following(&world, feed()).await;
    for broken in [
        json!({}),
        json!({ "epochs": [], "cursor": 1 }),
        json!({ "epochs": [raised("bob", 1, NOW), { "user_id": "eve", "epoch": 1, "at": "yesterday" }], "cursor": "2" }),
        json!({ "epochs": [{ "user_id": "eve", "epoch": "1", "at": time(NOW) }], "cursor": "2" }),
        json!([]),
    ] {
        *world.state.feed.lock().unwrap() = broken;
        assert!(verifier.poll_epochs().await.is_err());
        assert!(bearer(&verifier, &token(&world, "bob", 0)).await.is_ok());
        assert_eq!(bearer(&verifier, &token(&world, "ada", 0)).await.err(), DEAD);
    }
}

#[tokio::test]
async fn all_pages_are_read_before_it_counts() {
    let world = World::new().await;
    let verifier = following(&world, feed()).await;
    let page = |user: &str, cursor: &str, more: bool| json!({ "epochs": [raised(user, 1, NOW)], "cursor": cursor, "more": more });
    let pages = json!({ "0": page("ada", "a", true), "a": page("bob", "b", true), "b": page("eve", "b", false) });
    *world.state.feed.lock().unwrap() = json!({ "pages": pages });
    let asked = world.state.polls.lock().unwrap().len();
    verifier.poll_epochs().await.unwrap();
    assert_eq!(world.state.polls.lock().unwrap().len(), asked + 3);
    for user in ["ada", "bob", "eve"] {
        assert_eq!(bearer(&verifier, &token(&world, user, 0)).await.err(), DEAD, "{user}");
    }
    // a page that is missing: what came counts, but it is behind, and goes on from there
    world.clock.pass(7);
    let broken = json!({ "b": page("kim", "c", true), "c": {} });
    *world.state.feed.lock().unwrap() = json!({ "pages": broken });
    assert!(verifier.poll_epochs().await.is_err());
    assert_eq!(bearer(&verifier, &token(&world, "kim", 0)).await.err(), DEAD);
    assert_eq!(verifier.epoch_lag(), Some(Duration::from_secs(7)));
    // one that leads nowhere is no reason to ask for ever
    *world.state.feed.lock().unwrap() = json!({ "pages": { "c": page("kim", "c", true) } });
    let asked = world.state.polls.lock().unwrap().len();
    assert!(verifier.poll_epochs().await.is_err());
    assert_eq!(world.state.polls.lock().unwrap().len(), asked + 1);
}

#[tokio::test]
async fn an_answer_that_is_known_is_not_sent_again() {
    let world = World::new().await;
    tell(&world, &[raised("ada", 1, NOW)], "1");
    let verifier = following(&world, feed()).await;
    let unchanged = || world.state.unchanged.load(Ordering::SeqCst);
    let before = unchanged();
    world.clock.pass(9);
    for _ in 0..3 {
        verifier.poll_epochs().await.unwrap();
    }
    assert!(unchanged() > before);
    assert_eq!(verifier.epoch_lag(), Some(Duration::ZERO), "that is news too");
    let known = unchanged();
    tell(&world, &[raised("bob", 1, NOW)], "1");
    verifier.poll_epochs().await.unwrap();
    assert_eq!(unchanged(), known);
    for user in ["ada", "bob"] {
        assert_eq!(bearer(&verifier, &token(&world, user, 0)).await.err(), DEAD, "{user}");
    }
}

#[tokio::test]
async fn behind_open_or_closed_as_set() {
    let world = World::new().await;
    let open = following(&world, feed()).await;
    let closed = following(&world, feed().refuse_when_behind(Duration::from_secs(30))).await;
    world.state.down.store(true, Ordering::SeqCst);
    world.clock.pass(30);
    for verifier in [&open, &closed] {
        assert!(verifier.poll_epochs().await.is_err());
        assert_eq!(verifier.epoch_lag(), Some(Duration::from_secs(30)));
        assert!(bearer(verifier, &token(&world, "ada", 0)).await.is_ok());
    }
    world.clock.pass(1);
    assert!(bearer(&open, &token(&world, "ada", 0)).await.is_ok());
    assert_eq!(bearer(&closed, &token(&world, "ada", 0)).await.err(), BEHIND);
    // no news is not an empty page of news
    world.state.down.store(false, Ordering::SeqCst);
    closed.poll_epochs().await.unwrap();
    assert!(bearer(&closed, &token(&world, "ada", 0)).await.is_ok());
    assert_eq!(closed.epoch_lag(), Some(Duration::ZERO));
}

#[tokio::test]
async fn never_read_is_behind() {
    let world = World::new().await;
    *world.state.feed_status.lock().unwrap() = StatusCode::UNAUTHORIZED;
    let open = world.builder().epochs(feed()).build().unwrap();
    let closed = world.builder().epochs(feed().refuse_when_behind(HOUR)).build().unwrap();
    assert!(bearer(&open, &token(&world, "ada", 0)).await.is_ok());
    assert_eq!(bearer(&closed, &token(&world, "ada", 0)).await.err(), BEHIND);
    assert_eq!((open.epoch_lag(), closed.epoch_lag()), (None, None));
    assert_eq!(world.verifier().epoch_lag(), None);
}

#[tokio::test]
async fn what_cannot_matter_is_forgotten_and_memory_is_bounded() {
    let world = World::new().await;
    let lifetime = Duration::from_secs(900);
    let feed = || feed().longest_token(lifetime).capacity(1024);
    // 2000 users raised, one a second: the oldest are beyond any token's life, the others more than may be kept
    let epochs: Vec<Value> = (0..2000).map(|i| raised(&format!("user-{i}"), 1, NOW - i)).collect();
    tell(&world, &epochs, "1");
    let verifier = following(&world, feed()).await;
    for i in [0, 1, 500, 899] {
        assert_eq!(bearer(&verifier, &token(&world, &format!("user-{i}"), 0)).await.err(), DEAD, "{i}");
    }
    assert!(bearer(&verifier, &token(&world, "user-1500", 0)).await.is_ok(), "its dead tokens are over");
    let older = world.token_with(json!({ "sub": "somebody", "iat": NOW - 900 - 120 }));
    assert_eq!(bearer(&verifier, &older).await.err(), DEAD, "older than what is remembered");

    // all at once: then who is as old as those forgotten must renew
    let epochs: Vec<Value> = (0..1500).map(|i| raised(&format!("crowd-{i}"), 1, NOW - i / 100)).collect();
    tell(&world, &epochs, "1");
    let verifier = following(&world, feed()).await;
    let issued = |at: i64| world.token_with(json!({ "sub": "somebody", "iat": at, "exp": NOW + 600 }));
    assert_eq!(bearer(&verifier, &issued(NOW - 8)).await.err(), DEAD);
    assert!(bearer(&verifier, &issued(NOW)).await.is_ok());
    for i in [0, 400, 799, 1499] {
        let dead = world.token_with(json!({ "sub": format!("crowd-{i}"), "iat": NOW - i / 100, "epoch": 0 }));
        assert_eq!(bearer(&verifier, &dead).await.err(), DEAD, "{i}");
    }
}

#[tokio::test]
async fn the_task_polls_in_its_interval_and_ends_with_the_verifier() {
    // no input or output here, so that tokio's own clock may be held still
    use std::sync::{Arc, Mutex};

    use passerby_verify::{Fetch, FetchFuture};

    #[derive(Clone, Default)]
    struct Feed(Arc<Mutex<Vec<Duration>>>, Arc<Mutex<Option<tokio::time::Instant>>>);
    impl Fetch for Feed {
        fn fetch(&self, _: axum::http::Request<()>, _: usize) -> FetchFuture<'_> {
            let began = *self.1.lock().unwrap().get_or_insert_with(tokio::time::Instant::now);
            self.0.lock().unwrap().push(began.elapsed());
            let body = r#"{"epochs":[],"cursor":"x"}"#;
            Box::pin(std::future::ready(Ok(axum::http::Response::new(body.into()))))
        }
    }

    tokio::time::pause();
    let polls = Feed::default();
    let feed = EpochFeed::api_key("k").interval(Duration::from_secs(3));
    let verifier = Verifier::builder("https://id.example.com", "x").fetch(polls.clone()).epochs(feed).build().unwrap();
    tokio::time::advance(Duration::ZERO).await;
    for _ in 0..3 {
        tokio::time::sleep(Duration::from_secs(3)).await;
    }
    drop(verifier);
    tokio::time::sleep(Duration::from_secs(60)).await;
    let times: Vec<u64> = polls.0.lock().unwrap().iter().map(Duration::as_secs).collect();
    assert_eq!(times[..3], [0, 3, 6]);
    assert!(times.len() <= 5, "{times:?}");
}
