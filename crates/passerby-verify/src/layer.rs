//! The check as a tower layer.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use http::{Request, Response};
use tower_layer::Layer;
use tower_service::Service;

use crate::{Require, Verified, Verifier};

/// Puts the check before a service: a request that passes carries a [`Verified`] in its extensions, another is answered
/// by [`Verifier::refusal`] and never reaches the service.
///
/// Layers of the same verifier may be stacked, a broad one around the router and a stricter one around some routes: the
/// token is checked once, and each asks what it was told to. A layer that answers CORS preflights (which carry no token)
/// goes outside.
#[derive(Debug, Clone)]
pub struct VerifyLayer {
    verifier: Verifier,
    require: Arc<Require>,
}

impl VerifyLayer {
    /// With what is asked of every request's token.
    pub fn new(verifier: Verifier, require: Require) -> Self {
        Self { verifier, require: Arc::new(require) }
    }
}

impl<S> Layer<S> for VerifyLayer {
    type Service = Verify<S>;

    fn layer(&self, inner: S) -> Verify<S> {
        Verify { inner, layer: self.clone() }
    }
}

/// A service behind a [`VerifyLayer`].
#[derive(Debug, Clone)]
pub struct Verify<S> {
    inner: S,
    layer: VerifyLayer,
}

impl<S, A, B> Service<Request<A>> for Verify<S>
where
    S: Service<Request<A>, Response = Response<B>> + Clone + Send + 'static,
    S::Future: Send,
    A: Send + 'static,
    B: From<String>,
{
    type Response = Response<B>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Response<B>, S::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<A>) -> Self::Future {
        // the one that is ready goes with the request, its copy waits for the next
        let fresh = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, fresh);
        let VerifyLayer { verifier, require } = self.layer.clone();
        Box::pin(async move {
            let (mut parts, body) = request.into_parts();
            let earlier = parts.extensions.get::<Verified>().filter(|verified| verifier.passed(verified));
            let checked = match earlier {
                Some(verified) => verified.require(&require).map(|()| None),
                None => verifier.check(&parts.method, &parts.uri, &parts.headers, &require).await.map(Some),
            };
            match checked {
                Ok(verified) => {
                    if let Some(verified) = verified {
                        parts.extensions.insert(verified);
                    }
                    inner.call(Request::from_parts(parts, body)).await
                }
                Err(error) => Ok(verifier.refusal(&error, &parts.headers)),
            }
        })
    }
}
