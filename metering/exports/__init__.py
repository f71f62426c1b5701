"""Exports: a month as a file (charges, invoice lines, FOCUS), as CSV or Parquet, streamed in bounded memory.

The rows of every file sum to the invoices, or the export ends with an error. The room also makes usage statements
for the API, the dashboard and the command line. Start with `export_month.py`.
"""
