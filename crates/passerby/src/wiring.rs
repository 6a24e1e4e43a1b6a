//! From a configuration to the doors: the only place that knows all crates.

use std::sync::Arc;

use anyhow::Context as _;
use axum::Router;
use futures_util::future::try_join_all;
use passerby_core::{
    Passerby, Ports,
    password::{HashPool, Passwords},
    port::Store,
    secret::MasterKey,
};
use passerby_http::{App, Door, HttpSettings};
use passerby_pages::Demo;
use passerby_store::{Grouping, OpenOptions};
use utoipa::openapi::OpenApi;

use crate::{
    config::{Config, DEMO_CLIENT, Numbers},
    lane::HotLane,
    ports::{SystemClock, ThreadRandom},
    post::Outbound,
};

/// The running core and the doors in front of it.
#[derive(Debug, Clone)]
pub struct Application {
    /// The core: its jobs are to be run, and it is to be stopped.
    pub core: Arc<Passerby>,
    /// All doors.
    pub door: Door<HotLane>,
}

/// Builds everything on ports that are given: of the program, or of a test.
///
/// # Errors
/// A store that does not answer, or was begun with another master key.
pub async fn build(config: &Config, ports: Ports, master: &MasterKey) -> anyhow::Result<Application> {
    let core = start(config, ports, master).await?;
    Ok(Application { door: door(config, core.clone()), core })
}

/// The core alone, as commands without doors want it.
///
/// # Errors
/// See [`build`].
pub async fn start(config: &Config, ports: Ports, master: &MasterKey) -> anyhow::Result<Arc<Passerby>> {
    let numbers =
        number(config, ports.store.as_ref()).await.context("the store does not number tenants and clients")?;
    Passerby::start(ports, config.settings(&numbers), master).await.map_err(anyhow::Error::msg)
}

/// The ports of the program: the configured store, way out and hashing threads, the system's clock and randomness.
///
/// # Errors
/// See [`passerby_store::OpenError`], [`Outbound::new`] and [`passwords`].
pub async fn ports(config: &Config, cores: usize) -> anyhow::Result<Ports> {
    // with one core, waiting for a fuller group saves what everybody shares; with more, it only waits
    let close_groups = if cores == 1 { Grouping::WhenIdle } else { Grouping::WhenFree };
    let options = OpenOptions { close_groups, ..OpenOptions::default() };
    let (post, passwords) = (Arc::new(Outbound::new(config)?), passwords(config, cores)?);
    let store = passerby_store::open(config.database.expose(), &options).await?;
    Ok(Ports { store, clock: Arc::new(SystemClock::default()), random: Arc::new(ThreadRandom), post, passwords })
}

/// How passwords are hashed, and the threads that do it.
///
/// # Errors
/// When the system gives no thread.
pub fn passwords(config: &Config, cores: usize) -> anyhow::Result<Passwords> {
    let pool = config.passwords.pool(cores).map_err(anyhow::Error::msg)?;
    let pool = HashPool::new(pool).context("the threads that hash passwords cannot start")?;
    Ok(Passwords { settings: config.passwords.hash, pool: Arc::new(pool) })
}

/// All doors before one core.
pub fn door(config: &Config, core: Arc<Passerby>) -> Door<HotLane> {
    let http = HttpSettings {
        trusted_proxies: config.trusted_proxies.clone(),
        dev: config.dev,
        tls: config.tls.is_some(),
        ..HttpSettings::default()
    };
    let mut router: Router<App> = Router::new()
        .merge(passerby_api::routes())
        .merge(passerby_api::documents(&openapi()))
        .merge(passerby_oauth::routes())
        .merge(passerby_dialects::routes())
        .merge(passerby_pages::routes());
    if config.dev {
        router = router.merge(passerby_pages::demo(Demo { client_id: DEMO_CLIENT, cart: &config.demo_cart }));
        router = router.merge(passerby_pages::mailbox()).merge(passerby_api::mailbox());
    }
    passerby_http::finish_with::<HotLane>(router, App::new(core, http))
}

/// The description of all doors.
pub fn openapi() -> OpenApi {
    passerby_api::openapi(vec![passerby_oauth::openapi(), passerby_dialects::openapi()])
}

/// What the store calls tenants and clients; asked all at once, so that a first start writes them in few groups.
async fn number(config: &Config, store: &dyn Store) -> anyhow::Result<Numbers> {
    let tenants = try_join_all(config.tenants.iter().map(|t| store.number_tenant(t.id.value))).await?;
    let all = tenants.iter().enumerate().flat_map(|(n, no)| config.client_ids(n).into_iter().map(move |id| (*no, id)));
    let clients =
        try_join_all(all.map(async |(tenant, id)| store.number_client(tenant, id).await.map(|no| (id.into(), no))))
            .await?;
    Ok(Numbers { tenants, clients: clients.into_iter().collect() })
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use http::Request;
    use passerby_core::testing::{ManualClock, SeededRandom};

    use super::*;
    use crate::config::Overrides;

    async fn application(config: &Config, folder: &std::path::Path) -> Application {
        let database = format!("sqlite:{}", folder.join("t.db").display());
        let ports = Ports {
            store: passerby_store::open(&database, &OpenOptions::default()).await.unwrap(),
            clock: Arc::new(ManualClock::new(passerby_core::Timestamp::from_seconds(1_790_000_000))),
            random: Arc::new(SeededRandom::new(1)),
            post: Arc::new(Outbound::new(config).unwrap()),
            passwords: passwords(config, 1).unwrap(),
        };
        build(config, ports, &MasterKey::new([7; 32])).await.unwrap()
    }

    async fn status(application: &Application, path: &str) -> u16 {
        let request = Request::builder().uri(path).body(Body::empty()).unwrap();
        application.door.answer(request, [127, 0, 0, 1].into()).await.status().as_u16()
    }

    #[tokio::test]
    async fn every_door_is_there_and_the_demo_in_development_only() {
        crate::install_crypto();
        let folder = tempfile::tempdir().unwrap();
        let mut config = Config::development(&Overrides::default()).unwrap();
        let first = application(&config, folder.path()).await;
        for path in [
            "/health/live",
            "/health/ready",
            "/metrics",
            "/openapi.json",
            "/docs",
            "/demo",
            "/dev/mailbox",
            "/dev/mailbox/messages",
            "/ui/hand-off",
            "/.well-known/openid-configuration",
            "/.well-known/jwks.json",
        ] {
            assert_eq!(status(&first, path).await, 200, "{path}");
        }
        let numbers = |a: &Application| {
            let settings = a.core.settings();
            let mut clients: Vec<_> =
                settings.clients.iter().map(|(id, (_, client))| (id.clone(), client.no)).collect();
            clients.sort();
            (settings.tenants[0].no, clients)
        };
        let known = numbers(&first);
        first.core.stop().await;

        // the same numbers after a restart, whatever was added or taken away
        config.dev = false;
        config.tenants[0].clients.reverse();
        let second = application(&config, folder.path()).await;
        let (tenant, clients) = numbers(&second);
        assert_eq!(tenant, known.0);
        assert!(clients.iter().all(|client| known.1.contains(client)) && clients.len() + 1 == known.1.len());
        for path in ["/demo", "/dev/mailbox", "/dev/mailbox/messages"] {
            assert_eq!(status(&second, path).await, 404, "{path}");
        }
        assert_eq!(status(&second, "/docs").await, 200);
        assert_eq!(status(&second, "/ui/hand-off").await, 200);
        second.core.stop().await;
    }
}
