"""`GET /v1/totals`: sums by group and time, compared with another range where asked."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Annotated, Any, NotRequired, cast
from zoneinfo import ZoneInfo

import msgspec
from fastapi import Depends, Header, Query
from starlette.responses import Response
from typing_extensions import TypedDict

from metering.access.scopes import Scope
from metering.api.answers import Cents, Count, RareCounts, Time, described, plain_counts, time_text
from metering.api.auth import Caller, needs, require_customer
from metering.api.paging import Limit, NextCursor, Page, cursor_of
from metering.api.parameters import CustomerFilter, Db, RequiredFrom, RequiredTo, TheService, Timestamp
from metering.api.problems import InvalidParameterError
from metering.api.routes import v1_router
from metering.core.clock import utc_now
from metering.core.cursors import TEXT, decode_cursor, encode_cursor
from metering.core.money import EXACT, cents_text
from metering.core.time_zones import shown_zone
from metering.customers.check_time_zone import check_time_zone
from metering.events.events import Inlet, Outcome, UsageSource
from metering.streams.accrue_streams import accrue_streams
from metering.totals.queries.question import Group, TotalRow, TotalsQuestion
from metering.totals.queries.totals import read_totals
from metering.totals.ranges import Granularity, Range

router = v1_router("totals")

_encode = msgspec.json.Encoder().encode
# Days and months of a time zone are worked out one by one.
_LONGEST_BY_TIME_ZONE = timedelta(days=3_700)


class Compared(TypedDict):
    """A group's final totals in the range to compare with, and the change since."""

    stream_count: Annotated[Count, described("Final streams in that range.")]
    cost_usd_cents: Annotated[Cents, described("Their exact final amount.")]
    change_usd_cents: Annotated[Cents, described("The amount of this range minus the amount of that one.")]


class Total(RareCounts):
    """The sums of one group. Final amounts are filed by the time the stream ended.

    `start` is there with a granularity, each group's field if it is in `group_by`, `compared` with a range to
    compare with. A group's field is null for streams that do not have it.
    """

    start: NotRequired[Annotated[Time, described("Start of the hour, day or month.")]]
    customer_id: NotRequired[Annotated[str | None, described("The customer.", example="acme")]]
    provider: NotRequired[Annotated[str | None, described("The provider.", example="anthropic")]]
    model: NotRequired[Annotated[str | None, described("The requested model.", example="claude-opus-4.7")]]
    api_key_id: NotRequired[Annotated[str | None, described("The customer's API key.")]]
    outcome: NotRequired[Annotated[Outcome | None, described("How the streams ended.")]]
    usage_source: NotRequired[Annotated[UsageSource | None, described("Who counted their usage.")]]
    inlet: NotRequired[Annotated[Inlet | None, described("How their usage came in.")]]
    retry: NotRequired[Annotated[bool | None, described("Whether they are retries.")]]
    stream_count: Annotated[int, described("Final streams.", example=1)]
    input_tokens: Annotated[int, described("Input tokens of final streams, cached and audio input included.")]
    output_tokens: Annotated[int, described("Output tokens, reasoning and audio output included.")]
    cache_read_input_tokens: Annotated[int, described("Input tokens read from a prompt cache.")]
    cache_write_input_tokens: Annotated[int, described("Input tokens written to a prompt cache.")]
    reasoning_output_tokens: Annotated[int, described("Output tokens spent on reasoning.")]
    input_audio_tokens: Annotated[int, described("Audio tokens of the input.")]
    output_audio_tokens: Annotated[int, described("Audio tokens of the output.")]
    cost_usd_cents: Annotated[Cents, described("The exact final amount, adjustments included.")]
    upstream_usd_cents: Annotated[
        Cents, described("What the upstreams say that final streams cost, where they say so.")
    ]
    accrued_usd_cents: Annotated[Cents, described("The exact amount so far of streams that are not final.")]
    accruing_stream_count: Annotated[int, described("Streams that are not final.", example=0)]
    compared: NotRequired[Annotated[Compared, described("The same group in the range to compare with.")]]


class TotalsPage(TypedDict):
    """A page of totals."""

    data: Annotated[list[Total], described("The rows of this page.")]
    next_cursor: NextCursor
    as_of: Annotated[Time, described("The moment that the figures show.")]


GROUPS_CURSOR = cursor_of(rf"{TEXT}(?:\.{TEXT}){{0,{len(Group)}}}")
GroupBy = Annotated[
    str, Query(description=f"Any of {', '.join(Group)}, separated by commas.", examples=["customer_id,model"])
]
GranularityChoice = Annotated[
    Granularity, Query(description="The length of a row's time bucket; `none`: one bucket for the whole range.")
]


@dataclass(frozen=True, slots=True)
class _Calendar:
    """How rows are cut by time."""

    granularity: Granularity
    time_zone: ZoneInfo | None


def _range(from_: RequiredFrom, to: RequiredTo) -> Range:
    return _checked("from", from_, "to", to)


def _calendar(
    connection: Db,
    within: Annotated[Range, Depends(_range)],
    granularity: GranularityChoice = Granularity.NONE,
    time_zone: Annotated[
        str | None,
        Query(description="The IANA time zone of days and months. Default: UTC.", examples=["Europe/Berlin"]),
    ] = None,
) -> _Calendar:
    if time_zone is None or time_zone == "UTC":
        return _Calendar(granularity, None)
    check_time_zone(connection, time_zone=time_zone)
    if within[1] - within[0] > _LONGEST_BY_TIME_ZONE:
        raise InvalidParameterError(f"to: with time_zone, at most {_LONGEST_BY_TIME_ZONE.days:,} days after from")
    return _Calendar(granularity, shown_zone(time_zone))


