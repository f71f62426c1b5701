"""Totals: sums of bills by time and dimensions, final and accrued, exact at any time.

The room only reads: `ledger/` writes the sums. Start with `queries/totals.py`.
"""
