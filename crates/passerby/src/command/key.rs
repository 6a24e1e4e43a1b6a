//! `passerby key …`: API keys for back ends. Works on the store, beside running servers; these notice within two
//! seconds. Keys that the configuration declares are not among them.

use std::{
    io::{self, Write as _},
    process::ExitCode,
    sync::Arc,
};

use anyhow::Context as _;
use clap::{Args, Subcommand};
use passerby_core::{
    Passerby, Timestamp,
    api_key::{ApiKeyView, MadeKey, Manager, NewApiKey, NewPermission},
    manage::PageRequest,
    port::Clock,
    settings::{Grants, Tenant},
    time::parse_span,
};
use serde_json::{Value, json};
use uuid::Uuid;

use super::{ConfigArguments, failed, refused, say, serve};
use crate::{config::Config, wiring};

/// What can be done with API keys.
#[derive(Debug, Subcommand)]
pub enum KeyCommand {
    /// Make a key; its text goes to standard output, this once, and all else to standard error
    Create(CreateArguments),
    /// List the keys, newest first
    List(ListArguments),
    /// Give a key a new text; the one before is taken for a while
    Rotate(RotateArguments),
    /// Remove a key
    Revoke(RevokeArguments),
}

/// Which key to make.
#[derive(Debug, Args)]
pub struct CreateArguments {
    /// For people
    #[arg(long)]
    name: String,
    /// The tenant [default: the only one]
    #[arg(long, value_name = "ID")]
    tenant: Option<Uuid>,
    /// A native scope, such as `users:read`; can be said several times or with commas. Without scopes and permissions the
    /// key may do everything
    #[arg(long, value_name = "SCOPE", value_delimiter = ',')]
    scope: Vec<String>,
    /// Methods and a path, such as GET,POST:/api/user; can be said several times
    #[arg(long, value_name = "METHODS:/PATH")]
    permission: Vec<String>,
    /// When it ends: a span such as 90d, or a moment such as 2030-01-31T00:00:00Z [default: never]
    #[arg(long, value_name = "WHEN")]
    expires: Option<String>,
    /// Print one JSON object, the text in its member `key`
    #[arg(long)]
    json: bool,
    /// The configuration.
    #[command(flatten)]
    config: ConfigArguments,
}

/// Which keys to list.
#[derive(Debug, Args)]
pub struct ListArguments {
    /// Only this tenant's
    #[arg(long, value_name = "ID")]
    tenant: Option<Uuid>,
    /// Print a JSON array
    #[arg(long)]
    json: bool,
    /// The configuration.
    #[command(flatten)]
    config: ConfigArguments,
}

/// Which key to rotate.
#[derive(Debug, Args)]
pub struct RotateArguments {
    /// The key's id, or the beginning of its text as it is listed
    key: String,
    /// So long the text before is taken, at most 30d; 0s for one that leaked [default: 24h]
    #[arg(long, value_name = "SPAN")]
    overlap: Option<String>,
    /// Only this tenant's
    #[arg(long, value_name = "ID")]
    tenant: Option<Uuid>,
    /// Print one JSON object, the text in its member `key`
    #[arg(long)]
    json: bool,
    /// The configuration.
    #[command(flatten)]
    config: ConfigArguments,
}

/// Which key to remove.
#[derive(Debug, Args)]
pub struct RevokeArguments {
    /// The key's id, or the beginning of its text as it is listed
    key: String,
    /// Only this tenant's
    #[arg(long, value_name = "ID")]
    tenant: Option<Uuid>,
    /// The configuration.
    #[command(flatten)]
    config: ConfigArguments,
}

/// What goes to standard output, and what to standard error.
struct Said {
    out: Option<String>,
    note: String,
}

pub(super) fn run(command: &KeyCommand) -> ExitCode {
    let arguments = match command {
        KeyCommand::Create(a) => &a.config,
        KeyCommand::List(a) => &a.config,
        KeyCommand::Rotate(a) => &a.config,
        KeyCommand::Revoke(a) => &a.config,
    };
    let config = match arguments.load() {
        Ok(config) => config,
        Err(problems) => return refused(&problems),
    };
    if config.file.is_none() {
        let _ =
            writeln!(io::stderr(), "No configuration: development settings, store {}.", serve::shown_store(&config));
    }
    let done = serve::runtime(1).and_then(|runtime| runtime.block_on(work(&config, command)));
    match done {
        Ok(said) => {
            if !said.note.is_empty() {
                let _ = writeln!(io::stderr(), "{}", said.note);
            }
            if let Some(out) = said.out {
                say(&out);
            }
            ExitCode::SUCCESS
        }
        Err(error) => failed(&error),
    }
}

