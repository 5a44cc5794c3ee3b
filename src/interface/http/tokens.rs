//! `POST /v1/consumers/{id}/tokens` and `DELETE /v1/tokens/{id}`.

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use serde::Serialize;
use utoipa::ToSchema;

use super::bearer::Bearer;
use super::openapi::WriteProblems;
use super::problem::Problem;
use crate::gateway::Gateway;

/// A new token.
#[derive(Serialize, ToSchema)]
pub(super) struct Issued {
    /// What it is revoked by.
    id: String,
    /// What its holder sends. It is told this once.
    secret: String,
}

/// Make an analyst's token
///
/// For one consumer. Tokens of other roles are made by the operator, on the storage.
#[utoipa::path(
    post,
    path = "/v1/consumers/{id}/tokens",
    tag = "administrator",
    params(("id" = String, Path, description = "The consumer's name", example = "road-office")),
    responses((status = 201, description = "The token, this once", body = Issued), WriteProblems),
    security(("token" = [])),
)]
pub(super) async fn create(
    State(gateway): State<Arc<Gateway>>,
    Bearer(caller): Bearer,
    consumer: Result<Path<String>, PathRejection>,
) -> Result<(StatusCode, Json<Issued>), Problem> {
    let Path(consumer) = consumer?;
    let token = gateway.create_analyst_token(&caller, &consumer).await?;
    Ok((StatusCode::CREATED, Json(Issued { id: token.id, secret: token.secret })))
}

/// Revoke an analyst's token
///
/// From the next request on. Tokens of other roles are the operator's to revoke.
#[utoipa::path(
    delete,
    path = "/v1/tokens/{id}",
    tag = "administrator",
    params(("id" = String, Path, description = "What the token was called when it was made")),
    responses((status = 204, description = "It is revoked"), WriteProblems),
    security(("token" = [])),
)]
pub(super) async fn revoke(
    State(gateway): State<Arc<Gateway>>,
    Bearer(caller): Bearer,
    id: Result<Path<String>, PathRejection>,
) -> Result<StatusCode, Problem> {
    let Path(id) = id?;
    gateway.revoke_token(&caller, &id).await?;
    Ok(StatusCode::NO_CONTENT)
}
