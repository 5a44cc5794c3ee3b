//! `GET /v1/reports/…`: what was spent, the accounts, the dearest queries, and what is owed.

use std::sync::Arc;

use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use tracing::error;

use super::accept::Format;
use super::bearer::Bearer;
use super::encoding::{EncodingError, rows_to_arrow_stream, rows_to_csv};
use super::openapi::ReportProblems;
use super::problem::Problem;
use crate::gateway::Gateway;
use crate::gateway::reports::{
    AccountsForm, AccountsReport, SettlementForm, SettlementReport, SpendForm, SpendReport, Tabular, TopForm, TopReport,
};

type Parameters<T> = Result<Query<T>, QueryRejection>;

/// Report what was spent
///
/// Sums of what consumers paid, by the dimensions that are asked for. Budget administrators, auditors and operators see
/// all, a steward its own datasets, an analyst its own consumer. ε's do not add: each line has the ε of its sum.
/// Whom an ε protects (a unit, or a unit in one epoch) is said in words beside it, here as in every report.
#[utoipa::path(
    get,
    path = "/v1/reports/spend",
    tag = "everyone",
    params(SpendForm),
    responses(
        (
            status = 200,
            description = "The report, in the form that the Accept header asks for",
            content(
                (SpendReport = "application/json"),
                (String = "text/csv"),
                (Vec<u8> = "application/vnd.apache.arrow.stream")
            )
        ),
        ReportProblems,
    ),
    security(("token" = [])),
)]
pub(super) async fn spend(
    State(gateway): State<Arc<Gateway>>,
    Bearer(caller): Bearer,
    headers: HeaderMap,
    form: Parameters<SpendForm>,
) -> Result<Response, Problem> {
    let (format, Query(form)) = (Format::negotiate(&headers)?, form?);
    respond(&gateway.spend_report(&caller, &form).await?, format)
}

/// Report the accounts
///
/// Each account's window beside its lifetime, those nearest to their limits first: what is spent of the limit, what better
/// accounting says of the past, what was spent each day, and when the budget will be used up if it goes on so.
#[utoipa::path(
    get,
    path = "/v1/reports/accounts",
    tag = "everyone",
    params(AccountsForm),
    responses(
        (
            status = 200,
            description = "The report, in the form that the Accept header asks for; the days are in the JSON alone",
            content(
                (AccountsReport = "application/json"),
                (String = "text/csv"),
                (Vec<u8> = "application/vnd.apache.arrow.stream")
            )
        ),
        ReportProblems,
    ),
    security(("token" = [])),
)]
pub(super) async fn accounts(
    State(gateway): State<Arc<Gateway>>,
    Bearer(caller): Bearer,
    headers: HeaderMap,
    form: Parameters<AccountsForm>,
) -> Result<Response, Problem> {
    let (format, Query(form)) = (Format::negotiate(&headers)?, form?);
    respond(&gateway.accounts_report(&caller, &form).await?, format)
}

/// Report the dearest queries
///
/// The queries that cost most, with their SQL, from the largest loss.
#[utoipa::path(
    get,
    path = "/v1/reports/top",
    tag = "everyone",
    params(TopForm),
    responses(
        (
            status = 200,
            description = "The report, in the form that the Accept header asks for",
            content(
                (TopReport = "application/json"),
                (String = "text/csv"),
                (Vec<u8> = "application/vnd.apache.arrow.stream")
            )
        ),
        ReportProblems,
    ),
    security(("token" = [])),
)]
pub(super) async fn top(
    State(gateway): State<Arc<Gateway>>,
    Bearer(caller): Bearer,
    headers: HeaderMap,
    form: Parameters<TopForm>,
) -> Result<Response, Problem> {
    let (format, Query(form)) = (Format::negotiate(&headers)?, form?);
    respond(&gateway.top_report(&caller, &form).await?, format)
}

/// State what is owed
///
/// What each agency owes each company for a period, where policies have a `price_per_epsilon`. The rule is in the
/// statement. Not for analysts.
#[utoipa::path(
    get,
    path = "/v1/reports/settlement",
    tag = "everyone",
    params(SettlementForm),
    responses(
        (
            status = 200,
            description = "The statement, in the form that the Accept header asks for; rule and totals are in the JSON alone",
            content(
                (SettlementReport = "application/json"),
                (String = "text/csv"),
                (Vec<u8> = "application/vnd.apache.arrow.stream")
            )
        ),
        ReportProblems,
    ),
    security(("token" = [])),
)]
pub(super) async fn settlement(
    State(gateway): State<Arc<Gateway>>,
    Bearer(caller): Bearer,
    headers: HeaderMap,
    form: Parameters<SettlementForm>,
) -> Result<Response, Problem> {
    let (format, Query(form)) = (Format::negotiate(&headers)?, form?);
    respond(&gateway.settlement_report(&caller, &form).await?, format)
}

fn respond<R: Tabular + Serialize>(report: &R, format: Format) -> Result<Response, Problem> {
    let (content_type, body) = match format {
        Format::Json => (format.media_type(), serde_json::to_vec(report).map_err(EncodingError::from)),
        Format::Csv => {
            let rows = report.batch()?;
            ("text/csv; charset=utf-8; header=present", rows_to_csv(&rows.schema(), &[rows]))
        }
        Format::ArrowStream => {
            let rows = report.batch()?;
            (format.media_type(), rows_to_arrow_stream(&rows.schema(), &[rows]))
        }
    };
    let body = body.map_err(|error| {
        error!(%error, "a report could not be written");
        Problem::internal()
    })?;
    Ok(([(header::CONTENT_TYPE, content_type), (header::VARY, "accept")], body).into_response())
}
