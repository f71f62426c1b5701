"""PostgreSQL and Valkey from their wheels: their data folder, and how they are started, supervised and stopped."""
