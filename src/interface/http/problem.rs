//! Errors as RFC 9457 problem documents.

use axum::extract::rejection::{BytesRejection, PathRejection, QueryRejection};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

use crate::gateway::{Code, GatewayError};

/// The media type of every error.
pub(super) const MEDIA_TYPE: &str = "application/problem+json";
/// How long a caller is asked to wait, in seconds, when the gateway has no room for its request.
const RETRY_AFTER_SECONDS: &str = "1";

/// An error as a caller reads it. It never holds a data value.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Problem {
    /// `urn:tollgate:error:` and the code.
    #[serde(rename = "type")]
    #[schema(example = "urn:tollgate:error:budget_exceeded")]
    urn: String,
    /// What the code means, in a few words.
    title: &'static str,
    /// The HTTP status, once more.
    #[schema(example = 402)]
    status: u16,
    /// The stable code.
    code: Code,
    /// What happened and where.
    detail: String,
    /// What to do next.
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<String>,
    /// The challenge of a 401, for its header.
    #[serde(skip)]
    #[schema(ignore)]
    challenge: Option<&'static str>,
}

impl Problem {
    /// A problem with the status of its code.
    #[must_use]
    pub fn new(code: Code, detail: impl Into<String>) -> Self {
        Self {
            urn: format!("urn:tollgate:error:{}", code.as_str()),
            title: title(code),
            status: code.http_status(),
            code,
            detail: detail.into(),
            hint: None,
            challenge: (code == Code::Unauthenticated).then_some(r#"Bearer realm="tollgate""#),
        }
    }

    /// The same with what to do next.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The same under a status that HTTP has a better name for than our codes do.
    #[must_use]
    pub(super) const fn with_status(mut self, status: StatusCode) -> Self {
        self.status = status.as_u16();
        self
    }

    /// The same for a token that was presented and is not good.
    #[must_use]
    pub(super) fn for_bad_token(mut self) -> Self {
        if self.code == Code::Unauthenticated {
            self.challenge = Some(r#"Bearer realm="tollgate", error="invalid_token""#);
        }
        self
    }

    /// A fault of the gateway, of which a caller learns that it happened and no more.
    #[must_use]
    pub(super) fn internal() -> Self {
        Self::new(Code::Internal, "the gateway failed to handle this request")
            .with_hint("try again; if it keeps failing, tell the operator the time at which it did")
    }

    pub(super) fn no_such_route() -> Self {
        Self::new(Code::NotFound, "no such path").with_hint("GET /openapi.json lists all that there is")
    }

    pub(super) fn wrong_method() -> Self {
        Self::new(Code::RequestInvalid, "this path does not take that method")
            .with_status(StatusCode::METHOD_NOT_ALLOWED)
            .with_hint("the Allow header says which it takes; GET /openapi.json describes them")
    }
}

/// What a code means, in a few words: the same for each occurrence, as RFC 9457 asks.
const fn title(code: Code) -> &'static str {
    match code {
        Code::SqlInvalid => "The SQL cannot be read",
        Code::RequestInvalid => "The request is not valid",
        Code::Unauthenticated => "No valid token",
        Code::NotAllowed => "Not allowed",
        Code::PurposeNotAllowed => "Not allowed for this purpose",
        Code::DatasetSuspended => "The dataset is suspended",
        Code::BudgetExceeded => "The privacy budget does not suffice",
        Code::NotFound => "Not found",
        Code::IdempotencyConflict => "The idempotency key belongs to another request",
        Code::TooLarge => "Too large",
        Code::QueryNotPrivate => "The query has no private answer as it is written",
        Code::PolicyInvalid => "The policy cannot be served",
        Code::Conflict => "In conflict with what is there",
        Code::ApprovalPending => "Waiting for approval",
        Code::LedgerFrozen => "The ledger is not the newest",
        Code::RateLimited => "Too many requests",
        Code::Overloaded => "No room at present",
        Code::TimedOut => "Timed out",
        Code::SourceUnavailable => "A source cannot be read",
        Code::Internal => "Internal error",
    }
}

impl From<GatewayError> for Problem {
    fn from(error: GatewayError) -> Self {
        let mut problem = Self::new(error.code, error.detail);
        problem.hint = error.hint;
        problem
    }
}

impl From<BytesRejection> for Problem {
    /// The rejection's own text is not passed on: all that a caller can act on is whether the body was too long.
    fn from(rejection: BytesRejection) -> Self {
        if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE {
            Self::new(Code::TooLarge, "the body of the request is longer than this gateway accepts")
                .with_hint("shorten the SQL; long lists of values belong in a public table")
        } else {
            Self::new(Code::RequestInvalid, "the body of the request did not arrive whole")
        }
    }
}

impl From<PathRejection> for Problem {
    fn from(_: PathRejection) -> Self {
        Self::new(Code::RequestInvalid, "the path is not valid percent-encoded UTF-8")
    }
}

impl From<QueryRejection> for Problem {
    /// The rejection's own text is not passed on: it may quote what was sent.
    fn from(_: QueryRejection) -> Self {
        Self::new(Code::RequestInvalid, "a parameter behind the path is not known, or is not of its type")
            .with_hint("GET /openapi.json lists the parameters of each path")
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        // A problem is made of strings and numbers, which always have a JSON form.
        let body = serde_json::to_vec(&self).unwrap_or_default();
        let mut response =
            (status, [(header::CONTENT_TYPE, HeaderValue::from_static(MEDIA_TYPE))], body).into_response();
        if let Some(challenge) = self.challenge {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
        }
        if matches!(self.code, Code::RateLimited | Code::Overloaded) {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static(RETRY_AFTER_SECONDS));
        }
        response
    }
}
