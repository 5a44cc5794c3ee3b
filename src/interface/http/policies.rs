//! `POST /v1/datasets`, `PUT /v1/datasets/{name}` and `GET /v1/datasets/{name}/versions`: policies, in a steward's hands.

use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::rejection::{BytesRejection, PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::bearer::Bearer;
use super::body::parameters;
use super::openapi::{NamedProblems, PolicyProblems};
use super::problem::Problem;
use crate::gateway::{Code, Gateway, PolicyInForce, PolicyVersionRow, Submission};

/// Why a policy is sent. In the address, since a header cannot hold every language.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Why {
    reason: Option<String>,
}

/// The versions of a policy.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct VersionList {
    /// The newest, which is in force, first.
    versions: Vec<PolicyVersionRow>,
}

/// Register a dataset
///
/// The body is a policy: TOML as in a policy file, or JSON of the same shape. It is held against the files' schemas, and
/// the dataset is visible at once. Its owner is the token's; its data lies in a folder that the operator has named for
/// that owner (`[policies.locations]`).
#[utoipa::path(
    post,
    path = "/v1/datasets",
    tag = "steward",
    params(("reason" = Option<String>, Query, description = "Why, in one line; kept with the version and in the log")),
    request_body(content(
        (String = "application/toml"),
        (String = "text/plain"),
        (serde_json::Value = "application/json")
    )),
    responses((status = 201, description = "It is served", body = PolicyInForce), PolicyProblems),
    security(("token" = [])),
)]
pub(super) async fn register(
    State(gateway): State<Arc<Gateway>>,
    Bearer(caller): Bearer,
    why: Result<Query<Why>, QueryRejection>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Problem> {
    let Why { reason } = parameters(why, "`reason`")?;
    let body = body?;
    let made = gateway.register(&caller, submission(&headers, &body)?, reason.as_deref()).await?;
    let location = format!("/v1/datasets/{}", made.dataset);
    Ok((StatusCode::CREATED, [(header::LOCATION, location)], Json(made)).into_response())
}

/// Change a policy
///
/// The body is the whole new policy. It holds for every query that begins after this. The version before is kept, with
/// what was changed; what loosens comes first in `changes`.
#[utoipa::path(
    put,
    path = "/v1/datasets/{name}",
    tag = "steward",
    params(
        ("name" = String, Path, description = "`owner.name`", example = "united.flights"),
        ("reason" = Option<String>, Query, description = "Why, in one line; kept with the version and in the log")
    ),
    request_body(content(
        (String = "application/toml"),
        (String = "text/plain"),
        (serde_json::Value = "application/json")
    )),
    responses((status = 200, description = "It is in force", body = PolicyInForce), PolicyProblems),
    security(("token" = [])),
)]
pub(super) async fn change(
    State(gateway): State<Arc<Gateway>>,
    Bearer(caller): Bearer,
    name: Result<Path<String>, PathRejection>,
    why: Result<Query<Why>, QueryRejection>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<PolicyInForce>, Problem> {
    let Path(name) = name?;
    let Why { reason } = parameters(why, "`reason`")?;
    let body = body?;
    Ok(Json(gateway.change_policy(&caller, &name, submission(&headers, &body)?, reason.as_deref()).await?))
}

/// List a policy's versions
///
/// For the dataset's steward and for auditors.
#[utoipa::path(
    get,
    path = "/v1/datasets/{name}/versions",
    tag = "steward",
    params(("name" = String, Path, description = "`owner.name`", example = "united.flights")),
    responses((status = 200, description = "The versions, the newest first", body = VersionList), NamedProblems),
    security(("token" = [])),
)]
pub(super) async fn versions(
    State(gateway): State<Arc<Gateway>>,
    Bearer(caller): Bearer,
    name: Result<Path<String>, PathRejection>,
) -> Result<Json<VersionList>, Problem> {
    let Path(name) = name?;
    Ok(Json(VersionList { versions: gateway.policy_versions(&caller, &name).await? }))
}

/// The policy in a body, of the kind that the Content-Type header says.
pub(super) fn submission<'b>(headers: &HeaderMap, body: &'b [u8]) -> Result<Submission<'b>, Problem> {
    let text =
        std::str::from_utf8(body).map_err(|_| Problem::new(Code::RequestInvalid, "the body is not text in UTF-8"))?;
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    match kind.as_str() {
        "application/toml" | "text/plain" => Ok(Submission::Toml(text)),
        "application/json" => Ok(Submission::Json(text)),
        _ => Err(Problem::new(
            Code::RequestInvalid,
            "the Content-Type header does not say in which form the policy is",
        )
        .with_status(StatusCode::UNSUPPORTED_MEDIA_TYPE)
        .with_hint(
            "send `Content-Type: application/toml` (or text/plain) with a policy file's text, or application/json",
        )),
    }
}
