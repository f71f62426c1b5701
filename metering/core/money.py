"""Money: exact USD cents as `Decimal`. Nothing here rounds; only an invoice does (`domain/invoice.py`)."""

from collections.abc import Iterable
from decimal import Context, Decimal, DivisionByZero, Inexact, InvalidOperation, Overflow
from functools import reduce

# 60 digits hold every product of a 53-bit counter and any realistic rate, and sums of them. Should a result
# ever need more, `Inexact` raises: money is exact, or it is an error.
EXACT = Context(prec=60, traps=[Inexact, InvalidOperation, Overflow, DivisionByZero])

ZERO = Decimal(0)
_HUNDRED = Decimal(100)

# USD per million units -> cents per unit: 100 cents a dollar over 1,000,000 units.
_CENTS_PER_UNIT_EXPONENT = -4


# Looked up once: a charge line is made with each of these, tens of thousands of times a second.
_multiply, _scaleb = EXACT.multiply, EXACT.scaleb


def cents_of(*, quantity: int, usd_per_million: Decimal) -> Decimal:
    """What `quantity` units cost at a rate, in exact cents: quantity x rate x 100 / 1,000,000."""
    return _scaleb(_multiply(Decimal(quantity), usd_per_million), _CENTS_PER_UNIT_EXPONENT)


def with_percent(amount: Decimal, *, percent: Decimal) -> Decimal:
    """An amount or a rate with a percentage added, exactly: amount x (100 + percent) / 100.

    >>> with_percent(Decimal("2.5"), percent=Decimal("-10"))
    Decimal('2.250')
    """
    return EXACT.scaleb(EXACT.multiply(amount, EXACT.add(_HUNDRED, percent)), -2)


def sum_cents(amounts: Iterable[Decimal]) -> Decimal:
    """The exact sum; zero for none."""
    return reduce(EXACT.add, amounts, ZERO)


def cents_text(amount: Decimal) -> str:
    """The one spelling of an amount: plain digits, no exponent, no trailing zeros.

    >>> cents_text(Decimal("0.49850"))
    '0.4985'
    >>> cents_text(Decimal("1E+2"))
    '100'
    """
    if not amount:
        return "0"
    return format(EXACT.normalize(amount), "f")
