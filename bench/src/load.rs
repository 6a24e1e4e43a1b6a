//! The benchmark: the product and its limits in turns.

use std::{
    cell::RefCell,
    path::{Path, PathBuf},
    rc::Rc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use clap::{Args, ValueEnum};
use passerby_jose::Algorithm;
use passerby_testkit::postgres::{Cluster, Options};
use tempfile::TempDir;

use crate::{
    back::Back,
    client::{Connection, Pace, Source, phase},
    kinds::{Guest, InTurn, Increment, Once, Refresh, Stock, create, float, me, views},
    limits,
    process::{Cores, Server, cpu_seconds, memory, own_cpu_seconds},
    report::Sheet,
    stored::Database,
};

const REQUESTS: &str = "Requests";
const STORED: &str = "Stored";
const COMPARED: &str = "Compared with the limits of the same round";
/// Sessions a connection rotates in turn.
const SESSIONS: usize = 16;
/// Tokens that `me-seen` takes in turn.
const SEEN: usize = 16;
/// Above this share of its core, the load generator holds the server back.
const BUSY: f64 = 95.0;
/// 32 bytes, base64url: a database given by its URL must open again in the next round. It guards nothing.
const MASTER_KEY: &str = "YmVuY2htYXJrcyBndWFyZCBub3RoaW5nLCBub3RoaW4";
const MIB: f64 = 1024.0 * 1024.0;

/// Where and on what everything runs.
#[derive(Debug, Args)]
pub(crate) struct Place {
    /// The program that is measured (a release build); without it, `passerby` beside this program
    #[arg(long)]
    passerby: Option<PathBuf>,
    /// Its configuration
    #[arg(long, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/passerby.toml"))]
    config: PathBuf,
    /// Folder for the databases, on the disk that is to be measured; without it, the folder for temporary files
    #[arg(long, env = "PASSERBY_BENCH_DIR", hide_env_values = true)]
    dir: Option<PathBuf>,
    /// Core of the server, and of its PostgreSQL
    #[arg(long, default_value_t = 0)]
    server_core: usize,
    /// Core of the load
    #[arg(long, default_value_t = 1)]
    load_core: usize,
    /// An empty PostgreSQL database (postgres://…) to use in place of SQLite files
    #[arg(long)]
    database: Option<String>,
    /// Use a throw-away PostgreSQL server (fsync on), on the server's core
    #[arg(long, conflicts_with = "database")]
    postgres: bool,
}

/// The opened [`Place`].
pub(crate) struct Rig {
    passerby: PathBuf,
    config: PathBuf,
    dir: PathBuf,
    pub(crate) cores: Cores,
    database: Option<String>,
    cluster: Option<Cluster>,
}

impl Rig {
    pub(crate) async fn new(place: &Place) -> anyhow::Result<Self> {
        let beside = || Ok::<_, std::io::Error>(std::env::current_exe()?.with_file_name("passerby"));
        let passerby = place.passerby.clone().map_or_else(beside, Ok)?;
        let passerby = passerby.canonicalize().with_context(|| format!("{} is not there", passerby.display()))?;
        let config = place.config.canonicalize().with_context(|| format!("{} is not there", place.config.display()))?;
        let dir = place.dir.clone().unwrap_or_else(std::env::temp_dir);
        std::fs::create_dir_all(&dir)?;
        let dir = dir.canonicalize()?;
        if in_memory(&dir) {
            eprintln!(
                "NO DISK: {} lies in memory; what commits cost does not show. Name another with --dir.",
                dir.display()
            );
        }
        if let Some(url) = &place.database {
            ensure!(url.starts_with("postgres"), "--database wants a postgres:// URL; SQLite files are made in --dir");
        }
        let cores = Cores::take(place.server_core, place.load_core);
        let cluster = if place.postgres {
            let cluster = Cluster::start_with(Options { durable: true, ..Options::default() }).await;
            cores.move_here(cluster.pid().context("the throw-away PostgreSQL has no process")?)?;
            Some(cluster)
        } else {
            None
        };
        Ok(Self { passerby, config, dir, cores, database: place.database.clone(), cluster })
    }

    pub(crate) fn folder(&self) -> anyhow::Result<TempDir> {
        Ok(tempfile::Builder::new().prefix("passerby-bench-").tempdir_in(&self.dir)?)
    }

    /// The product on an empty database of its own; on the given one with `--database`.
    pub(crate) async fn start(&self) -> anyhow::Result<Product> {
        let folder = self.folder()?;
        let database = match (&self.database, &self.cluster) {
            (Some(url), _) => Database::postgres(url.clone()).await?,
            (None, Some(cluster)) => Database::postgres(cluster.database().await).await?,
            (None, None) => Database::file(&folder),
        };
        let argument = database.argument();
        let server = Server::start(self.cores, &self.passerby, folder.path(), "/health/ready", |address, command| {
            command.arg("serve").arg("--config").arg(&self.config);
            command.arg("--listen").arg(address.to_string()).arg("--database").arg(argument);
            command.env("PASSERBY_MASTER_KEY", MASTER_KEY);
        })
        .await?;
        let (rows, bytes) = database.stored().await?;
        Ok(Product {
            meter: Meter { server: server.pid(), postgres: database.pid() },
            server,
            database,
            rows,
            bytes,
            _folder: folder,
        })
    }
}

/// Whether a folder lies on a file system without a disk.
fn in_memory(folder: &Path) -> bool {
    let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let mounts = mounts.lines().filter_map(|l| {
        let mut fields = l.split(' ').skip(1);
        Some((PathBuf::from(fields.next()?), fields.next()?))
    });
    let nearest = mounts.filter(|(at, _)| folder.starts_with(at)).max_by_key(|(at, _)| at.components().count());
    nearest.is_some_and(|(_, kind)| kind == "tmpfs" || kind == "ramfs")
}

/// A running product.
pub(crate) struct Product {
    pub(crate) server: Server,
    pub(crate) meter: Meter,
    pub(crate) database: Database,
    /// Users and bytes that were there from the start.
    pub(crate) rows: u64,
    pub(crate) bytes: u64,
    // removed when the server is gone
    _folder: TempDir,
}

/// Whose CPU time is read.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Meter {
    pub(crate) server: u32,
    pub(crate) postgres: Option<u32>,
}

