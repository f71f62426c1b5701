"""The customers whose money is limited in a run: their budgets and grants, and how both change. Pure.

Their streams are those of the clients that ask for holds, of the reference gateway, and for some of the emitters,
which ask for none.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from metering.lab.chaos.traffic import emitters_customer

DEPLOYMENT_BUDGET = "chaos-deployment"
# Enough for every stream of the longest run.
_PLENTY = 10**12


class Terms(StrEnum):
    """What limits a customer."""

    ROOMY = "roomy"  # budgets of customer, key and team that never end
    TIGHT = "tight"  # a budget that is raised from time to time, and not enough
    PREPAID = "prepaid"  # grants, and nothing beyond them
    OVERAGE = "overage"  # grants, some expire or pay for one model only, and the rest is owed
    LAPSED = "lapsed"  # as roomy; its holds expire before their streams begin
    UNHELD = "unheld"  # a budget that never ends; its streams are the emitters'
    GATEWAY = "gateway"  # as tight; its streams go through the reference gateway


# So many customers share the clients' streams by each of their terms. The first of the emitters' have budgets.
_EACH, _UNHELD = 4, 20
SHARED = (Terms.ROOMY, Terms.TIGHT, Terms.PREPAID, Terms.OVERAGE)
KEYS, TEAMS = ("key-a", "key-b"), ("red", "blue")


@dataclass(frozen=True, slots=True)
class Customer:
    """A customer and what limits it."""

    customer_id: str
    terms: Terms


CUSTOMERS: Sequence[Customer] = (
    *(Customer(f"money-{terms}-{number}", terms) for terms in SHARED for number in range(_EACH)),
    *(Customer(emitters_customer(number), Terms.UNHELD) for number in range(_UNHELD)),
    Customer("money-lapsed", Terms.LAPSED),
    Customer("money-gateway", Terms.GATEWAY),
)
SHARED_CUSTOMERS = tuple(customer.customer_id for customer in CUSTOMERS if customer.terms in SHARED)
ROOMY_CUSTOMER = next(each.customer_id for each in CUSTOMERS if each.terms is Terms.ROOMY)
OVERAGE_CUSTOMER = next(each.customer_id for each in CUSTOMERS if each.terms is Terms.OVERAGE)
LAPSED_CUSTOMER = next(each.customer_id for each in CUSTOMERS if each.terms is Terms.LAPSED)
GATEWAY_CUSTOMER = next(each.customer_id for each in CUSTOMERS if each.terms is Terms.GATEWAY)


def budgets_of(customer: Customer, *, raised: int, pace: int, taken: int = 0) -> Mapping[str, Mapping[str, Any]]:
    """The budgets of a customer by id, once they were `raised` so often, which happens each second.

    `pace` is how many streams a second all clients begin: half as many cents are asked for by each customer.
    `taken` is how many cents are spent or held. The gateway lets streams pass while the service is away, so its
    budget follows what they cost: after many outages, it would admit nothing.
    """
    of, name = {"customer_id": customer.customer_id}, customer.customer_id
    match customer.terms:
        case Terms.TIGHT:
            return {name: _budget(of, "total", pace + pace * raised // 5)}
        case Terms.GATEWAY:
            return {name: _budget(of, "total", max(3 + 2 * raised, taken + 2))}
        case Terms.PREPAID:
            return {name: {"scope": of, "window": "prepaid"}}
        case Terms.UNHELD:
            return {name: _budget(of, "month", _PLENTY)}
    return {
        name: _budget(of, "month", _PLENTY),
        f"{name}-key": _budget({**of, "api_key_id": KEYS[0]}, "day", _PLENTY),
        f"{name}-team": _budget({**of, "tag": {"team": TEAMS[0]}}, "total", _PLENTY, action="warn"),
    }


def deployment_budget() -> Mapping[str, Any]:
    """A budget of the whole deployment, which is there for a part of the run."""
    return _budget({"deployment": True}, "month", _PLENTY)


def grant_of(
    customer: Customer, *, number: int, pace: int, in_an_hour: str, in_seconds: str
) -> Mapping[str, Any] | None:
    """The customer's grant with this number, or None if it gets none; the last two are times for its expiry."""
    if customer.terms not in (Terms.PREPAID, Terms.OVERAGE):
        return None
    paid = number % 2
    grant: dict[str, Any] = {
        "customer_id": customer.customer_id,
        "amount_usd_cents": f"{pace + number % 7}.{number % 1000:03}",
        "paid_usd_cents": str(40 * paid),
        "funding": "external" if paid else "none",
        "priority": 500 - number % 3,
        "reason": f"chaos {number}",
    }
    if number % 4 == 1:
        grant["expires_at"] = in_an_hour
    # What is left of these is lost while the customer's streams go on.
    if customer.terms is Terms.OVERAGE and number % 4 == 2:
        grant["expires_at"] = in_seconds
    if customer.terms is Terms.OVERAGE and number % 4 == 3:
        grant["only"] = {"models": ["large"]}
    return grant


def _budget(scope: Mapping[str, Any], window: str, limit: int, *, action: str = "refuse") -> Mapping[str, Any]:
    return {"scope": scope, "window": window, "limit_usd_cents": str(limit), "action": action}
