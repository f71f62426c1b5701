"""SQL that books charges and adjustments, and rolls up their sums."""
