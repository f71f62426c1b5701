"""Alembic migrations; they run as the owner of the schema, never as the service."""

HEAD = "0016_access"
"""The newest revision, which this code needs."""
