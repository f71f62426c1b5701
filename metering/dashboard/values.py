"""Values formatted for reading: money, counts, shares, sizes, times."""

import re
from datetime import UTC, datetime, timedelta
from decimal import ROUND_HALF_EVEN, Decimal

from metering.core.money import EXACT, cents_text
from metering.prices.rates import ALWAYS

_CENT = Decimal("0.01")
_MACHINE_TIME = re.compile(r"\b(\d{4}-\d\d-\d\d)T(\d\d:\d\d:\d\d)(?:\.\d+)?(?:\+00:00|Z)")
# The smallest amount that columns of small amounts show.
_SMALLEST = Decimal("0.0001")
# Significant digits of an amount below a cent.
_SMALL_DIGITS = 2
_WORDS = (
    (timedelta(days=1), "day"),
    (timedelta(hours=1), "hour"),
    (timedelta(minutes=1), "minute"),
    (timedelta(seconds=1), "second"),
)
_UNITS = ((timedelta(days=1), "d"), (timedelta(hours=1), "h"), (timedelta(minutes=1), "min"))


def money(usd_cents: Decimal) -> str:
    """An amount in dollars, to the cent, or with two significant digits below a cent; $0.00 is exactly zero.

    >>> money(Decimal("123456.7")), money(Decimal("0.0026175")), money(Decimal(0)), money(Decimal("-0.4985"))
    ('$1,234.57', '$0.000026', '$0.00', '-$0.0050')
    """
    dollars = EXACT.scaleb(usd_cents, -2)
    sign, size = ("-" if dollars < 0 else ""), abs(dollars)
    step = _CENT
    if 0 < size < _CENT:
        step = Decimal(1).scaleb(size.adjusted() - _SMALL_DIGITS + 1)
    return f"{sign}${size.quantize(step, ROUND_HALF_EVEN):,f}"


def money_to(usd_cents: Decimal, places: int) -> str:
    """An amount in dollars with so many digits after the point; what would be shown as 0 is not.

    >>> money_to(Decimal("0.0026175"), 4), money_to(Decimal("0.26"), 4), money_to(Decimal("-1234.5"), 2)
    ('<$0.0001', '$0.0026', '-$12.34')
    """
    dollars = EXACT.scaleb(usd_cents, -2)
    sign, size, step = ("-" if dollars < 0 else ""), abs(dollars), Decimal(1).scaleb(-places)
    rounded = size.quantize(step, ROUND_HALF_EVEN)
    return f"{sign}<${step:f}" if size and not rounded else f"{sign}${rounded:,f}"


def exact_money(usd_cents: Decimal, decimals: int = 2) -> str:
    """An amount in dollars with every digit, and at least this many decimals.

    >>> exact_money(Decimal("0.0026175")), exact_money(Decimal(5000)), exact_money(Decimal("-1"), 4)
    ('$0.000026175', '$50.00', '-$0.0100')
    """
    text = cents_text(EXACT.scaleb(usd_cents, -2))
    whole, _, digits = text.lstrip("-").partition(".")
    return f"{'-' if usd_cents < 0 else ''}${int(whole):,}.{digits.ljust(decimals, '0')}"


def small_money(usd_cents: Decimal) -> str:
    """An amount in dollars to four digits; one that is smaller says so.

    >>> small_money(Decimal("36.123")), small_money(Decimal("0.0026")), small_money(Decimal(0))
    ('$0.3612', '<$0.0001', '$0.0000')
    """
    dollars = EXACT.scaleb(usd_cents, -2)
    sign, size = ("-" if dollars < 0 else ""), abs(dollars)
    if 0 < size < _SMALLEST:
        return f"{'>-' if sign else '<'}${_SMALLEST}"
    return f"{sign}${size.quantize(_SMALLEST, ROUND_HALF_EVEN):,f}"


def duration(length: timedelta) -> str:
    """How long something took, in the two largest units; below a minute in seconds to a tenth.

    >>> duration(timedelta(seconds=4.23)), duration(timedelta(seconds=200)), duration(timedelta(hours=30))
    ('4.2 s', '3 min 20 s', '1 d 6 h')
    """
    if length < timedelta(minutes=1):
        return f"{Decimal(length // timedelta(milliseconds=1)) / 1000:.1f} s"
    units = (*_UNITS, (timedelta(seconds=1), "s"))
    first = next(place for place, (unit, _) in enumerate(units) if length >= unit)
    whole, (smaller, name) = length // units[first][0], units[first + 1]
    rest = (length - whole * units[first][0]) // smaller
    return f"{whole} {units[first][1]}" + (f" {rest} {name}" if rest else "")


def dollars_text(usd_cents: Decimal) -> str:
    """Dollars for files: every digit, no currency sign.

    >>> dollars_text(Decimal("0.4985"))
    '0.004985'
    """
    return cents_text(EXACT.scaleb(usd_cents, -2))


