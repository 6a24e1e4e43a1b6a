//! Raised epochs: what a follower's question costs beside `GET /v1/me`, and whether many raises slow creation.

use std::{cell::RefCell, path::PathBuf, rc::Rc, time::Duration};

use anyhow::{Context as _, ensure};
use clap::Args;

use crate::{
    client::{Answer, Connection, Pace, Source, phase, request},
    kinds::{InTurn, Stock, create, me},
    load::{Figures, Meter, Place, Product, Rig, measure, stock},
    process::Server,
    report::Sheet,
};

const ASKING: &str = "Asking for raised epochs";
const CREATING: &str = "Creation while epochs rise";
/// The key of the configuration that may do everything.
const KEY: &str = "acceptance-root-key-0123456789abcdef0123456789";
const WARM: Duration = Duration::from_secs(1);
/// A slower server than that did not run what was to be measured.
const REACHED: f64 = 0.95;

/// Options of the run over raised epochs.
#[derive(Debug, Args)]
pub(crate) struct EpochsOptions {
    #[command(flatten)]
    pub(crate) place: Place,
    /// Rounds; creation with and without raises takes turns
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..=50))]
    pub(crate) rounds: u16,
    /// Seconds of each timed phase
    #[arg(long, default_value_t = 15.0)]
    seconds: f64,
    /// Raised epochs a minute
    #[arg(long, default_value_t = 100_000.0)]
    raises: f64,
    /// Guests created a second, as shares of what one saturated phase of the same round creates
    #[arg(long, value_delimiter = ',', default_value = "0.25,0.5")]
    shares: Vec<f64>,
    /// Connections of each side
    #[arg(long, default_value_t = 32, value_parser = clap::value_parser!(u16).range(1..=1024))]
    connections: u16,
    /// Guests whose epochs rise in turn
    #[arg(long, default_value_t = 40_000)]
    guests: usize,
    /// Followers that ask once a second meanwhile, each for what it does not know
    #[arg(long, default_value_t = 1.0)]
    followers: f64,
    /// One round of short phases: does everything work? Not for figures
    #[arg(long)]
    pub(crate) quick: bool,
    /// Write all figures of all rounds to this file, as JSON
    #[arg(long)]
    pub(crate) out: Option<PathBuf>,
}

/// Followers that go on from their cursor.
struct Followers {
    cursors: Vec<Option<String>>,
}

impl Source for Followers {
    fn next(&mut self, connection: usize, out: &mut Vec<u8>) -> bool {
        let since = self.cursors[connection].as_ref().map_or(String::new(), |c| format!("?since={c}"));
        out.extend_from_slice(&request("GET", &format!("/v1/epochs{since}"), Some(KEY), None));
        true
    }

    fn answered(&mut self, connection: usize, answer: &Answer<'_>) -> anyhow::Result<()> {
        answer.expect(200)?;
        self.cursors[connection] = Some(answer.text("cursor").context("the answer has no cursor")?.to_owned());
        Ok(())
    }
}

/// Runs all rounds on one server, so that what is compared shares its state.
pub(crate) async fn run(options: &mut EpochsOptions, rig: &Rig, sheet: &mut Sheet) -> anyhow::Result<()> {
    if options.quick {
        (options.rounds, options.seconds, options.guests) = (1, 2.0, 4000);
    }
    ensure!((0.1..=120.0).contains(&options.seconds), "--seconds is 0.1 to 120");
    ensure!(options.shares.iter().all(|s| (0.01..=1.0).contains(s)), "--shares are 0.01 to 1");
    ensure!((1.0..=1e7).contains(&options.raises), "--raises is at most 10,000,000");
    ensure!((0.0..=1000.0).contains(&options.followers), "--followers is at most 1,000");
    ensure!((1000..=5_000_000).contains(&options.guests), "--guests is 1,000 to 5,000,000");
    let product = rig.start().await?;
    let Product { server, meter, .. } = &product;
    let target = (server, *meter);
    let connections = usize::from(options.connections);
    let ids = stored_ids(server, options.guests, connections).await?;
    let path = |id: &String| request("POST", &format!("/v1/users/{id}/revoke-all"), Some(KEY), None);
    let raises = Rc::new(RefCell::new(InTurn::new(ids.iter().map(path).collect(), 200)));
    for round in 1..=options.rounds {
        eprintln!("round {round} of {}", options.rounds);
        asking(options, sheet, target, connections).await?;
        creating(options, sheet, target, connections, &raises, round).await?;
    }
    product.server.stop().await
}

