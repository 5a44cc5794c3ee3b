//! Whether the ledger agrees with itself: sums with lines, charges and draws with the log, the log with its tree.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use sha2::Digest;

use super::super::{CheckReport, LedgerError, LogEntry};
use super::columns::steps;
use super::database::{Reader, Row, Statement};
use super::releases::payload_hash;
use super::replay::Replay;
use super::transaction::index;
use super::{log, policies};
use crate::audit::merkle::{Tree, leaf_hash};

const DOING: &str = "checking the ledger";

/// The most findings of one rule that are told.
const MOST: usize = 20;

/// How many rows of the log, or of what it is compared with, are read at a time.
const PAGE: u64 = 4096;

/// Each query names the rows that break one rule, at most twenty; a sound ledger answers all of them with none.
const RULES: [(&str, &str); 8] = [
    (
        "the sums of an account are not those of its lines",
        "SELECT a.storage_key FROM accounts a LEFT JOIN ( \
             SELECT account, sum(loss_steps) AS loss, sum(delta_steps) AS delta FROM charge_lines GROUP BY account \
         ) l ON l.account = a.id \
         WHERE a.loss_steps <> coalesce(l.loss, 0) OR a.delta_steps <> coalesce(l.delta, 0) LIMIT 20",
    ),
    (
        "a charge line is in another measure than its account",
        "SELECT l.charge || ' on ' || a.storage_key FROM charge_lines l JOIN accounts a ON a.id = l.account \
         WHERE l.loss_kind <> a.loss_kind LIMIT 20",
    ),
    (
        "a charge has no line of its consumer",
        "SELECT CAST(c.id AS TEXT) FROM charges c WHERE NOT EXISTS ( \
             SELECT 1 FROM charge_lines l JOIN accounts a ON a.id = l.account \
             WHERE l.charge = c.id AND a.scope = 'consumer' AND a.subject = c.consumer) LIMIT 20",
    ),
    (
        "a charge that is shared comes before any that paid in full",
        "SELECT CAST(c.id AS TEXT) FROM charges c WHERE c.outcome = 'shared' AND NOT EXISTS ( \
             SELECT 1 FROM charges f WHERE f.release_key = c.release_key AND f.precision = c.precision \
             AND f.price = c.price AND f.outcome = 'charged' AND f.id < c.id) LIMIT 20",
    ),
    (
        "a held release is not what its charge paid for",
        "SELECT CAST(h.charge AS TEXT) FROM held_releases h LEFT JOIN charges c ON c.id = h.charge \
         WHERE c.id IS NULL OR c.release_key <> h.release_key OR c.precision <> h.precision OR c.price <> h.price \
         LIMIT 20",
    ),
    (
        "what reports count is not what the consumer paid",
        "SELECT p.charge || ' on ' || p.dataset FROM charge_costs p LEFT JOIN charges c ON c.id = p.charge \
         WHERE c.id IS NULL OR c.consumer <> p.consumer OR c.at_us <> p.at_us OR c.query_id <> p.query_id \
         OR coalesce(c.agency, '') <> coalesce(p.agency, '') OR coalesce(c.purpose, '') <> coalesce(p.purpose, '') \
         OR NOT EXISTS (SELECT 1 FROM charge_lines l JOIN accounts a ON a.id = l.account \
             WHERE l.charge = p.charge AND a.scope = 'consumer' AND a.dataset = p.dataset \
             AND coalesce(a.epoch, '') = p.epoch AND l.loss_kind = p.loss_kind AND l.loss_steps = p.loss_steps \
             AND l.delta_steps = p.delta_steps) LIMIT 20",
    ),
    (
        "what a consumer paid is not what reports count",
        "SELECT l.charge || ' on ' || a.storage_key FROM charge_lines l JOIN accounts a ON a.id = l.account \
         WHERE a.scope = 'consumer' AND NOT EXISTS (SELECT 1 FROM charge_costs p WHERE p.charge = l.charge \
             AND p.dataset = a.dataset AND p.epoch = coalesce(a.epoch, '') AND p.loss_kind = l.loss_kind \
             AND p.loss_steps = l.loss_steps AND p.delta_steps = l.delta_steps) LIMIT 20",
    ),
    (
        "a line is of a charge that is not there",
        "SELECT CAST(l.charge AS TEXT) FROM charge_lines l LEFT JOIN charges c ON c.id = l.charge WHERE c.id IS NULL \
         LIMIT 20",
    ),
];

