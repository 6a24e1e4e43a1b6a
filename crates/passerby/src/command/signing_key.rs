//! `passerby signing-key …`: the keys that sign tokens. Works on the store, beside running servers; these notice within
//! seconds.

use std::{process::ExitCode, sync::Arc};

use anyhow::Context as _;
use clap::{Args, Subcommand};
use passerby_core::{Passerby, settings::Tenant};
use uuid::Uuid;

use super::{ConfigArguments, failed, refused, say, serve};
use crate::{config::Config, wiring};

/// What can be done with signing keys.
#[derive(Debug, Subcommand)]
pub enum SigningKeyCommand {
    /// List all signing keys, newest first
    List(ListArguments),
    /// Make a new key; it is published at once and signs after key_lead, so that nobody meets an unknown key
    Rotate(RotateArguments),
}

/// Which keys to list.
#[derive(Debug, Args)]
pub struct ListArguments {
    /// Only this tenant's
    #[arg(long, value_name = "ID")]
    tenant: Option<Uuid>,
    /// The configuration.
    #[command(flatten)]
    config: ConfigArguments,
}

/// Which keys to rotate, and how soon.
#[derive(Debug, Args)]
pub struct RotateArguments {
    /// Only this tenant's key [default: every tenant's]
    #[arg(long, value_name = "ID")]
    tenant: Option<Uuid>,
    /// Sign with the new key at once: for a key that leaked; verifiers that cache keys refuse tokens until they look again
    #[arg(long)]
    now: bool,
    /// The configuration.
    #[command(flatten)]
    config: ConfigArguments,
}

pub(super) fn run(command: &SigningKeyCommand) -> ExitCode {
    let (arguments, tenant) = match command {
        SigningKeyCommand::List(a) => (&a.config, a.tenant),
        SigningKeyCommand::Rotate(a) => (&a.config, a.tenant),
    };
    let config = match arguments.load() {
        Ok(config) => config,
        Err(problems) => return refused(&problems),
    };
    let rotate = match command {
        SigningKeyCommand::List(_) => None,
        SigningKeyCommand::Rotate(a) => Some(a.now),
    };
    let done = serve::runtime(1).and_then(|runtime| runtime.block_on(work(&config, tenant, rotate)));
    match done {
        Ok(text) => {
            say(text.trim_end());
            ExitCode::SUCCESS
        }
        Err(error) => failed(&error),
    }
}

async fn work(config: &Config, tenant: Option<Uuid>, rotate: Option<bool>) -> anyhow::Result<String> {
    let master = config.master_key.read().map_err(|problem| anyhow::Error::msg(problem.to_string()))?;
    let ports = wiring::ports(config, 1).await?;
    let store = ports.store.clone();
    let core = match wiring::start(config, ports, &master).await {
        Ok(core) => core,
        Err(error) => {
            store.close().await;
            return Err(error);
        }
    };
    let outcome = work_on(&core, tenant, rotate).await;
    core.stop().await;
    outcome
}

async fn work_on(core: &Passerby, tenant: Option<Uuid>, rotate: Option<bool>) -> anyhow::Result<String> {
    let settings = core.settings();
    let tenants: Vec<&Arc<Tenant>> = settings.tenants.iter().filter(|t| tenant.is_none_or(|id| t.id == id)).collect();
    if tenants.is_empty() {
        let known: Vec<String> = settings.tenants.iter().map(|t| t.id.to_string()).collect();
        anyhow::bail!("there is no such tenant; configured are {}", known.join(", "));
    }
    if let Some(now) = rotate {
        for tenant in &tenants {
            core.rotate_signing_key(tenant.no, now)
                .await
                .map_err(|e| anyhow::Error::msg(e.to_string()))
                .with_context(|| format!("the key of tenant {} was not rotated", tenant.id))?;
        }
    }
    let mut text = String::new();
    for key in core.signing_keys() {
        let Some(tenant) = tenants.iter().find(|t| t.no == key.tenant) else { continue };
        let what = if key.name.is_empty() { "tokens".to_owned() } else { format!("vending, {:?}", key.name) };
        let state = match (key.active, key.published) {
            (true, _) => "signs",
            (false, true) => "published",
            (false, false) => "retired",
        };
        let row = format!(
            "{} {} {:<5} {} made {} signs from {} {what}",
            tenant.id,
            key.kid,
            key.algorithm.as_str(),
            state,
            key.created_at,
            key.activates_at
        );
        text.push_str(&row);
        text.push('\n');
    }
    Ok(text)
}
