//! `GET /v1/epochs`: whose older tokens are dead, for those who check tokens without asking for each.

use axum::{
    extract::{Request, State},
    response::Response,
};
use bytes::Bytes;
use http::{
    HeaderMap, HeaderName, HeaderValue, StatusCode,
    header::{ACCEPT, CACHE_CONTROL, ETAG, VARY},
};
use passerby_core::{
    Code, Error,
    epoch::{Cursor, Dressed, Entry, Follower, Page},
};
use passerby_http::{
    App, Authorization, Problem, Visit,
    answer::{self, Out},
    form, if_none_match, one,
};
use utoipa::ToSchema;

use crate::{client::refusal, epochs_stream, schema::ProblemDetails};

const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

/// The same for everybody who may ask, for as long as a raise takes to arrive.
const CACHEABLE: HeaderValue = HeaderValue::from_static("public, max-age=1");

/// Whose epochs these are follows from the credential; the form follows from `Accept`.
const VARIES: HeaderValue = HeaderValue::from_static("authorization, accept");

/// Raised epochs.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes the wire")]
pub(crate) struct RaisedEpochs {
    epochs: Vec<RaisedEpoch>,
    /// For `since`. It lies some seconds back, so that entries repeat and none is missed.
    cursor: String,
    /// There is more already: ask again at once. Absent when this is all.
    more: Option<bool>,
}

/// A raised epoch: tokens of the user with a lower one are dead.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes the wire")]
pub(crate) struct RaisedEpoch {
    /// As it is shown everywhere. A token's `sub` may have `anon@` or `anon|` before it.
    user_id: String,
    /// What was issued with a lower `epoch` is dead; a token without that claim has 0.
    epoch: i32,
    /// When it rose, a whole second.
    #[schema(format = DateTime)]
    at: String,
}

/// Follow raised epochs
///
/// Whose older tokens are dead: after a recovery, a sign-out everywhere, an erasure. For API keys with `epochs:read` and
/// for clients that authenticate. Ask again every few seconds with the `cursor` of the answer before; or, with
/// `Accept: text/event-stream`, keep the answer open: each event `epochs` has the same JSON as its data and the cursor as
/// its id.
#[utoipa::path(
    get,
    path = "/v1/epochs",
    operation_id = "followEpochs",
    tag = "Management",
    params(
        ("since" = Option<String>, Query, description = "The cursor of the answer before; without it, everything that can still matter"),
        ("Last-Event-ID" = Option<String>, Header, description = "The same for a stream that goes on; wins over `since`"),
        ("If-None-Match" = Option<String>, Header, description = "An answer that is known already"),
    ),
    responses(
        (status = 200, description = "What rose", content((RaisedEpochs = "application/json"), (String = "text/event-stream")), headers(("ETag" = String, description = "Of the answer"))),
        (status = 304, description = "The answer that is known already"),
        (status = 400, description = "`since` is no cursor", body = ProblemDetails, content_type = "application/problem+json"),
        (status = 401, description = "No credential, or one that is of no use here", body = ProblemDetails, content_type = "application/problem+json"),
        (status = 403, description = "An API key without the permission", body = ProblemDetails, content_type = "application/problem+json"),
        (status = 503, description = "The store does not answer, or as many streams are open as may be", body = ProblemDetails, content_type = "application/problem+json"),
    ),
    security(("api_key" = []), ("client" = []))
)]
pub(crate) async fn get(State(app): State<App>, visit: Visit, request: Request) -> Result<Response, Problem> {
    let (parts, _) = request.into_parts();
    let authorization = Authorization::read(&parts.headers)?;
    let who = match &authorization {
        Authorization::Bearer(text) => Follower::ApiKey(text),
        Authorization::Basic { id, secret } => Follower::Client(id, secret),
        Authorization::DPoP(_) => return Err(Problem::invalid_token("An API key goes here, or a client's secret.")),
        Authorization::None => {
            return Err(Error::new(Code::Unauthenticated, "An API key or a client's secret is needed.").into());
        }
    };
    let core = app.core();
    let tenant = core.may_follow_epochs(visit.tenant, who).await.map_err(|e| refusal(e, &authorization))?;
    let params = form::parse(parts.uri.query().unwrap_or_default().as_bytes())?;
    let since = cursor("since", params.get("since"))?;
    if wants_events(&parts.headers) {
        let since = match one(&parts.headers, &LAST_EVENT_ID, "Last-Event-ID")? {
            Some(id) if !id.is_empty() => cursor("Last-Event-ID", Some(id))?,
            _ => since,
        };
        let watch = core.watch_epochs(tenant)?;
        let follower = who.keep();
        return Ok(epochs_stream::answer(app, watch, follower, (visit.tenant, tenant), since));
    }
    let page = core.epochs(tenant, since).await?;
    let Dressed { body, tag } = dressed(&page);
    let tag = etag(tag);
    let mut response = if if_none_match(&parts.headers, &tag) {
        answer::empty(StatusCode::NOT_MODIFIED)
    } else {
        answer::of(StatusCode::OK, answer::JSON, Bytes::from_owner(body.clone()))
    };
    let headers = response.headers_mut();
    headers.insert(ETAG, tag);
    headers.insert(CACHE_CONTROL, CACHEABLE);
    headers.insert(VARY, VARIES);
    Ok(response)
}

