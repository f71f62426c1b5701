"""`metering grants`: prepaid and promotional money of customers."""

import secrets
from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any

import typer

from metering.cli.known import customer_or_fail
from metering.cli.options import AsJson, Limit, OnlyCustomer, parse_decimal, time_text
from metering.cli.service import database, operator
from metering.core.clock import utc_now
from metering.core.money import EXACT, cents_text
from metering.core.time_zones import UTC_ZONE
from metering.credits.create_grant import create_grant
from metering.credits.end_grant import UnknownGrantError, refund_grant, void_grant
from metering.credits.grant import Funding, Grant, GrantEntry, GrantLimits, GrantState
from metering.credits.queries.entries import list_entries
from metering.credits.queries.grants import list_grants
from metering.credits.store.grants import find_grant
from metering.credits.terms import GrantTerms
from metering.db.engine import transaction
from metering.server.bootstrap import build_service
from metering.server.settings import load_settings
from metering.server.terminal.columns import dollars
from metering.server.terminal.output import confirm, print_json, say, show, show_one

app = typer.Typer()

_GrantId = Annotated[str, typer.Argument(help="The grant's ID, as `metering grants list` shows it.")]
_Reason = Annotated[str, typer.Option(help="Why; the audit log shows it.")]
_Key = Annotated[
    str | None, typer.Option(help="Any text that is unique to this: run again with it, nothing is done twice.")
]


@app.command(
    "create",
    epilog="Example: metering grants create acme --usd 120 --paid-usd 100 --expires 2027-12-01 --reason 'Order 7'",
)
def create(
    customer_id: Annotated[str, typer.Argument(help="The customer.")],
    usd: Annotated[str, typer.Option(help="What it pays for, in dollars.")],
    reason: _Reason,
    paid_usd: Annotated[
        str, typer.Option(help="What the customer paid for it, in dollars; 0: promotional.")
    ] = "0",
    invoice: Annotated[
        bool, typer.Option("--invoice", help="Invoice it at Stripe; it is active once that is paid.")
    ] = False,
    priority: Annotated[int, typer.Option(help="Grants with a lower number pay first, 0 to 1000.")] = 500,
    effective_from: Annotated[
        datetime | None, typer.Option(help="From when on it pays, in UTC. Default: now.")
    ] = None,
    expires: Annotated[
        datetime | None, typer.Option(help="When what is left expires, in UTC. Default: never.")
    ] = None,
    provider: Annotated[
        list[str] | None, typer.Option(help="Only for usage of this provider; repeatable.")
    ] = None,
    model: Annotated[list[str] | None, typer.Option(help="Only for usage of this model; repeatable.")] = None,
    idempotency_key: _Key = None,
    yes: Annotated[bool, typer.Option("--yes", help="Make it without confirmation.")] = False,
    as_json: AsJson = False,
) -> None:
    """Make a grant: money that pays for what the customer uses from now on."""
    amount, paid = _cents("--usd", usd), _cents("--paid-usd", paid_usd)
    service = build_service(load_settings())
    with transaction(service.engine) as connection:
        customer_or_fail(connection, customer_id)
    if not yes and not _confirmed(customer_id, amount, paid, invoice=invoice):
        say("nothing was granted: run it with --yes")
        raise typer.Exit(1)
    funding = Funding.NONE if not paid else Funding.INVOICE if invoice else Funding.EXTERNAL
    grant = create_grant(
        engine=service.engine,
        idempotency_key=idempotency_key or f"cli-{secrets.token_hex(12)}",
        terms=GrantTerms(
            customer_id=customer_id,
            amount_usd_cents=amount,
            paid_usd_cents=paid,
            funding=funding,
            reason=reason,
            priority=priority,
            effective_from=_utc(effective_from),
            expires_at=_utc(expires),
            limits=GrantLimits(tuple(provider or ()), tuple(model or ())),
        ),
        by=operator(),
        now=utc_now(),
    )
    show_one(_row(grant), as_json=as_json)


@app.command("list", epilog="Example: metering grants list --customer acme")
def list_them(
    customer: OnlyCustomer = None,
    state: Annotated[GrantState | None, typer.Option(help="Only grants in this state.")] = None,
    limit: Limit = 100,
    as_json: AsJson = False,
) -> None:
    """List grants with what is left of each, newest first."""
    with database() as connection:
        found = list_grants(connection, customer_id=customer, state=state, after=None, limit=limit)
    filtered = " match" if customer or state else ""
    show(
        [_row(each) for each in found],
        as_json=as_json,
        empty=f"no grants{filtered}",
        important=("grant_id", "customer_id", "balance_usd_cents", "expires_at"),
    )


