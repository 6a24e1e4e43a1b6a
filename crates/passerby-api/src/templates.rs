//! `/v1/templates`: what messages say, by API key.

use axum::{
    extract::{Path, Request, State, rejection::PathRejection},
    response::Response,
};
use http::{
    StatusCode,
    header::{ETAG, IF_MATCH},
};
use passerby_core::{message::Wording, outbox::TemplateView, settings::ApiScope};
use passerby_http::{
    App, MediaType, Problem, Visit,
    answer::{self, Out},
    etag, json, one,
};
use serde::Deserialize;

use crate::{
    manager::{body, in_path, manager},
    schema::ProblemDetails,
    schema_outbox as schema,
};

type Kind = Result<Path<String>, PathRejection>;

fn wording_members(out: &mut Out, wording: &Wording) {
    out.raw("\"subject\":").string(&wording.subject);
    out.raw(",\"text\":").string(&wording.text);
    out.raw(",\"html\":").string_or_null(wording.html.as_deref()).raw("}");
}

fn template(out: &mut Out, view: &TemplateView) {
    out.raw("{\"kind\":").string(view.kind.as_str());
    out.raw(",\"custom\":").boolean(view.custom);
    out.raw(",\"version\":").integer(view.version).raw(",");
    wording_members(out, &view.wording);
}

fn answer_template(view: &TemplateView) -> Response {
    let mut out = Out::with_capacity(4096);
    template(&mut out, view);
    let mut response = out.answer(StatusCode::OK);
    response.headers_mut().insert(ETAG, etag(view.version));
    response
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written<'a> {
    #[serde(borrow)]
    subject: Option<json::Text<'a>>,
    #[serde(borrow)]
    text: Option<json::Text<'a>>,
    #[serde(borrow)]
    html: Option<json::Text<'a>>,
}

impl Written<'_> {
    /// What is missing is empty here, and refused where it is needed.
    fn wording(&self) -> Wording {
        Wording {
            subject: self.subject.as_deref().unwrap_or_default().into(),
            text: self.text.as_deref().unwrap_or_default().into(),
            html: self.html.as_deref().map(Into::into),
        }
    }
}

/// List templates
///
/// One for each kind of message: yours, or the one that comes with the server. Needs `templates:read`.
#[utoipa::path(
    get,
    path = "/v1/templates",
    operation_id = "listTemplates",
    tag = "Messages",
    responses(
        (status = 200, description = "All templates", body = schema::Templates),
        (status = 401, description = "No API key, or one that is unknown, expired or another tenant's", body = ProblemDetails, content_type = "application/problem+json"),
        (status = 403, description = "`insufficient_scope`", body = ProblemDetails, content_type = "application/problem+json"),
    ),
    security(("api_key" = []))
)]
pub(crate) async fn list(State(app): State<App>, visit: Visit, request: Request) -> Result<Response, Problem> {
    let (parts, _) = request.into_parts();
    let caller = visit.caller(&app, &parts);
    let by = manager(&caller, &parts)?;
    let all = app.core().templates(&by).await?;
    let mut out = Out::with_capacity(16 * 1024);
    out.raw("{\"items\":[");
    for (n, view) in all.iter().enumerate() {
        if n > 0 {
            out.raw(",");
        }
        template(&mut out, view);
    }
    out.raw("],\"cursor\":null}");
    Ok(out.answer(StatusCode::OK))
}

/// Look at a template
///
/// `ETag` is its version: `"0"` of the one that comes with the server. Needs `templates:read`.
#[utoipa::path(
    get,
    path = "/v1/templates/{kind}",
    operation_id = "getTemplate",
    tag = "Messages",
    params(("kind" = String, Path, description = "The kind of message")),
    responses(
        (status = 200, description = "The template", body = schema::Template, headers(("ETag" = String, description = "The version, quoted"))),
        (status = 401, description = "No API key, or one that is unknown, expired or another tenant's", body = ProblemDetails, content_type = "application/problem+json"),
        (status = 403, description = "`insufficient_scope`", body = ProblemDetails, content_type = "application/problem+json"),
        (status = 404, description = "No such kind of message", body = ProblemDetails, content_type = "application/problem+json"),
    ),
    security(("api_key" = []))
)]
pub(crate) async fn look(
    State(app): State<App>,
    visit: Visit,
    kind: Kind,
    request: Request,
) -> Result<Response, Problem> {
    let (parts, _) = request.into_parts();
    let caller = visit.caller(&app, &parts);
    let by = manager(&caller, &parts)?;
    Ok(answer_template(&app.core().template(&by, &in_path(kind)).await?))
}