/// What only SQLite is asked: PostgreSQL holds its references and its pages by itself.
const OF_SQLITE: [(&str, &str); 2] = [
    (
        "a row refers to one that is not there",
        "SELECT \"table\" || coalesce(' ' || rowid, '') FROM pragma_foreign_key_check LIMIT 20",
    ),
    (
        "the file is damaged",
        "SELECT integrity_check FROM pragma_integrity_check WHERE integrity_check <> 'ok' LIMIT 20",
    ),
];

pub(super) async fn check(reader: &mut Reader) -> Result<CheckReport, LedgerError> {
    reader.take_time(DOING).await?;
    // One snapshot for all rules, whatever is written meanwhile.
    reader.begin_snapshot(DOING).await?;
    let mut findings = Vec::new();
    let of_sqlite: &[_] = if reader.is_sqlite() { &OF_SQLITE } else { &[] };
    for (rule, query) in RULES.iter().chain(of_sqlite) {
        for row in Statement::new(query).fetch_all(reader.on(), DOING).await? {
            findings.push(format!("{rule}: {}", row.text(0)?));
        }
    }
    let log_entries = check_log(reader, &mut findings).await?;
    let report = CheckReport {
        accounts: count(reader, "SELECT count(*) FROM accounts").await?,
        charges: count(reader, "SELECT count(*) FROM charges").await?,
        lines: count(reader, "SELECT count(*) FROM charge_lines").await?,
        held_releases: count(reader, "SELECT count(*) FROM held_releases").await?,
        log_entries,
    };
    reader.end(DOING).await?;
    if findings.is_empty() { Ok(report) } else { Err(LedgerError::Inconsistent { findings }) }
}

async fn count(reader: &mut Reader, query: &'static str) -> Result<u64, LedgerError> {
    steps(Statement::new(query).fetch_one(reader.on(), DOING).await?.int(0)?)
}

/// A place of the log as a column.
fn place_of(index: u64) -> i64 {
    super::transaction::index(index)
}

/// What the log says of charges and draws, which the tables must say too.
#[derive(Default)]
struct Told {
    /// By charge: a digest of what its entry says.
    charges: HashMap<i64, (u64, [u8; 32])>,
    /// By charge: the hash of the payload that was drawn.
    draws: HashMap<i64, String>,
    /// The first charge that has an entry: those before it are from before the log.
    first_charge: Option<i64>,
    replay: Replay,
    /// Of the entries of one page: kind and datasets, as the entries themselves have them.
    page: BTreeMap<i64, (String, BTreeSet<String>)>,
}

/// Reads the whole log: each leaf against its bytes, the tree against the stored nodes and the state, and the tables
/// against what the entries say.
async fn check_log(reader: &mut Reader, findings: &mut Vec<String>) -> Result<u64, LedgerError> {
    let state = log::state(reader.on()).await?;
    let mut tree = Tree::empty();
    let mut told = Told::default();
    let mut nodes = 0_u64;
    let first = findings.len();
    loop {
        let page = log::entries(reader.on(), tree.size(), PAGE, &[]).await?;
        if page.is_empty() {
            break;
        }
        let mut made = Vec::new();
        for entry in page {
            if entry.index != tree.size() {
                findings.push(format!("the log has no entry {}: it was dropped", tree.size()));
                return Ok(tree.size());
            }
            let hash = leaf_hash(entry.entry.as_bytes());
            if hash != entry.leaf_hash && findings.len() < first + MOST {
                findings.push(format!("entry {} of the log was changed", entry.index));
            }
            made.extend(tree.append(hash));
            told.hear(&entry, findings);
        }
        told.check_indexes(reader, tree.size(), findings).await?;
        made.retain(|node| node.id.level > 0);
        nodes += made.len() as u64;
        let ids: Vec<_> = made.iter().map(|node| node.id).collect();
        for ids in ids.chunks(PAGE as usize) {
            let stored = log::nodes(reader.on(), ids).await?;
            let wrong = made.iter().filter(|node| ids.contains(&node.id) && stored.get(&node.id) != Some(&node.hash));
            for node in wrong.take(MOST.saturating_sub(findings.len() - first)) {
                findings.push(format!("node {} of level {} of the log is wrong", node.id.index, node.id.level));
            }
        }
    }
    if state.tree != tree {
        findings.push(format!(
            "the log has {} entries, and its end says {}: entries were dropped, or the end was changed",
            tree.size(),
            state.tree.size()
        ));
    }
    if count(reader, "SELECT count(*) FROM log_nodes").await? != nodes {
        findings.push("the log has nodes of no entries".to_owned());
    }
    std::mem::take(&mut told.replay).compare(reader, findings).await?;
    check_charges(reader, &mut told, findings).await?;
    check_draws(reader, &mut told, findings).await?;
    policies::check(reader, findings).await?;
    Ok(tree.size())
}

