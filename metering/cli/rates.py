"""`metering rates`: import the catalogue's prices, list what is in force, set one by hand."""

from collections import Counter
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from typing import Annotated, Any

import typer

from metering.bootstrap import build_service
from metering.catalogue.genai import read_catalogue
from metering.cli.output import AsJson, say, show, show_one
from metering.clock import utc_now
from metering.config import load_settings
from metering.domain.money import cents_text
from metering.domain.rates import Rate, RateCard
from metering.domain.usage import UsageKind
from metering.operations.import_rates import import_rates, plan_import
from metering.operations.set_rate import InvalidRateError, set_rate
from metering.store.engine import transaction
from metering.store.rates import load_rate_cards

app = typer.Typer(help="Rate cards: what each model's tokens cost, since when.", no_args_is_help=True)


@app.command("import")
def import_them(
    omissions: Annotated[bool, typer.Option(help="Also list what the cards do not carry, and why.")] = False,
    as_json: AsJson = False,
) -> None:
    """Add the rates of the installed genai-prices package that the database lacks."""
    service = build_service(load_settings())
    catalogue = read_catalogue()
    result = import_rates(engine=service.engine, catalogue=catalogue, now=utc_now())
    skipped = [omission for omission in result.omissions if omission.skipped]
    say(f"{result.source}: {len(result.added):,} rate cards added, {result.unchanged:,} were there already")
    say(f"{result.woken:,} unpriced streams are looked at again")
    say(f"{len(skipped):,} models have no rates here:")
    for reason, count in Counter(omission.reason for omission in skipped).most_common():
        say(f"  {count:>5,}  {reason}")
    if omissions:
        rows = [
            {"provider": omission.provider, "model": omission.model, "without": omission.reason}
            for omission in result.omissions
        ]
        show(rows, as_json=as_json, empty="nothing was left out")
    elif as_json:
        show([_row(card) for card in result.added], as_json=True, empty="")


@app.command("diff")
def diff(as_json: AsJson = False) -> None:
    """Show the cards that an import would add."""
    service = build_service(load_settings())
    with transaction(service.engine) as connection:
        known = load_rate_cards(connection)
    added = plan_import(known=known, catalogue=read_catalogue(), now=utc_now())
    show([_row(card) for card in added], as_json=as_json, empty="nothing to import: every card is there")


@app.command("list")
def list_them(
    provider: Annotated[str | None, typer.Option(help="Only this provider.")] = None,
    model: Annotated[str | None, typer.Option(help="Only models whose name contains this.")] = None,
    as_json: AsJson = False,
) -> None:
    """List rate cards, oldest first within a model."""
    service = build_service(load_settings())
    with transaction(service.engine) as connection:
        cards = load_rate_cards(connection)
    found = sorted(
        (
            card
            for card in cards
            if (provider is None or card.provider == provider) and (model is None or model in card.model)
        ),
        key=lambda card: (card.provider, card.model, card.effective_from),
    )
    show([_row(card) for card in found], as_json=as_json, empty="no such rates: `metering rates import` adds some")


@app.command("set")
def set_one(
    provider: Annotated[str, typer.Argument(help="As the gateway names it, e.g. anthropic.")],
    model: Annotated[str, typer.Argument(help="The model's name, e.g. my-model-1.")],
    rates: Annotated[
        list[str], typer.Argument(help="KIND=USD_PER_MILLION, e.g. input=5 output=25 cache_read=0.5")
    ],
    effective_from: Annotated[
        datetime | None, typer.Option(help="When it takes effect, in UTC. Default: now.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Add a dated rate card for a model."""
    service = build_service(load_settings())
    now = utc_now()
    card = set_rate(
        engine=service.engine,
        provider=provider,
        model=model,
        effective_from=effective_from.replace(tzinfo=UTC) if effective_from else now,
        rates=[_parse_rate(text) for text in rates],
        set_by="the command line",
        now=now,
    )
    show_one(_row(card), as_json=as_json)


def _parse_rate(text: str) -> Rate:
    kind, _, amount = text.partition("=")
    try:
        usd = Decimal(amount)
    except InvalidOperation:
        usd = Decimal("NaN")
    if kind not in set(UsageKind) or not usd.is_finite() or usd < 0:
        kinds = ", ".join(UsageKind)
        raise InvalidRateError(f"{text!r}: expected KIND=USD_PER_MILLION, where KIND is one of {kinds}")
    return Rate(kind=UsageKind(kind), usd_per_million=usd)


def _row(card: RateCard) -> dict[str, Any]:
    return {
        "provider": card.provider,
        "model": card.model,
        "effective_from": card.effective_from.isoformat(timespec="seconds"),
        "usd_per_million": "  ".join(_rate_text(rate) for rate in card.rates),
        "rate_card_id": card.rate_card_id,
    }


def _rate_text(rate: Rate) -> str:
    above = f">{rate.above_input_tokens:,}" if rate.above_input_tokens else ""
    return f"{rate.kind.value}{above} {cents_text(rate.usd_per_million)}"
