//! Sign-ins by password: what one costs, and whether those who sign in, or flood the door, slow creation.

use std::{cell::RefCell, path::PathBuf, rc::Rc, time::Duration};

use anyhow::{Context as _, ensure};
use clap::Args;

use crate::{
    client::{Answer, Connection, Pace, Source, phase, request},
    kinds::{InTurn, create},
    load::{Meter, Place, Product, Rig, measure},
    process::Server,
    report::Sheet,
};

const CREATING: &str = "Creation while people sign in";
/// The key of the configuration that may do everything.
const KEY: &str = "acceptance-root-key-0123456789abcdef0123456789";
const PASSWORD: &str = "a fairly long benchmark password";
const WARM: Duration = Duration::from_secs(2);
/// A slower server than that did not run what was to be measured.
const REACHED: f64 = 0.95;

/// Options of the run over sign-ins.
#[derive(Debug, Args)]
pub(crate) struct SignInsOptions {
    #[command(flatten)]
    pub(crate) place: Place,
    /// Rounds; creation with and without sign-ins takes turns
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..=50))]
    pub(crate) rounds: u16,
    /// Seconds of each timed phase
    #[arg(long, default_value_t = 8.0)]
    seconds: f64,
    /// Sign-ins a second, one kind of phase for each
    #[arg(long, value_delimiter = ',', default_value = "20,400")]
    rates: Vec<f64>,
    /// Guests created a second, as shares of what one saturated phase of the same round creates
    #[arg(long, value_delimiter = ',', default_value = "0.25")]
    shares: Vec<f64>,
    /// Connections of each side
    #[arg(long, default_value_t = 32, value_parser = clap::value_parser!(u16).range(1..=1024))]
    connections: u16,
    /// Accounts that sign in in turn
    #[arg(long, default_value_t = 50)]
    accounts: usize,
    /// One round of short phases: does everything work? Not for figures
    #[arg(long)]
    pub(crate) quick: bool,
    /// Write all figures of all rounds to this file, as JSON
    #[arg(long)]
    pub(crate) out: Option<PathBuf>,
}

/// Sign-ins; those that the server is too busy for are counted apart.
struct SignIns {
    requests: InTurn,
    busy: usize,
}

impl Source for SignIns {
    fn begin(&mut self) {
        self.busy = 0;
    }

    fn next(&mut self, connection: usize, out: &mut Vec<u8>) -> bool {
        self.requests.next(connection, out)
    }

    fn answered(&mut self, _: usize, answer: &Answer<'_>) -> anyhow::Result<()> {
        if answer.status != 503 {
            return answer.expect(200);
        }
        self.busy += 1;
        ensure!(answer.header("retry-after").is_some(), "a 503 without Retry-After");
        Ok(())
    }
}

/// Runs all rounds on one server.
pub(crate) async fn run(options: &mut SignInsOptions, rig: &Rig, sheet: &mut Sheet) -> anyhow::Result<()> {
    if options.quick {
        (options.rounds, options.seconds, options.accounts) = (1, 2.0, 5);
    }
    ensure!((0.1..=120.0).contains(&options.seconds), "--seconds is 0.1 to 120");
    ensure!(options.shares.iter().all(|s| (0.01..=1.0).contains(s)), "--shares are 0.01 to 1");
    ensure!(options.rates.iter().all(|r| (0.1..=100_000.0).contains(r)), "--rates are 0.1 to 100,000");
    ensure!((1..=10_000).contains(&options.accounts), "--accounts is 1 to 10,000");
    let product = rig.start().await?;
    let Product { server, meter, .. } = &product;
    let requests = accounts(server, options.accounts).await?;
    for round in 1..=options.rounds {
        eprintln!("round {round} of {}", options.rounds);
        creating(options, sheet, (server, *meter), &requests, round).await?;
    }
    product.server.stop().await
}

