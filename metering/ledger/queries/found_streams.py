"""Queries to find streams: finalized ones by their newest bill, ones in progress, or any by id."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from sqlalchemy import Connection, text

from metering.customers.queries.month_bounds import BillingMonths, moved_months, moved_parameters
from metering.db.citus import on_citus
from metering.ledger.queries.few_streams import FEW, Place, by_hours, places_of_few
from metering.streams.bill import Flag
from metering.streams.retries import NO_RETRY, RETRY
from metering.streams.store.streams import STREAM_COLUMNS, StoredStream, stored_stream


@dataclass(frozen=True, slots=True, kw_only=True)
class FinalFilter:
    """A filter for finalized streams. `from_` and `to` bound the end of the stream, half-open.

    With `months`, they are that month in UTC or some of its days, and each customer has the bounds of its own
    month, as in totals. None does not filter; "" matches an unknown value.
    """

    from_: datetime
    to: datetime
    customer_id: str | None = None
    provider: str | None = None
    model: str | None = None
    outcomes: Sequence[str] | None = None
    usage_source: str | None = None
    api_key_id: str | None = None
    retry: bool | None = None
    flag: Flag | None = None
    inlet: str | None = None
    months: BillingMonths | None = None

    @property
    def dimensions(self) -> dict[str, str]:
        """The single values that are dimensions of totals, as these have them."""
        found = {name: value for name in _EQUAL if (value := getattr(self, name)) is not None}
        return found if self.retry is None else found | {"retry": RETRY if self.retry else NO_RETRY}

    @property
    def reach(self) -> tuple[datetime, datetime]:
        """A range that has the streams of all customers, whose months begin and end at different times."""
        if self.months is None:
            return self.from_, self.to
        has_first, has_last = self.months.reaches_beyond((self.from_, self.to))
        first, last = self.months.period.in_any_zone
        return first if has_first else self.from_, last if has_last else self.to


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundStream:
    """A finalized stream by its newest bill. `usd_cents` is exact, without credits and corrections."""

    customer_id: str
    stream_id: str
    started_at: datetime
    ended_at: datetime
    provider: str
    model: str
    outcome: str
    usage_source: str
    api_key_id: str
    input_tokens: int | None
    cache_read_input_tokens: int | None
    output_tokens: int | None
    retry: bool
    adjusted: bool
    flags: Sequence[str]
    inlet: str
    usd_cents: Decimal


# (time, customer_id, stream_id): the time that a list is sorted by.
Position = tuple[datetime, str, str]

_EQUAL = ("customer_id", "provider", "model", "usage_source", "api_key_id", "retry", "inlet")


# The state of a stream by its newest bill. The condition on flags is the one of the indexes of flagged bills.
_FINAL = """
    SELECT * FROM (
        SELECT b.customer_id, b.stream_id, b.started_at, b.ended_at, b.provider, b.model, b.outcome,
               b.usage_source, coalesce(b.api_key_id, '') AS api_key_id, b.input_tokens,
               b.cache_read_input_tokens, b.output_tokens,
               b.retry_of IS NOT NULL AS retry, b.revision > 0 AS adjusted, b.flags, b.inlet,
               b.bill_usd_cents AS usd_cents
        FROM {places} newest_bills b
        WHERE NOT b.taken_back AND b.ended_at >= :from_ AND b.ended_at < :to {in_place}
    ) AS found
"""
_ALL = _FINAL.format(places="", in_place="")
_IN_PLACES = _FINAL.format(
    places="unnest(CAST(:hours AS timestamptz[]), CAST(:customers AS text[])) AS place (hour, customer_id),",
    in_place="""
        AND b.customer_id = place.customer_id AND b.ended_at >= place.hour
        AND b.ended_at < place.hour + interval '1 hour'
    """,
)
# Most customers' months are those of UTC, and are not in `moved`.
_IN_OWN_MONTH = """
    ended_at >= coalesce((SELECT m.starts_at FROM moved m WHERE m.customer_id = found.customer_id), :starts_at)
    AND ended_at < coalesce((SELECT m.ends_at FROM moved m WHERE m.customer_id = found.customer_id),
                            :month_ends_at)
