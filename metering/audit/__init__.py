"""The audit: everything that is stored, derived once more from the journal, and compared."""
