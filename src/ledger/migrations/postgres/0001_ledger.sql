-- The ledger in PostgreSQL: what migrations/sqlite makes in two steps. Amounts are integers in the steps that
-- src/accounting/amounts.rs defines; times are microseconds since 1970 in UTC. No column is a float. This file never changes
-- once released: add another.

CREATE TABLE consumers (
    name       TEXT    NOT NULL PRIMARY KEY CHECK (name <> ''),
    agency     TEXT,
    frozen     BIGINT NOT NULL DEFAULT 0 CHECK (frozen IN (0, 1)),
    created_us BIGINT NOT NULL
);

-- The secret itself is never here: only its SHA-256.
CREATE TABLE tokens (
    id            TEXT    NOT NULL PRIMARY KEY,
    secret_sha256 BYTEA    NOT NULL UNIQUE CHECK (length(secret_sha256) = 32),
    role          TEXT    NOT NULL CHECK (role IN ('analyst', 'steward', 'budget-admin', 'auditor', 'operator')),
    consumer      TEXT    REFERENCES consumers (name),
    owner         TEXT,
    created_us    BIGINT NOT NULL,
    revoked_us    BIGINT,
    CHECK ((role = 'analyst') = (consumer IS NOT NULL)),
    CHECK ((role = 'steward') = (owner IS NOT NULL))
);

CREATE TABLE grants (
    consumer      TEXT    NOT NULL REFERENCES consumers (name),
    dataset       TEXT    NOT NULL,
    epsilon_steps BIGINT NOT NULL CHECK (epsilon_steps >= 0),
    delta_steps   BIGINT NOT NULL CHECK (delta_steps >= 0),
    per           TEXT    NOT NULL,
    set_us        BIGINT NOT NULL,
    PRIMARY KEY (consumer, dataset)
);

-- An account is known by its storage key; the columns beside it are for reports. The sums are those of its lines.
CREATE TABLE accounts (
    id          BIGINT PRIMARY KEY,
    storage_key TEXT    NOT NULL UNIQUE,
    scope       TEXT    NOT NULL,
    subject     TEXT    NOT NULL,
    dataset     TEXT    NOT NULL,
    budget_window TEXT NOT NULL,
    epoch       TEXT,
    loss_kind   TEXT    NOT NULL CHECK (loss_kind IN ('zcdp', 'pure')),
    loss_steps  BIGINT NOT NULL CHECK (loss_steps >= 0),
    delta_steps BIGINT NOT NULL CHECK (delta_steps >= 0)
);

-- A charge's id is its place in the order of acceptance. `price` is a hash over what each dataset costs: charges of one
-- release key, precision and price pay for one draw.
CREATE TABLE charges (
    id          BIGINT PRIMARY KEY,
    consumer    TEXT    NOT NULL REFERENCES consumers (name),
    release_key BYTEA    NOT NULL CHECK (length(release_key) = 32),
    precision   BIGINT NOT NULL CHECK (precision > 0),
    price       BYTEA    NOT NULL CHECK (length(price) = 32),
    outcome     TEXT    NOT NULL CHECK (outcome IN ('charged', 'shared')),
    at_us       BIGINT NOT NULL,
    query_id    TEXT    NOT NULL,
    sql         TEXT    NOT NULL,
    purpose     TEXT,
    datasets    TEXT    NOT NULL,
    agency      TEXT,
    events      TEXT    NOT NULL DEFAULT '[]',
    log_index   BIGINT,
    reservation TEXT,
    sum_base    BYTEA,
    sum_parts   TEXT
);
CREATE INDEX charges_by_release ON charges (release_key, precision, price, consumer);

-- `loss` is what the account paid, in its own measure; `drawn` is the loss of the noise itself, which is what a better
-- accountant would start from (they differ where Laplace noise was charged to a zCDP account).
CREATE TABLE charge_lines (
    charge      BIGINT NOT NULL REFERENCES charges (id),
    account     BIGINT NOT NULL REFERENCES accounts (id),
    loss_kind   TEXT    NOT NULL CHECK (loss_kind IN ('zcdp', 'pure')),
    loss_steps  BIGINT NOT NULL CHECK (loss_steps > 0),
    delta_steps BIGINT NOT NULL CHECK (delta_steps >= 0),
    drawn_kind  TEXT    NOT NULL CHECK (drawn_kind IN ('zcdp', 'pure')),
    drawn_steps BIGINT NOT NULL CHECK (drawn_steps > 0),
    PRIMARY KEY (charge, account)
);

