//! `GET /v1/datasets` and `GET /v1/datasets/{owner.name}`.

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use serde::Serialize;
use utoipa::ToSchema;

use super::bearer::Bearer;
use super::openapi::{NamedProblems, ReadProblems};
use super::problem::Problem;
use crate::gateway::{DatasetDescription, Gateway};

/// The datasets that may be asked about.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct DatasetList {
    /// By name.
    datasets: Vec<DatasetDescription>,
}

/// List the datasets
///
/// Schemas and the facts of policies; never a count or a statistic of the data.
#[utoipa::path(
    get,
    path = "/v1/datasets",
    tag = "everyone",
    responses((status = 200, description = "The datasets", body = DatasetList), ReadProblems),
    security(("token" = [])),
)]
pub(super) async fn list(
    State(gateway): State<Arc<Gateway>>,
    Bearer(caller): Bearer,
) -> Result<Json<DatasetList>, Problem> {
    Ok(Json(DatasetList { datasets: gateway.datasets(&caller).await? }))
}

/// Describe a dataset
///
/// Its columns, what each may be used for, and what its policy promises.
#[utoipa::path(
    get,
    path = "/v1/datasets/{name}",
    tag = "everyone",
    params(("name" = String, Path, description = "`owner.name`", example = "united.flights")),
    responses((status = 200, description = "The dataset", body = DatasetDescription), NamedProblems),
    security(("token" = [])),
)]
pub(super) async fn one(
    State(gateway): State<Arc<Gateway>>,
    Bearer(caller): Bearer,
    name: Result<Path<String>, PathRejection>,
) -> Result<Json<DatasetDescription>, Problem> {
    let Path(name) = name?;
    Ok(Json(gateway.dataset(&caller, &name).await?))
}
