"""`GET /v1/models`: exact names of the configuration, and for its patterns what the upstreams list."""

import asyncio
import contextlib
import fnmatch
import logging
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import httpx2

from metering.gateway.routing import Routing
from metering.gateway.settings import Upstream

log = logging.getLogger(__name__)

_TIMEOUT_SECONDS = 5.0
_FRESH_SECONDS = 300.0
_MAX_BYTES = 4 << 20
_MAX_MODELS = 5_000
_WILD = frozenset("*?[")
# How Anthropic wants to be asked; other vendors want `authorization`.
_ANTHROPIC = {"anthropic-version": "2023-06-01"}


@dataclass(frozen=True, slots=True)
class Model:
    """A model that clients can request, and its owner."""

    name: str
    provider: str


class Models:
    """The lists of upstreams, asked for at most every five minutes."""

    def __init__(self) -> None:
        self._client = httpx2.Client(timeout=_TIMEOUT_SECONDS)
        self._lock = asyncio.Lock()
        self._known: dict[str, tuple[float, Sequence[str]]] = {}

    def close(self) -> None:
        with contextlib.suppress(RuntimeError):
            self._client.close()

    async def served(self, routing: Routing) -> list[Model]:
        """All models that a request would find an upstream for, each once, as far as they are known."""
        found: dict[str, Model] = {}
        for upstream in routing.upstreams:
            exact = [pattern for pattern in upstream.models if not _WILD.intersection(pattern)]
            wild = [pattern for pattern in upstream.models if _WILD.intersection(pattern)]
            listed = await self._listed(upstream) if wild else ()
            for name in (*exact, *_matching(listed, wild)):
                found.setdefault(name, Model(name, upstream.provider))
        return list(found.values())[:_MAX_MODELS]

    async def _listed(self, upstream: Upstream) -> Sequence[str]:
        async with self._lock:
            asked_at, names = self._known.get(upstream.base_url, (float("-inf"), ()))
            if time.monotonic() - asked_at < _FRESH_SECONDS:
                return names
            fresh = await asyncio.to_thread(self._ask, upstream)
            # An upstream that does not answer is not asked by every client; what it listed before still holds.
            self._known[upstream.base_url] = (time.monotonic(), names if fresh is None else fresh)
            return self._known[upstream.base_url][1]

    def _ask(self, upstream: Upstream) -> Sequence[str] | None:
        """The names that an upstream lists; None if it does not."""
        for headers in _ways_to_ask(upstream):
            try:
                answer = self._client.get(f"{upstream.base_url}/models", headers=headers)
                if answer.status_code == 200 and len(answer.content) <= _MAX_BYTES:
                    return [str(each["id"]) for each in answer.json()["data"]][:_MAX_MODELS]
            except (httpx2.HTTPError, httpx2.InvalidURL, ValueError, KeyError, TypeError) as error:
                log.warning("%s does not list its models: %r", upstream.base_url, error)
                return None
        log.warning("%s does not list its models", upstream.base_url)
        return None


def _ways_to_ask(upstream: Upstream) -> Iterable[dict[str, str]]:
    key = upstream.api_key
    if key is None:
        yield {}
        return
    if upstream.api_key_header not in (None, "authorization"):
        yield {str(upstream.api_key_header): key, **_ANTHROPIC}
        return
    yield {"authorization": f"Bearer {key}"}
    yield {"x-api-key": key, **_ANTHROPIC}


def _matching(names: Sequence[str], patterns: Sequence[str]) -> list[str]:
    return [name for name in names if any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)]
