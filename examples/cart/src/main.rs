//! A shop's cart for guests and members: an API that checks Passerby's access tokens by itself.

mod app;
mod carts;

use std::net::SocketAddr;

use anyhow::{Context, Result, bail};
use clap::Parser;
use http::{HeaderValue, Uri};
use passerby_verify::{EpochFeed, Verifier};
use tokio::signal::unix::{SignalKind, signal};

/// A shop's cart for guests and members.
#[derive(Parser)]
#[command(version)]
struct Flags {
    /// Address and port.
    #[arg(long, env = "CART_LISTEN", default_value = "127.0.0.1:9012")]
    listen: SocketAddr,
    /// Whose tokens are taken, as the issuer writes itself.
    #[arg(long, env = "CART_ISSUER", default_value = "http://localhost:9011")]
    issuer: String,
    /// What tokens must be for.
    #[arg(long, env = "CART_AUDIENCE", default_value = "https://api.example.com")]
    audience: String,
    /// Where callers reach this API, which DPoP proofs must name [default: http:// and where it listens].
    #[arg(long, env = "CART_ADDRESS")]
    address: Option<String>,
    /// An origin whose pages may call; may be repeated [default: the issuer's].
    #[arg(long = "origin", env = "CART_ORIGINS", value_delimiter = ',')]
    origins: Vec<HeaderValue>,
    /// An API key of the issuer that may read the epoch feed.
    #[arg(long, env = "CART_EPOCH_KEY", hide_env_values = true)]
    epoch_key: Option<String>,
    /// Or a confidential client of the issuer.
    #[arg(long, env = "CART_EPOCH_CLIENT", requires = "epoch_secret", conflicts_with = "epoch_key")]
    epoch_client: Option<String>,
    /// Its secret.
    #[arg(long, env = "CART_EPOCH_SECRET", hide_env_values = true, requires = "epoch_client")]
    epoch_secret: Option<String>,
}

#[tokio::main]
async fn main() -> Result<()> {
    tracing_subscriber::fmt().with_writer(std::io::stderr).init();
    let flags = Flags::parse();
    let listener =
        tokio::net::TcpListener::bind(flags.listen).await.with_context(|| format!("listening on {}", flags.listen))?;
    let here = listener.local_addr()?;
    let address = flags.address.unwrap_or_else(|| format!("http://{here}"));
    let mut builder = Verifier::builder(&flags.issuer, &flags.audience).address(&address);
    let feed = match (&flags.epoch_key, &flags.epoch_client, &flags.epoch_secret) {
        (Some(key), ..) => Some(EpochFeed::api_key(key)),
        (None, Some(client), Some(secret)) => Some(EpochFeed::client(client, secret)),
        _ => None,
    };
    if let Some(feed) = feed {
        builder = builder.epochs(feed);
    }
    let verifier = builder.build()?;
    let origins = if flags.origins.is_empty() { vec![origin(&flags.issuer)?] } else { flags.origins };
    tracing::info!(issuer = flags.issuer, "the cart is at {address}");
    let mut stop = signal(SignalKind::terminate())?;
    let stopped = async move {
        tokio::select! {
            _ = tokio::signal::ctrl_c() => {}
            _ = stop.recv() => {}
        }
    };
    axum::serve(listener, app::app(&verifier, origins)).with_graceful_shutdown(stopped).await?;
    Ok(())
}

/// Scheme, host and port of the issuer.
fn origin(issuer: &str) -> Result<HeaderValue> {
    let uri: Uri = issuer.parse().context("the issuer")?;
    let (Some(scheme), Some(authority)) = (uri.scheme_str(), uri.authority()) else { bail!("the issuer is no URL") };
    Ok(HeaderValue::from_str(&format!("{scheme}://{authority}"))?)
}
