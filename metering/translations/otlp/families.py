"""Spans within each other can describe the same call: the innermost with a usage is billed, and no other."""

from collections.abc import Iterable, Mapping

from metering.translations.otlp.records import SpanId


def innermost(
    *, calls: Mapping[SpanId, bool], failed: frozenset[SpanId], parents: Mapping[SpanId, SpanId]
) -> set[SpanId]:
    """The calls to bill, of `calls` with whether each has a usage. `parents` may lead through other spans.

    A call with a usage is dropped if one below it has a usage. A call without is dropped if there is any below it,
    or if one above it is billed: that one has what is missing here. One that `failed` stays below a billed one: it
    is an attempt of its own. Takes time in proportion to the number of spans.
    """
    with_usage = {span for span, has_usage in calls.items() if has_usage}
    billed = with_usage - above(with_usage, parents)
    bare = calls.keys() - with_usage - above(calls, parents)
    return billed | (bare & failed) | ((bare - failed) - _below(bare - failed, billed, parents))


def above(spans: Iterable[SpanId], parents: Mapping[SpanId, SpanId]) -> set[SpanId]:
    """All that is above any of these. Each step is taken once, so that circles end, too."""
    found: set[SpanId] = set()
    for span in spans:
        parent = parents.get(span)
        while parent is not None and parent not in found:
            found.add(parent)
            parent = parents.get(parent)
    return found


def _below(spans: Iterable[SpanId], billed: set[SpanId], parents: Mapping[SpanId, SpanId]) -> set[SpanId]:
    """Those of `spans` that are below a billed one."""
    known: dict[SpanId, bool] = dict.fromkeys(billed, True)
    found: set[SpanId] = set()
    for span in spans:
        path: dict[SpanId, None] = {}
        at = parents.get(span)
        while at is not None and at not in known and at not in path:
            path[at] = None
            at = parents.get(at)
        is_below = at is not None and known.get(at, False)
        known.update(dict.fromkeys(path, is_below))
        if is_below:
            found.add(span)
    return found
