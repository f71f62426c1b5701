"""SQL that writes rate cards and terms, and loads them as a price book. Rows are only added, never changed."""
