"""`GET /v1/totals`: sums by group and time, compared with another range where asked."""

import hashlib
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Annotated
from zoneinfo import ZoneInfo, available_timezones

from fastapi import APIRouter, Depends, Header, Query
from starlette.responses import Response

from metering.api.auth import Reader, require_customer
from metering.api.errors import InvalidParameterError
from metering.api.paging import Cursor, Limit
from metering.api.reading import Db, TheService, When, aware
from metering.api.shapes import TotalsPage, time_text, total_shape
from metering.api.stream_paths import text_of
from metering.core.clock import utc_now
from metering.core.cursors import decode_cursor, encode_cursor
from metering.streams.accrue_streams import accrue_streams
from metering.totals.queries.totals import Group, TotalsQuestion, read_totals
from metering.totals.ranges import Granularity, Range

router = APIRouter(prefix="/v1", tags=["reading"])

# Days and months of a time zone are worked out one by one.
_LONGEST_BY_TIME_ZONE = timedelta(days=3_700)


@dataclass(frozen=True, slots=True)
class _Calendar:
    """How rows are cut by time."""

    granularity: Granularity
    time_zone: ZoneInfo | None


def _range(
    from_: Annotated[datetime, Query(alias="from", description="RFC 3339 with offset; inclusive")],
    to: Annotated[datetime, Query(description="RFC 3339 with offset; exclusive")],
) -> Range:
    return _checked("from", from_, "to", to)


def _calendar(
    within: Annotated[Range, Depends(_range)],
    granularity: Granularity = Granularity.NONE,
    time_zone: Annotated[
        str | None, Query(description="Whose days and months: an IANA name such as Europe/Berlin. Default: UTC's")
    ] = None,
) -> _Calendar:
    if time_zone is None or time_zone == "UTC":
        return _Calendar(granularity, None)
    if time_zone not in available_timezones():
        raise InvalidParameterError(f"time_zone: {time_zone!r} is no IANA time zone such as Europe/Berlin")
    if within[1] - within[0] > _LONGEST_BY_TIME_ZONE:
        raise InvalidParameterError(f"to: with time_zone, at most {_LONGEST_BY_TIME_ZONE.days:,} days after from")
    return _Calendar(granularity, ZoneInfo(time_zone))


def _compared(
    granularity: Granularity = Granularity.NONE,
    compare_from: Annotated[When, Query(description="Begin of a range to compare each group with")] = None,
    compare_to: Annotated[When, Query(description="Its end; exclusive")] = None,
) -> Range | None:
    if compare_from is None and compare_to is None:
        return None
    if compare_from is None or compare_to is None:
        raise InvalidParameterError("compare_from, compare_to: give both, or neither")
    if granularity is not Granularity.NONE:
        raise InvalidParameterError("compare_from: whole ranges are compared; leave out granularity")
    return _checked("compare_from", compare_from, "compare_to", compare_to)


@router.get("/totals", response_model=TotalsPage)
def read_the_totals(
    key: Reader,
    connection: Db,
    service: TheService,
    within: Annotated[Range, Depends(_range)],
    calendar: Annotated[_Calendar, Depends(_calendar)],
    compared: Annotated[Range | None, Depends(_compared)],
    group_by: Annotated[str, Query(description=f"any of {', '.join(Group)}, separated by commas")] = "",
    customer_id: str | None = None,
    limit: Limit = 100,
    cursor: Cursor = None,
    if_none_match: Annotated[str | None, Header()] = None,
) -> Response:
    """Sums by group: final amounts, filed by the end of the stream, and accrued ones beside them.

    The ETag stays the same as long as the figures do, whatever `as_of` says.
    """
    groups = _groups(group_by)
    customer = require_customer(key, text_of(customer_id))
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
    last = rows[limit - 1] if len(rows) > limit else None
    page = TotalsPage(
        data=[total_shape(row, compared=compared is not None) for row in rows[:limit]],
        next_cursor=encode_cursor(last.position) if last else None,
        as_of=time_text(as_of),
    )
    return _answer(page, if_none_match)


def _answer(page: TotalsPage, if_none_match: str | None) -> Response:
    figures = page.model_dump_json(exclude={"as_of"}).encode()
    etag = f'W/"{hashlib.sha256(figures).hexdigest()[:32]}"'
    headers = {"etag": etag, "cache-control": "private, no-cache"}
    if if_none_match is not None and etag in {given.strip() for given in if_none_match.split(",")}:
        return Response(status_code=304, headers=headers)
    return Response(page.model_dump_json(), media_type="application/json", headers=headers)


def _checked(first: str, from_: datetime, second: str, to: datetime) -> Range:
    start, end = aware(first, from_), aware(second, to)
    assert start is not None
    assert end is not None
    if start >= end:
        raise InvalidParameterError(f"{second}: must be later than {first}")
    return start, end


def _groups(group_by: str) -> list[Group]:
    names = [name.strip() for name in group_by.split(",") if name.strip()]
    unknown = [name for name in names if name not in set(Group)]
    if unknown:
        raise InvalidParameterError(f"group_by: {unknown[0]!r} is not one of {', '.join(Group)}")
    if len(set(names)) < len(names):
        raise InvalidParameterError("group_by: a name occurs twice")
    return [Group(name) for name in names]
