"""Customers and invoices at a local Stripe, by the stock package."""

from typing import Any

import httpx2
import stripe

from tests.local_stripe import KEY, LocalStripe

LINE = {"amount": 120, "description": "usage", "metadata": {"k": "v"}, "period": {"start": 1, "end": 2}}


def customer(there: LocalStripe, **given: Any) -> str:
    return there.client.v1.customers.create(params={"name": "Acme", **given}).id  # type: ignore[typeddict-item]


def draft(there: LocalStripe, *amounts: int, key: str | None = None, **given: Any) -> stripe.Invoice:
    params: Any = {"customer": given.pop("customer", None) or customer(there), "currency": "usd", **given}
    invoice = there.client.v1.invoices.create(params, {"idempotency_key": key} if key else {})
    if amounts:
        lines = [{**LINE, "amount": amount} for amount in amounts]
        invoice = there.client.v1.invoices.add_lines(invoice.id, {"lines": lines})  # type: ignore[typeddict-item]
    return invoice


def final(there: LocalStripe, *amounts: int, **given: Any) -> stripe.Invoice:
    return there.client.v1.invoices.finalize_invoice(draft(there, *amounts, **given).id)


def ask(there: LocalStripe, method: str, path: str, form: dict[str, Any] | None = None) -> httpx2.Response:
    """A bare request, for what the package would not send or not show."""
    headers = {"authorization": f"Bearer {KEY}"}
    if method == "POST":
        return httpx2.post(there.url + path, data=form or {}, headers=headers, timeout=60)
    return httpx2.request(method, there.url + path, params=form or {}, headers=headers)
