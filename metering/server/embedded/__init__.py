"""The real PostgreSQL and Valkey from their wheels: where their data lives, how they start, run and stop."""
