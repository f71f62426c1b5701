"""Meters a whole answer: of an unstreamed request, or of a stream that was not followed."""

from collections.abc import Mapping
from typing import Any

from metering.emitter import Usage, usage_of
from metering.inlets.litellm_answers import as_document, raw_answer, usage_in, without_usage
from metering.inlets.litellm_attempts import Attempt


def take_whole(attempt: Attempt, details: Mapping[str, Any], response: object) -> None:
    """Take an answer: the upstream's own, which LiteLLM keeps, or else what LiteLLM has made of it.

    LiteLLM adds a usage of its own where the upstream has none. Without the upstream's answer, it is an estimate.
    """
    stream = attempt.stream
    document = as_document(response) or {}
    raw, has_usage = (None, False) if attempt.is_streaming else raw_answer(details)
    reported = usage_in(raw if raw is not None else document)
    if raw is not None:
        stream.take(raw)
    elif has_usage or (reported is not None and attempt.believes(reported)):
        stream.take(document)
    else:
        stream.take(without_usage(document))
        if reported is not None:
            take_doubtful(attempt, reported)
        return
    if has_usage and attempt.operation == "embeddings" and reported is not None:
        # There is no output that the usage could be held against.
        stream.usage(usage_of(reported, provider=attempt.provider), source="provider")


def take_doubtful(attempt: Attempt, usage: dict[str, Any]) -> None:
    """Take a usage that may be the upstream's or LiteLLM's own count, as an estimate; an empty one is left out."""
    known = usage_of(usage, provider=attempt.provider)
    if known.input_tokens and known.output_tokens:
        # LiteLLM writes 0 for what it does not know.
        counts: dict[str, Any] = {name: count for name, count in known.known().items() if count}
        attempt.stream.usage(Usage(**counts), source="estimate")
