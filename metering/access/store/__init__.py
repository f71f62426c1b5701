"""SQL that writes keys, sessions, readers and idempotency keys."""