/// What one phase showed; times per request in microseconds.
#[derive(Debug)]
pub(crate) struct Figures {
    pub(crate) ok: u64,
    pub(crate) rate: f64,
    pub(crate) cpu: f64,
    pub(crate) postgres: Option<f64>,
    /// Milliseconds: p50, p99, p99.9.
    pub(crate) latency: [f64; 3],
    /// Percent of a core that the load generator used.
    pub(crate) busy: f64,
    pub(crate) errors: u64,
}

/// One phase with what it cost; errors void the run.
pub(crate) async fn measure<S: Source + 'static>(
    sheet: &mut Sheet,
    name: &str,
    (server, meter): (&Server, Meter),
    source: &Rc<RefCell<S>>,
    connections: usize,
    pace: Pace,
    length: Duration,
) -> anyhow::Result<Figures> {
    let read = || (cpu_seconds(meter.server), meter.postgres.map(cpu_seconds), own_cpu_seconds(), Instant::now());
    let before = read();
    let tally = phase(server.address, source, connections, pace, length).await?;
    let after = read();
    let answers = (tally.ok + tally.errors).max(1) as f64;
    if tally.errors > 0 {
        sheet.fault(format!("{name}: {} errors, such as: {}", tally.errors, tally.complaints.join("; ")));
    }
    let milliseconds = |q| tally.latency.quantile(q) as f64 / 1e6;
    Ok(Figures {
        ok: tally.ok,
        rate: tally.ok as f64 / tally.elapsed.as_secs_f64(),
        cpu: (after.0 - before.0) * 1e6 / answers,
        postgres: before.1.zip(after.1).map(|(b, a)| (a - b) * 1e6 / answers),
        latency: [milliseconds(0.5), milliseconds(0.99), milliseconds(0.999)],
        busy: (after.2 - before.2) / (after.3 - before.3).as_secs_f64() * 100.0,
        errors: tally.errors,
    })
}

/// A kind of request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Kind {
    /// An eager guest
    Create,
    /// A floating guest
    Floating,
    /// Reading oneself, 16 tokens in turn
    MeSeen,
    /// Reading oneself, every token once
    MeNew,
    /// Rotating a refresh token
    Refresh,
    /// Counting up in a profile
    Increment,
    /// Coming back by a device key, each time with a proof of its own
    Back,
}

impl Kind {
    fn row(self) -> &'static str {
        match self {
            Self::Create => "create, eager",
            Self::Floating => "create, floating",
            Self::MeSeen => "me, tokens seen before",
            Self::MeNew => "me, tokens new",
            Self::Refresh => "refresh",
            Self::Increment => "profile increment",
            Self::Back => "back by device key",
        }
    }
}

