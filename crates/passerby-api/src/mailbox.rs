//! `GET /dev/mailbox/messages`: the built-in mailbox of development, for its page and for tests. No part of the
//! description: a server that people use does not have it.

use axum::{
    Router,
    extract::{Request, State},
    response::Response,
    routing::get,
};
use http::StatusCode;
use passerby_core::{Code, Error, model::Target, outbox::MailboxMessage};
use passerby_http::{App, Problem, Visit, answer::Out, form};

/// So many messages unless asked otherwise.
const USUAL: u32 = 100;
/// So many at most.
const MOST: u32 = 500;

/// The mailbox's messages, for development only.
pub fn mailbox() -> Router<App> {
    Router::new().route("/dev/mailbox/messages", get(messages))
}

/// Newest first, as a plain array: those to `to` alone, where it is given. Of the tenant whose address was asked; of all
/// where that is none's.
async fn messages(State(app): State<App>, visit: Visit, request: Request) -> Result<Response, Problem> {
    let params = form::parse(request.uri().query().unwrap_or_default().as_bytes())?;
    let limit =
        match params.get("limit") {
            None => USUAL,
            Some(text) => text.parse().ok().filter(|n| (1..=MOST).contains(n)).ok_or_else(|| {
                Error::at(Code::InvalidValue, "limit", format!("Expected a number from 1 to {MOST}."))
            })?,
        };
    // a plus that was not encoded is a space by then, and no address begins with one
    let to = params.get("to").map(|to| match to.strip_prefix(' ') {
        Some(number) => format!("+{number}"),
        None => to.to_owned(),
    });
    let list = app.core().mailbox(visit.tenant, to.as_deref(), limit).await?;
    let mut out = Out::with_capacity(4 + 4096 * list.len());
    out.raw("[");
    for (n, one) in list.iter().enumerate() {
        if n > 0 {
            out.raw(",");
        }
        message(&mut out, one);
    }
    out.raw("]");
    Ok(out.answer(StatusCode::OK))
}

fn message(out: &mut Out, one: &MailboxMessage) {
    let list = |out: &mut Out, text: Option<&str>| {
        out.raw("[");
        if let Some(text) = text {
            out.string(text);
        }
        out.raw("]");
    };
    out.raw("{\"id\":").plain(&one.id);
    out.raw(",\"to\":").string(&one.to);
    out.raw(",\"channel\":").string(if one.target == Target::Sms { "sms" } else { "email" });
    out.raw(",\"subject\":").string(&one.wording.subject);
    out.raw(",\"text\":").string(&one.wording.text);
    out.raw(",\"html\":").string_or_null(one.wording.html.as_deref());
    out.raw(",\"links\":");
    list(out, one.link.as_deref());
    out.raw(",\"codes\":");
    list(out, one.code.as_deref());
    out.raw(",\"at\":").time(one.at).raw("}");
}
