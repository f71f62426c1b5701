"""The alerts page: occurrences with their deliveries, alerts, and webhook destinations."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal

from metering.access.scopes import Scope
from metering.alerts.alerts import DEPLOYMENT, UNITS, Alert, AlertKind, AlertScope
from metering.alerts.deliveries import DeliveryState
from metering.alerts.queries.alerts import OccurrenceFilter, OccurrenceView, list_alerts, list_occurrences
from metering.alerts.queries.webhooks import delivery_counts, list_endpoints
from metering.alerts.store.endpoints import Endpoint
from metering.core.cursors import parse_time, time_part
from metering.core.money import cents_text
from metering.core.time_zones import shown_zone
from metering.customers.queries.customers import first_customers
from metering.dashboard.links import customer_cell, link, streams_of
from metering.dashboard.page_request import Page, PageRequest
from metering.dashboard.tables import Cell, Column, Kind, Row, Table
from metering.dashboard.values import counted, dollars_text, exact_money
from metering.streams.bill import Flag

_PAGE = 50
_ALERTS = 200
# Thresholds of these kinds are cents; people read and write dollars.
IN_DOLLARS = frozenset(kind for kind, unit in UNITS.items() if unit == "usd_cents")
# Customers that a field suggests.
SUGGESTED = 200
SCOPES = {
    AlertScope.CUSTOMER: "one customer",
    AlertScope.EACH_CUSTOMER: "each customer",
    AlertScope.DEPLOYMENT: "all customers together",
}


def alerts(request: PageRequest) -> Page:
    """The page. A key bound to a customer sees that customer's own alerts; only admins see destinations."""
    kind, alone = request.one_of("kind", tuple(AlertKind)), request.viewer.customer_id
    customer_id = request.customer(request.text("customer_id"))
    tables = [
        _occurrence_table(request, kind, customer_id),
        _alert_table(request, kind=kind, customer_id=customer_id),
    ]
    if request.viewer.may(Scope.WEBHOOKS_READ):
        tables.append(_endpoint_table(list_endpoints(request.connection)))
    return Page(
        template="alerts.html.j2",
        title="Alerts",
        section="alerts",
        context={
            "tables": tables,
            "kind": kind,
            "kinds": [each for each in AlertKind if alone is None or each not in _OF_STAFF],
            "customer_id": customer_id,
            "deleted": request.text("deleted"),
            "customers": first_customers(request.connection, limit=SUGGESTED) if alone is None else [],
        },
        tables=tables,
    )


def _alert_table(request: PageRequest, *, kind: str | None, customer_id: str | None) -> Table:
    """All alerts, or those of one customer."""
    limit = request.list_limit("alerts", _ALERTS)
    found = list_alerts(request.connection, customer_id=customer_id, kind=kind, after="", limit=limit + 1)
    if request.query.get("csv") == "alerts":
        return _alert_file(found[:limit], whole=len(found) <= limit)
    return Table(
        name="alerts",
        title="Alerts",
        columns=[
            Column("name", "Name"),
            Column("kind", "Kind"),
            Column("whose", "Scope"),
            Column("thresholds", "Thresholds", Kind.PROSE),
            Column("budget", "Monthly budget", Kind.EXACT_MONEY),
            Column("floor", "Minimum", Kind.EXACT_MONEY),
            Column("enabled", "Status", Kind.STATE),
        ],
        rows=[_alert_row(each) for each in found[:limit]],
        whole=len(found) <= limit,
        empty=request.words(
            "No alerts yet. Create one here, with POST /v1/alerts, or with `metering alerts create`.",
            to_customer="No alerts.",
        ),
    )


def _alert_row(alert: Alert) -> Row:
    terms = alert.terms
    whose = terms.customer_id
    return {
        "name": Cell(alert.name, link("alert", alert_id=alert.alert_id)),
        "kind": _words(terms.kind),
        "whose": customer_cell(whose) if whose else SCOPES[terms.scope],
        "thresholds": ", ".join(_amount(terms.kind, threshold) for threshold in terms.thresholds),
        "budget": terms.budget_usd_cents,
        "floor": terms.floor_usd_cents,
        "enabled": "enabled" if alert.enabled else "muted",
    }


