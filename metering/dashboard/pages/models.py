"""Models: what each costs, how much of it, and how much of that was cut short or cached."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from decimal import Decimal

from metering.core.money import ZERO, sum_cents
from metering.dashboard.asking import Asked, Page
from metering.dashboard.months import month_of
from metering.dashboard.questions import by_groups
from metering.dashboard.rankings import ranking
from metering.dashboard.spending import cost_by_day
from metering.dashboard.tables import Column, Kind, Row
from metering.events.events import Outcome
from metering.totals.queries.totals import Group, TotalRow

EMPTY = "Nothing is final in this month yet."

_MORE = (
    Column("input_tokens", "Input tokens", Kind.COUNT),
    Column("output_tokens", "Output tokens", Kind.COUNT),
    Column("cached", "Cached input", Kind.SHARE),
    Column("cut_short", "Cost cut short", Kind.SHARE),
    Column("each", "A stream", Kind.MONEY),
)
_CUT_SHORT = (Outcome.CANCELLED, Outcome.ABANDONED, Outcome.FAILED, Outcome.TIMED_OUT)


def models(asked: Asked) -> Page:
    """The page of models."""
    month = month_of(asked)
    customer_id = asked.viewer.customer_id
    groups = [Group.PROVIDER, Group.MODEL]
    rows = by_groups(asked, month, groups, customer_id=customer_id)
    by_outcome = by_groups(asked, month, [*groups, Group.OUTCOME], customer_id=customer_id, compared=False)
    cut_short = _cut_short(by_outcome)
    table = ranking(
        "models",
        "The most expensive first",
        rows,
        month,
        groups=groups,
        empty=EMPTY,
        customer_id=customer_id,
        more=_MORE,
        more_of=[_more(row, cut_short) for row in rows],
    )
    chart = cost_by_day(asked, month, customer_id=customer_id, empty=EMPTY)
    return Page(
        template="models.html.j2",
        title="Models",
        section="models",
        context={"month": month, "table": table, "chart": chart},
        tables=[chart.table, table],
    )


def _key(row: TotalRow) -> tuple[object, object]:
    return row.group["provider"], row.group["model"]


def _cut_short(rows: Sequence[TotalRow]) -> Mapping[tuple[object, object], Decimal]:
    sums: defaultdict[tuple[object, object], Decimal] = defaultdict(lambda: ZERO)
    for row in rows:
        if row.group["outcome"] in _CUT_SHORT:
            sums[_key(row)] = sum_cents([sums[_key(row)], row.usd_cents])
    return sums


def _more(row: TotalRow, cut_short: Mapping[tuple[object, object], Decimal]) -> Row:
    tokens = row.counters
    return {
        "input_tokens": tokens["input_tokens"],
        "output_tokens": tokens["output_tokens"],
        "cached": (tokens["cache_read_input_tokens"], tokens["input_tokens"]),
        "cut_short": (cut_short.get(_key(row), ZERO), row.usd_cents),
        "each": row.usd_cents / row.stream_count if row.stream_count else None,
    }
