-- A batch looks its idempotency keys up without their consumers. This file never changes once released: add another.

CREATE INDEX idempotency_keys_by_key ON idempotency_keys (key);
