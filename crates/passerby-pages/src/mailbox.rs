//! The mailbox page of development (`/dev/mailbox`): what people would have been sent, as the server's own messages tell it
//! at `/dev/mailbox/messages`.

use std::future::ready;

use axum::{Router, routing::get};
use http::HeaderMap;

use crate::asset::{Asset, HTML, SCRIPT, STYLE, policy};

/// The page and what it needs, by their paths. Style and icon of [`routes`](crate::routes) come beside it. The names in the
/// page are relative, so that it works under a tenant's path, too.
const FILES: [(&str, &str, &str); 3] = [
    ("/dev/mailbox", HTML, include_str!("../assets/dev/mailbox.html")),
    ("/dev/mailbox.js", SCRIPT, include_str!("../assets/dev/mailbox.js")),
    ("/dev/mailbox.css", STYLE, include_str!("../assets/dev/mailbox.css")),
];

/// `GET /dev/mailbox`, for development only.
pub fn mailbox<S: Clone + Send + Sync + 'static>() -> Router<S> {
    let policy = policy(None);
    FILES
        .into_iter()
        .map(|(path, kind, body)| (path, Asset::new(kind, &policy, body)))
        .fold(Router::new(), |router, (path, asset)| {
            router.route(path, get(move |headers: HeaderMap| ready(asset.answer(&headers))))
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::asset::tests::check;

    #[tokio::test]
    async fn every_file_is_served_with_its_kind_and_the_strict_headers() {
        check(mailbox(), &FILES.map(|(path, kind, _)| (path, kind)), &policy(None)).await;
    }

    #[test]
    fn the_page_names_nothing_but_what_is_beside_it() {
        let page = FILES[0].2;
        let named: Vec<&str> = ["src=\"", "href=\""].iter().flat_map(|at| page.split(at).skip(1)).collect();
        assert!(named.len() >= 4);
        for rest in named {
            let name = rest.split('"').next().unwrap();
            let own = FILES.iter().any(|(path, ..)| path.strip_prefix("/dev/") == Some(name));
            assert!(own || ["../ui/style.css", "../ui/icon.svg"].contains(&name), "{name}");
        }
        for (path, _, text) in FILES {
            assert!(!text.contains("http:") && !text.contains("https:"), "{path}: nothing of others");
            assert!(!text.contains("innerHTML"), "{path}: what a message says is text");
        }
    }
}
