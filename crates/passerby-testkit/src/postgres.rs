//! Throw-away PostgreSQL servers.
//!
//! A server runs as an unprivileged user in a folder of its own, on a free loopback port. A small shell process holds it:
//! it waits at the end of a pipe, and when the test process ends, however it ends, the shell sees the pipe close, stops the
//! server and removes the folder. (A parent-death signal would fire when the *thread* that started the server ends, which
//! in a test runner is long before the process.)

use std::{
    collections::hash_map::RandomState,
    env, fmt, fs,
    hash::{BuildHasher, Hasher},
    io::Write as _,
    os::unix::fs::chown,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use tokio::{
    sync::OnceCell,
    time::{Instant, sleep},
};
use tokio_postgres::{Client, NoTls};

use crate::free_port;

const FOLDER: &str = "passerby-test-postgres-";
const ADMIN: &str = "passerby";
const PATIENCE: Duration = Duration::from_mins(1);
const MISSING: &str = "no PostgreSQL server is installed. On Debian: apt-get install postgresql. Elsewhere: set PGBIN to the folder of \
                       `initdb` and `postgres`, or PASSERBY_TEST_POSTGRES to the URL of a server where databases may be made";

/// `$0` is the folder, the rest the command. One line `keep SIGNAL` ends the server and leaves the folder.
const HOLDER: &str = r#"trap '' INT TERM HUP
"$@" </dev/null >>"$0/log" 2>&1 &
server=$!
read -r word signal || { word=remove; signal=QUIT; }
kill -s "$signal" "$server" 2>/dev/null
wait "$server"
[ "$word" = keep ] || rm -rf "$0""#;

/// How a server is run.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Writes reach the disk (`fsync`): for measuring. Tests go without; a killed server loses nothing by that, only a
    /// machine that fails does.
    pub durable: bool,
    /// Further settings, by their names in `postgresql.conf`.
    pub settings: Vec<(String, String)>,
    /// Files put beside the data, readable by the server alone; settings name them by [`Cluster::file`]'s path. They are
    /// there before the server starts: pairs of name and contents.
    pub files: Vec<(String, String)>,
}

/// A server of its own.
pub struct Cluster {
    bin: PathBuf,
    dir: PathBuf,
    port: u16,
    /// User and group that the server runs as, when we are root.
    account: Option<(u32, u32)>,
    options: Options,
    holder: Option<Child>,
}

impl fmt::Debug for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cluster")
            .field("port", &self.port)
            .field("running", &self.holder.is_some())
            .finish_non_exhaustive()
    }
}

impl Cluster {
    /// A new server for tests.
    ///
    /// # Panics
    /// When no server is installed, with the package's name, or when it does not start.
    pub async fn start() -> Self {
        Self::start_with(Options::default()).await
    }

    /// A new server, run as asked.
    ///
    /// # Panics
    /// As [`Cluster::start`].
    pub async fn start_with(options: Options) -> Self {
        remove_left_over();
        let bin = binaries();
        let prefix = format!("{FOLDER}{}-", std::process::id());
        let dir = tempfile::Builder::new().prefix(&prefix).tempdir().expect("a temporary folder").keep();
        let account = (said("id", &["-u"]) == "0").then(account);
        if let Some((user, group)) = account {
            chown(&dir, Some(user), Some(group)).expect("the folder given to the server's user");
        }
        let mut cluster = Self { bin, dir, port: free_port(), account, options, holder: None };
        for (name, contents) in &cluster.options.files {
            cluster.put(name, contents);
        }
        let made = cluster
            .command("initdb")
            .arg("-D")
            .arg(cluster.dir.join("data"))
            .args(["-U", ADMIN, "-A", "trust", "-E", "UTF8", "--locale=C", "--no-instructions", "--no-sync"])
            .output()
            .expect(MISSING);
        assert!(made.status.success(), "initdb failed: {}", String::from_utf8_lossy(&made.stderr));
        cluster.restart().await;
        cluster
    }

    /// The URL of a database on this server.
    pub fn url(&self, database: &str) -> String {
        format!("postgres://{ADMIN}@127.0.0.1:{}/{database}", self.port)
    }

