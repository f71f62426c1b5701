"""Totals: sums of bills by time and dimensions, final and accrued, exact at any moment.

The sums themselves are written by `ledger/`. Start with `queries/totals.py`.
"""
