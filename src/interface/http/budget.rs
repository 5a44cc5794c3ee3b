//! `GET /v1/budget`.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;

use super::bearer::Bearer;
use super::openapi::ReadProblems;
use super::problem::Problem;
use crate::gateway::{BudgetLine, Gateway};

/// The caller's own accounts.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct BudgetDocument {
    /// One line a dataset.
    pub(super) budget: Vec<BudgetLine>,
}

/// Show the caller's budget
///
/// What the caller may spend on each dataset in the present window, and what is spent.
#[utoipa::path(
    get,
    path = "/v1/budget",
    tag = "analyst",
    responses((status = 200, description = "The caller's accounts", body = BudgetDocument), ReadProblems),
    security(("token" = [])),
)]
pub(super) async fn budget(
    State(gateway): State<Arc<Gateway>>,
    Bearer(caller): Bearer,
) -> Result<Json<BudgetDocument>, Problem> {
    Ok(Json(BudgetDocument { budget: gateway.budget(&caller).await? }))
}
