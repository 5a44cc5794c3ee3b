//! `POST /v1/query`.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::State;
use axum::extract::rejection::BytesRejection;
use axum::http::{HeaderMap, HeaderName, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use tracing::{Instrument, error};

use super::accept::Format;
use super::bearer::Bearer;
use super::body::malformed;
use super::encoding::{AnswerDocument, EncodingError, to_arrow_stream, to_csv, to_json};
use super::openapi::QueryProblems;
use super::problem::Problem;
use crate::gateway::{Answer, Code, Gateway, Question};

/// The longest `tollgate-accuracy`, in bytes: clients bound a response's headers, and an answer of very many columns
/// must not become unreadable over it. JSON answers hold the accuracy in any case.
const MAX_ACCURACY_BYTES: usize = 4096;

/// What a question is made of.
const FIELDS: &str = "send an object with `sql` (string) and, as you need them, `epsilon` (number), `target_error` (object), \
                      `purpose` (string), `dry_run` (boolean), `with_error_columns` (boolean), `diagnostics` (boolean), \
                      `idempotency_key` (string) and `bounds` (object)";

/// The header under which a retry names its request, for clients that set such headers on their own.
const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// Ask a question
///
/// Answers one SELECT statement with differential privacy, and charges its price. With `dry_run` nothing is read and
/// nothing is charged, and the price and the expected error come back alone. CSV and Arrow answers carry the facts of
/// privacy in headers whose names begin with `tollgate-`, as JSON answers do too.
#[utoipa::path(
    post,
    path = "/v1/query",
    tag = "analyst",
    params(("Idempotency-Key" = Option<String>, Header, description = "The same as `idempotency_key` in the body")),
    request_body(content = Question, content_type = "application/json"),
    responses(
        (
            status = 200,
            description = "The answer, in the form that the Accept header asks for",
            content(
                (AnswerDocument<'static> = "application/json"),
                (String = "text/csv"),
                (Vec<u8> = "application/vnd.apache.arrow.stream")
            ),
            headers(
                ("tollgate-query-id" = String, description = "Names this answer in the ledger and in the log"),
                ("tollgate-guarantee" = String, description = "What is promised, in words; characters out of ASCII are escaped as \\u{…}"),
                ("tollgate-epsilon" = f64, description = "The price as asked or defaulted"),
                ("tollgate-delta" = f64, description = "The δ at which that ε is stated"),
                ("tollgate-rho" = f64, description = "zCDP loss ρ; absent where every account is pure"),
                ("tollgate-delta-selection" = f64, description = "The δ paid for choosing which groups appear"),
                ("tollgate-cached" = bool, description = "Whether the caller had paid for this very release before"),
                ("tollgate-accuracy" = String, description = "`accuracy` as compact JSON, one entry a column; absent where it is longer than 4096 bytes"),
                ("tollgate-min-group-size" = u64, description = "No group with fewer units is ever released"),
                ("tollgate-units-to-appear-95" = u64, description = "A group of this many units appears with 95 %")
            )
        ),
        QueryProblems,
    ),
    security(("token" = [])),
)]
pub(super) async fn query(
    State(gateway): State<Arc<Gateway>>,
    Bearer(caller): Bearer,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Problem> {
    // The form is settled first: an answer that nobody can be given must not be paid for.
    let format = Format::negotiate(&headers)?;
    let question = question(&headers, &body?)?;
    // The question runs in a task of its own. A caller who hangs up after the charge would otherwise lose the answer
    // together with the release that a retry is to be given for free.
    let asked = tokio::spawn(async move { gateway.ask(&caller, question).await }.in_current_span());
    let answer = asked.await.map_err(|lost| {
        error!(panicked = lost.is_panic(), "a question ended without an answer");
        Problem::internal()
    })??;
    respond(&answer, format).map_err(|error| {
        error!(%error, query_id = %answer.query_id, "an answer could not be written");
        Problem::internal()
    })
}

/// Reads the question out of the body and the idempotency key out of the headers.
pub(super) fn question(headers: &HeaderMap, body: &[u8]) -> Result<Question, Problem> {
    let mut question: Question =
        serde_json::from_slice(body).map_err(|error| malformed(&error, "a question", FIELDS))?;
    if let Some(key) = idempotency_key(headers)? {
        if question.idempotency_key.as_ref().is_some_and(|own| *own != key) {
            return Err(Problem::new(
                Code::RequestInvalid,
                "the Idempotency-Key header and `idempotency_key` in the body differ",
            )
            .with_hint("send one of the two"));
        }
        question.idempotency_key = Some(key);
    }
    Ok(question)
}

/// The key of the Idempotency-Key header, bare or as the quoted string that the IETF's draft makes of it.
fn idempotency_key(headers: &HeaderMap) -> Result<Option<String>, Problem> {
    let mut values = headers.get_all(IDEMPOTENCY_KEY).iter();
    let Some(value) = values.next() else { return Ok(None) };
    let bare = |text: &str| {
        let text = text.trim();
        text.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap_or(text).to_owned()
    };
    match (value.to_str().map(bare), values.next()) {
        (Ok(key), None) if !key.is_empty() => Ok(Some(key)),
        _ => Err(Problem::new(Code::RequestInvalid, "the Idempotency-Key header is not one key of visible ASCII")),
    }
}

fn respond(answer: &Answer, format: Format) -> Result<Response, EncodingError> {
    let (content_type, body) = match format {
        Format::Json => (format.media_type(), to_json(answer)?),
        Format::Csv => ("text/csv; charset=utf-8; header=present", to_csv(answer)?),
        Format::ArrowStream => (format.media_type(), to_arrow_stream(answer)?),
    };
    let mut response = ([(header::CONTENT_TYPE, content_type), (header::VARY, "accept")], body).into_response();
    facts(answer, response.headers_mut())?;
    Ok(response)
}

/// The facts of privacy as headers, for the forms that have no place of their own for them.
fn facts(answer: &Answer, headers: &mut HeaderMap) -> Result<(), EncodingError> {
    let privacy = &answer.privacy;
    let accuracy = serde_json::to_string(&answer.accuracy)?;
    let facts = [
        ("tollgate-query-id", Some(answer.query_id.to_string())),
        ("tollgate-guarantee", Some(privacy.guarantee.chars().flat_map(char::escape_default).collect())),
        ("tollgate-epsilon", Some(serde_json::to_string(&privacy.epsilon)?)),
        ("tollgate-delta", Some(serde_json::to_string(&privacy.delta)?)),
        ("tollgate-rho", privacy.rho.as_ref().map(serde_json::to_string).transpose()?),
        ("tollgate-delta-selection", Some(serde_json::to_string(&privacy.delta_selection)?)),
        ("tollgate-cached", Some(privacy.cached.to_string())),
        ("tollgate-accuracy", Some(accuracy).filter(|accuracy| accuracy.len() <= MAX_ACCURACY_BYTES)),
        ("tollgate-min-group-size", Some(answer.groups.min_size.to_string())),
        ("tollgate-units-to-appear-95", Some(answer.groups.units_to_appear_95.to_string())),
    ];
    for (name, value) in facts {
        // Identifiers, numbers and the names of mechanisms are visible ASCII, which a header can always hold.
        if let Some(value) = value.and_then(|value| HeaderValue::try_from(value).ok()) {
            headers.insert(HeaderName::from_static(name), value);
        }
    }
    Ok(())
}
