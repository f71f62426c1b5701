"""Keys in constant use: looked up again beside the requests, and refused soon after they are revoked."""

import asyncio
import time
from datetime import UTC, datetime

import pytest
from sqlalchemy import Engine, event

from metering.access.manage_access import create_key, revoke_key
from metering.access.scopes import Role
from metering.access.store.keys import list_keys
from metering.api import auth
from metering.api.auth import Authenticator, UnauthorizedError
from metering.db.engine import transaction

NOW = datetime(2026, 11, 23, 16, tzinfo=UTC)
_AS_RELEASED = (auth.CACHE_SECONDS, auth.REFRESH_SECONDS)


@pytest.fixture(autouse=True)
def _short_lives(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(auth, "CACHE_SECONDS", 1.0)
    monkeypatch.setattr(auth, "REFRESH_SECONDS", 0.2)


def test_one_of_many_requests_refreshes_a_key_in_use_and_none_waits(engine: Engine) -> None:
    header = f"Bearer {create_key(engine=engine, role=Role.INGEST, name='k', customer_id=None, now=NOW)}"
    authenticator = Authenticator(engine)
    looked_up: list[float] = []
    event.listen(engine, "before_cursor_execute", lambda *_: looked_up.append(time.monotonic()))

    async def use() -> None:
        await authenticator.key_async(header)
        began = time.monotonic()
        while time.monotonic() - began < 2.5:
            await asyncio.gather(*(authenticator.key_async(header) for _ in range(20)))
            await asyncio.sleep(0.01)

    asyncio.run(use())
    assert 3 <= len(looked_up) <= 15


def test_a_revoked_key_in_constant_use_is_refused_within_the_time_it_is_remembered(engine: Engine) -> None:
    key = create_key(engine=engine, role=Role.INGEST, name="k", customer_id=None, now=NOW)
    authenticator = Authenticator(engine)

    async def use_until_refused() -> float:
        await authenticator.key_async(f"Bearer {key}")
        revoke_key(engine=engine, key_id=key.key_id, by="test", now=NOW)
        revoked_at = time.monotonic()
        while time.monotonic() - revoked_at < 60:
            try:
                await authenticator.key_async(f"Bearer {key}")
            except UnauthorizedError:
                break
            await asyncio.sleep(0.005)
        return time.monotonic() - revoked_at

    assert asyncio.run(use_until_refused()) < 2


def test_the_last_use_is_stored_beside_the_requests_and_at_most_once_a_minute(engine: Engine) -> None:
    key = create_key(engine=engine, role=Role.READ, name="k", customer_id=None, now=NOW)
    authenticator, written = Authenticator(engine), list[str]()

    def used_at() -> datetime | None:
        with transaction(engine) as connection:
            return list_keys(connection)[0].last_used_at

    event.listen(
        engine, "before_cursor_execute", lambda *given: written.append(given[2]) if "UPDATE" in given[2] else None
    )
    for _ in range(3):
        authenticator.key(f"Bearer {key}")
    assert (written, used_at()) == ([], None)
    authenticator.store_use()
    first = used_at()
    assert first is not None
    # Another process, at once: the row is not written again.
    other = Authenticator(engine)
    other.key(f"Bearer {key}")
    other.store_use()
    assert used_at() == first
    # Without a use in between, nothing is asked of the database.
    statements = len(written)
    authenticator.store_use()
    assert len(written) == statements == 2


def test_a_key_is_remembered_for_at_most_five_seconds_as_the_docs_promise() -> None:
    assert _AS_RELEASED == (5.0, 2.5)


def test_a_revoked_key_is_refused_within_five_seconds_by_every_process(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(auth, "CACHE_SECONDS", _AS_RELEASED[0])
    clock = [1_000.0]
    monkeypatch.setattr(auth, "monotonic", lambda: clock[0])
    key = create_key(engine=engine, role=Role.READ, name="k", customer_id=None, now=NOW)
    processes = [Authenticator(engine), Authenticator(engine)]
    for each in processes:
        each.key(f"Bearer {key}")
    revoke_key(engine=engine, key_id=key.key_id, by="test", now=NOW)
    clock[0] += 5.0
    for each in processes:
        with pytest.raises(UnauthorizedError):
            each.key(f"Bearer {key}")
