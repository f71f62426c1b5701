"""What the reference gateway told about its streams, read from the journal, and what they cost by it.

A gateway that is killed may not have told the end of a stream, and one that is stopped counts by itself: what its
streams cost follows from what it got acknowledged. The bodies are read as any reader of the contract would.
"""

import json
from collections.abc import Iterable
from fractions import Fraction
from typing import Any

import psycopg

from metering.events.wire.bodies import unpack_body
from metering.lab.chaos import oracle
from metering.lab.chaos.oracle import Key

_BODIES = "SELECT body, rejected FROM journal WHERE ingest_key_id = %s ORDER BY received_at, journal_id"
# Who counted, the better ones first.
_RANKS = ("provider", "gateway_count", "estimate", None)


def told_costs(connection: psycopg.Connection, *, ingest_key_id: str) -> dict[Key, Fraction]:
    """The cost of each stream that was posted with this key."""
    streams: dict[Key, list[dict[str, Any]]] = {}
    for body, rejected in connection.execute(_BODIES, (ingest_key_id,)):
        for index, event in enumerate(_events(unpack_body(bytes(body)))):
            if index not in (rejected or ()):
                streams.setdefault((event["subject"], event["data"]["stream_id"]), []).append(event)
    return {key: _cost(events) for key, events in streams.items()}


def _events(body: bytes) -> Iterable[dict[str, Any]]:
    text = body.decode()
    if text.lstrip().startswith("["):
        listed: list[dict[str, Any]] = json.loads(text)
        return listed
    return [json.loads(line) for line in text.splitlines() if line.strip()]


def _cost(events: Iterable[dict[str, Any]]) -> Fraction:
    """The usage of the best end; without one, the input of the start and the most that was delivered.

    A stream that did not complete, delivered nothing, and whose upstream reported nothing costs nothing.
    """
    starts = [event["data"] for event in events if event["type"] == "stream-start"]
    counts = [event["data"]["output_tokens"] for event in events if event["type"] == "token-delivered"]
    ends = [event["data"] for event in events if event["type"] == "stream-end"]
    end = min(ends, key=lambda end: _RANKS.index(end.get("usage_source"))) if ends else {}
    usage = end.get("usage") or {}
    given = usage.get("input_tokens", starts[0].get("input_tokens", 0))
    output = usage.get("output_tokens", max(counts, default=0))
    if not output and end.get("outcome") != "completed" and end.get("usage_source") != "provider":
        return Fraction(0)
    return oracle.tokens_cost(starts[0]["model"], given, output)
