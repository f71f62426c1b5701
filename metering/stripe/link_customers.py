"""Link customers to Stripe: find Stripe customers that match, link them, or create them at Stripe."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from sqlalchemy import Engine

from metering.access.actors import Author
from metering.core.ids import digest
from metering.customers.queries.customers import UnlinkedCustomer, linked_stripe_ids, unlinked_customers
from metering.customers.store import CustomerDetails
from metering.db.engine import transaction
from metering.stripe.client.errors import StripeRefusedError, StripeThrottledError, StripeUncertainError
from metering.stripe.client.port import StripePort
from metering.stripe.customer_links import METADATA_KEYS, CustomerLink, match_customers
from metering.stripe.put_customer import put_customer

Progress = Callable[[int], None]

# Each run uses up two keys of a customer at most, for which Stripe then repeats a failure for a day.
_MOST_KEYS = 20


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


@dataclass(frozen=True, slots=True, kw_only=True)
class CreatedAtStripe:
    """The Stripe ids of the customers that were created and linked, and why each of the others was `left`."""

    created: Mapping[str, str]
    left: Mapping[str, str]


def create_at_stripe(
    *,
    engine: Engine,
    port: StripePort,
    environment: str,
    customers: Sequence[UnlinkedCustomer],
    now: datetime,
    by: Author = "metering",
    progress: Progress = lambda _: None,
) -> CreatedAtStripe:
    """Create customers at Stripe, with our id in their metadata, and link them.

    Repeated within a day, it creates none twice. After a day, `find_links` finds customers that were created but
    not linked. One that Stripe refuses is left, and holds up no other.

    Raises:
        StripeError: Stripe cannot be asked; the customers before are linked.
    """
    creation = _Creation(engine, port, environment, now, by, progress)
    waiting = list(customers)
    for attempt in range(_MOST_KEYS):
        failed = [each for each in waiting if not creation.create(each, attempt)]
        if not failed:
            break
        # The failed call may have created the customer. Only one that is not there is created under another key.
        there = creation.link_those_there(failed)
        waiting = [each for each in failed if each.customer_id not in there]
    return CreatedAtStripe(created=creation.created, left=creation.left)


@dataclass(slots=True)
class _Creation:
    engine: Engine
    port: StripePort
    environment: str
    now: datetime
    by: Author
    progress: Progress
    created: dict[str, str] = field(default_factory=dict)
    left: dict[str, str] = field(default_factory=dict)
    failed_now: set[str] = field(default_factory=set)

    def create(self, customer: UnlinkedCustomer, attempt: int) -> bool:
        """Create and link a customer, or leave it with the reason; False if another key may help.

        For a day, Stripe repeats its answer to a key, also the error of a call that failed inside. Where the call
        with another key fails as well, Stripe is asked again in a later run.
        """
        customer_id = customer.customer_id
        parameters = {"name": customer.name or customer_id, "metadata": {METADATA_KEYS[0]: customer_id}}
        key = f"{self.environment}/customer/{digest(customer_id, customer.name or '')}"
        try:
            made = self.port.create_customer(
                parameters=parameters, idempotency_key=f"{key}/{attempt + 1}" if attempt else key
            )
        except StripeRefusedError as error:
            self.left[customer_id] = str(error)
            return True
        except (StripeUncertainError, StripeThrottledError) as error:
            if not error.replayed:
                raise
            self.left[customer_id] = str(error)
            failed_again = error.to_this_call and customer_id in self.failed_now
            if error.to_this_call:
                self.failed_now.add(customer_id)
            return failed_again
        self._link([CustomerLink.created(customer_id, made.stripe_customer_id)])
        return True

    def link_those_there(self, customers: Sequence[UnlinkedCustomer]) -> set[str]:
        """Link the customers that Stripe has once; returns the ids of those that it has once or several times."""
        wanted = {each.customer_id for each in customers}
        there = [each for each in find_links(engine=self.engine, port=self.port) if each.customer_id in wanted]
        self._link(there)
        return {each.customer_id for each in there}

    def _link(self, links: Sequence[CustomerLink]) -> None:
        link(engine=self.engine, links=links, now=self.now, by=self.by)
        for each in links:
            if each.stripe_customer_id is not None:
                self.created[each.customer_id] = each.stripe_customer_id
                self.left.pop(each.customer_id, None)
        self.progress(len(self.created))
