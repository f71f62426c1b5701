"""Charts: stacked bars by day, each with a table of the same figures."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from zlib import crc32

from metering.core.money import EXACT, ZERO, sum_cents
from metering.dashboard.tables import Cell, Column, Kind, Row, Table
from metering.dashboard.values import dollars_text

# Series with a bar of their own; the rest are summed as "others".
_MAX_SERIES = 6
OTHER = "others"
# Names of colours in the stylesheet: `--c0` to `--c9`, and `--cx` for the others.
_COLOURS = 10
_OTHER_COLOUR = "--cx"


@dataclass(frozen=True, slots=True, kw_only=True)
class Chart:
    """Amounts by day, stacked by series; `summary` describes them in a sentence.

    `partial` is the place of a day that is not over. `compared` is the name and the amounts of another stretch of
    days, for a line.
    """

    name: str
    title: str
    summary: str
    days: Sequence[str]
    hrefs: Sequence[str]
    sums: Sequence[Decimal]
    series: Mapping[str, Sequence[Decimal]]
    table: Table
    partial: int | None = None
    compared: tuple[str, Sequence[Decimal]] | None = None

    @property
    def json(self) -> str:
        """The data for the script that draws it, in dollars as text. `<` is escaped so that no tag can begin."""
        colours = _colours(list(self.series))
        document = {
            "labels": list(self.days),
            "hrefs": list(self.hrefs),
            "partial": self.partial,
            "series": [
                {"name": name, "colour": colours[name], "values": list(map(dollars_text, amounts))}
                for name, amounts in self.series.items()
            ],
            "compared": self.compared
            and {"name": self.compared[0], "values": list(map(dollars_text, self.compared[1]))},
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
    partial: int | None = None,
    compared: tuple[str, Sequence[Decimal]] | None = None,
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
        hrefs=hrefs,
        sums=sums,
        series=by_series,
        table=_table(name, title, by, linked, sums, by_series, empty),
        partial=partial,
        compared=compared,
    )


def _colours(names: Sequence[str]) -> Mapping[str, str]:
    """A colour for each series, by its name: the same on every page, unless a larger one there has taken it."""
    taken: dict[int, str] = {}
    for name in names:
        if name != OTHER:
            first = crc32(name.encode())
            place = next((each for step in range(_COLOURS) if (each := (first + step) % _COLOURS) not in taken), 0)
            taken[place] = name
    return {name: f"--c{place}" for place, name in taken.items()} | {OTHER: _OTHER_COLOUR}


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
