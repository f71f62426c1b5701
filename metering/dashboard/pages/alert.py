"""The page of one alert, or of a new one: what it watches, when it fired, and the forms that change it."""

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal

from metering.alerts.alerts import MAX_TRAILING_DAYS, Alert, AlertKind, scopes_of
from metering.alerts.queries.alerts import OccurrenceFilter, find_alert, list_occurrences
from metering.alerts.queries.webhooks import delivery_counts
from metering.core.money import EXACT, cents_text
from metering.customers.queries.customers import first_customers
from metering.dashboard.errors import NotFoundError
from metering.dashboard.fields import FormState
from metering.dashboard.links import link
from metering.dashboard.page_request import Page, PageRequest
from metering.dashboard.pages.alerts import IN_DOLLARS, SCOPES, SUGGESTED, occurrence_table

_SHOWN = 20


@dataclass(frozen=True, slots=True)
class KindText:
    """What a kind of alert is called, what it is for, and the unit in which thresholds are written."""

    title: str
    says: str
    unit: str
    example: str


KINDS: Mapping[AlertKind, KindText] = {
    AlertKind.SPEND: KindText(
        "Monthly budget", "A customer's final cost of the month reaches a share of its budget.", "% of the budget",
        "50, 80, 100",
    ),
    AlertKind.DAILY_CHANGE: KindText(
        "Daily change", "A day costs so much more, or less, than the mean of the days before it.", "%", "50, -50"
    ),
    AlertKind.ESTIMATED_SHARE: KindText(
        "Estimated share", "So much of the month's cost is an estimate, or of abandoned streams.", "%", "10"
    ),
    AlertKind.DRIFT: KindText(
        "Drift", "A reconciliation with Stripe finds a difference of this size.", "$", "0.01"
    ),
    AlertKind.BACKLOG_AGE: KindText(
        "Backlog age", "The stream that has waited longest in the backlog waits this long.", "hours", "4, 24"
    ),
    AlertKind.PRICE_CHANGE: KindText(
        "Price change", "New catalogue prices would change the cost of the last month by this much.", "$", "1"
    ),
    AlertKind.INCONSISTENT_USAGE: KindText(
        "Inconsistent usage", "So many streams of a day have counters that contradict each other.", "streams", "1"
    ),
    AlertKind.BUDGET: KindText(
        "Budget limit", "What is spent of a budget, without what is held, reaches a share of its limit.",
        "% of the limit", "80, 100",
    ),
    AlertKind.BALANCE_BELOW: KindText(
        "Prepaid balance", "What a customer has left of its grants without limits falls to this or below.", "$",
        "50, 0",
    ),
}  # fmt: skip
_WITH_MINIMUM = (AlertKind.DAILY_CHANGE, AlertKind.ESTIMATED_SHARE)


def alert(request: PageRequest) -> Page:
    """The page of an alert."""
    return alert_page(request, request.id("alert_id"), FormState())


def new_alert(request: PageRequest) -> Page:
    """The page of a new alert of a `kind`."""
    return new_alert_page(request, request.one_of("kind", tuple(AlertKind)) or AlertKind.SPEND, FormState())


def new_alert_page(request: PageRequest, kind: str, form: FormState) -> Page:
    """The page with the form of a new alert, and what was typed into it."""
    kind = AlertKind(kind)
    return Page(
        template="alert.html.j2",
        title="New alert",
        section="alerts",
        crumbs=[("Alerts", link("alerts"))],
        context={
            "alert": None,
            "kind": kind,
            "kinds": KINDS,
            "scopes": {each.value: SCOPES[each] for each in scopes_of(kind)},
            "customers": first_customers(request.connection, limit=SUGGESTED),
            "form": form,
            "fields": fields_of(kind),
            "most_days": MAX_TRAILING_DAYS,
            "tables": [],
            "done": None,
        },
    )


def alert_page(request: PageRequest, alert_id: str, form: FormState) -> Page:
    """The page of an alert, and what was typed into its form."""
    found = find_alert(request.connection, alert_id=alert_id)
    if found is None or (request.viewer.customer_id not in (None, found.terms.customer_id)):
        raise NotFoundError(f"there is no alert {alert_id!r}")
    where = OccurrenceFilter(alert_id=alert_id)
    occurred = list_occurrences(request.connection, where=where, before=None, limit=_SHOWN + 1)
    counts = delivery_counts(request.connection, message_ids=[each.message_id for each in occurred[:_SHOWN]])
    table = occurrence_table(occurred[:_SHOWN], counts, whole=len(occurred) <= _SHOWN,
                             to_customer=request.is_customers)  # fmt: skip
    kind = found.terms.kind
    return Page(
        template="alert.html.j2",
        title=found.name,
        section="alerts",
        crumbs=[("Alerts", link("alerts"))],
        customers=[found.terms.customer_id] if found.terms.customer_id else [],
        context={
            "alert": found,
            "kind": kind,
            "kinds": KINDS,
            "scopes": {each.value: text for each, text in SCOPES.items()},
            "customers": [],
            "form": form if form.values else FormState(values_of(found)),
            "fields": fields_of(kind),
            "most_days": MAX_TRAILING_DAYS,
            "tables": [table],
            "done": request.text("done"),
        },
        tables=[table],
    )


def fields_of(kind: AlertKind) -> frozenset[str]:
    """The fields that a kind has, beside its name and thresholds."""
    return frozenset(
        [
            *(["budget"] if kind is AlertKind.SPEND else []),
            *(["minimum"] if kind in _WITH_MINIMUM else []),
            *(["trailing_days"] if kind is AlertKind.DAILY_CHANGE else []),
        ]
    )


def values_of(found: Alert) -> Mapping[str, str]:
    """An alert as its form has it."""
    terms = found.terms
    scale = -2 if terms.kind in IN_DOLLARS else 0
    return {
        "name": found.name,
        "scope": terms.scope.value,
        "customer_id": terms.customer_id or "",
        "thresholds": ", ".join(cents_text(EXACT.scaleb(each, scale)) for each in terms.thresholds),
        "budget": _dollars(terms.budget_usd_cents),
        "minimum": _dollars(terms.floor_usd_cents),
        "trailing_days": str(terms.trailing_days or ""),
    }


def _dollars(amount: Decimal | None) -> str:
    return "" if amount is None else cents_text(EXACT.scaleb(amount, -2))
