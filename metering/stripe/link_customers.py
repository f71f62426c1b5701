"""Link customers to Stripe: find Stripe customers that match, link them, or create them at Stripe."""

from collections.abc import Callable, Sequence
from datetime import datetime

from sqlalchemy import Engine

from metering.access.actors import Author
from metering.core.ids import digest
from metering.customers.queries.customers import UnlinkedCustomer, linked_stripe_ids, unlinked_customers
from metering.customers.store import CustomerDetails
from metering.db.engine import transaction
from metering.stripe.client.port import StripePort
from metering.stripe.customer_links import METADATA_KEYS, CustomerLink, match_customers
from metering.stripe.put_customer import put_customer

Progress = Callable[[int], None]


def find_links(*, engine: Engine, port: StripePort) -> Sequence[CustomerLink]:
    """Find links by metadata or e-mail for all customers without a Stripe id; nothing is written.

    Raises:
        StripeError: Stripe's customers cannot be listed.
    """
    stripe_customers = list(port.list_customers())
    with transaction(engine) as connection:
        unlinked = [each.customer_id for each in unlinked_customers(connection)]
        taken = linked_stripe_ids(connection)
    return match_customers(unlinked=unlinked, taken=taken, stripe_customers=stripe_customers)


def link(*, engine: Engine, links: Sequence[CustomerLink], now: datetime, by: Author = "metering") -> int:
    """Store the links that are unique, and make their unlinked and stuck invoices due; return how many.

    Raises:
        StripeCustomerTakenError: another customer has been linked to the Stripe id.
    """
    clear = [each for each in links if each.stripe_customer_id is not None]
    for each in clear:
        details = CustomerDetails(stripe_customer_id=each.stripe_customer_id)
        put_customer(engine=engine, customer_id=each.customer_id, details=details, by=by, now=now)
    return len(clear)


def list_unlinked(*, engine: Engine) -> Sequence[UnlinkedCustomer]:
    """Customers without a Stripe id."""
    with transaction(engine) as connection:
        return unlinked_customers(connection)


def create_at_stripe(
    *,
    engine: Engine,
    port: StripePort,
    environment: str,
    customers: Sequence[UnlinkedCustomer],
    now: datetime,
    by: Author = "metering",
    progress: Progress = lambda _: None,
) -> int:
    """Create customers at Stripe, with our id in their metadata, and link them; return how many.

    Repeated within a day, it creates none twice. After a day, `find_links` finds customers that were created but
    not linked.

    Raises:
        StripeError: a customer cannot be created; the ones before it are linked.
    """
    for done, each in enumerate(customers, start=1):
        made = port.create_customer(
            parameters={"name": each.name or each.customer_id, "metadata": {METADATA_KEYS[0]: each.customer_id}},
            idempotency_key=f"{environment}/customer/{digest(each.customer_id, each.name or '')}",
        )
        details = CustomerDetails(stripe_customer_id=made.stripe_customer_id)
        put_customer(engine=engine, customer_id=each.customer_id, details=details, by=by, now=now)
        progress(done)
    return len(customers)
