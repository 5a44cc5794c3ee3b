//! `tollgate dataset`.

use clap::Subcommand;
use serde::Deserialize;

use super::client::Server;
use super::failure::{Failure, output};
use super::table::table;

/// The datasets of a running gateway.
#[derive(Debug, Subcommand)]
pub(super) enum Dataset {
    /// List the datasets that may be asked about.
    #[command(after_help = "Example:\n  tollgate dataset list --url http://127.0.0.1:8080")]
    List {
        #[command(flatten)]
        server: Server,
    },
}

/// What `GET /v1/datasets` sends.
#[derive(Debug, Deserialize)]
struct DatasetList {
    datasets: Vec<DatasetView>,
}

#[derive(Debug, Deserialize)]
struct DatasetView {
    name: String,
    kind: String,
    #[serde(default)]
    description: String,
    #[serde(default)]
    privacy: serde_json::Value,
}

impl Dataset {
    /// Does it.
    pub(super) fn run(self) -> Result<(), Failure> {
        let Self::List { server } = self;
        let list: DatasetList = server.client()?.get("/v1/datasets")?;
        let rows = list.datasets.into_iter().map(|dataset| {
            let fact = |name: &str| match dataset.privacy.get(name) {
                None | Some(serde_json::Value::Null) => String::new(),
                Some(serde_json::Value::String(text)) => text.clone(),
                Some(other) => other.to_string(),
            };
            let (unit, group) = (fact("unit"), fact("min_group_size"));
            vec![dataset.name, dataset.kind, unit, group, dataset.description]
        });
        let headers = ["dataset", "kind", "protects", "smallest group", "description"].map(str::to_owned);
        output(table(&headers, rows.collect(), &[false, false, false, true, false]).as_bytes())
    }
}
