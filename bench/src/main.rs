//! The benchmark of Passerby and of the limits it is compared with. See README.md beside it.

mod back;
mod client;
mod epochs;
mod grow;
mod histogram;
mod kinds;
mod limits;
mod load;
mod process;
mod report;
mod sign_ins;
mod stored;

use std::{fs, net::SocketAddr, path::PathBuf, process::ExitCode, time::Duration};

use clap::{Args, Parser, Subcommand};
use serde_json::json;

use crate::{
    epochs::EpochsOptions,
    grow::GrowOptions,
    load::{LoadOptions, Rig},
    report::Sheet,
    sign_ins::SignInsOptions,
};

/// The product's allocator, so that the limit of bare HTTP has it too.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Measures Passerby and the limits of the machine it runs on
#[derive(Debug, Parser)]
#[command(args_conflicts_with_subcommands = true)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    load: LoadOptions,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Requests of all kinds and the limits, in turns (the default)
    Load(Box<LoadOptions>),
    /// How cost grows with the number of stored guests
    Grow(Box<GrowOptions>),
    /// What following raised epochs costs, and whether many raises slow creation
    Epochs(Box<EpochsOptions>),
    /// What sign-ins by password do to creation
    SignIns(Box<SignInsOptions>),
    /// The limit: bare HTTP
    #[command(hide = true)]
    ServeHttp(ServeHttp),
    /// The limit: signatures
    #[command(hide = true)]
    LimitSign {
        /// Seconds of each case
        #[arg(long)]
        seconds: f64,
    },
    /// The limit: rows
    #[command(hide = true)]
    LimitRows {
        /// Seconds of each case
        #[arg(long)]
        seconds: f64,
        /// An empty folder
        #[arg(long)]
        dir: PathBuf,
    },
}

#[derive(Debug, Args)]
struct ServeHttp {
    /// Address
    #[arg(long)]
    listen: SocketAddr,
    /// Bytes of an answer's head
    #[arg(long)]
    head: usize,
    /// Bytes of an answer's body
    #[arg(long)]
    body: usize,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(e) => {
            eprintln!("error: {e}");
            return ExitCode::FAILURE;
        }
    };
    let command = arguments.command.unwrap_or_else(|| Command::Load(Box::new(arguments.load)));
    match runtime.block_on(run(command)) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => {
            eprintln!("the run is void");
            ExitCode::FAILURE
        }
        Err(e) => {
            eprintln!("error: {e:#}");
            ExitCode::FAILURE
        }
    }
}

/// Whether the figures stand.
async fn run(command: Command) -> anyhow::Result<bool> {
    let mut sheet = Sheet::default();
    match command {
        Command::ServeHttp(o) => limits::serve_http(o.listen, o.head, o.body).await?,
        Command::LimitSign { seconds } => limits::sign(Duration::try_from_secs_f64(seconds)?)?,
        Command::LimitRows { seconds, dir } => limits::rows(&dir, Duration::try_from_secs_f64(seconds)?)?,
        Command::Load(mut options) => {
            let rig = Rig::new(&options.place).await?;
            let ran = load::run(&mut options, &rig, &mut sheet).await;
            finish(&mut sheet, ran, options.quick, options.out.as_deref())?;
        }
        Command::Grow(mut options) => {
            let rig = Rig::new(&options.place).await?;
            let ran = grow::run(&mut options, &rig, &mut sheet).await;
            finish(&mut sheet, ran, options.quick, options.out.as_deref())?;
        }
        Command::Epochs(mut options) => {
            let rig = Rig::new(&options.place).await?;
            let ran = epochs::run(&mut options, &rig, &mut sheet).await;
            finish(&mut sheet, ran, options.quick, options.out.as_deref())?;
        }
        Command::SignIns(mut options) => {
            let rig = Rig::new(&options.place).await?;
            let ran = sign_ins::run(&mut options, &rig, &mut sheet).await;
            finish(&mut sheet, ran, options.quick, options.out.as_deref())?;
        }
    }
    Ok(!sheet.is_void())
}

/// Prints what was measured, also when the run broke off.
fn finish(
    sheet: &mut Sheet,
    ran: anyhow::Result<()>,
    quick: bool,
    out: Option<&std::path::Path>,
) -> anyhow::Result<()> {
    if let Err(e) = ran {
        sheet.fault(format!("the run broke off: {e:#}"));
    }
    let command: Vec<String> = std::env::args().skip(1).collect();
    println!("`{}`: median (min–max) of the rounds.", ["bench/run".into(), command.join(" ")].join(" ").trim());
    println!("{}", machine());
    if quick {
        println!("A quick run shows that everything works; its figures are worth nothing.");
    }
    println!("{}", sheet.markdown());
    if let Some(path) = out {
        let mut figures = sheet.json();
        figures["command"] = json!(command);
        figures["machine"] = json!(machine());
        fs::write(path, serde_json::to_string_pretty(&figures)?)?;
    }
    Ok(())
}

/// Processor, kernel, and how busy the machine is.
fn machine() -> String {
    let read = |path| fs::read_to_string(path).unwrap_or_default();
    let cpu = read("/proc/cpuinfo");
    let model = cpu
        .lines()
        .find_map(|l| l.strip_prefix("model name"))
        .map_or("unknown processor", |m| m.trim_matches([' ', '\t', ':']));
    let cores = cpu.lines().filter(|l| l.starts_with("processor")).count();
    format!(
        "{model}, {cores} cores; Linux {}; load average at the end {}.",
        read("/proc/sys/kernel/osrelease").trim(),
        read("/proc/loadavg").split(' ').take(3).collect::<Vec<_>>().join(" ")
    )
}