/// Write a template
///
/// Whatever could go wrong with it later is refused now, with the part and the line: what cannot be read, a variable that
/// this kind does not have, HTML in which a value would not be safe, a code that is missing where it is what the message
/// is for. Needs `templates:write`.
#[utoipa::path(
    put,
    path = "/v1/templates/{kind}",
    operation_id = "putTemplate",
    tag = "Messages",
    params(
        ("kind" = String, Path, description = "The kind of message"),
        ("If-Match" = Option<String>, Header, description = "The version that must be there, quoted; `\"0\"`: the one that comes with the server"),
    ),
    request_body = schema::Wording,
    responses(
        (status = 200, description = "The template", body = schema::Template, headers(("ETag" = String, description = "The version, quoted"))),
        (status = 400, description = "The request cannot be read, or the template is refused: `field` is the part, `detail` says the line", body = ProblemDetails, content_type = "application/problem+json"),
        (status = 401, description = "No API key, or one that is unknown, expired or another tenant's", body = ProblemDetails, content_type = "application/problem+json"),
        (status = 403, description = "`insufficient_scope`", body = ProblemDetails, content_type = "application/problem+json"),
        (status = 404, description = "No such kind of message", body = ProblemDetails, content_type = "application/problem+json"),
        (status = 412, description = "The version is another one", body = ProblemDetails, content_type = "application/problem+json"),
    ),
    security(("api_key" = []))
)]
pub(crate) async fn put(
    State(app): State<App>,
    visit: Visit,
    kind: Kind,
    request: Request,
) -> Result<Response, Problem> {
    let (parts, sent) = request.into_parts();
    let caller = visit.caller(&app, &parts);
    let by = manager(&caller, &parts)?;
    let sent = body(&app, &by, ApiScope::TemplatesWrite, &parts.headers, sent, &[MediaType::Json]).await?;
    let wording = json::parse::<Written<'_>>(&sent)?.wording();
    let if_match = one(&parts.headers, &IF_MATCH, "If-Match")?;
    Ok(answer_template(&app.core().put_template(&by, &in_path(kind), wording, if_match).await?))
}

/// Remove a template
///
/// From then on messages are worded as they come with the server. Nothing there is no error. Needs `templates:write`.
#[utoipa::path(
    delete,
    path = "/v1/templates/{kind}",
    operation_id = "deleteTemplate",
    tag = "Messages",
    params(
        ("kind" = String, Path, description = "The kind of message"),
        ("If-Match" = Option<String>, Header, description = "The version that must be there, quoted"),
    ),
    responses(
        (status = 204, description = "Gone"),
        (status = 400, description = "`If-Match` is no entity tag", body = ProblemDetails, content_type = "application/problem+json"),
        (status = 401, description = "No API key, or one that is unknown, expired or another tenant's", body = ProblemDetails, content_type = "application/problem+json"),
        (status = 403, description = "`insufficient_scope`", body = ProblemDetails, content_type = "application/problem+json"),
        (status = 404, description = "No such kind of message", body = ProblemDetails, content_type = "application/problem+json"),
        (status = 412, description = "The version is another one", body = ProblemDetails, content_type = "application/problem+json"),
    ),
    security(("api_key" = []))
)]
pub(crate) async fn remove(
    State(app): State<App>,
    visit: Visit,
    kind: Kind,
    request: Request,
) -> Result<Response, Problem> {
    let (parts, _) = request.into_parts();
    let caller = visit.caller(&app, &parts);
    let by = manager(&caller, &parts)?;
    let if_match = one(&parts.headers, &IF_MATCH, "If-Match")?;
    app.core().delete_template(&by, &in_path(kind), if_match).await?;
    Ok(answer::empty(StatusCode::NO_CONTENT))
}

/// Try a template
///
/// A message of this kind as it would go out, with sample values: by the template that is sent along, or, without a body,
/// by the one that is there. Nothing is kept or sent. Needs `templates:read`.
#[utoipa::path(
    post,
    path = "/v1/templates/{kind}/preview",
    operation_id = "previewTemplate",
    tag = "Messages",
    params(("kind" = String, Path, description = "The kind of message")),
    request_body = Option<schema::Wording>,
    responses(
        (status = 200, description = "The message", body = schema::Wording),
        (status = 400, description = "The request cannot be read, or the template is refused", body = ProblemDetails, content_type = "application/problem+json"),
        (status = 401, description = "No API key, or one that is unknown, expired or another tenant's", body = ProblemDetails, content_type = "application/problem+json"),
        (status = 403, description = "`insufficient_scope`", body = ProblemDetails, content_type = "application/problem+json"),
        (status = 404, description = "No such kind of message", body = ProblemDetails, content_type = "application/problem+json"),
    ),
    security(("api_key" = []))
)]
pub(crate) async fn preview(
    State(app): State<App>,
    visit: Visit,
    kind: Kind,
    request: Request,
) -> Result<Response, Problem> {
    let (parts, sent) = request.into_parts();
    let caller = visit.caller(&app, &parts);
    let by = manager(&caller, &parts)?;
    let sent = body(&app, &by, ApiScope::TemplatesRead, &parts.headers, sent, &[MediaType::Json]).await?;
    let wording = if sent.is_empty() { None } else { Some(json::parse::<Written<'_>>(&sent)?.wording()) };
    let rendered = app.core().preview_template(&by, &in_path(kind), wording).await?;
    let mut out = Out::with_capacity(4096);
    out.raw("{");
    wording_members(&mut out, &rendered.0);
    Ok(out.answer(StatusCode::OK))
}
