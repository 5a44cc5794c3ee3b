//! `POST /v1/datasets/{name}/suspend`, `POST …/resume` and `DELETE /v1/datasets/{name}`: whether a dataset is served.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::rejection::{BytesRejection, PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use serde::Deserialize;
use utoipa::ToSchema;

use super::bearer::Bearer;
use super::body::{object, parameters};
use super::openapi::WriteProblems;
use super::problem::Problem;
use crate::gateway::{Gateway, Standing};

/// Why a dataset is suspended.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Suspension {
    /// In one line. Every caller whose query is refused reads it.
    #[serde(default)]
    reason: String,
}

/// Why a dataset is resumed or withdrawn.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Why {
    reason: Option<String>,
}

/// Suspend a dataset
///
/// From the next query on none is answered from it, those that were paid for before included. The body may be empty.
#[utoipa::path(
    post,
    path = "/v1/datasets/{name}/suspend",
    tag = "steward",
    params(("name" = String, Path, description = "`owner.name`", example = "united.flights")),
    request_body(content = Suspension, content_type = "application/json"),
    responses((status = 204, description = "It is suspended"), WriteProblems),
    security(("token" = [])),
)]
pub(super) async fn suspend(
    State(gateway): State<Arc<Gateway>>,
    Bearer(caller): Bearer,
    name: Result<Path<String>, PathRejection>,
    body: Result<Bytes, BytesRejection>,
) -> Result<StatusCode, Problem> {
    let Path(name) = name?;
    let Suspension { reason } = match body? {
        empty if empty.is_empty() => Suspension::default(),
        body => object(Ok(body), "`reason` (string), or nothing")?,
    };
    gateway.set_standing(&caller, &name, Standing::Suspend { reason }, None).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Resume a dataset
///
/// Queries are answered from it again.
#[utoipa::path(
    post,
    path = "/v1/datasets/{name}/resume",
    tag = "steward",
    params(
        ("name" = String, Path, description = "`owner.name`", example = "united.flights"),
        ("reason" = Option<String>, Query, description = "Why, in one line; kept in the log")
    ),
    responses((status = 204, description = "It is served"), WriteProblems),
    security(("token" = [])),
)]
pub(super) async fn resume(
    State(gateway): State<Arc<Gateway>>,
    Bearer(caller): Bearer,
    name: Result<Path<String>, PathRejection>,
    why: Result<Query<Why>, QueryRejection>,
) -> Result<StatusCode, Problem> {
    let Path(name) = name?;
    let Why { reason } = parameters(why, "`reason`")?;
    gateway.set_standing(&caller, &name, Standing::Resume, reason.as_deref()).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Withdraw a dataset
///
/// For good: no query is answered from it again, and its name and its place are not free. Its accounts, its queries and
/// its entries in the log stay, and its steward reads them as before.
#[utoipa::path(
    delete,
    path = "/v1/datasets/{name}",
    tag = "steward",
    params(
        ("name" = String, Path, description = "`owner.name`", example = "united.flights"),
        ("reason" = Option<String>, Query, description = "Why, in one line; kept in the log")
    ),
    responses((status = 204, description = "It is withdrawn"), WriteProblems),
    security(("token" = [])),
)]
pub(super) async fn withdraw(
    State(gateway): State<Arc<Gateway>>,
    Bearer(caller): Bearer,
    name: Result<Path<String>, PathRejection>,
    why: Result<Query<Why>, QueryRejection>,
) -> Result<StatusCode, Problem> {
    let Path(name) = name?;
    let Why { reason } = parameters(why, "`reason`")?;
    gateway.set_standing(&caller, &name, Standing::Withdraw, reason.as_deref()).await?;
    Ok(StatusCode::NO_CONTENT)
}
