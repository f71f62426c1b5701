"""Use cases: one verb, one file, one transaction. Time is an argument."""