/// Options of the benchmark.
#[derive(Debug, Args)]
pub(crate) struct LoadOptions {
    #[command(flatten)]
    pub(crate) place: Place,
    /// Rounds; product and limits take turns
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=50))]
    pub(crate) rounds: u16,
    /// Seconds of each timed phase
    #[arg(long, default_value_t = 8.0)]
    seconds: f64,
    /// Seconds of load before the timed phases of each kind
    #[arg(long, default_value_t = 1.0)]
    warm: f64,
    /// Connections of the saturation phases
    #[arg(long, value_delimiter = ',', default_value = "16,64")]
    connections: Vec<usize>,
    /// Kinds of requests; all without it
    #[arg(long, value_delimiter = ',')]
    only: Vec<Kind>,
    /// Leave out the phase with a fixed rate of arrivals
    #[arg(long)]
    no_open: bool,
    /// Leave out the limits
    #[arg(long)]
    no_limits: bool,
    /// Tokens of each phase of `me-new`
    #[arg(long, default_value_t = 40_000)]
    new_tokens: usize,
    /// One round of short phases: does everything work? Not for figures
    #[arg(long)]
    pub(crate) quick: bool,
    /// Write all figures of all rounds to this file, as JSON
    #[arg(long)]
    pub(crate) out: Option<PathBuf>,
}

impl LoadOptions {
    fn settle(&mut self) -> anyhow::Result<()> {
        if self.quick {
            (self.rounds, self.seconds, self.warm, self.new_tokens) = (1, 1.0, 0.3, 4000);
        }
        let bounded = (0.1..=60.0).contains(&self.seconds) && (0.0..=60.0).contains(&self.warm);
        ensure!(bounded, "--seconds is 0.1 to 60, --warm at most 60");
        let connections = !self.connections.is_empty() && self.connections.iter().all(|c| (1..=1024).contains(c));
        ensure!(connections, "--connections are 1 to 1024");
        ensure!((1..=1_000_000).contains(&self.new_tokens), "--new-tokens are at most 1,000,000");
        self.connections.sort_unstable();
        Ok(())
    }

    fn wants(&self, kind: Kind) -> bool {
        self.only.is_empty() || self.only.contains(&kind)
    }

    fn most(&self) -> usize {
        self.connections.last().copied().unwrap_or(1)
    }

    fn length(&self) -> Duration {
        Duration::from_secs_f64(self.seconds)
    }
}

/// Runs all rounds.
pub(crate) async fn run(options: &mut LoadOptions, rig: &Rig, sheet: &mut Sheet) -> anyhow::Result<()> {
    options.settle()?;
    for round in 1..=options.rounds {
        eprintln!("round {round} of {}", options.rounds);
        let size = product(options, rig, sheet).await?;
        if !options.no_limits {
            limits_of_this_round(options, rig, sheet, size).await?;
            compare(options, sheet);
        }
    }
    Ok(())
}

/// All phases of one kind; how many requests were answered as expected.
async fn phases<S: Source + 'static>(
    options: &LoadOptions,
    sheet: &mut Sheet,
    target: (&Server, Meter),
    (name, warm): (&str, bool),
    source: S,
) -> anyhow::Result<(u64, Rc<RefCell<S>>)> {
    let source = Rc::new(RefCell::new(source));
    let (mut ok, mut best, mut errors) = (0, 0.0_f64, 0);
    if warm && options.warm > 0.0 {
        let length = Duration::from_secs_f64(options.warm);
        let warmed = measure(sheet, name, target, &source, options.most(), Pace::Saturate, length).await?;
        (ok, errors) = (warmed.ok, warmed.errors);
    }
    let mut busiest = 0.0_f64;
    for &connections in &options.connections {
        let f = measure(sheet, name, target, &source, connections, Pace::Saturate, options.length()).await?;
        (ok, errors, best, busiest) = (ok + f.ok, errors + f.errors, best.max(f.rate), busiest.max(f.busy));
        sheet.add(REQUESTS, name, &format!("req/s, {connections} conn."), f.rate);
        sheet.add(REQUESTS, name, &format!("CPU µs, {connections}"), f.cpu);
        if let Some(postgres) = f.postgres {
            sheet.add(REQUESTS, name, &format!("PostgreSQL CPU µs, {connections}"), postgres);
        }
        if connections == options.most() {
            for (which, value) in ["p50", "p99", "p99.9"].into_iter().zip(f.latency) {
                sheet.add(REQUESTS, name, &format!("{which} ms, {connections}"), value);
            }
        }
        eprintln!("  {name}, {connections} connections: {:.0}/s, {:.1} µs", f.rate, f.cpu);
    }
    if !options.no_open {
        let f = measure(sheet, name, target, &source, options.most(), Pace::Open(best / 2.0), options.length()).await?;
        (ok, errors) = (ok + f.ok, errors + f.errors);
        sheet.add(REQUESTS, name, "open: due/s", best / 2.0);
        sheet.add(REQUESTS, name, "open: req/s", f.rate);
        sheet.add(REQUESTS, name, "open: CPU µs", f.cpu);
        for (which, value) in ["p50", "p99", "p99.9"].into_iter().zip(f.latency) {
            sheet.add(REQUESTS, name, &format!("open: {which} ms"), value);
        }
    }
    sheet.add(REQUESTS, name, "errors", errors as f64);
    sheet.add(REQUESTS, name, "load's core busy %", busiest);
    if busiest > BUSY {
        eprintln!("  {name}: the load's own core is full; the server could do more than these req/s");
    }
    Ok((ok, source))
}

