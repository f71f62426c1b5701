"""Idempotency keys as in Stripe's v1 API: the first answer to a key, also an error, is given again for a day."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from metering.lab.stripe_local.errors import RefusedError
from metering.lab.stripe_local.store import Store

_KIND = "idempotency_key"
_LIFETIME_SECONDS = 24 * 3600


@dataclass(frozen=True, slots=True)
class Answer:
    """A status and a body. The `headers` are sent once and not kept."""

    status: int
    body: Any
    headers: Mapping[str, str] = field(default_factory=dict)


class KeyedAnswers:
    """Answers by key, kept in the store."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._in_flight: set[str] = set()

    def earlier(self, key: str, request: str) -> Answer | None:
        """The answer that the same request with this key got before; None for a new key.

        `request` is the `fingerprint` of the request.

        Raises:
            RefusedError: a request with this key is in progress, or the key belongs to another request.
        """
        if key in self._in_flight:
            raise RefusedError(
                "There is currently another in-progress request using this Idempotent Key.",
                status=409,
                kind="idempotency_error",
                code="idempotency_key_in_use",
                kept=False,
            )
        found = self._store.find(_KIND, f"key_{key}")
        if found is None or found["created"] <= self._oldest():
            return None
        if found["request"] != request:
            raise RefusedError(
                "Keys for idempotent requests can only be used with the same parameters they were first used"
                " with.",
                kind="idempotency_error",
                kept=False,
            )
        return Answer(found["status"], found["body"])

    @contextmanager
    def held(self, key: str | None) -> Iterator[None]:
        """Within the block, further requests with this key are refused as in progress."""
        if key is None or key in self._in_flight:
            yield
            return
        self._in_flight.add(key)
        try:
            yield
        finally:
            self._in_flight.discard(key)

    def keep(self, key: str, request: str, answer: Answer) -> None:
        """Keep this answer for a day; deletes the answers that are older."""
        self._store.delete_before(_KIND, self._oldest())
        kept = {"created": self._store.now(), "request": request, "status": answer.status, "body": answer.body}
        self._store.save({"id": f"key_{key}", "object": _KIND, **kept})

    def forget(self) -> None:
        """Delete all answers."""
        self._store.delete_before(_KIND, self._store.now() + 1)

    def _oldest(self) -> int:
        return self._store.now() - _LIFETIME_SECONDS


def fingerprint(endpoint: str, path: dict[str, str], form: dict[str, Any]) -> str:
    """Equal for two requests with the same endpoint and parameters."""
    return hashlib.sha256(json.dumps([endpoint, path, form], sort_keys=True).encode()).hexdigest()
