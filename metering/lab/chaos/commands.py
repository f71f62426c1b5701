"""The commands that people run during chaos: link customers, close a month, reconcile while Stripe fails."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, LiteralString
from zoneinfo import ZoneInfo

import httpx2
import psycopg

from metering.core.errors import MeteringError
from metering.core.period import BillingPeriod
from metering.lab.chaos.schedule import FaultKind
from metering.lab.stripe_local.control import LocalStripeControl
from metering.lab.stripe_local.faults import Fault as StripeFault

_STRIPE_FAULTS = {
    FaultKind.STRIPE_THROTTLES: StripeFault.THROTTLE,
    FaultKind.STRIPE_LOSES_REPLIES: StripeFault.LOST_REPLY,
    FaultKind.STRIPE_LOSES_REQUESTS: StripeFault.LOST_REQUEST,
    FaultKind.STRIPE_FAILS: StripeFault.ERROR_AFTER,
}
_ATTEMPTS = 12
_CHARGE_SECONDS = 120.0
# The audit of a long run on a busy machine.
_COMMAND_SECONDS = 3_600.0
_DONE_OR_LEFT = (0, 2)
_UTC = ZoneInfo("UTC")


class CommandFailedError(MeteringError):
    """A command did not succeed however often it was run; the message has its last output."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Commands:
    """Runs `metering …` with an environment. While faults happen, a command may fail and is run again."""

    environment: dict[str, str]
    stripe_url: str
    began: datetime
    say: Callable[[str], None]

    def month(self, number: int) -> tuple[str, str]:
        """The month of the start, or a later one, and a time two days after its end."""
        period = BillingPeriod.containing(at=self.began, time_zone=_UTC)
        for _ in range(number):
            period = period.next
        end = period.next.start(time_zone=_UTC)
        return str(period), (end + timedelta(days=2)).isoformat()

    def run(self, *arguments: str, attempts: int = _ATTEMPTS) -> tuple[int, str]:
        """Run a command until it exits with 0, or with 2 for something left; returns its code and output.

        Raises:
            CommandFailedError: each attempt failed otherwise.
        """
        problem = ""
        for _ in range(attempts):
            try:
                done = subprocess.run(
                    [sys.executable, "-m", "metering", *arguments],
                    env={**os.environ, **self.environment},
                    capture_output=True,
                    text=True,
                    check=False,
                    timeout=_COMMAND_SECONDS,
                )
            except subprocess.TimeoutExpired:
                problem = f"no end within {_COMMAND_SECONDS:g} s"
                self.say(f"metering {arguments[0]}: {problem}")
                continue
            if done.returncode in _DONE_OR_LEFT:
                return done.returncode, done.stdout
            problem = (done.stderr or done.stdout).strip()[-500:]
            self.say(f"metering {arguments[0]} exited with {done.returncode}: {problem.splitlines()[-1:]}")
            time.sleep(0.5)
        raise CommandFailedError(f"metering {' '.join(arguments)} failed {attempts} times: {problem}")

    def link_customers(self) -> None:
        """Create the customers at Stripe."""
        self.run("customers", "link", "--create", "--yes")

    def close_month(self, *, force: bool, month: int = 0) -> int:
        """Close a month as if it were over; returns the number of customers that it closed or refused."""
        # Short runs begin with many faults.
        self._wait_for_row("SELECT FROM charges WHERE usd_cents > 1 LIMIT 1", within=_CHARGE_SECONDS)
        period, as_of = self.month(month)
        self.link_customers()
        forced = ("--force", "--reason", "chaos") if force else ()
        _, printed = self.run("invoices", "run", "--period", period, "--as-of", as_of, "--json", *forced)
        result = json.loads(printed)
        return int(result["closed"]) + len(result["refused"])

    def wait_for_invoices(self, *, within: float) -> None:
        """Return when there is an amount to invoice: before, a reconciliation has nothing to ask Stripe for."""
        self._wait_for_row("SELECT FROM invoices WHERE billed_cents > 0 LIMIT 1", within=within)

    def _wait_for_row(self, query: LiteralString, *, within: float) -> None:
        """Return when a query finds a row, or after so many seconds."""
        deadline = time.monotonic() + within
        while time.monotonic() < deadline:
            try:
                with psycopg.connect(self.environment["METERING_DATABASE_URL"], connect_timeout=2) as connection:
                    if connection.execute(query).rowcount:
                        return
            except psycopg.OperationalError:
                pass  # PostgreSQL is away just now
            time.sleep(0.2)

    def calm_stripe(self) -> None:
        """Remove the faults that a reconciliation did not meet, and those of one that failed."""
        control = LocalStripeControl(self.stripe_url)
        control.clear_faults()
        control.close()

    def rerate(self, *, provider: str, model: str, month: int) -> None:
        """Book what the streams of a model cost more or less at today's prices."""
        period, _ = self.month(month)
        self.run("rerate", "--period", period, "--provider", provider, "--model", model, "--yes")

    def reconcile(self) -> Any:
        """The report of a reconciliation."""
        return json.loads(self.run("reconcile", "--json")[1])

    def reconcile_with(self, kind: FaultKind, *, pick: int) -> int:
        """Reconcile while Stripe fails; returns how many requests met the fault."""
        fault = _STRIPE_FAULTS[kind]
        control = LocalStripeControl(self.stripe_url)
        try:
            control.clear_requests()
            control.fail_next("*", fault, times=1 + pick % 3)
            self.run("reconcile", "--json")
            met: int = sum(each["fault"] == fault.value for each in control.requests())
            control.clear_faults()
            return met
        except (httpx2.HTTPError, CommandFailedError) as error:
            raise OSError(str(error)) from error
        finally:
            control.close()
