"""Gateways with holds."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from metering.gateway.hold_settings import GatewayHolds
from tests.emitter.sink import RunningServer
from tests.gateway.holds.world import WORST_CASE, HeldWorld, StartHeld, held_world
from tests.gateway.other_upstream import OtherUpstream
from tests.running_api import Api


@pytest.fixture
def start_held(api: Api, demo_url: str, tmp_path: Path) -> Iterator[StartHeld]:
    """Start a gateway with holds, for a customer with a budget of `limit` cents."""
    with ExitStack() as stack:
        other = OtherUpstream()
        server = stack.enter_context(RunningServer(other.app))

        def start(*, limit: str | None, holds: GatewayHolds = WORST_CASE, **terms: Any) -> HeldWorld:
            return stack.enter_context(
                held_world(
                    api,
                    folder=tmp_path,
                    demo_url=demo_url,
                    other=other,
                    other_url=server.url,
                    holds=holds,
                    limit=limit,
                    **terms,
                )
            )

        yield start
