//! `PUT /v1/budgets/{consumer}/{dataset}`.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::rejection::{BytesRejection, PathRejection};
use axum::extract::{Path, State};
use axum::http::StatusCode;

use super::bearer::Bearer;
use super::body::object;
use super::openapi::WriteProblems;
use super::problem::Problem;
use crate::gateway::{Gateway, GrantForm};

/// Grant a budget
///
/// To one consumer, on one dataset, within its owner's cap; or on every dataset of a unit domain together
/// (`domain:NAME`). A grant takes the place of the one before.
#[utoipa::path(
    put,
    path = "/v1/budgets/{consumer}/{dataset}",
    tag = "administrator",
    params(
        ("consumer" = String, Path, description = "The consumer's name", example = "road-office"),
        ("dataset" = String, Path, description = "`owner.name`, or `domain:NAME`", example = "united.flights")
    ),
    request_body(content = GrantForm, content_type = "application/json"),
    responses((status = 204, description = "It is granted"), WriteProblems),
    security(("token" = [])),
)]
pub(super) async fn set(
    State(gateway): State<Arc<Gateway>>,
    Bearer(caller): Bearer,
    path: Result<Path<(String, String)>, PathRejection>,
    body: Result<Bytes, BytesRejection>,
) -> Result<StatusCode, Problem> {
    let Path((consumer, dataset)) = path?;
    let form: GrantForm = object(
        body,
        "`epsilon` (number), `delta` (number) and `per` (\"month\", \"quarter\", \"year\" or \"lifetime\")",
    )?;
    gateway.set_budget(&caller, &consumer, &dataset, form).await?;
    Ok(StatusCode::NO_CONTENT)
}
