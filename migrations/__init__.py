"""Alembic migrations; they run as the owner of the schema, never as the service."""

HEAD = "0014_money"
"""The newest revision, which this code needs."""
