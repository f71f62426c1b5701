"""Alembic migrations; they run as the owner of the schema, never as the service."""

HEAD = "0012_usage"
"""The newest revision, which this code needs."""
