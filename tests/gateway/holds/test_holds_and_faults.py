"""Holds when something fails: clients that leave, a gateway or a service that is killed, many clients at once."""

import asyncio
import signal
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import openai
import pytest

from metering.core.clock import utc_now
from metering.ledger.finalize_due import finalize_due
from metering.server.bootstrap import Service
from tests.emitter.sink import RunningServer, free_port
from tests.gateway.asking import MESSAGES, scenario
from tests.gateway.holds.world import SLIDING, WORST_CASE, HeldWorld, StartHeld, set_up, settings_for
from tests.gateway.other_upstream import OtherUpstream
from tests.gateway.process import gateway_process
from tests.gateway.world import KEY, running_gateway
from tests.running_api import Api, signed_in
from tests.waiting import eventually

pytestmark = pytest.mark.long

CHAT: Any = {"model": "chat-1", "messages": MESSAGES}


def leave_after(answer: Any, chunks: int) -> str:
    """Read so many chunks, leave, and return the stream's id."""
    for _ in range(chunks):
        next(answer)
    answer.response.close()
    return str(answer.response.headers["x-metering-stream-id"])


@pytest.mark.parametrize("holds", [WORST_CASE, SLIDING], ids=["worst_case", "sliding"])
def test_a_client_that_leaves_has_no_hold_after_its_charge(start_held: StartHeld, holds: Any) -> None:
    world = start_held(limit="1000", holds=holds)
    headers = scenario(tokens=400, rate=50)
    with world.openai() as client:
        answer = client.chat.completions.create(**CHAT, stream=True, max_tokens=400, extra_headers=headers)
        [hold] = world.open_holds()
        assert hold["held_usd_cents"] == ("400" if holds is WORST_CASE else "20")
        stream_id = leave_after(answer, 5)
    [charge] = world.charges(1)
    assert (charge["stream_id"], charge["outcome"]) == (stream_id, "cancelled")
    assert world.figures() == (charge["cost_usd_cents"], "0", 0)
    assert 0 < Decimal(charge["cost_usd_cents"]) < 200


def test_an_upstream_that_refuses_costs_nothing_and_holds_nothing(start_held: StartHeld) -> None:
    world = start_held(limit="1000")
    with world.openai(max_retries=1) as client, pytest.raises(openai.RateLimitError):
        client.completions.create(model="words-refused", prompt="Hi", max_tokens=100)
    # The retry of the client is a stream of its own, with a hold of its own.
    assert {each["cost_usd_cents"] for each in world.charges(2)} == {"0"}
    assert world.figures() == ("0", "0", 0)


def test_of_64_clients_at_one_budget_as_many_pass_as_fit(start_held: StartHeld) -> None:
    world = start_held(limit="100")

    async def ask(client: openai.AsyncOpenAI, number: int) -> str:
        try:
            await client.chat.completions.create(**CHAT, max_tokens=9, stream=False, seed=number)
        except openai.APIStatusError as error:
            return str(error.code)
        return "answered"

    async def all_at_once() -> Counter[str]:
        async with openai.AsyncOpenAI(base_url=f"{world.url}/v1", api_key=KEY, timeout=120) as client:
            return Counter(await asyncio.gather(*(ask(client, number) for number in range(64))))

    # Nothing is booked meanwhile, so that what is held stays held.
    assert asyncio.run(all_at_once()) == {"answered": 11, "budget_exhausted": 53}
    world.charges(11)
    spent, held, count = world.figures()
    assert (held, count) == ("0", 0)
    assert Decimal(spent) <= 100


