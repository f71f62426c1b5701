"""SQL that reads grants: their entries, balances and deferred revenue."""
