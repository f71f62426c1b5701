"""Idempotency keys as Stripe's v1 API keeps them: the first answer, whatever it was, is given again for a day."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from metering.stripe_local.errors import RefusedError
from metering.stripe_local.store import Store

_LIFETIME_SECONDS = 24 * 3600


@dataclass(frozen=True, slots=True)
class Answer:
    """A status and a body."""

    status: int
    body: Any


class KeyedAnswers:
    """Answers by key; kept with the store's objects."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._in_flight: set[str] = set()

    def take(self, key: str, endpoint: str, params: dict[str, Any]) -> Answer | None:
        """The earlier answer of this very request; None when it is new, and now in flight.

        Raises:
            RefusedError: it is in flight, or the key is another request's.
        """
        if key in self._in_flight:
            raise RefusedError(
                "There is currently another in-progress request using this Idempotent Key.",
                status=409,
                kind="idempotency_error",
                code="idempotency_key_in_use",
                kept=False,
            )
        found = self._store.find("idempotency_key", f"key_{key}")
        if found is not None and self._store.now() - found["created"] < _LIFETIME_SECONDS:
            if found["request"] != _request(endpoint, params):
                raise RefusedError(
                    "Keys for idempotent requests can only be used with the same parameters they were first used"
                    " with.",
                    kind="idempotency_error",
                    kept=False,
                )
            return Answer(found["status"], found["body"])
        self._in_flight.add(key)
        return None

    @contextmanager
    def held(self, key: str | None) -> Iterator[None]:
        """A request that takes its time: others with its key are told so."""
        if key is None or key in self._in_flight:
            yield
            return
        self._in_flight.add(key)
        try:
            yield
        finally:
            self._in_flight.discard(key)

    def end(self, key: str, endpoint: str, params: dict[str, Any], answer: Answer | None) -> None:
        """The request is over; its answer is kept unless there is none to keep."""
        self._in_flight.discard(key)
        if answer is not None:
            self._store.save(
                {
                    "id": f"key_{key}",
                    "object": "idempotency_key",
                    "created": self._store.now(),
                    "request": _request(endpoint, params),
                    "status": answer.status,
                    "body": answer.body,
                }
            )

    def forget(self) -> None:
        """As after a day."""
        for found in self._store.all("idempotency_key"):
            self._store.remove(found["id"])


def _request(endpoint: str, params: dict[str, Any]) -> str:
    return f"{endpoint} {json.dumps(params, sort_keys=True)}"
