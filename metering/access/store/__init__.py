"""SQL that writes keys, sessions, readers, idempotency keys and the audit log."""
