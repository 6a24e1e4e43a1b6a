//! The page to which a hand-off's link and QR code lead (`<issuer>/ui/hand-off`), unless the client has one of its own.

use std::future::ready;

use axum::{Router, extract::State, response::Response, routing::get};
use http::HeaderMap;
use passerby_http::{App, Visit};

use crate::asset::{Asset, HTML, PICTURE, SCRIPT, STYLE, escape, policy};

const PAGE: &str = include_str!("../assets/ui/hand-off.html");

/// What the pages need, by their paths. The paths in the page are relative, so that it works under a tenant's, too.
const FILES: [(&str, &str, &str); 3] = [
    ("/ui/hand-off.js", SCRIPT, include_str!("../assets/ui/hand-off.js")),
    ("/ui/style.css", STYLE, include_str!("../assets/ui/style.css")),
    ("/ui/icon.svg", PICTURE, include_str!("../assets/ui/icon.svg")),
];

/// `GET /ui/hand-off`, and what all pages need beside them.
pub(crate) fn routes() -> Router<App> {
    files().route("/ui/hand-off", get(page))
}

fn files<S: Clone + Send + Sync + 'static>() -> Router<S> {
    let policy = policy(None);
    FILES
        .into_iter()
        .map(|(path, kind, body)| (path, Asset::new(kind, &policy, body)))
        .fold(Router::new(), |router, (path, asset)| {
            router.route(path, get(move |headers: HeaderMap| ready(asset.answer(&headers))))
        })
}

async fn page(State(app): State<App>, visit: Visit, headers: HeaderMap) -> Response {
    let client_id = usual_client(&app, visit).unwrap_or_default();
    Asset::new(HTML, &policy(None), PAGE.replace("{{client_id}}", &escape(&client_id))).answer(&headers)
}

/// The client in whose name a code is asked with that was typed without a link. Whichever of the tenant's first-party
/// clients it is, the cookie works for all of them. None: only links work.
fn usual_client(app: &App, visit: Visit) -> Option<Box<str>> {
    let tenant = app.tenant(&visit)?;
    let open = tenant.clients.values().filter(|c| c.first_party && !c.confidential() && c.rules.enabled);
    open.min_by_key(|client| client.no).map(|client| client.id.clone())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::asset::tests::check;

    #[tokio::test]
    async fn every_file_is_served_with_its_kind_and_the_strict_headers() {
        let kinds = FILES.map(|(path, kind, _)| (path, kind));
        check(files(), &kinds, &policy(None)).await;
    }

    #[test]
    fn the_page_names_nothing_but_what_is_beside_it() {
        let named: Vec<&str> = ["src=\"", "href=\""].iter().flat_map(|at| PAGE.split(at).skip(1)).collect();
        assert!(named.len() >= 4);
        for rest in named {
            let name = rest.split('"').next().unwrap();
            assert!(FILES.iter().any(|(path, ..)| path.strip_prefix("/ui/") == Some(name)), "{name}");
        }
        for text in [PAGE, FILES[0].2, FILES[1].2] {
            assert!(!text.contains("http:") && !text.contains("https:"), "nothing of others");
        }
        for inline in [" style=", "<style", "<script>", " onclick=", " onload=", "javascript:"] {
            assert!(!PAGE.contains(inline), "inline {inline}");
        }
    }
}
