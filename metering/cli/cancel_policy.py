"""`metering cancel-policy`: what incomplete streams are billed for, by provider and date."""

from typing import Annotated, Any

import typer

from metering.cli.known import provider_hint, say_hint
from metering.cli.options import AsJson, EffectiveFrom, OnlyProvider, Period, Provider, time_text, utc_or
from metering.cli.periods import check_begun
from metering.cli.progress import progress_bar
from metering.cli.service import database, operator
from metering.core.clock import utc_now
from metering.core.money import cents_text
from metering.core.period import BillingPeriod
from metering.corrections.simulate_cancel_policy import SimulatedCost, simulate_cancel_policy
from metering.db.engine import transaction
from metering.prices.cancel_policies import CancelPolicy, CancelTerms
from metering.prices.queries import list_cancel_policies
from metering.prices.set_terms import set_cancel_policy
from metering.server.bootstrap import build_service
from metering.server.settings import load_settings
from metering.server.terminal.output import say, show, show_one

app = typer.Typer()


@app.command("list")
def list_them(provider: OnlyProvider = None, as_json: AsJson = False) -> None:
    """List the policies. A provider without one has `delivered`, version 0."""
    with database() as connection:
        found = list_cancel_policies(connection, provider=provider)
    show(
        [{**_row(each.terms), "provenance": each.provenance} for each in found],
        as_json=as_json,
        empty="no policy is set: all providers have `delivered`"
        if provider is None
        else f"no policy is set for {provider}: it has `delivered`",
    )


@app.command("set", epilog="Example: metering cancel-policy set anthropic delivered --effective-from 2026-11-01")
def set_one(
    provider: Provider,
    policy: Annotated[CancelPolicy, typer.Argument(help="What the provider bills after a disconnect.")],
    effective_from: EffectiveFrom = None,
    as_json: AsJson = False,
) -> None:
    """Add a dated policy for a provider. Booked amounts do not change."""
    service = build_service(load_settings())
    now = utc_now()
    with transaction(service.engine) as connection:
        hint = provider_hint(connection, provider)
    terms = set_cancel_policy(
        engine=service.engine,
        provider=provider,
        policy=policy,
        effective_from=utc_or(effective_from, now),
        set_by=operator(),
        now=now,
    )
    say_hint(hint)
    show_one(_row(terms), as_json=as_json)


@app.command("simulate", epilog="Example: metering cancel-policy simulate zero --period 2026-10")
def simulate(
    policy: Annotated[CancelPolicy, typer.Argument(help="The policy to try.")],
    period: Period,
    provider: OnlyProvider = None,
    as_json: AsJson = False,
) -> None:
    """Show what a month would have cost under another policy. Writes nothing."""
    month = BillingPeriod.parse(period)
    service = build_service(load_settings())
    with progress_bar("reading bills") as progress:
        costs = simulate_cancel_policy(
            engine=service.engine,
            period=month,
            policy=policy,
            provider=provider,
            progress=progress,
        )
    if not costs:
        check_begun(month, now=utc_now())
    show(
        [_cost(cost) for cost in costs],
        as_json=as_json,
        empty=f"no stream of {period} ended early: every policy costs the same",
    )
    if unpriced := sum(cost.unpriced for cost in costs):
        say(f"{unpriced:,} of them have no rate and are not included: see `metering backlog list`")


def _row(terms: CancelTerms) -> dict[str, Any]:
    return {
        "provider": terms.provider,
        "policy": terms.policy.value,
        "version": terms.version,
        "effective_from": time_text(terms.effective_from),
    }


def _cost(cost: SimulatedCost) -> dict[str, Any]:
    return {
        "provider": cost.provider,
        "outcome": cost.outcome.value,
        "stream_count": cost.stream_count,
        "usd_cents": cents_text(cost.usd_cents),
        "would_cost_usd_cents": cents_text(cost.would_cost_usd_cents),
        "difference_usd_cents": cents_text(cost.difference_usd_cents),
    }
