"""`metering alerts`: alerts with their thresholds, and their occurrences."""

from collections.abc import Mapping
from decimal import Decimal
from typing import Annotated, Any

import typer

from metering.alerts.alerts import UNITS, Alert, AlertKind, AlertScope, AlertTerms
from metering.alerts.manage_alerts import AlertChanges, change_alert, create_alert, delete_alert
from metering.alerts.queries.alerts import OccurrenceFilter, OccurrenceView, list_alerts, list_occurrences
from metering.cli.options import AsJson, Limit, parse_decimal, time_text
from metering.cli.service import database, operator
from metering.core.clock import utc_now
from metering.core.money import cents_text
from metering.customers.queries.customers import customer_names
from metering.server.bootstrap import build_service
from metering.server.settings import load_settings
from metering.server.terminal.output import done, show, show_one

app = typer.Typer()

AlertId = Annotated[str, typer.Argument(help="The alert's ID, alr_….")]
Thresholds = Annotated[
    list[str] | None,
    typer.Option(
        "--threshold",
        help="The value that fires the alert; repeatable. spend: percent of the budget. budget: percent of the "
        "limit. daily_change and estimated_share: percent. drift, price_change, balance_below: cents. "
        "backlog_age: hours. inconsistent_usage: streams.",
    ),
]
Budget = Annotated[str | None, typer.Option("--budget-cents", help="spend: the monthly budget, in cents.")]
Floor = Annotated[
    str | None,
    typer.Option("--floor-cents", help="daily_change, estimated_share: amounts below this do not fire, in cents."),
]
Trailing = Annotated[
    int | None, typer.Option(help="daily_change: compare with the mean of this many days before. Default: 7.")
]


@app.command(
    "create",
    epilog="Example: metering alerts create spend --customer acme --budget-cents 100000 --threshold 80",
)
def create(
    kind: Annotated[AlertKind, typer.Argument(help="What to watch.")],
    threshold: Thresholds = None,
    customer: Annotated[str | None, typer.Option(help="Watch this customer.")] = None,
    deployment: Annotated[
        bool, typer.Option("--deployment", help="Watch all customers together. Default: each customer.")
    ] = False,
    name: Annotated[str | None, typer.Option(help="The name in notifications.")] = None,
    budget: Budget = None,
    floor: Floor = None,
    trailing_days: Trailing = None,
    as_json: AsJson = False,
) -> None:
    """Create an alert. Thresholds that are already reached fire at once."""
    if customer is not None and deployment:
        raise typer.BadParameter("give either --customer or --deployment, not both")
    scope = AlertScope.DEPLOYMENT if deployment else AlertScope.EACH_CUSTOMER
    terms = AlertTerms(
        kind=kind,
        scope=AlertScope.CUSTOMER if customer is not None else scope,
        customer_id=customer,
        thresholds=tuple(parse_decimal("--threshold", each) for each in threshold or ()),
        budget_usd_cents=_optional("--budget-cents", budget),
        floor_usd_cents=_optional("--floor-cents", floor),
        trailing_days=trailing_days,
    )
    alert = create_alert(
        engine=build_service(load_settings()).engine,
        name=name or kind.value.replace("_", " "),
        terms=terms,
        created_by=operator(),
        now=utc_now(),
    )
    show_one(_row(alert), as_json=as_json)


@app.command("list")
def list_them(
    customer: Annotated[str | None, typer.Option(help="Only alerts that watch this customer only.")] = None,
    kind: Annotated[AlertKind | None, typer.Option(help="Only this kind.")] = None,
    limit: Limit = 1000,
    as_json: AsJson = False,
) -> None:
    """List alerts."""
    with database() as connection:
        found = list_alerts(
            connection, customer_id=customer, kind=kind.value if kind else None, after="", limit=limit
        )
        names = customer_names(connection, {each.terms.customer_id for each in found if each.terms.customer_id})
    where = " match" if customer or kind else ""
    show(
        [{**_row(alert), **_name_of(alert.terms.customer_id, names)} for alert in found],
        as_json=as_json,
        empty=f"no alerts{where}: create one, `metering alerts create`",
        important=("alert_id", "name", "of", "thresholds"),
    )


