"""When a customer's balance runs out at its present rate: an estimate for people, which decides nothing."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from decimal import Decimal

from metering.core.money import EXACT
from metering.credits.grant import Grant, GrantState, drawing_order

DAYS_AHEAD = 366
_DAY = timedelta(days=1)


def runs_out_at(grants: Sequence[Grant], *, per_day: Decimal, now: datetime) -> datetime | None:
    """The day on which grants without limits no longer cover `per_day`; None: not within a year, or no usage.

    Each day's usage is drawn as bookings are, so that what expires unused does not count.
    """
    if per_day <= 0:
        return None
    usable = [each for each in grants if each.state is GrantState.ACTIVE and not each.limits.limited]
    left = {each.grant_id: each.balance_at(now) for each in usable}
    ordered = sorted(usable, key=drawing_order)
    for day in range(DAYS_AHEAD):
        at = now + day * _DAY
        need = per_day
        for grant in ordered:
            if grant.effective_from > at or grant.expired(at):
                continue
            taken = min(need, left[grant.grant_id])
            left[grant.grant_id] = EXACT.subtract(left[grant.grant_id], taken)
            need = EXACT.subtract(need, taken)
        if need > 0:
            return at
    return None
