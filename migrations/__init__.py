"""Alembic migrations; they run as the owner of the schema, never as the service."""

HEAD = "0032_late_charges"
"""The newest revision, which this code needs. Names begin with a number of four digits, which only grows."""
