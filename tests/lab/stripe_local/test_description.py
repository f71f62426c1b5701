"""Stripe's description of its requests: it is the one that was given, and what is not done of it is known."""

import hashlib
import re
from typing import Any

import pytest

from metering.lab.stripe_local.description import load
from tests.lab.stripe_local.making import ask
from tests.lab.stripe_local.schemas import DESCRIPTION, ROOT, operations, problems
from tests.local_stripe import LocalStripe

SHA256 = "b174e7a570d9cb8b710ff4a7b3c0d1a202ceee7aae10839737c24c581f983453"
# Their identifiers are unique for a day only, and they round by themselves: the product does not use them.
NOT_DONE = {
    "GET /v1/billing/meters",
    "POST /v1/billing/meters",
    "POST /v1/billing/meter_events",
    "POST /v1/billing/meter_event_adjustments",
}


def test_the_description_is_the_one_that_was_given() -> None:
    description = DESCRIPTION.read_bytes()
    assert hashlib.sha256(description).hexdigest() == SHA256
    given = ROOT.parent / "shared" / "stripe" / DESCRIPTION.name
    if given.parent.exists():
        assert given.read_bytes() == description


def test_all_of_it_is_known() -> None:
    assert {operation.endpoint for _, operation in load()} == set(operations())


@pytest.mark.parametrize("endpoint", operations())
def test_what_it_does_not_do_says_so_and_is_billing_meters_only(there: LocalStripe, endpoint: str) -> None:
    method, path = endpoint.split()
    answer = ask(there, method, re.sub(r"{\w+}", "x", path))
    assert (answer.status_code == 501) == (endpoint in NOT_DONE), answer.text
    if answer.status_code == 501:
        assert answer.json()["error"]["message"] == f"the local Stripe does not have {endpoint}"
    else:
        assert "Unrecognized request URL" not in answer.text
        assert answer.status_code < 500


def test_what_the_description_does_not_have_is_not_found(there: LocalStripe) -> None:
    answer = ask(there, "DELETE", "/v1/customers/cus_x")
    assert answer.status_code == 404
    assert "Unrecognized request URL (DELETE: /v1/customers/cus_x)" in answer.text


LINE = {"amount": "5", "period": {"start": "1", "end": "2"}, "metadata": {"k": "v"}}


@pytest.mark.parametrize(
    ("endpoint", "params", "accepted"),
    [
        ("POST /v1/invoices/{invoice}/add_lines", {"lines": [LINE]}, True),
        ("POST /v1/invoices/{invoice}/add_lines", {"lines": [{**LINE, "cost": "5"}]}, False),
        ("POST /v1/invoices/{invoice}/add_lines", {"lines": [{**LINE, "amount": "5.0"}]}, False),
        ("POST /v1/invoices/{invoice}/add_lines", {"lines": [{**LINE, "period": {"start": "1"}}]}, False),
        ("POST /v1/invoices/{invoice}/add_lines", {}, False),
        ("POST /v1/invoices", {"customer": "cus_x", "auto_advance": "false", "metadata": ""}, True),
        ("POST /v1/invoices", {"auto_advance": "no"}, False),
        ("POST /v1/invoices", {"pending_invoice_items_behavior": "maybe"}, False),
        ("POST /v1/invoices", {"metadata": {"k": {"v": "w"}}}, False),
        ("GET /v1/invoices", {"created": {"gte": "1"}, "limit": "100"}, True),
        ("GET /v1/invoices", {"created": {"from": "1"}}, False),
        ("GET /v1/customers/search", {}, False),
        ("DELETE /v1/invoices/{invoice}", {"force": "true"}, False),
    ],
)
def test_the_validator_and_the_local_stripe_agree_on_what_is_refused(
    there: LocalStripe, endpoint: str, params: dict[str, Any], accepted: bool
) -> None:
    assert (problems(endpoint, params) == []) == accepted
    method, path = endpoint.split()
    answer = ask(there, method, path.replace("{invoice}", "in_x"), dict(_flat(params)))
    code = answer.json().get("error", {}).get("code", "")
    assert code.startswith("parameter_") != accepted


def _flat(value: Any, name: str = "") -> list[tuple[str, str]]:
    """A form's fields, as Stripe names them."""
    if isinstance(value, str):
        return [(name, value)]
    pairs = value.items() if isinstance(value, dict) else enumerate(value)
    return [field for key, each in pairs for field in _flat(each, f"{name}[{key}]" if name else str(key))]
