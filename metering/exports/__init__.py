"""Exports: a month as a file (charges, invoice lines, FOCUS), as CSV or Parquet, streamed in bounded memory.

Every file sums to its invoices or ends in an error. Start with `export_month.py`.
"""
