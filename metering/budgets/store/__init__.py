"""SQL that writes budgets, their windows and postings, holds and overruns."""
