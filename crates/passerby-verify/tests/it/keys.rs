//! The keys: fetched once, again when a new one is named, not too often, and kept while the issuer is away.

use std::sync::atomic::Ordering;

use passerby_verify::{Error, Lack, TokenFault, Verifier};
use serde_json::json;

use crate::{
    issuer::{API, World, bearer},
    signer::Key,
};

const UNKNOWN: Error = Error::Token(TokenFault::Key);
const LACKING: Error = Error::Unavailable(Lack::Keys);

#[tokio::test]
async fn many_at_once_fetch_once() {
    let world = World::new().await;
    world.state.gate.forget_permits(1 << 20);
    let verifier = world.verifier();
    let token = world.token();
    let many: Vec<_> = (0..50)
        .map(|_| {
            let (verifier, token) = (verifier.clone(), token.clone());
            tokio::spawn(async move { bearer(&verifier, &token).await.map(drop) })
        })
        .collect();
    world.state.gate.add_permits(50);
    for one in many {
        assert_eq!(one.await.unwrap(), Ok(()));
    }
    assert_eq!(world.state.fetches(), 1);
}

#[tokio::test]
async fn a_caller_who_leaves_ends_nobody_elses_fetch() {
    let world = World::new().await;
    world.state.gate.forget_permits(1 << 20);
    let verifier = world.verifier();
    let token = world.token();
    {
        let mut first = std::pin::pin!(bearer(&verifier, &token));
        let begun =
            std::future::poll_fn(|context| std::task::Poll::Ready(first.as_mut().poll(context).is_pending())).await;
        assert!(begun);
    }
    world.state.gate.add_permits(1);
    assert!(bearer(&verifier, &token).await.is_ok());
    assert_eq!(world.state.fetches(), 1);
}

#[tokio::test]
async fn line_13_rotation() {
    let world = World::new().await;
    let verifier = world.verifier();
    assert!(bearer(&verifier, &world.token()).await.is_ok());

    // a key that is new is fetched when it is first named
    let next = Key::eddsa("next");
    world.state.set_keys(&[&world.key, &next]);
    world.clock.pass(5);
    assert!(bearer(&verifier, &next.token(&world.claims())).await.is_ok());
    assert!(bearer(&verifier, &world.token()).await.is_ok());
    assert_eq!(world.state.fetches(), 2);

    // one that was withdrawn is refused once the set is five minutes old, and the new one goes on meanwhile
    world.state.set_keys(&[&next]);
    world.clock.pass(299);
    assert!(bearer(&verifier, &world.token()).await.is_ok());
    assert_eq!(world.state.fetches(), 2);
    world.clock.pass(1);
    assert!(bearer(&verifier, &next.token(&world.claims())).await.is_ok(), "does not wait for the fetch");
    let newest = Key::es256("newest");
    assert_eq!(bearer(&verifier, &newest.token(&world.claims())).await.err(), Some(UNKNOWN), "waits for it");
    assert_eq!(bearer(&verifier, &world.token()).await.err(), Some(UNKNOWN));
    assert!(bearer(&verifier, &next.token(&world.claims())).await.is_ok());
    assert_eq!(world.state.fetches(), 3);
}

#[tokio::test]
async fn line_13_a_withdrawn_key_is_dropped_without_anybody_waiting() {
    let world = World::new().await;
    let verifier = world.verifier();
    assert!(bearer(&verifier, &world.token()).await.is_ok());
    world.state.set_keys(&[&Key::es256("next")]);
    world.clock.pass(300);
    // only tokens of the key that is held: nothing but its age makes it fetch
    let dropped = async {
        while bearer(&verifier, &world.token()).await.is_ok() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(60), dropped).await.unwrap();
    assert_eq!(bearer(&verifier, &world.token()).await.err(), Some(UNKNOWN));
    assert_eq!(world.state.fetches(), 2);
}

#[tokio::test]
async fn unknown_names_fetch_seldom() {
    let world = World::new().await;
    let verifier = world.verifier();
    assert!(bearer(&verifier, &world.token()).await.is_ok());
    for round in 2..5 {
        world.clock.pass(5);
        for i in 0..40 {
            let stranger = Key::es256(&format!("{round}-{i}"));
            assert_eq!(bearer(&verifier, &stranger.token(&world.claims())).await.err(), Some(UNKNOWN));
        }
        assert_eq!(world.state.fetches(), round);
        world.clock.pass(4);
        assert_eq!(bearer(&verifier, &Key::es256("x").token(&world.claims())).await.err(), Some(UNKNOWN));
        assert_eq!(world.state.fetches(), round);
    }
}

