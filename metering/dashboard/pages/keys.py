"""The keys page: who may call, with forms to create, rotate, limit and revoke a key."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from metering.access.keys import Key, KeyState
from metering.access.scopes import Role, Scope
from metering.access.store.keys import list_keys
from metering.customers.queries.customers import customer_names, first_customers
from metering.dashboard.links import link
from metering.dashboard.page_request import Page, PageRequest
from metering.dashboard.tables import Cell, Column, Kind, Row, Table

# Customers that the form suggests.
_SUGGESTED = 200


@dataclass(frozen=True, slots=True)
class ShownSecret:
    """A secret that is shown once, and what was done to its key."""

    key_id: str
    secret: str
    done: str


def keys(request: PageRequest) -> Page:
    """The page."""
    return keys_page(request, shown=None)


def keys_page(request: PageRequest, *, shown: ShownSecret | None) -> Page:
    """The page, with the secret of a key that was just created or rotated."""
    found = list_keys(request.connection)
    names = customer_names(request.connection, {key.customer_id for key in found if key.customer_id})
    table = _table(found, request.now, names)
    chosen = request.text("key")
    return Page(
        template="keys.html.j2",
        title="Keys",
        section="keys",
        context={
            "table": table,
            "secret": shown,
            "revoked": request.text("revoked"),
            "limited": request.text("limited"),
            "chosen": next((key for key in found if key.key_id == chosen), None),
            "active": [key for key in found if key.state(request.now) is KeyState.ACTIVE],
            "roles": [role.value for role in Role],
            "scopes": [scope.value for scope in Scope],
            "customers": first_customers(request.connection, limit=_SUGGESTED),
        },
        tables=[table],
    )


def _table(found: Sequence[Key], now: datetime, names: Mapping[str, str]) -> Table:
    return Table(
        name="keys",
        title="Keys, oldest first",
        columns=[
            Column("key_id", "Key", Kind.CODE),
            Column("name", "Name"),
            Column("role", "Role"),
            Column("bound", "Bound to", Kind.PROSE),
            Column("limits", "Limits", Kind.PROSE),
            Column("state", "State", Kind.STATE),
            Column("created_at", "Created", Kind.TIME),
            Column("last_used_at", "Last used", Kind.TIME),
            Column("expires_at", "Expires", Kind.TIME),
            Column("old_secret_ends_at", "Old secret ends", Kind.TIME),
        ],
        rows=[_row(key, now, names) for key in found],
        empty="There are no keys.",
        note="The time of the last use is stored at most once a minute.",
    )


def _row(key: Key, now: datetime, names: Mapping[str, str]) -> Row:
    name = names.get(key.customer_id or "")
    customer = f"customer {name}" if name else "customer"
    bound: Mapping[str, str | None] = {customer: key.customer_id, "source": key.source}
    return {
        "key_id": Cell(key.key_id, link("audit-log", kind="key", subject=key.key_id)),
        "name": key.name,
        "role": key.role.value if key.listed is None else f"{key.role.value}: {', '.join(key.listed)}",
        "bound": ", ".join(f"{what} `{value}`" for what, value in bound.items() if value),
        "limits": ", ".join(_limits(key)),
        "state": key.state(now).value,
        "created_at": key.created_at,
        "last_used_at": key.last_used_at,
        "expires_at": key.expires_at,
        "old_secret_ends_at": key.old_secret_ends_at,
    }


def _limits(key: Key) -> list[str]:
    """The limits that are the key's own."""
    own = {
        "events/s": key.limits.events_per_second,
        "requests/s": key.limits.requests_per_second,
        "at a time": key.limits.concurrent_requests,
    }
    return [f"{limit:,} {what}" for what, limit in own.items() if limit is not None]
