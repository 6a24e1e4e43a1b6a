//! The command line: one file per verb.

pub mod config;
pub mod health;
pub mod key;
pub mod serve;
pub mod signing_key;

use std::{
    io::{self, Write as _},
    path::PathBuf,
    process::ExitCode,
};

use clap::{Args, Parser, Subcommand};

use crate::config::{Config, Given, Overrides, Problems, Secret};

/// The exit code for a wrong configuration or command line.
pub const MISUSE: u8 = 2;

/// Guest identity: every visitor is somebody from the first request on.
#[derive(Debug, Parser)]
#[command(
    name = "passerby",
    version,
    max_term_width = 100,
    after_help = "Without a configuration, `passerby serve` runs for development and says what it assumed.\n\
                  Documentation of all settings: docs/configuration.md. Exit codes: 0 done, 1 failed, 2 wrong configuration."
)]
pub struct Arguments {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The verbs.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the server
    Serve(ServeArguments),
    /// Look at the configuration
    #[command(subcommand)]
    Config(config::ConfigCommand),
    /// List and rotate the keys that sign tokens
    #[command(subcommand, name = "signing-key")]
    SigningKey(signing_key::SigningKeyCommand),
    /// Make, list, rotate and revoke API keys for back ends
    #[command(subcommand)]
    Key(key::KeyCommand),
    /// Ask a running server on this machine whether it is ready (exit code 0 or 1)
    Health(ServeArguments),
    /// Print the OpenAPI document of all doors
    Openapi,
}

/// Where the configuration is, and what overrides it for every command.
#[derive(Debug, Clone, Default, Args)]
pub struct ConfigArguments {
    /// Configuration file [env: PASSERBY_CONFIG] [default: passerby.toml if it is there, else development]
    #[arg(long, short, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Store: sqlite:FILE or postgres://USER@HOST/DATABASE [env: PASSERBY_DATABASE]
    #[arg(long, value_name = "URL")]
    pub database: Option<String>,
    /// Issuer of the first tenant, such as `https://id.example.com` [env: PASSERBY_ISSUER]
    #[arg(long, value_name = "URL")]
    pub issuer: Option<String>,
}

/// The same, and what only matters to a process that serves.
#[derive(Debug, Clone, Default, Args)]
pub struct ServeArguments {
    /// For every command.
    #[command(flatten)]
    pub config: ConfigArguments,
    /// Address to listen on, such as 127.0.0.1:9011 [env: PASSERBY_LISTEN]
    #[arg(long, value_name = "ADDRESS")]
    pub listen: Option<String>,
    /// Log level or filter, such as debug [env: PASSERBY_LOG]
    #[arg(long, value_name = "FILTER")]
    pub log: Option<String>,
    /// OTLP receiver for traces, such as http://localhost:4318 [env: PASSERBY_OTLP_ENDPOINT]
    #[arg(long, value_name = "URL")]
    pub otlp_endpoint: Option<String>,
}

impl ServeArguments {
    /// Reads the configuration, overridden by the environment and that by flags.
    ///
    /// # Errors
    /// All problems that were found.
    pub fn load(&self) -> Result<Config, Problems> {
        self.load_in(|name| std::env::var(name).ok())
    }

    fn load_in(&self, environment: impl Fn(&str) -> Option<String>) -> Result<Config, Problems> {
        let flag = |value: &Option<String>, from| value.clone().map(|value| Given { value, from });
        let ConfigArguments { config, database, issuer } = &self.config;
        let overrides = Overrides {
            listen: flag(&self.listen, "--listen"),
            database: database.as_ref().map(|url| Given { value: Secret::new(url), from: "--database" }),
            issuer: flag(issuer, "--issuer"),
            log: flag(&self.log, "--log"),
            otlp_endpoint: flag(&self.otlp_endpoint, "--otlp-endpoint"),
            // a flag would be seen by everybody who lists processes
            master_key: None,
            demo_cart: None,
        };
        let overrides = overrides.or_environment(&environment);
        let named = environment("PASSERBY_CONFIG").filter(|path| !path.is_empty()).map(PathBuf::from);
        Config::load(config.clone().or(named).as_deref(), &overrides)
    }
}

impl ConfigArguments {
    /// See [`ServeArguments::load`].
    ///
    /// # Errors
    /// All problems that were found.
    pub fn load(&self) -> Result<Config, Problems> {
        ServeArguments { config: self.clone(), ..ServeArguments::default() }.load()
    }
}

/// Does what was asked.
pub fn run(arguments: Arguments) -> ExitCode {
    match arguments.command {
        Command::Serve(arguments) => serve::run(&arguments),
        Command::Config(command) => config::run(&command),
        Command::SigningKey(command) => signing_key::run(&command),
        Command::Key(command) => key::run(&command),
        Command::Health(arguments) => health::run(&arguments),
        Command::Openapi => match crate::wiring::openapi().to_pretty_json() {
            Ok(document) => {
                say(&document);
                ExitCode::SUCCESS
            }
            Err(e) => failed(&e.into()),
        },
    }
}

/// Prints a line; that nobody reads on is no reason to fail.
fn say(text: &str) {
    let _ = writeln!(io::stdout(), "{text}");
}

/// Says what is wrong with the configuration.
fn refused(problems: &Problems) -> ExitCode {
    let n = problems.0.len();
    let _ = writeln!(io::stderr(), "{problems}\nthe configuration has {n} problem{}", if n == 1 { "" } else { "s" });
    ExitCode::from(MISUSE)
}

/// Says what went wrong, with its causes.
fn failed(error: &anyhow::Error) -> ExitCode {
    let _ = writeln!(io::stderr(), "passerby: {error:#}");
    ExitCode::FAILURE
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Arguments::command().debug_assert();
        let help = Arguments::command().render_long_help().to_string();
        for verb in ["serve", "config", "signing-key", "key", "health", "openapi"] {
            assert!(help.contains(&format!("\n  {verb}")), "{help}");
        }
        assert_eq!(Arguments::command().render_version(), format!("passerby {}\n", env!("CARGO_PKG_VERSION")));
    }

    #[test]
    fn the_file_is_named_by_flag_before_environment() {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str, port: u16| {
            let path = folder.path().join(name);
            let tenant = "[[tenants]]\nid = \"11111111-1111-4111-8111-111111111111\"\n";
            std::fs::write(&path, format!("dev = true\nlisten = \"127.0.0.1:{port}\"\n{tenant}")).unwrap();
            path
        };
        let (one, two) = (file("one.toml", 1111), file("two.toml", 2222));
        let environment = |name: &str| (name == "PASSERBY_CONFIG").then(|| one.display().to_string());
        let by_environment = ServeArguments::default().load_in(environment).unwrap();
        assert_eq!(by_environment.listen.port(), 1111);
        let config = ConfigArguments { config: Some(two), ..ConfigArguments::default() };
        let arguments = ServeArguments { config, ..ServeArguments::default() };
        assert_eq!(arguments.load_in(environment).unwrap().listen.port(), 2222);
        let arguments = ServeArguments { listen: Some("nowhere".into()), ..arguments };
        assert!(
            arguments.load_in(environment).unwrap_err().to_string().starts_with("--listen: expected an IP address")
        );
    }
}
