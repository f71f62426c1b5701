"""SQL that reads grants and balances."""
