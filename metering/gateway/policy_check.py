"""Compares `drain_seconds` of each upstream with the cancel policy that the service bills its provider by.

The two have to agree: a drained stream is billed in full, and one that is not drained by what was delivered.
Neither can be derived from the other, so a disagreement is logged and counted, and the gateway goes on.
"""

import asyncio
import logging
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import httpx2

from metering.gateway.gateway import Gateway
from metering.gateway.settings import GatewaySettings, Upstream

log = logging.getLogger(__name__)

_BUILT_IN = "delivered"
_DRAIN = "drain"
_TIMEOUT_SECONDS = 3.0
_RETRY_SECONDS = 60.0
# Policies are dated: one may come into force while the gateway runs.
_REPEAT_SECONDS = 3_600.0


def policies_in_force(policies: Iterable[Mapping[str, Any]], *, now: datetime) -> dict[str, str]:
    """The policy of each provider, in lower case, from the API's list."""
    dated = sorted(
        (datetime.fromisoformat(each["effective_from"]), each["version"], each["provider"].lower(), each["policy"])
        for each in policies
    )
    return {provider: policy for since, _, provider, policy in dated if since <= now}


def disagreements(upstreams: Sequence[Upstream], policies: Mapping[str, str]) -> list[str]:
    """A sentence for each provider whose upstreams and cancel policy disagree, with both ways to repair it."""
    found: dict[str, str] = {}
    for upstream in upstreams:
        provider = upstream.provider
        policy = policies.get(provider.lower(), _BUILT_IN)
        base_url, seconds = upstream.base_url, upstream.drain_seconds
        if policy == _DRAIN and not seconds:
            found[provider] = (
                f"{provider} has the cancel policy drain, but the upstream {base_url} has no drain_seconds: "
                "clients that leave pay for what was delivered. Set drain_seconds, or the policy delivered"
            )
        elif policy != _DRAIN and seconds:
            found[provider] = (
                f"the upstream {base_url} has drain_seconds = {seconds:g}, but {provider} has the cancel "
                f"policy {policy}: clients that leave pay for the whole answer. "
                "Set drain_seconds = 0, or the policy drain"
            )
    return list(found.values())


async def check_policies(gateway: Gateway) -> None:
    """Compare at the start and from time to time, until cancelled."""
    while True:
        try:
            policies = await asyncio.to_thread(_read_policies, gateway.settings)
        except (OSError, httpx2.HTTPError, httpx2.InvalidURL, ValueError, KeyError, TypeError) as error:
            log.warning("drain_seconds could not be compared with the service's cancel policies: %r", error)
            await asyncio.sleep(_RETRY_SECONDS)
            continue
        for sentence in disagreements(gateway.routing.upstreams, policies):
            gateway.metrics.problem("cancel_policy")
            log.error("%s", sentence)
        await asyncio.sleep(_REPEAT_SECONDS)


def _read_policies(settings: GatewaySettings) -> dict[str, str]:
    answer = httpx2.get(
        f"{settings.metering_url}/v1/cancel-policies",
        headers={"authorization": f"Bearer {settings.current_ingest_key()}"},
        timeout=_TIMEOUT_SECONDS,
    )
    answer.raise_for_status()
    return policies_in_force(answer.json()["data"], now=datetime.now(UTC))
