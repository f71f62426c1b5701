"""`metering rerate`: a month's streams by the prices of today, previewed and then booked as adjustments."""

import sys
from typing import Annotated, Any

import typer

from metering.cli.output import AsJson, progress_bar, say, show
from metering.core.clock import utc_now
from metering.core.money import cents_text, sum_cents
from metering.core.period import BillingPeriod
from metering.corrections.rerate import RerateGroup, rerate
from metering.ledger.queries.charges import BillFilter
from metering.server.bootstrap import build_service
from metering.server.settings import load_settings


def rerate_command(
    period: Annotated[str, typer.Option(help="The month in which the streams were charged, e.g. 2026-10.")],
    provider: Annotated[str | None, typer.Option(help="Only this provider, as the events name it.")] = None,
    model: Annotated[str | None, typer.Option(help="Only this model, as the events name it.")] = None,
    customer: Annotated[str | None, typer.Option(help="Only this customer.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would change.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Book without asking.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show what a month's streams would cost by the price book of today, then book the differences.

    Charges stay as they are: each difference is an adjustment that points at its charge.
    """
    service = build_service(load_settings())
    where = BillFilter(period=BillingPeriod.parse(period), provider=provider, model=model, customer_id=customer)

    def run(what: str, *, book: bool) -> list[RerateGroup]:
        with progress_bar(what) as progress:
            found = rerate(
                engine=service.engine,
                price_books=service.price_books,
                where=where,
                now=utc_now(),
                book=book,
                progress=progress,
            )
        return list(found)

    groups = run("comparing", book=False)
    show([_row(group) for group in groups], as_json=as_json, empty="every bill is what these prices say")
    if unpriced := sum(group.unpriced for group in groups):
        say(f"{unpriced:,} streams have no rate any more and keep their bill")
    count = sum(group.stream_count for group in groups)
    if dry_run or not count:
        return
    difference = cents_text(sum_cents(group.difference_usd_cents for group in groups))
    question = f"book {count:,} adjustments, {difference} cents in all?"
    if not yes and not (sys.stdin.isatty() and typer.confirm(question, err=True)):
        say("nothing was booked: book it with --yes")
        return
    booked = run("booking", book=True)
    say(f"booked {sum(group.stream_count for group in booked):,} adjustments")


def _row(group: RerateGroup) -> dict[str, Any]:
    return {
        "provider": group.provider,
        "model": group.model,
        "stream_count": group.stream_count,
        "usd_cents": cents_text(group.usd_cents),
        "new_usd_cents": cents_text(group.new_usd_cents),
        "difference_usd_cents": cents_text(group.difference_usd_cents),
    }
