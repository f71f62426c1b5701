"""Idempotency keys: a change that is requested twice is made once and gets the same answer.

As in the IETF's draft of the Idempotency-Key header: the same key and request get the same answer, the same key
with another request gets 422, and 409 while the first request is in flight.
"""

from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256

from sqlalchemy import Connection, text

from metering.core.errors import MeteringError
from metering.db.locks import try_to_take_named


class IdempotencyKeyReusedError(MeteringError):
    """The key was used for another request."""


class RequestInFlightError(MeteringError):
    """Another request with the same key is in flight."""


@dataclass(frozen=True, slots=True)
class IdempotencyKey:
    """A caller's name for a request, and a hash of the request."""

    key: str
    request_hash: bytes

    @classmethod
    def of(cls, key: str, *arguments: object) -> "IdempotencyKey":
        """The key, with a hash of the request's arguments."""
        return cls(key, sha256(repr(arguments).encode()).digest())


_EARLIER = text("SELECT request_hash, result_id FROM idempotency_keys WHERE idempotency_key = :key")
_REMEMBER = text(
    """
    INSERT INTO idempotency_keys (idempotency_key, request_hash, result_id, created_at)
    VALUES (:key, :request_hash, :result_id, :now)
    """
)


def earlier_result(connection: Connection, key: IdempotencyKey) -> str | None:
    """The result id of the same earlier request; None if the request is new: this transaction then holds the key.

    Raises:
        RequestInFlightError: another transaction holds the key.
        IdempotencyKeyReusedError: the key belongs to another request.
    """
    if not try_to_take_named(connection, key.key):
        raise RequestInFlightError("Idempotency-Key: a request with this key is in flight; try again shortly")
    row = connection.execute(_EARLIER, {"key": key.key}).first()
    if row is None:
        return None
    if row.request_hash != key.request_hash:
        raise IdempotencyKeyReusedError("Idempotency-Key: already used for another request; use a new key")
    result_id: str = row.result_id
    return result_id


def remember_result(connection: Connection, key: IdempotencyKey, *, result_id: str, now: datetime) -> None:
    """Record the result of the request, in the transaction that made it."""
    connection.execute(
        _REMEMBER, {"key": key.key, "request_hash": key.request_hash, "result_id": result_id, "now": now}
    )
