"""Alembic migrations; they run as the owner of the schema, never as the service."""

HEAD = "0033_totals_by_key"
"""The newest revision, which this code needs. Names begin with a number of four digits, which only grows."""
