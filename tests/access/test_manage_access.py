"""Keys: a deployment always has an admin, and its configured key is taken at its word or refused."""

from datetime import UTC, datetime

import pytest
from sqlalchemy import Engine

from metering.access.keys import InvalidKeyError, parse_secret
from metering.access.manage_access import KeyIdTakenError, create_key, ensure_admin_key, revoke_key
from metering.access.scopes import Role
from metering.access.store.keys import authenticate
from metering.api import auth
from metering.db.engine import transaction

NOW = datetime(2026, 11, 23, tzinfo=UTC)


def test_the_first_admin_key_is_generated_once(engine: Engine) -> None:
    first = ensure_admin_key(engine=engine, configured=None, now=NOW)
    assert first is not None
    assert ensure_admin_key(engine=engine, configured=None, now=NOW) is None
    with transaction(engine) as connection:
        found = authenticate(connection, parse_secret(str(first)), now=NOW)
    assert found is not None
    assert found.key.role is Role.ADMIN


def test_a_configured_key_is_stored_once_and_never_shown_again(engine: Engine) -> None:
    for _ in range(2):
        assert ensure_admin_key(engine=engine, configured="mk_ops_s3cret_with_underscores", now=NOW) is None


def test_a_configured_key_that_cannot_work_is_refused_at_start(engine: Engine) -> None:
    with pytest.raises(InvalidKeyError, match="mk_<id>_<secret>"):
        ensure_admin_key(engine=engine, configured="letmein", now=NOW)
    ensure_admin_key(engine=engine, configured="mk_ops_one", now=NOW)
    with pytest.raises(KeyIdTakenError, match="choose another id"):
        ensure_admin_key(engine=engine, configured="mk_ops_two", now=NOW)
    revoke_key(engine=engine, key_id="ops", by="test", now=NOW)
    with pytest.raises(KeyIdTakenError):
        ensure_admin_key(engine=engine, configured="mk_ops_one", now=NOW)


def test_a_revoked_key_is_refused_five_seconds_later_by_a_process_that_remembers_it(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [1_000.0]
    monkeypatch.setattr(auth, "monotonic", lambda: clock[0])
    key = create_key(engine=engine, role=Role.INGEST, name="k", customer_id=None, now=NOW)
    authenticator = auth.Authenticator(engine)
    assert authenticator.key(f"Bearer {key}").key_id == key.key_id
    revoke_key(engine=engine, key_id=key.key_id, by="test", now=NOW)
    clock[0] += 5
    with pytest.raises(auth.UnauthorizedError, match="revoked"):
        authenticator.key(f"Bearer {key}")
