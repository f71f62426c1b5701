"""The models page: cost, tokens, cached input and incomplete streams of each model."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from decimal import Decimal

from metering.core.money import ZERO, sum_cents
from metering.dashboard.month_summary import cost_by_day
from metering.dashboard.month_totals import totals_by
from metering.dashboard.months import month_menu, requested_month
from metering.dashboard.page_request import Page, PageRequest
from metering.dashboard.rankings import ranking
from metering.dashboard.tables import Column, Kind, Row
from metering.events.events import Outcome
from metering.totals.queries.question import Group, TotalRow

EMPTY = "No final streams in this month yet."

_MORE = (
    Column("input_tokens", "Input tokens", Kind.COUNT),
    Column("output_tokens", "Output tokens", Kind.COUNT),
    Column("cached", "Cached input", Kind.SHARE),
    Column("cut_short", "Incomplete, % of cost", Kind.SHARE),
    Column("each", "Avg per stream", Kind.MONEY),
)
_INCOMPLETE = (Outcome.CANCELLED, Outcome.ABANDONED, Outcome.FAILED, Outcome.TIMED_OUT)


def models(request: PageRequest) -> Page:
    """The page."""
    month = requested_month(request)
    customer_id = request.viewer.customer_id
    groups = [Group.PROVIDER, Group.MODEL]
    rows = totals_by(request, month, groups, customer_id=customer_id, counters=True)
    by_outcome = totals_by(request, month, [*groups, Group.OUTCOME], customer_id=customer_id, compared=False)
    incomplete = _incomplete_cost(by_outcome)
    table = ranking(
        "models",
        "Models by cost",
        rows,
        month,
        groups=groups,
        empty=EMPTY,
        customer_id=customer_id,
        more=_MORE,
        more_of=[_more(row, incomplete) for row in rows],
    )
    chart = cost_by_day(request, month, customer_id=customer_id, empty=EMPTY)
    return Page(
        template="models.html.j2",
        title="Models",
        section="models",
        calendar=month.calendar,
        context={"month": month, "menu": month_menu(request, month), "table": table, "chart": chart},
        tables=[chart.table, table],
    )


def _key(row: TotalRow) -> tuple[object, object]:
    return row.group["provider"], row.group["model"]


def _incomplete_cost(rows: Sequence[TotalRow]) -> Mapping[tuple[object, object], Decimal]:
    sums: defaultdict[tuple[object, object], Decimal] = defaultdict(lambda: ZERO)
    for row in rows:
        if row.group["outcome"] in _INCOMPLETE:
            sums[_key(row)] = sum_cents([sums[_key(row)], row.usd_cents])
    return sums


def _more(row: TotalRow, incomplete: Mapping[tuple[object, object], Decimal]) -> Row:
    tokens = row.counters
    return {
        "input_tokens": tokens["input_tokens"],
        "output_tokens": tokens["output_tokens"],
        "cached": (tokens["cache_read_input_tokens"], tokens["input_tokens"]),
        "cut_short": (incomplete.get(_key(row), ZERO), row.usd_cents),
        "each": row.usd_cents / row.stream_count if row.stream_count else None,
    }
