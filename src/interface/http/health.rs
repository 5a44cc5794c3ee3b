//! Whether the process lives, and whether it can answer.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::Serialize;
use utoipa::ToSchema;

use super::openapi::ReadyProblems;
use super::problem::Problem;
use crate::gateway::Gateway;

/// A word on how the process is.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Health {
    /// `live` or `ready`.
    #[schema(example = "ready")]
    status: &'static str,
}

/// Is the process alive?
///
/// Restart it when this does not answer.
#[utoipa::path(
    get,
    path = "/healthz",
    tag = "operator",
    responses((status = 200, description = "It is", body = Health))
)]
pub(super) async fn live() -> Json<Health> {
    Json(Health { status: "live" })
}

/// Can the gateway answer?
///
/// Send it no questions while this fails.
#[utoipa::path(
    get,
    path = "/readyz",
    tag = "operator",
    responses((status = 200, description = "It can", body = Health), ReadyProblems)
)]
pub(super) async fn ready(State(gateway): State<Arc<Gateway>>) -> Result<Json<Health>, Problem> {
    // Whatever the reason, what a load balancer has to read is that it should go elsewhere.
    gateway.ready().await.map_err(|error| Problem::from(error).with_status(StatusCode::SERVICE_UNAVAILABLE))?;
    Ok(Json(Health { status: "ready" }))
}
