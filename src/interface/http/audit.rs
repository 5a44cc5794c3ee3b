//! `/v1/audit`: the log of decisions, its checkpoints and its proofs. Documents are those that `tollgate audit verify` reads.

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;

use super::bearer::Bearer;
use super::body::parameters;
use super::openapi::{NamedProblems, ReadProblems};
use super::problem::Problem;
use crate::gateway::{Code, Gateway, LogPage};

/// How many entries one page has where the caller does not say.
const PAGE: u64 = 100;
/// The media type of a text that is no more than text.
const PLAIN: &str = "text/plain; charset=utf-8";
/// The media type of JSON lines.
const JSON_LINES: &str = "application/jsonl";

/// Which page of the log.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Page {
    from: Option<u64>,
    limit: Option<u64>,
}

/// Between which sizes of the log.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Sizes {
    old: u64,
    new: Option<u64>,
}

/// Of what an export is.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Of {
    dataset: Option<String>,
}

/// Read the log
///
/// All entries for an auditor; for a steward, those about its owner's datasets.
#[utoipa::path(
    get,
    path = "/v1/audit",
    tag = "auditor",
    params(
        ("from" = Option<u64>, Query, description = "The first place, from 0"),
        ("limit" = Option<u64>, Query, description = "How many at most; 100 where it is absent, never more than 1000")
    ),
    responses((status = 200, description = "Entries, in the log's order", body = LogPage), NamedProblems),
    security(("token" = [])),
)]
pub(super) async fn list(
    State(gateway): State<Arc<Gateway>>,
    Bearer(caller): Bearer,
    page: Result<Query<Page>, QueryRejection>,
) -> Result<Json<LogPage>, Problem> {
    let Page { from, limit } = parameters(page, "`from` and `limit`, whole numbers")?;
    Ok(Json(gateway.log(&caller, from.unwrap_or(0), limit.unwrap_or(PAGE)).await?))
}

/// Sign a checkpoint of the log
///
/// The log's size and root as they are now, as a signed note (C2SP `tlog-checkpoint`). Keep it: what is exported later
/// can be held against it.
#[utoipa::path(
    get,
    path = "/v1/audit/checkpoint",
    tag = "auditor",
    responses((status = 200, description = "The signed note", body = String, content_type = "text/plain"), ReadProblems),
    security(("token" = [])),
)]
pub(super) async fn checkpoint(
    State(gateway): State<Arc<Gateway>>,
    Bearer(caller): Bearer,
) -> Result<Response, Problem> {
    let signed = gateway.checkpoint(&caller).await?;
    Ok(([(header::CONTENT_TYPE, PLAIN)], signed.text().to_owned()).into_response())
}

/// Read the log's public key
///
/// In the form `NAME+ID+BASE64`. Whoever verifies should have it from the operator by another way than this one, too.
#[utoipa::path(
    get,
    path = "/v1/audit/key",
    tag = "auditor",
    responses((status = 200, description = "The key, on one line", body = String, content_type = "text/plain"), ReadProblems),
    security(("token" = [])),
)]
pub(super) async fn key(State(gateway): State<Arc<Gateway>>, Bearer(_caller): Bearer) -> Response {
    ([(header::CONTENT_TYPE, PLAIN)], format!("{}\n", gateway.verifier_key())).into_response()
}

/// Prove that an entry is in the log
///
/// A receipt: the entry, its proof and a signed checkpoint, to be kept and verified offline. Any entry for an auditor,
/// those about its datasets for a steward, those about its own questions for an analyst (`receipt.log_index` of an
/// answer).
#[utoipa::path(
    get,
    path = "/v1/audit/proof/{index}",
    tag = "auditor",
    params(("index" = u64, Path, description = "The entry's place in the log, from 0")),
    responses((status = 200, description = "The receipt", body = serde_json::Value), NamedProblems),
    security(("token" = [])),
)]
pub(super) async fn proof(
    State(gateway): State<Arc<Gateway>>,
    Bearer(caller): Bearer,
    index: Result<Path<String>, PathRejection>,
) -> Result<Response, Problem> {
    let Path(index) = index?;
    let index = index.parse().map_err(|_| {
        Problem::new(Code::RequestInvalid, "an entry's place is a whole number, from 0")
            .with_hint("an answer has it as `receipt.log_index`, an entry of GET /v1/audit as `index`")
    })?;
    json(gateway.proof(&caller, index).await?.to_json())
}

/// Prove that the log only grew
///
/// The consistency proof (RFC 6962, 2.1.2) between two sizes of the log, each of which a checkpoint has.
#[utoipa::path(
    get,
    path = "/v1/audit/consistency",
    tag = "auditor",
    params(
        ("old" = u64, Query, description = "The size of the older checkpoint"),
        ("new" = Option<u64>, Query, description = "The size of the newer one; that of now where it is absent")
    ),
    responses((status = 200, description = "The proof", body = serde_json::Value), NamedProblems),
    security(("token" = [])),
)]
pub(super) async fn consistency(
    State(gateway): State<Arc<Gateway>>,
    Bearer(caller): Bearer,
    sizes: Result<Query<Sizes>, QueryRejection>,
) -> Result<Response, Problem> {
    let Sizes { old, new } = parameters(sizes, "`old` and, as you need it, `new`: whole numbers")?;
    json(gateway.consistency(&caller, old, new).await?.to_json())
}

/// Export the log
///
/// As JSON lines that are verified offline: the whole log for an auditor, one dataset's entries, each with its proof, for
/// its steward.
#[utoipa::path(
    get,
    path = "/v1/audit/export",
    tag = "auditor",
    params(("dataset" = Option<String>, Query, description = "`owner.name`; the whole log where it is absent")),
    responses((status = 200, description = "The export", body = String, content_type = "application/jsonl"), NamedProblems),
    security(("token" = [])),
)]
pub(super) async fn export(
    State(gateway): State<Arc<Gateway>>,
    Bearer(caller): Bearer,
    of: Result<Query<Of>, QueryRejection>,
) -> Result<Response, Problem> {
    let Of { dataset } = parameters(of, "`dataset`")?;
    let export = gateway.export(&caller, dataset.as_deref()).await?;
    Ok(([(header::CONTENT_TYPE, JSON_LINES)], export).into_response())
}

/// A document that has a JSON form of its own.
fn json(document: serde_json::Result<String>) -> Result<Response, Problem> {
    let document = document.map_err(|error| {
        tracing::error!(%error, "a document of the log could not be written");
        Problem::internal()
    })?;
    Ok(([(header::CONTENT_TYPE, "application/json")], document).into_response())
}
