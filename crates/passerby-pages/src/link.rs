//! The pages of links in messages: `/ui/link` (an address is proven, somebody signs in) and `/ui/password` (a password is
//! set). Looking at one changes nothing, since mail scanners look at all of them; a person confirms by a form that only our
//! own page can send.

use std::fmt::Write as _;

use axum::{
    Router,
    extract::{Request, State},
    response::Response,
    routing::get,
};
use http::StatusCode;
use http::{HeaderName, request::Parts};
use passerby_core::{
    Code, Error, Timestamp,
    account::{LinkDone, LinkPage, LinkUse},
    caller::{Caller, Site},
};
use passerby_http::{App, MediaType, Refusal, Visit, cookies, form};

use crate::{
    asset::escape,
    card::{Card, Mood, lead_on, refused},
};

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// `GET|POST /ui/link` and `GET|POST /ui/password`.
pub(crate) fn routes() -> Router<App> {
    Router::new()
        .route("/ui/link", get(look_at_link).post(confirm))
        .route("/ui/password", get(look_at_password).post(set_password))
}

/// What the application is called, before a link has told it.
fn brand(app: &App, visit: Visit) -> Box<str> {
    app.tenant(&visit).map_or_else(|| "Passerby".into(), |tenant| tenant.mail.app_name.clone())
}

fn dead() -> Error {
    Error::new(Code::InvalidCode, "The link is wrong, was used, or is over.")
}

fn unreadable(refusal: &Refusal, brand: &str) -> Response {
    let body = format!("    <p>{}</p>\n", escape(&refusal.detail()));
    let title = "This request cannot be read";
    Card { status: refusal.status(), mood: Mood::Alarm, brand, title, body, leads_to: None }.answer()
}

/// The token in the query.
fn token_of(parts: &Parts) -> Result<String, Error> {
    let params = form::parse(parts.uri.query().unwrap_or_default().as_bytes()).map_err(|_| dead())?;
    params.get("token").map(str::to_owned).ok_or_else(dead)
}

/// The page of a link, if it is of a kind that this path shows.
async fn page(app: &App, caller: &Caller<'_>, token: &str, password: bool) -> Result<LinkPage, Error> {
    let page = app.core().link_page(caller, token).await?;
    if (page.of == LinkUse::Password) == password { Ok(page) } else { Err(dead()) }
}

/// The caller of a form, which was sent by our own page: no other site confirms anything in somebody's browser, and no
/// program that takes a page for a mail's content does. Where a browser keeps the origin to itself, it says that it is ours.
fn by_own_page<'a>(mut caller: Caller<'a>, parts: &Parts) -> Result<Caller<'a>, Error> {
    let says_same = parts.headers.get(SEC_FETCH_SITE).is_some_and(|v| v.as_bytes() == b"same-origin");
    match caller.site {
        Site::Same => {}
        Site::Origin("null") if says_same => caller.site = Site::Same,
        Site::Origin(_) | Site::Cross | Site::Unknown => {
            return Err(Error::at(Code::CrossSite, "Origin", "The form is sent by our own page only."));
        }
    }
    Ok(caller)
}

/// A form's body.
async fn form_body(app: &App, parts: &Parts, body: axum::body::Body) -> Result<bytes::Bytes, Refusal> {
    match MediaType::of(&parts.headers) {
        MediaType::Form => app.body(body).await,
        _ => Err(Refusal::UnsupportedMediaType("application/x-www-form-urlencoded")),
    }
}

async fn look_at_link(State(app): State<App>, visit: Visit, request: Request) -> Response {
    let (parts, _) = request.into_parts();
    let look = async {
        let token = token_of(&parts)?;
        let shown = page(&app, &visit.caller(&app, &parts), &token, false).await?;
        Ok(link_card(&shown, &token))
    };
    look.await.unwrap_or_else(|e| refused(&e, &brand(&app, visit)))
}

