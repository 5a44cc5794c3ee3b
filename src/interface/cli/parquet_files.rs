//! The schemas of the Parquet files that a location names. Only footers are read.

use arrow::datatypes::SchemaRef;

use super::failure::Failure;
use crate::stores::{StoreError, Stores};

/// The schema of the first file at `location`.
pub(super) fn schema(stores: &Stores, location: &str) -> Result<SchemaRef, Failure> {
    let first = schemas(stores, location)?.into_iter().next();
    first.ok_or_else(|| StoreError::Missing(location.to_owned()).into())
}

/// The schemas of the files at `location`, which are found as the gateway finds them.
pub(super) fn schemas(stores: &Stores, location: &str) -> Result<Vec<SchemaRef>, Failure> {
    let files = stores.list(location)?;
    Ok(stores.footers(&files)?.iter().map(|footer| footer.metadata.schema().clone()).collect())
}
