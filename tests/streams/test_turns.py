"""Turns: keys go round, one request at a time; a few small requests need none."""

import asyncio

from metering.streams.ingest.turns import Turns


def test_keys_take_turns_however_many_requests_each_has() -> None:
    order: list[str] = []

    async def work(turns: Turns, key_id: str, number: int) -> None:
        async with turns.of(key_id):
            order.append(f"{key_id}{number}")
            await asyncio.sleep(0)

    async def run() -> None:
        turns = Turns()
        await asyncio.gather(*(work(turns, key_id, number) for key_id in "aab" for number in range(2)))

    asyncio.run(run())
    assert order.index("b0") <= 2
    assert len(order) == 6


def test_one_that_is_cancelled_passes_its_turn_on() -> None:
    async def run() -> bool:
        turns = Turns()
        await turns.take("a")
        waits = asyncio.create_task(turns.take("a"))
        behind = asyncio.create_task(turns.take("b"))
        await asyncio.sleep(0)
        waits.cancel()
        turns.pass_on()
        await asyncio.wait_for(behind, timeout=60)
        return waits.cancelled()

    assert asyncio.run(run())


def test_what_passes_without_a_turn_is_bounded_in_each_pass_of_the_loop() -> None:
    async def run() -> tuple[list[bool], bool]:
        turns = Turns()
        found = [turns.lets_pass(10_000) for _ in range(5)]
        await asyncio.sleep(0)
        return found, turns.lets_pass(10_000)

    assert asyncio.run(run()) == ([True, True, True, False, False], True)


def test_nothing_passes_one_that_has_its_turn() -> None:
    async def run() -> bool:
        turns = Turns()
        async with turns.of("a"):
            return turns.lets_pass(1)

    assert not asyncio.run(run())