/// Creates guests outside the timed phases.
pub(crate) async fn stock(
    server: &Server,
    request: Vec<u8>,
    (count, keep): (usize, usize),
    connections: usize,
) -> anyhow::Result<Vec<Guest>> {
    let source = Rc::new(RefCell::new(Stock::new(request, count, keep)));
    let tally = phase(server.address, &source, connections, Pace::Saturate, Duration::from_mins(20)).await?;
    let made = tally.ok == count as u64;
    ensure!(made, "{} of {count} guests were made: {}", tally.ok, tally.complaints.join("; "));
    let mut source = source.borrow_mut();
    Ok(std::mem::take(&mut source.kept))
}

/// One round of the product; the bytes of head and body of its answer to a creation.
async fn product(options: &LoadOptions, rig: &Rig, sheet: &mut Sheet) -> anyhow::Result<(usize, usize)> {
    let product = rig.start().await?;
    let Product { server, meter, database, rows, bytes, .. } = &product;
    let (target, most) = ((server, *meter), options.most());
    let mut made = (most * SESSIONS).max(SEEN);
    let guests = stock(server, create(), (made, made), most).await?;
    let size = {
        let mut connection = Connection::open(server.address).await?;
        let answer = connection.ask(&create()).await?;
        answer.expect(201)?;
        made += 1;
        (answer.head, answer.body.len())
    };
    let mut made = made as u64;
    if options.wants(Kind::Create) {
        let name = Kind::Create.row();
        let (ok, _) = phases(options, sheet, target, (name, true), InTurn::new(vec![create()], 201)).await?;
        made += ok;
        let (rows_now, bytes_now) = database.stored().await?;
        let stored = rows_now.saturating_sub(*rows);
        sheet.add(STORED, name, "guests answered", made as f64);
        sheet.add(STORED, name, "rows stored", stored as f64);
        if stored != made {
            sheet.fault(format!("{name}: {made} guests were answered, {stored} are stored"));
        }
        sheet.add(STORED, name, "bytes a guest", bytes_now.saturating_sub(*bytes) as f64 / stored.max(1) as f64);
        add_memory(sheet, name, *meter);
    }
    if options.wants(Kind::Floating) {
        phases(options, sheet, target, (Kind::Floating.row(), true), InTurn::new(vec![float()], 200)).await?;
    }
    if options.wants(Kind::MeSeen) {
        let requests = guests.iter().take(SEEN).map(|g| me(&g.access_token)).collect();
        phases(options, sheet, target, (Kind::MeSeen.row(), true), InTurn::new(requests, 200)).await?;
    }
    if options.wants(Kind::MeNew) {
        let count = options.new_tokens * (options.connections.len() + usize::from(!options.no_open));
        let tokens = stock(server, create(), (count, count), most).await?.into_iter().map(|g| g.access_token).collect();
        made += count as u64;
        phases(options, sheet, target, (Kind::MeNew.row(), false), Once::new(tokens, options.new_tokens)).await?;
    }
    if options.wants(Kind::Increment) {
        let name = Kind::Increment.row();
        let (ok, source) = phases(options, sheet, target, (name, true), Increment::new(&guests)).await?;
        debug_assert_eq!(source.borrow().answers, ok);
        let mut connection = Connection::open(server.address).await?;
        let mut counted = 0;
        for guest in guests.iter().take(most) {
            counted += views(&connection.ask(&me(&guest.access_token)).await?)?;
        }
        if counted != ok {
            sheet.fault(format!("{name}: {ok} were answered, {counted} are stored"));
        }
    }
    if options.wants(Kind::Back) {
        let source = Back::new(&mut Connection::open(server.address).await?).await?;
        made += source.guests();
        phases(options, sheet, target, (Kind::Back.row(), true), source).await?;
    }
    if options.wants(Kind::Refresh) {
        phases(options, sheet, target, (Kind::Refresh.row(), true), Refresh::new(&guests, most)).await?;
    }
    let stored = database.stored().await?.0.saturating_sub(*rows);
    if stored != made {
        sheet.fault(format!("at the end of a round: {made} guests were answered, {stored} are stored"));
    }
    sheet.add(STORED, "all kinds", "guests answered", made as f64);
    sheet.add(STORED, "all kinds", "rows stored", stored as f64);
    add_memory(sheet, "all kinds", *meter);
    if let Err(e) = product.server.stop().await {
        sheet.fault(format!("{e:#}"));
    }
    Ok(size)
}

