"""`GET /v1/totals`: by anybody's calendar, set beside another range, and told apart by what they say."""

import random
from collections import defaultdict
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from sqlalchemy import text

from metering.ledger.store.rollups import roll_up_totals
from tests.builders.posted import event
from tests.database import Database
from tests.running_api import Api

# Its offset changes by half an hour; 45 minutes off; the far east and west; summer time ends in the range.
ZONES = [
    "Europe/Berlin", "Australia/Lord_Howe", "Asia/Kolkata", "Asia/Kathmandu", "Pacific/Kiritimati",
    "America/Los_Angeles",
]  # fmt: skip
DETAILED = {"customer_id": "acme", "group_by": "model"}
BEGIN, END = datetime(2026, 9, 29, 7, 20, tzinfo=UTC), datetime(2026, 11, 9, 16, 45, tzinfo=UTC)


def post_at(api: Api, moments: list[datetime], customer: str = "acme") -> None:
    """Streams of one output token more each, that ended at these moments."""
    events = []
    for number, at in enumerate(moments):
        stream_id = f"{customer}-{number}-{at.timestamp()}"
        start = {"stream_id": stream_id, "provider": "anthropic", "model": "claude-opus-4.7", "input_tokens": 0}
        usage = {"input_tokens": 0, "output_tokens": number + 1}
        end = {"stream_id": stream_id, "outcome": "completed", "usage": usage, "usage_source": "provider"}
        began = (at - timedelta(seconds=1)).isoformat()
        events += [event("stream-start", start, subject=customer, time=began)]
        events += [event("stream-end", end, subject=customer, time=at.isoformat())]
    assert api.post(events).json()["accepted"] == len(events)
    api.finalize()


def near_midnights(source: random.Random) -> list[datetime]:
    """Moments everywhere in the range, and crowded around its zones' midnights."""
    found = []
    for _ in range(150):
        found.append(BEGIN - timedelta(hours=5) + source.random() * (END - BEGIN + timedelta(hours=10)))
        zone = ZoneInfo(source.choice(ZONES))
        day = BEGIN.date() + timedelta(days=source.randrange(42))
        midnight = datetime(day.year, day.month, day.day, tzinfo=zone)
        found.append(midnight + timedelta(seconds=source.choice((-1, 0, 1)), minutes=source.choice((-20, 0, 20))))
    return found


def by_calendar(moments: list[datetime], zone: str, granularity: str) -> dict[str, int]:
    """The output tokens of each day or month, by its first moment in UTC."""
    sums: dict[str, int] = defaultdict(int)
    for number, at in enumerate(moments):
        if BEGIN <= at < END:
            local = at.astimezone(ZoneInfo(zone))
            first = local.replace(hour=0, minute=0, second=0, microsecond=0, fold=0)
            first = first if granularity == "day" else first.replace(day=1)
            sums[f"{first.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"] += number + 1
    return dict(sums)


def ask(api: Api, **parameters: Any) -> list[dict[str, Any]]:
    query = {"from": BEGIN.isoformat(), "to": END.isoformat(), "limit": 1000, **parameters}
    answer = api.client.get("/v1/totals", params=query)
    assert answer.status_code == 200, answer.text
    rows: list[dict[str, Any]] = answer.json()["data"]
    return rows


def test_days_and_months_of_any_time_zone_are_right_before_and_after_a_roll_up(api: Api) -> None:
    moments = near_midnights(random.Random(11))
    post_at(api, moments[:150])
    roll_up_totals(api.service.engine)
    later = moments[150:]
    post_at(api, [BEGIN - timedelta(days=30)] * 150 + later)  # numbered as they are in `moments`
    for zone in ZONES:
        for granularity in ("day", "month"):
            # Of one customer and one model, so these are the same, each read from other sums.
            for narrowed in ({}, {"group_by": "model"}, {"group_by": "customer_id"}, DETAILED):
                rows = ask(api, granularity=granularity, time_zone=zone, **narrowed)
                tokens = {row["start"]: row["output_tokens"] for row in rows}
                assert tokens == by_calendar(moments, zone, granularity), (zone, granularity, narrowed)
    cut = {ZoneInfo(zone).utcoffset(at).seconds % 3600 for zone in ZONES for at in moments}  # type: ignore[union-attr]
    assert cut == {0, 1800, 2700}


