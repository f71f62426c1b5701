"""Idempotency keys: a change that is asked for twice is made once and answered alike.

After the IETF's draft of the Idempotency-Key header: same key and request, same answer; another request, 422; in
flight, 409.
"""

from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256

from sqlalchemy import Connection, insert, select, text

from metering.core.errors import MeteringError
from metering.db.tables import idempotency_keys


class IdempotencyKeyReusedError(MeteringError):
    """The key was used for another request."""


class RequestInFlightError(MeteringError):
    """The same key is being worked on by another request right now."""


@dataclass(frozen=True, slots=True)
class IdempotencyKey:
    """A caller's name for a request, and a hash of what it asks for."""

    key: str
    request_hash: bytes

    @classmethod
    def of(cls, key: str, *asked: object) -> "IdempotencyKey":
        """The key of a request that asks for this."""
        return cls(key, sha256(repr(asked).encode()).digest())


_LOCK = text("SELECT pg_try_advisory_xact_lock(hashtextextended(:key, 6))")


def earlier_result(connection: Connection, key: IdempotencyKey) -> str | None:
    """The id of what this very request led to before; None when it is new, and now this transaction's.

    Raises:
        RequestInFlightError: another transaction has the key.
        IdempotencyKeyReusedError: the key belongs to a request that asked for something else.
    """
    if not connection.execute(_LOCK, {"key": key.key}).scalar_one():
        raise RequestInFlightError("Idempotency-Key: a request with this key is under way; ask again shortly")
    query = select(idempotency_keys).where(idempotency_keys.c.idempotency_key == key.key)
    row = connection.execute(query).first()
    if row is None:
        return None
    if row.request_hash != key.request_hash:
        raise IdempotencyKeyReusedError("Idempotency-Key: it was used for another request; take a new one")
    result_id: str = row.result_id
    return result_id


def remember_result(connection: Connection, key: IdempotencyKey, *, result_id: str, now: datetime) -> None:
    """Record what the request led to, in the transaction that made it."""
    connection.execute(
        insert(idempotency_keys).values(
            idempotency_key=key.key, request_hash=key.request_hash, result_id=result_id, created_at=now
        )
    )
