//! `/v1/budget/requests`: what consumers ask of the budget administrator.

use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::rejection::{BytesRejection, PathRejection};
use axum::extract::{Path, State};
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use super::bearer::Bearer;
use super::body::{Verdict, identifier, object};
use super::openapi::{ReadProblems, WriteProblems};
use super::problem::Problem;
use crate::gateway::{BudgetRequestRow, Gateway, GrantForm, PeriodForm};

/// A larger budget that is asked for.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewRequest {
    /// `owner.name`, or `domain:NAME`.
    #[schema(example = "united.flights")]
    dataset: String,
    /// ε of each window.
    #[schema(example = 2.0)]
    epsilon: f64,
    /// δ of each window.
    #[schema(example = 1e-6)]
    delta: f64,
    /// The window's length.
    per: PeriodForm,
    /// Why, in one line.
    reason: String,
}

/// A request that was made.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Made {
    /// What it is decided by.
    id: Uuid,
}

/// Requests for larger budgets.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct RequestList {
    /// The newest first.
    requests: Vec<BudgetRequestRow>,
}

/// List the requests for larger budgets
///
/// All of them for a budget administrator, a consumer's own for its analyst.
#[utoipa::path(
    get,
    path = "/v1/budget/requests",
    tag = "administrator",
    responses((status = 200, description = "The requests, the newest first", body = RequestList), ReadProblems),
    security(("token" = [])),
)]
pub(super) async fn list(
    State(gateway): State<Arc<Gateway>>,
    Bearer(caller): Bearer,
) -> Result<Json<RequestList>, Problem> {
    Ok(Json(RequestList { requests: gateway.budget_requests(&caller).await? }))
}

/// Ask for a larger budget
///
/// Within the owner's cap. A budget administrator decides.
#[utoipa::path(
    post,
    path = "/v1/budget/requests",
    tag = "analyst",
    request_body(content = NewRequest, content_type = "application/json"),
    responses((status = 201, description = "It is asked", body = Made), WriteProblems),
    security(("token" = [])),
)]
pub(super) async fn ask(
    State(gateway): State<Arc<Gateway>>,
    Bearer(caller): Bearer,
    body: Result<Bytes, BytesRejection>,
) -> Result<(StatusCode, Json<Made>), Problem> {
    let NewRequest { dataset, epsilon, delta, per, reason } = object(
        body,
        "`dataset` (string), `epsilon` (number), `delta` (number), `per` (\"month\", \"quarter\", \"year\" or \"lifetime\") \
         and `reason` (string)",
    )?;
    let id = gateway.request_budget(&caller, &dataset, GrantForm { epsilon, delta, per }, &reason).await?;
    Ok((StatusCode::CREATED, Json(Made { id })))
}

/// Approve or deny a request
///
/// A yes grants what was asked, if the owner still allows it.
#[utoipa::path(
    post,
    path = "/v1/budget/requests/{id}",
    tag = "administrator",
    params(("id" = uuid::Uuid, Path, description = "The request")),
    request_body(content = Verdict, content_type = "application/json"),
    responses((status = 200, description = "It is decided", body = BudgetRequestRow), WriteProblems),
    security(("token" = [])),
)]
pub(super) async fn decide(
    State(gateway): State<Arc<Gateway>>,
    Bearer(caller): Bearer,
    id: Result<Path<String>, PathRejection>,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<BudgetRequestRow>, Problem> {
    let Path(id) = id?;
    let id = identifier(&id, "request")?;
    let Verdict { approve, answer } = object(body, "`approve` (boolean) and, as you like, `answer` (string)")?;
    Ok(Json(gateway.decide_budget_request(&caller, id, approve, answer.as_deref()).await?))
}