@app.command("show", epilog="Example: metering grants show gr_5d4c0a9b")
def show_grant(grant_id: _GrantId, limit: Limit = 20, as_json: AsJson = False) -> None:
    """Show a grant, and its newest entries with the charges that it paid for."""
    with database() as connection:
        grant = find_grant(connection, grant_id)
        if grant is None:
            raise UnknownGrantError(f"there is no grant {grant_id!r}: see `metering grants list`")
        entries = [
            _entry_row(each) for each in list_entries(connection, grant_id=grant_id, before=None, limit=limit)
        ]
    if as_json:
        print_json({**_row(grant), "entries": entries})
        return
    show_one(_row(grant), as_json=False)
    print()
    show(entries, as_json=False, empty="no entries", important=("entry_number", "kind", "usd_cents"))


@app.command("void", epilog="Example: metering grants void gr_5d4c0a9b --reason 'Given by mistake'")
def void(
    grant_id: _GrantId,
    reason: _Reason,
    yes: Annotated[bool, typer.Option("--yes", help="Void it without confirmation.")] = False,
    as_json: AsJson = False,
) -> None:
    """Take back what is left of a grant, without money back."""
    service = build_service(load_settings())
    if not yes and not confirm(f"void grant {grant_id}? what is left of it cannot be spent afterwards"):
        say("nothing was voided: run it with --yes")
        raise typer.Exit(1)
    ended = void_grant(engine=service.engine, grant_id=grant_id, reason=reason, by=operator(), now=utc_now())
    show_one(_row(ended), as_json=as_json)


@app.command("refund", epilog="Example: metering grants refund gr_5d4c0a9b --reason 'Contract ended'")
def refund(
    grant_id: _GrantId,
    reason: _Reason,
    usd: Annotated[
        str | None, typer.Option(help="The amount of credit to take out, in dollars. Default: all that is left.")
    ] = None,
    idempotency_key: _Key = None,
    yes: Annotated[bool, typer.Option("--yes", help="Refund it without confirmation.")] = False,
    as_json: AsJson = False,
) -> None:
    """Take what is left out of a grant, and show which part of its price to pay back."""
    service = build_service(load_settings())
    amount = _cents("--usd", usd) if usd is not None else None
    what = dollars(amount) if amount is not None else "all that is left"
    if not yes and not confirm(f"refund {what} of grant {grant_id}? this moves no money: pay back what it shows"):
        say("nothing was refunded: run it with --yes")
        raise typer.Exit(1)
    entry = refund_grant(
        engine=service.engine,
        idempotency_key=idempotency_key or f"cli-{secrets.token_hex(12)}",
        grant_id=grant_id,
        usd_cents=amount,
        reason=reason,
        by=operator(),
        now=utc_now(),
    )
    row = {
        "grant_id": grant_id,
        "usd_cents": cents_text(entry.usd_cents.copy_abs()),
        "refund_cents": entry.released_cents,
        "balance_usd_cents": cents_text(entry.balance_usd_cents),
        "booked_at": time_text(entry.booked_at),
        "reason": entry.reason,
    }
    show_one(row, as_json=as_json)


def _confirmed(customer_id: str, amount: Decimal, paid: Decimal, *, invoice: bool) -> bool:
    """Whether a person at a terminal agrees to a grant."""
    how = "promotional" if not paid else f"{'invoiced at Stripe' if invoice else 'sold'} for {dollars(paid)}"
    return confirm(f"grant {customer_id} {dollars(amount)} ({how})?")


def _cents(name: str, usd: str) -> Decimal:
    return EXACT.scaleb(parse_decimal(name, usd), 2)


def _utc(given: datetime | None) -> datetime | None:
    return given and given.replace(tzinfo=UTC_ZONE)


def _row(grant: Grant) -> dict[str, Any]:
    return {
        "grant_id": grant.grant_id,
        "customer_id": grant.customer_id,
        "state": grant.state.value,
        "balance_usd_cents": cents_text(grant.balance_at(utc_now())),
        "amount_usd_cents": cents_text(grant.amount_usd_cents),
        "paid_usd_cents": cents_text(grant.paid_usd_cents),
        "funding": grant.funding.value,
        "priority": grant.priority,
        "effective_from": time_text(grant.effective_from),
        "expires_at": time_text(grant.expires_at),
        "providers": list(grant.limits.providers) or None,
        "models": list(grant.limits.models) or None,
        "reason": grant.reason,
        "created_by": grant.created_by,
        "created_at": time_text(grant.created_at),
    }


def _entry_row(entry: GrantEntry) -> dict[str, Any]:
    return {
        "entry_number": entry.entry_number,
        "kind": entry.kind.value,
        "usd_cents": cents_text(entry.usd_cents),
        "balance_usd_cents": cents_text(entry.balance_usd_cents),
        "booked_at": time_text(entry.booked_at),
        "stream_id": entry.stream_id,
        "entry_id": entry.entry_id,
        "invoice_period": entry.entry_period,
        "released_cents": entry.released_cents,
        "reason": entry.reason,
    }
