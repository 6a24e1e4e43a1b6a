//! `passerby serve`: the process around the doors, from the start to the end.

use std::{fmt::Write as _, process::ExitCode, sync::Arc, thread::available_parallelism, time::Duration};

use anyhow::Context as _;
use passerby_core::Passerby;
use tokio::{
    runtime::{self, Handle, Runtime},
    signal::unix::{Signal, SignalKind, signal},
    sync::watch,
    task::JoinSet,
    time::{MissedTickBehavior, interval, timeout},
};

use super::{ServeArguments, failed, refused, say};
use crate::{
    config::{Config, MasterKeySource},
    server::{self, Limits},
    telemetry::{self, Telemetry},
    tls::Watched,
    wiring,
};

/// The number of the signal for a file that grows past `RLIMIT_FSIZE`, on Linux.
const SIGXFSZ: i32 = 25;

/// The store may take so long to write its last and close, after the last request.
const CLOSING: Duration = Duration::from_secs(10);

/// What is on its way to people gets so long of that.
const DELIVERING: Duration = Duration::from_secs(5);

pub(super) fn run(arguments: &ServeArguments) -> ExitCode {
    let config = match arguments.load() {
        Ok(config) => config,
        Err(problems) => return refused(&problems),
    };
    let served = Telemetry::start(&config).and_then(|telemetry| {
        let cores = cores(&config);
        let served = runtime(cores).and_then(|runtime| {
            let served = runtime.block_on(serve(&config, cores, telemetry.traces()));
            // what still blocks a thread (a stuck disk) must not hold up the exit
            runtime.shutdown_timeout(Duration::from_secs(1));
            served
        });
        telemetry.stop();
        served
    });
    match served {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failed(&error),
    }
}

/// Threads to serve with: as set, or as many cores as this process may use.
pub(super) fn cores(config: &Config) -> usize {
    config.workers.unwrap_or_else(|| available_parallelism().map_or(1, usize::from))
}

/// On one core, threads would only hand work to each other.
pub(super) fn runtime(cores: usize) -> anyhow::Result<Runtime> {
    let mut builder = if cores == 1 {
        runtime::Builder::new_current_thread()
    } else {
        let mut builder = runtime::Builder::new_multi_thread();
        builder.worker_threads(cores);
        builder
    };
    builder.enable_all().thread_name("passerby").build().context("the runtime cannot start")
}

async fn serve(config: &Config, cores: usize, traces: bool) -> anyhow::Result<()> {
    // first of all, so that a signal during the start ends it in order
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    // a file that grows past the process's limit shall be an error of that write (507), not the end of the process
    let _file_too_large = signal(SignalKind::from_raw(SIGXFSZ))?;
    for note in config.notes() {
        tracing::warn!("{note}");
    }
    let listener = server::listen(config.listen).with_context(|| format!("cannot listen on {}", config.listen))?;
    let address = listener.local_addr()?;
    let tls = match &config.tls {
        None => None,
        Some(tls) => Some(Watched::open(&tls.certificate, &tls.key).map_err(anyhow::Error::msg)?),
    };
    let master = config.master_key.read().map_err(|problem| anyhow::Error::msg(problem.to_string()))?;
    let ports = wiring::ports(config, cores).await?;
    let store = ports.store.clone();
    let application = match wiring::build(config, ports, &master).await {
        Ok(application) => application,
        Err(error) => {
            store.close().await;
            return Err(error);
        }
    };
    let tls_config = tls.as_ref().map(Watched::config);
    let watcher = tls.map(|tls| tokio::spawn(tls.watch()));
    let (stopping, stopped) = watch::channel(false);
    let jobs = tokio::spawn(run_jobs(application.core.clone(), stopped.clone()));
    // on a thread of its own: while very many rise it reads much, and on SQLite it reads where it runs
    let outbox = tokio::spawn(run_outbox(application.core.clone(), stopped.clone()));
    let (runtime, following) = (Handle::current(), follow_epochs(application.core.clone(), stopped));
    let epochs = tokio::task::spawn_blocking(move || runtime.block_on(following));

    if config.dev {
        say(&banner(config, &address.to_string()));
    }
    let tls_on = tls_config.is_some();
    tracing::info!(%address, tls = tls_on, threads = cores, version = env!("CARGO_PKG_VERSION"), "serving");

    let limits = Limits { connections: config.max_connections, shutdown: config.shutdown_timeout, ..Limits::default() };
    let stopping_core = application.core.clone();
    let stop = async move {
        let name = either(&mut terminate, &mut interrupt).await;
        tracing::info!(signal = name, "stopping: running requests may finish; a second signal ends at once");
        // they would never finish by themselves
        stopping_core.end_epoch_streams();
        tokio::spawn(async move {
            let name = either(&mut terminate, &mut interrupt).await;
            tracing::warn!(signal = name, "ended at once");
            std::process::exit(1);
        });
    };
    let door = application.door;
    let served = if traces {
        let make = telemetry::make_traced_service(door, config.trusted_proxies.clone());
        server::serve(listener, tls_config, &limits, make, stop).await
    } else {
        server::serve(listener, tls_config, &limits, door.make_service(), stop).await
    };

    stopping.send_replace(true);
    if let Some(watcher) = watcher {
        watcher.abort();
    }
    let closed = timeout(CLOSING, async {
        // a pass that runs is let finish
        let _ = tokio::join!(jobs, epochs, outbox);
        application.core.stop().await;
    });
    if closed.await.is_err() {
        anyhow::bail!("the store did not close within {} s", CLOSING.as_secs());
    }
    served.context("serving failed")?;
    tracing::info!("stopped");
    Ok(())
}

