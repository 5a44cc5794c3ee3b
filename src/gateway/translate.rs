//! From each stage's own errors to what a caller may read. Detail is logged here, once, and never sent (STYLE 20).

use arrow::error::ArrowError;

use crate::analysis::{Refusal, RefusalKind};
use crate::catalog::CatalogError;
use crate::cluster::SecretError;
use crate::engine::EngineError;
use crate::ledger::LedgerError;
use crate::release::PriceError;
use crate::sql::{ParseError, PlanError};

use super::{Code, GatewayError};

pub(super) fn internal(what: &str) -> GatewayError {
    tracing::error!(what, "internal error");
    GatewayError::new(Code::Internal, "the gateway failed at its own work; its operator has been told in the log")
        .with_hint("try again; if it fails again, tell the operator the time of this answer")
}

pub(super) fn parse(error: ParseError) -> GatewayError {
    let (code, hint) = match &error {
        ParseError::Syntax(_) => (Code::SqlInvalid, "check the statement near the place that is named"),
        ParseError::TooLong { .. }
        | ParseError::TooComplex { .. }
        | ParseError::CteCopies { .. }
        | ParseError::Concatenations { .. }
        | ParseError::Coalesces { .. } => (Code::TooLarge, "shorten the statement"),
        ParseError::Sample => (Code::SqlInvalid, "leave TABLESAMPLE out"),
        ParseError::Placeholder => (Code::SqlInvalid, "replace each placeholder by a literal"),
        ParseError::NotOne { .. } => (Code::SqlInvalid, "send one SELECT"),
        ParseError::NotSelect(_) => (Code::NotAllowed, "send a SELECT; GET /v1/datasets shows what there is"),
        ParseError::TableName(_) => (Code::SqlInvalid, "GET /v1/datasets lists the datasets"),
    };
    GatewayError::new(code, error.to_string()).with_hint(hint)
}

pub(super) fn plan(error: &PlanError) -> GatewayError {
    GatewayError::new(Code::SqlInvalid, format!("the SQL has no meaning over these datasets: {error}"))
        .with_hint("GET /v1/datasets/OWNER.NAME shows a dataset's columns and their types")
}

pub(super) fn refusal(refusal: Refusal) -> GatewayError {
    let code = match refusal.kind {
        RefusalKind::NotPrivate => Code::QueryNotPrivate,
        RefusalKind::NotAllowed => Code::NotAllowed,
        RefusalKind::TooLarge => Code::TooLarge,
        RefusalKind::Request => Code::RequestInvalid,
        RefusalKind::Internal => return internal(&refusal.detail),
    };
    let detail = match refusal.position {
        Some((line, column)) => format!("{} (line {line}, column {column})", refusal.detail),
        None => refusal.detail,
    };
    GatewayError { code, detail, hint: refusal.hint }
}

pub(super) fn price(error: &PriceError) -> GatewayError {
    match error {
        PriceError::Selection(_) => GatewayError::new(
            Code::QueryNotPrivate,
            "which groups appear would depend on the data, and the dataset's budget has no delta to pay for that",
        )
        .with_hint(
            "group by columns whose keys the policy lists; with a minimum group size its owner must allow a delta",
        ),
        PriceError::Noise(_) | PriceError::Sensitivity | PriceError::Shares { .. } => {
            GatewayError::new(Code::RequestInvalid, error.to_string())
                .with_hint("ask with a larger epsilon, fewer aggregates or smaller bounds")
        }
    }
}

/// For the operator and stewards, who may see paths.
pub(super) fn operator_catalog(error: CatalogError) -> GatewayError {
    GatewayError::new(Code::SourceUnavailable, error.to_string())
        .with_hint("`tollgate policy check FILE` names every fault")
}

/// For the operator, at the start.
pub(super) fn cluster_secret(error: &SecretError) -> GatewayError {
    GatewayError::new(Code::RequestInvalid, error.to_string())
        .with_hint("`tollgate scheduler --secret FILE` makes one; copy it to the gateway and the executors, mode 0600")
}

