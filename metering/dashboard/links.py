"""Links within the dashboard: addresses of pages, cells that link to them, and the navigation."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from urllib.parse import urlencode

from metering.dashboard.access import SCOPES_OF_PAGES
from metering.dashboard.sessions import Viewer
from metering.dashboard.tables import Cell
from metering.totals.ranges import Range

# The filter for streams without an API key: an empty form field already means "any key".
NO_KEY = "no_key"

# Groups of the navigation: each section with its title, its path, its icon.
_GROUPS = (
    (
        "Usage",
        (
            ("overview", "Overview", "", "chart-bar"),
            ("customers", "Customers", "customers", "users"),
            ("models", "Models", "models", "cpu"),
            ("streams", "Streams", "streams", "list-details"),
        ),
    ),
    (
        "Billing",
        (
            ("month_end", "Month end", "month-end", "calendar"),
            ("invoices", "Invoices", "invoices", "file-invoice"),
            ("budgets", "Budgets", "budgets", "gauge"),
            ("credits", "Credits", "credits", "coin"),
            ("drift", "Reconciliation", "drift", "scale"),
        ),
    ),
    ("Pricing", (("rates", "Rates", "rates", "tag"),)),
    (
        "Operations",
        (
            ("alerts", "Alerts", "alerts", "bell"),
            ("backlog", "Backlog", "backlog", "inbox"),
            ("keys", "Keys", "keys", "key"),
            ("audit_log", "Audit log", "audit-log", "history"),
            ("system", "System", "system", "activity"),
        ),
    ),
)
# What a customer has no use for, or may not see.
_OF_STAFF = frozenset({"customers", "month_end", "drift", "backlog", "system"})


def link(path: str, **filters: str | None) -> str:
    """The address of a page, with the filters that are not None."""
    query = urlencode({name: value for name, value in filters.items() if value is not None})
    return f"/dashboard/{path}{'?' if query else ''}{query}"


def streams_of(*, customer_id: str | None, within: Range, **filters: str | None) -> str:
    """The final streams that ended within a range; "" as a filter means "not known"."""
    return link("streams", **range_filters(*within), customer_id=customer_id, **key_filter(filters))


def range_filters(start: datetime, end: datetime) -> dict[str, str | None]:
    """A range as filters of a link."""
    return {"from": _text(start), "to": _text(end)}


def key_filter(filters: Mapping[str, str | None]) -> dict[str, str | None]:
    """Filters of a link, with an empty API key replaced by the filter for "no key"."""
    if filters.get("api_key_id") == "":
        return {**filters, "api_key_id": None, NO_KEY: "1"}
    return dict(filters)


def customer_page(customer_id: str) -> str:
    """The address of a customer's page."""
    return link("customer", customer_id=customer_id)


def stream_page(customer_id: str, stream_id: str) -> str:
    """The address of a stream's page."""
    return link("stream", customer_id=customer_id, stream_id=stream_id)


def stream_sheet(customer_id: str, stream_id: str) -> str:
    """The address of the part that opens beside a list of streams."""
    return link("stream/sheet", customer_id=customer_id, stream_id=stream_id)


def line_page(invoice_id: str, line_key: str) -> str:
    """The address of the entries of an invoice line."""
    return link("invoice/entries", invoice_id=invoice_id, line=line_key)


def invoice_page(invoice_id: str) -> str:
    """The address of an invoice's page, by its id or number."""
    return link("invoice", invoice_id=invoice_id)


def grant_page(grant_id: str) -> str:
    """The address of a grant's page."""
    return link("grant", grant_id=grant_id)


def rate_page(provider: str, model: str) -> str:
    """The address of the page of a model's rates."""
    return link("rate", provider=provider, model=model)


def customer_cell(customer_id: str | None) -> Cell:
    """A customer's id, linked to its page. Rendering adds the customer's name."""
    return Cell(customer_id, customer_page(customer_id) if customer_id else None, customer=customer_id is not None)


def stream_cell(customer_id: str, stream_id: str | None) -> Cell:
    """A stream's id, linked to its page."""
    return Cell(stream_id, stream_page(customer_id, stream_id) if stream_id else None)


def invoice_cell(text: str | None, invoice_id: str | None) -> Cell:
    """A text about an invoice, linked to its page."""
    return Cell(text, invoice_page(invoice_id) if invoice_id else None)


def safe_url(url: str | None) -> str | None:
    """An address at Stripe, if it is http or https; else None."""
    return url if url is not None and url.startswith(("https://", "http://")) else None


def _text(at: datetime) -> str:
    return at.astimezone(UTC).isoformat().replace("+00:00", "Z")


@dataclass(frozen=True, slots=True)
class Entry:
    """A section of the navigation; `current` if the page belongs to it, `count` of what waits there."""

    title: str
    href: str
    icon: str
    current: bool
    count: int = 0


@dataclass(frozen=True, slots=True)
class Group:
    """A group of the navigation."""

    title: str
    entries: Sequence[Entry]


def navigation(viewer: Viewer, section: str, *, backlog_count: int) -> list[Group]:
    """The sections that the viewer may see, by group. A customer's overview is its own page."""
    counts = {"backlog": backlog_count}
    groups = [
        Group(
            title,
            [
                Entry(name, link(path), icon, key == section, counts.get(key, 0))
                for key, name, path, icon in entries
                if all(map(viewer.may, SCOPES_OF_PAGES[f"/{path}"]))
                and (viewer.customer_id is None or key not in _OF_STAFF)
            ],
        )
        for title, entries in _GROUPS
    ]
    return [group for group in groups if group.entries]
