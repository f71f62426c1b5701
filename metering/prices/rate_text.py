"""A rate as a line of text: `KIND[@TIER][>INPUT_TOKENS]=USD[~WINDOW]`.

It is in USD per million units, or per hour of a kind in seconds. A window is days of the week, a time of day, or
both: `mon-fri`, `16:30-00:30`, `mon-fri/09:30-16:30`. The command line and the own cards are written like this.
"""

import re
from collections.abc import Iterator, Sequence
from datetime import time
from decimal import Decimal

from metering.core.money import cents_text, plain_decimal
from metering.events.usage import TIMED_KINDS, UsageKind
from metering.prices.check_rates import InvalidRateError
from metering.prices.rates import Rate, priced, unit_name
from metering.prices.windows import DailyWindow, Weekday

FORM = "KIND[@TIER][>INPUT_TOKENS]=USD[~WINDOW]"

_RATE = re.compile(
    r"(?P<kind>[a-z_0-9]+)(@(?P<tier>[^>=@]+))?(>(?P<above>\d+))?=(?P<amount>[^~]+)(~(?P<window>.*))?", re.DOTALL
)
_CLOCKS = re.compile(r"(\d\d:\d\d(?::\d\d)?)-(\d\d:\d\d(?::\d\d)?)")
_WINDOW_FORM = "a window such as mon-fri/09:30-16:30, sat,sun or 16:30-00:30"
_WEEK = tuple(Weekday)
_MIDNIGHT = time()


def parse_rate(text: str) -> Rate:
    """The rate that `text` describes.

    Raises:
        InvalidRateError: names the part that is wrong, and what was expected.
    """
    parts = _RATE.fullmatch(text)
    if parts is None or parts["kind"] not in set(UsageKind):
        raise InvalidRateError(f"{text!r}: expected {FORM}, where KIND is one of {', '.join(UsageKind)}")
    kind = UsageKind(parts["kind"])
    return priced(
        kind=kind,
        usd=_usd(parts["amount"], text, kind),
        above_input_tokens=int(parts["above"] or 0),
        service_tier=parts["tier"].lower() if parts["tier"] else None,
        daily=_window(parts["window"], text) if parts["window"] is not None else None,
    )


def rate_text(rate: Rate) -> str:
    """A rate in one line, for people: `output@flex>200,000 mon-fri/09:30-16:30 12.5`."""
    tier = f"@{rate.service_tier}" if rate.service_tier else ""
    above = f">{rate.above_input_tokens:,}" if rate.above_input_tokens else ""
    window = f" {window_text(rate.daily)}" if rate.daily else ""
    unit = "/h" if rate.kind in TIMED_KINDS else ""
    return f"{rate.kind.value}{tier}{above}{window} {cents_text(rate.usd)}{unit}"


def window_text(window: DailyWindow) -> str:
    """A window as it is written in a rate: `mon-fri/09:30-16:30`."""
    days = weekdays_text(window.weekdays)
    if window.start == window.end == _MIDNIGHT:
        return days
    clocks = f"{_clock_text(window.start)}-{_clock_text(window.end)}"
    return f"{days}/{clocks}" if days else clocks


def weekdays_text(weekdays: Sequence[Weekday]) -> str:
    """Days of the week, with three or more in a row as a range: `mon-fri`, `sat,sun`. Empty for every day."""
    runs: list[list[Weekday]] = []
    for day in weekdays:
        if runs and _WEEK.index(day) == _WEEK.index(runs[-1][-1]) + 1:
            runs[-1].append(day)
        else:
            runs.append([day])
    return ",".join(f"{run[0]}-{run[-1]}" if len(run) > 2 else ",".join(run) for run in runs)


def _usd(text: str, rate: str, kind: UsageKind) -> Decimal:
    try:
        usd = plain_decimal(text)
    except ValueError:
        usd = None
    if usd is None or usd < 0:
        raise InvalidRateError(f"{rate!r}: expected USD {unit_name(kind)}, 0 or more, got {text!r}")
    return usd


def _window(text: str, rate: str) -> DailyWindow:
    days, slash, clocks = text.partition("/")
    if not slash and ":" in text:
        days, clocks = "", text
    if not days and not clocks:
        raise InvalidRateError(f"{rate!r}: expected {_WINDOW_FORM}, got nothing")
    found = _CLOCKS.fullmatch(clocks)
    if clocks and found is None:
        raise InvalidRateError(f"{rate!r}: expected a time of day in UTC such as 09:30-16:30, got {clocks!r}")
    try:
        start, end = (time.fromisoformat(found[1]), time.fromisoformat(found[2])) if found else (_MIDNIGHT,) * 2
        window = DailyWindow(start, end, tuple(_weekdays(days.lower())))
    except ValueError as error:
        raise InvalidRateError(f"{rate!r}: expected {_WINDOW_FORM}, got {text!r}") from error
    if window.start == window.end and not window.weekdays:
        raise InvalidRateError(f"{rate!r}: a window that is always open is no condition; leave it out")
    return window


def _weekdays(text: str) -> Iterator[Weekday]:
    """Raises ValueError for a name that is no day of the week."""
    for part in filter(None, text.split(",")):
        first, dash, last = part.partition("-")
        begin = _WEEK.index(Weekday(first))
        days = (_WEEK.index(Weekday(last)) - begin) % 7 if dash else 0
        yield from (_WEEK[(begin + day) % 7] for day in range(days + 1))


def _clock_text(clock: time) -> str:
    return f"{clock:%H:%M:%S}" if clock.second else f"{clock:%H:%M}"
