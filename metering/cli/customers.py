"""`metering customers`: list and show customers, set their details and markup, link them to Stripe."""

from typing import Annotated, Any

import typer

from metering.cli.known import customer_hint, customer_or_fail, say_hint
from metering.cli.options import AsJson, EffectiveFrom, Limit, parse_decimal, time_text, utc_or
from metering.cli.service import database, operator
from metering.core.clock import utc_now
from metering.core.money import cents_text
from metering.corrections.queries import count_backlog
from metering.customers.queries.customers import CustomerView, get_customer, list_customers
from metering.customers.store import CustomerDetails
from metering.db.engine import transaction
from metering.months.queries.invoices import InvoiceFilter, list_invoices
from metering.prices.queries import SourcedMarkup, list_markups
from metering.prices.set_terms import set_markup
from metering.server.bootstrap import build_service
from metering.server.settings import load_settings
from metering.server.terminal.output import print_json, say, show, show_one
from metering.stripe.put_customer import put_customer
from metering.stripe.queries.pushes import push_views

app = typer.Typer()

_NEWEST = 5

CustomerId = Annotated[str, typer.Argument(help="The customer's ID, the subject of its events.")]


@app.command("list")
def list_them(limit: Limit = 1000, as_json: AsJson = False) -> None:
    """List customers with their final cost of the current month."""
    with database() as connection:
        found = list_customers(connection, now=utc_now(), only=None, after="", limit=limit)
    show(
        [_row(customer) for customer in found],
        as_json=as_json,
        empty="no customers yet: they are created by their first event",
        important=("customer_id", "name", "month_to_date_usd_cents"),
    )


@app.command("show", epilog="Example: metering customers show acme")
def show_it(customer_id: CustomerId, as_json: AsJson = False) -> None:
    """Show a customer: details, this month's cost, markups, newest invoices."""
    with database() as connection:
        customer = customer_or_fail(connection, customer_id)
        markups = [_markup_row(each) for each in list_markups(connection, customer_id=customer_id)]
        where = InvoiceFilter(customer_id=customer_id, period=None, state=None)
        found = list_invoices(connection, where=where, before=None, limit=_NEWEST)
        pushes = push_views(connection, [(customer_id, each.invoice.invoice_id) for each in found])
        waiting = count_backlog(connection, customer_id=customer_id)
    invoices = [
        {
            "number": each.number,
            "period": str(each.invoice.period),
            "state": pushes[each.invoice.invoice_id].state.value,
            "billed_cents": each.invoice.billed_cents,
        }
        for each in found
    ]
    row = {**_row(customer), "created_at": time_text(customer.created_at), "backlog_streams": waiting}
    if as_json:
        print_json({**row, "markups": markups, "invoices": invoices})
        return
    show_one(row, as_json=False)
    print()
    show(markups, as_json=False, empty=_no_markup(customer_id))
    print()
    show(invoices, as_json=False, empty="no invoices yet")


@app.command("set", epilog="Example: metering customers set acme --name Acme --time-zone Europe/Berlin")
def set_one(
    customer_id: CustomerId,
    name: Annotated[str | None, typer.Option(help="The name on invoices.")] = None,
    time_zone: Annotated[str | None, typer.Option(help="IANA time zone, e.g. Europe/Berlin.")] = None,
    stripe_customer_id: Annotated[str | None, typer.Option(help="The Stripe customer's ID, cus_….")] = None,
    as_json: AsJson = False,
) -> None:
    """Create a customer, or change the given properties."""
    if stripe_customer_id is not None and not stripe_customer_id.startswith("cus_"):
        raise typer.BadParameter(f"expected cus_…, got {stripe_customer_id!r}", param_hint="--stripe-customer-id")
    service = build_service(load_settings())
    now = utc_now()
    with transaction(service.engine) as connection:
        is_new = get_customer(connection, customer_id=customer_id, now=now) is None
    details = CustomerDetails(name=name, time_zone=time_zone, stripe_customer_id=stripe_customer_id)
    put_customer(engine=service.engine, customer_id=customer_id, details=details, by=operator(), now=now)
    with transaction(service.engine) as connection:
        customer = get_customer(connection, customer_id=customer_id, now=now, with_similar=True)
    assert customer is not None
    if is_new:
        alike = ", ".join(map(repr, customer.similar_ids))
        say(
            f"created customer {customer_id!r}" + (f"; its id differs only slightly from {alike}" if alike else "")
        )
    show_one(_row(customer), as_json=as_json)


@app.command(
    "markup",
    epilog="Example, a discount of 10%: metering customers markup acme -10",
    # A negative number looks like an option.
    context_settings={"ignore_unknown_options": True},
)
def markup(
    customer_id: CustomerId,
    percent: Annotated[
        str | None, typer.Argument(help="Percent on top of the rates for all customers; negative is a discount.")
    ] = None,
    percent_option: Annotated[str | None, typer.Option("--percent", help="The same, as an option.")] = None,
    effective_from: EffectiveFrom = None,
    as_json: AsJson = False,
) -> None:
    """Set a customer's markup, or list its markups if no percentage is given."""
    now = utc_now()
    if percent is not None and percent_option is not None:
        raise typer.BadParameter("give the percentage once", param_hint="--percent")
    percent = percent_option if percent is None else percent
    if percent is not None:
        with database() as connection:
            hint = customer_hint(connection, customer_id)
        set_markup(
            engine=build_service(load_settings()).engine,
            customer_id=customer_id,
            percent=parse_decimal("percent", percent),
            effective_from=utc_or(effective_from, now),
            set_by=operator(),
            now=now,
        )
        say_hint(hint)
    with database() as connection:
        found = list_markups(connection, customer_id=customer_id)
    show([_markup_row(each) for each in found], as_json=as_json, empty=_no_markup(customer_id))


def _no_markup(customer_id: str) -> str:
    return f"{customer_id} has no markup: the rates for all customers are passed through"


def _markup_row(each: SourcedMarkup) -> dict[str, Any]:
    return {
        "customer_id": each.markup.customer_id,
        "percent": cents_text(each.markup.percent),
        "effective_from": time_text(each.markup.effective_from),
        "provenance": each.provenance,
    }


def _row(customer: CustomerView) -> dict[str, Any]:
    return {
        "customer_id": customer.customer_id,
        "name": customer.name,
        "stripe_customer_id": customer.stripe_customer_id,
        "time_zone": customer.time_zone,
        "month_to_date_usd_cents": cents_text(customer.month_to_date_usd_cents),
        "similar_to": ", ".join(customer.similar_ids) or None,
    }
