//! Servers that are measured: starting, pinning, reading what they use, stopping.

use std::{
    collections::HashMap,
    fs,
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail, ensure};
use tokio::time::sleep;

use crate::client::{Connection, request};

/// Ticks a second of the times in /proc/PID/stat: fixed in the kernel's interface to programs on all usual machines.
const TICKS: f64 = 100.0;
/// For a start and for a stop.
const PATIENCE: Duration = Duration::from_mins(1);

/// Which cores server and load get.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cores {
    /// The server's; none where nothing can be pinned.
    pub(crate) server: Option<usize>,
}

impl Cores {
    /// Puts this process on the load's core and remembers the server's. What cannot be pinned is said and left unpinned.
    pub(crate) fn take(server: usize, load: usize) -> Self {
        let pinned = Command::new("taskset")
            .args(["-apc", &load.to_string(), &std::process::id().to_string()])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .is_ok_and(|s| s.success());
        let possible = pinned
            && server != load
            && Command::new("taskset")
                .args(["-c", &server.to_string(), "true"])
                .stderr(Stdio::null())
                .status()
                .is_ok_and(|s| s.success());
        if possible {
            return Self { server: Some(server) };
        }
        eprintln!(
            "NOT PINNED: this needs taskset and the cores {server} and {load}. Server and load disturb each other; \
             the figures are of little use."
        );
        Self { server: None }
    }

    /// A command that will run on the server's core.
    pub(crate) fn command(self, program: &Path) -> Command {
        match self.server {
            None => Command::new(program),
            Some(core) => {
                let mut command = Command::new("taskset");
                command.args(["-c", &core.to_string()]).arg(program);
                command
            }
        }
    }

    /// Moves a process that runs already, with what it starts from now on.
    pub(crate) fn move_here(self, pid: u32) -> anyhow::Result<()> {
        if let Some(core) = self.server {
            let moved = Command::new("taskset")
                .args(["-apc", &core.to_string(), &pid.to_string()])
                .stdout(Stdio::null())
                .status()?;
            ensure!(moved.success(), "process {pid} cannot be pinned");
        }
        Ok(())
    }
}

/// A server that runs until it is stopped or dropped.
#[derive(Debug)]
pub(crate) struct Server {
    child: Child,
    pub(crate) address: SocketAddr,
    log: PathBuf,
}

impl Server {
    /// Starts `program` on the server's core and waits until `ready` is answered with 200. `arguments` gets the address
    /// to listen at; `folder` is where it runs and its output goes.
    pub(crate) async fn start(
        cores: Cores,
        program: &Path,
        folder: &Path,
        ready: &str,
        arguments: impl FnOnce(SocketAddr, &mut Command),
    ) -> anyhow::Result<Self> {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, passerby_testkit::free_port()));
        let log = folder.join("server.log");
        let output = fs::File::create(&log)?;
        let mut command = cores.command(program);
        arguments(address, &mut command);
        command.current_dir(folder).stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output);
        let child = command.spawn().with_context(|| format!("{} cannot be started", program.display()))?;
        let mut server = Self { child, address, log };
        let (give_up, question) = (Instant::now() + PATIENCE, request("GET", ready, None, None));
        loop {
            if let Some(status) = server.child.try_wait()? {
                bail!("{} ended before it was ready ({status}):\n{}", program.display(), server.log());
            }
            if let Ok(mut connection) = Connection::open(address).await
                && connection.ask(&question).await.is_ok_and(|a| a.status == 200)
            {
                return Ok(server);
            }
            ensure!(Instant::now() < give_up, "{} is not ready in time:\n{}", program.display(), server.log());
            sleep(Duration::from_millis(20)).await;
        }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The end of what it wrote.
    fn log(&self) -> String {
        let text = fs::read(&self.log).unwrap_or_default();
        String::from_utf8_lossy(&text[text.len().saturating_sub(2000)..]).into_owned()
    }

    /// Asks it to end, waits for that, and fails when it ended otherwise than in order.
    pub(crate) async fn stop(mut self) -> anyhow::Result<()> {
        let pid = self.child.id().to_string();
        ensure!(Command::new("kill").args(["-s", "TERM", &pid]).status()?.success(), "the server was gone already");
        let give_up = Instant::now() + PATIENCE;
        while Instant::now() < give_up {
            if let Some(status) = self.child.try_wait()? {
                ensure!(status.success(), "the server ended with {status}:\n{}", self.log());
                return Ok(());
            }
            sleep(Duration::from_millis(10)).await;
        }
        bail!("the server did not stop:\n{}", self.log())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // it may have ended already: then both have nothing to do
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The fields of /proc/PID/stat from `state` on.
fn stat(pid: &str) -> Option<Vec<u64>> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, fields) = text.rsplit_once(')')?;
    Some(fields.split_whitespace().map(|f| f.parse().unwrap_or(0)).collect())
}

