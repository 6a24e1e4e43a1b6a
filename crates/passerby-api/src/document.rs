//! The API's description (`/openapi.json`) and the page that shows it (`/docs`). Both are made once, work offline, and
//! the page runs nothing but its own files.

use std::sync::Arc;

use axum::{
    Router,
    extract::{Path, rejection::PathRejection},
    response::{IntoResponse, Response},
    routing::get,
};
use bytes::Bytes;
use http::{
    HeaderMap, HeaderValue, StatusCode,
    header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY},
};
use passerby_http::{App, Problem, answer};
use utoipa::{
    Modify, OpenApi as _,
    openapi::{
        Content, OpenApi, Ref, RefOr, ResponseBuilder,
        security::{ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityScheme},
    },
};
use utoipa_swagger_ui::{Config, serve};

/// Only our own files. Icons of the style sheet are `data:` images; the hash is that of the one inline style in the
/// page's own script (of its hidden symbols), and a newer page that has another shows it as a blocked style, no more.
const POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; script-src 'self'; \
     style-src 'self' 'unsafe-hashes' 'sha256-RL3ie0nH+Lzz2YNqQN83mnU0J1ot4QL7b99vMdIX99w='; img-src 'self' data:; \
     connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
);

#[derive(utoipa::OpenApi)]
#[openapi(
    info(
        title = "Passerby",
        description = "Guest identity: a visitor is somebody from the first request on, and keeps what is theirs. \
                       Errors are problems (RFC 9457) with a stable `code`; times are RFC 3339 in UTC."
    ),
    tags(
        (name = "Guests", description = "Create, resume, refresh"),
        (name = "Me", description = "What a visitor does with their own account"),
        (name = "Ways in", description = "Device keys, hand-off, recovery: how a guest comes back, and who is told"),
        (name = "Becoming somebody", description = "Identifiers, sign-in, passwords, merges: a guest becomes an account, or comes into one"),
        (name = "Users", description = "What back ends do with users, by API key"),
        (name = "API keys", description = "Keys for back ends. A key reaches only keys that may do no more than itself"),
        (name = "Messages", description = "What people are told and how: templates, the event log, what could not be delivered"),
        (name = "Operations", description = "For the platform"),
    ),
    modifiers(&Schemes)
)]
struct Head;

struct Schemes;

impl Modify for Schemes {
    fn modify(&self, document: &mut OpenApi) {
        let components = document.components.get_or_insert_default();
        let http =
            |scheme, text| SecurityScheme::Http(HttpBuilder::new().scheme(scheme).description(Some(text)).build());
        components.add_security_scheme("bearer", http(HttpAuthScheme::Bearer, "An access token"));
        // OpenAPI knows no scheme of that name: its registered name goes into the header
        let dpop = ApiKeyValue::with_description(
            "Authorization",
            "`DPoP <access token>` for a token that is bound to a key, with a proof in the header `DPoP` (RFC 9449)",
        );
        components.add_security_scheme("dpop", SecurityScheme::ApiKey(ApiKey::Header(dpop)));
        components.add_security_scheme("client", http(HttpAuthScheme::Basic, "A confidential client's id and secret"));
        components.add_security_scheme("api_key", http(HttpAuthScheme::Bearer, "An API key"));
        let cookie = ApiKeyValue::with_description(
            "passerby_session",
            "The session cookie; on https its name is __Host-passerby_session",
        );
        components.add_security_scheme("cookie", SecurityScheme::ApiKey(ApiKey::Cookie(cookie)));
    }
}

/// The description of all doors: of this crate, and what others add.
pub fn openapi(extra: Vec<OpenApi>) -> OpenApi {
    let own = crate::native().into_openapi();
    let mut document = extra.into_iter().fold(Head::openapi().merge_from(own), OpenApi::merge_from);
    tell_refusals(&mut document);
    document
}

/// What the kit of doors refuses at every native operation that takes a body, or `force`: said once, here.
fn tell_refusals(document: &mut OpenApi) {
    const OF_BODIES: [(&str, &str); 4] = [
        ("400", "The request cannot be read, or a value is not allowed"),
        ("413", "The body is too large"),
        ("415", "The body is not JSON"),
        ("422", "The body is JSON, but a value breaks a limit"),
    ];
    for (_, item) in document.paths.paths.iter_mut().filter(|(path, _)| path.starts_with("/v1/")) {
        let operations = [&mut item.get, &mut item.put, &mut item.post, &mut item.patch, &mut item.delete];
        for operation in operations.into_iter().flatten() {
            let forced = operation.parameters.iter().flatten().any(|p| matches!(p, RefOr::T(p) if p.name == "force"));
            let refusals = match operation.request_body {
                Some(_) => &OF_BODIES[..],
                None if forced => &OF_BODIES[..1],
                None => &[],
            };
            for (status, description) in refusals {
                operation.responses.responses.entry((*status).to_owned()).or_insert_with(|| problem(description));
            }
        }
    }
}

fn problem(description: &str) -> RefOr<utoipa::openapi::Response> {
    let content = Content::new(Some(Ref::from_schema_name("Problem")));
    ResponseBuilder::new().description(description).content("application/problem+json", content).into()
}

