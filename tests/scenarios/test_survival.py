"""What was acknowledged survives kill -9 of any process and the loss of all of Valkey; costs are final soon."""

import os
import random
import signal
import statistics
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from redis import Redis
from redis.exceptions import RedisError

from tests.scenarios import oracle
from tests.scenarios.generator import World
from tests.scenarios.posting import post_badly
from tests.scenarios.whole import Whole, eventually

pytestmark = pytest.mark.long


def kill(whole: Whole, name: str) -> None:
    assert eventually(lambda: whole.supervisor.pid_of(name) is not None)
    pid = whole.supervisor.pid_of(name)
    assert pid is not None
    os.kill(pid, signal.SIGKILL)


def wipe_and_kill(whole: Whole, name: str) -> None:
    assert eventually(lambda: wipe(whole))
    kill(whole, name)


def wipe(whole: Whole) -> bool:
    try:
        with Redis.from_url(whole.redis_url) as redis:
            return bool(redis.flushall())
    except RedisError:
        return False  # it is not back yet from the last time


def post_amid(whole: Whole, world: World, harm: Callable[[], None]) -> None:
    """Post a world's events in parts, doing harm in the middle of three of them."""
    size = len(world.events) // 6 + 1
    for number, place in enumerate(range(0, len(world.events), size)):
        moment = threading.Timer(world.rng.uniform(0.0, 0.15), harm)
        if number % 2:
            moment.start()
        part = world.events[place : place + size]
        post_badly(url=whole.url, key=whole.key, events=part, rng=world.rng, waits=120)
        if number % 2:
            moment.join()


def check(whole: Whole, world: World) -> None:
    bills = oracle.bill(world.events)
    assert len(bills) > 100
    for (customer, stream_id), bill in bills.items():
        shown = whole.stream(customer, stream_id)
        assert (shown["state"], shown["cost_usd_cents"]) == (bill.state, bill.cost), (bill, shown)


def survive(whole: Whole, name: str, harm: Callable[[Whole, str], None]) -> None:
    world = World(random.Random(name), prefix=name)
    world.add_streams(400)
    assert eventually(lambda: whole.supervisor.pid_of(name) is not None)
    before = whole.supervisor.restarts_of(name)
    post_amid(whole, world, lambda: harm(whole, name))
    assert eventually(lambda: whole.supervisor.restarts_of(name) == before + 3)
    assert eventually(lambda: whole.get("/livez") == {"status": "alive"})
    whole.settle()
    check(whole, world)
    whole.audit()


def test_the_api_is_killed_again_and_again(whole: Whole) -> None:
    survive(whole, "api", kill)


def test_the_worker_is_killed_again_and_again(whole: Whole) -> None:
    survive(whole, "worker", kill)


def test_postgresql_is_killed_again_and_again(whole: Whole) -> None:
    survive(whole, "postgres", kill)


def test_valkey_is_wiped_and_killed_again_and_again(whole: Whole) -> None:
    survive(whole, "valkey", wipe_and_kill)


def test_a_stream_is_final_well_within_a_second_of_its_end(whole: Whole) -> None:
    assert eventually(lambda: latency(whole, "warm-up") < 1)
    seconds = [latency(whole, f"s{number}") for number in range(15)]
    print(f"acknowledged to final: median {statistics.median(seconds):.3f} s, worst {max(seconds):.3f} s")
    assert statistics.median(seconds) < 1


def latency(whole: Whole, stream_id: str) -> float:
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())

    def event(kind: str, data: dict[str, Any]) -> dict[str, Any]:
        return {
            "specversion": "1.0",
            "type": kind,
            "source": "/g",
            "id": f"{stream_id}:{kind}",
            "subject": "latency",
            "time": now,
            "data": {"stream_id": stream_id, **data},
        }

    start = event("stream-start", {"provider": "openai", "model": "gpt-5.5-pro", "input_tokens": 5})
    usage = {"input_tokens": 5, "output_tokens": 5}
    end = event("stream-end", {"outcome": "completed", "usage": usage, "usage_source": "provider"})
    assert whole.client.post("/v1/events", json=[start]).is_success
    assert whole.client.post("/v1/events", json=[end]).is_success
    acknowledged = time.monotonic()
    path = f"/v1/streams/latency/{stream_id}"
    while whole.get(path)["state"] != "finalized":
        time.sleep(0.01)
    return time.monotonic() - acknowledged