async fn work(config: &Config, command: &KeyCommand) -> anyhow::Result<Said> {
    let master = config.master_key.read().map_err(|problem| anyhow::Error::msg(problem.to_string()))?;
    let ports = wiring::ports(config, 1).await?;
    let (store, clock) = (ports.store.clone(), ports.clock.clone());
    let core = match wiring::start(config, ports, &master).await {
        Ok(core) => core,
        Err(error) => {
            store.close().await;
            return Err(error);
        }
    };
    let outcome = match command {
        KeyCommand::Create(a) => create(&core, clock.as_ref(), a).await,
        KeyCommand::List(a) => list(&core, a).await,
        KeyCommand::Rotate(a) => rotate(&core, a).await,
        KeyCommand::Revoke(a) => revoke(&core, a).await,
    };
    core.stop().await;
    outcome
}

/// A refusal of the core, with what it is about: members of a request are options here.
fn because(error: &passerby_core::Error) -> anyhow::Error {
    let option = match error.field.as_deref().and_then(|f| f.split('/').nth(1)) {
        Some("scopes") => "--scope: ",
        Some("permissions") => "--permission: ",
        Some("expires_at") => "--expires: ",
        Some("name") => "--name: ",
        Some("overlap") => "--overlap: ",
        _ => "",
    };
    anyhow::Error::msg(format!("{option}{}", error.detail))
}

fn tenants(core: &Passerby, wanted: Option<Uuid>) -> anyhow::Result<Vec<Arc<Tenant>>> {
    let settings = core.settings();
    let found: Vec<_> = settings.tenants.iter().filter(|t| wanted.is_none_or(|id| t.id == id)).cloned().collect();
    if found.is_empty() {
        anyhow::bail!("there is no such tenant; configured are {}", ids(&settings.tenants));
    }
    Ok(found)
}

fn ids(tenants: &[Arc<Tenant>]) -> String {
    tenants.iter().map(|t| t.id.to_string()).collect::<Vec<_>>().join(", ")
}

async fn create(core: &Passerby, clock: &dyn Clock, a: &CreateArguments) -> anyhow::Result<Said> {
    let found = tenants(core, a.tenant)?;
    let [tenant] = found.as_slice() else {
        anyhow::bail!("there are several tenants; name one by --tenant: {}", ids(&found));
    };
    let mut permissions = Vec::with_capacity(a.permission.len());
    for text in &a.permission {
        let (methods, path) = text.split_once(':').with_context(|| {
            format!("--permission: expected METHODS:/PATH such as GET,POST:/api/user, found {text:?}")
        })?;
        permissions.push(NewPermission { path, methods: methods.split(',').collect() });
    }
    let expires_at = a.expires.as_deref().map(|text| match parse_span(text) {
        Ok(span) => clock.now().plus(span).to_string(),
        Err(_) => text.to_owned(),
    });
    let new = NewApiKey {
        name: &a.name,
        scopes: (!a.scope.is_empty()).then(|| a.scope.iter().map(String::as_str).collect()),
        permissions: (!permissions.is_empty()).then_some(permissions),
        expires_at: expires_at.as_deref(),
    };
    let made = core.make_api_key(&Manager::Operator(tenant.no), &new).await.map_err(|e| because(&e))?;
    Ok(handed_out(tenant, &made, a.json))
}

async fn rotate(core: &Passerby, a: &RotateArguments) -> anyhow::Result<Said> {
    let (tenant, key) = find(core, a.tenant, &a.key).await?;
    let by = Manager::Operator(tenant.no);
    let made = core.rotate_api_key(&by, &key.id.to_string(), a.overlap.as_deref()).await.map_err(|e| because(&e))?;
    Ok(handed_out(&tenant, &made, a.json))
}

/// A text that is shown this once.
fn handed_out(tenant: &Tenant, made: &MadeKey, as_json: bool) -> Said {
    let mut note = row(tenant, &made.key);
    if let Some(until) = made.key.previous_expires_at {
        note.push_str("\nthe text before is taken until ");
        note.push_str(&until.to_string());
    }
    if made.key.grants == Grants::default() {
        note.push_str("\nthis key may do everything in its tenant");
    }
    if as_json {
        let mut object = object(tenant, &made.key);
        object["key"] = made.text.expose().into();
        return Said { out: Some(object.to_string()), note: String::new() };
    }
    Said { out: Some(made.text.expose().to_owned()), note }
}

