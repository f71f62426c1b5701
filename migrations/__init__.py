"""Alembic migrations; they run as the owner of the schema, never as the service."""
