"""Lines of drafts and their invoice items: their prices, their changes, and the sums of the draft."""

from decimal import ROUND_HALF_UP, Decimal, InvalidOperation

from metering.lab.stripe_local.errors import RefusedError, invalid
from metering.lab.stripe_local.objects import list_page, merge_metadata, record_event
from metering.lab.stripe_local.store import Document, Store

_MAX_LINES = 250
_MAX_LINES_PER_CALL = 100
_PLAIN = ("description", "period", "discountable")
_UNIT, _QUANTITY = ("price_data", "unit_amount_decimal"), ("quantity", "quantity_decimal")


def is_priced(given: Document) -> bool:
    """Whether the parameters change the amount."""
    return bool(given.keys() & {"amount", "pricing", *_UNIT, *_QUANTITY})


def price(given: Document, before: Document | None = None, *, param: str) -> Document:
    """The fields `amount`, `quantity` and `pricing`; an update keeps from `before` what it does not name.

    Raises:
        RefusedError: the parameters give no amount, or two.
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
        raise invalid("Invalid quantity: it must not be negative", code="parameter_invalid_integer", param=param)
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


def draft_of(store: Store, invoice_id: str) -> Document:
    """An invoice that can be changed.

    Raises:
        RefusedError: the invoice does not exist, or is final.
    """
    invoice = store.get("invoice", invoice_id, param="invoice")
    if invoice["status"] != "draft":
        raise RefusedError(
            "This invoice is no longer editable because it has been finalized.",
            code="invoice_not_editable",
            param="invoice",
        )
    return invoice


def lines_of(store: Store, invoice_id: str) -> list[Document]:
    """The lines of an invoice, in the order in which they were added."""
    return store.where("line_item", invoice=invoice_id)


def new_item(store: Store, *, customer_id: str, currency: str, given: Document, param: str) -> Document:
    """A pending invoice item, which the caller saves."""
    now = store.now()
    return {
        "id": store.new_id("ii"),
        "object": "invoiceitem",
        "created": now,
        "currency": currency,
        "customer": customer_id,
        "date": now,
        "description": given.get("description"),
        "discountable": given.get("discountable", True),
        "invoice": None,
        "livemode": False,
        "metadata": merge_metadata({}, given.get("metadata")),
        "period": given.get("period") or {"start": now, "end": now},
        **price(given, param=param),
    }


def add_items(store: Store, invoice: Document, items: list[Document]) -> None:
    """Add a line to a draft for each of these invoice items.

    Raises:
        RefusedError: there would be too many lines, or an item has another currency.
    """
    if store.count("line_item", invoice=invoice["id"]) + len(items) > _MAX_LINES:
        raise RefusedError(f"An invoice has at most {_MAX_LINES} lines.", param="lines")
    for item in items:
        if item["currency"] != invoice["currency"]:
            raise RefusedError(f"An invoice item in {item['currency']} can not be added to it.", param="currency")
        item["invoice"] = invoice["id"]
        store.save(item)
        store.save(_line(store, item))


def _line(store: Store, item: Document) -> Document:
    shared = ("amount", "currency", "description", "discountable", "invoice", "livemode", "metadata", "period")
    details = {"invoice_item": item["id"], "proration": False}
    return {
        "id": store.new_id("il"),
        "object": "line_item",
        **{name: item[name] for name in (*shared, "quantity", "pricing")},
        "parent": {"type": "invoice_item_details", "invoice_item_details": details},
        "subtotal": item["amount"],
    }


def line_of_item(store: Store, item: Document) -> Document | None:
    """The line of an invoice item; None for a pending item."""
    if item["invoice"] is None:
        return None
    return next((line for line in lines_of(store, item["invoice"]) if item_id_of(line) == item["id"]), None)


def item_id_of(line: Document) -> str:
    """The id of a line's invoice item."""
    found: str = line["parent"]["invoice_item_details"]["invoice_item"]
    return found


