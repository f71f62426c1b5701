"""`metering rates`: import the catalogue's rates, compare them with the current ones, list and set rates."""

import re
from collections import Counter
from decimal import Decimal, InvalidOperation
from typing import Annotated, Any

import typer

from metering.cli.shared import (
    AUTHOR,
    AsJson,
    EffectiveFrom,
    OnlyProvider,
    Provider,
    database,
    say,
    show,
    show_one,
    time_text,
    utc_or,
)
from metering.core.clock import utc_now
from metering.core.money import cents_text
from metering.events.usage import TIMED_KINDS, UsageKind
from metering.prices.catalogue import read_catalogue
from metering.prices.import_rates import CardChange, ImportPlan, import_rates, plan_import
from metering.prices.rates import Rate, RateCard, priced, unit_name
from metering.prices.set_rate import InvalidRateError, set_rate
from metering.prices.store.cards import load_rate_cards
from metering.server.bootstrap import build_service
from metering.server.settings import load_settings

app = typer.Typer(help="Rate cards: what each model's tokens cost, by date.", no_args_is_help=True)

_RATE = re.compile(r"(?P<kind>[a-z_]+)(@(?P<tier>[^>=@]+))?(>(?P<above>\d+))?=(?P<amount>.+)", re.DOTALL)


@app.command("import", epilog="Example: metering rates import --approve")
def import_them(
    approve: Annotated[bool, typer.Option("--approve", help="Add the cards. Default: only show them.")] = False,
    omissions: Annotated[bool, typer.Option(help="Also list what was not imported, and why.")] = False,
    as_json: AsJson = False,
) -> None:
    """Compare the installed genai-prices package with the current rates; add the changes with --approve."""
    catalogue = read_catalogue()
    if approve:
        plan = import_rates(engine=build_service(load_settings()).engine, catalogue=catalogue, now=utc_now())
    else:
        with database() as connection:
            plan = plan_import(connection, catalogue=catalogue, now=utc_now())
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
    elif plan.changes or plan.providers:
        say("nothing was written: add the cards with `metering rates import --approve`")


@app.command("diff")
def diff(as_json: AsJson = False) -> None:
    """Show the cards that an import would add, next to the cards that they replace."""
    with database() as connection:
        plan = plan_import(connection, catalogue=read_catalogue(), now=utc_now())
    rows = [_change(change) for change in plan.changes]
    show(rows, as_json=as_json, empty="nothing to import: all cards are up to date")


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
    )


@app.command(
    "set", epilog="Example: metering rates set house my-model-1 input=5 'input>200000=10' output@flex=12.5"
)
def set_one(
    provider: Provider,
    model: Annotated[str, typer.Argument(help="The model's name, e.g. my-model-1.")],
    rates: Annotated[
        list[str] | None,
        typer.Argument(help="KIND[@TIER][>INPUT_TOKENS]=USD, one or more: per million, or per hour of seconds."),
    ] = None,
    effective_from: EffectiveFrom = None,
    customer: Annotated[
        str | None, typer.Option(help="Only for this customer. Without rates, the customer's own rates end.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Add a dated rate card for a model. For rates by time of day use PUT /v1/rates."""
    now = utc_now()
    card = set_rate(
        engine=build_service(load_settings()).engine,
        provider=provider,
        model=model,
        effective_from=utc_or(effective_from, now),
        rates=[_parse_rate(text) for text in rates or ()],
        customer_id=customer,
        set_by=AUTHOR,
        now=now,
    )
    show_one(_row(card), as_json=as_json)


def _parse_rate(text: str) -> Rate:
    parts = _RATE.fullmatch(text)
    if parts is None or parts["kind"] not in set(UsageKind):
        kinds = ", ".join(UsageKind)
        raise InvalidRateError(f"{text!r}: expected KIND[@TIER][>INPUT_TOKENS]=USD, where KIND is one of {kinds}")
    try:
        usd = Decimal(parts["amount"])
    except InvalidOperation:
        usd = Decimal("NaN")
    if not usd.is_finite() or usd < 0:
        raise InvalidRateError(
            f"{text!r}: expected USD {unit_name(UsageKind(parts['kind']))}, 0 or more, got {parts['amount']!r}"
        )
    return priced(
        kind=UsageKind(parts["kind"]),
        usd=usd,
        above_input_tokens=int(parts["above"] or 0),
        service_tier=parts["tier"].lower() if parts["tier"] else None,
    )


def _say_changes(plan: ImportPlan) -> None:
    new = sum(change.instead_of is None for change in plan.changes)
    say(
        f"{plan.source}: {new:,} cards for new models, {len(plan.changes) - new:,} that replace another, "
        f"{plan.unchanged:,} unchanged"
        + (f"; names of {len(plan.providers):,} providers" if plan.providers else "")
    )
    skipped = Counter(omission.reason for omission in plan.omissions if omission.skipped)
    for reason, count in skipped.most_common():
        say(f"{count:,} models were skipped: {reason} (list them with --omissions)")


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
    return "  ".join(_rate_text(rate) for rate in card.rates)


def _rate_text(rate: Rate) -> str:
    tier = f"@{rate.service_tier}" if rate.service_tier else ""
    above = f">{rate.above_input_tokens:,}" if rate.above_input_tokens else ""
    daily = f" {rate.daily.start:%H:%M}-{rate.daily.end:%H:%M}" if rate.daily else ""
    return (
        f"{rate.kind.value}{tier}{above}{daily} {cents_text(rate.usd)}{'/h' if rate.kind in TIMED_KINDS else ''}"
    )