/// The routes of the description and its page.
///
/// # Panics
/// When a document cannot be printed, which is a fault in the code that describes it and shows at every start.
pub fn documents(document: &OpenApi) -> Router<App> {
    let json = Bytes::from(document.to_json().expect("the description is JSON"));
    let config = Arc::new(
        Config::from("/openapi.json")
            .validator_url("none")
            .display_operation_id(false)
            .doc_expansion("list")
            .try_it_out_enabled(true),
    );
    let page = move |path: &str| file(path, &config);
    let (index, index_below) = (page.clone(), page.clone());
    Router::new()
        .route(
            "/openapi.json",
            get(move || {
                let mut response = answer::of(StatusCode::OK, answer::JSON, json.clone());
                response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
                std::future::ready(response)
            }),
        )
        .route("/docs", get(move || std::future::ready(index(""))))
        .route("/docs/", get(move || std::future::ready(index_below(""))))
        .route(
            "/docs/{*file}",
            get(move |path: Result<Path<String>, PathRejection>| {
                std::future::ready(path.map_or_else(|_| Problem::not_found().into_response(), |Path(path)| page(&path)))
            }),
        )
}

/// A file of the page; its index under another title and with paths that hold wherever it is served.
fn file(path: &str, config: &Arc<Config<'static>>) -> Response {
    let Ok(Some(file)) = serve(path, config.clone()) else { return Problem::not_found().into_response() };
    let mut bytes = file.bytes.into_owned();
    if path.is_empty() || path == "index.html" {
        bytes = String::from_utf8_lossy(&bytes)
            .replace("<title>Swagger UI</title>", "<title>Passerby API</title>")
            .replace("href=\"./", "href=\"/docs/")
            .replace("href=\"index.css", "href=\"/docs/index.css")
            .replace("src=\"./", "src=\"/docs/")
            .into_bytes();
    }
    let mut headers = HeaderMap::with_capacity(6);
    headers.insert(CONTENT_TYPE, HeaderValue::try_from(file.content_type).unwrap_or(answer::JSON));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("public, max-age=3600"));
    headers.insert(CONTENT_SECURITY_POLICY, POLICY);
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    (headers, bytes).into_response()
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    #[test]
    fn the_description_is_whole() {
        let other = utoipa::openapi::OpenApiBuilder::new().build();
        let document: Value = serde_json::from_str(&openapi(vec![other]).to_json().unwrap()).unwrap();
        assert!(document["openapi"].as_str().unwrap().starts_with("3.1."));
        assert_eq!(document["info"]["title"], "Passerby");
        for (path, method) in [
            ("/v1/guests", "post"),
            ("/v1/me", "get"),
            ("/v1/me", "delete"),
            ("/v1/me/data", "patch"),
            ("/v1/me/data/operations", "post"),
            ("/v1/me/sessions", "get"),
            ("/v1/me/sessions/{id}", "delete"),
            ("/v1/me/export", "get"),
            ("/v1/refresh", "post"),
            ("/v1/logout", "post"),
            ("/health/live", "get"),
            ("/health/ready", "get"),
            ("/metrics", "get"),
        ] {
            let operation = &document["paths"][path][method];
            assert!(operation["summary"].is_string() && operation["tags"][0].is_string(), "{method} {path}");
        }
        let statuses = |path: &str, method: &str| {
            let responses = document["paths"][path][method]["responses"].as_object().unwrap();
            responses.keys().map(|status| status.parse::<u16>().unwrap()).collect::<Vec<_>>()
        };
        for (path, method) in [("/v1/guests/hand-off", "post"), ("/v1/api-keys", "post"), ("/v1/users", "post")] {
            let told = statuses(path, method);
            assert!([400, 413, 415, 422].iter().all(|status| told.contains(status)), "{path} {told:?}");
        }
        assert!(statuses("/v1/me/device-keys/{thumbprint}", "delete").contains(&400));
        assert!(!statuses("/v1/me", "get").contains(&413));
        // every reference leads somewhere
        let text = document.to_string();
        for reference in text.split("\"$ref\":\"#").skip(1).map(|rest| &rest[..rest.find('"').unwrap()]) {
            assert!(document.pointer(reference).is_some(), "{reference}");
        }
        for scheme in ["bearer", "dpop", "cookie", "client", "api_key"] {
            assert!(document["components"]["securitySchemes"][scheme].is_object(), "{scheme}");
        }
    }

    #[test]
    fn the_page_is_offline() {
        let config = Arc::new(Config::from("/openapi.json").validator_url("none"));
        let index = file("", &config);
        assert!(index.headers()["content-security-policy"].to_str().unwrap().starts_with("default-src 'none'"));
        for (path, kind) in [
            ("", "text/html"),
            ("swagger-ui-bundle.js", "text/javascript"),
            ("swagger-ui-standalone-preset.js", "text/javascript"),
            ("swagger-initializer.js", "text/javascript"),
            ("swagger-ui.css", "text/css"),
            ("index.css", "text/css"),
        ] {
            let response = file(path, &config);
            assert_eq!(response.status(), 200, "{path}");
            assert!(response.headers()["content-type"].to_str().unwrap().starts_with(kind), "{path}");
        }
        assert_eq!(file("nothing.js", &config).status(), 404);
        assert_eq!(file("../Cargo.toml", &config).status(), 404);
    }
}