def share(part: Decimal | int, whole: Decimal | int) -> str:
    """A part in percent; a dash when the whole is zero.

    >>> share(1, 3), share(Decimal("0.0001"), 1), share(0, 1), share(1, 0)
    ('33.3%', '<0.1%', '0%', '–')
    """
    if not whole:
        return "–"
    percent = Decimal(part) * 100 / Decimal(whole)
    if not percent:
        return "0%"
    if 0 < percent < Decimal("0.1"):
        return "<0.1%"
    return f"{percent.quantize(Decimal('0.1'), ROUND_HALF_EVEN):,f}%"


def percent_of(part: Decimal | int, whole: Decimal | int) -> str:
    """A part of a whole as the width of a bar, from 0 to 100.

    >>> percent_of(1, 3), percent_of(5, 4), percent_of(-1, 4)
    ('33.3', '100.0', '0.0')
    """
    return f"{min(max(Decimal(part) * 100 / Decimal(whole), Decimal(0)), Decimal(100)):.1f}"


def percent(now: Decimal | int, before: Decimal | int) -> str:
    """A change in percent; "new" where there was nothing before.

    >>> percent(150, 100), percent(Decimal(50), Decimal(100)), percent(5, 0), percent(0, 0), percent(3, 3)
    ('+50.0%', '-50.0%', 'new', '–', '0.0%')
    """
    if not before:
        return "new" if now else "–"
    changed = (Decimal(now) - Decimal(before)) * 100 / abs(Decimal(before))
    return f"{'+' if changed > 0 else ''}{changed.quantize(Decimal('0.1'), ROUND_HALF_EVEN):,f}%"


def change(now: Decimal, before: Decimal) -> str:
    """How an amount has changed.

    >>> change(Decimal(150), Decimal(100)), change(Decimal(5), Decimal(0)), change(Decimal(1), Decimal(1))
    ('up 50.0%', 'new', 'no change')
    """
    if now == before:
        return "no change"
    if not before:
        return "new"
    direction = "up" if now > before else "down"
    return f"{direction} {share(abs(now - before), abs(before))}"


def count(number: int) -> str:
    """A whole number with thousands separators."""
    return f"{number:,}"


def counted(number: int, what: str, several: str | None = None) -> str:
    """A number with its noun.

    >>> counted(1, "stream"), counted(1200, "stream"), counted(2, "entry", "entries")
    ('1 stream', '1,200 streams', '2 entries')
    """
    return f"{number:,} {what if number == 1 else several or f'{what}s'}"


def size(octets: int) -> str:
    """A size on disk.

    >>> size(3 * 2**30), size(5 * 2**20)
    ('3.0 GiB', '5.0 MiB')
    """
    mebibytes = Decimal(octets) / 2**20
    return f"{mebibytes / 1024:,.1f} GiB" if mebibytes >= 1024 else f"{mebibytes:,.1f} MiB"


def age(since: timedelta) -> str:
    """A duration in its largest unit.

    >>> age(timedelta(seconds=4)), age(timedelta(hours=30)), age(timedelta(hours=3, minutes=5))
    ('4 s', '1 d', '3 h')
    """
    for unit, name in _UNITS:
        if since >= unit:
            return f"{since // unit} {name}"
    return f"{max(since // timedelta(seconds=1), 0)} s"


def ago(since: timedelta) -> str:
    """How long ago something was, in words.

    >>> ago(timedelta(seconds=2)), ago(timedelta(seconds=230)), ago(timedelta(hours=1)), ago(-timedelta(days=1))
    ('2 seconds ago', '3 minutes ago', '1 hour ago', 'just now')
    """
    for unit, name in _WORDS:
        if since >= unit:
            return f"{counted(since // unit, name)} ago"
    return "just now"


def timestamp(at: datetime) -> str:
    """A time in UTC, to the second."""
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%S}"


def plain_times(text: str) -> str:
    """A sentence whose times in UTC are written as everywhere on pages.

    >>> plain_times("dated 2026-11-28T18:44:12.123+00:00, and late")
    'dated 2026-11-28 18:44:12 UTC, and late'
    >>> plain_times('{"expires_at":"2026-11-28T18:44:12Z"}')
    '{"expires_at":"2026-11-28 18:44:12 UTC"}'
    """
    return _MACHINE_TIME.sub(r"\1 \2 UTC", text)


def day(at: datetime) -> str:
    """A day in UTC; the catalogue's rates begin in 1970, which stands for always.

    >>> day(datetime(2026, 11, 28, tzinfo=UTC)), day(datetime(1970, 1, 1, tzinfo=UTC))
    ('2026-11-28', 'the beginning')
    """
    return "the beginning" if at == ALWAYS else f"{at.astimezone(UTC):%Y-%m-%d}"