async fn confirm(State(app): State<App>, visit: Visit, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let brand = brand(&app, visit);
    let body = match form_body(&app, &parts, body).await {
        Ok(body) => body,
        Err(refusal) => return unreadable(&refusal, &brand),
    };
    let form = match form::parse(&body) {
        Ok(form) => form,
        Err(refusal) => return unreadable(&refusal, &brand),
    };
    let spend = async {
        let caller = by_own_page(visit.caller(&app, &parts), &parts)?;
        let token = form.get("token").ok_or_else(dead)?;
        let here = match form.get("action") {
            Some("confirm") => false,
            Some("here") => true,
            _ => return Err(Error::at(Code::InvalidRequest, "action", "Expected \"confirm\" or \"here\".")),
        };
        // what the page said, for the one that follows
        let shown = page(&app, &caller, token, false).await?;
        let done = app.core().confirm_link(&caller, token, here).await?;
        Ok(link_done(&shown, &done, here))
    };
    spend.await.unwrap_or_else(|e| refused(&e, &brand))
}

fn link_card(page: &LinkPage, token: &str) -> Response {
    let app = escape(&page.app_name);
    let address = escape(&page.address);
    let (title, what, asks) = match page.of {
        LinkUse::SignIn => (
            format!("Sign in to {}?", page.app_name),
            format!("Somebody asked to sign in to <strong>{app}</strong> as <strong>{address}</strong>."),
            "asked to sign in",
        ),
        LinkUse::Claim | LinkUse::Password => (
            "Is this you?".to_owned(),
            format!(
                "Somebody wants to keep what they have in <strong>{app}</strong> under <strong>{address}</strong>. If you \
                 agree, the device that asked gets into whatever this address opens."
            ),
            "asked for this",
        ),
    };
    // writing to a String cannot fail
    let mut body = format!(
        "    <p>{what}</p>\n    <p>The device that {asks} shows the same two digits:</p>\n    \
         <output class=\"digits\">{}</output>\n    <dl class=\"facts\">\n",
        escape(&page.check)
    );
    if let Some(device) = &page.device {
        let _ = writeln!(body, "      <dt>Device</dt><dd>{}</dd>", escape(device));
    }
    let _ = write!(
        body,
        "      <dt>Where</dt><dd>{}</dd>\n      <dt>When</dt><dd>{}</dd>\n    </dl>\n",
        escape(&page.client_name),
        moment(page.asked_at)
    );
    let here = if page.can_sign_in_here {
        "        <button class=\"button\" name=\"action\" value=\"here\">Sign in on this device</button>\n"
    } else {
        ""
    };
    let _ = write!(
        body,
        "    <form method=\"post\" action=\"link\">\n      <input type=\"hidden\" name=\"token\" value=\"{}\">\n      \
         <p class=\"buttons\">\n        <button class=\"button main\" name=\"action\" value=\"confirm\">Yes, it is me</button>\n\
         {here}      </p>\n    </form>\n",
        escape(token)
    );
    if page.can_sign_in_here {
        body.push_str(
            "    <p class=\"help\">The first button lets in the device that asked, and not this one. The second signs in this \
             browser, and the device that asked gets nothing.</p>\n",
        );
    }
    body.push_str(
        "    <p class=\"help\">You did not ask for this, or the digits differ? Then close this page: nothing has \
         happened.</p>\n",
    );
    card(&page.app_name, Mood::Plain, &title, body, page.redirect_uri.as_deref())
}

fn link_done(page: &LinkPage, done: &LinkDone, here: bool) -> Response {
    let redirect = done.redirect_uri.as_deref().and_then(|uri| lead_on(uri, done.state.as_deref()));
    let mut response = redirect.unwrap_or_else(|| {
        let (title, body) = if here {
            ("You are signed in", "    <p>This browser is signed in. You may close this page, and open the app.</p>\n")
        } else {
            (
                "Confirmed",
                "    <p>Go back to the device where you began: it goes on from here. You may close this page.</p>\n",
            )
        };
        card(&page.app_name, Mood::Done, title, body.to_owned(), None)
    });
    if let Some(cookie) = &done.cookie {
        cookies::set(response.headers_mut(), &cookie.value, cookie.max_age.as_secs(), cookie.secure);
    }
    response
}