def _compared(
    granularity: GranularityChoice = Granularity.NONE,
    compare_from: Annotated[
        Timestamp | None,
        Query(description="Start of a range to compare each group with; RFC 3339 with an offset."),
    ] = None,
    compare_to: Annotated[Timestamp | None, Query(description="Its end, exclusive.")] = None,
) -> Range | None:
    if compare_from is None and compare_to is None:
        return None
    if compare_from is None or compare_to is None:
        raise InvalidParameterError("compare_from, compare_to: give both, or neither")
    if granularity is not Granularity.NONE:
        raise InvalidParameterError("compare_from: whole ranges are compared; leave out granularity")
    return _checked("compare_from", compare_from, "compare_to", compare_to)


@router.get(
    "/totals",
    operation_id="listTotals",
    summary="Sum usage and cost",
    response_model=TotalsPage,
    responses={
        200: {
            "headers": {
                "ETag": {
                    "description": "Stays the same as long as the figures do, whatever `as_of` is.",
                    "schema": {"type": "string"},
                }
            }
        },
        304: {"description": "The figures are those of `If-None-Match`."},
    },
)
@needs(Scope.TOTALS_READ)
def read_the_totals(
    key: Caller,
    connection: Db,
    service: TheService,
    within: Annotated[Range, Depends(_range)],
    calendar: Annotated[_Calendar, Depends(_calendar)],
    compared: Annotated[Range | None, Depends(_compared)],
    group_by: GroupBy = "",
    customer_id: CustomerFilter = None,
    limit: Limit = 100,
    cursor: Annotated[str | None, GROUPS_CURSOR] = None,
    if_none_match: Annotated[str | None, Header(description="An ETag of an earlier answer.")] = None,
) -> Response:
    """Sums by group: final amounts, filed by the time the stream ended, and accrued amounts beside them."""
    groups = groups_of(group_by)
    customer = require_customer(key, customer_id)
    as_of = utc_now()
    question = TotalsQuestion(
        from_=within[0],
        to=within[1],
        granularity=calendar.granularity,
        group_by=groups,
        customer_id=customer,
        after=decode_cursor(cursor, length=len(groups) + 1),
        limit=limit + 1,
        time_zone=calendar.time_zone,
        compared=compared,
    )
    accruals = accrue_streams(
        connection, price_books=service.price_books, customer_id=customer, from_=within[0], to=within[1]
    )
    rows = read_totals(connection, question=question, accruals=accruals)
    return answer_with(rows, limit=limit, compared=compared is not None, as_of=as_of, if_none_match=if_none_match)


def answer_with(
    rows: Sequence[TotalRow], *, limit: int, compared: bool, as_of: datetime, if_none_match: str | None
) -> Response:
    """A page of totals, of which one row more than `limit` was read; or that it is the one with that ETag."""
    last = rows[limit - 1] if len(rows) > limit else None
    data = [total_shape(row, compared=compared) for row in rows[:limit]]
    page: Page[Total] = {"data": data, "next_cursor": encode_cursor(last.position) if last else None}
    etag = f'W/"{hashlib.sha256(_encode(page)).hexdigest()[:32]}"'
    headers = {"etag": etag, "cache-control": "private, no-cache"}
    if if_none_match is not None and etag in {given.strip() for given in if_none_match.split(",")}:
        return Response(status_code=304, headers=headers)
    shown: TotalsPage = {**page, "as_of": time_text(as_of)}
    return Response(_encode(shown), media_type="application/json", headers=headers)


def total_shape(row: TotalRow, *, compared: bool) -> Total:
    """One group's totals."""
    shape: dict[str, Any] = {
        **({"start": time_text(row.start)} if row.start else {}),
        **row.group,
        "stream_count": row.stream_count,
        **plain_counts(
            {name: sum_ for name, sum_ in row.counters.items() if sum_ or name in Total.__required_keys__}
        ),
        "cost_usd_cents": cents_text(row.usd_cents),
        "upstream_usd_cents": cents_text(row.upstream_usd_cents),
        "accrued_usd_cents": cents_text(row.accrued_usd_cents),
        "accruing_stream_count": row.accruing_stream_count,
    }
    if compared:
        shape["compared"] = _compared_shape(row)
    return cast("Total", shape)


def _compared_shape(row: TotalRow) -> Compared:
    return {
        "stream_count": row.compared_stream_count,
        "cost_usd_cents": cents_text(row.compared_usd_cents),
        "change_usd_cents": cents_text(EXACT.subtract(row.usd_cents, row.compared_usd_cents)),
    }


def _checked(first: str, from_: datetime, second: str, to: datetime) -> Range:
    if from_ >= to:
        raise InvalidParameterError(f"{second}: must be later than {first}")
    return from_, to


def groups_of(group_by: str) -> list[Group]:
    """The groups in a parameter.

    Raises:
        InvalidParameterError: a name is unknown, or occurs twice.
    """
    names = [name.strip() for name in group_by.split(",") if name.strip()]
    unknown = [name for name in names if name not in set(Group)]
    if unknown:
        raise InvalidParameterError(f"group_by: {unknown[0]!r} is not one of {', '.join(Group)}")
    if len(set(names)) < len(names):
        raise InvalidParameterError("group_by: a name occurs twice")
    return [Group(name) for name in names]
