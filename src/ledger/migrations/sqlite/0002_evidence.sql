-- Agencies, unit domains and epochs as accounts; mechanism events; the log that every decision is appended to; policies,
-- requests, approvals and reservations. This file never changes once released: add another.

ALTER TABLE accounts ADD COLUMN epoch TEXT;
-- What the log's hash of the payload begins with, so that the log does not tell it.
ALTER TABLE held_releases ADD COLUMN nonce BLOB NOT NULL DEFAULT x'';
ALTER TABLE charges ADD COLUMN agency TEXT;
-- What noise was drawn, as JSON (src/accounting/event.rs): what a better accountant restates the past from.
ALTER TABLE charges ADD COLUMN events TEXT NOT NULL DEFAULT '[]';
-- The charge's entry in the log. Charges from before the log have none.
ALTER TABLE charges ADD COLUMN log_index INTEGER;
ALTER TABLE charges ADD COLUMN reservation TEXT;
-- What it counts (a hash), and by which keys (JSON), where coarser questions can be summed from its answer.
ALTER TABLE charges ADD COLUMN sum_base BLOB;
ALTER TABLE charges ADD COLUMN sum_parts TEXT;
CREATE INDEX charges_by_base ON charges (sum_base, consumer) WHERE sum_base IS NOT NULL;
CREATE INDEX charges_by_query ON charges (query_id);
CREATE INDEX charges_by_time ON charges (at_us);

-- What the consumer of a charge pays for each dataset (and epoch; '' where there is none), once, however many of its accounts
-- it is written on, beside all that reports group by. It follows from the charge and its lines, which `ledger check` holds
-- it against.
CREATE TABLE charge_costs (
    charge      INTEGER NOT NULL REFERENCES charges (id),
    dataset     TEXT    NOT NULL,
    epoch       TEXT    NOT NULL,
    query_id    TEXT    NOT NULL,
    at_us       INTEGER NOT NULL,
    consumer    TEXT    NOT NULL,
    agency      TEXT,
    purpose     TEXT,
    loss_kind   TEXT    NOT NULL CHECK (loss_kind IN ('zcdp', 'pure')),
    loss_steps  INTEGER NOT NULL CHECK (loss_steps > 0),
    delta_steps INTEGER NOT NULL CHECK (delta_steps >= 0),
    PRIMARY KEY (charge, dataset, epoch)
) STRICT, WITHOUT ROWID;
INSERT INTO charge_costs
SELECT DISTINCT l.charge, a.dataset, '', c.query_id, c.at_us, c.consumer, NULL, c.purpose, l.loss_kind, l.loss_steps,
    l.delta_steps
FROM charge_lines l JOIN accounts a ON a.id = l.account JOIN charges c ON c.id = l.charge WHERE a.scope = 'consumer';
CREATE INDEX charge_costs_by_dataset ON charge_costs (dataset, charge);
CREATE INDEX charge_costs_by_consumer ON charge_costs (consumer, charge);
CREATE INDEX charge_lines_by_account ON charge_lines (account, charge);
CREATE INDEX accounts_by_dataset ON accounts (dataset, scope, subject);

-- Which thresholds of which accounts were told of: each once, whichever gateway saw it, across restarts.
CREATE TABLE alerts (
    account_key       TEXT    NOT NULL,
    threshold_percent INTEGER NOT NULL,
    at_us             INTEGER NOT NULL,
    PRIMARY KEY (account_key, threshold_percent)
) STRICT, WITHOUT ROWID;

-- One row: where the log ends, the next numbers, and whether a checkpoint is kept outside. It is read and written in every transaction that writes.
CREATE TABLE state (
    id           INTEGER NOT NULL PRIMARY KEY CHECK (id = 1),
    log_size     INTEGER NOT NULL CHECK (log_size >= 0),
    log_edge     BLOB    NOT NULL,
    next_charge  INTEGER NOT NULL,
    next_account INTEGER NOT NULL,
    policies     INTEGER NOT NULL CHECK (policies >= 0),
    anchored     INTEGER NOT NULL DEFAULT 0 CHECK (anchored IN (0, 1))
) STRICT;
INSERT INTO state (id, log_size, log_edge, next_charge, next_account, policies)
SELECT 1, 0, x'', (SELECT coalesce(max(id), 0) + 1 FROM charges), (SELECT coalesce(max(id), 0) + 1 FROM accounts), 0;

