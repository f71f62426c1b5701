"""Keys in constant use: looked up again beside the requests, and refused soon after they are revoked."""

import asyncio
import time
from datetime import UTC, datetime

import pytest
from sqlalchemy import Engine, event

from metering.access.manage_access import create_key, revoke_key
from metering.access.scopes import Role
from metering.api import auth
from metering.api.auth import Authenticator, UnauthorizedError

NOW = datetime(2026, 11, 23, 16, tzinfo=UTC)


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
