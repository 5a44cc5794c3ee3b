//! `/v1/consumers`: who may ask, in a budget administrator's hands.

use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::rejection::{BytesRejection, PathRejection};
use axum::extract::{Path, State};
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::bearer::Bearer;
use super::body::object;
use super::budget::BudgetDocument;
use super::openapi::{NamedProblems, ReadProblems, WriteProblems};
use super::problem::Problem;
use crate::gateway::{ConsumerRow, Gateway};

/// The consumers.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ConsumerList {
    /// By name.
    consumers: Vec<ConsumerRow>,
}

/// A consumer that is to be added.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewConsumer {
    /// Its name: letters, digits and `._@-`.
    #[schema(example = "road-office")]
    name: String,
    /// The agency that it belongs to. What an agency's consumers spend together may be capped by an owner.
    #[serde(default)]
    #[schema(example = "transport")]
    agency: Option<String>,
}

/// List the consumers
///
/// All of them, by name.
#[utoipa::path(
    get,
    path = "/v1/consumers",
    tag = "administrator",
    responses((status = 200, description = "The consumers", body = ConsumerList), ReadProblems),
    security(("token" = [])),
)]
pub(super) async fn list(
    State(gateway): State<Arc<Gateway>>,
    Bearer(caller): Bearer,
) -> Result<Json<ConsumerList>, Problem> {
    Ok(Json(ConsumerList { consumers: gateway.consumers(&caller).await? }))
}

/// Add a consumer
///
/// It asks nothing until it has a token.
#[utoipa::path(
    post,
    path = "/v1/consumers",
    tag = "administrator",
    request_body(content = NewConsumer, content_type = "application/json"),
    responses((status = 201, description = "It is added", body = NewConsumer), WriteProblems),
    security(("token" = [])),
)]
pub(super) async fn add(
    State(gateway): State<Arc<Gateway>>,
    Bearer(caller): Bearer,
    body: Result<Bytes, BytesRejection>,
) -> Result<(StatusCode, Json<NewConsumer>), Problem> {
    let new: NewConsumer = object(body, "`name` (string) and, as you need it, `agency` (string)")?;
    gateway.add_consumer(&caller, &new.name, new.agency.as_deref()).await?;
    Ok((StatusCode::CREATED, Json(new)))
}

/// Freeze a consumer
///
/// From the next query on it neither pays nor is answered.
#[utoipa::path(
    post,
    path = "/v1/consumers/{id}/freeze",
    tag = "administrator",
    params(("id" = String, Path, description = "The consumer's name", example = "road-office")),
    responses((status = 204, description = "It is frozen"), WriteProblems),
    security(("token" = [])),
)]
pub(super) async fn freeze(
    State(gateway): State<Arc<Gateway>>,
    Bearer(caller): Bearer,
    name: Result<Path<String>, PathRejection>,
) -> Result<StatusCode, Problem> {
    let Path(name) = name?;
    gateway.set_frozen(&caller, &name, true).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Thaw a consumer
///
/// It may ask again.
#[utoipa::path(
    post,
    path = "/v1/consumers/{id}/unfreeze",
    tag = "administrator",
    params(("id" = String, Path, description = "The consumer's name", example = "road-office")),
    responses((status = 204, description = "It may ask again"), WriteProblems),
    security(("token" = [])),
)]
pub(super) async fn unfreeze(
    State(gateway): State<Arc<Gateway>>,
    Bearer(caller): Bearer,
    name: Result<Path<String>, PathRejection>,
) -> Result<StatusCode, Problem> {
    let Path(name) = name?;
    gateway.set_frozen(&caller, &name, false).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Show a consumer's budget
///
/// What it may spend on each dataset in the present window, and what is spent.
#[utoipa::path(
    get,
    path = "/v1/consumers/{id}/budget",
    tag = "administrator",
    params(("id" = String, Path, description = "The consumer's name", example = "road-office")),
    responses((status = 200, description = "Its accounts", body = BudgetDocument), NamedProblems),
    security(("token" = [])),
)]
pub(super) async fn budget(
    State(gateway): State<Arc<Gateway>>,
    Bearer(caller): Bearer,
    name: Result<Path<String>, PathRejection>,
) -> Result<Json<BudgetDocument>, Problem> {
    let Path(name) = name?;
    Ok(Json(BudgetDocument { budget: gateway.budget_of(&caller, &name).await? }))
}
