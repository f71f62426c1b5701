"""Turns of reads: a client has at most half, the next goes to who has the fewest, and a flood rests in between."""

import asyncio
import gc
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import pytest

from metering.api.key_limits import TooManyRequestsError
from metering.api.shares import MAX_WAITING, MAX_WAITING_PER_CLIENT, BusyError, Shares
from tests.database import Database
from tests.hammering import hammered
from tests.running_api import signed_in
from tests.waiting import eventually

Task = asyncio.Task[None]


def shares_of(turns: int, *, wait: float = 60) -> Shares:
    return Shares(turns=turns, wait=timedelta(seconds=wait))


async def asked(shares: Shares, *clients: str) -> list[Task]:
    """A request of each of these clients, as far as they come without waiting."""
    tasks = [asyncio.create_task(shares.take(client)) for client in clients]
    await settle()
    return tasks


async def settle() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


def running(tasks: list[Task]) -> list[bool]:
    return [task.done() for task in tasks]


def run(scenario: Coroutine[Any, Any, None]) -> None:
    asyncio.run(scenario)


def test_a_client_has_half_of_the_turns_and_others_find_room() -> None:
    async def scenario() -> None:
        shares = shares_of(4)
        assert running(await asked(shares, "a", "a", "a", "b", "b")) == [True, True, False, True, True]

    run(scenario())


def test_the_next_turn_goes_to_the_client_with_the_fewest() -> None:
    async def scenario() -> None:
        shares = shares_of(4)
        await asked(shares, "a", "a", "b", "b")
        first, second, third = await asked(shares, "a", "a", "c")
        shares.give_back("b")
        await settle()
        assert running([first, second, third]) == [False, False, True]

    run(scenario())


def test_a_flood_rests_twice_as_long_as_it_ran_and_who_asks_one_by_one_does_not() -> None:
    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        shares = shares_of(2)
        await asked(shares, "a")
        (waiting,) = await asked(shares, "a")
        began = loop.time()
        shares.end("a", seconds=0.1)
        await waiting
        assert loop.time() - began >= 0.2
        shares.end("a", seconds=30)
        assert running(await asked(shares, "a")) == [True]

    run(scenario())


def test_more_than_may_wait_are_refused_at_once() -> None:
    async def scenario() -> None:
        shares = shares_of(1)
        await asked(shares, "a")
        await asked(shares, *(["a"] * MAX_WAITING_PER_CLIENT))
        with pytest.raises(TooManyRequestsError, match=f"^{MAX_WAITING_PER_CLIENT} requests of this client wait"):
            shares.check_room("a")
        shares.check_room("b")
        await asked(shares, *(f"c{number}" for number in range(MAX_WAITING - MAX_WAITING_PER_CLIENT)))
        with pytest.raises(BusyError):
            shares.check_room("b")

    run(scenario())


def test_a_turn_that_does_not_come_in_time_is_refused_and_one_that_is_given_up_goes_to_the_next() -> None:
    async def scenario() -> None:
        shares = shares_of(1, wait=0.05)
        await asked(shares, "a")
        with pytest.raises(BusyError):
            await shares.take("b")
        first, second = await asked(shares, "b", "c")
        first.cancel()
        shares.give_back("a")
        await settle()
        assert running([first, second]) == [True, True]
        assert first.cancelled()

    run(scenario())


@contextmanager
def without_the_collector() -> Iterator[None]:
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def test_refused_reads_leave_nothing_to_the_garbage_collector(rated_database: Database) -> None:
    # The collector found thousands of refused requests at once, and held up everything for 50 ms.
    settings = {"concurrent_reads": 2, "read_wait": timedelta(seconds=0.2)}
    with rated_database.service(**settings) as service, signed_in(service) as api, without_the_collector():
        with hammered(api, "/v1/rates?limit=1000", 60) as answers:
            assert eventually(lambda: {429, 503} <= {answer.status_code for answer in answers}, within=120)
        left = [each for each in gc.get_objects() if isinstance(each, TooManyRequestsError | BusyError)]
    assert left == []
