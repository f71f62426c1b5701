"""`metering rates`: import the catalogue's prices, compare them with what is in force, list, set one by hand."""

import re
from collections import Counter
from decimal import Decimal, InvalidOperation
from typing import Annotated, Any

import typer

from metering.cli.options import EffectiveFrom, utc_or
from metering.cli.output import AsJson, say, show, show_one
from metering.core.clock import utc_now
from metering.core.money import cents_text
from metering.db.engine import transaction
from metering.events.usage import UsageKind
from metering.prices.catalogue import read_catalogue
from metering.prices.import_rates import CardChange, ImportPlan, import_rates, plan_import
from metering.prices.rates import Rate, RateCard
from metering.prices.set_rate import InvalidRateError, set_rate
from metering.prices.store import load_rate_cards
from metering.server.bootstrap import build_service
from metering.server.settings import load_settings

app = typer.Typer(help="Rate cards: what each model's tokens cost, since when.", no_args_is_help=True)

_RATE = re.compile(r"(?P<kind>[a-z_]+)(@(?P<tier>[^>=@]+))?(>(?P<above>\d+))?=(?P<amount>.+)", re.DOTALL)


@app.command("import")
def import_them(
    approve: Annotated[bool, typer.Option("--approve", help="Add them. Without it nothing is written.")] = False,
    omissions: Annotated[bool, typer.Option(help="Also list what the cards do not carry, and why.")] = False,
    as_json: AsJson = False,
) -> None:
    """Compare the installed genai-prices package with what is in force, and add what is new with --approve."""
    service = build_service(load_settings())
    catalogue = read_catalogue()
    if approve:
        plan = import_rates(engine=service.engine, catalogue=catalogue, now=utc_now())
    else:
        with transaction(service.engine) as connection:
            plan = plan_import(connection, catalogue=catalogue, now=utc_now())
    rows = [_change(change) for change in plan.changes]
    if as_json or not omissions:
        show(rows, as_json=as_json, empty="nothing to import: every card is there")
    if omissions and not as_json:
        left_out = [
            {"provider": each.provider, "model": each.model, "without": each.reason} for each in plan.omissions
        ]
        show(left_out, as_json=False, empty="nothing was left out")
    _say_what_changes(plan)
    if approve:
        say("added: workers rate the unpriced streams again")
    elif plan.changes or plan.providers:
        say("nothing was written: add them with `metering rates import --approve`")


@app.command("diff")
def diff(as_json: AsJson = False) -> None:
    """Show the cards that an import would add, beside those that they take over from."""
    service = build_service(load_settings())
    with transaction(service.engine) as connection:
        plan = plan_import(connection, catalogue=read_catalogue(), now=utc_now())
    rows = [_change(change) for change in plan.changes]
    show(rows, as_json=as_json, empty="nothing to import: every card is there")


@app.command("list")
def list_them(
    provider: Annotated[str | None, typer.Option(help="Only this provider.")] = None,
    model: Annotated[str | None, typer.Option(help="Only models whose name contains this.")] = None,
    customer: Annotated[str | None, typer.Option(help="Only this customer's own cards.")] = None,
    as_json: AsJson = False,
) -> None:
    """List rate cards, oldest first within a model."""
    service = build_service(load_settings())
    with transaction(service.engine) as connection:
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
    show([_row(card) for card in found], as_json=as_json, empty="no such rates: `metering rates import` adds some")


@app.command("set")
def set_one(
    provider: Annotated[str, typer.Argument(help="As the gateway names it, e.g. anthropic.")],
    model: Annotated[str, typer.Argument(help="The model's name, e.g. my-model-1.")],
    rates: Annotated[
        list[str] | None,
        typer.Argument(
            help="KIND[@TIER][>INPUT_TOKENS]=USD_PER_MILLION, e.g. input=5 'input>200000=10' output@flex=12.5"
        ),
    ] = None,
    effective_from: EffectiveFrom = None,
    customer: Annotated[
        str | None, typer.Option(help="Only for this customer; without rates it ends the customer's own price.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Add a dated rate card for a model. Rates for a time of day: PUT /v1/rates."""
    service = build_service(load_settings())
    now = utc_now()
    card = set_rate(
        engine=service.engine,
        provider=provider,
        model=model,
        effective_from=utc_or(effective_from, now),
        rates=[_parse_rate(text) for text in rates or ()],
        customer_id=customer,
        set_by="the command line",
        now=now,
    )
    show_one(_row(card), as_json=as_json)


def _parse_rate(text: str) -> Rate:
    parts = _RATE.fullmatch(text)
    try:
        usd = Decimal(parts["amount"] if parts else "NaN")
    except InvalidOperation:
        usd = Decimal("NaN")
    if parts is None or parts["kind"] not in set(UsageKind) or not usd.is_finite() or usd < 0:
        kinds = ", ".join(UsageKind)
        raise InvalidRateError(
            f"{text!r}: expected KIND[@TIER][>INPUT_TOKENS]=USD_PER_MILLION, where KIND is one of {kinds}"
        )
    return Rate(
        kind=UsageKind(parts["kind"]),
        usd_per_million=usd,
        above_input_tokens=int(parts["above"] or 0),
        service_tier=parts["tier"].lower() if parts["tier"] else None,
    )


def _say_what_changes(plan: ImportPlan) -> None:
    new = sum(change.instead_of is None for change in plan.changes)
    say(
        f"{plan.source}: {new:,} cards of new models, {len(plan.changes) - new:,} that take over from another, "
        f"{plan.unchanged:,} unchanged"
        + (f"; the names of {len(plan.providers):,} providers" if plan.providers else "")
    )
    skipped = Counter(omission.reason for omission in plan.omissions if omission.skipped)
    for reason, count in skipped.most_common():
        say(f"{count:,} models have no rates here: {reason} (--omissions names them)")


def _change(change: CardChange) -> dict[str, Any]:
    was = change.instead_of
    return {
        "provider": change.card.provider,
        "model": change.card.model,
        "effective_from": change.card.effective_from.isoformat(timespec="seconds"),
        "was": _rates_text(was) if was else None,
        "becomes": _rates_text(change.card),
        "rate_card_id": change.card.rate_card_id,
    }


def _row(card: RateCard) -> dict[str, Any]:
    return {
        "provider": card.provider,
        "model": card.model,
        "customer": card.customer_id,
        "effective_from": card.effective_from.isoformat(timespec="seconds"),
        "usd_per_million": _rates_text(card) or "ended",
        "rate_card_id": card.rate_card_id,
    }


def _rates_text(card: RateCard) -> str:
    return "  ".join(_rate_text(rate) for rate in card.rates)


def _rate_text(rate: Rate) -> str:
    tier = f"@{rate.service_tier}" if rate.service_tier else ""
    above = f">{rate.above_input_tokens:,}" if rate.above_input_tokens else ""
    daily = f" {rate.daily.start:%H:%M}-{rate.daily.end:%H:%M}" if rate.daily else ""
    return f"{rate.kind.value}{tier}{above}{daily} {cents_text(rate.usd_per_million)}"