async fn either(terminate: &mut Signal, interrupt: &mut Signal) -> &'static str {
    tokio::select! {
        _ = terminate.recv() => "SIGTERM",
        _ = interrupt.recv() => "SIGINT",
    }
}

/// A pass over the jobs each second, until told to stop.
async fn run_jobs(core: Arc<Passerby>, mut stopped: watch::Receiver<bool>) {
    let mut ticks = interval(Duration::from_secs(1));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = ticks.tick() => core.run_jobs().await,
            _ = stopped.changed() => return,
        }
    }
}

/// Begins a pass over the outbox each second, and whenever this process has written something for it, until told to stop;
/// then what is under way gets some seconds.
async fn run_outbox(core: Arc<Passerby>, mut stopped: watch::Receiver<bool>) {
    let mut ticks = interval(Duration::from_secs(1));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // a pass that waits for a server that hangs must not hold up the next
    let mut passes = JoinSet::new();
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            () = core.outbox_called() => {}
            Some(_) = passes.join_next() => continue,
            _ = stopped.changed() => break,
        }
        let core = core.clone();
        passes.spawn(async move { core.run_outbox().await });
    }
    let rest = async { while passes.join_next().await.is_some() {} };
    if timeout(DELIVERING, rest).await.is_err() {
        tracing::warn!("messages that were on their way are sent again, under the same ids");
    }
}

/// Learns each second of epochs that rose in other processes, apart from the jobs: a long sweep must not hold up those
/// who follow them.
async fn follow_epochs(core: Arc<Passerby>, mut stopped: watch::Receiver<bool>) {
    let mut ticks = interval(Duration::from_secs(1));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = ticks.tick() => {
                if let Err(e) = core.follow_epochs().await {
                    tracing::warn!(error = %e, "raised epochs were not read; they will be at the next pass");
                }
            }
            _ = stopped.changed() => return,
        }
    }
}

/// What a developer wants to know at the start: where everything is and what was assumed.
fn banner(config: &Config, address: &str) -> String {
    let issuer = config.issuer.trim_end_matches('/');
    let mut text = String::from("Passerby runs for development.\n");
    let mut line = |name: &str, value: &str| {
        let _ = writeln!(text, "  {name:<12} {value}");
    };
    line("demo", &format!("{issuer}/demo"));
    line("mailbox", &format!("{issuer}/dev/mailbox"));
    line("API", &format!("{issuer}/docs"));
    line("health", &format!("{issuer}/health/ready"));
    line("listening", address);
    line("data", &shown_store(config));
    if let MasterKeySource::Made(path) = &config.master_key {
        line("master key", &path.display().to_string());
    }
    for client in config.client_ids(0) {
        line("client", client);
    }
    if let Some(file) = &config.file {
        line("settings", &file.display().to_string());
        return text;
    }
    // only this one is printed: it is a published default, a configured one is a secret
    for key in config.tenants.iter().flat_map(|t| &t.api_keys) {
        line("API key", key.key.expose());
    }
    line("settings", "none given, so assumed: one tenant, no limits, guests are stored at once,");
    line("", "the Auth0 dialect is on, pages of localhost:3000, :5173 and :8080 may call;");
    line("", "write passerby.toml or name a file by --config for anything else");
    text
}

/// Where the data lies, as it may be printed.
pub(super) fn shown_store(config: &Config) -> String {
    let database = config.database.expose();
    if database.starts_with("sqlite:") { database.to_owned() } else { without_password(database) }
}

fn without_password(url: &str) -> String {
    let Ok(mut url) = url::Url::parse(url) else { return "a PostgreSQL server".into() };
    if url.password().is_some() {
        let _ = url.set_password(Some("…"));
    }
    // options may hold one too
    url.set_query(None);
    url.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Overrides;

    #[test]
    fn the_banner_says_where_and_keeps_secrets() {
        let config = Config::development(&Overrides::default()).unwrap();
        let text = banner(&config, "127.0.0.1:9011");
        for part in [
            "http://localhost:9011/demo",
            "/docs",
            "sqlite:passerby.db",
            "passerby.key",
            "demo-spa",
            "passerby-development-api-key",
        ] {
            assert!(text.contains(part), "{part} is not in\n{text}");
        }
        let written = concat!(
            "dev = true\ndatabase = \"postgres://u:hidden@h/d?password=hidden\"\n[[tenants]]\n",
            "id = \"11111111-1111-4111-8111-111111111111\"\n",
            "[[tenants.api_keys]]\nname = \"a\"\nkey = \"hidden-hidden-hidden-hidden-hidden\"\n"
        );
        let config = Config::parse("f.toml", written, &Overrides::default()).unwrap();
        let text = banner(&Config { file: Some("f.toml".into()), ..config }, "127.0.0.1:9011");
        assert!(text.contains("@h/d") && !text.contains("hidden"), "{text}");
    }
}
