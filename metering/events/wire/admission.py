"""Which valid events a key may post: with a customer id without control characters, of what the key is bound to.

This is checked when events arrive, and not when they are decoded: what was accepted once stays valid in the
journal.
"""

import re
from collections.abc import Iterator

from metering.events.wire.decode import Decoded
from metering.events.wire.events import WireEvent
from metering.events.wire.rejections import Rejection

# A line break or an invisible character in an id makes two customers look alike, and breaks logs and files.
CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")


def admit(decoded: Decoded, *, customer_id: str | None, source: str | None) -> Decoded:
    """The events without those that the key may not post, which are rejected one by one.

    `customer_id` and `source` are what the key is bound to, or None.
    """
    if _all_admitted(decoded, customer_id, source):
        return decoded
    rejected = {each.index for each in decoded.rejections}
    places = [index for index in range(decoded.count) if index not in rejected]
    refused = {
        index: Rejection(index=index, id=event.id, code=code, detail=detail)
        for index, event in zip(places, decoded.events, strict=True)
        for code, detail in _problems(event, customer_id, source)
    }
    return Decoded(
        events=[each for index, each in zip(places, decoded.events, strict=True) if index not in refused],
        rejections=sorted([*decoded.rejections, *refused.values()], key=lambda each: each.index),
        count=decoded.count,
        warnings=decoded.warnings,
    )


def _all_admitted(decoded: Decoded, customer_id: str | None, source: str | None) -> bool:
    """The usual case, by the few different customers of a request."""
    subjects = {event.subject for event in decoded.events}
    if any(map(CONTROL.search, subjects)) or (customer_id is not None and subjects - {customer_id}):
        return False
    return source is None or all(event.source == source for event in decoded.events)


def _problems(event: WireEvent, customer_id: str | None, source: str | None) -> Iterator[tuple[str, str]]:
    if CONTROL.search(event.subject):
        yield "invalid-field", f"subject: expected a customer id without control characters, got {event.subject!r}"
    elif customer_id is not None and event.subject != customer_id:
        yield "forbidden", f"subject: this key posts only events of customer {customer_id!r}"
    elif source is not None and event.source != source:
        yield "forbidden", f"source: this key posts only events of source {source!r}"
