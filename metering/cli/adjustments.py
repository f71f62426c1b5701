"""`metering adjustments`: credits and corrections that a person books."""

import secrets
from decimal import Decimal
from typing import Annotated, Any

import typer

from metering.cli.options import AsJson, Limit, OnlyCustomer, parse_decimal, time_text
from metering.cli.service import database, operator
from metering.core.clock import utc_now
from metering.core.money import EXACT, cents_text
from metering.core.period import BillingPeriod
from metering.corrections.adjust_manually import adjust_manually
from metering.customers.queries.customers import get_customer
from metering.customers.store import UnknownCustomerError
from metering.db.engine import transaction
from metering.ledger.entries import ManualAdjustment, ManualKind
from metering.ledger.queries.charges import list_manual_adjustments
from metering.server.bootstrap import build_service
from metering.server.settings import load_settings
from metering.server.terminal.columns import dollars
from metering.server.terminal.output import confirm, say, show, show_one

app = typer.Typer()


@app.command(
    "create", epilog="Example: metering adjustments create acme --usd -25 --reason 'Outage on 2026-11-20'"
)
def create(
    customer_id: Annotated[str, typer.Argument(help="The customer.")],
    reason: Annotated[str, typer.Option(help="Why; the invoice shows it.")],
    usd: Annotated[
        str | None,
        typer.Option(help="The amount in dollars; below 0 is in the customer's favour, e.g. --usd -25."),
    ] = None,
    cents: Annotated[str | None, typer.Option(help="The amount in cents instead, e.g. --cents -2500.")] = None,
    kind: Annotated[
        ManualKind, typer.Option(help="A credit is below 0; a correction may have either sign.")
    ] = ManualKind.CREDIT,
    stream: Annotated[str | None, typer.Option(help="For this stream. Default: the customer as a whole.")] = None,
    idempotency_key: Annotated[
        str | None,
        typer.Option(
            help="Any text that is unique to this adjustment. With the same text, the command books nothing again."
        ),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Book without confirmation.")] = False,
    as_json: AsJson = False,
) -> None:
    """Book a credit or a correction, after showing what it does.

    It is on the invoice of the month in which its stream ended, or of this month; if that month is closed, on that
    of the first open month after it.
    """
    if (usd is None) == (cents is None):
        raise typer.BadParameter("give the amount in dollars with --usd, or in cents with --cents")
    usd_cents = EXACT.scaleb(parse_decimal("--usd", usd), 2) if usd else parse_decimal("--cents", cents or "")
    service = build_service(load_settings())
    now = utc_now()
    with transaction(service.engine) as connection:
        customer = get_customer(connection, customer_id=customer_id, now=now)
    if customer is None:
        raise UnknownCustomerError(f"there is no customer {customer_id!r}: see `metering customers list`")
    if not yes and not _confirmed(customer_id, customer.name, kind, usd_cents, stream):
        say("nothing was booked: run it with --yes")
        raise typer.Exit(1)
    booked = adjust_manually(
        engine=service.engine,
        idempotency_key=idempotency_key or f"cli-{secrets.token_hex(12)}",
        customer_id=customer_id,
        stream_id=stream,
        kind=kind,
        usd_cents=usd_cents,
        reason=reason,
        booked_by=operator(),
        now=now,
    )
    show_one(_row(booked), as_json=as_json)


@app.command("list", epilog="Example: metering adjustments list --customer acme --period 2026-10")
def list_them(
    customer: OnlyCustomer = None,
    period: Annotated[str | None, typer.Option(help="Only those that count for this month, e.g. 2026-10.")] = None,
    limit: Limit = 100,
    as_json: AsJson = False,
) -> None:
    """List credits and corrections, newest first."""
    month = str(BillingPeriod.parse(period)) if period else None
    with database() as connection:
        found = list_manual_adjustments(connection, customer_id=customer, period=month, after=None, limit=limit)
    filtered = " match" if customer or period else ""
    show(
        [_row(each) for each in found],
        as_json=as_json,
        empty=f"no credits or corrections{filtered}",
        important=("customer_id", "usd_cents", "reason"),
    )


def _confirmed(
    customer_id: str, name: str | None, kind: ManualKind, usd_cents: Decimal, stream: str | None
) -> bool:
    """Whether a person at a terminal agrees to what this does."""
    whom = f"{customer_id} ({name})" if name else customer_id
    what = f" for stream {stream}" if stream else ""
    effect = "lowers" if usd_cents < 0 else "raises"
    amount = dollars(abs(usd_cents))
    return confirm(f"book a {kind.value} that {effect} the bill of {whom}{what} by {amount}?")


def _row(booked: ManualAdjustment) -> dict[str, Any]:
    return {
        "adjustment_id": booked.adjustment_id,
        "customer_id": booked.customer_id,
        "stream_id": booked.stream_id,
        "kind": booked.kind.value,
        "usd_cents": cents_text(booked.usd_cents),
        "reason": booked.reason,
        "period": booked.period,
        "booked_by": booked.booked_by,
        "booked_at": time_text(booked.booked_at),
    }