def _alert_file(found: Sequence[Alert], *, whole: bool) -> Table:
    """The same for a file: a row for each threshold, with a number and its unit."""
    rows: list[Row] = [
        {
            "alert_id": alert.alert_id,
            "name": alert.name,
            "kind": alert.terms.kind.value,
            "scope": alert.terms.scope.value,
            "customer_id": alert.terms.customer_id,
            "threshold": _plain(alert.terms.kind, threshold),
            "unit": _unit(alert.terms.kind),
            "budget": alert.terms.budget_usd_cents,
            "minimum": alert.terms.floor_usd_cents,
            "status": "enabled" if alert.enabled else "muted",
        }
        for alert in found
        for threshold in alert.terms.thresholds
    ]
    columns = [
        Column("alert_id", "Alert"),
        *(Column(name, name) for name in ("name", "kind", "scope", "customer_id", "threshold", "unit")),
        Column("budget", "Monthly budget", Kind.EXACT_MONEY),
        Column("minimum", "Minimum", Kind.EXACT_MONEY),
        Column("status", "Status"),
    ]
    return Table(name="alerts", title="Alerts", columns=columns, rows=rows, whole=whole, empty="")


def _unit(kind: AlertKind) -> str:
    """The unit of numbers in files; amounts are in dollars there."""
    return "usd" if kind in IN_DOLLARS else UNITS[kind]


def _plain(kind: AlertKind, value: Decimal) -> str:
    """A threshold or a value as a number, for files."""
    return dollars_text(value) if kind in IN_DOLLARS else cents_text(value)


def _occurrence_table(request: PageRequest, kind: str | None, customer_id: str | None) -> Table:
    limit, position = request.page_limit("occurrences", _PAGE), request.position(2)
    sort = request.sort("occurrences", by=("occurred_at",), default="-occurred_at")
    where = OccurrenceFilter(customer_id=customer_id, kind=kind, alerts_of=request.viewer.customer_id)
    before = (parse_time(position[0]), position[1]) if position else None
    found = list_occurrences(
        request.connection, where=where, before=before, limit=limit + 1, oldest_first=not sort.descending
    )
    got = delivery_counts(request.connection, message_ids=[each.message_id for each in found[:limit]])
    for_file = request.query.get("csv") == "occurrences"
    table = occurrence_table(found[:limit], got, for_file=for_file, to_customer=request.is_customers)
    return replace(
        table,
        sorted_by=str(sort),
        sorts=("occurred_at",),
        more=_more(request, found[limit - 1]) if len(found) > limit else None,
    )


# What they watch is how the service is run.
_OF_STAFF = frozenset({AlertKind.DRIFT, AlertKind.BACKLOG_AGE, AlertKind.INCONSISTENT_USAGE})
_NUMBERS = (
    Column("threshold", "Threshold"),
    Column("value", "Value"),
    Column("unit", "Unit"),
)


def occurrence_table(
    found: Sequence[OccurrenceView],
    counts: Mapping[str, Mapping[DeliveryState, int]],
    *,
    whole: bool = True,
    for_file: bool = False,
    to_customer: bool = False,
) -> Table:
    """When thresholds were reached; a file has numbers with their unit, without signs.

    Whom the service told of them is not for a customer.
    """
    return Table(
        name="occurrences",
        title="Occurrences",
        columns=[
            Column("occurred_at", "Time", Kind.TIME),
            Column("name", "Alert"),
            Column("kind", "Kind"),
            Column("customer_id", "Customer"),
            Column("window", "Window"),
            *(_NUMBERS if for_file else _NUMBERS[:2]),
            *([] if to_customer else [Column("deliveries", "Deliveries", Kind.PROSE)]),
        ],
        rows=[_occurrence_row(each, counts[each.message_id], for_file=for_file) for each in found],
        empty="No alert has fired.",
        whole=whole,
    )


def _more(request: PageRequest, last: OccurrenceView) -> str:
    return request.next_page("alerts", [time_part(last.occurred_at), last.occurrence_id])


def _occurrence_row(each: OccurrenceView, got: Mapping[DeliveryState, int], *, for_file: bool) -> Row:
    kind, value = AlertKind(each.kind), each.data["value"]
    amount = None if value is None else Decimal(value)
    customer_id = None if each.customer_id == DEPLOYMENT else each.customer_id
    shown = _plain if for_file else _amount
    together = None if for_file else SCOPES[AlertScope.DEPLOYMENT]
    unknown = None if for_file else "no earlier cost"
    return {
        "occurred_at": each.occurred_at,
        "name": Cell(each.data["name"], link("alert", alert_id=each.alert_id)),
        "kind": kind.value if for_file else _words(kind),
        "customer_id": customer_cell(customer_id) if customer_id else together,
        "window": Cell(_window(kind, each), _evidence(kind, each, customer_id)),
        "threshold": Cell(shown(kind, each.threshold), sort=each.threshold),
        "value": Cell(unknown if amount is None else shown(kind, amount), sort=amount),
        "unit": _unit(kind),
        "deliveries": ", ".join(f"{count} {state.value}" for state, count in sorted(got.items()))
        or "no destination",
    }


