"""Money: exact USD cents as `Decimal`. Nothing here rounds; only invoices do (`months/invoice.py`)."""

from collections.abc import Iterable
from decimal import Context, Decimal, DivisionByZero, Inexact, InvalidOperation, Overflow
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


def with_percent(amount: Decimal, *, percent: Decimal) -> Decimal:
    """An amount or a rate plus a percentage of it, exactly: amount x (100 + percent) / 100.

    >>> with_percent(Decimal("2.5"), percent=Decimal("-10"))
    Decimal('2.250')
    """
    return EXACT.scaleb(EXACT.multiply(amount, EXACT.add(_HUNDRED, percent)), -2)


def sum_cents(amounts: Iterable[Decimal]) -> Decimal:
    """The exact sum; 0 without amounts."""
    return reduce(EXACT.add, amounts, ZERO)


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
