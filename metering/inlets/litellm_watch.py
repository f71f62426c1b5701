"""Follows one stream while LiteLLM passes it on: counts what comes, and decides whose usage is believed."""

from collections.abc import Mapping
from typing import Any

from metering.answers.usage import usage_objects
from metering.emitter import MeteredStream
from metering.inlets.litellm_answers import (
    SseReader,
    as_document,
    has_finish,
    kept_chunks,
    usage_in,
    without_usage,
)
from metering.inlets.litellm_attempts import Attempt, Attempts
from metering.inlets.litellm_whole import take_doubtful


class Watch:
    """`details` are those of the call; `response` is what LiteLLM's wrapper of the stream is."""

    def __init__(self, *, attempts: Attempts, details: Mapping[str, Any], response: object) -> None:
        self._attempts = attempts
        self._details = details
        self._kept = kept_chunks(response)
        self._seen = 0
        self._reader = SseReader()
        self._doubtful: dict[str, Any] = {}
        self._attempt: Attempt | None = None
        self._follow()

    @property
    def attempt(self) -> Attempt | None:
        """The attempt that the stream is of; None if LiteLLM has asked no upstream."""
        return self._attempt

    @property
    def awaits_usage(self) -> bool:
        """Whether the answer is complete, and its usage is not there yet."""
        attempt = self._attempt
        return attempt is not None and attempt.stream.is_finished and not attempt.stream.has_final_usage

    def take(self, item: object) -> None:
        """Count an item of the stream."""
        self._follow()
        attempt = self._attempt
        if attempt is None:
            return
        if isinstance(item, bytes | str):
            for document in self._reader.documents(item):
                self._take_document(attempt, document, {})
            return
        usage = self._reported(attempt.stream)
        self._take_document(attempt, as_document(item) or {}, usage)

    def finish(self) -> str | None:
        """Take what is left at the end; what is missing in an answer that ended without an error, if anything."""
        self._follow()
        attempt = self._attempt
        if attempt is None:
            return None
        if usage := self._reported(attempt.stream):
            attempt.stream.take({"choices": [], **usage})
        if self._doubtful and not attempt.stream.has_final_usage:
            take_doubtful(attempt, self._doubtful)
        is_cut = self._kept is not None and not any(map(has_finish, self._kept[-16:]))
        return "upstream_incomplete" if is_cut else None

    def _follow(self) -> None:
        """Turn to the present attempt: LiteLLM may have gone to another deployment amid the stream."""
        present = self._attempts.of(self._details)
        if present is None or present is self._attempt:
            return
        if self._attempt is not None:
            # The chunks that can be reached are those of the first deployment.
            self._kept = None
        self._attempt = present
        present.is_watched = True

    def _take_document(self, attempt: Attempt, document: dict[str, Any], usage: dict[str, Any]) -> None:
        shown = usage_objects(document) if self._kept is None else []
        if shown and all(map(attempt.believes, shown)):
            attempt.stream.take(document)
            return
        for doubtful in shown:
            self._doubtful.update(doubtful)
        attempt.stream.take({**without_usage(document), **usage})

    def _reported(self, stream: MeteredStream) -> dict[str, Any]:
        """The usage that the upstream has reported with the newest chunk; that of earlier ones is taken."""
        if self._kept is None:
            return {}
        new, self._seen = self._kept[self._seen :], len(self._kept)
        found = [usage for chunk in new if (usage := usage_in(chunk)) is not None]
        if not found:
            return {}
        for usage in found[:-1]:
            stream.take({"choices": [], "usage": usage})
        if usage_in(new[-1]) is None:
            stream.take({"choices": [], "usage": found[-1]})
            return {}
        return {"usage": found[-1]}
