"""Money: exact USD cents as `Decimal`. Only time priced per hour is rounded here; else only invoices round."""

import re
from collections.abc import Iterable
from decimal import ROUND_HALF_EVEN, Context, Decimal, DivisionByZero, Inexact, InvalidOperation, Overflow
from functools import reduce

# 60 digits hold the product of any 53-bit counter and any realistic rate, and sums of such products. A result
# that needs more digits raises `Inexact` instead of being rounded.
EXACT = Context(prec=60, traps=[Inexact, InvalidOperation, Overflow, DivisionByZero])

ZERO = Decimal(0)
_HUNDRED = Decimal(100)

# USD per million units -> cents per unit: 100 cents a dollar over 1,000,000 units.
_CENTS_PER_UNIT_EXPONENT = -4


# Bound once: rating calls these tens of thousands of times a second.
_multiply, _scaleb = EXACT.multiply, EXACT.scaleb


def cents_of(*, quantity: int, usd_per_million: Decimal) -> Decimal:
    """The exact cents for `quantity` units: quantity x rate x 100 / 1,000,000.

    Raises:
        decimal.Inexact: the result needs more than 60 digits.
    """
    return _scaleb(_multiply(Decimal(quantity), usd_per_million), _CENTS_PER_UNIT_EXPONENT)


_ROUNDING = Context(prec=60, rounding=ROUND_HALF_EVEN, traps=[InvalidOperation, Overflow, DivisionByZero])
_TIME_DIGITS = Decimal("1E-12")
# USD per hour -> cents per second: 100 cents a dollar over 3,600 seconds.
_SECONDS_PER_CENT_OF_AN_HOURLY_DOLLAR = Decimal(36)


def cents_of_time(*, seconds: Decimal, usd_per_hour: Decimal) -> Decimal:
    """The cents for a time: seconds x rate x 100 / 3,600, rounded half to even to 12 decimal places.

    A third of a cent has no last digit, so that an amount of time cannot be exact as others are.

    >>> cents_of_time(seconds=Decimal("12.5"), usd_per_hour=Decimal("0.111"))
    Decimal('0.038541666667')
    """
    exact = _ROUNDING.divide(_multiply(seconds, usd_per_hour), _SECONDS_PER_CENT_OF_AN_HOURLY_DOLLAR)
    return _ROUNDING.quantize(exact, _TIME_DIGITS)


def with_percent(amount: Decimal, *, percent: Decimal) -> Decimal:
    """An amount or a rate plus a percentage of it, exactly: amount x (100 + percent) / 100.

    >>> with_percent(Decimal("2.5"), percent=Decimal("-10"))
    Decimal('2.250')
    """
    return EXACT.scaleb(EXACT.multiply(amount, EXACT.add(_HUNDRED, percent)), -2)


def sum_cents(amounts: Iterable[Decimal]) -> Decimal:
    """The exact sum; 0 without amounts."""
    return reduce(EXACT.add, amounts, ZERO)


_PLAIN_NUMBER = re.compile(r"-?[0-9]+(\.[0-9]+)?")


def plain_decimal(text: str) -> Decimal:
    """A number written in plain digits. There is no negative zero.

    >>> plain_decimal("-0.50")
    Decimal('-0.50')
    >>> plain_decimal("-0")
    Decimal('0')

    Raises:
        ValueError: it is written in another way, such as `1e3`, `1_000`, `+1` or with spaces.
    """
    if _PLAIN_NUMBER.fullmatch(text) is None:
        raise ValueError(f"expected a number in plain digits, such as 12.5, got {text[:40]!r}")
    number = Decimal(text)
    return number or abs(number)


def cents_text(amount: Decimal) -> str:
    """The canonical text of an amount: plain digits, no exponent, no trailing zeros.

    >>> cents_text(Decimal("0.49850"))
    '0.4985'
    >>> cents_text(Decimal("1E+2"))
    '100'
    """
    if not amount:
        return "0"
    return format(EXACT.normalize(amount), "f")


def dollars_text(cents: Decimal | int, *, decimals: int = 2) -> str:
    """Cents as dollars, with every digit, and at least this many decimals.

    >>> dollars_text(Decimal("0.4985")), dollars_text(-123456), dollars_text(0)
    ('$0.004985', '-$1,234.56', '$0.00')
    >>> dollars_text(5, decimals=4)
    '$0.0500'
    """
    amount = EXACT.scaleb(Decimal(cents), -2)
    whole, _, digits = cents_text(abs(amount)).partition(".")
    return f"{'-' if amount < 0 else ''}${int(whole):,}.{digits.ljust(decimals, '0')}"


def decimals_of(amounts: Iterable[Decimal]) -> int:
    """The decimals that amounts of cents need as dollars: one precision for a column of them, at least two.

    >>> decimals_of([Decimal("0.4985"), Decimal(100)]), decimals_of([])
    (6, 2)
    """
    exponents = (EXACT.normalize(each).as_tuple().exponent for each in amounts)
    return max((2 - each for each in exponents if isinstance(each, int) and each < 0), default=2)
