"""Rankings: the cost of each group compared with the month before; each row links to its streams."""

from collections.abc import Sequence
from decimal import Decimal

from metering.core.money import EXACT
from metering.dashboard.arranging import Sort
from metering.dashboard.links import customer_cell, customer_page
from metering.dashboard.month_totals import BY_COST, SORTS, cost, previous_cost
from metering.dashboard.months import Month
from metering.dashboard.tables import Cell, Column, Kind, Row, Table, Value
from metering.totals.queries.question import Group, TotalRow

# Manual entries have no stream, so no model, key or outcome.
CREDITS = "credits and corrections"
TITLES = {
    Group.CUSTOMER_ID: "Customer",
    Group.PROVIDER: "Provider",
    Group.MODEL: "Model",
    Group.API_KEY_ID: "API key",
    Group.OUTCOME: "Outcome",
    Group.USAGE_SOURCE: "Usage source",
    Group.RETRY: "Retry",
    Group.INLET: "Inlet",
}


def ranking(
    name: str,
    title: str,
    rows: Sequence[TotalRow],
    month: Month,
    *,
    groups: Sequence[Group],
    empty: str,
    whole: tuple[Decimal, Decimal] | None = None,
    customer_id: str | None = None,
    sort: Sort = BY_COST,
    more: Sequence[Column] = (),
    more_of: Sequence[Row] = (),
) -> Table:
    """Groups with their cost, share and change. `more` are further columns, `more_of` their values by row.

    `whole` is the cost in cents of all groups, now and before, where the rows are only some of them: the others
    are a row of their own. `sort` is the order of the rows.
    """
    columns = [
        *(Column(group.value, TITLES[group]) for group in groups),
        Column("cost", "Cost", Kind.MONEY),
        Column("share", "Share", Kind.SHARE),
        Column("streams", "Streams", Kind.COUNT),
        *more,
    ]
    if month.compared is not None:
        columns += [
            Column("before", month.compared_short, Kind.MONEY),
            Column("change", "Change", Kind.CHANGE),
            Column("percent", "Change, %", Kind.PERCENT),
        ]
    shown = (cost(rows), previous_cost(rows))
    now, before = whole or shown
    extra = list(more_of) or [{} for _ in rows]
    body = [
        {
            **_group_cells(row, groups),
            **_figures(row.usd_cents, row.compared_usd_cents, now, href=_href(row, groups, month, customer_id)),
            "streams": row.stream_count,
            **beside,
        }
        for row, beside in zip(rows, extra, strict=True)
    ]
    rest = (EXACT.subtract(now, shown[0]), EXACT.subtract(before, shown[1]))
    others: Row | None = {groups[0].value: "All others", **_figures(*rest, now)} if any(rest) else None
    total: Row = {groups[0].value: "Total", **_figures(now, before, now)}
    if others is None:
        total = {**total, "streams": sum(row.stream_count for row in rows)}
    return Table(
        name=name,
        title=title,
        columns=columns,
        rows=body,
        rest=others,
        total=total if len(body) > 1 or others else None,
        empty=empty,
        sorted_by=str(sort),
        sorts=tuple(SORTS),
    )


def _figures(usd_cents: Decimal, before: Decimal, whole: Decimal, *, href: str | None = None) -> Row:
    return {
        "cost": Cell(usd_cents, href),
        "share": (usd_cents, whole),
        "before": before,
        "change": EXACT.subtract(usd_cents, before),
        "percent": (usd_cents, before),
    }


def _group_cells(row: TotalRow, groups: Sequence[Group]) -> dict[str, Value | Cell]:
    cells: dict[str, Value | Cell] = {}
    for group in groups:
        value = row.group[group.value]
        text = value if isinstance(value, str) else {True: "retry", False: "first", None: None}[value]
        if text is None and _is_manual(row) and group is groups[0]:
            text = CREDITS
        cells[group.value] = customer_cell(text) if group is Group.CUSTOMER_ID else text
    return cells


def _is_manual(row: TotalRow) -> bool:
    """Whether a row has an amount but no streams. Reversed entries sum to zero and have no streams either."""
    return not row.stream_count and bool(row.usd_cents)


def _href(row: TotalRow, groups: Sequence[Group], month: Month, customer_id: str | None) -> str | None:
    """The streams that a row sums; for credits the customer's page."""
    if _is_manual(row):
        return customer_page(customer_id) + "#adjustments" if customer_id else None
    filters: dict[str, str | None] = {
        group.value: _filter(row.group[group.value]) for group in groups if group is not Group.CUSTOMER_ID
    }
    customer = row.group.get("customer_id") or customer_id
    assert customer is None or isinstance(customer, str)
    return month.streams(customer_id=customer, filters=filters)


def _filter(value: str | bool | None) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return value or ""
