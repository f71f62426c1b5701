"""How soon the service works again after several kills in a row, under load."""

import random
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass

import httpx2
import psutil
import pytest

from metering.lab.chaos.prober import Prober
from metering.lab.chaos.traffic import PROVIDER
from tests.scenarios.generator import World
from tests.scenarios.whole import Whole, eventually, run_whole

pytestmark = pytest.mark.long

# On a machine with nothing else to do it is less than 10 s.
MOST_SECONDS = 30.0
KILLS = 6
PAUSE_SECONDS = 1.0
PARTS = ("postgres", "valkey", "api", "worker")


@dataclass(frozen=True, slots=True)
class Recovery:
    """Seconds from the last kill until an event was acknowledged, and until a stream of after it was final."""

    acknowledged: float
    final: float


@contextmanager
def load(whole: Whole) -> Iterator[None]:
    """Gateways that post, and clients that read, whatever happens."""
    stopping = threading.Event()

    def work(number: int) -> None:
        world = World(random.Random(number), prefix=f"load-{number}-{time.time_ns()}")
        headers = {"authorization": f"Bearer {whole.key}"}
        with httpx2.Client(base_url=whole.url, headers=headers, timeout=5) as client:
            while not stopping.is_set():
                world.add_streams(20)
                events, world.events = world.events, []
                with suppress(httpx2.HTTPError):
                    client.post("/v1/events", json=events)
                    client.get("/v1/customers")
                stopping.wait(0.05)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stopping.set()
        for thread in threads:
            thread.join()


@pytest.fixture(scope="module")
def whole() -> Iterator[Whole]:
    """One for these tests alone: what the load posts is in no other test's sums."""
    with run_whole() as running:
        yield running


@pytest.fixture(scope="module")
def prober(whole: Whole) -> Iterator[Prober]:
    rates = {"rates": [{"kind": kind, "usd_per_million": "1"} for kind in ("input", "output")]}
    assert whole.client.put(f"/v1/rates/{PROVIDER}/small", json=rates).is_success
    prober = Prober(url=whole.url, key=whole.key)
    prober.start()
    yield prober
    prober.stop(within=60)


def kill_again_and_again(whole: Whole, parts: Sequence[str]) -> float:
    """Kill the parts together, several times; returns when the last of them died."""
    for _ in range(KILLS):
        time.sleep(PAUSE_SECONDS)
        for part in parts:
            assert eventually(lambda part=part: whole.supervisor.pid_of(part) is not None)
            with suppress(psutil.NoSuchProcess):
                psutil.Process(whole.supervisor.pid_of(part)).kill()
    return time.monotonic()


def recovery(prober: Prober, since: float) -> Recovery:
    assert eventually(
        lambda: prober.acknowledged_after(since) is not None and prober.final_after(since) is not None
    )
    acknowledged, final = prober.acknowledged_after(since), prober.final_after(since)
    assert acknowledged is not None
    assert final is not None
    return Recovery(acknowledged, final)


@pytest.mark.parametrize("parts", [("postgres",), ("api",), ("worker",), PARTS], ids="+".join)
def test_the_service_is_back_soon_after_several_kills(whole: Whole, prober: Prober, parts: Sequence[str]) -> None:
    with load(whole):
        found = recovery(prober, kill_again_and_again(whole, parts))
    print(f"{'+'.join(parts)}: acknowledged after {found.acknowledged:.1f} s, final after {found.final:.1f} s")
    assert max(found.acknowledged, found.final) < MOST_SECONDS
    whole.settle()
    whole.audit()
