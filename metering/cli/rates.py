"""`metering rates`: import the catalogue's rates, compare them with the current ones, list and set rates."""

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Annotated, Any

import typer

from metering.cli.known import customer_hint, say_hint
from metering.cli.options import AsJson, EffectiveFrom, OnlyProvider, Provider, time_text, utc_or
from metering.cli.periods import check_begun, month_or_none
from metering.cli.progress import progress_bar
from metering.cli.service import database, operator
from metering.core.clock import utc_now
from metering.core.money import cents_text
from metering.corrections.compare_rates import cost_of_changes, last_month
from metering.corrections.simulate_rates import RateCost
from metering.db.engine import transaction
from metering.prices.import_rates import (
    CardChange,
    ImportPlan,
    Only,
    PriceChange,
    import_rates,
    keep_rates,
    plan_import,
)
from metering.prices.rate_text import FORM, parse_rate, rate_text
from metering.prices.rates import RateCard
from metering.prices.read_prices import read_prices
from metering.prices.set_rate import set_rate
from metering.prices.store.cards import load_rate_cards
from metering.server.bootstrap import build_service
from metering.server.settings import load_settings
from metering.server.terminal.output import say, show, show_one

OnlyModel = Annotated[str | None, typer.Option("--model", help="Only this model, as in the catalogue.")]

app = typer.Typer()


@app.command("import", epilog="Example: metering rates import --approve --provider deepseek")
def import_them(
    approve: Annotated[bool, typer.Option("--approve", help="Add the cards. Default: only show them.")] = False,
    keep: Annotated[bool, typer.Option("--keep", help="Keep the current rates; do not ask again.")] = False,
    provider: OnlyProvider = None,
    model: OnlyModel = None,
    omissions: Annotated[bool, typer.Option(help="Also list what was not imported, and why.")] = False,
    as_json: AsJson = False,
) -> None:
    """Compare the installed genai-prices package with the current rates; add the changes with --approve."""
    if approve and keep:
        raise typer.BadParameter("give either --approve or --keep, not both")
    catalogue, now, only = read_prices(), utc_now(), Only(provider=provider, model=model)
    if approve:
        engine = build_service(load_settings()).engine
        plan = import_rates(engine=engine, catalogue=catalogue, now=now, by=operator(), only=only)
    elif keep:
        engine = build_service(load_settings()).engine
        plan = keep_rates(engine=engine, catalogue=catalogue, now=now, kept_by=operator(), only=only)
    else:
        with database() as connection:
            plan = plan_import(connection, catalogue=catalogue, now=now, only=only)
    rows = [_change(change) for change in plan.changes]
    if as_json or not omissions:
        show(rows, as_json=as_json, empty="nothing to import: all cards are up to date")
    if omissions and not as_json:
        left_out = [
            {"provider": each.provider, "model": each.model, "without": each.reason} for each in plan.omissions
        ]
        show(left_out, as_json=False, empty="nothing was omitted")
    _say_changes(plan)
    if approve:
        say("added: workers now rate unpriced streams again")
    elif keep:
        say(f"kept: {len(plan.changes):,} cards of {plan.source} are not offered again")
    elif plan.changes or plan.providers:
        say("nothing was written: add the cards with `metering rates import --approve`")


@app.command("diff", epilog="Example: metering rates diff --period 2026-10 --provider deepseek")
def diff(
    period: Annotated[str | None, typer.Option(help="The month to price again. Default: last month, UTC.")] = None,
    provider: OnlyProvider = None,
    model: OnlyModel = None,
    as_json: AsJson = False,
) -> None:
    """Show each price that an import would change, and what it changes for each customer in a month.

    The month's usage is priced once more, exactly; nothing is written. Cards that change no current price follow.
    """
    service, now = build_service(load_settings()), utc_now()
    with database() as connection:
        only = Only(provider=provider, model=model)
        plan = plan_import(connection, catalogue=read_prices(), now=now, only=only)
    month = month_or_none(period) or last_month(now)
    with progress_bar("reading bills") as progress:
        costs = cost_of_changes(engine=service.engine, changes=plan.price_changes, period=month, progress=progress)
    if not any(costs):
        check_begun(month, now=now)
    rows = [row for change, of in zip(plan.price_changes, costs, strict=True) for row in _difference(change, of)]
    shown = {(change.provider, change.model) for change in plan.price_changes}
    rows += [
        {**_change(change), **_NO_CUSTOMER}
        for change in plan.changes
        if (change.card.provider, change.card.model) not in shown
    ]
    show(
        rows,
        as_json=as_json,
        empty="nothing to import: all cards are up to date",
        important=("provider", "model", "customer", "difference_usd_cents"),
    )
    _say_changes(plan)
    if plan.price_changes:
        say(f"amounts are of {month}: import with `metering rates import --approve`, or dismiss with --keep")


