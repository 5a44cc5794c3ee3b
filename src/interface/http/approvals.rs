//! `GET /v1/approvals` and `POST /v1/approvals/{id}/{name}`: queries that wait for a steward's yes.

use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::rejection::{BytesRejection, PathRejection};
use axum::extract::{Path, State};
use serde::Serialize;
use utoipa::ToSchema;

use super::bearer::Bearer;
use super::body::{Verdict, identifier, object};
use super::openapi::{ReadProblems, WriteProblems};
use super::problem::Problem;
use crate::gateway::{ApprovalRow, Gateway};

/// Queries that wait, or were decided.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ApprovalList {
    /// The newest first.
    approvals: Vec<ApprovalRow>,
}

/// List the queries that wait for approval
///
/// Those on the caller's own datasets, each with its dry run, and those that were decided.
#[utoipa::path(
    get,
    path = "/v1/approvals",
    tag = "steward",
    responses((status = 200, description = "The queries, the newest first", body = ApprovalList), ReadProblems),
    security(("token" = [])),
)]
pub(super) async fn list(
    State(gateway): State<Arc<Gateway>>,
    Bearer(caller): Bearer,
) -> Result<Json<ApprovalList>, Problem> {
    Ok(Json(ApprovalList { approvals: gateway.approvals(&caller).await? }))
}

/// Approve or deny a query
///
/// On one of its datasets. A query that reads several owners' datasets is answered once all of their stewards have said
/// yes; one no gives back what was reserved for it.
#[utoipa::path(
    post,
    path = "/v1/approvals/{id}/{name}",
    tag = "steward",
    params(
        ("id" = uuid::Uuid, Path, description = "The approval"),
        ("name" = String, Path, description = "The dataset that the decision is about", example = "united.flights")
    ),
    request_body(content = Verdict, content_type = "application/json"),
    responses((status = 200, description = "It is decided", body = ApprovalRow), WriteProblems),
    security(("token" = [])),
)]
pub(super) async fn decide(
    State(gateway): State<Arc<Gateway>>,
    Bearer(caller): Bearer,
    path: Result<Path<(String, String)>, PathRejection>,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<ApprovalRow>, Problem> {
    let Path((id, name)) = path?;
    let id = identifier(&id, "approval")?;
    let Verdict { approve, answer } = object(body, "`approve` (boolean) and, as you like, `answer` (string)")?;
    Ok(Json(gateway.decide_approval(&caller, id, &name, approve, answer.as_deref()).await?))
}
