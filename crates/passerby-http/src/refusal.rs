//! Why a request could not be read. Doors dress it: the native ones as a [`Problem`], the OAuth ones in their own form.

use std::borrow::Cow;

use axum::response::{IntoResponse, Response};
use http::StatusCode;

use crate::Problem;

/// Why a request could not be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// The body is longer than the limit (in bytes).
    BodyTooLarge(usize),
    /// The body took longer than the limit to arrive.
    RequestTimeout,
    /// The body broke off.
    BodyBroken,
    /// The body is of another media type than this one.
    UnsupportedMediaType(&'static str),
    /// Not JSON: what is wrong, and where.
    MalformedJson(String),
    /// A member of the request object stands there twice.
    DuplicateMember(String),
    /// A value has the wrong type.
    WrongType {
        /// JSON pointer; empty: the whole body.
        field: String,
        /// What was expected.
        detail: String,
    },
    /// A string holds U+0000, which stores cannot keep.
    NulCharacter(Option<String>),
    /// A parameter of a query or form stands there twice.
    DuplicateParameter(String),
    /// A parameter of a query or form is not UTF-8.
    MalformedParameter,
    /// A header stands there twice, or is not text.
    BadHeader(&'static str),
}

impl Refusal {
    /// The status of the native wire.
    pub fn status(&self) -> StatusCode {
        match self {
            Self::BodyTooLarge(_) => StatusCode::PAYLOAD_TOO_LARGE,
            Self::RequestTimeout => StatusCode::REQUEST_TIMEOUT,
            Self::UnsupportedMediaType(_) => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::NulCharacter(_) => StatusCode::UNPROCESSABLE_ENTITY,
            Self::BodyBroken
            | Self::MalformedJson(_)
            | Self::DuplicateMember(_)
            | Self::WrongType { .. }
            | Self::DuplicateParameter(_)
            | Self::MalformedParameter
            | Self::BadHeader(_) => StatusCode::BAD_REQUEST,
        }
    }

    /// The stable word of the native wire.
    pub fn code(&self) -> &'static str {
        match self {
            Self::BodyTooLarge(_) => "body_too_large",
            Self::RequestTimeout => "request_timeout",
            Self::UnsupportedMediaType(_) => "unsupported_media_type",
            Self::NulCharacter(_) => "nul_character",
            Self::MalformedJson(_) => "malformed_json",
            Self::DuplicateMember(_) => "duplicate_member",
            Self::WrongType { .. } => "invalid_value",
            Self::BodyBroken | Self::DuplicateParameter(_) | Self::MalformedParameter | Self::BadHeader(_) => {
                "invalid_request"
            }
        }
    }

    /// JSON pointer or name of the culprit.
    pub fn field(&self) -> Option<Cow<'_, str>> {
        match self {
            Self::WrongType { field, .. } | Self::NulCharacter(Some(field)) => {
                (!field.is_empty()).then_some(Cow::Borrowed(field))
            }
            Self::DuplicateMember(name) => Some(Cow::Owned(format!("/{}", crate::json::escape(name)))),
            Self::DuplicateParameter(name) => Some(Cow::Borrowed(name)),
            Self::BadHeader(name) => Some(Cow::Borrowed(name)),
            _ => None,
        }
    }

    /// A sentence for a developer.
    pub fn detail(&self) -> Cow<'static, str> {
        match self {
            Self::BodyTooLarge(limit) => format!("The body may have at most {limit} bytes.").into(),
            Self::RequestTimeout => "The body did not arrive in time.".into(),
            Self::BodyBroken => "The body broke off.".into(),
            Self::UnsupportedMediaType(expected) => format!("The body must be {expected}, in UTF-8.").into(),
            Self::MalformedJson(why) => format!("The body is not valid JSON: {why}.").into(),
            Self::DuplicateMember(_) => "A member of an object may stand there once only.".into(),
            Self::WrongType { detail, .. } => format!("A value has the wrong type: {detail}.").into(),
            Self::NulCharacter(_) => "A string may not hold the character U+0000.".into(),
            Self::DuplicateParameter(_) => "A parameter may stand there once only.".into(),
            Self::MalformedParameter => "A parameter is not UTF-8.".into(),
            Self::BadHeader(_) => "A header stands there twice, or is not text.".into(),
        }
    }
}

impl From<Refusal> for Problem {
    fn from(r: Refusal) -> Self {
        let problem = Self::new(r.status(), r.code(), r.detail());
        match r.field() {
            Some(field) => problem.at(field.into_owned()),
            None => problem,
        }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        Problem::from(self).into_response()
    }
}