#[tokio::test]
async fn while_the_issuer_is_down_held_keys_go_on() {
    let world = World::new().await;
    let verifier = world.verifier();
    assert!(bearer(&verifier, &world.token()).await.is_ok());
    world.state.down.store(true, Ordering::SeqCst);
    let mut last = world.state.fetches();
    for minute in 1..=59 {
        world.clock.pass(60);
        assert!(bearer(&verifier, &world.token()).await.is_ok(), "minute {minute}");
        // a name that is not known may be a new key's: not refused for good, and no reason to fetch at every token
        for _ in 0..3 {
            assert_eq!(bearer(&verifier, &Key::es256("new").token(&world.claims())).await.err(), Some(LACKING));
        }
        assert!(world.state.fetches() <= last + 1);
        last = world.state.fetches();
    }
    world.clock.pass(60);
    assert_eq!(bearer(&verifier, &world.token()).await.err(), Some(LACKING), "an hour is enough");
    world.state.down.store(false, Ordering::SeqCst);
    assert_eq!(bearer(&verifier, &world.token()).await.err(), Some(LACKING), "not asked again at once");
    world.clock.pass(5);
    assert!(bearer(&verifier, &world.token()).await.is_ok());
}

#[tokio::test]
async fn down_from_the_beginning() {
    let world = World::new().await;
    world.state.down.store(true, Ordering::SeqCst);
    let verifier = world.verifier();
    for _ in 0..5 {
        assert_eq!(bearer(&verifier, &world.token()).await.err(), Some(LACKING));
    }
    assert_eq!(world.state.fetches(), 1);
    world.state.down.store(false, Ordering::SeqCst);
    world.clock.pass(5);
    assert!(bearer(&verifier, &world.token()).await.is_ok());
}

#[tokio::test]
async fn nobody_listens() {
    let world = World::new().await;
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let verifier = Verifier::builder(&url, API).clock(world.clock.clone()).build().unwrap();
    assert_eq!(bearer(&verifier, &world.token()).await.err(), Some(LACKING));
}

#[tokio::test]
async fn https_is_spoken_without_a_provider_of_the_process() {
    let world = World::new().await;
    let url = world.url.replace("http:", "https:");
    let verifier = Verifier::builder(&url, API).clock(world.clock.clone()).build().unwrap();
    let token = world.token_with(json!({ "iss": url }));
    assert_eq!(
        bearer(&verifier, &token).await.err(),
        Some(LACKING),
        "the issuer does not answer to it, and nothing panics"
    );
    assert_eq!(world.state.fetches(), 0);
}

#[tokio::test]
async fn documents_that_are_not_believed() {
    let world = World::new().await;
    let good = world.state.metadata.lock().unwrap().clone();
    let verifier = world.verifier();
    assert!(bearer(&verifier, &world.token()).await.is_ok());
    let refused = async |world: &World| {
        world.clock.pass(5);
        let fresh = world.verifier();
        assert_eq!(bearer(&fresh, &world.token()).await.err(), Some(LACKING));
        // and they do not take the place of a set that is held
        assert_eq!(bearer(&verifier, &Key::es256("new").token(&world.claims())).await.err(), Some(LACKING));
        assert!(bearer(&verifier, &world.token()).await.is_ok());
    };
    for change in [
        json!({ "issuer": "https://thief.example", "jwks_uri": good["jwks_uri"] }),
        json!({ "issuer": format!("{}/", world.url), "jwks_uri": good["jwks_uri"] }),
        json!({ "jwks_uri": good["jwks_uri"] }),
        json!({ "issuer": world.url }),
        json!({ "issuer": world.url, "jwks_uri": "nonsense" }),
        json!({ "issuer": world.url, "jwks_uri": 1 }),
        json!([good]),
    ] {
        *world.state.metadata.lock().unwrap() = change;
        world.state.keys_asked.store(0, Ordering::SeqCst);
        refused(&world).await;
    }
    *world.state.metadata.lock().unwrap() = good;
    let padding = "x".repeat(300 * 1024);
    for keys in [json!({}), json!({ "keys": [] }), json!({ "keys": [world.key.jwk()], "more": padding }), json!("keys")]
    {
        *world.state.keys.lock().unwrap() = keys;
        refused(&world).await;
    }
    let mut private = world.key.jwk();
    private["d"] = json!("AAAA");
    *world.state.keys.lock().unwrap() = json!({ "keys": [private] });
    refused(&world).await;
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let world = World::new().await;
    let target = format!("{}/.well-known/openid-configuration", world.url);
    let router = axum::Router::new().route(
        "/.well-known/openid-configuration",
        axum::routing::get(move || std::future::ready(axum::response::Redirect::temporary(&target))),
    );
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await });
    let verifier = Verifier::builder(&url, API).clock(world.clock.clone()).build().unwrap();
    assert_eq!(bearer(&verifier, &world.token_with(json!({ "iss": url }))).await.err(), Some(LACKING));
    assert_eq!(world.state.fetches(), 0);
}