CREATE TABLE idempotency_keys (
    consumer     TEXT    NOT NULL REFERENCES consumers (name),
    key          TEXT    NOT NULL,
    request_hash BYTEA    NOT NULL CHECK (length(request_hash) = 32),
    charge       BIGINT NOT NULL REFERENCES charges (id),
    PRIMARY KEY (consumer, key)
);

-- The first draw that is stored is the one that everybody is shown.
CREATE TABLE held_releases (
    release_key BYTEA    NOT NULL,
    precision   BIGINT NOT NULL,
    price       BYTEA    NOT NULL,
    charge      BIGINT NOT NULL REFERENCES charges (id),
    payload     BYTEA    NOT NULL,
    facts       TEXT    NOT NULL,
    kept_us     BIGINT NOT NULL,
    nonce       BYTEA   NOT NULL,
    PRIMARY KEY (release_key, precision, price)
);

-- What noise was drawn, as JSON (src/accounting/event.rs): what a better accountant restates the past from.
-- The charge's entry in the log. Charges from before the log have none.
CREATE INDEX charges_by_query ON charges (query_id);
CREATE INDEX charges_by_base ON charges (sum_base, consumer) WHERE sum_base IS NOT NULL;
CREATE INDEX charges_by_time ON charges (at_us);

-- What the consumer of a charge pays for each dataset (and epoch; '' where there is none), once, however many of its accounts
-- it is written on, beside all that reports group by. It follows from the charge and its lines, which `ledger check` holds
-- it against.
CREATE TABLE charge_costs (
    charge      BIGINT  NOT NULL REFERENCES charges (id),
    dataset     TEXT    NOT NULL,
    epoch       TEXT    NOT NULL,
    query_id    TEXT    NOT NULL,
    at_us       BIGINT  NOT NULL,
    consumer    TEXT    NOT NULL,
    agency      TEXT,
    purpose     TEXT,
    loss_kind   TEXT    NOT NULL CHECK (loss_kind IN ('zcdp', 'pure')),
    loss_steps  BIGINT  NOT NULL CHECK (loss_steps > 0),
    delta_steps BIGINT  NOT NULL CHECK (delta_steps >= 0),
    PRIMARY KEY (charge, dataset, epoch)
);
CREATE INDEX charge_costs_by_dataset ON charge_costs (dataset, charge);
CREATE INDEX charge_costs_by_consumer ON charge_costs (consumer, charge);
CREATE INDEX charge_lines_by_account ON charge_lines (account, charge);
CREATE INDEX accounts_by_dataset ON accounts (dataset, scope, subject);

-- Which thresholds of which accounts were told of: each once, whichever gateway saw it, across restarts.
CREATE TABLE alerts (
    account_key       TEXT    NOT NULL,
    threshold_percent BIGINT  NOT NULL,
    at_us             BIGINT  NOT NULL,
    PRIMARY KEY (account_key, threshold_percent)
);

-- One row: where the log ends, the next numbers, and whether a checkpoint is kept outside. It is read and written in every transaction that writes.
CREATE TABLE state (
    id           BIGINT NOT NULL PRIMARY KEY CHECK (id = 1),
    log_size     BIGINT NOT NULL CHECK (log_size >= 0),
    log_edge     BYTEA    NOT NULL,
    next_charge  BIGINT NOT NULL,
    next_account BIGINT NOT NULL,
    policies     BIGINT NOT NULL CHECK (policies >= 0),
    anchored     BIGINT NOT NULL DEFAULT 0 CHECK (anchored IN (0, 1))
);
INSERT INTO state (id, log_size, log_edge, next_charge, next_account, policies) VALUES (1, 0, '', 1, 1, 0);

-- The log (RFC 6962): its leaves are the bytes of `entry`. Nodes of level 0 are the leaves' own hashes, kept here.
CREATE TABLE log_entries (
    idx       BIGINT NOT NULL PRIMARY KEY CHECK (idx >= 0),
    at_us     BIGINT NOT NULL,
    kind      TEXT    NOT NULL,
    entry     TEXT    NOT NULL,
    leaf_hash BYTEA    NOT NULL CHECK (length(leaf_hash) = 32)
);
CREATE TABLE log_datasets (
    dataset TEXT    NOT NULL,
    idx     BIGINT NOT NULL REFERENCES log_entries (idx),
    PRIMARY KEY (dataset, idx)
);
CREATE TABLE log_nodes (
    level BIGINT NOT NULL CHECK (level > 0),
    idx   BIGINT NOT NULL CHECK (idx >= 0),
    hash  BYTEA    NOT NULL CHECK (length(hash) = 32),
    PRIMARY KEY (level, idx)
);

