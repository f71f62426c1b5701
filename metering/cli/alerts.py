"""`metering alerts`: what is watched, from which thresholds on, and what occurred."""

from decimal import Decimal, InvalidOperation
from typing import Annotated, Any

import typer

from metering.alerts.alerts import UNITS, Alert, AlertKind, AlertScope, AlertTerms, InvalidAlertError
from metering.alerts.manage_alerts import AlertChanges, change_alert, create_alert, delete_alert
from metering.alerts.queries.alerts import OccurrenceFilter, OccurrenceView, list_alerts, list_occurrences
from metering.cli.output import AsJson, say, show, show_one
from metering.core.clock import utc_now
from metering.core.money import cents_text
from metering.db.engine import transaction
from metering.server.bootstrap import build_service
from metering.server.settings import load_settings

app = typer.Typer(
    help="Alerts: thresholds that are told by webhook, once a month, day or reconciliation.", no_args_is_help=True
)

AlertId = Annotated[str, typer.Argument(help="The alert, alr_….")]
Thresholds = Annotated[
    list[str] | None,
    typer.Option(
        "--threshold",
        help="From which value on; several times for several. spend: percent of the budget, daily_change and "
        "estimated_share: percent, drift: cents, backlog_age: hours.",
    ),
]
Budget = Annotated[str | None, typer.Option("--budget-cents", help="spend: the month's budget, in cents.")]
Floor = Annotated[
    str | None, typer.Option("--floor-cents", help="daily_change, estimated_share: less than this is not told.")
]
Trailing = Annotated[int | None, typer.Option(help="daily_change: the mean of so many days before. Default: 7.")]


@app.command("create")
def create(
    kind: Annotated[AlertKind, typer.Argument(help="What is watched.")],
    threshold: Thresholds = None,
    customer: Annotated[str | None, typer.Option(help="Watch this customer.")] = None,
    deployment: Annotated[
        bool, typer.Option("--deployment", help="Watch all customers together. Default: each by itself.")
    ] = False,
    name: Annotated[str | None, typer.Option(help="What it is called when it is told.")] = None,
    budget: Budget = None,
    floor: Floor = None,
    trailing_days: Trailing = None,
    as_json: AsJson = False,
) -> None:
    """Watch something from now on; thresholds that are reached already occur at once."""
    if customer is not None and deployment:
        raise typer.BadParameter("give one of --customer and --deployment")
    scope = AlertScope.DEPLOYMENT if deployment else AlertScope.EACH_CUSTOMER
    terms = AlertTerms(
        kind=kind,
        scope=AlertScope.CUSTOMER if customer is not None else scope,
        customer_id=customer,
        thresholds=tuple(_decimal("threshold", each) for each in threshold or ()),
        budget_usd_cents=_optional("budget-cents", budget),
        floor_usd_cents=_optional("floor-cents", floor),
        trailing_days=trailing_days,
    )
    alert = create_alert(
        engine=build_service(load_settings()).engine,
        name=name or kind.value.replace("_", " "),
        terms=terms,
        created_by="the command line",
        now=utc_now(),
    )
    show_one(_row(alert), as_json=as_json)


@app.command("list")
def list_them(
    customer: Annotated[str | None, typer.Option(help="Only this customer's own.")] = None,
    kind: Annotated[AlertKind | None, typer.Option(help="Only of this kind.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="At most this many.")] = 1000,
    as_json: AsJson = False,
) -> None:
    """List alerts."""
    service = build_service(load_settings())
    with transaction(service.engine) as connection:
        found = list_alerts(
            connection, customer_id=customer, kind=kind.value if kind else None, after="", limit=limit
        )
    show([_row(alert) for alert in found], as_json=as_json, empty="no alerts: `metering alerts create`")


@app.command("set")
def set_one(
    alert_id: AlertId,
    threshold: Thresholds = None,
    name: Annotated[str | None, typer.Option(help="What it is called when it is told.")] = None,
    budget: Budget = None,
    floor: Floor = None,
    trailing_days: Trailing = None,
    enabled: Annotated[bool | None, typer.Option("--enable/--disable", help="Switch it on or off.")] = None,
    as_json: AsJson = False,
) -> None:
    """Change what is given; the rest stays. Other thresholds or amounts arm the alert anew."""
    changes = AlertChanges(
        name=name,
        thresholds=[_decimal("threshold", each) for each in threshold] if threshold else None,
        budget_usd_cents=_optional("budget-cents", budget),
        floor_usd_cents=_optional("floor-cents", floor),
        trailing_days=trailing_days,
        enabled=enabled,
    )
    engine = build_service(load_settings()).engine
    show_one(_row(change_alert(engine=engine, alert_id=alert_id, changes=changes, now=utc_now())), as_json=as_json)


@app.command("delete")
def delete(alert_id: AlertId) -> None:
    """End an alert; what occurred stays in the list."""
    delete_alert(engine=build_service(load_settings()).engine, alert_id=alert_id, now=utc_now())
    say(f"deleted {alert_id}")


@app.command("occurrences")
def occurrences(
    customer: Annotated[str | None, typer.Option(help="Only about this customer.")] = None,
    alert: Annotated[str | None, typer.Option(help="Only of this alert.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="At most this many.")] = 100,
    as_json: AsJson = False,
) -> None:
    """List what occurred, the newest first."""
    service = build_service(load_settings())
    where = OccurrenceFilter(customer_id=customer, alert_id=alert)
    with transaction(service.engine) as connection:
        found = list_occurrences(connection, where=where, before=None, limit=limit)
    show([_occurrence_row(each) for each in found], as_json=as_json, empty="nothing has occurred")


def _row(alert: Alert) -> dict[str, Any]:
    terms = alert.terms
    return {
        "alert_id": alert.alert_id,
        "name": alert.name,
        "kind": terms.kind.value,
        "of": terms.customer_id or terms.scope.value,
        "thresholds": ", ".join(cents_text(each) for each in terms.thresholds),
        "unit": UNITS[terms.kind],
        "budget_usd_cents": cents_text(terms.budget_usd_cents) if terms.budget_usd_cents is not None else None,
        "floor_usd_cents": cents_text(terms.floor_usd_cents) if terms.floor_usd_cents is not None else None,
        "trailing_days": terms.trailing_days,
        "enabled": alert.enabled,
    }


def _occurrence_row(occurrence: OccurrenceView) -> dict[str, Any]:
    return {
        "occurred_at": occurrence.occurred_at.isoformat(timespec="seconds"),
        "kind": occurrence.kind,
        "name": occurrence.data["name"],
        "customer_id": occurrence.customer_id or None,
        "window": occurrence.alert_window,
        "threshold": cents_text(occurrence.threshold),
        "value": occurrence.data["value"],
        "unit": occurrence.data["unit"],
        "message_id": occurrence.message_id,
    }


def _optional(option: str, text: str | None) -> Decimal | None:
    return None if text is None else _decimal(option, text)


def _decimal(option: str, text: str) -> Decimal:
    try:
        return Decimal(text)
    except InvalidOperation as error:
        raise InvalidAlertError(f"--{option}: expected a number, got {text!r}") from error
