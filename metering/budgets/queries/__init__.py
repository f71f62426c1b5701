"""SQL that reads budgets, holds and overruns."""
