"""Meters a realtime session of LiteLLM: one stream, with the usage of all its responses.

LiteLLM announces each message of the client as a call to the upstream, under the same details. At the end it tells
which events the upstream has sent: each `response.done` among them has the usage of one response.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from metering.emitter import Usage, usage_of
from metering.inlets.litellm_answers import as_document
from metering.inlets.litellm_attempts import Attempt


def take_session(attempt: Attempt, told: object) -> None:
    """Take what LiteLLM tells of a session at its end: its events, or an object with them as `results`.

    A session without a response has used nothing. Transcripts of what the client says have a usage of their own,
    which LiteLLM does not keep.
    """
    counted: Counter[str] = Counter(input_tokens=0, output_tokens=0)
    for usage in _usages(told):
        counted.update(
            {name: int(count) for name, count in usage_of(usage, provider=attempt.provider).known().items()}
        )
    attempt.stream.usage(Usage(**counted), source="provider")  # type: ignore[arg-type]


def _usages(told: object) -> Iterator[Mapping[str, Any]]:
    events = told if isinstance(told, list) else (as_document(told) or {}).get("results")
    for event in events if isinstance(events, list) else ():
        document = as_document(event) or {}
        response = document.get("response")
        if document.get("type") == "response.done" and isinstance(response, Mapping):
            usage = response.get("usage")
            if isinstance(usage, Mapping):
                yield usage
