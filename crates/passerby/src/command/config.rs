//! `passerby config …`

use std::process::ExitCode;

use clap::Subcommand;

use super::{ServeArguments, refused, say};
use crate::config::Config;

/// What can be done with a configuration.
#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Check the configuration and the files that it names; start nothing (exit code 0 or 2)
    Check(ServeArguments),
}

pub(super) fn run(command: &ConfigCommand) -> ExitCode {
    let ConfigCommand::Check(arguments) = command;
    match arguments.load() {
        Ok(config) => {
            say(&summary(&config));
            for note in config.notes() {
                say(&format!("note: {note}"));
            }
            ExitCode::SUCCESS
        }
        Err(problems) => refused(&problems),
    }
}

fn summary(config: &Config) -> String {
    let source =
        config.file.as_ref().map_or_else(|| "development settings".to_owned(), |file| file.display().to_string());
    let count = |n: usize, word: &str| format!("{n} {word}{}", if n == 1 { "" } else { "s" });
    let keys: usize = config.tenants.iter().map(|t| t.api_keys.len()).sum();
    format!(
        "{source}: fine ({}, {}, {})",
        count(config.tenants.len(), "tenant"),
        count(config.clients().count(), "client"),
        count(keys, "API key"),
    )
}