/// A process and all its descendants.
fn tree(pid: u32) -> Vec<u32> {
    let mut children: HashMap<u64, Vec<u32>> = HashMap::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        if let Some(name) = entry.file_name().to_str()
            && let Ok(number) = name.parse::<u32>()
            && let Some(fields) = stat(name)
            && let Some(parent) = fields.get(1)
        {
            children.entry(*parent).or_default().push(number);
        }
    }
    let mut found = vec![pid];
    let mut at = 0;
    while let Some(next) = found.get(at).copied() {
        found.extend(children.get(&u64::from(next)).into_iter().flatten());
        at += 1;
    }
    found
}

/// User and system time of a tree of processes so far, in seconds; of children that ended too, once their parent has
/// waited for them.
pub(crate) fn cpu_seconds(pid: u32) -> f64 {
    let mut total = 0;
    // a child that ends between its parent's reading and its own would be lost: a reading counts when the tree stood still
    for _ in 0..20 {
        let before = tree(pid);
        total =
            before.iter().filter_map(|p| stat(&p.to_string())).map(|f| f.iter().skip(11).take(4).sum::<u64>()).sum();
        if tree(pid) == before {
            break;
        }
    }
    total as f64 / TICKS
}

/// User and system time of this process alone, in seconds.
pub(crate) fn own_cpu_seconds() -> f64 {
    stat("self").map_or(0.0, |f| f.iter().skip(11).take(2).sum::<u64>() as f64 / TICKS)
}

/// Time on a core of the calling thread, in seconds, exact to far below a tick.
pub(crate) fn thread_cpu_seconds() -> f64 {
    let text = fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let nanoseconds = text.split_whitespace().next().and_then(|n| n.parse::<u64>().ok());
    nanoseconds.map_or_else(own_cpu_seconds, |n| n as f64 / 1e9)
}

/// The parent of a process on this machine.
pub(crate) fn parent(pid: u32) -> Option<u32> {
    stat(&pid.to_string())?.get(1).map(|p| *p as u32)
}

/// Memory of a tree of processes in bytes: proportional (shared pages count once) and resident.
pub(crate) fn memory(pid: u32) -> (f64, f64) {
    let mut sums = (0, 0);
    for pid in tree(pid) {
        let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
        let kib = |name: &str| -> u64 {
            let line = text.lines().find_map(|l| l.strip_prefix(name));
            line.and_then(|l| l.split_whitespace().next()?.parse().ok()).unwrap_or(0)
        };
        sums.0 += kib("Pss:");
        sums.1 += kib("Rss:");
    }
    (sums.0 as f64 * 1024.0, sums.1 as f64 * 1024.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process() {
        let pid = std::process::id();
        assert!(tree(pid).contains(&pid));
        let (proportional, resident) = memory(pid);
        assert!(0.0 < proportional && proportional <= resident);
        assert!(tree(parent(pid).unwrap()).contains(&pid));
        let before = thread_cpu_seconds();
        let mut sum = 0_u64;
        while thread_cpu_seconds() <= before {
            sum = std::hint::black_box(sum.wrapping_add(1));
        }
    }
}
