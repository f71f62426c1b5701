"""Who an invoice is billed to, as the invoice at Stripe says: a name, an address and tax ids.

Stripe keeps them with the invoice from its finalization on: a later change of the customer does not change them.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

# Countries whose addresses have the postal code after the city and the state.
_CODE_COMES_LAST = frozenset({"AU", "CA", "GB", "IE", "IN", "NZ", "US"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """An address with the fields that Stripe has; `country` is a code of two letters."""

    line1: str | None = None
    line2: str | None = None
    postal_code: str | None = None
    city: str | None = None
    state: str | None = None
    country: str | None = None

    @property
    def lines(self) -> Sequence[str]:
        """The lines of the address, as they are written on a letter in its country."""
        if self.country in _CODE_COMES_LAST:
            place = _joined(" ", _joined(", ", self.city, self.state), self.postal_code)
        else:
            place = _joined(", ", _joined(" ", self.postal_code, self.city), self.state)
        return [line for line in (self.line1, self.line2, place, self.country) if line]


@dataclass(frozen=True, slots=True, kw_only=True)
class TaxId:
    """A tax id; `type` is Stripe's, such as `eu_vat`."""

    type: str
    value: str

    @property
    def text(self) -> str:
        """The tax id with the name of its type."""
        return f"{self.type.replace('_', ' ').upper()} {self.value}"


@dataclass(frozen=True, slots=True, kw_only=True)
class BillTo:
    """Who an invoice is billed to."""

    name: str | None = None
    address: Address | None = None
    tax_ids: tuple[TaxId, ...] = ()

    @property
    def lines(self) -> Sequence[str]:
        """The address and the tax ids, without the name."""
        address = self.address.lines if self.address else []
        return [*address, *(each.text for each in self.tax_ids)]


_decode = msgspec.json.Decoder(BillTo).decode


def stored_bill_to(document: str | None) -> BillTo | None:
    """Who an invoice is billed to, as it is stored as JSON; None before it was read."""
    return None if document is None else _decode(document)


def _joined(by: str, *parts: str | None) -> str:
    return by.join(part for part in parts if part)