/// For analysts, who may not.
pub(super) fn catalog(error: &CatalogError) -> GatewayError {
    tracing::error!(%error, "a source cannot be used");
    let dataset = error.dataset().map_or_else(|| "a dataset of the query".to_owned(), ToString::to_string);
    GatewayError::new(Code::SourceUnavailable, format!("{dataset} cannot be read now; nothing was charged"))
        .with_hint("its owner or the operator has to mend it; the reason is in the gateway's log")
}

/// No worker is there, and nothing was charged: a cluster is asked before it is paid for what it reads.
pub(super) fn workers(error: &EngineError) -> GatewayError {
    tracing::error!(%error, "the cluster cannot work; the question was refused and not charged");
    GatewayError::new(Code::Overloaded, "no worker is there to answer the question; nothing was charged")
        .with_hint("try again in a moment; if it stays so, tell the operator the time of this answer")
}

pub(super) fn engine(error: EngineError) -> GatewayError {
    match &error {
        EngineError::Cluster(error) => {
            tracing::error!(%error, "a query failed in the cluster");
            GatewayError::new(Code::Internal, "the query could not be completed")
                .with_hint("if it was charged, the same question again is free")
        }
        EngineError::Unproven(_) => {
            tracing::error!(%error, "a finished plan was not proven private");
            GatewayError::new(
                Code::QueryNotPrivate,
                "the finished plan could not be proven private; nothing was charged",
            )
            .with_hint("write the query more simply; tell the operator the time of this answer")
        }
        EngineError::DataFusion(_) | EngineError::NotOneBatch(_) => {
            // The text may quote data; the log is the operator's, who has the data's keys anyway, but keeps only the kind.
            let kind = match &error {
                EngineError::DataFusion(error) => error_kind(error),
                _ => "not one batch",
            };
            tracing::error!(kind, "a query failed while it ran");
            GatewayError::new(Code::Internal, "the query could not be completed")
                .with_hint("if it was charged, the same question again is free")
        }
    }
}

/// The same after a charge.
pub(super) fn charged_engine(error: EngineError) -> GatewayError {
    match &error {
        EngineError::Unproven(_) => {
            tracing::error!(%error, "a finished plan was not proven private after its charge");
            GatewayError::new(Code::Internal, "the query could not be completed")
                .with_hint("it was charged; tell the operator the time of this answer; the same question again is free")
        }
        EngineError::Cluster(_) | EngineError::DataFusion(_) | EngineError::NotOneBatch(_) => engine(error),
    }
}

/// What fails above the releases: it sees public and released values alone, so that its reason may be told.
pub(super) fn post(error: &EngineError, charge: &str) -> GatewayError {
    use datafusion::common::DataFusionError as E;
    let EngineError::DataFusion(error) = error else { return internal("a plan above the releases is not proven") };
    // What a file or the memory says may name paths.
    let tells = match error.find_root() {
        E::Execution(_) | E::Plan(_) | E::SchemaError(..) | E::NotImplemented(_) => true,
        E::ArrowError(error, _) => !matches!(
            error.as_ref(),
            ArrowError::ExternalError(_)
                | ArrowError::IoError(..)
                | ArrowError::ParquetError(_)
                | ArrowError::MemoryError(_)
        ),
        _ => false,
    };
    if !tells {
        tracing::error!(kind = error_kind(error), "what is computed from released values failed");
        return GatewayError::new(
            Code::Internal,
            format!("what is computed from the released values failed; {charge}"),
        )
        .with_hint("try again; if it fails again, tell the operator the time of this answer");
    }
    let reason = error.find_root().strip_backtrace().lines().next().unwrap_or_default().to_owned();
    GatewayError::new(Code::SqlInvalid, format!("what is computed from the released values failed: {reason}; {charge}"))
        .with_hint("mend that part: divide by nullif(x, 0), use TRY_CAST, or make a scalar subquery give one row")
}