impl Told {
    /// Takes in what an entry says, if it is about a charge or a draw.
    fn hear(&mut self, logged: &LogEntry, findings: &mut Vec<String>) {
        let index = logged.index;
        let Ok(value) = serde_json::from_str::<serde_json::Value>(&logged.entry) else {
            findings.push(format!("entry {index} of the log is no JSON"));
            return;
        };
        self.replay.hear(&value, logged.at.timestamp_micros());
        let names = value["datasets"].as_array().into_iter().flatten().chain([&value["dataset"]]);
        let datasets = names.filter_map(|name| name.as_str().map(str::to_owned)).collect();
        self.page.insert(place_of(index), (value["kind"].as_str().unwrap_or_default().to_owned(), datasets));
        let Some(charge) = value["charge"].as_i64() else { return };
        match value["kind"].as_str() {
            Some("charge") => {
                self.first_charge.get_or_insert(charge);
                self.charges.insert(charge, (index, digest_of_entry(&value)));
            }
            Some("draw") => {
                self.draws.insert(charge, value["payload_sha256"].as_str().unwrap_or_default().to_owned());
            }
            _ => {}
        }
    }
}

impl Told {
    /// What the log is looked up by, the kind of an entry and its datasets, is what the entries say: else a steward would not
    /// be shown what concerns it.
    async fn check_indexes(
        &mut self,
        reader: &mut Reader,
        until: u64,
        findings: &mut Vec<String>,
    ) -> Result<(), LedgerError> {
        let mut page = std::mem::take(&mut self.page);
        let Some(from) = page.keys().next().copied() else { return Ok(()) };
        let kinds = Statement::new("SELECT idx, kind FROM log_entries WHERE idx >= $1 AND idx < $2");
        for row in kinds.bind(from).bind(place_of(until)).fetch_all(reader.on(), DOING).await? {
            let (index, kind) = (row.int(0)?, row.text(1)?);
            if page.get(&index).is_some_and(|(told, _)| *told != kind) {
                findings.push(format!("entry {index} of the log is filed under another kind"));
            }
        }
        let rows = Statement::new("SELECT idx, dataset FROM log_datasets WHERE idx >= $1 AND idx < $2");
        for row in rows.bind(from).bind(place_of(until)).fetch_all(reader.on(), DOING).await? {
            let (index, dataset) = (row.int(0)?, row.text(1)?);
            if !page.get_mut(&index).is_some_and(|(_, datasets)| datasets.remove(&dataset)) {
                findings.push(format!("entry {index} of the log is filed under a dataset that it is not about"));
            }
        }
        let missing = page.iter().filter(|(_, (_, datasets))| !datasets.is_empty()).take(MOST);
        findings.extend(missing.map(|(index, _)| format!("entry {index} of the log is not filed under its datasets")));
        Ok(())
    }
}

/// A digest of what an entry says of a charge, as [`digest_of_rows`] makes it of the tables.
fn digest_of_entry(entry: &serde_json::Value) -> [u8; 32] {
    let mut lines: Vec<String> = entry["lines"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|line| {
            let accounting = line["accounting"].as_str().unwrap_or_default();
            let account = line["account"].as_str().unwrap_or_default();
            format!("{account} {accounting} {} {}", line["loss_steps"], line["delta_steps"])
        })
        .collect();
    lines.sort();
    let text = |key: &str| entry[key].as_str().unwrap_or_default();
    digest(
        &[
            text("consumer"),
            text("query_id"),
            text("sql"),
            text("purpose"),
            text("release"),
            &entry["precision"].to_string(),
            text("agency"),
            &entry["shared"].to_string(),
            &entry["datasets"].to_string(),
            &entry["events"].to_string(),
        ],
        &lines,
    )
}

fn digest(facts: &[&str], lines: &[String]) -> [u8; 32] {
    let mut hash = sha2::Sha256::new();
    for part in facts.iter().copied().chain(lines.iter().map(String::as_str)) {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part);
    }
    hash.finalize().into()
}