    /// The port; it stays the same over restarts.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Where a file of [`Options::files`] lies. The folder is known only after the start: in `settings`, write `../NAME`,
    /// which the server reads from its data folder.
    pub fn file(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// Process id of the server's first process, while it runs.
    pub fn pid(&self) -> Option<u32> {
        let file = fs::read_to_string(self.dir.join("data/postmaster.pid")).ok()?;
        file.lines().next()?.trim().parse().ok()
    }

    /// Makes a database and returns its URL.
    ///
    /// # Panics
    /// When the server refuses.
    pub async fn database(&self) -> String {
        let name = unique_name();
        make_database(&self.url("postgres"), &name).await;
        self.url(&name)
    }

    /// Stops the server in order; connections are closed.
    ///
    /// # Panics
    /// When the shell that holds it is gone.
    pub fn stop(&mut self) {
        self.end("INT");
    }

    /// Ends the server at once, as a crash does: its first process is killed, the others notice by themselves.
    ///
    /// # Panics
    /// When the shell that holds it is gone.
    pub fn kill(&mut self) {
        self.end("KILL");
    }

    /// Starts the server again, on the same port and data; first stops one that runs.
    ///
    /// # Panics
    /// When it does not answer within a minute.
    pub async fn restart(&mut self) {
        self.stop();
        let give_up = Instant::now() + PATIENCE;
        loop {
            self.hold();
            let again = Instant::now() + Duration::from_secs(10);
            while Instant::now() < again {
                if connect(&self.url("postgres")).await.is_ok() {
                    return;
                }
                if self.log().contains("could not bind") {
                    break;
                }
                sleep(Duration::from_millis(20)).await;
            }
            // the port was taken meanwhile, or processes of a killed server were still there
            assert!(Instant::now() < give_up, "the server did not start: {}", self.log());
            self.stop();
            let _ = fs::remove_file(self.dir.join("log"));
        }
    }

    /// What the server wrote.
    pub fn log(&self) -> String {
        fs::read_to_string(self.dir.join("log")).unwrap_or_default()
    }

    fn put(&self, name: &str, contents: &str) {
        use std::os::unix::fs::PermissionsExt as _;
        let path = self.dir.join(name);
        fs::write(&path, contents).expect("a file for the server");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("its permissions");
        if let Some((user, group)) = self.account {
            chown(&path, Some(user), Some(group)).expect("its owner");
        }
    }

    /// A program of the server's, run by the server's user.
    fn command(&self, program: &str) -> Command {
        let path = self.bin.join(program);
        let mut command = match self.account {
            None => Command::new(path),
            Some((user, group)) => {
                let mut command = Command::new("setpriv");
                command.args([&format!("--reuid={user}"), &format!("--regid={group}"), "--clear-groups"]).arg(path);
                command
            }
        };
        command.current_dir("/");
        command
    }

    fn hold(&mut self) {
        let server = self.command("postgres");
        let mut holder = Command::new("sh");
        holder.arg("-c").arg(HOLDER).arg(&self.dir).arg(server.get_program()).args(server.get_args());
        holder
            .arg("-D")
            .arg(self.dir.join("data"))
            .args(["-h", "127.0.0.1", "-p", &self.port.to_string(), "-k"])
            .arg(&self.dir);
        let durable = if self.options.durable { "on" } else { "off" };
        let mut set = |name: &str, value: &str| {
            holder.arg("-c").arg(format!("{name}={value}"));
        };
        set("max_connections", "300");
        set("fsync", durable);
        set("full_page_writes", durable);
        set("max_wal_size", "4GB");
        for (name, value) in &self.options.settings {
            set(name, value);
        }
        holder.current_dir("/").stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        self.holder = Some(holder.spawn().expect("a shell"));
    }

    fn end(&mut self, signal: &str) {
        let Some(mut holder) = self.holder.take() else { return };
        let mut pipe = holder.stdin.take().expect("a pipe to the shell");
        writeln!(pipe, "keep {signal}").expect("the shell that holds the server");
        drop(pipe);
        holder.wait().expect("the end of the shell that holds the server");
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        match self.holder.take() {
            Some(mut holder) => {
                drop(holder.stdin.take());
                let _ = holder.wait();
            }
            None => drop(fs::remove_dir_all(&self.dir)),
        }
    }
}

/// An empty database that nobody else uses.
#[derive(Debug)]
pub struct TestDatabase {
    /// Its URL.
    pub url: String,
    /// A database of the same server from which this one is dropped; none when the server goes anyway.
    drop_from: Option<(String, String)>,
}

impl Drop for TestDatabase {
    fn drop(&mut self) {
        let Some((admin, name)) = self.drop_from.take() else { return };
        let dropping = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a runtime").block_on(async {
                if let Ok(client) = connect(&admin).await {
                    let _ = client.batch_execute(&format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)")).await;
                }
            });
        });
        let _ = dropping.join();
    }
}

