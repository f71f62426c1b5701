"""The open attempts of a LiteLLM process: one metered stream for each request that went to an upstream.

A retry or a fallback goes to an upstream again, under the same details. It is an attempt of its own (decision 50).
"""

from collections import OrderedDict, deque
from collections.abc import Mapping
from typing import Any

from metering.emitter import MeteredStream
from metering.inlets.litellm_calls import Call

# Streams that the SDK's user left without a word are ended when there are more than this.
_MAX_OPEN = 10_000


class Attempt:
    """An attempt, and what is known of it. `owed` counts the failures that LiteLLM tells only later."""

    __slots__ = (
        "call_type",
        "error",
        "has_failed",
        "is_proxied",
        "is_streaming",
        "is_watched",
        "key",
        "model",
        "operation",
        "owed",
        "provider",
        "stream",
    )

    def __init__(self, *, stream: MeteredStream, details: Mapping[str, Any], call: Call, owed: int) -> None:
        self.stream = stream
        self.key = key_of(details)
        self.call_type = str(details.get("call_type"))
        self.provider = call.provider
        self.model = call.model
        self.operation = call.operation
        self.is_streaming = call.streaming
        self.is_proxied = bool((details.get("litellm_params") or {}).get("proxy_server_request"))
        self.is_watched = False
        # What its request has failed with, it seems, and whether LiteLLM has said so of this very call.
        self.error: Exception | None = None
        self.has_failed = False
        self.owed = owed

    def believes(self, usage: Mapping[str, Any]) -> bool:
        """Whether a usage among a stream's events is the upstream's, and not one that LiteLLM has made up.

        The events of Claude models pass as they are. In OpenAI's Responses format, LiteLLM's count has no details.
        """
        if self.call_type == "anthropic_messages":
            return "claude" in self.model
        return self.call_type in ("aresponses", "responses") and isinstance(
            usage.get("input_tokens_details"), Mapping
        )


Key = tuple[int, str]


def key_of(details: Mapping[str, Any]) -> Key:
    """What tells one call from another. The call id is not enough: clients can choose it."""
    return id(details), str(details.get("litellm_call_id"))


class Attempts:
    """The attempts that have not ended. Hooks get the details of a call, or a copy of them."""

    def __init__(self) -> None:
        self._open: OrderedDict[Key, Attempt] = OrderedDict()
        # Filled by finalizers, which may run anywhere: they do no more than that.
        self.dropped: deque[Key] = deque()

    def __len__(self) -> int:
        return len(self._open)

    def add(self, attempt: Attempt) -> None:
        self._open[attempt.key] = attempt

    def of(self, details: Mapping[str, Any]) -> Attempt | None:
        """The open attempt of exactly these details."""
        return self._open.get(key_of(details))

    def find(self, details: Mapping[str, Any]) -> Attempt | None:
        """The open attempt of a call: by its own details, or by the call id where LiteLLM gives a copy."""
        found = self.of(details) or self.only(details.get("litellm_call_id"))
        # Of the proxy's calls, the id is the client's: it could be that of another request.
        return None if found is not None and found.is_proxied and found is not self.of(details) else found

    def only(self, call_id: object) -> Attempt | None:
        """The open attempt with this call id, if there is no other one with it."""
        found = [attempt for (_, other), attempt in list(self._open.items()) if other == call_id]
        return found[0] if len(found) == 1 else None

    def is_dropped(self, attempt: Attempt) -> bool:
        """Whether LiteLLM has forgotten the call."""
        return attempt.key in self.dropped

    def take(self, attempt: Attempt) -> bool:
        """Remove an attempt that ends; False if it has ended before."""
        if self._open.get(attempt.key) is not attempt:
            return False
        del self._open[attempt.key]
        return True

    def left_over(self) -> list[Attempt]:
        """The attempts whose call LiteLLM has forgotten, and the oldest where there are too many."""
        found = []
        while self.dropped:
            attempt = self._open.get(self.dropped.popleft())
            if attempt is not None and not attempt.is_watched:
                found.append(attempt)
        if len(self._open) > _MAX_OPEN:
            found.append(next(iter(self._open.values())))
        return found
