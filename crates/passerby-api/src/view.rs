//! How users, sessions and tokens look on the native wire, written straight into one buffer.

use axum::response::Response;
use http::StatusCode;
use passerby_core::{
    guest::Ensured,
    me::{SessionView, UserView},
    model::SessionKind,
    token::Tokens,
};
use passerby_http::{answer::Out, cookies};

use crate::view_account;

/// The user object.
pub(crate) fn user(out: &mut Out, user: &UserView) {
    user_members(out, user);
    out.raw("}");
}

/// The user object without its closing brace, for those who have more to say.
pub(crate) fn user_members(out: &mut Out, user: &UserView) {
    out.raw("{\"id\":").string(&user.id);
    out.raw(",\"kind\":\"").raw(user.kind.as_str());
    // compact JSON already
    out.raw("\",\"data\":").raw(&user.data);
    out.raw(",\"version\":").integer(user.version);
    out.raw(",\"created_at\":").time(user.created_at);
    out.raw(",\"last_active_at\":").time(user.last_active_at);
    out.raw(",\"expires_at\":").time_or_null(user.expires_at);
    out.raw(",\"stored\":").boolean(user.stored);
    if let Some(account) = &user.account {
        view_account::account(out, account);
    }
}

/// The session object.
pub(crate) fn session(out: &mut Out, session: &SessionView) {
    session_members(out, session);
    out.raw("}");
}

/// The session object without its closing brace, for those who have more to say.
pub(crate) fn session_members(out: &mut Out, session: &SessionView) {
    let mut id = [0; 36];
    out.raw("{\"id\":\"").raw(session.id.write(&mut id));
    out.raw("\",\"client_id\":").string(&session.client_id);
    out.raw(",\"session_type\":\"").raw(session_type(session.kind));
    out.raw("\",\"created_at\":").time(session.created_at);
    out.raw(",\"last_active_at\":").time(session.last_active_at);
    out.raw(",\"idle_expires_at\":").time(session.idle_expires_at);
    out.raw(",\"expires_at\":").time(session.expires_at);
    out.raw(",\"current\":").boolean(session.current);
}

fn session_type(kind: SessionKind) -> &'static str {
    match kind {
        SessionKind::Tokens => "tokens",
        SessionKind::Cookie => "cookie",
    }
}

/// The members that carry tokens, each with its leading comma.
fn tokens(out: &mut Out, tokens: &Tokens) {
    out.raw(",\"access_token\":").string(&tokens.access_token);
    out.raw(",\"token_type\":").string(tokens.token_type);
    out.raw(",\"expires_in\":").integer(i64::try_from(tokens.expires_in).unwrap_or(i64::MAX));
    if let Some(token) = &tokens.refresh_token {
        out.raw(",\"refresh_token\":").string(token);
    }
    if let Some(token) = &tokens.session_token {
        out.raw(",\"session_token\":").string(token);
    }
    if let Some(scope) = &tokens.scope {
        out.raw(",\"scope\":").string(scope);
    }
}

/// The answer to a creation, a resume or a refresh: 201 when it was created, else 200. `secure`: the issuer of the
/// cookie that is to be cleared is https.
pub(crate) fn ensured(ensured: &Ensured, secure: bool) -> Response {
    guest(ensured, secure, None)
}

/// The answer to a recovery: the guest, and the code that takes the place of the used one.
pub(crate) fn recovered(ensured: &Ensured, recovery_code: Option<&str>) -> Response {
    guest(ensured, false, recovery_code)
}

fn guest(ensured: &Ensured, secure: bool, recovery_code: Option<&str>) -> Response {
    // 560: everything of fixed length, with room for the longest numbers
    let mut out = Out::with_capacity(560 + length(ensured));
    out.raw("{");
    guest_members(&mut out, ensured);
    if let Some(code) = recovery_code {
        out.raw(",\"recovery_code\":").string(code);
    }
    out.raw("}");
    let status = if ensured.created { StatusCode::CREATED } else { StatusCode::OK };
    with_cookie(out.answer(status), ensured, secure)
}

/// The members of the answer to a creation or a resume.
pub(crate) fn guest_members(out: &mut Out, ensured: &Ensured) {
    out.raw("\"created\":").boolean(ensured.created).raw(",");
    members(out, ensured);
}

/// User, session and, where there are some, tokens.
pub(crate) fn members(out: &mut Out, ensured: &Ensured) {
    out.raw("\"user\":");
    user(out, &ensured.user);
    out.raw(",\"session\":");
    session(out, &ensured.session);
    if let Some(t) = &ensured.tokens {
        tokens(out, t);
    }
}

/// Bytes of what is not of fixed length.
pub(crate) fn length(ensured: &Ensured) -> usize {
    let long = ensured.tokens.as_ref().map_or(0, |t| {
        let lengths = [t.refresh_token.as_ref(), t.session_token.as_ref()].into_iter().flatten().map(String::len);
        t.access_token.len() + lengths.sum::<usize>() + t.scope.as_ref().map_or(0, |s| s.len()) + 120
    });
    long + ensured.user.id.len() + ensured.user.data.len() + ensured.session.client_id.len()
}

/// Sets the session's cookie, or takes away a dead one. `secure`: the issuer of the cookie that is to be cleared is
/// https.
pub(crate) fn with_cookie(mut response: Response, ensured: &Ensured, secure: bool) -> Response {
    if let Some(cookie) = &ensured.cookie {
        cookies::set(response.headers_mut(), &cookie.value, cookie.max_age.as_secs(), cookie.secure);
    } else if ensured.clear_cookie {
        cookies::clear(response.headers_mut(), secure);
    }
    response
}