async fn look_at_password(State(app): State<App>, visit: Visit, request: Request) -> Response {
    let (parts, _) = request.into_parts();
    let look = async {
        let token = token_of(&parts)?;
        let shown = page(&app, &visit.caller(&app, &parts), &token, true).await?;
        Ok(password_card(&shown, &token, None))
    };
    look.await.unwrap_or_else(|e| refused(&e, &brand(&app, visit)))
}

async fn set_password(State(app): State<App>, visit: Visit, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let brand = brand(&app, visit);
    let body = match form_body(&app, &parts, body).await {
        Ok(body) => body,
        Err(refusal) => return unreadable(&refusal, &brand),
    };
    let form = match form::parse(&body) {
        Ok(form) => form,
        Err(refusal) => return unreadable(&refusal, &brand),
    };
    let set = async {
        let caller = by_own_page(visit.caller(&app, &parts), &parts)?;
        let token = form.get("token").ok_or_else(dead)?;
        let shown = page(&app, &caller, token, true).await?;
        let password = form.get("password").unwrap_or_default();
        if form.get("again").unwrap_or_default() != password {
            return Ok(password_card(&shown, token, Some("The two are not the same.")));
        }
        match app.core().reset_password(&caller, token, password).await {
            Ok(done) => Ok(password_done(&shown, &done)),
            // weak: the link is not spent
            Err(e) if e.field.as_deref() == Some("/password") => Ok(password_card(&shown, token, Some(&e.detail))),
            Err(e) => Err(e),
        }
    };
    set.await.unwrap_or_else(|e| refused(&e, &brand))
}

/// `wrong`: why the password that was sent is not taken.
fn password_card(page: &LinkPage, token: &str, wrong: Option<&str>) -> Response {
    let (app, address) = (escape(&page.app_name), escape(&page.address));
    let (invalid, why) = match wrong {
        Some(why) => (" aria-invalid=\"true\" autofocus", escape(why)),
        None => ("", String::new()),
    };
    let body = format!(
        "    <p>For <strong>{address}</strong> in <strong>{app}</strong>. Every device that is signed in there now will be \
         signed out.</p>\n    <form method=\"post\" action=\"password\">\n      \
         <input type=\"hidden\" name=\"token\" value=\"{}\">\n      <label for=\"password\">New password</label>\n      \
         <input id=\"password\" name=\"password\" type=\"password\" autocomplete=\"new-password\" required \
         maxlength=\"1000\" aria-describedby=\"wrong\"{invalid}>\n      <p class=\"field-error\" id=\"wrong\">{why}</p>\n      \
         <label for=\"again\">The same once more</label>\n      <input id=\"again\" name=\"again\" type=\"password\" \
         autocomplete=\"new-password\" required maxlength=\"1000\">\n      <p class=\"buttons\">\
         <button class=\"button main\">Set the password</button></p>\n    </form>\n    <p class=\"help\">You did not ask for \
         this? Then close this page: nothing has happened.</p>\n",
        escape(token)
    );
    let mut response = card(&page.app_name, Mood::Plain, "Set a password", body, page.redirect_uri.as_deref());
    if wrong.is_some() {
        *response.status_mut() = StatusCode::BAD_REQUEST;
    }
    response
}

fn password_done(page: &LinkPage, done: &LinkDone) -> Response {
    let redirect = done.redirect_uri.as_deref().and_then(|uri| lead_on(uri, done.state.as_deref()));
    redirect.unwrap_or_else(|| {
        let body = "    <p>Sign in with it in the app. You may close this page.</p>\n".to_owned();
        card(&page.app_name, Mood::Done, "Your password is set", body, None)
    })
}

fn card(brand: &str, mood: Mood, title: &str, body: String, leads_to: Option<&str>) -> Response {
    Card { status: StatusCode::OK, mood, brand, title, body, leads_to }.answer()
}

/// A moment for people: to the minute, and whose time it is.
fn moment(at: Timestamp) -> String {
    let text = at.to_string();
    match (text.get(..10), text.get(11..16)) {
        (Some(day), Some(time)) => format!("<time datetime=\"{text}\">{day}, {time} UTC</time>"),
        _ => text,
    }
}
