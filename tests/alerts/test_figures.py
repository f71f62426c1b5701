"""The figures of alerts against a plain sum over what was booked: random bookings around any calendar's edges."""

import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from zoneinfo import ZoneInfo

import pytest
from sqlalchemy import text

from metering.alerts.queries.customer_figures import customer_days, customer_months
from metering.alerts.queries.figures import Figures
from metering.db.engine import transaction
from metering.events.events import Outcome, UsageSource
from metering.events.usage import Usage
from metering.ledger.store.rollups import roll_up_totals
from tests.alerts.watched import TOKENS_PER_CENT, Watched
from tests.builders import end

ZONES = ("UTC", "Europe/Berlin", "Asia/Kolkata", "Asia/Kathmandu", "America/St_Johns", "Pacific/Kiritimati")
NOW = datetime(2026, 12, 1, 20, 10, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Booked:
    """What a stream comes to in the end."""

    customer_id: str
    zone: ZoneInfo
    at: datetime
    cents: Decimal
    estimated: bool


def random_books(watched: Watched, rng: random.Random) -> list[Booked]:
    """Streams of a customer in each zone around its midnights; some change after they were booked."""
    booked = []
    for zone in ZONES:
        watched.customer(f"in {zone}", zone)
    for number in range(70):
        zone = rng.choice(ZONES)
        edge = datetime(2026, rng.choice((11, 12)), 1, tzinfo=ZoneInfo(zone)).astimezone(UTC)
        at = edge + timedelta(days=rng.choice((0, 0, 0, -1, -2)), minutes=rng.randrange(-90, 90))
        cents, estimated = Decimal(rng.randrange(1, 4000)) / 400, rng.random() < 0.3
        source = UsageSource.ESTIMATE if estimated else UsageSource.GATEWAY_COUNT
        name = watched.use(f"in {zone}", cents, at, name=f"s{number}", usage_source=source)
        if rng.random() < 0.3:
            # A better count arrives, and says that the stream ended elsewhere in time.
            at, cents, estimated = at + timedelta(minutes=rng.randrange(-80, 80)), cents + 1, False
            usage = Usage(input_tokens=0, output_tokens=int(cents * TOKENS_PER_CENT))
            changed = end(name, customer_id=f"in {zone}", time=at, usage=usage, usage_source=UsageSource.PROVIDER)
            watched.receive([changed])
            watched.finalize(now=NOW)
        if number == 40:
            roll_up_totals(watched.service.engine)
        booked.append(Booked(f"in {zone}", ZoneInfo(zone), at, cents, estimated))
    return booked


def figures_of(watched: Watched, figures: Figures) -> dict[tuple[str, str], tuple[Decimal, Decimal, Decimal]]:
    with transaction(watched.service.engine) as connection:
        rows = connection.execute(text(figures.query), dict(figures.parameters)).all()
    found = {
        (row.customer_id, row.alert_window): (row.usd_cents, row.before_usd_cents, row.estimated_usd_cents)
        for row in rows
    }
    return {key: amounts for key, amounts in found.items() if any(amounts)}


def summed(
    booked: list[Booked], windows: Callable[[Booked], list[tuple[str, str]]]
) -> dict[tuple[str, str], tuple[Decimal, Decimal, Decimal]]:
    """By customer and window what is in it, in the days before it, and estimated."""
    sums: dict[tuple[str, str], list[Decimal]] = {}
    for each in booked:
        for window, part in windows(each):
            amounts = sums.setdefault((each.customer_id, window), [Decimal(0)] * 3)
            amounts[1 if part == "before" else 0] += each.cents
            amounts[2] += each.cents if each.estimated else 0
    return {key: (amounts[0], amounts[1], amounts[2]) for key, amounts in sums.items()}


@pytest.mark.parametrize("seed", range(3))
def test_months_and_days_are_what_a_plain_sum_says_in_every_zone(watched: Watched, seed: int) -> None:
    booked = random_books(watched, random.Random(seed))
    lasting = {zone: {(NOW - timedelta(days=day)).astimezone(ZoneInfo(zone)) for day in (0, 1)} for zone in ZONES}
    reached: Counter[str] = Counter()

    def months(each: Booked) -> list[tuple[str, str]]:
        month = f"{each.at.astimezone(each.zone):%Y-%m}"
        return [(month, "in")] if month in {f"{at:%Y-%m}" for at in lasting[each.zone.key]} else []

    def days(each: Booked) -> list[tuple[str, str]]:
        today = NOW.astimezone(each.zone).date()
        found = []
        for day in (today - timedelta(days=1), today):
            ago = (day - each.at.astimezone(each.zone).date()).days
            if 0 <= ago <= 2:
                found.append((day.isoformat(), "in" if ago == 0 else "before"))
                reached["part of an hour" if each.zone.key in ZONES[2:5] else "whole hours"] += 1
        return found

    by_month = figures_of(watched, customer_months(now=NOW, time_zones=ZONES, only=None))
    assert by_month == summed(booked, months)
    by_day = figures_of(watched, customer_days(now=NOW, time_zones=ZONES, trailing=[2], only=None))
    expected = summed(booked, days)
    assert {key: amounts[:2] for key, amounts in by_day.items()} == {
        key: amounts[:2] for key, amounts in expected.items()
    }
    assert reached["part of an hour"] > 10
    assert reached["whole hours"] > 10
    assert {key[1] for key in by_month} == {"2026-11", "2026-12"}


def test_an_abandoned_stream_is_estimated_whatever_its_usage_source(watched: Watched) -> None:
    at = NOW - timedelta(hours=1)
    watched.use("acme", 3, at, outcome=Outcome.ABANDONED, usage_source=UsageSource.PROVIDER)
    watched.use("acme", 1, at)
    found = figures_of(watched, customer_months(now=NOW, time_zones=["UTC"], only="SELECT 'acme'"))
    assert found == {("acme", "2026-12"): (4, 0, 3)}
    assert figures_of(watched, customer_months(now=NOW, time_zones=["UTC"], only="SELECT 'other'")) == {}
