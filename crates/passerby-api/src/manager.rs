//! What the doors of the management API share: the key that is shown, pages, bodies.

use axum::{
    body::Body,
    extract::{Path, rejection::PathRejection},
};
use bytes::Bytes;
use http::{HeaderMap, request::Parts};
use passerby_core::{
    api_key::{KeyClaim, Manager},
    caller::Caller,
    manage::PageRequest,
    settings::ApiScope,
};
use passerby_http::{App, Authorization, MediaType, Problem, Refusal, form::Params};
use serde::{Deserialize, Deserializer};

/// Who manages: the API key in `Authorization`, as a bearer. No cookie is looked at.
///
/// # Errors
/// 401 `invalid_token` for a header that cannot be read, and for what no API key is shown by.
pub(crate) fn manager<'a>(caller: &'a Caller<'a>, parts: &'a Parts) -> Result<Manager<'a>, Problem> {
    let text = match Authorization::read(&parts.headers)? {
        Authorization::None => None,
        Authorization::Bearer(text) => Some(text),
        Authorization::DPoP(_) | Authorization::Basic { .. } => {
            return Err(Problem::invalid_token("An API key goes here, as a bearer."));
        }
    };
    Ok(Manager::Key(caller, KeyClaim { text, method: parts.method.as_str(), path: parts.uri.path() }))
}

/// The body, for somebody who may do what it is for: nobody else is told what is wrong with it.
///
/// # Errors
/// What is wrong with the key; 415 for another media type than one of `types`; what [`App::body`] says. No body at all
/// is an empty one.
pub(crate) async fn body(
    app: &App,
    by: &Manager<'_>,
    scope: ApiScope,
    headers: &HeaderMap,
    body: Body,
    types: &[MediaType],
) -> Result<Bytes, Problem> {
    app.core().may_manage(by, scope).await?;
    let bytes = app.body(body).await?;
    if bytes.is_empty() || types.contains(&MediaType::of(headers)) {
        return Ok(bytes);
    }
    let expected = match types {
        [_] => "application/json",
        _ => "application/merge-patch+json or application/json",
    };
    Err(Refusal::UnsupportedMediaType(expected).into())
}

/// The page that a query asks for.
pub(crate) fn page<'a>(params: &'a Params<'_>) -> PageRequest<'a> {
    PageRequest { cursor: params.get("cursor"), limit: params.get("limit") }
}

/// What stands in the path. What is not UTF-8 names nothing; whoever has no key does not learn that either.
pub(crate) fn in_path<T: Default>(path: Result<Path<T>, PathRejection>) -> T {
    path.map_or_else(|_| T::default(), |Path(value)| value)
}

/// A member that may be `null`, which is not the same as absent.
pub(crate) fn present<'de, D: Deserializer<'de>, T: Deserialize<'de>>(reader: D) -> Result<Option<T>, D::Error> {
    T::deserialize(reader).map(Some)
}
