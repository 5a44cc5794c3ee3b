//! The answer as JSON, in the shape of DESIGN 3.3.

use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

use super::EncodingError;
use super::cell::Rows;
use crate::gateway::{
    Accuracy, Answer, BudgetLine, Diagnostics, FreeAlternative, GroupFacts, PrivacyFacts, ReceiptFacts,
};
use crate::policy::value_type;

/// A column of an answer.
#[derive(Debug, Serialize, ToSchema)]
pub struct ColumnDocument {
    /// Its name.
    #[schema(example = "origin")]
    name: String,
    /// Its Arrow type.
    #[serde(rename = "type")]
    #[schema(example = "Utf8")]
    data_type: String,
}

/// The answer to a question.
#[derive(Debug, Serialize, ToSchema)]
pub struct AnswerDocument<'a> {
    /// Names this answer in the ledger and in the log.
    query_id: Uuid,
    /// The columns of the result.
    columns: Vec<ColumnDocument>,
    /// The rows, each an array in the order of `columns`; absent in a dry run. Dates, times and decimals are strings.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Vec<Vec<serde_json::Value>>>)]
    rows: Option<Rows>,
    /// By column: how far it may lie from the bounded statistic; null for group keys and columns computed from several.
    accuracy: &'a [Option<Accuracy>],
    /// What it costs.
    privacy: &'a PrivacyFacts,
    /// The caller's accounts after the charge (before it, in a dry run).
    budget: &'a [BudgetLine],
    /// Which groups may appear.
    groups: &'a GroupFacts,
    /// By release, what bounding took away: only where `diagnostics` was asked for.
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    diagnostics: &'a [Diagnostics],
    /// The answer's entry in the log; absent in a dry run.
    #[serde(skip_serializing_if = "Option::is_none")]
    receipt: Option<&'a ReceiptFacts>,
    /// In a dry run: how the question is answered from what the caller has bought, for nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    free: Option<&'a FreeAlternative>,
}

/// `answer` as JSON.
///
/// # Errors
/// When Arrow cannot cast a column to the type that it is written in.
pub(in super::super) fn to_json(answer: &Answer) -> Result<Vec<u8>, EncodingError> {
    let columns = answer.schema.fields().iter();
    let document = AnswerDocument {
        query_id: answer.query_id,
        columns: columns
            .map(|field| ColumnDocument {
                name: field.name().clone(),
                data_type: value_type(field.data_type()).to_string(),
            })
            .collect(),
        rows: answer.rows.as_deref().map(Rows::read).transpose()?,
        accuracy: &answer.accuracy,
        privacy: &answer.privacy,
        budget: &answer.budget,
        groups: &answer.groups,
        diagnostics: &answer.diagnostics,
        receipt: answer.receipt.as_ref(),
        free: answer.free.as_ref(),
    };
    Ok(serde_json::to_vec(&document)?)
}