-- The log (RFC 6962): its leaves are the bytes of `entry`. Nodes of level 0 are the leaves' own hashes, kept here.
CREATE TABLE log_entries (
    idx       INTEGER NOT NULL PRIMARY KEY CHECK (idx >= 0),
    at_us     INTEGER NOT NULL,
    kind      TEXT    NOT NULL,
    entry     TEXT    NOT NULL,
    leaf_hash BLOB    NOT NULL CHECK (length(leaf_hash) = 32)
) STRICT;
CREATE TABLE log_datasets (
    dataset TEXT    NOT NULL,
    idx     INTEGER NOT NULL REFERENCES log_entries (idx),
    PRIMARY KEY (dataset, idx)
) STRICT, WITHOUT ROWID;
CREATE TABLE log_nodes (
    level INTEGER NOT NULL CHECK (level > 0),
    idx   INTEGER NOT NULL CHECK (idx >= 0),
    hash  BLOB    NOT NULL CHECK (length(hash) = 32),
    PRIMARY KEY (level, idx)
) STRICT, WITHOUT ROWID;

-- What was answered again without a charge, and what it would have cost: for reports alone.
CREATE TABLE reuses (
    log_index   INTEGER NOT NULL REFERENCES log_entries (idx),
    dataset     TEXT    NOT NULL,
    at_us       INTEGER NOT NULL,
    consumer    TEXT    NOT NULL REFERENCES consumers (name),
    agency      TEXT,
    purpose     TEXT,
    loss_kind   TEXT    NOT NULL CHECK (loss_kind IN ('zcdp', 'pure')),
    loss_steps  INTEGER NOT NULL CHECK (loss_steps >= 0),
    delta_steps INTEGER NOT NULL CHECK (delta_steps >= 0),
    PRIMARY KEY (log_index, dataset)
) STRICT, WITHOUT ROWID;

