"""Charts: every amount is in exactly one bar, whatever the series are called."""

import csv
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from io import StringIO

from hypothesis import given
from hypothesis import strategies as st

from metering.core.money import sum_cents
from metering.dashboard.charts import Chart, stacked_by_day
from metering.dashboard.tables import table_csv

DAYS = [datetime(2026, 10, day, tzinfo=UTC) for day in range(1, 6)]
# As other columns and the rest are called, and as formulas begin.
NAMES = ["total", "day", "others", "model", "=1+1", "@x", "a", "b", "c", "d", "e", "f", "g"]
CENTS = st.decimals(0, 10**12, places=12)


def chart_of(amounts: list[tuple[datetime, str, Decimal]]) -> Chart:
    return stacked_by_day(
        amounts,
        days=DAYS,
        name="cost",
        title="Cost",
        by="model",
        labels=[f"{day:%-d %b}" for day in DAYS],
        dates=[f"{day:%Y-%m-%d}" for day in DAYS],
        hrefs=["#" for _ in DAYS],
        empty="",
    )


@given(st.lists(st.tuples(st.sampled_from(DAYS), st.sampled_from(NAMES), CENTS)))
def test_every_amount_is_in_the_bar_of_its_day(amounts: list[tuple[datetime, str, Decimal]]) -> None:
    chart = chart_of(amounts)
    for place, day in enumerate(DAYS):
        of_day = sum_cents(amount for at, _, amount in amounts if at == day)
        assert chart.sums[place] == of_day
        assert sum_cents(values[place] for values in chart.series.values()) == of_day
    rows = list(csv.reader(StringIO(table_csv([chart.table]))))
    header, days = rows[0], rows[1:]
    assert len(header) == len(set(header))
    assert not any(name.startswith(("=", "@")) for name in header)
    for row, whole in zip(days, chart.sums, strict=False):
        assert Decimal(row[1]) == sum_cents(Decimal(value) for value in row[2:]) == whole / 100


def test_the_largest_are_shown_apart_and_the_rest_together() -> None:
    amounts = [(DAYS[0], name, Decimal(place + 1)) for place, name in enumerate("abcdefgh")]
    amounts.append((DAYS[0] + timedelta(days=1), "others", Decimal(100)))
    chart = chart_of(amounts)
    assert list(chart.series) == ["h", "g", "f", "e", "d", "c", "others"]
    assert list(chart.series["others"][:2]) == [Decimal(3), Decimal(100)]