def change(store: Store, given: Document, *, line: Document | None, item: Document | None, param: str) -> None:
    """Change a line and its item, where they exist, to the same values, starting from those of the line."""
    before = line or item
    assert before is not None
    changes = {name: given[name] for name in _PLAIN if name in given}
    changes["metadata"] = merge_metadata(before["metadata"], given.get("metadata"))
    if is_priced(given):
        changes |= price(given, before, param=param)
    for document in filter(None, (line, item)):
        document |= changes
        if document["object"] == "line_item":
            document["subtotal"] = document["amount"]
        store.save(document)


def sum_up(store: Store, invoice: Document) -> Document:
    """Set the sums of an invoice to those of its lines, and save it."""
    subtotal = sum(line["amount"] for line in lines_of(store, invoice["id"]))
    for name in ("subtotal", "subtotal_excluding_tax", "total", "total_excluding_tax"):
        invoice[name] = subtotal
    invoice["amount_due"] = invoice["amount_remaining"] = max(subtotal, 0)
    return store.save(invoice)


def lines_changed(store: Store, invoice: Document) -> Document:
    """Update the sums of a draft after a change of its lines, and record the event."""
    sum_up(store, invoice)
    record_event(store, "invoice.updated", invoice)
    return invoice


def add(store: Store, invoice_id: str, params: Document) -> Document:
    """`POST /v1/invoices/{invoice}/add_lines`: new lines, or pending invoice items."""
    invoice = draft_of(store, invoice_id)
    add_items(store, invoice, [_item(store, invoice, each) for each in _bounded(params["lines"])])
    return _changed(store, invoice, params)


def _item(store: Store, invoice: Document, given: Document) -> Document:
    if "invoice_item" not in given:
        currency = given.get("price_data", {}).get("currency", invoice["currency"])
        return new_item(store, customer_id=invoice["customer"], currency=currency, given=given, param="lines")
    item = store.get("invoiceitem", given["invoice_item"], param="lines")
    if item["invoice"] is not None or item["customer"] != invoice["customer"]:
        raise RefusedError(f"The invoice item {item['id']} is not pending for this customer.", param="lines")
    return item


def update(store: Store, invoice_id: str, params: Document) -> Document:
    """`POST /v1/invoices/{invoice}/update_lines`."""
    invoice = draft_of(store, invoice_id)
    for each in _bounded(params["lines"]):
        line = _line_of(store, invoice_id, each["id"])
        change(store, each, line=line, item=store.find("invoiceitem", item_id_of(line)), param="lines")
    return _changed(store, invoice, params)


def remove(store: Store, invoice_id: str, params: Document) -> Document:
    """`POST /v1/invoices/{invoice}/remove_lines`: an `unassign` makes the line's item pending again."""
    invoice = draft_of(store, invoice_id)
    for each in _bounded(params["lines"]):
        line = _line_of(store, invoice_id, each["id"])
        item = store.find("invoiceitem", item_id_of(line))
        if item is not None and each["behavior"] == "unassign":
            store.save({**item, "invoice": None})
        elif item is not None:
            store.remove(item["id"])
        store.remove(line["id"])
    return _changed(store, invoice, params)


def list_all(store: Store, invoice_id: str, params: Document) -> Document:
    """`GET /v1/invoices/{invoice}/lines`, in the order in which they were added."""
    store.get("invoice", invoice_id, param="invoice")
    url = f"/v1/invoices/{invoice_id}/lines"
    return list_page(store, "line_item", params, url=url, within={"invoice": invoice_id}, oldest_first=True)


def _bounded(lines: list[Document]) -> list[Document]:
    if not 1 <= len(lines) <= _MAX_LINES_PER_CALL:
        raise RefusedError(f"lines: from 1 to {_MAX_LINES_PER_CALL} per call.", param="lines")
    return lines


def _line_of(store: Store, invoice_id: str, line_id: str) -> Document:
    line = store.get("line_item", line_id, param="lines")
    if line["invoice"] != invoice_id:
        raise RefusedError(f"No such line item: '{line_id}'", code="resource_missing", param="lines")
    return line


def _changed(store: Store, invoice: Document, params: Document) -> Document:
    invoice["metadata"] = merge_metadata(invoice["metadata"], params.get("invoice_metadata"))
    return lines_changed(store, invoice)