fn cursor(field: &'static str, text: Option<&str>) -> Result<Option<Cursor>, Problem> {
    let read = |text| Cursor::parse(text).ok_or_else(|| Problem::invalid_value(field, "This is no cursor of ours."));
    text.map(read).transpose()
}

/// Whether an event stream is asked for by name.
fn wants_events(headers: &HeaderMap) -> bool {
    let ranges = headers.get_all(ACCEPT).iter().filter_map(|line| line.to_str().ok()).flat_map(|line| line.split(','));
    ranges
        .map(|range| range.split(';').next().unwrap_or_default())
        .any(|r| r.trim().eq_ignore_ascii_case("text/event-stream"))
}

fn etag(tag: &[u8; 16]) -> HeaderValue {
    let text = format!("\"{:032x}\"", u128::from_be_bytes(*tag));
    HeaderValue::try_from(text).unwrap_or(HeaderValue::from_static("\"\""))
}

/// The page as JSON without a line break, written once for all who ask.
pub(crate) fn dressed(page: &Page) -> &Dressed {
    let block = |entries: &[Entry]| {
        let mut out = Out::with_capacity(entries.len() * 108);
        for (n, entry) in entries.iter().enumerate() {
            if n > 0 {
                out.raw(",");
            }
            raised(&mut out, entry);
        }
        out.into_vec()
    };
    page.dressed(block, |page, blocks| {
        let mut out = Vec::with_capacity(64 + blocks.iter().map(|b| b.len() + 1).sum::<usize>());
        out.extend_from_slice(b"{\"epochs\":[");
        for (n, block) in blocks.iter().enumerate() {
            if n > 0 {
                out.push(b',');
            }
            out.extend_from_slice(block);
        }
        let more = if page.more { ",\"more\":true" } else { "" };
        out.extend_from_slice(format!("],\"cursor\":\"{}\"{more}}}", page.cursor).as_bytes());
        out
    })
}

fn raised(out: &mut Out, entry: &Entry) {
    let mut id = [0; 36];
    out.raw("{\"user_id\":").string(entry.chosen_id.as_deref().unwrap_or_else(|| entry.user.write(&mut id)));
    out.raw(",\"epoch\":").integer(entry.epoch.into());
    out.raw(",\"at\":").time(entry.at).raw("}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_is_asked_for_by_name() {
        for (accept, events) in [
            (&["text/event-stream"][..], true),
            (&["application/json, Text/Event-Stream;q=0.9"], true),
            (&["application/json", "text/event-stream"], true),
            (&["*/*"], false),
            (&["text/*"], false),
            (&["text/event-streams"], false),
            (&[], false),
        ] {
            let mut headers = HeaderMap::new();
            for line in accept {
                headers.append(ACCEPT, HeaderValue::from_static(line));
            }
            assert_eq!(wants_events(&headers), events, "{accept:?}");
        }
    }
}
