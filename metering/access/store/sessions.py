"""Sessions of the dashboard: a browser that signed in with a key. Only a hash of what it holds is stored."""

import secrets
from datetime import datetime, timedelta
from hashlib import sha256

from sqlalchemy import Connection, delete, insert, select

from metering.access.store.keys import Key, find_key
from metering.db.tables import dashboard_sessions


def begin_session(connection: Connection, *, key_id: str, now: datetime, lifetime: timedelta) -> str:
    """A new session of a key, as the browser is to send it; those that have expired are let go."""
    connection.execute(delete(dashboard_sessions).where(dashboard_sessions.c.expires_at <= now))
    session = secrets.token_urlsafe(32)
    connection.execute(
        insert(dashboard_sessions).values(
            session_hash=_hash(session), key_id=key_id, created_at=now, expires_at=now + lifetime
        )
    )
    return session


def key_of_session(connection: Connection, *, session: str, now: datetime) -> Key | None:
    """The key that it signed in with; None when the session is over, or the key is revoked."""
    row = connection.execute(
        select(dashboard_sessions.c.key_id).where(
            dashboard_sessions.c.session_hash == _hash(session), dashboard_sessions.c.expires_at > now
        )
    ).first()
    return find_key(connection, key_id=row.key_id) if row is not None else None


def end_session(connection: Connection, *, session: str) -> None:
    """Sign it out."""
    connection.execute(delete(dashboard_sessions).where(dashboard_sessions.c.session_hash == _hash(session)))


def _hash(session: str) -> bytes:
    # Random enough that a plain hash of it cannot be reversed.
    return sha256(session.encode()).digest()