/// Guests whose ids are known.
async fn stored_ids(server: &Server, count: usize, connections: usize) -> anyhow::Result<Vec<String>> {
    struct Ids(Stock, Vec<String>);
    impl Source for Ids {
        fn next(&mut self, connection: usize, out: &mut Vec<u8>) -> bool {
            self.0.next(connection, out)
        }
        fn answered(&mut self, connection: usize, answer: &Answer<'_>) -> anyhow::Result<()> {
            self.0.answered(connection, answer)?;
            self.1.push(answer.text("id").context("the answer has no id")?.to_owned());
            Ok(())
        }
    }
    let ids = Rc::new(RefCell::new(Ids(Stock::new(create(), count, 1), Vec::with_capacity(count))));
    let tally = phase(server.address, &ids, connections, Pace::Saturate, Duration::from_mins(10)).await?;
    let ids = std::mem::take(&mut ids.borrow_mut().1);
    ensure!(tally.errors == 0 && ids.len() == count, "{} of {count} guests were made", ids.len());
    Ok(ids)
}

/// What a question costs while nothing rises: the answer, the answer that nothing changed, and reading oneself.
async fn asking(
    options: &EpochsOptions,
    sheet: &mut Sheet,
    target: (&Server, Meter),
    connections: usize,
) -> anyhow::Result<()> {
    let guests = stock(target.0, create(), (16, 16), 16).await?;
    let mut connection = Connection::open(target.0.address).await?;
    let first = request("GET", "/v1/epochs", Some(KEY), None);
    let cursor = {
        let answer = connection.ask(&first).await?;
        answer.expect(200)?;
        answer.text("cursor").map(str::to_owned).context("the answer has no cursor")?
    };
    let since = request("GET", &format!("/v1/epochs?since={cursor}"), Some(KEY), None);
    let tag = {
        let answer = connection.ask(&since).await?;
        answer.header("etag").map(str::to_owned).context("the answer has no ETag")?
    };
    let mut unchanged = since.clone();
    unchanged.truncate(unchanged.len() - 2);
    unchanged.extend_from_slice(format!("if-none-match: {tag}\r\n\r\n").as_bytes());
    let mine = guests.iter().map(|g| me(&g.access_token)).collect();
    let length = Duration::from_secs_f64((options.seconds / 3.0).max(0.5));
    let mut base = None;
    for (row, source) in
        [("me, tokens seen before", InTurn::new(mine, 200)), ("epochs, JSON", InTurn::new(vec![since], 200))]
    {
        let f = ask(sheet, row, target, source, connections, length).await?;
        sheet.add(ASKING, row, "CPU ÷ me", f.cpu / *base.get_or_insert(f.cpu));
    }
    // within the minute in which the answer stays the same; beyond it a 200 voids nothing that is measured here
    let source = Either(unchanged);
    let f = ask(sheet, "epochs, If-None-Match", target, source, connections, length).await?;
    sheet.add(ASKING, "epochs, If-None-Match", "CPU ÷ me", f.cpu / base.unwrap_or(f.cpu));
    Ok(())
}

/// One request that is answered with 200 or 304.
struct Either(Vec<u8>);

impl Source for Either {
    fn next(&mut self, _: usize, out: &mut Vec<u8>) -> bool {
        out.extend_from_slice(&self.0);
        true
    }

    fn answered(&mut self, _: usize, answer: &Answer<'_>) -> anyhow::Result<()> {
        if answer.status == 304 { Ok(()) } else { answer.expect(200) }
    }
}

async fn ask<S: Source + 'static>(
    sheet: &mut Sheet,
    row: &str,
    target: (&Server, Meter),
    source: S,
    connections: usize,
    length: Duration,
) -> anyhow::Result<Figures> {
    let source = Rc::new(RefCell::new(source));
    measure(sheet, row, target, &source, connections, Pace::Saturate, WARM.min(length)).await?;
    let f = measure(sheet, row, target, &source, connections, Pace::Saturate, length).await?;
    sheet.add(ASKING, row, "req/s", f.rate);
    sheet.add(ASKING, row, "CPU µs", f.cpu);
    sheet.add(ASKING, row, "p99 ms", f.latency[1]);
    Ok(f)
}

