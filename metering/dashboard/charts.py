"""Charts: stacked bars over days, each with the table that says the same."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from metering.core.money import EXACT, ZERO, sum_cents
from metering.dashboard.tables import Cell, Column, Kind, Row, Table
from metering.dashboard.values import dollars_text

# What is stacked apart; the rest is "other models".
_MOST_SERIES = 6
OTHER = "others"


@dataclass(frozen=True, slots=True, kw_only=True)
class Chart:
    """Bars of money by day, stacked by series; `summary` says in a sentence what they show."""

    name: str
    title: str
    summary: str
    days: Sequence[str]
    sums: Sequence[Decimal]
    series: Mapping[str, Sequence[Decimal]]
    table: Table

    @property
    def json(self) -> str:
        """For the script that draws it; amounts in dollars as text. `<` is written so that no tag can begin."""
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
    hrefs: Sequence[str],
    empty: str,
) -> Chart:
    """Amounts in cents of days and series; the largest series each, the others together.

    `days` has each day that there is an amount of. `by` says what the series are; `labels` and `hrefs` say what
    each day is called, and where its rows are.
    """
    by_series: dict[str, list[Decimal]] = {}
    places = {day: place for place, day in enumerate(days)}
    largest = _largest(amounts)
    for day, series, amount in sorted(amounts, key=lambda each: largest.get(each[1], _MOST_SERIES)):
        shown = series if series in largest else OTHER
        values = by_series.setdefault(shown, [ZERO] * len(days))
        values[places[day]] = EXACT.add(values[places[day]], amount)
    sums = [sum_cents(values[place] for values in by_series.values()) for place in range(len(days))]
    linked = [Cell(label, href) for label, href in zip(labels, hrefs, strict=True)]
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
    """The series that are shown apart, with their places. One that is called like the others goes with them."""
    totals: dict[str, Decimal] = {}
    for _, series, amount in amounts:
        totals[series] = EXACT.add(totals.get(series, ZERO), amount)
    largest = sorted(totals.keys() - {OTHER}, key=lambda series: (-totals[series], series))[:_MOST_SERIES]
    return {series: place for place, series in enumerate(largest)}


def _summary(sums: Sequence[Decimal], labels: Sequence[str]) -> str:
    if not any(sums):
        return "Nothing was spent in this range."
    highest = max(range(len(sums)), key=lambda place: sums[place])
    return f"Cost by day, the highest on {labels[highest]}; the table below has the figures."


def _table(
    name: str,
    title: str,
    by: str,
    days: Sequence[Cell],
    sums: Sequence[Decimal],
    series: Mapping[str, Sequence[Decimal]],
    empty: str,
) -> Table:
    columns = [Column("day", "Day"), Column("total", "All", Kind.MONEY)]
    # A series may be called like another column, or like a formula; with what it is before it, it is neither.
    columns += [Column(f"{by}:{each}", each, Kind.MONEY) for each in series]
    rows: list[Row] = [
        {"day": day, "total": sums[place], **{f"{by}:{each}": amounts[place] for each, amounts in series.items()}}
        for place, day in enumerate(days)
    ]
    total: Row = {"day": "All", "total": sum_cents(sums)}
    return Table(
        name=name,
        title=title,
        columns=columns,
        rows=rows if series else [],
        total={**total, **{f"{by}:{each}": sum_cents(amounts) for each, amounts in series.items()}},
        empty=empty,
    )
