//! `GET /v1/datasets/{name}/queries`.

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::bearer::Bearer;
use super::body::parameters;
use super::openapi::NamedProblems;
use super::problem::Problem;
use crate::gateway::{Gateway, QueryRow};

/// How many queries one page has where the caller does not say.
const PAGE: u64 = 100;

/// Which page.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Page {
    before: Option<i64>,
    limit: Option<u64>,
}

/// What was asked of a dataset.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct QueryList {
    /// The newest first. To go on, ask again with `before` the last one's `charge`.
    queries: Vec<QueryRow>,
}

/// List the queries of a dataset
///
/// Who asked what, when, for which purpose and at what cost. For the dataset's steward.
#[utoipa::path(
    get,
    path = "/v1/datasets/{name}/queries",
    tag = "steward",
    params(
        ("name" = String, Path, description = "`owner.name`", example = "united.flights"),
        ("before" = Option<i64>, Query, description = "Those before this `charge` alone"),
        ("limit" = Option<u64>, Query, description = "How many at most; 100 where it is absent, never more than 1000")
    ),
    responses((status = 200, description = "The queries, the newest first", body = QueryList), NamedProblems),
    security(("token" = [])),
)]
pub(super) async fn queries(
    State(gateway): State<Arc<Gateway>>,
    Bearer(caller): Bearer,
    name: Result<Path<String>, PathRejection>,
    page: Result<Query<Page>, QueryRejection>,
) -> Result<Json<QueryList>, Problem> {
    let Path(name) = name?;
    let Page { before, limit } = parameters(page, "`before` and `limit`, whole numbers")?;
    let queries = gateway.queries_of(&caller, &name, before, limit.unwrap_or(PAGE)).await?;
    Ok(Json(QueryList { queries }))
}
