"""The scopes that pages, files and forms need of the viewer's key. `viewer_of` checks them.

Every route declares them, with `needs`, or with `open_to_all` that it needs no session.
"""

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from metering.access.scopes import Scope

EndpointT = TypeVar("EndpointT", bound=Callable[..., Any])

# A page needs the scopes of all that it shows.
SCOPES_OF_PAGES: Mapping[str, tuple[Scope, ...]] = {
    "/": (Scope.TOTALS_READ, Scope.INVOICES_READ, Scope.CORRECTIONS_READ),
    "/start": (Scope.TOTALS_READ, Scope.INVOICES_READ, Scope.CORRECTIONS_READ),
    "/customers": (Scope.CUSTOMERS_READ, Scope.TOTALS_READ),
    "/customer": (Scope.CUSTOMERS_READ, Scope.TOTALS_READ, Scope.INVOICES_READ, Scope.ALERTS_READ),
    "/adjust": (Scope.CUSTOMERS_READ, Scope.CORRECTIONS_WRITE),
    "/budgets": (Scope.BUDGETS_READ, Scope.CUSTOMERS_READ),
    "/credits": (Scope.CREDITS_READ, Scope.CUSTOMERS_READ, Scope.TOTALS_READ),
    "/grant": (Scope.CREDITS_READ,),
    "/models": (Scope.TOTALS_READ,),
    "/streams": (Scope.STREAMS_READ,),
    "/streams/suggestions": (Scope.STREAMS_READ,),
    "/stream": (Scope.STREAMS_READ,),
    "/stream/sheet": (Scope.STREAMS_READ,),
    "/month-end": (Scope.INVOICES_READ, Scope.CUSTOMERS_READ),
    "/invoices": (Scope.INVOICES_READ,),
    "/invoice": (Scope.INVOICES_READ,),
    "/invoice/entries": (Scope.INVOICES_READ, Scope.STREAMS_READ),
    "/drift": (Scope.INVOICES_READ,),
    "/alerts": (Scope.ALERTS_READ,),
    "/alert": (Scope.ALERTS_READ,),
    "/alert/new": (Scope.ALERTS_READ, Scope.ALERTS_WRITE, Scope.CUSTOMERS_READ),
    "/webhook": (Scope.WEBHOOKS_READ,),
    "/webhook/new": (Scope.WEBHOOKS_READ, Scope.WEBHOOKS_WRITE),
    "/backlog": (Scope.CORRECTIONS_READ,),
    "/settle": (Scope.CORRECTIONS_READ, Scope.STREAMS_READ),
    "/rates": (Scope.RATES_READ, Scope.POLICIES_READ),
    "/rate": (Scope.RATES_READ,),
    "/keys": (Scope.KEYS_READ,),
    "/audit-log": (Scope.AUDIT_LOG_READ,),
    "/system": (Scope.SYSTEM_READ,),
    # It finds what the viewer may read.
    "/search": (),
    "/receipt.json": (Scope.STREAMS_READ,),
    "/statement.pdf": (Scope.INVOICES_READ,),
    "/statement.html": (Scope.INVOICES_READ,),
}


def needs(*scopes: Scope) -> Callable[[EndpointT], EndpointT]:
    """Declare the scopes that a route needs, none for any session."""

    def declare(endpoint: EndpointT) -> EndpointT:
        endpoint.scopes = scopes  # type: ignore[attr-defined]
        return endpoint

    return declare


def open_to_all(endpoint: EndpointT) -> EndpointT:
    """Declare that a route needs no session."""
    endpoint.scopes = None  # type: ignore[attr-defined]
    return endpoint
