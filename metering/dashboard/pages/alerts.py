"""Alerts: what has occurred and how far the word of it got, what is watched, and where it is told."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from decimal import Decimal

from metering.alerts.alerts import DEPLOYMENT, Alert, AlertKind, AlertScope
from metering.alerts.deliveries import DeliveryState
from metering.alerts.queries.alerts import OccurrenceFilter, OccurrenceView, list_alerts, list_occurrences
from metering.alerts.queries.webhooks import delivery_counts, list_endpoints
from metering.alerts.store.endpoints import Endpoint
from metering.core.cursors import moment_in
from metering.core.money import cents_text
from metering.dashboard.asking import Asked, Page, link
from metering.dashboard.links import customer_page, streams_of
from metering.dashboard.tables import Cell, Column, Kind, Row, Table
from metering.dashboard.values import exact_money

_PAGE = 50
_ALERTS = 200
_WHOSE = {AlertScope.EACH_CUSTOMER: "each customer", AlertScope.DEPLOYMENT: "all together"}


def alerts(asked: Asked) -> Page:
    """The page of alerts. A viewer of one customer sees that one's own; where it is told is for admins to see."""
    kind = asked.one_of("kind", tuple(AlertKind))
    customer_id = asked.customer(asked.text("customer_id"))
    tables = [_occurrence_table(asked, kind, customer_id), alert_table(asked, kind=kind, customer_id=customer_id)]
    if asked.viewer.is_admin and asked.viewer.customer_id is None:
        tables.append(_endpoint_table(list_endpoints(asked.connection)))
    return Page(
        template="alerts.html.j2",
        title="Alerts",
        section="alerts",
        context={"tables": tables, "kind": kind, "kinds": list(AlertKind), "customer_id": customer_id},
        tables=tables,
    )


def alert_table(asked: Asked, *, kind: str | None, customer_id: str | None) -> Table:
    """What is watched; of one customer that one's own."""
    limit = asked.all_of("alerts", _ALERTS)
    found = list_alerts(asked.connection, customer_id=customer_id, kind=kind, after="", limit=limit + 1)
    return Table(
        name="alerts",
        title="What is watched",
        columns=[
            Column("name", "Name"),
            Column("kind", "Watches"),
            Column("whose", "Of"),
            Column("thresholds", "Told from", Kind.PROSE),
            Column("budget", "Budget a month", Kind.EXACT_MONEY),
            Column("floor", "Not below", Kind.EXACT_MONEY),
            Column("enabled", "Is", Kind.STATE),
        ],
        rows=[_alert_row(each) for each in found[:limit]],
        whole=len(found) <= limit,
        empty="Nothing is watched yet. An admin sets it up: POST /v1/alerts, or "
        "`metering alerts create spend --customer … --budget-cents … --threshold 80`.",
    )


def _alert_row(alert: Alert) -> Row:
    terms = alert.terms
    whose = terms.customer_id
    return {
        "name": alert.name,
        "kind": _words(terms.kind),
        "whose": Cell(whose, customer_page(whose)) if whose else _WHOSE[terms.scope],
        "thresholds": ", ".join(_amount(terms.kind, threshold) for threshold in terms.thresholds),
        "budget": terms.budget_usd_cents,
        "floor": terms.floor_usd_cents,
        "enabled": "on" if alert.enabled else "off",
    }


def _occurrence_table(asked: Asked, kind: str | None, customer_id: str | None) -> Table:
    limit, position = asked.page_of("occurrences", _PAGE), asked.position(2)
    where = OccurrenceFilter(customer_id=customer_id, kind=kind, alerts_of=asked.viewer.customer_id)
    before = (moment_in(position[0]), position[1]) if position else None
    found = list_occurrences(asked.connection, where=where, before=before, limit=limit + 1)
    got = delivery_counts(asked.connection, message_ids=[each.message_id for each in found[:limit]])
    return Table(
        name="occurrences",
        title="What has occurred, the newest first",
        columns=[
            Column("occurred_at", "When", Kind.MOMENT),
            Column("name", "Alert"),
            Column("kind", "Watches"),
            Column("customer_id", "Customer"),
            Column("window", "In"),
            Column("threshold", "Told from"),
            Column("value", "It was"),
            Column("told", "Told", Kind.PROSE),
        ],
        rows=[_occurrence_row(each, got[each.message_id]) for each in found[:limit]],
        empty="No threshold was reached.",
        more=_more(asked, found[limit - 1]) if len(found) > limit else None,
    )


