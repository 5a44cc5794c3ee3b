-- When an idempotency key was given, so that it may be forgotten. Of keys from before this, when their charge was made.
-- This file never changes once released: add another.

ALTER TABLE idempotency_keys ADD COLUMN used_us BIGINT NOT NULL DEFAULT 0;
UPDATE idempotency_keys SET used_us = (SELECT c.at_us FROM charges c WHERE c.id = idempotency_keys.charge);
CREATE INDEX idempotency_keys_by_time ON idempotency_keys (used_us);
