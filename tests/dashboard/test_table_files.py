"""Files of tables: every row, however many pages they are on; or a refusal, never a part that looks whole."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, cast

import pytest
from starlette.datastructures import QueryParams

from metering.dashboard.downloads import MAX_ROWS, table_file
from metering.dashboard.errors import InvalidFilterError
from metering.dashboard.page_request import Page, PageRequest
from metering.dashboard.tables import Column, Table
from tests.builders.posted import event
from tests.dashboard.browsing import browse
from tests.dashboard.reading import rows_of
from tests.running_api import Api

STREAMS = 5_600


def post_streams(api: Api) -> None:
    """More than are read at a time for a file."""
    for first in range(0, STREAMS, 400):
        events = []
        for number in range(first, first + 400):
            stream_id, at = f"s{number:05}", datetime(2026, 11, 20, tzinfo=UTC) + timedelta(seconds=number)
            start = {
                "stream_id": stream_id,
                "provider": "anthropic",
                "model": "claude-opus-4.7",
                "input_tokens": 1,
            }
            usage = {"input_tokens": 1, "output_tokens": number % 90}
            end = {"stream_id": stream_id, "outcome": "completed", "usage": usage, "usage_source": "provider"}
            events += [
                event(kind, data, time=at.isoformat())
                for kind, data in (("stream-start", start), ("stream-end", end))
            ]
        assert api.post(events).json()["rejected"] == []
    while api.client.get("/readyz").json()["streams_due"]:
        api.finalize()


def test_a_file_has_the_rows_of_every_page(api: Api) -> None:
    post_streams(api)
    browser = browse(api)
    rows = rows_of(browser.get("streams", month="2026-11", csv="streams").text)
    assert [row["stream_id"] for row in rows] == [f"s{number:05}" for number in reversed(range(STREAMS))]
    query = {"from": "2026-11-01T00:00:00Z", "to": "2026-12-01T00:00:00Z"}
    (total,) = api.client.get("/v1/totals", params=query).json()["data"]
    assert sum(Decimal(row["cost_usd"]) for row in rows) * 100 == Decimal(total["cost_usd_cents"])


def request_for(name: str) -> PageRequest:
    """A request with nothing but a query."""
    nothing = cast(Any, None)
    query = QueryParams({"csv": name})
    now = datetime.now(UTC)
    return PageRequest(
        service=nothing, connection=nothing, viewer=nothing, query=query, now=now, refreshes=False, origin=""
    )


def page_with(rows: int, *, more: str | None = None, whole: bool = True) -> Page:
    column = Column("n", "N")
    table = Table(
        name="list", title="List", columns=[column], rows=[{"n": 1}] * rows, empty="", more=more, whole=whole
    )
    return Page(template="", title="", section="", context={}, tables=[table])


def test_a_list_of_which_only_a_part_is_read_is_refused() -> None:
    with pytest.raises(InvalidFilterError, match="List: more than 3 rows"):
        table_file(request_for("list"), lambda _: page_with(3, whole=False), "list")


def test_a_list_without_end_is_refused_within_a_bound() -> None:
    read: list[int] = []

    def build(request: PageRequest) -> Page:
        read.append(int(request.query.get("behind", 0)))
        return page_with(20_000, more=f"/dashboard/list?csv=list&behind={len(read)}")

    with pytest.raises(InvalidFilterError, match="Add filters"):
        table_file(request_for("list"), build, "list")
    assert read == list(range(MAX_ROWS // 20_000))
