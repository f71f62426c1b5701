"""`metering invoices run`: close a month, create its invoices and push them."""

import sys
from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from metering.cli.options import AsJson, OnlyCustomer, Period
from metering.cli.periods import check_begun
from metering.cli.progress import phases
from metering.cli.service import operator
from metering.core.clock import utc_now
from metering.core.money import cents_text
from metering.core.period import BillingPeriod
from metering.db.engine import transaction
from metering.months.preview_month import preview_month
from metering.months.queries.progress import close_progress, list_refusals
from metering.months.run_invoices import RunRequest, begin_run, close_run
from metering.months.store.runs import InvoiceRun
from metering.server.bootstrap import NotConfiguredError, Service, build_service
from metering.server.outgoing import close_terms
from metering.server.pusher import build_pusher
from metering.server.settings import load_settings
from metering.server.terminal.output import counted, fail, say, show, show_one
from metering.stripe.push_due import Pusher, push_month
from metering.stripe.queries.pushes import list_waiting, pushes_by_state

app = typer.Typer()

_SHOWN = 20
_NOT_DONE = 2


@app.command("run", epilog="Example: metering invoices run --period 2026-10 --dry-run")
def run_them(
    period: Period,
    customer: OnlyCustomer = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would be invoiced; write nothing.")
    ] = False,
    force: Annotated[
        bool,
        typer.Option("--force", help="Close although some streams are not settled; they go to the next month."),
    ] = False,
    reason: Annotated[str | None, typer.Option(help="The reason for --force, stored with the month.")] = None,
    no_push: Annotated[
        bool, typer.Option("--no-push", help="Create the invoices; workers push them to Stripe.")
    ] = False,
    as_of: Annotated[
        datetime | None,
        typer.Option(help="Rehearse: close as if it were this time, in UTC. Not with a live Stripe key."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Close a month, create its invoices, and push them to Stripe.

    Closes earlier open months first. It can be interrupted and run again. Exit code 2: some customers' months stay
    open, or invoices are not pushed yet; the result lists them with the reason.
    """
    service = build_service(load_settings(), pool_size=10)
    month = BillingPeriod.parse(period)
    request = RunRequest(
        period=month,
        customer_id=customer,
        force_reason=_reason(force, reason),
        requested_by=operator(),
        as_of=_rehearsal(service, as_of),
    )
    if dry_run:
        check_begun(month, now=request.as_of or utc_now())
        _preview(service, request, as_json=as_json)
        return
    run = begin_run(engine=service.engine, request=request, terms=close_terms(service.settings), now=utc_now())
    pusher = None if no_push else _pusher(service)
    with phases() as progress:
        close_run(
            engine=service.engine, run=run, terms=close_terms(service.settings), clock=utc_now, progress=progress
        )
        if pusher is not None:
            push_month(pusher=pusher, period=month, only=customer, by=operator(), progress=progress)
    left = _report(service, run, pushed=pusher is not None, as_json=as_json)
    if left:
        sys.exit(_NOT_DONE)


def _reason(force: bool, reason: str | None) -> str | None:
    if force and not reason:
        raise typer.BadParameter(
            "give the reason with --reason: it is stored with the month", param_hint="--force"
        )
    if reason and not force:
        raise typer.BadParameter("--reason needs --force", param_hint="--reason")
    return reason


def _rehearsal(service: Service, as_of: datetime | None) -> datetime | None:
    key = service.settings.stripe_api_key
    if as_of is not None and key is not None and "_live_" in key.get_secret_value():
        raise typer.BadParameter(
            "a month cannot be closed ahead of time with a live Stripe key", param_hint="--as-of"
        )
    return as_of.replace(tzinfo=as_of.tzinfo or UTC) if as_of else None


def _pusher(service: Service) -> Pusher | None:
    try:
        return build_pusher(service)
    except NotConfiguredError as error:
        fail(str(error))
        return None


def _preview(service: Service, request: RunRequest, *, as_json: bool) -> None:
    with phases() as progress:
        preview = preview_month(
            engine=service.engine,
            request=request,
            terms=close_terms(service.settings),
            now=utc_now(),
            progress=progress,
        )
    rows = [
        {
            "customer_id": invoice.customer_id,
            "period": str(invoice.period),
            "lines": len(invoice.lines),
            "usd_cents": cents_text(invoice.exact_usd_cents),
            "prepaid_usd_cents": cents_text(invoice.prepaid_usd_cents),
            "carried_in_usd_cents": cents_text(invoice.carried_in_usd_cents),
            "billed_cents": invoice.billed_cents,
            "remainder_usd_cents": cents_text(invoice.remainder_usd_cents),
        }
        for invoice in preview.invoices
    ]
    refused = [{"customer_id": customer_id, "why": why} for customer_id, why in preview.held_up.items()]
    if as_json:
        show_one({"invoices": rows, "would_stay_open": refused}, as_json=True)
        return
    show(
        rows,
        as_json=False,
        empty=f"no invoices for {request.period}: every customer's month is closed, or nothing was used",
        important=("customer_id", "period", "billed_cents"),
    )
    if refused:
        say(f"the months of {len(refused):,} customers would stay open:")
        show(refused[:_SHOWN], as_json=False, empty="")
    say("dry run: nothing was written")


def _report(service: Service, run: InvoiceRun, *, pushed: bool, as_json: bool) -> bool:
    """Print the result of a run; True if months are open or invoices wait."""
    period = str(run.period)
    with transaction(service.engine) as connection:
        far = close_progress(connection, period=period, run_id=run.run_id, only=run.customer_id)
        states = pushes_by_state(connection, period=period, only=run.customer_id)
        refusals = list_refusals(connection, run_id=run.run_id, limit=100_000 if as_json else _SHOWN)
        waiting = list_waiting(
            connection, period=period, only=run.customer_id, limit=100_000 if as_json else _SHOWN
        )
    state_rows = [
        {"state": each.state.value, "invoices": each.count, "billed_cents": each.billed_cents} for each in states
    ]
    refusal_rows = [
        {"customer_id": each.customer_id, "result": each.result, "why": each.detail} for each in refusals
    ]
    waiting_rows = [
        {
            "customer_id": each.customer_id,
            "invoice_id": each.invoice_id,
            "state": each.state.value,
            "problem": each.problem,
        }
        for each in waiting
    ]
    open_count = far.customers - far.closed
    left = open_count > 0 or any(row["state"] != "unlinked" for row in waiting_rows)
    if as_json:
        result = {"run_id": run.run_id, "period": period, "customers": far.customers, "closed": far.closed}
        show_one({**result, "states": state_rows, "refused": refusal_rows, "waiting": waiting_rows}, as_json=True)
        return left
    _say_closed(period, far.customers, far.closed, far.refused)
    show(state_rows, as_json=False, empty="no usage in this month")
    _show_some(f"the months of {far.refused:,} customers stay open", refusal_rows)
    _show_some("not at Stripe" if pushed else "waiting to be pushed", waiting_rows)
    return left


def _say_closed(period: str, customers: int, closed: int, refused: int) -> None:
    print(f"{period} is closed for {closed:,} of {counted(customers, 'customer')}")
    not_over = customers - closed - refused
    if not_over > 0:
        say(f"for {not_over:,} customers the month is not over yet in their time zone")


def _show_some(title: str, rows: list[dict[str, Any]]) -> None:
    if rows:
        print(f"\n{title}{', the first' if len(rows) == _SHOWN else ''}:")
        show(rows, as_json=False, empty="")
