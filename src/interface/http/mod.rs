//! The HTTP interface (DESIGN 3.3).
//!
//! ```text
//!  request ─► trace ─► catch panics ─► bearer token ─► Accept ─► body ─► Gateway::ask ─► JSON, CSV or Arrow
//!                                          │             │        │           │
//!                                          └─────────────┴────────┴───────────┴──► application/problem+json
//! ```
//!
//! What it does not know: SQL, policies, prices. Whatever can be refused without the gateway (a token that is missing,
//! a format that is not spoken, a body that is not a question) is refused before it, so that it is never charged.

mod accept;
mod approvals;
mod audit;
mod bearer;
mod body;
mod budget;
mod budget_requests;
mod consumers;
mod datasets;
pub(super) mod encoding;
mod grants;
mod health;
mod openapi;
mod policies;
mod problem;
mod queries;
mod query;
mod reports;
mod server;
mod standing;
#[cfg(test)]
mod tests;
mod tokens;

use std::any::Any;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{DefaultBodyLimit, MatchedPath, Request};
use axum::http::{HeaderValue, header};
use axum::middleware::map_response;
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post, put};
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::timeout::RequestBodyTimeoutLayer;
use tower_http::trace::TraceLayer;
use tracing::{Span, error, info, info_span};

pub use openapi::document as openapi_document;
pub use problem::Problem;
pub use server::{bind, serve, shutdown_signal};

use crate::gateway::Gateway;

/// What a request holds besides its SQL: the other fields, and the JSON escapes of the SQL itself.
const BODY_ALLOWANCE_BYTES: usize = 16 * 1024;
/// How long a body may pause between two of its pieces.
const BODY_PAUSE: Duration = Duration::from_secs(30);

/// What one request may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// The longest body of a request, in bytes.
    pub max_body_bytes: usize,
}

impl Limits {
    /// Room for a statement of `max_sql_bytes` bytes and the fields beside it.
    #[must_use]
    pub const fn for_sql(max_sql_bytes: usize) -> Self {
        Self { max_body_bytes: max_sql_bytes.saturating_add(BODY_ALLOWANCE_BYTES) }
    }
}

/// The routes of the HTTP interface over `gateway`.
pub fn router(gateway: Arc<Gateway>, limits: Limits) -> Router {
    let routes = Router::new()
        .route("/v1/query", post(query::query))
        .route("/v1/datasets", get(datasets::list).post(policies::register))
        .route("/v1/datasets/{name}", get(datasets::one).put(policies::change).delete(standing::withdraw))
        .route("/v1/datasets/{name}/suspend", post(standing::suspend))
        .route("/v1/datasets/{name}/resume", post(standing::resume))
        .route("/v1/datasets/{name}/versions", get(policies::versions))
        .route("/v1/datasets/{name}/queries", get(queries::queries))
        .route("/v1/approvals", get(approvals::list))
        .route("/v1/approvals/{id}/{name}", post(approvals::decide))
        .route("/v1/consumers", get(consumers::list).post(consumers::add))
        .route("/v1/consumers/{id}/freeze", post(consumers::freeze))
        .route("/v1/consumers/{id}/unfreeze", post(consumers::unfreeze))
        .route("/v1/consumers/{id}/tokens", post(tokens::create))
        .route("/v1/consumers/{id}/budget", get(consumers::budget))
        .route("/v1/tokens/{id}", delete(tokens::revoke))
        .route("/v1/budgets/{consumer}/{dataset}", put(grants::set))
        .route("/v1/budget", get(budget::budget))
        .route("/v1/budget/requests", get(budget_requests::list).post(budget_requests::ask))
        .route("/v1/budget/requests/{id}", post(budget_requests::decide))
        .route("/v1/audit", get(audit::list))
        .route("/v1/audit/checkpoint", get(audit::checkpoint))
        .route("/v1/audit/key", get(audit::key))
        .route("/v1/audit/proof/{index}", get(audit::proof))
        .route("/v1/audit/consistency", get(audit::consistency))
        .route("/v1/audit/export", get(audit::export))
        .route("/v1/reports/spend", get(reports::spend))
        .route("/v1/reports/accounts", get(reports::accounts))
        .route("/v1/reports/top", get(reports::top))
        .route("/v1/reports/settlement", get(reports::settlement))
        .route("/healthz", get(health::live))
        .route("/readyz", get(health::ready))
        .route("/openapi.json", get(openapi::serve));
    guarded(routes, limits).with_state(gateway)
}

/// `routes` with what holds for every request: limits, errors in one shape, and a log that names no SQL and no value.
fn guarded<S: Clone + Send + Sync + 'static>(routes: Router<S>, limits: Limits) -> Router<S> {
    routes
        .fallback(async || Problem::no_such_route())
        .method_not_allowed_fallback(async || Problem::wrong_method())
        .layer(DefaultBodyLimit::max(limits.max_body_bytes))
        .layer(RequestBodyTimeoutLayer::new(BODY_PAUSE))
        .layer(CatchPanicLayer::custom(panicked))
        .layer(map_response(uncached))
        .layer(
            TraceLayer::new_for_http()
                .make_span_with(request_span)
                .on_request(())
                .on_response(log_response)
                .on_failure(()),
        )
}

/// A panic is answered like any other fault of the gateway. Its message stays in the process: it may hold a value.
#[allow(clippy::needless_pass_by_value, reason = "the signature is tower-http's")]
fn panicked(_payload: Box<dyn Any + Send + 'static>) -> Response {
    error!("a request ended in a panic");
    Problem::internal().into_response()
}

/// Answers are bought by one caller; no proxy or browser may keep them for another.
async fn uncached(mut response: Response) -> Response {
    response.headers_mut().entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    response.headers_mut().insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

/// The span of one request. It names the route as it was declared, not the path as it was sent.
fn request_span(request: &Request) -> Span {
    let route = request.extensions().get::<MatchedPath>().map_or("(unknown)", MatchedPath::as_str);
    info_span!("http", method = %request.method(), route)
}

fn log_response(response: &Response, latency: Duration, _: &Span) {
    let duration_ms = u64::try_from(latency.as_millis()).unwrap_or(u64::MAX);
    info!(status = response.status().as_u16(), duration_ms, "answered");
}