-- What was answered again without a charge, and what it would have cost: for reports alone.
CREATE TABLE reuses (
    log_index   BIGINT NOT NULL REFERENCES log_entries (idx),
    dataset     TEXT    NOT NULL,
    at_us       BIGINT NOT NULL,
    consumer    TEXT    NOT NULL REFERENCES consumers (name),
    agency      TEXT,
    purpose     TEXT,
    loss_kind   TEXT    NOT NULL CHECK (loss_kind IN ('zcdp', 'pure')),
    loss_steps  BIGINT NOT NULL CHECK (loss_steps >= 0),
    delta_steps BIGINT NOT NULL CHECK (delta_steps >= 0),
    PRIMARY KEY (log_index, dataset)
);

-- Every version of every policy, in the order in which they came into force. A relative location in the text is relative to
-- `base`; `location` is what it resolved to; `held` says that its steward named the place, which must then lie in the
-- owner's folders.
CREATE TABLE policy_versions (
    number   BIGINT NOT NULL PRIMARY KEY,
    dataset  TEXT    NOT NULL,
    version  TEXT    NOT NULL,
    text     TEXT    NOT NULL,
    base     TEXT    NOT NULL,
    held     BIGINT NOT NULL CHECK (held IN (0, 1)),
    location TEXT,
    origin   TEXT    NOT NULL CHECK (origin IN ('file', 'steward', 'operator')),
    actor    TEXT    NOT NULL,
    reason   TEXT,
    changes  TEXT    NOT NULL,
    at_us    BIGINT NOT NULL
);
CREATE INDEX policy_versions_by_dataset ON policy_versions (dataset, number);
CREATE TABLE dataset_states (
    dataset TEXT    NOT NULL PRIMARY KEY,
    state   TEXT    NOT NULL CHECK (state IN ('active', 'suspended', 'withdrawn')),
    reason  TEXT,
    actor   TEXT    NOT NULL,
    at_us   BIGINT NOT NULL
);

-- A consumer's request for a larger budget.
CREATE TABLE budget_requests (
    id            TEXT    NOT NULL PRIMARY KEY,
    consumer      TEXT    NOT NULL REFERENCES consumers (name),
    dataset       TEXT    NOT NULL,
    epsilon_steps BIGINT NOT NULL CHECK (epsilon_steps > 0),
    delta_steps   BIGINT NOT NULL CHECK (delta_steps >= 0),
    per           TEXT    NOT NULL,
    reason        TEXT    NOT NULL,
    made_us       BIGINT NOT NULL,
    state         TEXT    NOT NULL DEFAULT 'open' CHECK (state IN ('open', 'approved', 'denied')),
    decided_by    TEXT,
    decided_us    BIGINT,
    answer        TEXT
);

-- A query that waits for its steward's yes. While it is open or approved its price is reserved, until it expires.
CREATE TABLE approvals (
    id          TEXT    NOT NULL,
    dataset     TEXT    NOT NULL,
    consumer    TEXT    NOT NULL REFERENCES consumers (name),
    shape       BYTEA    NOT NULL CHECK (length(shape) = 32),
    sql         TEXT    NOT NULL,
    purpose     TEXT,
    dry_run     TEXT    NOT NULL,
    made_us     BIGINT NOT NULL,
    expires_us  BIGINT NOT NULL,
    precision   BIGINT NOT NULL CHECK (precision > 0),
    state       TEXT    NOT NULL DEFAULT 'open' CHECK (state IN ('open', 'approved', 'denied')),
    decided_by  TEXT,
    decided_us  BIGINT,
    answer      TEXT,
    PRIMARY KEY (id, dataset)
);
CREATE INDEX approvals_by_shape ON approvals (shape, consumer);
CREATE TABLE reservations (
    id          TEXT    NOT NULL,
    account_key TEXT    NOT NULL,
    loss_kind   TEXT    NOT NULL CHECK (loss_kind IN ('zcdp', 'pure')),
    loss_steps  BIGINT NOT NULL CHECK (loss_steps > 0),
    delta_steps BIGINT NOT NULL CHECK (delta_steps >= 0),
    expires_us  BIGINT NOT NULL,
    state       TEXT    NOT NULL DEFAULT 'held' CHECK (state IN ('held', 'posted', 'void')),
    PRIMARY KEY (id, account_key)
);
CREATE INDEX reservations_by_account ON reservations (account_key) WHERE state = 'held';

