"""SQL that writes dashboard sessions and finds the key of one. Only a hash of a session is stored."""

import secrets
from datetime import datetime

from sqlalchemy import Connection, text

from metering.access.keys import Key
from metering.access.store.keys import KEY_ROW, hash_of, key_of

_DROP_EXPIRED = text("DELETE FROM dashboard_sessions WHERE expires_at <= :now")
_ADD_SESSION = text(
    """
    INSERT INTO dashboard_sessions (session_hash, key_id, created_at, expires_at)
    VALUES (:session_hash, :key_id, :now, :expires_at)
    """
)


def begin_session(connection: Connection, *, key_id: str, now: datetime, ends_at: datetime) -> str:
    """Start a session of a key; returns the token for the browser. Expired sessions are deleted."""
    connection.execute(_DROP_EXPIRED, {"now": now})
    session = secrets.token_urlsafe(32)
    parameters = {"session_hash": hash_of(session), "key_id": key_id, "now": now, "expires_at": ends_at}
    connection.execute(_ADD_SESSION, parameters)
    return session


_KEY_OF_SESSION = text(
    f"""
    SELECT {KEY_ROW} FROM keys JOIN dashboard_sessions AS s USING (key_id)
    WHERE s.session_hash = :session_hash AND s.expires_at > :now AND keys.revoked_at IS NULL
      AND (keys.expires_at IS NULL OR keys.expires_at > :now)
    """
)


def key_of_session(connection: Connection, *, session: str, now: datetime) -> Key | None:
    """The key that a session signed in with; None when the session or the key is expired, or the key revoked."""
    row = connection.execute(_KEY_OF_SESSION, {"session_hash": hash_of(session), "now": now}).first()
    return key_of(row) if row is not None else None


_END_SESSION = text("DELETE FROM dashboard_sessions WHERE session_hash = :session_hash")


def end_session(connection: Connection, *, session: str) -> None:
    """Sign a session out."""
    connection.execute(_END_SESSION, {"session_hash": hash_of(session)})


_END_WITH_SECRET = text(
    "UPDATE dashboard_sessions SET expires_at = :ends_at WHERE key_id = :key_id AND expires_at > :ends_at"
    " AND created_at < :ends_at"
)


def end_sessions_with_secret(connection: Connection, *, key_id: str, ends_at: datetime) -> None:
    """End the sessions of a key that is rotated together with its old secret."""
    connection.execute(_END_WITH_SECRET, {"key_id": key_id, "ends_at": ends_at})
