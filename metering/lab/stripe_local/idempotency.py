"""Idempotency keys as Stripe's v1 API keeps them: the first answer, whatever it was, is given again for a day."""

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
    """A status and a body. Further headers go out once: they are not kept."""

    status: int
    body: Any
    headers: Mapping[str, str] = field(default_factory=dict)


class KeyedAnswers:
    """Answers by key; kept with the store's objects."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._in_flight: set[str] = set()

    def earlier(self, key: str, request: str) -> Answer | None:
        """The answer that this very request got before.

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
        """A request that takes its time: others with its key are told so."""
        if key is None or key in self._in_flight:
            yield
            return
        self._in_flight.add(key)
        try:
            yield
        finally:
            self._in_flight.discard(key)

    def keep(self, key: str, request: str, answer: Answer) -> None:
        """Give this answer from now on, for a day; those that are older are forgotten."""
        self._store.forget_before(_KIND, self._oldest())
        kept = {"created": self._store.now(), "request": request, "status": answer.status, "body": answer.body}
        self._store.save({"id": f"key_{key}", "object": _KIND, **kept})

    def forget(self) -> None:
        """As after a day."""
        self._store.forget_before(_KIND, self._store.now() + 1)

    def _oldest(self) -> int:
        return self._store.now() - _LIFETIME_SECONDS


def fingerprint(endpoint: str, path: dict[str, str], form: dict[str, Any]) -> str:
    """What makes two requests the same."""
    return hashlib.sha256(json.dumps([endpoint, path, form], sort_keys=True).encode()).hexdigest()
