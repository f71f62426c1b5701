"""Values as people read them: money with as many digits as it takes, counts, shares, ages."""

from datetime import UTC, datetime, timedelta
from decimal import ROUND_HALF_EVEN, Decimal
from zoneinfo import ZoneInfo

from metering.core.money import EXACT, cents_text

_CENT = Decimal("0.01")
# Enough to see whether it moves: two digits that are not zero.
_SMALL_DIGITS = 2
_UNITS = ((timedelta(days=1), "d"), (timedelta(hours=1), "h"), (timedelta(minutes=1), "min"))


def money(usd_cents: Decimal) -> str:
    """An amount in dollars: to the cent, below a cent with two digits that say something; never $0.00 for more.

    >>> money(Decimal("123456.7")), money(Decimal("0.0026175")), money(Decimal(0)), money(Decimal("-0.4985"))
    ('$1,234.57', '$0.000026', '$0.00', '-$0.0050')
    """
    dollars = EXACT.scaleb(usd_cents, -2)
    sign, size = ("-" if dollars < 0 else ""), abs(dollars)
    step = _CENT
    if 0 < size < _CENT:
        step = Decimal(1).scaleb(size.adjusted() - _SMALL_DIGITS + 1)
    return f"{sign}${size.quantize(step, ROUND_HALF_EVEN):,f}"


def exact_money(usd_cents: Decimal) -> str:
    """The same with every digit that it has.

    >>> exact_money(Decimal("0.0026175")), exact_money(Decimal(5000)), exact_money(Decimal("-1"))
    ('$0.000026175', '$50.00', '-$0.01')
    """
    text = cents_text(EXACT.scaleb(usd_cents, -2))
    whole, _, digits = text.lstrip("-").partition(".")
    return f"{'-' if usd_cents < 0 else ''}${int(whole):,}.{digits.ljust(2, '0')}"


def dollars_text(usd_cents: Decimal) -> str:
    """Plain dollars for files: every digit, no sign of currency.

    >>> dollars_text(Decimal("0.4985"))
    '0.004985'
    """
    return cents_text(EXACT.scaleb(usd_cents, -2))


def share(part: Decimal | int, whole: Decimal | int) -> str:
    """A part in percent; a dash when there is nothing to be a part of.

    >>> share(1, 3), share(Decimal("0.0001"), 1), share(0, 1), share(1, 0)
    ('33.3 %', '< 0.1 %', '0 %', '–')
    """
    if not whole:
        return "–"
    percent = Decimal(part) * 100 / Decimal(whole)
    if not percent:
        return "0 %"
    if 0 < percent < Decimal("0.1"):
        return "< 0.1 %"
    return f"{percent.quantize(Decimal('0.1'), ROUND_HALF_EVEN):,f} %"


def change(now: Decimal, before: Decimal) -> str:
    """How an amount has moved, with its direction in words and in figures.

    >>> change(Decimal(150), Decimal(100)), change(Decimal(5), Decimal(0)), change(Decimal(1), Decimal(1))
    ('up 50.0 %', 'new', 'no change')
    """
    if now == before:
        return "no change"
    if not before:
        return "new"
    if not now:
        return "gone"
    direction = "up" if now > before else "down"
    return f"{direction} {share(abs(now - before), abs(before))}"


def count(number: int) -> str:
    """A whole number with its thousands apart."""
    return f"{number:,}"


def counted(number: int, what: str) -> str:
    """So many of something.

    >>> counted(1, "stream"), counted(1200, "stream")
    ('1 stream', '1,200 streams')
    """
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def size(octets: int) -> str:
    """A size on disk.

    >>> size(3 * 2**30), size(5 * 2**20)
    ('3.0 GiB', '5.0 MiB')
    """
    mebibytes = Decimal(octets) / 2**20
    return f"{mebibytes / 1024:,.1f} GiB" if mebibytes >= 1024 else f"{mebibytes:,.1f} MiB"


def age(since: timedelta) -> str:
    """A stretch of time in its largest unit.

    >>> age(timedelta(seconds=4)), age(timedelta(hours=30)), age(timedelta(hours=3, minutes=5))
    ('4 s', '1 d', '3 h')
    """
    for unit, name in _UNITS:
        if since >= unit:
            return f"{since // unit} {name}"
    return f"{max(since // timedelta(seconds=1), 0)} s"


def moment(at: datetime, zone: ZoneInfo | None = None) -> str:
    """A moment to the second, in UTC or in a customer's time zone; the page says which."""
    return f"{at.astimezone(zone or UTC):%Y-%m-%d %H:%M:%S}"
