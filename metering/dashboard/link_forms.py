"""A link that opens the page of one customer for a limited time, and no other customer's.

The link has a key in its fragment, which browsers send to no server. The key reads one customer and ends with the
link; it is listed on the page of keys, where it can be revoked at any time.
"""

from datetime import timedelta

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from metering.access.keys import KeySecret
from metering.access.manage_access import NewKey, issue_key
from metering.access.scopes import Role, Scope
from metering.core.clock import utc_now
from metering.customers.store import UnknownCustomerError, require_customer
from metering.dashboard.access import SCOPES_OF_PAGES
from metering.dashboard.errors import SIGN_IN, InvalidFormError
from metering.dashboard.forms import Form, form_routes, said_on_page
from metering.dashboard.key_forms import key_refusals
from metering.dashboard.links import link
from metering.dashboard.page_rendering import open_page_request, render_page
from metering.dashboard.pages.customers import LINK_DAYS, ShownLink, customer_of
from metering.dashboard.sessions import Viewer
from metering.db.engine import transaction
from metering.server.bootstrap import Service


def link_form_routes(service: Service) -> list[Route]:
    """The route that receives the form."""
    handlers = {"/customer/link": _create}
    return form_routes(service, handlers, *SCOPES_OF_PAGES["/customer"], Scope.KEYS_WRITE)


def address_of(secret: KeySecret, *, origin: str) -> str:
    """The link of a key that reads one customer.

    >>> address_of(KeySecret("a1", "b2"), origin="https://metering.example.com")
    'https://metering.example.com/dashboard/sign-in#key=mk_a1_b2'
    """
    return f"{origin}{SIGN_IN}#key={secret}"


def _create(service: Service, request: Request, viewer: Viewer, form: Form) -> Response:
    customer_id, days = form.get("customer_id", ""), form.get("days", "")
    if days not in map(str, LINK_DAYS):
        raise InvalidFormError(f"days: one of {', '.join(map(str, LINK_DAYS))}")
    now = utc_now()
    with said_on_page(UnknownCustomerError), transaction(service.engine) as connection:
        require_customer(connection, customer_id=customer_id)
    new = NewKey(
        role=Role.READ,
        name=f"link to the page of {customer_id}",
        customer_id=customer_id,
        expires_at=now + timedelta(days=int(days)),
    )
    with key_refusals():
        key, secret = issue_key(engine=service.engine, new=new, by=viewer.actor, now=now, within=viewer.key.scopes)
    with open_page_request(service, request) as wanted:
        asking = wanted.asking(customer_id=customer_id)
        assert key.expires_at is not None
        shown = ShownLink(key.key_id, address_of(secret, origin=wanted.origin), key.expires_at)
        return render_page(asking, customer_of(asking, customer_id, shown=shown), here=link("customer"))
