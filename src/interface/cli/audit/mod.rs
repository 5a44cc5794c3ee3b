//! `tollgate audit`.

mod verify;

use std::path::PathBuf;

use clap::Subcommand;
use serde_json::{Value, json};

use super::client::{Place, part};
use super::failure::{Failure, output};
use super::listing::{self, ListFormat};

/// The log of decisions.
#[derive(Debug, Subcommand)]
pub(super) enum Audit {
    /// Verify an export, a receipt or a signed checkpoint, offline: with the public key, and no server.
    ///
    /// With --checkpoint, the log must also continue that earlier checkpoint: none of its entries was changed or taken
    /// away since. An export of the whole log shows this by itself. A receipt, a checkpoint and an export of one dataset
    /// need the consistency proof between the two sizes, with --proof.
    #[command(after_help = "Examples:
  tollgate audit verify log.jsonl --key audit.key.pub
  tollgate audit verify log.jsonl --key audit.key.pub --checkpoint january.checkpoint
  tollgate audit verify receipt.json --key gateway.example/log+b6f8ad43+AYEK…
  tollgate audit verify new.checkpoint --key audit.key.pub --checkpoint old.checkpoint --proof old-new.json

Exit status: 0 verified, 1 not verified (each fault is told), 2 wrong usage.")]
    Verify {
        /// The export, the receipt or the signed checkpoint.
        #[arg(value_name = "FILE")]
        file: PathBuf,
        /// The log's public key (NAME+ID+BASE64), or a file that holds it. Have it from the gateway's operator, not from
        /// whoever gave you the file.
        #[arg(long, value_name = "KEY_OR_FILE")]
        key: String,
        /// A signed checkpoint that you kept from earlier. May be given several times.
        #[arg(long = "checkpoint", value_name = "OLD")]
        checkpoints: Vec<PathBuf>,
        /// A consistency proof from an earlier checkpoint to that of the file. May be given several times.
        #[arg(long = "proof", value_name = "FILE", requires = "checkpoints")]
        proofs: Vec<PathBuf>,
    },
    /// List entries of the log.
    #[command(after_help = "Examples:
  tollgate audit list --from 1000 --limit 50
  tollgate audit list --url http://127.0.0.1:8080 --format json   # with an auditor's or a steward's token")]
    List {
        /// The first place, from 0.
        #[arg(long, value_name = "INDEX", default_value_t = 0)]
        from: u64,
        /// How many at most; never more than 1000.
        #[arg(long, value_name = "N", default_value_t = 100)]
        limit: u64,
        /// How the list is written.
        #[arg(long, value_enum, default_value_t)]
        format: ListFormat,
        #[command(flatten)]
        place: Place,
    },
    /// Write the log, or what it says of one dataset, as a file that `audit verify` checks offline.
    #[command(after_help = "Examples:
  tollgate audit export > log.jsonl
  tollgate audit export --dataset united.flights --url http://127.0.0.1:8080 > flights.jsonl")]
    Export {
        /// The dataset, `owner.name`; a steward's token needs one.
        #[arg(long, value_name = "OWNER.NAME")]
        dataset: Option<String>,
        #[command(flatten)]
        place: Place,
    },
    /// Write the receipt of one entry: the entry, the proof that it is in the log, and a signed checkpoint.
    #[command(after_help = "Example:\n  tollgate audit proof 17 > receipt.json")]
    Proof {
        /// The entry's place: `receipt.log_index` of an answer.
        index: u64,
        #[command(flatten)]
        place: Place,
    },
    /// Write the signed checkpoint of the log as it is now. Keep it, to hold later exports against.
    #[command(after_help = "Example:\n  tollgate audit checkpoint > january.checkpoint")]
    Checkpoint {
        #[command(flatten)]
        place: Place,
    },
    /// Write the proof that the log of one checkpoint continues that of an older one.
    #[command(after_help = "Example:\n  tollgate audit consistency --old 120 --new 4711 > proof.json")]
    Consistency {
        /// How many entries the older checkpoint has.
        #[arg(long, value_name = "SIZE")]
        old: u64,
        /// How many the newer one has; as many as the log where it is absent.
        #[arg(long, value_name = "SIZE")]
        new: Option<u64>,
        #[command(flatten)]
        place: Place,
    },
    /// Write the log's public key, to be published.
    #[command(after_help = "Example:\n  tollgate audit key > audit.key.pub")]
    Key {
        #[command(flatten)]
        place: Place,
    },
}

impl Audit {
    /// Does it.
    pub(super) async fn run(self) -> Result<(), Failure> {
        match self {
            Self::Verify { file, key, checkpoints, proofs } => verify::run(&file, &key, &checkpoints, &proofs),
            Self::List { from, limit, format, place } => {
                let document = match place.server()? {
                    Some(client) => client.get(&format!("/v1/audit?from={from}&limit={limit}"))?,
                    None => json!(place.administration().await?.log(from, limit).await?),
                };
                list(format, document)
            }
            Self::Export { dataset, place } => output(&match place.server()? {
                Some(client) => {
                    let of = dataset.map(|name| format!("?dataset={}", part(&name))).unwrap_or_default();
                    client.get_bytes(&format!("/v1/audit/export{of}"))?
                }
                None => place.administration().await?.export(dataset.as_deref()).await?,
            }),
            Self::Proof { index, place } => line(match place.server()? {
                Some(client) => client.get_bytes(&format!("/v1/audit/proof/{index}"))?,
                None => document(place.administration().await?.proof(index).await?.to_json())?,
            }),
            Self::Checkpoint { place } => output(&match place.server()? {
                Some(client) => client.get_bytes("/v1/audit/checkpoint")?,
                None => place.administration().await?.checkpoint().await?.text().as_bytes().to_vec(),
            }),
            Self::Consistency { old, new, place } => line(match place.server()? {
                Some(client) => {
                    let new = new.map(|new| format!("&new={new}")).unwrap_or_default();
                    client.get_bytes(&format!("/v1/audit/consistency?old={old}{new}"))?
                }
                None => document(place.administration().await?.consistency(old, new).await?.to_json())?,
            }),
            Self::Key { place } => output(&match place.server()? {
                Some(client) => client.get_bytes("/v1/audit/key")?,
                None => format!("{}\n", place.administration().await?.verifier_key().await?).into_bytes(),
            }),
        }
    }
}

fn document(written: serde_json::Result<String>) -> Result<Vec<u8>, Failure> {
    written.map(String::into_bytes).map_err(Failure::Request)
}

fn line(mut document: Vec<u8>) -> Result<(), Failure> {
    document.push(b'\n');
    output(&document)
}

fn list(format: ListFormat, mut document: Value) -> Result<(), Failure> {
    if format == ListFormat::Table {
        for row in document["entries"].as_array_mut().into_iter().flatten() {
            // What every entry has is a column; the rest of it stands as it is.
            let text = row["entry"].as_str().unwrap_or_default().to_owned();
            let entry: Value = serde_json::from_str(&text).unwrap_or_default();
            for member in ["kind", "at"] {
                row[member] = entry[member].clone();
            }
        }
    }
    let columns = [("index", "index"), ("when", "at"), ("kind", "kind"), ("entry", "entry")];
    listing::print(format, &document, "entries", &columns)
}
