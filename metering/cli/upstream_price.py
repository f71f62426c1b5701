"""`metering upstream-price`: for which providers the upstream's own cost prices models that have no rate."""

from enum import StrEnum
from typing import Annotated, Any

import typer

from metering.cli.known import provider_hint, say_hint
from metering.cli.options import AsJson, EffectiveFrom, OnlyProvider, Provider, time_text, utc_or
from metering.cli.service import database, operator
from metering.core.clock import utc_now
from metering.db.engine import transaction
from metering.prices.price_book import UpstreamPrice
from metering.prices.queries import list_upstream_prices
from metering.prices.set_terms import set_upstream_price
from metering.server.bootstrap import build_service
from metering.server.settings import load_settings
from metering.server.terminal.output import show, show_one

app = typer.Typer()


class Decision(StrEnum):
    """What to do with a provider's own cost."""

    ACCEPT = "accept"
    REFUSE = "refuse"


@app.command("list")
def list_them(provider: OnlyProvider = None, as_json: AsJson = False) -> None:
    """List the settings. Without a setting, a provider's own cost is stored but sets no price."""
    with database() as connection:
        found = list_upstream_prices(connection, provider=provider)
    show(
        [{**_row(each.price), "provenance": each.provenance} for each in found],
        as_json=as_json,
        empty="nothing is set: a stream without a rate is unpriced, whatever its upstream says",
    )


@app.command("set", epilog="Example: metering upstream-price set openrouter accept --effective-from 2026-11-01")
def set_one(
    provider: Provider,
    decision: Annotated[Decision, typer.Argument(help="Whether its own cost prices models without a rate.")],
    effective_from: EffectiveFrom = None,
    as_json: AsJson = False,
) -> None:
    """Add a dated setting for a provider. Booked amounts do not change."""
    now = utc_now()
    engine = build_service(load_settings()).engine
    with transaction(engine) as connection:
        hint = provider_hint(connection, provider)
    price = set_upstream_price(
        engine=engine,
        provider=provider,
        accepted=decision is Decision.ACCEPT,
        effective_from=utc_or(effective_from, now),
        set_by=operator(),
        now=now,
    )
    say_hint(hint)
    show_one(_row(price), as_json=as_json)


def _row(price: UpstreamPrice) -> dict[str, Any]:
    return {
        "provider": price.provider,
        "accepted": price.accepted,
        "effective_from": time_text(price.effective_from),
    }