"""


def _query(connection: Connection, where: FinalFilter, select: str = _ALL) -> tuple[str, dict[str, Any]]:
    """A query for the streams of a filter, up to its conditions, and its parameters."""
    conditions, given = _conditions(where)
    months = where.months
    if months is None:
        return f"{select} WHERE {' AND '.join(conditions)}", given
    given |= moved_parameters(connection, months)
    conditions.append(_IN_OWN_MONTH)
    return f"WITH {moved_months()} {select} WHERE {' AND '.join(conditions)}", given


def _conditions(where: FinalFilter) -> tuple[list[str], dict[str, Any]]:
    """The conditions on `found`, and their parameters."""
    given: dict[str, Any] = {name: value for name in _EQUAL if (value := getattr(where, name)) is not None}
    conditions = ["true", *(f"{name} = :{name}" for name in given)]
    if where.outcomes is not None:
        given["outcomes"] = list(where.outcomes)
        conditions.append("outcome = ANY(:outcomes)")
    if where.flag is not None:
        given["flags"] = [where.flag.value]
        conditions.append("flags <> '{}' AND flags @> :flags")
    return conditions, {**given, **dict(zip(("from_", "to"), where.reach, strict=True))}


def find_streams(
    connection: Connection,
    *,
    where: FinalFilter,
    before: Position | None,
    limit: int,
    expected: int | None = None,
) -> Sequence[FoundStream]:
    """Up to `limit` finalized streams, the latest end first, that come after the position `before`.

    `expected` is how many there are by the totals: a few are found without reading all streams of the range.
    """
    if expected is not None and expected <= FEW and where.flag is None and not on_citus(connection):
        found = _find_few(connection, where, before, limit)
        if found is not None:
            return found
    return _find(connection, where, before, limit)


def _find(
    connection: Connection,
    where: FinalFilter,
    before: Position | None,
    limit: int,
    places: Sequence[Place] | None = None,
) -> list[FoundStream]:
    """The first streams of the range, or of these hours and customers."""
    query, given = _query(connection, where, _ALL if places is None else _IN_PLACES)
    if places is not None:
        given |= {"hours": [hour for hour, _ in places], "customers": [customer_id for _, customer_id in places]}
    if before is not None:
        given |= dict(zip(("before", "before_customer", "before_stream"), before, strict=True))
        query += " AND (ended_at, customer_id, stream_id) < (:before, :before_customer, :before_stream)"
    query = f"""
        {query}
        ORDER BY ended_at DESC, customer_id DESC, stream_id DESC LIMIT :limit
    """
    return [FoundStream(**row._mapping) for row in connection.execute(text(query), {**given, "limit": limit})]


def _find_few(
    connection: Connection, where: FinalFilter, before: Position | None, limit: int
) -> list[FoundStream] | None:
    """The same by the hours in which there are some; None if these are many."""
    only: dict[str, Any] = dict(where.dimensions)
    if where.outcomes is not None:
        only["outcome"] = list(where.outcomes)
    places = places_of_few(connection, only=only, within=where.reach, before=before[0] if before else None)
    if places is None:
        return None
    found: list[FoundStream] = []
    for piece in by_hours(places, at_least=limit):
        found += _find(connection, where, before, limit - len(found), piece)
        if len(found) >= limit:
            break
    return found


def sum_of_streams(connection: Connection, *, where: FinalFilter) -> tuple[int, Decimal]:
    """(streams, exact cents) of all finalized streams that match, without credits and corrections.

    It reads each of them: for filters that only a few streams match and that the totals do not have.
    """
    sums = f"SELECT count(*) AS streams, coalesce(sum(usd_cents), 0) AS usd_cents FROM ({_ALL}) AS found"
    query, given = _query(connection, where, sums)
    row = connection.execute(text(query), given).one()
    return row.streams, row.usd_cents


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenFilter:
    """A filter for streams in progress, by what their start says. None does not filter; "" is no API key."""

    customer_id: str | None = None
    provider: str | None = None
    model: str | None = None
    api_key_id: str | None = None


_IS_UNDER_WAY = """
    s.due_at IS NOT NULL AND s.state IN ('open', 'ended')
      AND (CAST(:customer_id AS text) IS NULL OR s.customer_id = :customer_id)
      AND (CAST(:provider AS text) IS NULL OR s.start_data ->> 'provider' = :provider)
      AND (CAST(:model AS text) IS NULL OR s.start_data ->> 'model' = :model)
      AND (CAST(:api_key_id AS text) IS NULL OR coalesce(s.start_data ->> 'api_key_id', '') = :api_key_id)