def test_holds_of_a_gateway_that_is_killed_settle_or_expire(api: Api, tmp_path: Path) -> None:
    key, other = set_up(api, limit="5000"), OtherUpstream()
    with RunningServer(other.app) as upstream:
        waits = {"hold_lease_seconds": "60", "hold_timeout_seconds": "20"}
        options = {"ingest_key": key, "holds": "worst_case", **waits}
        with gateway_process(tmp_path, sink_url=api.url, upstream_url=upstream.url, **options) as gateway:
            world = HeldWorld(api, gateway.url, other)
            with world.openai() as client:
                answer = client.completions.create(
                    model="words-endless", prompt="Hi", stream=True, max_tokens=1_000
                )
                next(answer)
                stream_id = answer.response.headers["x-metering-stream-id"]
                delivered = f"/v1/streams/acme/{stream_id}"
                assert eventually(lambda: api.client.get(delivered).status_code == 200)
                gateway.signal(signal.SIGKILL)
                gateway.process.wait(60)
                answer.response.close()
    never_began = {"customer_id": "acme", "stream_id": "of-the-dead", "provider": "openai", "model": "chat-1"}
    body = {**never_began, "input_tokens": 5, "max_output_tokens": 70, "lease_seconds": 60}
    assert api.client.post("/v1/holds", json=body).status_code == 201
    assert world.figures() == ("0", "1070", 2)
    assert world.expire(after_seconds=61) == 1
    assert world.figures() == ("0", "1000", 1)
    finalize_due(
        engine=api.service.engine,
        price_books=api.service.price_books,
        waits=api.service.waits,
        now=utc_now() + timedelta(hours=2),
        limit=100,
    )
    [charge] = world.streams()
    assert (charge["stream_id"], charge["outcome"]) == (stream_id, "abandoned")
    assert world.figures() == (charge["cost_usd_cents"], "0", 0)


@contextmanager
def gateway_of(port: int, key: str, holds: Any, *, folder: Path, demo_url: str) -> Iterator[openai.OpenAI]:
    settings = settings_for(
        sink_url=f"http://127.0.0.1:{port}",
        key=key,
        spool=folder / "spool",
        other_url=demo_url,
        demo_url=demo_url,
        holds=holds,
    )
    with (
        running_gateway(settings) as gateway,
        openai.OpenAI(base_url=f"{gateway.url}/v1", api_key=KEY, timeout=60, max_retries=0) as client,
    ):
        yield client


def test_without_the_service_no_request_passes_and_nothing_is_billed(
    rated_service: Service, tmp_path: Path, demo_url: str
) -> None:
    port = free_port()
    with signed_in(rated_service, port=port) as api:
        key = set_up(api, limit="100")
    with gateway_of(port, key, WORST_CASE, folder=tmp_path, demo_url=demo_url) as client:
        with pytest.raises(openai.InternalServerError) as caught:
            client.chat.completions.create(**CHAT, max_tokens=10)
        assert (caught.value.status_code, caught.value.code) == (503, "budget_unavailable")
        with signed_in(rated_service, port=port) as api:
            assert client.chat.completions.create(**CHAT, max_tokens=10).usage
            assert len(HeldWorld(api, "", OtherUpstream()).charges(1)) == 1


def test_without_the_service_an_amount_a_minute_passes_and_is_an_overrun_later(
    rated_service: Service, tmp_path: Path, demo_url: str
) -> None:
    holds = replace(
        WORST_CASE, fail_open_usd_cents_per_minute=Decimal(50), fail_open_usd_cents_per_stream=Decimal(99)
    )
    port, asked = free_port(), {**CHAT, "max_tokens": 20}
    with signed_in(rated_service, port=port) as api:
        key = set_up(api, limit="1000")
    with gateway_of(port, key, holds, folder=tmp_path, demo_url=demo_url) as client:
        with signed_in(rated_service, port=port) as api:
            assert client.chat.completions.create(**asked).usage
            HeldWorld(api, "", OtherUpstream()).charges(1)
        # What the last hold of the model held is what each counts with: two times 20 fit into 50.
        assert [client.chat.completions.create(**asked).usage is not None for _ in range(2)] == [True, True]
        with pytest.raises(openai.InternalServerError, match="The budget cannot be checked now"):
            client.chat.completions.create(**asked)
        with signed_in(rated_service, port=port) as api:
            world = HeldWorld(api, "", OtherUpstream())
            charges = world.charges(3)
            assert [cents for reason, cents in world.overruns() if reason == "failed_open"] == ["20", "20"]
            assert [each["cost_usd_cents"] for each in charges] == ["20"] * 3
            assert world.figures() == ("60", "0", 0)