fn error_kind(error: &datafusion::common::DataFusionError) -> &'static str {
    use datafusion::common::DataFusionError as E;
    match error.find_root() {
        E::ArrowError(..) => "arrow",
        E::ParquetError(_) => "parquet",
        E::ObjectStore(_) => "object store",
        E::IoError(_) => "io",
        E::ResourcesExhausted(_) => "resources exhausted",
        E::Plan(_) => "plan",
        E::Internal(_) => "internal",
        E::Execution(_) => "execution",
        E::External(_) => "external",
        _ => "other",
    }
}

/// For callers: a fault of the storage is logged, not told, since its text names files and other consumers.
pub(super) fn ledger(error: LedgerError) -> GatewayError {
    let code = ledger_code(&error);
    match &error {
        LedgerError::CommitUnknown { .. } | LedgerError::WriterGone { .. } => {
            log_ledger(&error);
            GatewayError::new(
                Code::Internal,
                "the ledger's storage failed at the commit, so the charge may have been made",
            )
            .with_hint("send the same request again with the same idempotency key: it is not charged twice")
        }
        _ if code == Code::Internal => {
            log_ledger(&error);
            internal("the ledger failed")
        }
        _ => GatewayError::new(code, error.to_string()),
    }
}

/// For operators, whose storage it is.
pub(super) fn operator_ledger(error: &LedgerError) -> GatewayError {
    log_ledger(error);
    GatewayError::new(ledger_code(error), error.to_string())
}

fn log_ledger(error: &LedgerError) {
    tracing::error!(error = %error, source = ?std::error::Error::source(error), "the ledger failed");
}

fn ledger_code(error: &LedgerError) -> Code {
    match error {
        LedgerError::UnknownConsumer { .. }
        | LedgerError::UnknownToken { .. }
        | LedgerError::UnknownCharge { .. }
        | LedgerError::UnknownDataset { .. }
        | LedgerError::UnknownRequest { .. }
        | LedgerError::NoLedger { .. } => Code::NotFound,
        LedgerError::Frozen { .. } => Code::NotAllowed,
        LedgerError::RolledBack => Code::LedgerFrozen,
        LedgerError::TooManyOpen { .. } => Code::RateLimited,
        LedgerError::Withdrawn { .. } => Code::DatasetSuspended,
        LedgerError::ConsumerExists { .. } | LedgerError::DecidedBefore { .. } | LedgerError::BackupExists { .. } => {
            Code::Conflict
        }
        LedgerError::BackupElsewhere
        | LedgerError::BadPostgresUrl
        | LedgerError::InvalidName { .. }
        | LedgerError::BadToken(_)
        | LedgerError::UnsupportedUrl { .. } => Code::RequestInvalid,
        LedgerError::BadCharge(crate::ledger::BadCharge::IdempotencyKeyLength { .. }) => Code::RequestInvalid,
        LedgerError::BadCharge(crate::ledger::BadCharge::TooManyAccounts { .. }) => Code::TooLarge,
        LedgerError::IdempotencyConflict { .. } => Code::IdempotencyConflict,
        LedgerError::Busy | LedgerError::PoliciesChanged => Code::Overloaded,
        LedgerError::BadCharge(_)
        | LedgerError::AccountingChanged { .. }
        | LedgerError::NotPaidFor { .. }
        | LedgerError::NoRandomness(_)
        | LedgerError::SchemaTooNew { .. }
        | LedgerError::Open { .. }
        | LedgerError::Migration { .. }
        | LedgerError::Storage { .. }
        | LedgerError::WriterGone { .. }
        | LedgerError::CommitUnknown { .. }
        | LedgerError::Corrupt { .. }
        | LedgerError::Inconsistent { .. } => Code::Internal,
    }
}