-- Every version of every policy, in the order in which they came into force. A relative location in the text is relative to
-- `base`; `location` is what it resolved to; `held` says that its steward named the place, which must then lie in the
-- owner's folders.
CREATE TABLE policy_versions (
    number   INTEGER NOT NULL PRIMARY KEY,
    dataset  TEXT    NOT NULL,
    version  TEXT    NOT NULL,
    text     TEXT    NOT NULL,
    base     TEXT    NOT NULL,
    held     INTEGER NOT NULL CHECK (held IN (0, 1)),
    location TEXT,
    origin   TEXT    NOT NULL CHECK (origin IN ('file', 'steward', 'operator')),
    actor    TEXT    NOT NULL,
    reason   TEXT,
    changes  TEXT    NOT NULL,
    at_us    INTEGER NOT NULL
) STRICT;
CREATE INDEX policy_versions_by_dataset ON policy_versions (dataset, number);
CREATE TABLE dataset_states (
    dataset TEXT    NOT NULL PRIMARY KEY,
    state   TEXT    NOT NULL CHECK (state IN ('active', 'suspended', 'withdrawn')),
    reason  TEXT,
    actor   TEXT    NOT NULL,
    at_us   INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- A consumer's request for a larger budget.
CREATE TABLE budget_requests (
    id            TEXT    NOT NULL PRIMARY KEY,
    consumer      TEXT    NOT NULL REFERENCES consumers (name),
    dataset       TEXT    NOT NULL,
    epsilon_steps INTEGER NOT NULL CHECK (epsilon_steps > 0),
    delta_steps   INTEGER NOT NULL CHECK (delta_steps >= 0),
    per           TEXT    NOT NULL,
    reason        TEXT    NOT NULL,
    made_us       INTEGER NOT NULL,
    state         TEXT    NOT NULL DEFAULT 'open' CHECK (state IN ('open', 'approved', 'denied')),
    decided_by    TEXT,
    decided_us    INTEGER,
    answer        TEXT
) STRICT;

-- A query that waits for its steward's yes. While it is open or approved its price is reserved, until it expires.
CREATE TABLE approvals (
    id          TEXT    NOT NULL,
    dataset     TEXT    NOT NULL,
    consumer    TEXT    NOT NULL REFERENCES consumers (name),
    shape       BLOB    NOT NULL CHECK (length(shape) = 32),
    sql         TEXT    NOT NULL,
    purpose     TEXT,
    dry_run     TEXT    NOT NULL,
    made_us     INTEGER NOT NULL,
    expires_us  INTEGER NOT NULL,
    precision   INTEGER NOT NULL CHECK (precision > 0),
    state       TEXT    NOT NULL DEFAULT 'open' CHECK (state IN ('open', 'approved', 'denied')),
    decided_by  TEXT,
    decided_us  INTEGER,
    answer      TEXT,
    PRIMARY KEY (id, dataset)
) STRICT, WITHOUT ROWID;
CREATE INDEX approvals_by_shape ON approvals (shape, consumer);
CREATE TABLE reservations (
    id          TEXT    NOT NULL,
    account_key TEXT    NOT NULL,
    loss_kind   TEXT    NOT NULL CHECK (loss_kind IN ('zcdp', 'pure')),
    loss_steps  INTEGER NOT NULL CHECK (loss_steps > 0),
    delta_steps INTEGER NOT NULL CHECK (delta_steps >= 0),
    expires_us  INTEGER NOT NULL,
    state       TEXT    NOT NULL DEFAULT 'held' CHECK (state IN ('held', 'posted', 'void')),
    PRIMARY KEY (id, account_key)
) STRICT, WITHOUT ROWID;
CREATE INDEX reservations_by_account ON reservations (account_key) WHERE state = 'held';

CREATE TRIGGER charge_costs_stay BEFORE UPDATE ON charge_costs
BEGIN SELECT raise(ABORT, 'what a charge costs cannot be changed'); END;
CREATE TRIGGER charge_costs_remain BEFORE DELETE ON charge_costs
BEGIN SELECT raise(ABORT, 'what a charge costs cannot be deleted'); END;
CREATE TRIGGER log_entries_stay BEFORE UPDATE ON log_entries
BEGIN SELECT raise(ABORT, 'an entry of the log cannot be changed'); END;
CREATE TRIGGER log_entries_remain BEFORE DELETE ON log_entries
BEGIN SELECT raise(ABORT, 'an entry of the log cannot be deleted'); END;
CREATE TRIGGER log_nodes_stay BEFORE UPDATE ON log_nodes
BEGIN SELECT raise(ABORT, 'the log cannot be changed'); END;
CREATE TRIGGER log_nodes_remain BEFORE DELETE ON log_nodes
BEGIN SELECT raise(ABORT, 'the log cannot be changed'); END;
CREATE TRIGGER log_datasets_stay BEFORE UPDATE ON log_datasets
BEGIN SELECT raise(ABORT, 'the log cannot be changed'); END;
CREATE TRIGGER log_datasets_remain BEFORE DELETE ON log_datasets
BEGIN SELECT raise(ABORT, 'the log cannot be changed'); END;
CREATE TRIGGER the_log_only_grows BEFORE UPDATE ON state
WHEN new.log_size < old.log_size OR new.next_charge < old.next_charge OR new.policies < old.policies
BEGIN SELECT raise(ABORT, 'the log only grows'); END;
CREATE TRIGGER the_state_remains BEFORE DELETE ON state
BEGIN SELECT raise(ABORT, 'the log only grows'); END;
CREATE TRIGGER policy_versions_stay BEFORE UPDATE ON policy_versions
BEGIN SELECT raise(ABORT, 'a version of a policy cannot be changed'); END;
CREATE TRIGGER policy_versions_remain BEFORE DELETE ON policy_versions
BEGIN SELECT raise(ABORT, 'a version of a policy cannot be deleted'); END;
CREATE TRIGGER withdrawn_stays BEFORE UPDATE ON dataset_states WHEN old.state = 'withdrawn' AND new.state <> 'withdrawn'
BEGIN SELECT raise(ABORT, 'a dataset that was withdrawn cannot come back under its name'); END;
