//! Bearer tokens (RFC 6750): who is asking.

use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::http::header;
use axum::http::request::Parts;

use super::problem::Problem;
use crate::gateway::{Caller, Code, Gateway};

/// The caller that the request's token names. A handler that has one is only reached by callers that the gateway knows.
pub(super) struct Bearer(pub(super) Caller);

impl FromRequestParts<Arc<Gateway>> for Bearer {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, gateway: &Arc<Gateway>) -> Result<Self, Problem> {
        let secret = secret(parts)?;
        gateway.authenticate(secret).await.map(Self).map_err(|error| Problem::from(error).for_bad_token())
    }
}

/// The secret of the Authorization header.
fn secret(parts: &Parts) -> Result<&str, Problem> {
    let missing = |detail: &'static str| {
        Problem::new(Code::Unauthenticated, detail).with_hint(
            "send the header `Authorization: Bearer TOKEN`; an operator makes tokens with `tollgate token create`",
        )
    };
    let mut headers = parts.headers.get_all(header::AUTHORIZATION).iter();
    let header = headers.next().ok_or_else(|| missing("the request has no bearer token"))?;
    if headers.next().is_some() {
        return Err(missing("the request has more than one Authorization header"));
    }
    header
        .to_str()
        .ok()
        .and_then(|text| text.split_once(' '))
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
        .map(|(_, secret)| secret.trim())
        .filter(|secret| !secret.is_empty())
        .ok_or_else(|| missing("the Authorization header holds no bearer token"))
}
