"""Charts: stacked bars by day, each with a table of the same figures."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from metering.core.money import EXACT, ZERO, sum_cents
from metering.dashboard.tables import Cell, Column, Kind, Row, Table
from metering.dashboard.values import dollars_text

# Series with a bar of their own; the rest are summed as "others".
_MAX_SERIES = 6
OTHER = "others"


@dataclass(frozen=True, slots=True, kw_only=True)
class Chart:
    """Amounts by day, stacked by series; `summary` describes them in a sentence."""

    name: str
    title: str
    summary: str
    days: Sequence[str]
    sums: Sequence[Decimal]
    series: Mapping[str, Sequence[Decimal]]
    table: Table

    @property
    def json(self) -> str:
        """The data for the script that draws it, in dollars as text. `<` is escaped so that no tag can begin."""
        document = {
            "labels": list(self.days),
            "series": [
                {"name": name, "values": [dollars_text(amount) for amount in amounts]}
                for name, amounts in self.series.items()
            ],
        }
        return json.dumps(document).replace("<", "\\u003c")


def stacked_by_day(
    amounts: Sequence[tuple[datetime, str, Decimal]],
    *,
    days: Sequence[datetime],
    name: str,
    title: str,
    by: str,
    labels: Sequence[str],
    dates: Sequence[str],
    hrefs: Sequence[str],
    empty: str,
) -> Chart:
    """A chart of amounts in cents by day and series; the largest series each, the others together.

    `days` contains each day that has an amount. `by` names what the series are. `labels` are the names
    of the days on the chart, `dates` those in its table, and `hrefs` the addresses of their streams.
    """
    by_series: dict[str, list[Decimal]] = {}
    places = {day: place for place, day in enumerate(days)}
    largest = _largest(amounts)
    for day, series, amount in sorted(amounts, key=lambda each: largest.get(each[1], _MAX_SERIES)):
        shown = series if series in largest else OTHER
        values = by_series.setdefault(shown, [ZERO] * len(days))
        values[places[day]] = EXACT.add(values[places[day]], amount)
    sums = [sum_cents(values[place] for values in by_series.values()) for place in range(len(days))]
    linked = [Cell(label, href) for label, href in zip(dates, hrefs, strict=True)]
    return Chart(
        name=name,
        title=title,
        summary=_summary(sums, labels),
        days=labels,
        sums=sums,
        series=by_series,
        table=_table(name, title, by, linked, sums, by_series, empty),
    )


def _largest(amounts: Sequence[tuple[datetime, str, Decimal]]) -> Mapping[str, int]:
    """The series with a bar of their own, with their places. A series named "others" is summed with the others."""
    totals: dict[str, Decimal] = {}
    for _, series, amount in amounts:
        totals[series] = EXACT.add(totals.get(series, ZERO), amount)
    largest = sorted(totals.keys() - {OTHER}, key=lambda series: (-totals[series], series))[:_MAX_SERIES]
    return {series: place for place, series in enumerate(largest)}


def _summary(sums: Sequence[Decimal], labels: Sequence[str]) -> str:
    if not any(sums):
        return "No cost in this range."
    highest = max(range(len(sums)), key=lambda place: sums[place])
    return f"Cost by day, highest on {labels[highest]}. The table below has the figures."


def _table(
    name: str,
    title: str,
    by: str,
    days: Sequence[Cell],
    sums: Sequence[Decimal],
    series: Mapping[str, Sequence[Decimal]],
    empty: str,
) -> Table:
    columns = [Column("day", "Day"), Column("total", "Total", Kind.MONEY)]
    # The prefix keeps a series name from colliding with another column or starting a spreadsheet formula.
    columns += [Column(f"{by}:{each}", each, Kind.MONEY) for each in series]
    rows: list[Row] = [
        {"day": day, "total": sums[place], **{f"{by}:{each}": amounts[place] for each, amounts in series.items()}}
        for place, day in enumerate(days)
    ]
    total: Row = {"day": "Total", "total": sum_cents(sums)}
    return Table(
        name=name,
        title=title,
        columns=columns,
        rows=rows if series else [],
        total={**total, **{f"{by}:{each}": sum_cents(amounts) for each, amounts in series.items()}},
        empty=empty,
    )
