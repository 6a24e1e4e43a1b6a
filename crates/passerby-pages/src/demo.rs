//! The demo page (`/demo`): a video whose views are counted for a guest nobody asked to register, by the browser client of
//! `sdk/browser`.

use std::future::ready;

use axum::{Router, routing::get};
use http::HeaderMap;

use crate::asset::{Asset, HTML, SCRIPT, STYLE, escape, policy};

const PAGE: &str = include_str!("../assets/demo/index.html");

/// Scripts and styles by their names below `/demo/`.
const FILES: [(&str, &str, &str); 21] = [
    ("app.js", SCRIPT, include_str!("../assets/demo/app.js")),
    ("bring.js", SCRIPT, include_str!("../assets/demo/bring.js")),
    ("client.js", SCRIPT, include_str!("../assets/demo/client.js")),
    ("devices.js", SCRIPT, include_str!("../assets/demo/devices.js")),
    ("hand-off.js", SCRIPT, include_str!("../assets/demo/hand-off.js")),
    ("keep.js", SCRIPT, include_str!("../assets/demo/keep.js")),
    ("leave.js", SCRIPT, include_str!("../assets/demo/leave.js")),
    ("member.js", SCRIPT, include_str!("../assets/demo/member.js")),
    ("merge.js", SCRIPT, include_str!("../assets/demo/merge.js")),
    ("page.js", SCRIPT, include_str!("../assets/demo/page.js")),
    ("passerby-account.js", SCRIPT, include_str!("../assets/demo/passerby-account.js")),
    ("passerby.js", SCRIPT, include_str!("../assets/demo/passerby.js")),
    ("profile.js", SCRIPT, include_str!("../assets/demo/profile.js")),
    ("prove.js", SCRIPT, include_str!("../assets/demo/prove.js")),
    ("recovery.js", SCRIPT, include_str!("../assets/demo/recovery.js")),
    ("shop.js", SCRIPT, include_str!("../assets/demo/shop.js")),
    ("sign-in.js", SCRIPT, include_str!("../assets/demo/sign-in.js")),
    ("token.js", SCRIPT, include_str!("../assets/demo/token.js")),
    ("watch.js", SCRIPT, include_str!("../assets/demo/watch.js")),
    ("scene.css", STYLE, include_str!("../assets/demo/scene.css")),
    ("style.css", STYLE, include_str!("../assets/demo/style.css")),
];

/// What the demo page is told.
#[derive(Debug, Clone, Copy)]
pub struct Demo<'a> {
    /// The client in whose name the page makes guests.
    pub client_id: &'a str,
    /// The origin of the cart (`examples/cart`), which the page may call besides the server.
    pub cart: &'a str,
}

/// The routes of the demo page, for development only: `GET /demo` with its scripts and styles below `/demo/`. It uses
/// style and icon of [`routes`](crate::routes), too.
pub fn demo<S: Clone + Send + Sync + 'static>(told: Demo<'_>) -> Router<S> {
    let policy = policy(Some(told.cart));
    let page = PAGE.replace("{{client_id}}", &escape(told.client_id)).replace("{{cart}}", &escape(told.cart));
    let files = FILES.into_iter().map(|(name, kind, body)| (format!("/demo/{name}"), Asset::new(kind, &policy, body)));
    std::iter::once(("/demo".to_owned(), Asset::new(HTML, &policy, page)))
        .chain(files)
        .fold(Router::new(), |router, (path, asset)| {
            router.route(&path, get(move |headers: HeaderMap| ready(asset.answer(&headers))))
        })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use http::{Method, StatusCode, header::ETAG};

    use super::*;
    use crate::asset::tests::{ask, check};

    const TOLD: Demo<'_> = Demo { client_id: "demo-spa", cart: "http://127.0.0.1:9012" };

    #[tokio::test]
    async fn every_file_is_served_with_its_kind_and_the_strict_headers() {
        let paths = FILES.map(|(name, kind, _)| (format!("/demo/{name}"), kind));
        let mut files: Vec<(&str, &str)> = paths.iter().map(|(path, kind)| (path.as_str(), *kind)).collect();
        files.push(("/demo", HTML));
        check(demo(TOLD), &files, &policy(Some(TOLD.cart))).await;
    }

    #[tokio::test]
    async fn what_the_page_is_told_reaches_it_escaped_and_changes_its_tag() {
        let (_, plain, body) = ask(demo(TOLD), Method::GET, "/demo", &[]).await;
        assert!(body.contains(r#"<meta name="passerby-client-id" content="demo-spa">"#));
        assert!(body.contains(r#"<meta name="passerby-cart" content="http://127.0.0.1:9012">"#));

        let odd = Demo { client_id: r#""><script>'&"#, ..TOLD };
        let (_, odd, body) = ask(demo(odd), Method::GET, "/demo", &[]).await;
        assert!(body.contains(r#"content="&quot;&gt;&lt;script&gt;&#39;&amp;">"#));
        assert_ne!(plain[ETAG], odd[ETAG]);
    }

    #[tokio::test]
    async fn every_file_that_the_page_names_is_there() {
        let mut texts = vec![PAGE];
        texts.extend(FILES.iter().filter(|(name, ..)| !name.starts_with("passerby")).map(|(.., text)| *text));
        for text in texts {
            let words = text.split(['\'', '"']).filter_map(|word| word.strip_prefix("./"));
            for named in words.filter(|word| Path::new(word).extension().is_some_and(|kind| kind == "js")) {
                let (status, ..) = ask(demo(TOLD), Method::GET, &format!("/demo/{named}"), &[]).await;
                assert_eq!(status, StatusCode::OK, "{named}");
            }
            for outside in ["http:", "https:"] {
                // the name of a namespace and that of an audience, which nobody calls
                let found = text.replace("http://www.w3.org/2000/svg", "").replace("'https://api.example.com'", "");
                assert!(!found.contains(outside), "a file reaches out by {outside}");
            }
        }
        for named in PAGE.split('"').filter_map(|word| word.strip_prefix("/demo/")) {
            assert!(FILES.iter().any(|(name, ..)| *name == named), "{named}");
        }
    }
}