async fn list(core: &Passerby, a: &ListArguments) -> anyhow::Result<Said> {
    let keys = all(core, a.tenant).await?;
    if a.json {
        let list: Vec<Value> = keys.iter().map(|(tenant, key)| object(tenant, key)).collect();
        return Ok(Said { out: Some(Value::from(list).to_string()), note: String::new() });
    }
    if keys.is_empty() {
        return Ok(Said { out: None, note: "there are no keys but those that the configuration declares".into() });
    }
    let rows: Vec<String> = keys.iter().map(|(tenant, key)| row(tenant, key)).collect();
    Ok(Said { out: Some(rows.join("\n")), note: String::new() })
}

async fn revoke(core: &Passerby, a: &RevokeArguments) -> anyhow::Result<Said> {
    let (tenant, key) = find(core, a.tenant, &a.key).await?;
    core.remove_api_key(&Manager::Operator(tenant.no), &key.id.to_string()).await.map_err(|e| because(&e))?;
    let note = format!("{} {:?} is gone; running servers refuse it within two seconds", key.prefix, key.name);
    Ok(Said { out: None, note })
}

/// All keys, tenant by tenant.
async fn all(core: &Passerby, wanted: Option<Uuid>) -> anyhow::Result<Vec<(Arc<Tenant>, ApiKeyView)>> {
    let mut keys = Vec::new();
    for tenant in tenants(core, wanted)? {
        let mut cursor: Option<String> = None;
        loop {
            let request = PageRequest { cursor: cursor.as_deref(), limit: Some("100") };
            let page = core.list_api_keys(&Manager::Operator(tenant.no), &request).await.map_err(|e| because(&e))?;
            keys.extend(page.items.into_iter().map(|key| (tenant.clone(), key)));
            cursor = page.cursor;
            if cursor.is_none() {
                break;
            }
        }
    }
    Ok(keys)
}

/// The key with this id or beginning.
async fn find(core: &Passerby, tenant: Option<Uuid>, name: &str) -> anyhow::Result<(Arc<Tenant>, ApiKeyView)> {
    let mut found = all(core, tenant).await?;
    found.retain(|(_, key)| key.id.to_string() == name || *key.prefix == *name);
    match found.len() {
        1 => Ok(found.remove(0)),
        0 => anyhow::bail!("there is no such key; `passerby key list` shows all (but those of the configuration)"),
        _ => anyhow::bail!("several keys begin so; name the id"),
    }
}

fn grants(grants: &Grants) -> String {
    if *grants == Grants::default() {
        return "everything".into();
    }
    let scopes = grants.scopes.iter().flatten().map(|s| s.as_str().to_owned());
    let permissions = grants
        .permissions
        .iter()
        .flatten()
        .map(|(path, methods)| format!("{}:{}", methods.join(","), if path.is_empty() { "/" } else { path }));
    let all: Vec<String> = scopes.chain(permissions).collect();
    if all.is_empty() { "nothing".into() } else { all.join(" ") }
}

fn row(tenant: &Tenant, key: &ApiKeyView) -> String {
    let moment = |at: Option<Timestamp>| at.map_or_else(|| "never".to_owned(), |at| at.to_string());
    format!(
        "{} {} {} {:?} made {} ends {} last used {} may {}",
        tenant.id,
        key.id,
        key.prefix,
        key.name,
        key.created_at,
        moment(key.expires_at),
        moment(key.last_used_at),
        grants(&key.grants)
    )
}

fn object(tenant: &Tenant, key: &ApiKeyView) -> Value {
    let moment = |at: Option<Timestamp>| at.map(|at| at.to_string());
    let scopes = key.grants.scopes.as_ref().map(|list| list.iter().map(|s| s.as_str()).collect::<Vec<_>>());
    let permissions = key.grants.permissions.as_ref().map(|list| {
        let one = |(path, methods): &(Box<str>, Vec<Box<str>>)| {
            json!({"path": if path.is_empty() { "/" } else { path }, "methods": methods})
        };
        list.iter().map(one).collect::<Vec<_>>()
    });
    json!({
        "tenant": tenant.id.to_string(),
        "id": key.id.to_string(),
        "name": key.name,
        "prefix": key.prefix,
        "scopes": scopes,
        "permissions": permissions,
        "created_at": key.created_at.to_string(),
        "expires_at": moment(key.expires_at),
        "last_used_at": moment(key.last_used_at),
        "previous_expires_at": moment(key.previous_expires_at),
    })
}
