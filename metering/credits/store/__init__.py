"""SQL that writes grants, their entries and their sums by month."""
