"""`metering rerate`: a month at today's prices."""

from typing import Annotated, Any

import typer

from metering.cli.options import AsJson, OnlyCustomer, OnlyProvider
from metering.cli.periods import check_begun
from metering.cli.progress import progress_bar
from metering.cli.service import operator
from metering.core.clock import utc_now
from metering.core.money import cents_text, sum_cents
from metering.core.period import BillingPeriod
from metering.corrections.rerate import RerateGroup, rerate
from metering.ledger.queries.charges import BillFilter
from metering.server.bootstrap import build_service
from metering.server.settings import load_settings
from metering.server.terminal.columns import dollars
from metering.server.terminal.output import confirm, counted, say, show


def rerate_command(
    period: Annotated[str, typer.Option(help="The month in which the streams were charged, e.g. 2026-10.")],
    provider: OnlyProvider = None,
    model: Annotated[str | None, typer.Option(help="Only this model, as in the events.")] = None,
    customer: OnlyCustomer = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show the differences.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Book without confirmation.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show what a month's streams would cost at today's prices, then book the differences.

    Charges do not change: each difference is an adjustment that refers to its charge.
    """
    service = build_service(load_settings())
    month = BillingPeriod.parse(period)
    where = BillFilter(period=month, provider=provider, model=model, customer_id=customer)

    def run(what: str, *, book: bool) -> list[RerateGroup]:
        with progress_bar(what) as progress:
            found = rerate(
                engine=service.engine,
                price_books=service.price_books,
                where=where,
                now=utc_now(),
                book=book,
                by=operator(),
                progress=progress,
            )
        return list(found)

    groups = run("comparing", book=False)
    if not groups:
        check_begun(month, now=utc_now())
    show(
        [_group_row(group) for group in groups],
        as_json=as_json,
        empty="no differences: all bills match the prices",
    )
    if unpriced := sum(group.unpriced for group in groups):
        say(f"{unpriced:,} streams no longer have a rate and keep their bill")
    count = sum(group.stream_count for group in groups)
    if dry_run or not count:
        return
    difference = dollars(sum_cents(group.difference_usd_cents for group in groups))
    question = f"book {counted(count, 'adjustment')}, {difference} in total?"
    if not yes and not confirm(question):
        say("nothing was booked: run it with --yes")
        return
    booked = run("booking", book=True)
    say(f"booked {counted(sum(group.stream_count for group in booked), 'adjustment')}")


def _group_row(group: RerateGroup) -> dict[str, Any]:
    return {
        "provider": group.provider,
        "model": group.model,
        "stream_count": group.stream_count,
        "usd_cents": cents_text(group.usd_cents),
        "new_usd_cents": cents_text(group.new_usd_cents),
        "difference_usd_cents": cents_text(group.difference_usd_cents),
    }
