"""`metering customers`: list customers, and set their name, time zone or Stripe id."""

from typing import Annotated, Any

import typer

from metering.bootstrap import build_service
from metering.cli.output import AsJson, show, show_one
from metering.clock import utc_now
from metering.config import load_settings
from metering.domain.money import cents_text
from metering.operations.put_customer import put_customer
from metering.store.customers import CustomerDetails
from metering.store.engine import transaction
from metering.totals.customers import CustomerView, get_customer, list_customers

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


def _row(customer: CustomerView) -> dict[str, Any]:
    return {
        "customer_id": customer.customer_id,
        "name": customer.name,
        "stripe_customer_id": customer.stripe_customer_id,
        "time_zone": customer.time_zone,
        "month_to_date_usd_cents": cents_text(customer.month_to_date_usd_cents),
    }