def _more(asked: Asked, last: OccurrenceView) -> str:
    return asked.further("alerts", [last.occurred_at.isoformat(), last.occurrence_id])


def _occurrence_row(each: OccurrenceView, got: Mapping[DeliveryState, int]) -> Row:
    kind, value = AlertKind(each.kind), each.data["value"]
    customer_id = None if each.customer_id == DEPLOYMENT else each.customer_id
    return {
        "occurred_at": each.occurred_at,
        "name": each.data["name"],
        "kind": _words(kind),
        "customer_id": Cell(customer_id, customer_page(customer_id)) if customer_id else "all together",
        "window": Cell(_window(kind, each), _explained(kind, each, customer_id)),
        "threshold": _amount(kind, each.threshold),
        "value": _amount(kind, Decimal(value)) if value is not None else "nothing before",
        "told": ", ".join(f"{state.value} {count}" for state, count in sorted(got.items())) or "nobody listens",
    }


def _window(kind: AlertKind, each: OccurrenceView) -> str:
    return "a reconciliation" if kind is AlertKind.DRIFT else each.alert_window


def _explained(kind: AlertKind, each: OccurrenceView, customer_id: str | None) -> str:
    """Where the figures are that reached the threshold."""
    match kind:
        case AlertKind.DRIFT:
            return link("drift", reconciliation=each.data["reconciliation_id"])
        case AlertKind.BACKLOG_AGE:
            return link("backlog", customer_id=customer_id)
        case AlertKind.DAILY_CHANGE:
            window = each.data["window"]
            start, end = (datetime.fromisoformat(window[name]) for name in ("starts_at", "ends_at"))
            return streams_of(customer_id=customer_id, within=(start, end))
    month = each.alert_window
    return link("customer", customer_id=customer_id, month=month) if customer_id else link("", month=month)


def _words(kind: AlertKind) -> str:
    return kind.value.replace("_", " ")


def _amount(kind: AlertKind, value: Decimal) -> str:
    """A threshold, or what reached it, with its unit."""
    match kind:
        case AlertKind.DRIFT:
            return exact_money(value)
        case AlertKind.BACKLOG_AGE:
            return f"{cents_text(value)} h"
        case AlertKind.DAILY_CHANGE:
            return f"{'+' if value > 0 else ''}{cents_text(value)} %"
    return f"{cents_text(value)} %"


def _endpoint_table(found: Sequence[Endpoint]) -> Table:
    return Table(
        name="endpoints",
        title="Where it is told",
        columns=[
            Column("endpoint_id", "Endpoint", Kind.CODE),
            Column("url", "URL", Kind.PROSE),
            Column("types", "Of", Kind.PROSE),
            Column("state", "Is", Kind.STATE),
            Column("delivered_at", "Last delivered", Kind.MOMENT),
            Column("problem", "Last problem", Kind.PROSE),
        ],
        rows=[
            {
                "endpoint_id": each.endpoint_id,
                "url": each.url,
                "types": ", ".join(each.types or ()) or "everything",
                "state": each.state.value,
                "delivered_at": each.delivered_at,
                "problem": each.disabled_reason or each.last_problem,
            }
            for each in found
        ],
        empty="Nobody is told yet: `metering webhooks create https://…`",
        note="What an endpoint has missed is sent again by `metering webhooks replay`." if found else "",
    )
