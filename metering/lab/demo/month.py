"""The demo's end of month: two customers are billed and one pays; then faults at Stripe are found and repaired.

The month is closed with `--as-of` the third day of the next one.
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from typing import Any
from zoneinfo import ZoneInfo

import httpx2

from metering.core.errors import MeteringError
from metering.core.period import BillingPeriod
from metering.lab.demo.checks import Tokens, cents
from metering.lab.demo.history import Event, cloud_event
from metering.lab.demo.processes import CUSTOMER, wait_for
from metering.lab.stripe_local.control import LocalStripeControl
from metering.server.up import Running

_UTC = ZoneInfo("UTC")
_KEY = ("sk_test_demo", "")


class MonthFailedError(MeteringError):
    """A command exited with another code than it should."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """A customer's streams of one model, all with the same tokens."""

    customer_id: str
    model: str
    provider: str
    streams: int
    tokens: Tokens

    @property
    def due(self) -> Fraction:
        """Their exact cost in US cents."""
        return self.streams * cents(model=self.model, tokens=self.tokens)


USAGES = (
    Usage(customer_id="globex", model="claude-opus-4.7", provider="anthropic", streams=230,
          tokens=Tokens(input=3_011, output=1_203)),
    Usage(customer_id="globex", model="gpt-5.5-pro", provider="openai", streams=41,
          tokens=Tokens(input=907, output=419)),
    Usage(customer_id="initech", model="claude-opus-4.7", provider="anthropic", streams=77,
          tokens=Tokens(input=12_345, cached=8_192, output=2_221)),
)  # fmt: skip

# Customers that Stripe has before they are linked.
AT_STRIPE = {
    "globex": {
        "name": "Globex GmbH",
        "address[line1]": "Invalidenstr. 1",
        "address[postal_code]": "10115",
        "address[city]": "Berlin",
        "address[country]": "DE",
        "tax_id_data[0][type]": "eu_vat",
        "tax_id_data[0][value]": "DE123456789",
    },
    "initech": {
        "name": "Initech, Inc.",
        "address[line1]": "4120 Freidrich Lane",
        "address[city]": "Austin",
        "address[state]": "TX",
        "address[postal_code]": "78744",
        "address[country]": "US",
        "tax_id_data[0][type]": "us_ein",
        "tax_id_data[0][value]": "12-3456789",
    },
}


@dataclass(frozen=True, slots=True, kw_only=True)
class MonthReport:
    """The month's invoices, the drift that was found, and the wrong figures."""

    period: str
    invoices: Sequence[dict[str, Any]]
    findings: Sequence[dict[str, Any]]
    wrong: Sequence[str]


def play_month(*, running: Running, api: httpx2.Client, say: Callable[[str], None]) -> MonthReport:
    """Post, close, push, pay, reconcile and repair; `say` prints the progress.

    Raises:
        MonthFailedError: a command failed.
        TooSlowError: something did not happen in time.
    """
    assert running.stripe_url is not None
    now = datetime.now(UTC)
    period = BillingPeriod(now.year, now.month)
    end = period.next.start(time_zone=_UTC)
    as_of = (end + timedelta(days=2)).isoformat()
    month = _Month(running, api, LocalStripeControl(running.stripe_url), str(period), as_of, [])
    say(f"posting {sum(usage.streams for usage in USAGES)} more streams of two more customers")
    month.post(max(period.start(time_zone=_UTC), now - timedelta(hours=2)))
    say("linking customers to Stripe, and closing the month as if it were over")
    month.link()
    month.close()
    say("pushed to the local Stripe; one customer pays, and a webhook reports it")
    month.pay("initech")
    month.reconcile("after the push", drift=0)
    say("planting two faults at Stripe, an edited line and a duplicate draft; finding and repairing them")
    month.plant()
    month.reconcile("with faults planted", drift=2)
    month.reconcile("with --repair", drift=0, repair=True)
    month.reconcile("after the repair", drift=0)
    findings = api.get("/v1/drift").raise_for_status().json()["data"]
    return MonthReport(period=str(period), invoices=month.invoices(), findings=findings, wrong=month.wrong)