/// Makes accounts by API key; gives what each signs in by.
async fn accounts(server: &Server, count: usize) -> anyhow::Result<Vec<Vec<u8>>> {
    let mut connection = Connection::open(server.address).await?;
    let mut requests = Vec::with_capacity(count);
    for n in 0..count {
        let identifier = format!("{{\"kind\":\"username\",\"value\":\"bench-{n}\",\"verified\":true}}");
        let body = format!("{{\"kind\":\"regular\",\"identifiers\":[{identifier}],\"password\":\"{PASSWORD}\"}}");
        connection
            .ask(&request("POST", "/v1/users", Some(KEY), Some(&body)))
            .await?
            .expect(201)
            .context("an account")?;
        let named = format!("\"method\":\"password\",\"username\":\"bench-{n}\",\"password\":\"{PASSWORD}\"");
        let body = format!("{{\"client_id\":\"demo-spa\",{named}}}");
        requests.push(request("POST", "/v1/sign-in", None, Some(&body)));
    }
    Ok(requests)
}

/// Creation at a fixed rate, alone and beside sign-ins, in an order that changes with the round.
async fn creating(
    options: &SignInsOptions,
    sheet: &mut Sheet,
    target: (&Server, Meter),
    requests: &[Vec<u8>],
    round: u16,
) -> anyhow::Result<()> {
    let length = Duration::from_secs_f64(options.seconds);
    let connections = usize::from(options.connections);
    let creations = Rc::new(RefCell::new(InTurn::new(vec![create()], 201)));
    let sign_ins = SignIns { requests: InTurn::new(requests.to_vec(), 200), busy: 0 };
    let sign_ins = Rc::new(RefCell::new(sign_ins));
    let best = measure(sheet, "create", target, &creations, connections, Pace::Saturate, WARM).await?.rate;
    for share in &options.shares {
        let mut kinds: Vec<Option<f64>> =
            std::iter::once(None).chain(options.rates.iter().copied().map(Some)).collect();
        let turns = usize::from(round) % kinds.len();
        kinds.rotate_left(turns);
        let (mut alone, mut beside) = (None, Vec::new());
        for kind in kinds {
            let name = kind.map_or_else(|| "alone".to_owned(), |rate| format!("beside {rate} sign-ins/s"));
            let row = format!("{share} of saturation, {name}");
            let others = async {
                match kind {
                    Some(rate) => {
                        phase(target.0.address, &sign_ins, connections, Pace::Open(rate), length).await.map(Some)
                    }
                    None => Ok(None),
                }
            };
            let pace = Pace::Open(best * share);
            let (created, signed) =
                tokio::join!(measure(sheet, &row, target, &creations, connections, pace, length), others);
            let (created, signed) = (created?, signed?);
            sheet.add(CREATING, &row, "created/s", created.rate);
            sheet.add(CREATING, &row, "p50 ms", created.latency[0]);
            sheet.add(CREATING, &row, "p99 ms", created.latency[1]);
            if created.rate < best * share * REACHED {
                sheet.fault(format!("{row}: {:.0} creations a second of {:.0}", created.rate, best * share));
            }
            let Some(signed) = signed else {
                alone = Some(created.latency[1]);
                continue;
            };
            let busy = sign_ins.borrow().busy as f64;
            let seconds = signed.elapsed.as_secs_f64();
            sheet.add(CREATING, &row, "signed in/s", (signed.ok as f64 - busy) / seconds);
            sheet.add(CREATING, &row, "503/s", busy / seconds);
            sheet.add(CREATING, &row, "answer p99 ms", signed.latency.quantile(0.99) as f64 / 1e6);
            if signed.errors > 0 {
                sheet.fault(format!("{row}: {}", signed.complaints.join("; ")));
            }
            beside.push((row, created.latency[1]));
        }
        for (row, p99) in beside {
            if let Some(alone) = alone {
                sheet.add(CREATING, &row, "p99 ÷ p99 alone", p99 / alone);
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn too_busy_is_an_answer_and_anything_else_is_not() {
        let mut source = SignIns { requests: InTurn::new(vec![Vec::new()], 200), busy: 0 };
        let answer = Answer { status: 200, body: b"{}", head: 0, headers: b"" };
        assert!(source.answered(0, &answer).is_ok());
        assert!(source.answered(0, &Answer { status: 503, headers: b"Retry-After: 1\r\n", ..answer }).is_ok());
        assert!(source.answered(0, &Answer { status: 503, headers: b"", body: b"", head: 0 }).is_err());
        assert!(source.answered(0, &Answer { status: 401, headers: b"", body: b"", head: 0 }).is_err());
        assert_eq!(source.busy, 2);
        source.begin();
        assert_eq!(source.busy, 0);
    }
}
