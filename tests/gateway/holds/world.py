"""The gateway with holds before real upstreams, and behind it the real service: budgets, holds and charges."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import anthropic
import httpx2
import openai

from metering.access.scopes import Role
from metering.budgets.expire_holds import expire_holds
from metering.core.clock import utc_now
from metering.gateway.hold_settings import GatewayHolds
from metering.gateway.resume.settings import ResumeSettings
from metering.gateway.settings import GatewaySettings, Upstream
from tests.gateway.other_upstream import OtherUpstream
from tests.gateway.world import KEY, demo_upstream, running_gateway, settings_of
from tests.running_api import Api, put
from tests.waiting import eventually

# One cent an output token, and nothing for the input: amounts are counts.
MODELS = ("words-plain", "words-slow", "words-endless", "words-refused", "words-drop", "chat-1")
RATES = [{"kind": "input", "usd_per_million": "0"}, {"kind": "output", "usd_per_million": "10000"}]
WORST_CASE = GatewayHolds(mode="worst_case", lease_seconds=30, timeout_seconds=20)
SLIDING = GatewayHolds(mode="sliding", slice_output_tokens=20, lease_seconds=30, timeout_seconds=20)


StartHeld = Callable[..., "HeldWorld"]


@dataclass
class HeldWorld:
    """A gateway, its upstream, and the service."""

    api: Api
    url: str
    other: OtherUpstream

    def openai(self, **options: Any) -> openai.OpenAI:
        """A stock client, which retries as it does by default."""
        return openai.OpenAI(base_url=f"{self.url}/v1", **{"api_key": KEY, "timeout": 60, **options})

    def anthropic(self, **options: Any) -> anthropic.Anthropic:
        return anthropic.Anthropic(base_url=self.url, **{"api_key": KEY, "timeout": 60, **options})

    def figures(self) -> tuple[str, str, int]:
        """(spent, held) of the budget in cents, and the number of its open holds."""
        read = self.api.client.get("/v1/budgets/b").json()
        return read["spent_usd_cents"], read["held_usd_cents"], read["open_holds"]

    def open_holds(self) -> list[dict[str, Any]]:
        answer = self.api.client.get("/v1/holds", params={"customer_id": "acme"})
        listed: list[dict[str, Any]] = answer.json()["data"]
        return listed

    def holds(self, result: str) -> float:
        """The gateway's count of holds with this result."""
        name = f'metering_gateway_holds_total{{result="{result}"}} '
        lines = httpx2.get(f"{self.url}/metrics", timeout=60).text.splitlines()
        return next((float(line.removeprefix(name)) for line in lines if line.startswith(name)), 0.0)

    def streams(self) -> list[dict[str, Any]]:
        listed: list[dict[str, Any]] = self.api.client.get("/v1/charges", params={"limit": 200}).json()["data"]
        return listed

    def charges(self, count: int) -> list[dict[str, Any]]:
        """The charges, once there are so many."""

        def booked() -> bool:
            self.api.finalize()
            return len(self.streams()) >= count

        assert eventually(booked), f"{count} charges are not booked"
        return self.streams()

    def ending(self, stream_id: str) -> tuple[str, str | None]:
        """(outcome, error type) of a stream that has ended."""
        read = self.api.client.get(f"/v1/streams/acme/{stream_id}").json()
        return read["outcome"], read["error_type"]

    def overruns(self) -> list[tuple[str, str]]:
        """(reason, cents) of each."""
        with self.api.service.engine.connect() as connection:
            rows = connection.exec_driver_sql("SELECT reason, usd_cents FROM overruns ORDER BY booked_at")
            return [(row.reason, f"{row.usd_cents.normalize():f}") for row in rows]

    def expire(self, *, after_seconds: float) -> int:
        """What a worker would do so much later; the number of holds that expired."""
        now = utc_now() + timedelta(seconds=after_seconds)
        return expire_holds(engine=self.api.service.engine, now=now).expired


def set_up(api: Api, *, limit: str | None, **terms: Any) -> str:
    """A customer with a budget of so many cents, and prices; returns a gateway's key."""
    put(api, "/v1/customers/acme", name="Acme")
    since = (utc_now() - timedelta(days=1)).isoformat()
    for provider in ("openai", "anthropic"):
        for model in MODELS:
            put(api, f"/v1/rates/{provider}/{model}", rates=RATES, effective_from=since)
    if limit is not None:
        scope = {"customer_id": "acme"}
        put(api, "/v1/budgets/b", **{"scope": scope, "window": "month", "limit_usd_cents": limit, **terms})
    with api.client_with(Role.INGEST) as client:
        return str(client.headers["authorization"]).removeprefix("Bearer ")


def settings_for(
    *, sink_url: str, key: str, spool: Path, other_url: str, demo_url: str, holds: GatewayHolds, **options: Any
) -> GatewaySettings:
    upstreams = (
        demo_upstream(demo_url, "chat-*", provider="openai"),
        Upstream(provider="openai", base_url=f"{other_url}/v1", models=("*",), api_key="sk-o"),
    )
    return settings_of(sink_url=sink_url, spool=spool, upstreams=upstreams, ingest_key=key, holds=holds, **options)


# Starts a gateway for a customer with a budget of `limit` cents.
StartHeld = Callable[..., HeldWorld]


@contextmanager
def held_world(
    api: Api,
    *,
    folder: Path,
    demo_url: str,
    other: OtherUpstream,
    other_url: str,
    holds: GatewayHolds,
    limit: str | None,
    resume: ResumeSettings | None = None,
    **terms: Any,
) -> Iterator[HeldWorld]:
    key = set_up(api, limit=limit, **terms)
    settings = settings_for(
        sink_url=api.url,
        key=key,
        spool=folder / "spool",
        other_url=other_url,
        demo_url=demo_url,
        holds=holds,
        resume=resume,
    )
    with running_gateway(settings) as gateway:
        yield HeldWorld(api, gateway.url, other)
