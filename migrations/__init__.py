"""Alembic migrations; they run as the owner of the schema, never as the service."""

HEAD = "0013_prices_by_weekday"
"""The newest revision, which this code needs."""