-- What was spent stays spent, and what was drawn stays drawn, whoever writes the SQL.
CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN RAISE EXCEPTION '%', TG_ARGV[0]; END $$;
CREATE TRIGGER charges_stay BEFORE UPDATE OR DELETE ON charges FOR EACH ROW EXECUTE FUNCTION refuse('a charge cannot be changed or deleted');
CREATE TRIGGER charges_remain BEFORE TRUNCATE ON charges FOR EACH STATEMENT EXECUTE FUNCTION refuse('a charge cannot be changed or deleted');
CREATE TRIGGER charge_lines_stay BEFORE UPDATE OR DELETE ON charge_lines FOR EACH ROW EXECUTE FUNCTION refuse('a charge line cannot be changed or deleted');
CREATE TRIGGER charge_lines_remain BEFORE TRUNCATE ON charge_lines FOR EACH STATEMENT EXECUTE FUNCTION refuse('a charge line cannot be changed or deleted');
CREATE TRIGGER charge_costs_stay BEFORE UPDATE OR DELETE ON charge_costs FOR EACH ROW EXECUTE FUNCTION refuse('what a charge costs cannot be changed or deleted');
CREATE TRIGGER charge_costs_remain BEFORE TRUNCATE ON charge_costs FOR EACH STATEMENT EXECUTE FUNCTION refuse('what a charge costs cannot be changed or deleted');
CREATE TRIGGER held_releases_stay BEFORE UPDATE OR DELETE ON held_releases FOR EACH ROW EXECUTE FUNCTION refuse('a held release cannot be changed or deleted: it would be drawn anew, and noise averages away');
CREATE TRIGGER held_releases_remain BEFORE TRUNCATE ON held_releases FOR EACH STATEMENT EXECUTE FUNCTION refuse('a held release cannot be changed or deleted: it would be drawn anew, and noise averages away');
CREATE TRIGGER log_entries_stay BEFORE UPDATE OR DELETE ON log_entries FOR EACH ROW EXECUTE FUNCTION refuse('an entry of the log cannot be changed or deleted');
CREATE TRIGGER log_entries_remain BEFORE TRUNCATE ON log_entries FOR EACH STATEMENT EXECUTE FUNCTION refuse('an entry of the log cannot be changed or deleted');
CREATE TRIGGER log_nodes_stay BEFORE UPDATE OR DELETE ON log_nodes FOR EACH ROW EXECUTE FUNCTION refuse('the log cannot be changed');
CREATE TRIGGER log_nodes_remain BEFORE TRUNCATE ON log_nodes FOR EACH STATEMENT EXECUTE FUNCTION refuse('the log cannot be changed');
CREATE TRIGGER log_datasets_stay BEFORE UPDATE OR DELETE ON log_datasets FOR EACH ROW EXECUTE FUNCTION refuse('the log cannot be changed');
CREATE TRIGGER log_datasets_remain BEFORE TRUNCATE ON log_datasets FOR EACH STATEMENT EXECUTE FUNCTION refuse('the log cannot be changed');
CREATE TRIGGER policy_versions_stay BEFORE UPDATE OR DELETE ON policy_versions FOR EACH ROW EXECUTE FUNCTION refuse('a version of a policy cannot be changed or deleted');
CREATE TRIGGER policy_versions_remain BEFORE TRUNCATE ON policy_versions FOR EACH STATEMENT EXECUTE FUNCTION refuse('a version of a policy cannot be changed or deleted');
CREATE TRIGGER accounts_only_grow BEFORE UPDATE ON accounts FOR EACH ROW
WHEN (new.loss_steps < old.loss_steps OR new.delta_steps < old.delta_steps OR new.loss_kind <> old.loss_kind
    OR new.storage_key <> old.storage_key)
EXECUTE FUNCTION refuse('what an account has spent cannot be taken back');
CREATE TRIGGER accounts_remain BEFORE DELETE ON accounts FOR EACH ROW EXECUTE FUNCTION refuse('an account cannot be deleted');
CREATE TRIGGER accounts_stay BEFORE TRUNCATE ON accounts FOR EACH STATEMENT
EXECUTE FUNCTION refuse('an account cannot be deleted');
CREATE TRIGGER the_log_only_grows BEFORE UPDATE ON state FOR EACH ROW
WHEN (new.log_size < old.log_size OR new.next_charge < old.next_charge OR new.policies < old.policies)
EXECUTE FUNCTION refuse('the log only grows');
CREATE TRIGGER the_state_remains BEFORE DELETE ON state FOR EACH ROW EXECUTE FUNCTION refuse('the log only grows');
CREATE TRIGGER withdrawn_stays BEFORE UPDATE ON dataset_states FOR EACH ROW
WHEN (old.state = 'withdrawn' AND new.state <> 'withdrawn')
EXECUTE FUNCTION refuse('a dataset that was withdrawn cannot come back under its name');
