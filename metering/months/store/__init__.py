"""SQL that closes months and stores invoices."""
