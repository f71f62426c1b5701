"""Finds the hours of the few streams that match a filter, so that not all streams of a month have to be read.

The sums by day say which customers have such streams on which days, and their sums by hour in which hours.
"""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, text

from metering.ledger.rollups import DETAILED

# With more, those of one page are soon found among all streams.
FEW = 10_000
# More places than streams are possible, because pending sums can cancel each other out.
_MOST_PLACES = 2 * FEW

# (start of the hour, customer_id).
Place = tuple[datetime, str]

_PLACES = """
    WITH days AS MATERIALIZED (
        SELECT DISTINCT customer_id, day FROM totals_daily
        WHERE day >= date_trunc('day', CAST(:from_ AS timestamptz)) AND day < :to AND stream_count <> 0 AND {only}
    ), places AS (
        SELECT t.hour, t.customer_id FROM days d JOIN {hourly} t
            ON t.customer_id = d.customer_id AND t.hour >= d.day AND t.hour < d.day + interval '1 day'
        WHERE t.stream_count <> 0 AND {hourly_only}
        UNION
        SELECT hour, customer_id FROM totals_pending
        WHERE hour >= date_trunc('hour', CAST(:from_ AS timestamptz)) AND hour < :to AND {only}
    )
    SELECT hour, customer_id FROM places
    WHERE CAST(:before AS timestamptz) IS NULL OR hour <= :before
    ORDER BY hour DESC, customer_id DESC LIMIT :most
"""


def places_of_few(
    connection: Connection, *, only: Mapping[str, Any], within: tuple[datetime, datetime], before: datetime | None
) -> Sequence[Place] | None:
    """The hours and customers that have streams with these values, the newest first; None if there are many.

    `only` names dimensions of the sums; a list matches any of its values. Hours after `before` are left out.
    """
    conditions = [
        f"{{of}}{name} = ANY(:{name})" if isinstance(value, list) else f"{{of}}{name} = :{name}"
        for name, value in only.items()
    ]
    both = " AND ".join(conditions) or "true"
    query = _PLACES.format(hourly=DETAILED.table, only=both.format(of=""), hourly_only=both.format(of="t."))
    parameters = {**only, "from_": within[0], "to": within[1], "before": before, "most": _MOST_PLACES + 1}
    found = connection.execute(text(query), parameters).all()
    return None if len(found) > _MOST_PLACES else [(row.hour, row.customer_id) for row in found]


def by_hours(places: Sequence[Place], *, at_least: int) -> Iterator[Sequence[Place]]:
    """The places in pieces of whole hours of `at_least` places each, but the last."""
    piece: list[Place] = []
    for place in places:
        if len(piece) >= at_least and place[0] != piece[-1][0]:
            yield piece
            piece = []
        piece.append(place)
    if piece:
        yield piece
