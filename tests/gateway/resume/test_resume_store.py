"""Calls to Valkey end when they are cancelled, and a place belongs to one owner."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

import pytest

from metering.gateway.resume.sealing import Place, new_owner, secret_of
from metering.gateway.resume.settings import ResumeSettings
from metering.gateway.resume.store import Append, Claimed, Full, State, Store, StoreError
from tests.emitter.sink import free_port
from tests.gateway.resume.valkey import RunningValkey
from tests.gateway.resume.world import new_key

T = TypeVar("T")


def _place(customer: str = "acme") -> Place:
    return secret_of(resume_key=new_key(), client_key="gk", customer_id=customer).place


def _run(valkey: RunningValkey, act: Callable[[Store], Awaitable[T]], **options: float) -> T:
    async def with_store() -> T:
        store = Store(ResumeSettings(url=valkey.url, **{"timeout_seconds": 10.0, **options}))  # type: ignore[arg-type]
        try:
            return await act(store)
        finally:
            await store.close()

    return asyncio.run(with_store())


def test_a_place_belongs_to_the_owner_that_claimed_it_first(valkey: RunningValkey) -> None:
    async def act(store: Store) -> None:
        place, first, second = _place(), new_owner(), new_owner()
        assert await store.claim(place, first, b"head") is None
        assert await store.claim(place, second, b"other") == Claimed(first, b"head")
        written = [Append(place, first, [(1, b"one")]), Append(place, second, [(2, b"two")])]
        assert await store.append(written) == [True, False]
        assert await store.read(place, 0) == [(1, b"one")]
        assert await store.renew([(place, first), (place, second)], []) == [State.READ, State.GONE]
        assert await store.release(place, second)
        assert await store.look(place, first) == (True, True)
        assert not await store.release(place, first, unless_read=True), "the second claim is a reader"
        assert await store.release(place, first)
        assert await store.look(place, first) == (False, False)
        assert await store.claim(place, second, b"other") is None

    _run(valkey, act)


def test_a_released_answer_makes_room(valkey: RunningValkey) -> None:
    async def act(store: Store) -> None:
        first, second, owner = _place("only-two"), _place("only-two"), new_owner()
        assert await store.claim(first, owner, b"head") is None
        assert await store.claim(second, owner, b"head") is None
        assert isinstance(await store.claim(_place("only-two"), owner, b"head"), Full)
        assert await store.release(first, owner)
        assert await store.claim(_place("only-two"), owner, b"head") is None

    _run(valkey, act, max_streams_per_customer=2)


@pytest.mark.parametrize("steps", range(0, 60, 3))
def test_a_call_that_is_cancelled_at_any_moment_ends(valkey: RunningValkey, steps: int) -> None:
    """With the client's own timeout, a cancellation at a certain moment was lost."""

    async def act(store: Store) -> None:
        place, owner = _place(), new_owner()
        await store.claim(place, owner, b"head")

        async def write_on() -> None:
            for number in range(1, 100_000):
                await store.append([Append(place, owner, [(number, b"piece")])])

        writing = asyncio.create_task(write_on())
        for _ in range(steps):
            await asyncio.sleep(0)
        writing.cancel()
        _, pending = await asyncio.wait({writing}, timeout=10)
        assert not pending
        assert writing.cancelled()
        assert (await store.look(place, owner))[0], "the next call is not answered with what was cancelled"

    _run(valkey, act)


def test_a_valkey_that_cannot_be_reached_is_an_error_within_the_timeout() -> None:
    async def act() -> None:
        store = Store(ResumeSettings(url=f"redis://127.0.0.1:{free_port()}", timeout_seconds=10))
        with pytest.raises(StoreError, match="ConnectionError"):
            await store.claim(_place(), new_owner(), b"head")
        await store.close()

    asyncio.run(act())