fn add_memory(sheet: &mut Sheet, row: &str, meter: Meter) {
    let (proportional, resident) = memory(meter.server);
    sheet.add(STORED, row, "PSS MiB", proportional / MIB);
    sheet.add(STORED, row, "RSS MiB", resident / MIB);
    if let Some(postgres) = meter.postgres {
        sheet.add(STORED, row, "PostgreSQL PSS MiB", memory(postgres).0 / MIB);
    }
}

const HTTP: &str = "limit: bare HTTP";

async fn limits_of_this_round(
    options: &LoadOptions,
    rig: &Rig,
    sheet: &mut Sheet,
    (head, body): (usize, usize),
) -> anyhow::Result<()> {
    let folder = rig.folder()?;
    let this = std::env::current_exe()?;
    let server = Server::start(rig.cores, &this, folder.path(), "/health/ready", |address, command| {
        command.arg("serve-http").arg("--listen").arg(address.to_string());
        command.arg("--head").arg(head.to_string()).arg("--body").arg(body.to_string());
    })
    .await?;
    let target = (&server, Meter { server: server.pid(), postgres: None });
    let (_, source) = phases(options, sheet, target, (HTTP, true), InTurn::new(vec![create()], 200)).await?;
    let size = source.borrow().size;
    if size != (head, body) {
        sheet.fault(format!(
            "{HTTP}: answers of {size:?} bytes (head, body), where the product's have {:?}",
            (head, body)
        ));
    }
    drop(server);
    let slice = if options.quick { "0.2" } else { "1" };
    limits::run(sheet, rig.cores, &["limit-sign", "--seconds", slice])?;
    let path = folder.path().to_str().context("--dir is not text")?;
    limits::run(sheet, rig.cores, &["limit-rows", "--seconds", slice, "--dir", path])
}

/// What coming back by a device key costs beside its signature check, over what reading oneself costs.
fn compare_back(sheet: &mut Sheet, connections: usize) {
    let column = format!("CPU µs, {connections}");
    let (Some(back), Some(me), Some(check)) = (
        sheet.last(REQUESTS, Kind::Back.row(), &column),
        sheet.last(REQUESTS, Kind::MeSeen.row(), &column),
        sheet.last(limits::TITLE, &limits::check_row(Algorithm::Es256), limits::EACH),
    ) else {
        return;
    };
    let row = format!("back by device key, {connections} conn.");
    sheet.add(COMPARED, &row, "CPU µs", back);
    sheet.add(COMPARED, &row, "ES256 check", check);
    sheet.add(COMPARED, &row, "me", me);
    sheet.add(COMPARED, &row, "(CPU − check) ÷ me", (back - check) / me);
}

/// What a creation costs, over what its parts cost in this round.
fn compare(options: &LoadOptions, sheet: &mut Sheet) {
    for &connections in &options.connections {
        compare_back(sheet, connections);
        let column = format!("CPU µs, {connections}");
        let Some(create) = sheet.last(REQUESTS, Kind::Create.row(), &column) else { return };
        let Some(http) = sheet.last(REQUESTS, HTTP, &column) else { return };
        let Some(sign) = sheet.last(limits::TITLE, &limits::signature_row(Algorithm::Es256), limits::EACH) else {
            return;
        };
        // a group is never larger than the number of those who wait
        let group = limits::GROUPS.into_iter().rfind(|g| *g <= connections).unwrap_or(1);
        let Some(rows) = sheet.last(limits::TITLE, &limits::group_row(group), limits::EACH) else { return };
        let row = format!("create, eager, {connections} conn., rows in groups of {group}");
        let parts = http + sign + rows;
        sheet.add(COMPARED, &row, "CPU µs", create);
        sheet.add(COMPARED, &row, "bare HTTP", http);
        sheet.add(COMPARED, &row, "+ ES256", sign);
        sheet.add(COMPARED, &row, "+ rows", rows);
        sheet.add(COMPARED, &row, "sum of the limits", parts);
        sheet.add(COMPARED, &row, "CPU ÷ sum", create / parts);
    }
}
