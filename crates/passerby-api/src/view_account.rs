//! How accounts look on the native wire: identifiers and claims, sign-ins, merges.

use axum::response::Response;
use passerby_core::{
    account::{AccountView, ClaimView, IdentifierView},
    guest::Ensured,
    merge::{Offer, Preview},
};
use passerby_http::answer::Out;

use crate::view;

/// A list of whatever.
pub(crate) fn list<T>(out: &mut Out, items: &[T], mut put: impl FnMut(&mut Out, &T)) {
    out.raw("[");
    for (n, item) in items.iter().enumerate() {
        if n > 0 {
            out.raw(",");
        }
        put(out, item);
    }
    out.raw("]");
}

/// The members that only a regular user has, each with its leading comma.
pub(crate) fn account(out: &mut Out, account: &AccountView) {
    out.raw(",\"identifiers\":");
    list(out, &account.identifiers, identifier);
    out.raw(",\"converted_at\":").time_or_null(account.converted_at);
}

/// The identifier object.
pub(crate) fn identifier(out: &mut Out, identifier: &IdentifierView) {
    out.raw("{\"id\":").string(&identifier.id);
    out.raw(",\"kind\":\"").raw(identifier.kind.as_str());
    out.raw("\",\"value\":").string(&identifier.value);
    out.raw(",\"verified_at\":").time(identifier.verified_at).raw("}");
}

/// A claim as its user sees it in the list.
pub(crate) fn open_claim(out: &mut Out, claim: &ClaimView) {
    claim_members(out, claim);
    out.raw(",\"created_at\":").time(claim.created_at);
    out.raw(",\"proven\":").boolean(claim.proven).raw("}");
}

fn claim_members(out: &mut Out, claim: &ClaimView) {
    out.raw("{\"id\":").string(&claim.id);
    out.raw(",\"kind\":\"").raw(claim.kind.as_str());
    out.raw("\",\"value\":").string(&claim.value);
    out.raw(",\"expires_at\":").time(claim.expires_at);
    out.raw(",\"check\":").string(&claim.check);
}

/// The answer to a first step: 202 with the claim.
pub(crate) fn claim(claim: &ClaimView) -> Response {
    let mut out = Out::with_capacity(192 + claim.value.len());
    out.raw("{\"claim\":");
    claim_members(&mut out, claim);
    out.raw("}}");
    out.answer(http::StatusCode::ACCEPTED)
}

/// Bytes that a preview takes, nearly.
pub(crate) fn length(preview: &Preview) -> usize {
    let conflicts: usize = preview.conflicts.iter().map(|c| 48 + c.path.len() + c.guest.len() + c.account.len()).sum();
    256 + preview.guest_data.len() + preview.account_data.len() + preview.data.len() + conflicts
}

/// What a merge would come to. Values are JSON of the core's already: numbers stand as they were written.
pub(crate) fn preview(out: &mut Out, preview: &Preview) {
    out.raw("{\"guest\":{\"id\":").string(&preview.guest_id);
    out.raw(",\"data\":").raw(&preview.guest_data);
    out.raw("},\"account\":{\"id\":").string(&preview.account_id);
    out.raw(",\"data\":").raw(&preview.account_data);
    out.raw("},\"data\":").raw(&preview.data);
    out.raw(",\"conflicts\":");
    list(out, &preview.conflicts, |out, conflict| {
        out.raw("{\"path\":").string(&conflict.path);
        out.raw(",\"guest\":").raw(&conflict.guest);
        out.raw(",\"account\":").raw(&conflict.account);
        out.raw(",\"kept\":\"").raw(conflict.kept.as_str()).raw("\"}");
    });
    out.raw(",\"more\":").boolean(preview.more);
    out.raw(",\"policy\":").string(&preview.policy).raw("}");
}

/// Ticket and preview, each with its leading comma; `expires_in` under the name that the answer has for it.
pub(crate) fn offer(out: &mut Out, offer: &Offer, expires_in: &str) {
    out.raw(",\"merge_ticket\":").string(&offer.ticket);
    out.raw(",\"preview\":");
    preview(out, &offer.preview);
    out.raw(",\"").raw(expires_in).raw("\":");
    out.integer(i64::try_from(offer.expires_in).unwrap_or(i64::MAX));
}

/// An answer with user, session and tokens; `secure`: the issuer of the cookie that is to be
/// cleared is https. `before` writes the object's first members, `after` its last.
pub(crate) fn signed_in(
    ensured: &Ensured,
    secure: bool,
    before: impl FnOnce(&mut Out),
    after: impl FnOnce(&mut Out),
) -> Response {
    let mut out = Out::with_capacity(1024 + view::length(ensured));
    out.raw("{");
    before(&mut out);
    view::members(&mut out, ensured);
    after(&mut out);
    out.raw("}");
    view::with_cookie(out.answer(http::StatusCode::OK), ensured, secure)
}
