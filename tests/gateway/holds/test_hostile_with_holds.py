"""Holds before upstreams and clients that misbehave: what was written is billed, and no hold stays."""

import socket
from collections.abc import Iterator
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import openai
import pytest

from metering.core.clock import utc_now
from tests.gateway.asking import MESSAGES
from tests.gateway.holds.world import RATES, SLIDING, HeldWorld, set_up
from tests.gateway.hostile.behaviours import DONE, TOKENS, Behaviour, End, Expected, Pause, Write, finish, words
from tests.gateway.hostile.upstream import HostileUpstream
from tests.gateway.other_upstream import OtherUpstream
from tests.gateway.world import KEY, demo_upstream, running_gateway, settings_of
from tests.running_api import Api, put

_ANY = Expected(usage=None)
_FILLER = Write(b": " + b"x" * 65_536 + b"\n\n")
_SLOW = [each for step in words() * 200 for each in (step, Pause(0.02))]
BEHAVIOURS = [
    Behaviour("burst", [*words() * 10, finish(), DONE], _ANY),
    Behaviour("rst", [*words() * 3, End("rst")], _ANY),
    Behaviour("error", [*words(), Write(b'data: {"error": {"message": "no", "code": "overloaded"}}\n\n')], _ANY),
    Behaviour("silent", [*words(3), Pause(30)], _ANY),
    Behaviour("endless", _SLOW, _ANY),
    Behaviour("flood", [each for step in words() * 200 for each in (step, Pause(0.01), _FILLER)], _ANY),
    Behaviour("refused", [Write(b'{"error": {"message": "slow down", "code": "rate"}}')], _ANY, status=429,
              framing="length", content_type="application/json"),
]  # fmt: skip


@pytest.fixture
def world(api: Api, tmp_path: Path) -> Iterator[HeldWorld]:
    key = set_up(api, limit="60")
    since = (utc_now() - timedelta(days=1)).isoformat()
    # What is asked for prices the hold, and what answers prices the charge.
    for model in ("hostile", *(f"gpt-4o:{each.name}" for each in BEHAVIOURS)):
        put(api, f"/v1/rates/openai/{model}", rates=RATES, effective_from=since)
    with HostileUpstream(BEHAVIOURS) as upstream:
        settings = settings_of(
            sink_url=api.url,
            spool=tmp_path / "spool",
            upstreams=(demo_upstream(upstream.url, "*", provider="openai", read_timeout_seconds=3),),
            ingest_key=key,
            holds=SLIDING,
        )
        with running_gateway(settings) as gateway:
            yield HeldWorld(api, gateway.url, OtherUpstream())


def ask(world: HeldWorld, name: str) -> None:
    with world.openai(max_retries=0) as client:
        list(client.chat.completions.create(model=f"gpt-4o:{name}", messages=MESSAGES, stream=True))


def settled(world: HeldWorld) -> dict[str, Any]:
    """The one charge; nothing is held beside it."""
    [charge] = world.charges(1)
    assert world.figures() == (charge["cost_usd_cents"], "0", 0)
    return charge


def test_a_burst_beyond_its_slice_is_billed_in_full_and_is_an_overrun(world: HeldWorld) -> None:
    ask(world, "burst")
    charge = settled(world)
    assert (charge["outcome"], charge["cost_usd_cents"]) == ("completed", str(TOKENS * 10))
    [(reason, cents)] = world.overruns()
    assert reason == "counted_more"
    assert Decimal(cents) <= TOKENS * 10 - 20


@pytest.mark.parametrize(
    ("name", "error_type"),
    [
        ("rst", "upstream_disconnected"),
        ("error", "overloaded"),
        ("silent", "upstream_timeout"),
        ("refused", "rate"),
    ],
)
def test_an_upstream_that_fails_leaves_no_hold(world: HeldWorld, name: str, error_type: str) -> None:
    with pytest.raises(openai.APIError):
        ask(world, name)
    charge = settled(world)
    assert world.ending(charge["stream_id"])[1] == error_type


def test_an_upstream_that_never_ends_is_left(world: HeldWorld) -> None:
    with pytest.raises(openai.APIError, match="cut off"):
        ask(world, "endless")
    assert world.ending(settled(world)["stream_id"]) == ("cancelled", "budget")


def test_a_client_that_does_not_read_is_cut_as_well(world: HeldWorld) -> None:
    """Its connection is full, so that it cannot be told; the stream ends all the same."""
    parts = urlsplit(world.url)
    body = b'{"model": "gpt-4o:flood", "stream": true, "messages": [{"role": "user", "content": "Hi"}]}'
    head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {KEY}\r\n"
    head += f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    with socket.create_connection((parts.hostname, parts.port)) as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        connection.sendall(head.encode() + body)
        charge = settled(world)
    assert world.ending(charge["stream_id"])[0] == "cancelled"