_WINDOWS = {AlertKind.DRIFT: "one reconciliation", AlertKind.PRICE_CHANGE: "new prices"}


def _window(kind: AlertKind, each: OccurrenceView) -> str:
    match kind:
        case AlertKind.BUDGET:
            return f"{each.data['budget_id']}, {_since(each.data['window'])}"
        case AlertKind.BALANCE_BELOW:
            return f"after {counted(each.data['grant_count'], 'grant')}"
    return _WINDOWS.get(kind, each.alert_window)


def _since(window: Mapping[str, str | None]) -> str:
    """The start of a budget's window, as its customer's calendar has it."""
    if window["starts_at"] is None:
        return "all time"
    at = datetime.fromisoformat(window["starts_at"]).astimezone(shown_zone(window["time_zone"] or ""))
    return f"from {at.date()}"


def _evidence(kind: AlertKind, each: OccurrenceView, customer_id: str | None) -> str:
    """The page with the figures that reached the threshold."""
    match kind:
        case AlertKind.DRIFT:
            return link("drift", reconciliation=each.data["reconciliation_id"])
        case AlertKind.BACKLOG_AGE:
            return link("backlog", customer_id=customer_id)
        case AlertKind.PRICE_CHANGE:
            return link("rates")
        case AlertKind.BUDGET:
            return link("budgets", customer_id=customer_id)
        case AlertKind.BALANCE_BELOW:
            return link("credits", customer_id=customer_id)
        case AlertKind.INCONSISTENT_USAGE:
            # Counted by booking, listed by end: a clock that is ahead dates an end up to a day after its booking.
            first = datetime.fromisoformat(each.data["first_ended_at"])
            last = datetime.fromisoformat(each.data["window"]["ends_at"]) + timedelta(days=1)
            return streams_of(customer_id=customer_id, within=(first, last), flag=Flag.INCONSISTENT_USAGE)
        case AlertKind.DAILY_CHANGE:
            window = each.data["window"]
            start, end = (datetime.fromisoformat(window[name]) for name in ("starts_at", "ends_at"))
            return streams_of(customer_id=customer_id, within=(start, end))
    month = each.alert_window
    return link("customer", customer_id=customer_id, month=month) if customer_id else link("", month=month)


def _words(kind: AlertKind) -> str:
    return kind.value.replace("_", " ")


def _amount(kind: AlertKind, value: Decimal) -> str:
    """A threshold or value, with its unit."""
    if kind in IN_DOLLARS:
        return exact_money(value)
    match kind:
        case AlertKind.BACKLOG_AGE:
            return f"{value:,f} h"
        case AlertKind.INCONSISTENT_USAGE:
            return f"{value:,f} {'stream' if value == 1 else 'streams'}"
        case AlertKind.DAILY_CHANGE:
            return f"{'+' if value > 0 else ''}{_percent(value)}"
    return _percent(value)


def _percent(value: Decimal) -> str:
    """A percentage: as it is up to two decimal places, or rounded to one.

    >>> _percent(Decimal("80")), _percent(Decimal("1264.1133")), _percent(Decimal("0.01"))
    ('80%', '1,264.1%', '0.01%')
    """
    plain = Decimal(cents_text(value))
    exponent = plain.as_tuple().exponent
    short = isinstance(exponent, int) and exponent >= -2
    return f"{plain:,f}%" if short else f"{plain.quantize(Decimal('0.1')):,f}%"


def _endpoint_table(found: Sequence[Endpoint]) -> Table:
    return Table(
        name="endpoints",
        title="Destinations",
        columns=[
            Column("endpoint_id", "Endpoint", Kind.CODE),
            Column("url", "URL", Kind.PROSE),
            Column("types", "Message types", Kind.PROSE),
            Column("state", "Status", Kind.STATE),
            Column("delivered_at", "Last delivery", Kind.TIME),
            Column("problem", "Last error", Kind.PROSE),
        ],
        rows=[
            {
                "endpoint_id": Cell(each.endpoint_id, link("webhook", endpoint_id=each.endpoint_id)),
                "url": each.url,
                "types": ", ".join(each.types or ()) or "all",
                "state": each.state.value,
                "delivered_at": each.delivered_at,
                "problem": each.disabled_reason or each.last_problem,
            }
            for each in found
        ],
        empty="No destinations yet: alerts are shown here, and sent nowhere.",
    )
