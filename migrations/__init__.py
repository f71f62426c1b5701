"""Alembic migrations; they run as the owner of the schema, never as the service."""

HEAD = "0015_limits"
"""The newest revision, which this code needs."""
