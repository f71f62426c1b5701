"""The navigation: the sections, as far as a viewer may see them."""

from dataclasses import dataclass

from metering.dashboard.asking import link
from metering.dashboard.links import customer_page
from metering.dashboard.viewers import Viewer

_SECTIONS = (
    ("overview", "Overview", ""),
    ("customers", "Customers", "customers"),
    ("models", "Models", "models"),
    ("streams", "Streams", "streams"),
    ("invoices", "Invoices", "invoices"),
    ("drift", "Drift", "drift"),
    ("alerts", "Alerts", "alerts"),
    ("backlog", "Backlog", "backlog"),
    ("rates", "Rates", "rates"),
    ("system", "System", "system"),
)
# What is of the deployment, and of no single customer.
OF_DEPLOYMENT = frozenset({"customers", "system"})


@dataclass(frozen=True, slots=True)
class Entry:
    """A section's name and address, and whether the page belongs to it."""

    title: str
    href: str
    current: bool


def navigation(viewer: Viewer, section: str) -> list[Entry]:
    """The sections; whoever may see one customer only finds that one instead of the list."""
    entries = [
        Entry(title, link(path), name == section)
        for name, title, path in _SECTIONS
        if viewer.customer_id is None or name not in OF_DEPLOYMENT
    ]
    if viewer.customer_id is not None:
        own = customer_page(viewer.customer_id)
        entries.insert(1, Entry("Your account", own, section == "customers"))
    return entries
