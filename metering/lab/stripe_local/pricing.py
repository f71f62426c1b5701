"""What an item or a line comes to: an amount, or a price of one and how many."""

from decimal import ROUND_HALF_UP, Decimal, InvalidOperation

from metering.lab.stripe_local.errors import RefusedError, invalid
from metering.lab.stripe_local.store import Document

_UNIT, _QUANTITY = ("price_data", "unit_amount_decimal"), ("quantity", "quantity_decimal")


def is_priced(given: Document) -> bool:
    """Whether anything that is given changes what it comes to."""
    return bool(given.keys() & {"amount", "pricing", *_UNIT, *_QUANTITY})


def price(given: Document, before: Document | None = None, *, param: str) -> Document:
    """`amount`, `quantity` and `pricing` as given; what is left out of an update stays as it was.

    Raises:
        RefusedError: nothing says what it comes to, or two things do.
    """
    if "pricing" in given:
        named = given["pricing"].get("price")
        raise RefusedError(f"No such price: '{named}'", code="resource_missing", param=param)
    others = [name for name in (*_UNIT, *_QUANTITY) if name in given]
    if "amount" in given and others:
        raise _one_of(f"amount, {others[0]}", param)
    if "amount" in given:
        return _priced(given["amount"], 1, Decimal(given["amount"]))
    unit = _unit_amount(given, param)
    if unit is None and before is None:
        raise invalid(
            "Missing required param: amount, or price_data with a unit_amount.",
            code="parameter_missing",
            param=param,
        )
    if unit is None and before is not None:
        unit = Decimal(before["pricing"]["unit_amount_decimal"])
    assert unit is not None
    quantity = _quantity(given, before, param)
    amount = int((unit * quantity).quantize(Decimal(1), ROUND_HALF_UP))
    return _priced(amount, int(quantity) if quantity == int(quantity) else str(quantity), unit)


def _priced(amount: int, quantity: int | str, unit: Decimal) -> Document:
    return {"amount": amount, "quantity": quantity, "pricing": {"unit_amount_decimal": str(unit)}}


def _unit_amount(given: Document, param: str) -> Decimal | None:
    data = given.get("price_data", {})
    named = [
        _decimal(each, param)
        for each in (given.get("unit_amount_decimal"), data.get("unit_amount"), data.get("unit_amount_decimal"))
        if each is not None
    ]
    if len(named) > 1:
        raise _one_of("unit_amount, unit_amount_decimal", param)
    return named[0] if named else None


def _quantity(given: Document, before: Document | None, param: str) -> Decimal:
    if "quantity" in given and "quantity_decimal" in given:
        raise _one_of("quantity, quantity_decimal", param)
    named = given.get("quantity", given.get("quantity_decimal"))
    quantity = _decimal(named if named is not None else before["quantity"] if before else 1, param)
    if quantity < 0:
        raise invalid("Invalid quantity: it must not be below 0", code="parameter_invalid_integer", param=param)
    return quantity


def _one_of(names: str, param: str) -> RefusedError:
    return RefusedError(f"You may only specify one of these parameters: {names}.", param=param)


def _decimal(value: str | int, param: str) -> Decimal:
    try:
        found = Decimal(value)
    except InvalidOperation as error:
        raise invalid(f"Invalid decimal: {value}", code="parameter_invalid_number", param=param) from error
    if not found.is_finite():
        raise invalid(f"Invalid decimal: {value}", code="parameter_invalid_number", param=param)
    return found
