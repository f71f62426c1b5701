"""Scopes: what a key may do, and the roles that group them. Each route of the API and the dashboard needs one."""

from collections.abc import Iterable
from enum import StrEnum

from metering.core.errors import MeteringError


class Scope(StrEnum):
    """One thing that a key may do: a subject, and whether it is read or changed."""

    EVENTS_WRITE = "events:write"
    POLICIES_READ = "cancel-policies:read"
    GENERATIONS_READ = "generations:read"
    STREAMS_READ = "streams:read"
    TOTALS_READ = "totals:read"
    CUSTOMERS_READ = "customers:read"
    RATES_READ = "rates:read"
    HOLDS_WRITE = "holds:write"
    BUDGETS_READ = "budgets:read"
    CORRECTIONS_READ = "corrections:read"
    CREDITS_READ = "credits:read"
    INVOICES_READ = "invoices:read"
    EXPORTS_READ = "exports:read"
    ALERTS_READ = "alerts:read"
    SYSTEM_READ = "system:read"
    CUSTOMERS_WRITE = "customers:write"
    RATES_WRITE = "rates:write"
    BUDGETS_WRITE = "budgets:write"
    CORRECTIONS_WRITE = "corrections:write"
    CREDITS_WRITE = "credits:write"
    INVOICES_WRITE = "invoices:write"
    ALERTS_WRITE = "alerts:write"
    WEBHOOKS_READ = "webhooks:read"
    WEBHOOKS_WRITE = "webhooks:write"
    KEYS_READ = "keys:read"
    KEYS_WRITE = "keys:write"
    AUDIT_LOG_READ = "audit-log:read"


class Role(StrEnum):
    """A group of scopes: to post events, to read, everything (admin); or the scopes that a key itself lists."""

    INGEST = "ingest"
    READ = "read"
    ADMIN = "admin"
    CUSTOM = "custom"


class InvalidScopeError(MeteringError):
    """There is no such scope, a custom key lists none, or a key of another role lists some."""


_INGEST = frozenset({Scope.EVENTS_WRITE, Scope.HOLDS_WRITE, Scope.POLICIES_READ, Scope.GENERATIONS_READ})
_READ_ONE_CUSTOMER = frozenset(
    {
        Scope.POLICIES_READ,
        Scope.GENERATIONS_READ,
        Scope.STREAMS_READ,
        Scope.TOTALS_READ,
        Scope.CUSTOMERS_READ,
        Scope.RATES_READ,
        Scope.BUDGETS_READ,
        Scope.CORRECTIONS_READ,
        Scope.CREDITS_READ,
        Scope.INVOICES_READ,
        Scope.EXPORTS_READ,
        Scope.ALERTS_READ,
    }
)
SCOPES_OF_ROLE = {
    Role.INGEST: _INGEST,
    Role.READ: _READ_ONE_CUSTOMER | {Scope.SYSTEM_READ},
    Role.ADMIN: frozenset(Scope),
}
# What a key that is bound to one customer can do: all else concerns other customers.
OF_ONE_CUSTOMER = _INGEST | _READ_ONE_CUSTOMER


def scopes_of(*, role: Role, listed: Iterable[str] | None, customer_id: str | None) -> frozenset[Scope]:
    """The scopes of a key: those of its role, or the ones that it lists, as far as its customer limits them.

    A listed scope that this version does not know is left out.
    """
    if role is Role.CUSTOM:
        known = set(Scope)
        scopes = frozenset(Scope(each) for each in listed or () if each in known)
    else:
        scopes = SCOPES_OF_ROLE[role]
    return scopes if customer_id is None else scopes & OF_ONE_CUSTOMER


def parse_scopes(given: Iterable[str], *, role: Role) -> list[Scope] | None:
    """The scopes that a new key lists, in order; None for a role that has its own.

    Raises:
        InvalidScopeError: a scope is unknown, a custom key lists none, or a key of another role lists some.
    """
    named = sorted(set(given))
    if unknown := [each for each in named if each not in set(Scope)]:
        raise InvalidScopeError(f"scopes: expected some of {', '.join(Scope)}; got {unknown[0]!r}")
    if role is not Role.CUSTOM:
        if named:
            raise InvalidScopeError(f"scopes: a key with role {role} has the scopes of its role; use role custom")
        return None
    if not named:
        raise InvalidScopeError(f"scopes: a custom key needs at least one of {', '.join(Scope)}")
    return [Scope(each) for each in named]


def roles_with(scope: Scope) -> list[Role]:
    """The roles that have a scope.

    >>> [str(role) for role in roles_with(Scope.TOTALS_READ)]
    ['read', 'admin']
    """
    return [role for role, scopes in SCOPES_OF_ROLE.items() if scope in scopes]
