"""`metering customers`: list customers, and set their name, time zone or Stripe id."""

from decimal import Decimal, InvalidOperation
from typing import Annotated, Any

import typer

from metering.cli.options import EffectiveFrom, utc_or
from metering.cli.output import AsJson, progress_bar, say, show, show_one
from metering.core.clock import utc_now
from metering.core.money import cents_text
from metering.customers.queries import CustomerView, get_customer, list_customers
from metering.customers.store import CustomerDetails
from metering.db.engine import transaction
from metering.prices.queries import list_markups
from metering.prices.set_terms import InvalidMarkupError, set_markup
from metering.server.bootstrap import build_pusher, build_service
from metering.server.settings import load_settings
from metering.stripe.link_customers import create_at_stripe, find_links, link, list_unlinked
from metering.stripe.put_customer import put_customer

app = typer.Typer(help="Customers: who pays.", no_args_is_help=True)


@app.command("list")
def list_them(
    limit: Annotated[int, typer.Option(min=1, help="At most this many.")] = 1000, as_json: AsJson = False
) -> None:
    """List customers with their final amounts of the month so far."""
    service = build_service(load_settings())
    with transaction(service.engine) as connection:
        found = list_customers(connection, now=utc_now(), only=None, after="", limit=limit)
    show([_row(customer) for customer in found], as_json=as_json, empty="no customers yet: they come with events")


@app.command("set")
def set_one(
    customer_id: Annotated[str, typer.Argument(help="The id, as in the events' subject.")],
    name: Annotated[str | None, typer.Option(help="Name.")] = None,
    time_zone: Annotated[str | None, typer.Option(help="IANA time zone, such as Europe/Berlin.")] = None,
    stripe_customer_id: Annotated[str | None, typer.Option(help="Stripe's id, cus_….")] = None,
    as_json: AsJson = False,
) -> None:
    """Create a customer, or set what is given; the rest stays as it is."""
    service = build_service(load_settings())
    now = utc_now()
    details = CustomerDetails(name=name, time_zone=time_zone, stripe_customer_id=stripe_customer_id)
    put_customer(engine=service.engine, customer_id=customer_id, details=details, now=now)
    with transaction(service.engine) as connection:
        customer = get_customer(connection, customer_id=customer_id, now=now)
    assert customer is not None
    show_one(_row(customer), as_json=as_json)


@app.command("link")
def link_them(
    from_stripe: Annotated[
        bool, typer.Option("--from-stripe", help="Find them at Stripe: by our id in metadata, or an e-mail.")
    ] = False,
    create: Annotated[bool, typer.Option("--create", help="Make those at Stripe that are not there.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do it; without this, it is only shown.")] = False,
    as_json: AsJson = False,
) -> None:
    """Link customers to Stripe, where their invoices go; shows what it would do, and does it with --yes.

    --from-stripe looks for Stripe customers whose metadata has our id (metering_customer or customer_id), or whose
    e-mail it is. --create makes a customer at Stripe for each that is left.
    """
    if from_stripe == create:
        raise typer.BadParameter("give one of --from-stripe and --create")
    service = build_service(load_settings())
    pusher = build_pusher(service)
    if create:
        missing = list_unlinked(engine=service.engine)
        rows = [{"customer_id": each.customer_id, "name": each.name} for each in missing]
        show(rows, as_json=as_json, empty="every customer is linked to Stripe")
        if yes:
            with progress_bar("making customers") as progress:
                done = create_at_stripe(
                    engine=service.engine,
                    port=pusher.port,
                    environment=pusher.terms.environment,
                    customers=missing,
                    now=utc_now(),
                    progress=progress,
                )
            say(f"{done:,} customers made at Stripe and linked")
    else:
        links = find_links(engine=service.engine, port=pusher.port)
        rows = [
            {
                "customer_id": each.customer_id,
                "stripe_customer_id": each.stripe_customer_id,
                "by": each.reason.value,
                "problem": None if each.stripe_customer_id else f"several: {', '.join(each.candidates)}",
            }
            for each in links
        ]
        show(rows, as_json=as_json, empty="no customer at Stripe is recognized as one of ours")
        if yes:
            say(f"{link(engine=service.engine, links=links, now=utc_now()):,} customers linked")
    if rows and not yes:
        say("nothing was done: do it with --yes")


@app.command("markup")
def markup(
    customer_id: Annotated[str, typer.Argument(help="The id, as in the events' subject.")],
    percent: Annotated[
        str | None, typer.Argument(help="In percent of everybody's rates; -10 is a discount (write: -- acme -10).")
    ] = None,
    effective_from: EffectiveFrom = None,
    as_json: AsJson = False,
) -> None:
    """Set a customer's markup, or list its markups when no percentage is given."""
    service = build_service(load_settings())
    now = utc_now()
    if percent is not None:
        set_markup(
            engine=service.engine,
            customer_id=customer_id,
            percent=_decimal(percent),
            effective_from=utc_or(effective_from, now),
            set_by="the command line",
            now=now,
        )
    with transaction(service.engine) as connection:
        found = list_markups(connection, customer_id=customer_id)
    rows = [
        {
            "customer_id": each.markup.customer_id,
            "percent": cents_text(each.markup.percent),
            "effective_from": each.markup.effective_from.isoformat(timespec="seconds"),
            "provenance": each.provenance,
        }
        for each in found
    ]
    show(rows, as_json=as_json, empty=f"{customer_id} has no markup: everybody's rates are passed through")


def _decimal(text: str) -> Decimal:
    try:
        return Decimal(text)
    except InvalidOperation as error:
        raise InvalidMarkupError(f"percent: expected a number, got {text!r}") from error


def _row(customer: CustomerView) -> dict[str, Any]:
    return {
        "customer_id": customer.customer_id,
        "name": customer.name,
        "stripe_customer_id": customer.stripe_customer_id,
        "time_zone": customer.time_zone,
        "month_to_date_usd_cents": cents_text(customer.month_to_date_usd_cents),
    }