@dataclass(frozen=True, slots=True)
class _Month:
    running: Running
    api: httpx2.Client
    stripe: LocalStripeControl
    period: str
    as_of: str
    wrong: list[str]

    def post(self, begin: datetime) -> None:
        """Post all usage, and wait until it is final."""
        for usage in USAGES:
            for first in range(0, usage.streams, 100):
                numbers = range(first, min(first + 100, usage.streams))
                events = [event for number in numbers for event in _events(usage, number, begin)]
                self.api.post("/v1/events", json=events).raise_for_status()
        wanted = sum(usage.streams for usage in USAGES)
        wait_for(lambda: self._charged() >= wanted, "the streams to be final")

    def _charged(self) -> int:
        query = {"from": "2026-01-01T00:00:00Z", "to": self.as_of, "group_by": "customer_id", "limit": "1000"}
        rows = self.api.get("/v1/totals", params=query).raise_for_status().json()["data"]
        customers = {usage.customer_id for usage in USAGES}
        return sum(row["stream_count"] for row in rows if row["customer_id"] in customers)

    def link(self) -> None:
        """Link the customers that Stripe has already, and create the others there."""
        for customer_id, details in AT_STRIPE.items():
            self._call_stripe("POST", "/v1/customers", {"metadata[metering_customer]": customer_id, **details})
        self.metering("customers", "link", "--from-stripe", "--yes")
        self.metering("customers", "link", "--create", "--yes")

    def close(self) -> None:
        """Close with an unpriced stream, which keeps its customer's month open; write it off, and close again."""
        run = ("invoices", "run", "--period", self.period, "--as-of", self.as_of, "--json")
        first = json.loads(self.metering(*run, exits=2))
        if [each["customer_id"] for each in first["refused"]] != [CUSTOMER]:
            self.wrong.append(f"{CUSTOMER}'s month closed although it has an unpriced stream")
        for item in self.api.get("/v1/backlog").raise_for_status().json()["data"]:
            resolve = ("backlog", "resolve", CUSTOMER, item["stream_id"], "write_off")
            self.metering(*resolve, "--reason", "no price was agreed upon")
        wait_for(lambda: not self.api.get("/v1/backlog").json()["data"], "the backlog to be empty")
        self.metering(*run)
        for invoice in self.invoices():
            self._check(invoice)

    def _check(self, invoice: dict[str, Any]) -> None:
        """Compare an invoice with the demo's own arithmetic."""
        who, billed = invoice["customer_id"], invoice["billed_cents"]
        exact, remainder = Fraction(invoice["exact_usd_cents"]), Fraction(invoice["remainder_usd_cents"])
        due = sum((usage.due for usage in USAGES if usage.customer_id == who), Fraction(0))
        if due and exact != due:
            self.wrong.append(f"{who}'s invoice has {invoice['exact_usd_cents']} cents, not {float(due)}")
        total = exact + Fraction(invoice["carried_in_usd_cents"]) - Fraction(invoice["prepaid_usd_cents"])
        if billed != (total // 1 if total >= 50 else 0) or billed + remainder != total:
            self.wrong.append(f"{who}'s invoice bills {billed} cents and leaves {remainder} of {total}")
        if sum(line["billed_cents"] for line in invoice["lines"]) != billed:
            self.wrong.append(f"the lines of {who}'s invoice do not add up to {billed} cents")
        wanted = "final" if billed else "deferred"
        if invoice["state"] != wanted:
            self.wrong.append(f"{who}'s invoice is {invoice['state']}, not {wanted}")

    def invoices(self) -> list[dict[str, Any]]:
        """The month's invoices, by customer."""
        found = self.api.get("/v1/invoices", params={"period": self.period}).raise_for_status().json()["data"]
        return sorted(found, key=lambda invoice: str(invoice["customer_id"]))

    def pay(self, customer_id: str) -> None:
        """Pay at Stripe, and wait until the service has recorded it."""
        self._call_stripe("POST", f"/v1/invoices/{self._stripe_id(customer_id)}/pay")
        wait_for(
            lambda: any(each["state"] == "paid" for each in self.invoices() if each["customer_id"] == customer_id),
            "the payment to be recorded",
        )

    def plant(self) -> None:
        """Edit a line, and make a second draft of an invoice, as a person in Stripe's dashboard could."""
        edited = self._call_stripe("GET", f"/v1/invoices/{self._stripe_id('globex')}")
        line = edited["lines"]["data"][0]
        self.stripe.edit(line["id"], {"amount": line["amount"] + 30}, recompute=True)
        copied = self._call_stripe("GET", f"/v1/invoices/{self._stripe_id('initech')}")
        metadata = {f"metadata[{key}]": value for key, value in copied["metadata"].items()}
        self._call_stripe("POST", "/v1/invoices", {"customer": copied["customer"], **metadata})

    def reconcile(self, when: str, *, drift: int, repair: bool = False) -> None:
        """Reconcile, and compare the number of differences that are left with `drift`."""
        options = ["--repair"] if repair else []
        left = json.loads(self.metering("reconcile", "--json", *options, exits=2 if drift else 0))["left"]
        if left != drift:
            self.wrong.append(f"{left} differences from Stripe {when}, not {drift}")

    def metering(self, *arguments: str, exits: int = 0) -> str:
        """Run a command; returns what it prints.

        Raises:
            MonthFailedError: its exit code is not `exits`.
        """
        done = subprocess.run(
            [sys.executable, "-m", "metering", *arguments],
            env={**os.environ, **self.running.environment},
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )
        if done.returncode != exits:
            output = (done.stderr or done.stdout).strip()
            raise MonthFailedError(f"metering {' '.join(arguments)} exited with {done.returncode}: {output}")
        return done.stdout

    def _stripe_id(self, customer_id: str) -> str:
        (found,) = (each for each in self.invoices() if each["customer_id"] == customer_id)
        stripe_invoice_id: str = found["stripe_invoice_id"]
        return stripe_invoice_id

    def _call_stripe(self, method: str, path: str, form: dict[str, str] | None = None) -> Any:
        url = f"{self.running.stripe_url}{path}"
        return httpx2.request(method, url, data=form, auth=_KEY, timeout=10).raise_for_status().json()


def _events(usage: Usage, number: int, begin: datetime) -> list[Event]:
    stream_id = f"{usage.model}-{number}"
    started = begin + timedelta(seconds=number)
    counts = {
        "input_tokens": usage.tokens.input,
        "output_tokens": usage.tokens.output,
        **({"cache_read_input_tokens": usage.tokens.cached} if usage.tokens.cached else {}),
    }
    start = {"provider": usage.provider, "model": usage.model}
    end = {"outcome": "completed", "usage": counts, "usage_source": "provider"}
    return [
        cloud_event("stream-start", usage.customer_id, stream_id, started, start),
        cloud_event("stream-end", usage.customer_id, stream_id, started + timedelta(seconds=4), end),
    ]
