//! How cost grows with what is stored.

use std::{cell::RefCell, path::PathBuf, rc::Rc, time::Duration};

use anyhow::ensure;
use clap::Args;

use crate::{
    client::Pace,
    kinds::{InTurn, Once, Refresh, create_with_profile, float, me},
    load::{Meter, Place, Product, Rig, measure, stock},
    process::memory,
    report::Sheet,
};

const TITLE: &str = "By guests stored (profiles of 60 bytes)";
const WARM: Duration = Duration::from_secs(1);
const MIB: f64 = 1024.0 * 1024.0;

/// Options of the run over sizes.
#[derive(Debug, Args)]
pub(crate) struct GrowOptions {
    #[command(flatten)]
    pub(crate) place: Place,
    /// Sizes in thousands of guests
    #[arg(long, value_delimiter = ',', default_value = "1,10,100,1000")]
    sizes: Vec<usize>,
    /// Leave out sizes above this one, in thousands
    #[arg(long, default_value_t = 1000)]
    to: usize,
    /// Rounds, each over all sizes
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=20))]
    pub(crate) rounds: u16,
    /// Seconds of each timed phase
    #[arg(long, default_value_t = 5.0)]
    seconds: f64,
    /// Connections
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u16).range(1..=1024))]
    connections: u16,
    /// Guests, spread over the table, whose tokens are used
    #[arg(long, default_value_t = 20_000)]
    sample: usize,
    /// Sizes up to 10 thousand and short phases: does everything work? Not for figures
    #[arg(long)]
    pub(crate) quick: bool,
    /// Write all figures of all rounds to this file, as JSON
    #[arg(long)]
    pub(crate) out: Option<PathBuf>,
}

/// Every size on a database of its own: filled, then read and refreshed all over the table, then grown further.
pub(crate) async fn run(options: &mut GrowOptions, rig: &Rig, sheet: &mut Sheet) -> anyhow::Result<()> {
    if options.quick {
        (options.to, options.seconds, options.sample) = (options.to.min(10), 1.0, 2000);
    }
    ensure!((0.1..=60.0).contains(&options.seconds), "--seconds is 0.1 to 60");
    options.sizes.retain(|s| (1..=options.to.min(20_000)).contains(s));
    ensure!(!options.sizes.is_empty(), "no size is left; sizes are 1 to 20,000 thousand");
    options.sizes.sort_unstable();
    for round in 1..=options.rounds {
        let mut empty = None;
        for thousands in std::iter::once(0).chain(options.sizes.clone()) {
            eprintln!("round {round} of {}: {thousands} thousand", options.rounds);
            let rate = one(options, rig, sheet, thousands * 1000, empty).await?;
            empty = empty.or(Some(rate));
        }
    }
    Ok(())
}

/// One size; guests created per second from there on.
async fn one(
    options: &GrowOptions,
    rig: &Rig,
    sheet: &mut Sheet,
    count: usize,
    empty: Option<f64>,
) -> anyhow::Result<f64> {
    let product = rig.start().await?;
    let Product { server, meter, database, rows, bytes, .. } = &product;
    let connections = usize::from(options.connections);
    let length = Duration::from_secs_f64(options.seconds);
    let (target, row) = ((server, *meter), format!("{} thousand", count / 1000));
    // floating guests leave nothing behind: also the empty server is measured warm
    let floating = Rc::new(RefCell::new(InTurn::new(vec![float()], 200)));
    measure(sheet, "warm-up", target, &floating, connections, Pace::Saturate, WARM).await?;
    let mut made = 0;
    if count > 0 {
        let guests =
            stock(server, create_with_profile(), (count, options.sample.max(connections)), connections).await?;
        made = count as u64;
        let (stored, bytes_now) = database.stored().await?;
        ensure!(stored - rows == made, "{made} guests were answered, {} are stored", stored - rows);
        sheet.add(TITLE, &row, "bytes a guest", (bytes_now - bytes) as f64 / count as f64);
        add_memory(sheet, &row, "PSS MiB, filled", *meter);

        let tokens: Vec<String> = guests.iter().map(|g| g.access_token.clone()).collect();
        let share = tokens.len();
        let new = Rc::new(RefCell::new(Once::new(tokens, share)));
        let f = measure(sheet, "me, new", target, &new, connections, Pace::Saturate, length * 10).await?;
        sheet.add(TITLE, &row, "me, new tokens: CPU µs", f.cpu);
        let requests = guests.iter().map(|g| me(&g.access_token)).collect();
        let seen = Rc::new(RefCell::new(InTurn::new(requests, 200)));
        let f = measure(sheet, "me", target, &seen, connections, Pace::Saturate, length).await?;
        sheet.add(TITLE, &row, "me, spread: req/s", f.rate);
        sheet.add(TITLE, &row, "me, spread: CPU µs", f.cpu);
        sheet.add(TITLE, &row, "me, spread: p99 ms", f.latency[1]);
        let sessions = Rc::new(RefCell::new(Refresh::new(&guests, connections)));
        let f = measure(sheet, "refresh", target, &sessions, connections, Pace::Saturate, length).await?;
        sheet.add(TITLE, &row, "refresh, spread: req/s", f.rate);
        sheet.add(TITLE, &row, "refresh, spread: CPU µs", f.cpu);
        if let Some(postgres) = f.postgres {
            sheet.add(TITLE, &row, "refresh, spread: PostgreSQL CPU µs", postgres);
        }
        sheet.add(TITLE, &row, "refresh, spread: p99 ms", f.latency[1]);
    }
    let source = Rc::new(RefCell::new(InTurn::new(vec![create_with_profile()], 201)));
    let f = measure(sheet, "create", target, &source, connections, Pace::Saturate, length).await?;
    sheet.add(TITLE, &row, "create: req/s", f.rate);
    sheet.add(TITLE, &row, "create: ÷ rate at 0", f.rate / empty.unwrap_or(f.rate));
    sheet.add(TITLE, &row, "create: CPU µs", f.cpu);
    if let Some(postgres) = f.postgres {
        sheet.add(TITLE, &row, "create: PostgreSQL CPU µs", postgres);
    }
    sheet.add(TITLE, &row, "create: p99 ms", f.latency[1]);
    add_memory(sheet, &row, "PSS MiB, end", *meter);
    made += f.ok;
    let stored = database.stored().await?.0.saturating_sub(*rows);
    if stored != made {
        sheet.fault(format!("{row}: {made} guests were answered, {stored} are stored"));
    }
    eprintln!("  create {:.0}/s, {:.1} µs", f.rate, f.cpu);
    if let Err(e) = product.server.stop().await {
        sheet.fault(format!("{e:#}"));
    }
    Ok(f.rate)
}

fn add_memory(sheet: &mut Sheet, row: &str, column: &str, meter: Meter) {
    sheet.add(TITLE, row, column, memory(meter.server).0 / MIB);
}