@app.command("set", epilog="Example: metering alerts set alr_… --threshold 90 --enable")
def set_one(
    alert_id: AlertId,
    threshold: Thresholds = None,
    name: Annotated[str | None, typer.Option(help="The name in notifications.")] = None,
    budget: Budget = None,
    floor: Floor = None,
    trailing_days: Trailing = None,
    enabled: Annotated[
        bool | None, typer.Option("--enable/--disable", help="Enable or disable the alert.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Change the given properties. New thresholds or amounts can fire again in the current window."""
    changes = AlertChanges(
        name=name,
        thresholds=[parse_decimal("--threshold", each) for each in threshold] if threshold else None,
        budget_usd_cents=_optional("--budget-cents", budget),
        floor_usd_cents=_optional("--floor-cents", floor),
        trailing_days=trailing_days,
        enabled=enabled,
    )
    engine = build_service(load_settings()).engine
    alert = change_alert(engine=engine, alert_id=alert_id, changes=changes, by=operator(), now=utc_now())
    show_one(_row(alert), as_json=as_json)


@app.command("delete")
def delete(alert_id: AlertId, as_json: AsJson = False) -> None:
    """Delete an alert. Its occurrences stay in the list."""
    engine = build_service(load_settings()).engine
    delete_alert(engine=engine, alert_id=alert_id, by=operator(), now=utc_now())
    done(f"deleted {alert_id}", {"alert_id": alert_id, "state": "deleted"}, as_json=as_json)


@app.command("occurrences")
def occurrences(
    customer: Annotated[str | None, typer.Option(help="Only this customer.")] = None,
    alert: Annotated[str | None, typer.Option(help="Only this alert.")] = None,
    limit: Limit = 100,
    as_json: AsJson = False,
) -> None:
    """List occurrences, newest first."""
    where = OccurrenceFilter(customer_id=customer, alert_id=alert)
    with database() as connection:
        found = list_occurrences(connection, where=where, before=None, limit=limit)
        names = customer_names(connection, {each.customer_id for each in found if each.customer_id})
    show(
        [{**_occurrence_row(each), **_name_of(each.customer_id, names)} for each in found],
        as_json=as_json,
        empty="no alert has fired" if customer is None and alert is None else "no occurrence matches",
        important=("occurred_at", "name", "customer_id", "threshold", "value", "unit"),
    )


def _row(alert: Alert) -> dict[str, Any]:
    terms = alert.terms
    return {
        "alert_id": alert.alert_id,
        "name": alert.name,
        "kind": terms.kind.value,
        "of": terms.customer_id or terms.scope.value,
        "thresholds": ", ".join(cents_text(each) for each in terms.thresholds),
        "unit": UNITS[terms.kind],
        "budget_usd_cents": _cents(terms.budget_usd_cents),
        "floor_usd_cents": _cents(terms.floor_usd_cents),
        "trailing_days": terms.trailing_days,
        "enabled": alert.enabled,
    }


def _occurrence_row(occurrence: OccurrenceView) -> dict[str, Any]:
    return {
        "occurred_at": time_text(occurrence.occurred_at),
        "kind": occurrence.kind,
        "name": occurrence.data["name"],
        "customer_id": occurrence.customer_id or None,
        "window": occurrence.alert_window,
        "threshold": cents_text(occurrence.threshold),
        "value": occurrence.data["value"],
        "unit": occurrence.data["unit"],
        "message_id": occurrence.message_id,
    }


def _name_of(customer_id: str | None, names: Mapping[str, str]) -> dict[str, Any]:
    return {"customer_name": names.get(customer_id or "")}


def _optional(option: str, text: str | None) -> Decimal | None:
    return None if text is None else parse_decimal(option, text)


def _cents(amount: Decimal | None) -> str | None:
    return None if amount is None else cents_text(amount)