"""
_UNDER_WAY = text(
    f"""
    SELECT {STREAM_COLUMNS} FROM streams s WHERE {_IS_UNDER_WAY}
    ORDER BY s.last_event_at DESC, s.customer_id, s.stream_id LIMIT :limit
    """
)


def list_under_way(connection: Connection, *, where: OpenFilter, limit: int) -> Sequence[StoredStream]:
    """Up to `limit` open and ended streams, the latest event first."""
    rows = connection.execute(_UNDER_WAY, {**asdict(where), "limit": limit})
    return [stored_stream(row) for row in rows]


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenStream:
    """A stream in progress, and when its first event was received."""

    stream: StoredStream
    first_received_at: datetime


_OPEN_SINCE = text(
    f"""
    SELECT {STREAM_COLUMNS}, s.first_received_at FROM streams s WHERE {_IS_UNDER_WAY}
      AND (CAST(:after AS timestamptz) IS NULL
           OR (s.first_received_at, s.customer_id, s.stream_id) > (:after, :after_customer, :after_stream))
    ORDER BY s.first_received_at, s.customer_id, s.stream_id LIMIT :limit
    """
)


def list_open(
    connection: Connection, *, where: OpenFilter, after: Position | None, limit: int
) -> Sequence[OpenStream]:
    """Up to `limit` open and ended streams that come after a position, the first received first.

    A position is (first_received_at, customer_id, stream_id). New events of a stream do not move it in this order.
    """
    position = dict(zip(("after", "after_customer", "after_stream"), after or (None, None, None), strict=True))
    rows = connection.execute(_OPEN_SINCE, {**asdict(where), **position, "limit": limit})
    return [OpenStream(stream=stored_stream(row), first_received_at=row.first_received_at) for row in rows]


# The ids that follow a prefix, in the order of the index: those that begin with it are among the first.
_BY_PREFIX = text(
    f"""
    SELECT {STREAM_COLUMNS} FROM customers
    CROSS JOIN LATERAL (SELECT * FROM streams WHERE streams.customer_id = customers.customer_id
                        AND streams.stream_id >= :prefix ORDER BY streams.stream_id LIMIT :limit) AS s
    WHERE (CAST(:customer_id AS text) IS NULL OR customers.customer_id = :customer_id)
      AND starts_with(s.stream_id, :prefix)
    ORDER BY s.stream_id <> :prefix, s.last_event_at DESC LIMIT :limit
    """
)
# Citus joins laterally without a limit only, so here ids are bounded on both sides.
_BY_PREFIX_ON_CITUS = text(
    f"""
    SELECT {STREAM_COLUMNS} FROM customers JOIN streams s ON s.customer_id = customers.customer_id
    WHERE s.stream_id >= :prefix AND s.stream_id <= :prefix || chr(1114111) AND starts_with(s.stream_id, :prefix)
      AND (CAST(:customer_id AS text) IS NULL OR customers.customer_id = :customer_id)
    ORDER BY s.stream_id <> :prefix, s.last_event_at DESC LIMIT :limit
    """
)


def find_by_prefix(
    connection: Connection, *, prefix: str, customer_id: str | None, limit: int
) -> Sequence[StoredStream]:
    """Up to `limit` streams whose id begins with this, of one customer or of any (None), the exact one first."""
    statement = _BY_PREFIX_ON_CITUS if on_citus(connection) else _BY_PREFIX
    rows = connection.execute(statement, {"prefix": prefix, "customer_id": customer_id, "limit": limit})
    return [stored_stream(row) for row in rows]


# The primary key begins with the customer, so this looks the id up once per customer: microseconds each.
_BY_ID = text(
    f"""
    SELECT {STREAM_COLUMNS} FROM customers
    CROSS JOIN LATERAL (SELECT * FROM streams WHERE streams.customer_id = customers.customer_id
                        AND streams.stream_id = :stream_id) AS s
    WHERE CAST(:customer_id AS text) IS NULL OR customers.customer_id = :customer_id
    ORDER BY s.last_event_at DESC LIMIT :limit
    """
)


def find_by_id(
    connection: Connection, *, stream_id: str, customer_id: str | None, limit: int
) -> Sequence[StoredStream]:
    """Up to `limit` streams with this id, of one customer or of any (None), the latest event first."""
    rows = connection.execute(_BY_ID, {"stream_id": stream_id, "customer_id": customer_id, "limit": limit})
    return [stored_stream(row) for row in rows]