@app.command("list")
def list_them(
    provider: OnlyProvider = None,
    model: Annotated[str | None, typer.Option(help="Only models whose name contains this.")] = None,
    customer: Annotated[str | None, typer.Option(help="Only the cards of this customer.")] = None,
    as_json: AsJson = False,
) -> None:
    """List rate cards, oldest first within a model."""
    with database() as connection:
        cards = [each.card for each in load_rate_cards(connection)]
    found = sorted(
        (
            card
            for card in cards
            if (provider is None or card.provider == provider)
            and (model is None or model in card.model)
            and (customer is None or card.customer_id == customer)
        ),
        key=lambda card: (card.provider, card.model, card.customer_id or "", card.effective_from),
    )
    show(
        [_row(card) for card in found],
        as_json=as_json,
        empty="no rates match: add some with `metering rates import --approve`",
        important=("provider", "model", "effective_from", "usd_per_million"),
    )


@app.command(
    "set",
    epilog="Example: metering rates set house my-model-1 input=5 'input>200000=10' output@flex=12.5"
    " 'input=7~mon-fri/09:30-16:30'",
)
def set_one(
    provider: Provider,
    model: Annotated[str, typer.Argument(help="The model's name, e.g. my-model-1.")],
    rates: Annotated[
        list[str] | None,
        typer.Argument(help=f"{FORM}, one or more. WINDOW: mon-fri, 16:30-00:30 or mon-fri/09:30-16:30, UTC."),
    ] = None,
    effective_from: EffectiveFrom = None,
    customer: Annotated[
        str | None, typer.Option(help="Only for this customer. Without rates, the customer's own rates end.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Add a dated rate card for a model."""
    now = utc_now()
    engine = build_service(load_settings()).engine
    with transaction(engine) as connection:
        hint = customer_hint(connection, customer)
    card = set_rate(
        engine=engine,
        provider=provider,
        model=model,
        effective_from=utc_or(effective_from, now),
        rates=[parse_rate(text) for text in rates or ()],
        customer_id=customer,
        set_by=operator(),
        now=now,
    )
    say_hint(hint)
    show_one(_row(card), as_json=as_json)


def _say_changes(plan: ImportPlan) -> None:
    new = sum(change.instead_of is None for change in plan.changes)
    say(
        f"{plan.source}: {new:,} cards for new models, {len(plan.changes) - new:,} that replace another, "
        f"{plan.unchanged:,} unchanged"
        + (f", {plan.kept:,} kept" if plan.kept else "")
        + (f"; names of {len(plan.providers):,} providers" if plan.providers else "")
    )
    for review in plan.reviews:
        if reason := review.due(today=utc_now().date()):
            say(f"own price of {review.provider}/{review.model}, please review: {reason}")
    skipped = Counter(omission.reason for omission in plan.omissions if omission.skipped)
    for reason, count in skipped.most_common():
        say(f"{count:,} models were skipped: {reason} (list them with --omissions)")


_NO_CUSTOMER = {
    "customer": None,
    "stream_count": 0,
    "usd_cents": "0",
    "would_cost_usd_cents": "0",
    "difference_usd_cents": "0",
    "unpriced": 0,
}


def _difference(change: PriceChange, costs: Sequence[RateCost]) -> Iterator[dict[str, Any]]:
    """A row for each customer that used the model, or one without a customer."""
    what = {
        "provider": change.provider,
        "model": change.model,
        "effective_from": time_text(change.becomes.effective_from),
        "was": _rates_text(change.was),
        "becomes": _rates_text(change.becomes),
        "rate_card_id": change.becomes.rate_card_id,
    }
    if not costs:
        yield {**what, **_NO_CUSTOMER}
    for cost in costs:
        yield {
            **what,
            "customer": cost.customer_id,
            "stream_count": cost.stream_count,
            "usd_cents": cents_text(cost.usd_cents),
            "would_cost_usd_cents": cents_text(cost.would_cost_usd_cents),
            "difference_usd_cents": cents_text(cost.difference_usd_cents),
            "unpriced": cost.unpriced,
        }


def _change(change: CardChange) -> dict[str, Any]:
    was = change.instead_of
    return {
        "provider": change.card.provider,
        "model": change.card.model,
        "effective_from": time_text(change.card.effective_from),
        "was": _rates_text(was) if was else None,
        "becomes": _rates_text(change.card),
        "rate_card_id": change.card.rate_card_id,
    }


def _row(card: RateCard) -> dict[str, Any]:
    return {
        "provider": card.provider,
        "model": card.model,
        "customer": card.customer_id,
        "effective_from": time_text(card.effective_from),
        "usd_per_million": _rates_text(card) or "ended",
        "rate_card_id": card.rate_card_id,
    }


def _rates_text(card: RateCard) -> str:
    return "  ".join(rate_text(rate) for rate in card.rates)
