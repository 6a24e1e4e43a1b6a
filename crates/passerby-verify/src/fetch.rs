//! How metadata, keys and epochs are fetched: a port, so that an application may use its own client.

use std::{fmt, pin::Pin};

use bytes::Bytes;

/// A running fetch.
pub type FetchFuture<'a> = Pin<Box<dyn Future<Output = Result<http::Response<Bytes>, FetchError>> + Send + 'a>>;

/// An HTTP client, as far as it is needed here.
///
/// An implementation follows no redirects, gives up after some seconds, and reads no more than `limit` bytes of a body.
/// Statuses other than 200 are answers, not errors.
pub trait Fetch: Send + Sync + 'static {
    /// Sends a GET request and reads the whole answer; [`FetchError`] when there is none, or one longer than `limit`
    /// bytes.
    fn fetch(&self, request: http::Request<()>, limit: usize) -> FetchFuture<'_>;
}

/// No answer could be had; the text says why, and goes to the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FetchError(Box<str>);

impl FetchError {
    /// With a reason for the log: never a credential.
    pub fn new(reason: impl fmt::Display) -> Self {
        Self(reason.to_string().into())
    }
}

impl fmt::Display for FetchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for FetchError {}

#[cfg(feature = "reqwest")]
mod by_reqwest {
    use std::{sync::Arc, time::Duration};

    use bytes::{Bytes, BytesMut};
    use rustls::{ClientConfig, crypto};
    use rustls_platform_verifier::BuilderVerifierExt;

    use super::{Fetch, FetchError, FetchFuture};

    /// Time for a connection.
    const CONNECT: Duration = Duration::from_secs(3);
    /// Time for everything.
    const TOTAL: Duration = Duration::from_secs(10);

    /// [`Fetch`] by reqwest over rustls: no redirects, no proxy from the environment, three seconds for a connection and
    /// ten for everything, certificates judged as the system does.
    #[derive(Debug, Clone)]
    pub struct ReqwestFetch(reqwest::Client);

    impl ReqwestFetch {
        /// With a client of its own.
        ///
        /// # Errors
        /// When the TLS library cannot be set up.
        pub fn new() -> Result<Self, FetchError> {
            // reqwest panics where the process has no provider, and installing one is the application's business
            let provider = crypto::CryptoProvider::get_default().cloned();
            let provider = provider.unwrap_or_else(|| Arc::new(crypto::aws_lc_rs::default_provider()));
            let tls = ClientConfig::builder_with_provider(provider)
                .with_safe_default_protocol_versions()
                .and_then(BuilderVerifierExt::with_platform_verifier)
                .map_err(FetchError::new)?
                .with_no_client_auth();
            let client = reqwest::Client::builder()
                .tls_backend_preconfigured(tls)
                .connect_timeout(CONNECT)
                .timeout(TOTAL)
                .redirect(reqwest::redirect::Policy::none())
                .no_proxy()
                .user_agent(concat!("passerby-verify/", env!("CARGO_PKG_VERSION")))
                .build();
            client.map(Self).map_err(FetchError::new)
        }

        /// With a client that the application made, for a proxy or an authority of its own. It should follow no
        /// redirects and have a time-out.
        pub fn with_client(client: reqwest::Client) -> Self {
            Self(client)
        }

        async fn get(&self, request: http::Request<()>, limit: usize) -> Result<http::Response<Bytes>, FetchError> {
            // the address may be told, what else the error says of it comes with its source
            let fault = |e: reqwest::Error| FetchError::new(Told(&e));
            let (head, ()) = request.into_parts();
            let mut answer = self.0.get(head.uri.to_string()).headers(head.headers).send().await.map_err(fault)?;
            let mut response = http::Response::builder().status(answer.status());
            if let Some(headers) = response.headers_mut() {
                *headers = std::mem::take(answer.headers_mut());
            }
            let mut body = BytesMut::new();
            while let Some(chunk) = answer.chunk().await.map_err(fault)? {
                if body.len() + chunk.len() > limit {
                    return Err(FetchError::new("the answer is too long"));
                }
                body.extend_from_slice(&chunk);
            }
            response.body(body.freeze()).map_err(FetchError::new)
        }
    }

    impl Fetch for ReqwestFetch {
        fn fetch(&self, request: http::Request<()>, limit: usize) -> FetchFuture<'_> {
            Box::pin(self.get(request, limit))
        }
    }

    /// An error with its causes in one line: reqwest's own text names only the outermost.
    struct Told<'a>(&'a dyn std::error::Error);

    impl std::fmt::Display for Told<'_> {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            write!(f, "{}", self.0)?;
            let mut cause = self.0.source();
            while let Some(e) = cause {
                write!(f, ": {e}")?;
                cause = e.source();
            }
            Ok(())
        }
    }
}

#[cfg(feature = "reqwest")]
pub use by_reqwest::ReqwestFetch;
