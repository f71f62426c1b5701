"""Charts: stacked bars over days, each with the table that says the same."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from metering.dashboard.tables import Cell, Column, Kind, Row, Table
from metering.dashboard.values import dollars_text
from metering.domain.money import ZERO, sum_cents

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
    amounts: Mapping[tuple[datetime, str], Decimal],
    *,
    days: Sequence[datetime],
    name: str,
    title: str,
    labels: Sequence[str],
    hrefs: Sequence[str],
    empty: str,
) -> Chart:
    """Amounts in cents by day and series; the largest series each, the others together.

    `labels` and `hrefs` say what each day is called, and where its rows are.
    """
    totals: dict[str, Decimal] = {}
    for (_, series), amount in amounts.items():
        totals[series] = totals.get(series, ZERO) + amount
    largest = sorted(totals, key=lambda series: (-totals[series], series))[:_MOST_SERIES]
    by_series: dict[str, list[Decimal]] = {series: [] for series in largest}
    has_others = len(totals) > len(largest)
    for day in days:
        rest = sum_cents(amount for (at, series), amount in amounts.items() if at == day and series not in largest)
        for series in largest:
            by_series[series].append(amounts.get((day, series), ZERO))
        if has_others:
            by_series.setdefault(OTHER, []).append(rest)
    sums = [sum_cents(amounts[place] for amounts in by_series.values()) for place in range(len(days))]
    linked = [Cell(label, href) for label, href in zip(labels, hrefs, strict=True)]
    return Chart(
        name=name,
        title=title,
        summary=_summary(sums, labels),
        days=labels,
        sums=sums,
        series=by_series,
        table=_table(name, title, linked, sums, by_series, empty),
    )


def _summary(sums: Sequence[Decimal], labels: Sequence[str]) -> str:
    if not any(sums):
        return "Nothing was spent in this range."
    highest = max(range(len(sums)), key=lambda place: sums[place])
    return f"Cost by day, the highest on {labels[highest]}; the table below has the figures."


def _table(
    name: str,
    title: str,
    days: Sequence[Cell],
    sums: Sequence[Decimal],
    series: Mapping[str, Sequence[Decimal]],
    empty: str,
) -> Table:
    columns = [Column("day", "Day"), Column("total", "All", Kind.MONEY)]
    columns += [Column(each, each, Kind.MONEY) for each in series]
    rows: list[Row] = [
        {"day": day, "total": sums[place], **{each: amounts[place] for each, amounts in series.items()}}
        for place, day in enumerate(days)
    ]
    total: Row = {"day": "All", "total": sum_cents(sums)}
    return Table(
        name=name,
        title=title,
        columns=columns,
        rows=rows if series else [],
        total={**total, **{each: sum_cents(amounts) for each, amounts in series.items()}},
        empty=empty,
    )
