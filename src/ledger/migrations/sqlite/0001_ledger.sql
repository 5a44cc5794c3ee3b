-- The ledger, first schema. Amounts are integers in the steps that src/accounting/amounts.rs defines; times are
-- microseconds since 1970 in UTC. No column is a float. This file never changes once released: add another.

CREATE TABLE consumers (
    name       TEXT    NOT NULL PRIMARY KEY CHECK (name <> ''),
    agency     TEXT,
    frozen     INTEGER NOT NULL DEFAULT 0 CHECK (frozen IN (0, 1)),
    created_us INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- The secret itself is never here: only its SHA-256.
CREATE TABLE tokens (
    id            TEXT    NOT NULL PRIMARY KEY,
    secret_sha256 BLOB    NOT NULL UNIQUE CHECK (length(secret_sha256) = 32),
    role          TEXT    NOT NULL CHECK (role IN ('analyst', 'steward', 'budget-admin', 'auditor', 'operator')),
    consumer      TEXT    REFERENCES consumers (name),
    owner         TEXT,
    created_us    INTEGER NOT NULL,
    revoked_us    INTEGER,
    CHECK ((role = 'analyst') = (consumer IS NOT NULL)),
    CHECK ((role = 'steward') = (owner IS NOT NULL))
) STRICT;

CREATE TABLE grants (
    consumer      TEXT    NOT NULL REFERENCES consumers (name),
    dataset       TEXT    NOT NULL,
    epsilon_steps INTEGER NOT NULL CHECK (epsilon_steps >= 0),
    delta_steps   INTEGER NOT NULL CHECK (delta_steps >= 0),
    per           TEXT    NOT NULL,
    set_us        INTEGER NOT NULL,
    PRIMARY KEY (consumer, dataset)
) STRICT, WITHOUT ROWID;

-- An account is known by its storage key; the columns beside it are for reports. The sums are those of its lines.
CREATE TABLE accounts (
    id          INTEGER PRIMARY KEY,
    storage_key TEXT    NOT NULL UNIQUE,
    scope       TEXT    NOT NULL,
    subject     TEXT    NOT NULL,
    dataset     TEXT    NOT NULL,
    budget_window TEXT  NOT NULL,
    loss_kind   TEXT    NOT NULL CHECK (loss_kind IN ('zcdp', 'pure')),
    loss_steps  INTEGER NOT NULL CHECK (loss_steps >= 0),
    delta_steps INTEGER NOT NULL CHECK (delta_steps >= 0)
) STRICT;

-- A charge's id is its place in the order of acceptance. `price` is a hash over what each dataset costs: charges of one
-- release key, precision and price pay for one draw.
CREATE TABLE charges (
    id          INTEGER PRIMARY KEY,
    consumer    TEXT    NOT NULL REFERENCES consumers (name),
    release_key BLOB    NOT NULL CHECK (length(release_key) = 32),
    precision   INTEGER NOT NULL CHECK (precision > 0),
    price       BLOB    NOT NULL CHECK (length(price) = 32),
    outcome     TEXT    NOT NULL CHECK (outcome IN ('charged', 'shared')),
    at_us       INTEGER NOT NULL,
    query_id    TEXT    NOT NULL,
    sql         TEXT    NOT NULL,
    purpose     TEXT,
    datasets    TEXT    NOT NULL
) STRICT;
CREATE INDEX charges_by_release ON charges (release_key, precision, price, consumer);

-- `loss` is what the account paid, in its own measure; `drawn` is the loss of the noise itself, which is what a better
-- accountant would start from (they differ where Laplace noise was charged to a zCDP account).
CREATE TABLE charge_lines (
    charge      INTEGER NOT NULL REFERENCES charges (id),
    account     INTEGER NOT NULL REFERENCES accounts (id),
    loss_kind   TEXT    NOT NULL CHECK (loss_kind IN ('zcdp', 'pure')),
    loss_steps  INTEGER NOT NULL CHECK (loss_steps > 0),
    delta_steps INTEGER NOT NULL CHECK (delta_steps >= 0),
    drawn_kind  TEXT    NOT NULL CHECK (drawn_kind IN ('zcdp', 'pure')),
    drawn_steps INTEGER NOT NULL CHECK (drawn_steps > 0),
    PRIMARY KEY (charge, account)
) STRICT, WITHOUT ROWID;

CREATE TABLE idempotency_keys (
    consumer     TEXT    NOT NULL REFERENCES consumers (name),
    key          TEXT    NOT NULL,
    request_hash BLOB    NOT NULL CHECK (length(request_hash) = 32),
    charge       INTEGER NOT NULL REFERENCES charges (id),
    PRIMARY KEY (consumer, key)
) STRICT, WITHOUT ROWID;

-- The first draw that is stored is the one that everybody is shown.
CREATE TABLE held_releases (
    release_key BLOB    NOT NULL,
    precision   INTEGER NOT NULL,
    price       BLOB    NOT NULL,
    charge      INTEGER NOT NULL REFERENCES charges (id),
    payload     BLOB    NOT NULL,
    facts       TEXT    NOT NULL,
    kept_us     INTEGER NOT NULL,
    PRIMARY KEY (release_key, precision, price)
) STRICT;

-- What was spent stays spent, and what was drawn stays drawn, whoever writes the SQL.
CREATE TRIGGER charges_stay BEFORE UPDATE ON charges
BEGIN SELECT raise(ABORT, 'a charge cannot be changed'); END;
CREATE TRIGGER charges_remain BEFORE DELETE ON charges
BEGIN SELECT raise(ABORT, 'a charge cannot be deleted'); END;
CREATE TRIGGER charge_lines_stay BEFORE UPDATE ON charge_lines
BEGIN SELECT raise(ABORT, 'a charge line cannot be changed'); END;
CREATE TRIGGER charge_lines_remain BEFORE DELETE ON charge_lines
BEGIN SELECT raise(ABORT, 'a charge line cannot be deleted'); END;
CREATE TRIGGER accounts_only_grow BEFORE UPDATE ON accounts
WHEN new.loss_steps < old.loss_steps OR new.delta_steps < old.delta_steps OR new.loss_kind <> old.loss_kind
    OR new.storage_key <> old.storage_key
BEGIN SELECT raise(ABORT, 'what an account has spent cannot be taken back'); END;
CREATE TRIGGER accounts_remain BEFORE DELETE ON accounts
BEGIN SELECT raise(ABORT, 'an account cannot be deleted'); END;
CREATE TRIGGER held_releases_stay BEFORE UPDATE ON held_releases
BEGIN SELECT raise(ABORT, 'a held release cannot be changed'); END;
CREATE TRIGGER held_releases_remain BEFORE DELETE ON held_releases
BEGIN SELECT raise(ABORT, 'a held release cannot be deleted: it would be drawn anew, and noise averages away'); END;
