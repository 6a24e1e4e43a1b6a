//! The token exchange (RFC 8693): an account's token and a guest's, both of the asking client, merge the guest. Which of the
//! two is subject and which actor makes no difference, since tokens say whose they are.

use axum::response::Response;
use http::StatusCode;
use passerby_core::{
    Error,
    merge::{MergedInto, TokenMerge, TokenText},
};

use crate::{
    OAuthError,
    grants::Asked,
    token::{members, refused, tokens_of},
};

/// The grant (RFC 8693 section 2.1).
pub(crate) const TOKEN_EXCHANGE: &str = "urn:ietf:params:oauth:grant-type:token-exchange";
/// RFC 8693 section 3.
pub(crate) const ACCESS_TOKEN: &str = "urn:ietf:params:oauth:token-type:access_token";
/// The same: our access tokens are JWTs.
pub(crate) const JWT: &str = "urn:ietf:params:oauth:token-type:jwt";
/// Ours.
const SESSION_TOKEN: &str = "urn:passerby:params:oauth:token-type:session-token";

/// [`TOKEN_EXCHANGE`].
pub(crate) async fn exchange(asked: &Asked<'_>) -> Result<Response, OAuthError> {
    let given = asked.request.tokens;
    let subject = token("subject_token", given.subject, given.subject_type)?;
    let actor = token("actor_token", given.actor, given.actor_type)?;
    if given.requested_type.is_some_and(|kind| kind != ACCESS_TOKEN) {
        return Err(OAuthError::invalid_request(format!("requested_token_type is {ACCESS_TOKEN} here.")));
    }
    let request = TokenMerge {
        client: asked.client,
        subject,
        actor,
        audience: asked.request.audience,
        scope: asked.request.scope,
    };
    let merged = asked.app.core().merge_tokens(asked.caller, request).await.map_err(unacceptable)?;
    let MergedInto { receipt, transfer, ensured } = merged;
    let tokens = tokens_of(ensured)?;
    let mut out = members(&tokens, 512 + receipt.len());
    out.raw(",\"issued_token_type\":").string(ACCESS_TOKEN);
    out.raw(",\"receipt\":").string(&receipt);
    out.raw(",\"transfer\":{\"id\":").string(&transfer.id);
    out.raw(",\"state\":\"").raw(transfer.state.as_str());
    out.raw("\",\"guest_id\":").string(&transfer.guest_id);
    out.raw(",\"account_id\":").string(&transfer.account_id);
    out.raw(",\"created_at\":").time(transfer.created_at);
    out.raw(",\"undo_until\":").time_or_null(transfer.undo_until);
    out.raw("}}");
    Ok(out.answer(StatusCode::OK))
}

/// RFC 8693 section 2.2.2 has one word for tokens that are invalid or unacceptable, whatever is wrong with them.
fn unacceptable(e: Error) -> OAuthError {
    let refused = refused(e);
    if refused.error == "invalid_grant" { OAuthError { error: "invalid_request", ..refused } } else { refused }
}

/// A token of the request with what it is said to be.
fn token<'a>(name: &str, text: Option<&'a str>, kind: Option<&str>) -> Result<TokenText<'a>, OAuthError> {
    let refuse = |detail: &str| Err(OAuthError::invalid_request(format!("{name}{detail}")));
    match (text, kind) {
        (None, _) => refuse(" is missing: a guest's token and an account's are exchanged for one."),
        (Some(_), None) => refuse("_type is missing."),
        (Some(text), Some(ACCESS_TOKEN | JWT)) => Ok(TokenText::Access(text)),
        (Some(text), Some(SESSION_TOKEN)) => Ok(TokenText::Session(text)),
        (Some(_), Some(_)) => refuse("_type is that of an access token, or of a session token of this server."),
    }
}
