"""Revenue of grants: how much of a grant's price is no longer deferred as its money is used up.

Of a grant of A sold for P, a draw earns P x drawn / A in whole cents, by cumulative difference, and what ends
without being drawn releases its share in the same way. What uses up the rest of the grant takes the rest of the
price: all entries sum to P. What is restored gives back what its draw earned, so no refund pays for it twice.
"""

from decimal import Context, Decimal, DivisionByZero, Inexact, InvalidOperation, Overflow

from msgspec import Struct

from metering.core.money import EXACT, ZERO

# A product of two amounts, which EXACT cannot always hold.
_WIDE = Context(prec=200, traps=[Inexact, InvalidOperation, Overflow, DivisionByZero])


class Earned(Struct, frozen=True, gc=False):
    """What a grant has paid, and how much of its price is earned by it and released in all, in whole cents."""

    drawn_usd_cents: Decimal = ZERO
    recognised_cents: int = 0
    released_cents: int = 0


def share_of(paid: Decimal, *, used: Decimal, amount: Decimal) -> tuple[int, int]:
    """The share of the price `paid` for `used` of `amount`, in whole cents: rounded down, and rounded up.

    >>> share_of(Decimal(100), used=Decimal(1), amount=Decimal(3))
    (33, 34)
    """
    product = _WIDE.multiply(paid, used)
    down = int(_WIDE.divide_int(product, amount))
    return down, down + (_WIDE.remainder(product, amount) != 0)


def after_draw(earned: Earned, usd_cents: Decimal, *, paid: Decimal, amount: Decimal, balance: Decimal) -> Earned:
    """After a draw of `usd_cents` (below zero: what is restored), which leaves `balance`.

    Its part of the price is its share, rounded down or up so that all parts sum to the price.
    """
    drawn = EXACT.add(earned.drawn_usd_cents, usd_cents)
    if not paid:
        return Earned(drawn)
    ended = earned.released_cents - earned.recognised_cents
    rest = int(paid) - ended
    if balance:
        least, most = share_of(paid, used=drawn, amount=amount)
        due, _ = share_of(paid, used=EXACT.subtract(amount, balance), amount=amount)
        recognised = min(max(due - ended, least), most, rest)
    else:
        recognised = rest
    return Earned(drawn, recognised, recognised + ended)


def after_end(earned: Earned, *, paid: Decimal, amount: Decimal, balance: Decimal) -> Earned:
    """After a part expired, was voided or refunded, which leaves `balance`."""
    if not paid:
        return earned
    due, _ = share_of(paid, used=EXACT.subtract(amount, balance), amount=amount)
    return Earned(earned.drawn_usd_cents, earned.recognised_cents, max(due, earned.released_cents))