def test_what_is_accrued_falls_on_the_day_of_the_time_zone(api: Api) -> None:
    at = datetime(2026, 10, 3, 18, 20, tzinfo=UTC)  # 23:50 in Kolkata; nobody has swept it
    data = {"stream_id": "open", "provider": "anthropic", "model": "claude-opus-4.7", "input_tokens": 812}
    tokens = {"stream_id": "open", "seq": 1, "output_tokens": 37}
    kinds = (("stream-start", data), ("token-delivered", tokens))
    api.post([event(kind, each, time=at.isoformat()) for kind, each in kinds])
    (row,) = ask(api, granularity="day", time_zone="Asia/Kolkata")
    assert (row["start"], row["accrued_usd_cents"]) == ("2026-10-02T18:30:00Z", "0.4985")


def test_a_range_is_compared_group_by_group_with_those_that_only_one_of_them_has(api: Api) -> None:
    october, november = datetime(2026, 10, 5, tzinfo=UTC), datetime(2026, 11, 5, tzinfo=UTC)
    post_at(api, [november, october], "both")
    post_at(api, [november], "new")
    post_at(api, [october], "gone")
    rows = ask(
        api,
        **{"from": "2026-11-01T00:00:00Z", "to": "2026-12-01T00:00:00Z"},
        compare_from="2026-10-01T00:00:00Z",
        compare_to="2026-11-01T00:00:00Z",
        group_by="customer_id",
    )
    found = {
        row["customer_id"]: (
            row["cost_usd_cents"],
            row["compared"]["cost_usd_cents"],
            row["compared"]["change_usd_cents"],
        )
        for row in rows
    }
    assert found == {
        "both": ("0.0025", "0.005", "-0.0025"),
        "gone": ("0", "0.0025", "-0.0025"),
        "new": ("0.0025", "0", "0.0025"),
    }
    assert all(Fraction(now) - Fraction(then) == Fraction(change) for now, then, change in found.values())
    assert "compared" not in ask(api)[0]


@pytest.mark.parametrize(
    ("parameters", "says"),
    [
        (
            {"time_zone": "Mars/Olympus", "granularity": "day"},
            "time_zone: 'Mars/Olympus' is not an IANA time zone",
        ),
        ({"time_zone": "../etc/passwd"}, "time_zone: '../etc/passwd'"),
        ({"time_zone": "Asia/Tokyo", "to": "2099-01-01T00:00:00Z"}, "at most 3,700 days"),
        ({"compare_from": "2026-01-01T00:00:00Z"}, "give both, or neither"),
        (
            {"compare_from": "2026-01-02T00:00:00Z", "compare_to": "2026-01-01T00:00:00Z"},
            "compare_to: must be later than compare_from",
        ),
        (
            {"compare_from": "2026-01-01T00:00:00Z", "compare_to": "2026-02-01T00:00:00Z", "granularity": "day"},
            "whole ranges are compared",
        ),
    ],
)
def test_a_wrong_question_says_what_is_wrong_with_it(
    shared_api: Api, parameters: dict[str, str], says: str
) -> None:
    query = {"from": BEGIN.isoformat(), "to": END.isoformat(), **parameters}
    answer = shared_api.client.get("/v1/totals", params=query)
    assert answer.status_code == 422
    assert says in answer.json()["detail"]


def test_what_is_wrong_is_said_once(shared_api: Api) -> None:
    query = {"from": BEGIN.isoformat(), "to": "9999-01-01T00:00:00Z"}
    answer = shared_api.client.get("/v1/totals", params=query)
    assert answer.json()["detail"] == "to: needs a year from 2 to 9998"


def test_the_etag_changes_with_the_figures_and_not_with_time(api: Api) -> None:
    query = {"from": BEGIN.isoformat(), "to": END.isoformat()}
    first = api.client.get("/v1/totals", params=query)
    again = api.client.get("/v1/totals", params=query, headers={"if-none-match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    post_at(api, [BEGIN + timedelta(days=1)])
    changed = api.client.get("/v1/totals", params=query, headers={"if-none-match": first.headers["etag"]})
    assert changed.status_code == 200
    assert changed.headers["etag"] != first.headers["etag"]
    assert changed.headers["cache-control"] == "private, no-cache"


def test_sums_of_many_customers_are_grouped_in_memory(database: Database) -> None:
    """With PostgreSQL's 4 MB, those of 2,000 customers by day are sorted on disk, which takes a third longer."""
    with database.service(for_api=True) as service, service.engine.connect() as connection:
        assert connection.execute(text("SHOW work_mem")).scalar_one() == "32MB"