/// A new database: on the server that `PASSERBY_TEST_POSTGRES` names by its URL, else on one that the first call in this
/// process starts.
///
/// # Panics
/// When there is no server, with the name of the package that has it.
pub async fn fresh_database() -> TestDatabase {
    static OURS: OnceCell<Cluster> = OnceCell::const_new();
    if let Ok(server) = env::var("PASSERBY_TEST_POSTGRES") {
        let name = unique_name();
        make_database(&server, &name).await;
        return TestDatabase { url: with_database(&server, &name), drop_from: Some((server, name)) };
    }
    let cluster = OURS.get_or_init(Cluster::start).await;
    TestDatabase { url: cluster.database().await, drop_from: None }
}

/// Connects for the test's own statements; the connection lives as long as the client.
///
/// # Errors
/// The driver's.
pub async fn connect(url: &str) -> Result<Client, tokio_postgres::Error> {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await?;
    tokio::spawn(connection);
    Ok(client)
}

async fn make_database(admin: &str, name: &str) {
    let client = connect(admin).await.expect("a connection to the server for tests");
    client.batch_execute(&format!("CREATE DATABASE {name}")).await.expect("a new database");
}

fn unique_name() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let random = RandomState::new().build_hasher().finish();
    format!("passerby_{}_{}_{random:x}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

/// The same server's URL with another database.
fn with_database(url: &str, name: &str) -> String {
    let (before, query) = url.split_once('?').map_or((url, None), |(b, q)| (b, Some(q)));
    let from = before.find("://").map_or(0, |i| i + 3);
    let server = before[from..].find('/').map_or(before, |i| &before[..from + i]);
    query.map_or_else(|| format!("{server}/{name}"), |q| format!("{server}/{name}?{q}"))
}

/// The folder of the newest server.
fn binaries() -> PathBuf {
    if let Some(bin) = env::var_os("PGBIN") {
        return bin.into();
    }
    let number = |path: &Path| path.file_name().and_then(|n| n.to_str()).and_then(|n| n.parse::<u32>().ok());
    let debian = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten().map(|entry| entry.path());
    let newest = debian.filter(|p| p.join("bin/initdb").exists()).max_by_key(|p| number(p));
    let in_path = || env::split_paths(&env::var_os("PATH").unwrap_or_default()).find(|p| p.join("initdb").exists());
    newest.map(|p| p.join("bin")).or_else(in_path).expect(MISSING)
}

/// The unprivileged user that the server runs as when we are root; made when it is missing.
fn account() -> (u32, u32) {
    let name = env::var("PGOSUSER").unwrap_or_else(|_| "postgres".into());
    let number = |flag: &str| said("id", &[flag, &name]).parse::<u32>().ok();
    if number("-u").is_none() {
        let _ = Command::new("useradd").args(["--system", &name]).status();
    }
    number("-u")
        .zip(number("-g"))
        .unwrap_or_else(|| panic!("there is no user {name:?} to run PostgreSQL as (PGOSUSER)"))
}

fn said(program: &str, args: &[&str]) -> String {
    let output = Command::new(program).args(args).stderr(Stdio::null()).output();
    output.map(|o| String::from_utf8_lossy(&o.stdout).trim().to_owned()).unwrap_or_default()
}

/// Removes the folders of test processes that are gone and could not have it done.
fn remove_left_over() {
    for entry in fs::read_dir(env::temp_dir()).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let pid = name.to_str().and_then(|n| n.strip_prefix(FOLDER)).and_then(|n| n.split('-').next());
        let Some(pid) = pid.and_then(|p| p.parse::<u32>().ok()) else { continue };
        if !Path::new("/proc").join(pid.to_string()).exists() {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_another_database() {
        assert_eq!(with_database("postgres://a:b@h:1/x?sslmode=disable", "y"), "postgres://a:b@h:1/y?sslmode=disable");
        assert_eq!(with_database("postgres://h", "y"), "postgres://h/y");
    }

    #[tokio::test]
    async fn databases_are_fresh_and_a_server_comes_back_on_its_port() {
        let (a, b) = tokio::join!(fresh_database(), fresh_database());
        assert_ne!(a.url, b.url);
        connect(&a.url).await.unwrap().batch_execute("CREATE TABLE t(n int)").await.unwrap();
        connect(&b.url).await.unwrap().batch_execute("CREATE TABLE t(n int)").await.unwrap();

        let mut cluster = Cluster::start().await;
        let url = cluster.database().await;
        connect(&url).await.unwrap().batch_execute("CREATE TABLE t(n int); INSERT INTO t VALUES(7)").await.unwrap();
        cluster.kill();
        assert!(connect(&url).await.is_err());
        cluster.restart().await;
        let row = connect(&url).await.unwrap().query_one("SELECT n FROM t", &[]).await.unwrap();
        assert_eq!(row.get::<_, i32>(0), 7);
        let dir = cluster.dir.clone();
        drop(cluster);
        assert!(!dir.exists());
    }
}
