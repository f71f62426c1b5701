"""Whether rates make a card: at every time, for every request, at most one of them applies to a kind."""

from collections.abc import Sequence
from itertools import combinations

from metering.core.errors import MeteringError
from metering.events.usage import UsageKind
from metering.prices.rates import Rate
from metering.prices.rating import MEASURED_INPUT
from metering.prices.windows import DailyWindow


class InvalidRateError(MeteringError):
    """The rates are not valid for a card."""


def check_rates(rates: Sequence[Rate]) -> None:
    """Refuse rates that are not a card.

    Raises:
        InvalidRateError: there is no base rate for input in any measure, a rate is given twice, a rate with a
            threshold has no base rate, or two windows of a kind overlap.
    """
    if any(rate.kind is UsageKind.UPSTREAM_COST for rate in rates):
        raise InvalidRateError("rates: the upstream's own cost has no rate; see docs/prices.md")
    if not any(_place(rate)[1:] == (None, None, 0) and rate.kind in MEASURED_INPUT for rate in rates):
        kinds = ", ".join(sorted(kind.value for kind in MEASURED_INPUT))
        raise InvalidRateError(f"rates: a card needs a rate without conditions for input, or one of {kinds}")
    places = [_place(rate) for rate in rates]
    if len(set(places)) < len(places):
        raise InvalidRateError("rates: a kind has two rates for the same input size, service tier and time of day")
    for kind, tier, daily, above in places:
        if above and (kind, tier, daily, 0) not in places:
            raise InvalidRateError(f"rates: kind {kind.value} has a tier but no rate without above_input_tokens")
    check_windows(rates)


def check_windows(rates: Sequence[Rate]) -> None:
    """Refuse windows of which two are open at the same time for a kind.

    Raises:
        InvalidRateError: names the kind and the windows.
    """
    windows: dict[tuple[UsageKind, str | None], set[DailyWindow]] = {}
    for rate in rates:
        if rate.daily is not None:
            windows.setdefault((rate.kind, rate.service_tier), set()).add(rate.daily)
    for (kind, _), found in windows.items():
        for one, other in combinations(sorted(found), 2):
            if one.meets(other):
                raise InvalidRateError(
                    f"rates: kind {kind.value} has two windows that overlap: {_text(one)} and {_text(other)}; "
                    "cut one short, so that one rate applies at every time"
                )


def _text(window: DailyWindow) -> str:
    days = f" on {', '.join(window.weekdays)}" if window.weekdays else ""
    return f"{window.start} to {window.end}{days}"


def _place(rate: Rate) -> tuple[UsageKind, str | None, DailyWindow | None, int]:
    return (rate.kind, rate.service_tier, rate.daily, rate.above_input_tokens)