/// Creation at a fixed rate, alone and while epochs rise, in an order that changes with the round.
async fn creating(
    options: &EpochsOptions,
    sheet: &mut Sheet,
    target: (&Server, Meter),
    connections: usize,
    raises: &Rc<RefCell<InTurn>>,
    round: u16,
) -> anyhow::Result<()> {
    let length = Duration::from_secs_f64(options.seconds);
    let per_second = options.raises / 60.0;
    let creations = Rc::new(RefCell::new(InTurn::new(vec![create()], 201)));
    let best = measure(sheet, "create", target, &creations, connections, Pace::Saturate, WARM * 2).await?.rate;
    let followers = Rc::new(RefCell::new(Followers { cursors: vec![None; options.followers.ceil() as usize] }));
    for share in &options.shares {
        let mut p99 = [None, None];
        for turn in 0..2u16 {
            let rising = (turn + round).is_multiple_of(2);
            let name = if rising { "while epochs rise" } else { "alone" };
            let row = format!("{share} of saturation, {name}");
            let pace = Pace::Open(best * share);
            let others = async {
                if !rising {
                    return Ok(None);
                }
                let raising = phase(target.0.address, raises, connections, Pace::Open(per_second), length);
                if options.followers <= 0.0 {
                    return raising.await.map(Some);
                }
                let pace = Pace::Open(options.followers);
                let following = phase(target.0.address, &followers, options.followers.ceil() as usize, pace, length);
                let (raised, followed) = tokio::try_join!(raising, following)?;
                ensure!(followed.errors == 0, "followers: {}", followed.complaints.join("; "));
                Ok(Some(raised))
            };
            let (created, raised) =
                tokio::join!(measure(sheet, &row, target, &creations, connections, pace, length), others);
            let (created, raised) = (created?, raised?);
            sheet.add(CREATING, &row, "created/s", created.rate);
            sheet.add(CREATING, &row, "p50 ms", created.latency[0]);
            sheet.add(CREATING, &row, "p99 ms", created.latency[1]);
            sheet.add(CREATING, &row, "load's core busy %", created.busy);
            if created.rate < best * share * REACHED {
                sheet.fault(format!("{row}: {:.0} creations a second of {:.0}", created.rate, best * share));
            }
            if let Some(raised) = raised {
                let rate = raised.ok as f64 / raised.elapsed.as_secs_f64();
                sheet.add(CREATING, &row, "raised/min", rate * 60.0);
                sheet.add(CREATING, &row, "raise p99 ms", raised.latency.quantile(0.99) as f64 / 1e6);
                if raised.errors > 0 || rate < per_second * REACHED {
                    sheet.fault(format!("{row}: {rate:.0} raises a second; {}", raised.complaints.join("; ")));
                }
            }
            p99[usize::from(rising)] = Some(created.latency[1]);
        }
        if let [Some(alone), Some(rising)] = p99 {
            let row = format!("{share} of saturation, while epochs rise");
            sheet.add(CREATING, &row, "p99 ÷ p99 alone", rising / alone);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn followers_go_on_from_their_cursor() {
        let mut followers = Followers { cursors: vec![None, None] };
        let asked = |followers: &mut Followers, n: usize| {
            let mut out = Vec::new();
            assert!(followers.next(n, &mut out));
            String::from_utf8(out).unwrap().lines().next().unwrap().to_owned()
        };
        assert_eq!(asked(&mut followers, 1), "GET /v1/epochs HTTP/1.1");
        let body = br#"{"epochs":[{"user_id":"x","epoch":1,"at":"2026-11-21T00:00:00.000Z"}],"cursor":"e1-7"}"#;
        let answer = Answer { status: 200, body, head: 0, headers: b"" };
        followers.answered(1, &answer).unwrap();
        assert_eq!(asked(&mut followers, 1), "GET /v1/epochs?since=e1-7 HTTP/1.1");
        assert_eq!(asked(&mut followers, 0), "GET /v1/epochs HTTP/1.1");
        assert!(followers.answered(0, &Answer { status: 200, body: b"{}", ..answer }).is_err());
    }
}