/// Every charge that has an entry says what the entry says, and every entry has its charge.
async fn check_charges(reader: &mut Reader, told: &mut Told, findings: &mut Vec<String>) -> Result<(), LedgerError> {
    let mut after = 0_i64;
    let first = findings.len();
    loop {
        let charges = Statement::new(
            "SELECT id, consumer, query_id, sql, purpose, release_key, precision, log_index, agency, outcome, datasets, events \
             FROM charges \
             WHERE id > $1 ORDER BY id LIMIT $2",
        )
        .bind(after)
        .bind(index(PAGE))
        .fetch_all(reader.on(), DOING)
        .await?;
        let Some(last) = charges.last() else { break };
        let until = last.int(0)?;
        let rows = Statement::new(
            "SELECT l.charge, a.storage_key, l.loss_kind, l.loss_steps, l.delta_steps FROM charge_lines l \
             JOIN accounts a ON a.id = l.account WHERE l.charge > $1 AND l.charge <= $2",
        )
        .bind(after)
        .bind(until)
        .fetch_all(reader.on(), DOING)
        .await?;
        let mut lines: HashMap<i64, Vec<String>> = HashMap::new();
        for row in rows {
            let line = format!("{} {} {} {}", row.text(1)?, row.text(2)?, row.int(3)?, row.int(4)?);
            lines.entry(row.int(0)?).or_default().push(line);
        }
        for row in &charges {
            let id = row.int(0)?;
            let of_tables = digest_of_rows(row, lines.remove(&id).unwrap_or_default())?;
            let log_index = row.maybe_int(7)?;
            let agrees = match (told.charges.remove(&id), log_index) {
                // From before the log.
                (None, None) => told.first_charge.is_none_or(|first| id < first),
                (Some((place, of_log)), Some(log_index)) => index(place) == log_index && of_log == of_tables,
                _ => false,
            };
            if !agrees && findings.len() < first + MOST {
                findings.push(format!("charge {id} is not what the log says of it"));
            }
        }
        after = until;
    }
    let mut missing: Vec<i64> = told.charges.keys().copied().collect();
    missing.sort_unstable();
    findings.extend(missing.iter().take(MOST).map(|id| format!("charge {id} is in the log and not in the ledger")));
    Ok(())
}

fn digest_of_rows(row: &Row, mut lines: Vec<String>) -> Result<[u8; 32], LedgerError> {
    lines.sort();
    let release = super::super::ReleaseKey(row.hash(5)?).to_string();
    let (consumer, query_id, sql) = (row.text(1)?, row.text(2)?, row.text(3)?);
    let (purpose, precision) = (row.maybe_text(4)?.unwrap_or_default(), row.int(6)?.to_string());
    let (agency, shared) = (row.maybe_text(8)?.unwrap_or_default(), (row.text(9)? == "shared").to_string());
    // As the entry has them: read and written again.
    let json = |text: String| serde_json::from_str::<serde_json::Value>(&text).unwrap_or_default().to_string();
    let (datasets, events) = (json(row.text(10)?), json(row.text(11)?));
    let facts = [&consumer, &query_id, &sql, &purpose, &release, &precision, &agency, &shared, &datasets, &events];
    Ok(digest(&facts.map(String::as_str), &lines))
}

/// Every held release is the one whose hash the log has.
async fn check_draws(reader: &mut Reader, told: &mut Told, findings: &mut Vec<String>) -> Result<(), LedgerError> {
    let first = findings.len();
    let mut after = 0_i64;
    loop {
        let rows = Statement::new(
            "SELECT h.charge, h.payload, c.log_index, h.nonce FROM held_releases h JOIN charges c ON c.id = h.charge \
             WHERE h.charge > $1 ORDER BY h.charge LIMIT 256",
        )
        .bind(after)
        .fetch_all(reader.on(), DOING)
        .await?;
        let Some(last) = rows.last() else { break };
        after = last.int(0)?;
        for row in &rows {
            let charge = row.int(0)?;
            let agrees = match told.draws.remove(&charge) {
                Some(hash) => hash == payload_hash(&row.bytes(3)?, &row.bytes(1)?),
                None => row.maybe_int(2)?.is_none(),
            };
            if !agrees && findings.len() < first + MOST {
                findings.push(format!("the release that charge {charge} paid for is not the one that was drawn"));
            }
        }
    }
    let mut missing: Vec<i64> = told.draws.keys().copied().collect();
    missing.sort_unstable();
    findings.extend(
        missing.iter().take(MOST).map(|id| format!("the release that charge {id} paid for was drawn and is not held")),
    );
    Ok(())
}
