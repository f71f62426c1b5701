"""What streams are priced by, as the oracle keeps it: dated rows, of which the newest in force counts."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from fractions import Fraction
from typing import TypeVar

from tests.scenarios.prices import PRICES, Price

Prices = dict[str, Price]
ValueT = TypeVar("ValueT")
ALWAYS = datetime.fromisoformat("1970-01-01T00:00:00Z")


@dataclass(slots=True)
class Terms:
    """Rows of (from when, of what, which)."""

    cards: list[tuple[datetime, tuple[str | None, str, str], Prices]] = field(default_factory=list)
    policies: list[tuple[datetime, str, str]] = field(default_factory=list)
    markups: list[tuple[datetime, str, Fraction]] = field(default_factory=list)

    def prices(self, *, customer: str, provider: str, model: str, at: datetime) -> Prices | None:
        """The customer's own prices as they are, or else everybody's with the customer's markup."""
        own = _in_force(self.cards, (customer, provider, model), at)
        if own is not None:
            return {kind: price.when(at) for kind, price in own.items()}
        everybodys = _in_force(self.cards, (None, provider, model), at)
        factor = 1 + (_in_force(self.markups, customer, at) or Fraction(0)) / 100
        if everybodys is None:
            return None
        return {
            kind: Price(price.base * factor, price.above, price.then * factor)
            for kind, price in ((kind, price.when(at)) for kind, price in everybodys.items())
        }

    def waives(self, *, provider: str, outcome: str, at: datetime) -> bool:
        """Whether a stream that ended so costs nothing."""
        return outcome != "completed" and _in_force(self.policies, provider, at) == "zero"


def _in_force(rows: Iterable[tuple[datetime, object, ValueT]], of: object, at: datetime) -> ValueT | None:
    held = [(since, which) for since, what, which in rows if what == of and since <= at]
    return max(held, key=lambda row: row[0])[1] if held else None


PUBLISHED = Terms(cards=[(ALWAYS, (None, *names), prices) for names, prices in PRICES.items()])
