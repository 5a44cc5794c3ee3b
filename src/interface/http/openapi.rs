//! `GET /openapi.json`: the description of this interface, made from the handlers themselves.

use std::collections::BTreeMap;

use axum::Json;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::{ContentBuilder, OpenApi as Document, Ref, RefOr, Response, ResponseBuilder};
use utoipa::{IntoResponses, Modify, OpenApi};

use super::problem::{MEDIA_TYPE, Problem};
use super::{
    approvals, audit, budget, budget_requests, consumers, datasets, grants, health, policies, queries, query, reports,
    standing, tokens,
};

/// The whole interface.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "Tollgate",
        description = "SQL over private data, answered with differential privacy and charged to a ledger. Every error is an RFC 9457 problem document with a stable `code`; none holds a data value."
    ),
    paths(
        query::query,
        datasets::list,
        datasets::one,
        budget::budget,
        budget_requests::ask,
        policies::register,
        policies::change,
        policies::versions,
        standing::suspend,
        standing::resume,
        standing::withdraw,
        queries::queries,
        approvals::list,
        approvals::decide,
        consumers::list,
        consumers::add,
        consumers::freeze,
        consumers::unfreeze,
        consumers::budget,
        tokens::create,
        tokens::revoke,
        grants::set,
        budget_requests::list,
        budget_requests::decide,
        audit::list,
        audit::checkpoint,
        audit::key,
        audit::proof,
        audit::consistency,
        audit::export,
        reports::spend,
        reports::accounts,
        reports::top,
        reports::settlement,
        health::live,
        health::ready,
        serve
    ),
    components(schemas(Problem)),
    modifiers(&BearerToken),
    tags(
        (name = "analyst", description = "With an analyst's token"),
        (name = "everyone", description = "With any token"),
        (name = "steward", description = "With the token of a dataset's owner"),
        (name = "administrator", description = "With a budget administrator's token"),
        (name = "auditor", description = "With an auditor's token, or a steward's for its own datasets"),
        (name = "operator", description = "Without a token")
    )
)]
struct Api;

struct BearerToken;

impl Modify for BearerToken {
    fn modify(&self, document: &mut Document) {
        let scheme = HttpBuilder::new()
            .scheme(HttpAuthScheme::Bearer)
            .description(Some("A token made with `tollgate token create`"))
            .build();
        document.components.get_or_insert_default().add_security_scheme("token", SecurityScheme::Http(scheme));
    }
}

/// The description as a document.
#[must_use]
pub fn document() -> Document {
    Api::openapi()
}

/// Describe this interface
///
/// This document.
#[utoipa::path(
    get,
    path = "/openapi.json",
    tag = "operator",
    responses((status = 200, description = "OpenAPI", content_type = "application/json", body = serde_json::Value))
)]
pub(super) async fn serve() -> Json<Document> {
    Json(document())
}

/// What each status says, wherever it occurs.
const PROBLEMS: [(u16, &str); 14] = [
    (
        400,
        "`sql_invalid`, `request_invalid` or `policy_invalid`: what was sent cannot be read, or a value is out of range",
    ),
    (401, "`unauthenticated`: no token, or one that is not known"),
    (402, "`budget_exceeded`: an account cannot bear the charge; says what is left and the largest ε that fits"),
    (403, "`not_allowed`, `purpose_not_allowed`, `dataset_suspended` or `approval_pending`"),
    (404, "`not_found`"),
    (406, "`request_invalid`: the Accept header asks for none of the forms of an answer"),
    (
        409,
        "`idempotency_conflict`: the idempotency key was used for another request; `conflict`: what is there does not allow it",
    ),
    (413, "`too_large`: the body, the key domain or the answer is past a limit"),
    (415, "`request_invalid`: the Content-Type header names none of the forms of a policy"),
    (422, "`query_not_private`: names the clause, and a rewrite that works"),
    (429, "`rate_limited`: wait as long as Retry-After says"),
    (500, "`internal`: a fault of the gateway"),
    (
        503,
        "`overloaded`, `source_unavailable`, or `ledger_frozen`: the ledger is not the newest, and nothing is answered",
    ),
    (504, "`timed_out`: the query took too long; it was charged"),
];

/// The problem documents that come under `statuses`.
fn problems(statuses: &[u16]) -> BTreeMap<String, RefOr<Response>> {
    let content = || ContentBuilder::new().schema(Some(Ref::from_schema_name("Problem"))).build();
    PROBLEMS
        .iter()
        .filter(|(status, _)| statuses.contains(status))
        .map(|(status, means)| {
            let response = ResponseBuilder::new().description(*means).content(MEDIA_TYPE, content()).build();
            (status.to_string(), RefOr::T(response))
        })
        .collect()
}

/// Problems of `POST /v1/query`.
pub(super) struct QueryProblems;

impl IntoResponses for QueryProblems {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        problems(&[400, 401, 402, 403, 404, 406, 409, 413, 422, 429, 500, 503, 504])
    }
}

/// Problems of reading what any token may read.
pub(super) struct ReadProblems;

impl IntoResponses for ReadProblems {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        problems(&[401, 403, 429, 500, 503])
    }
}

/// Problems of a report.
pub(super) struct ReportProblems;

impl IntoResponses for ReportProblems {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        problems(&[400, 401, 403, 406, 413, 429, 500, 503])
    }
}

/// Problems of reading one thing by its name.
pub(super) struct NamedProblems;

impl IntoResponses for NamedProblems {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        problems(&[400, 401, 403, 404, 429, 500, 503])
    }
}

/// Problems of sending a policy.
pub(super) struct PolicyProblems;

impl IntoResponses for PolicyProblems {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        problems(&[400, 401, 403, 404, 409, 413, 415, 429, 500, 503])
    }
}

/// Problems of changing anything else.
pub(super) struct WriteProblems;

impl IntoResponses for WriteProblems {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        problems(&[400, 401, 403, 404, 409, 413, 429, 500, 503])
    }
}

/// Problems of `GET /readyz`.
pub(super) struct ReadyProblems;

impl IntoResponses for ReadyProblems {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        problems(&[503])
    }
}
