"""Keys: a deployment always has an admin, and its configured key is taken at its word or refused."""

from datetime import UTC, datetime

import pytest
from sqlalchemy import Engine

from metering.access.manage_access import KeyIdTakenError, ensure_admin_key
from metering.access.store.keys import InvalidKeyError, Role, authenticate, parse_secret, revoke_key
from metering.db.engine import transaction

NOW = datetime(2026, 11, 23, tzinfo=UTC)


def test_the_first_admin_key_is_generated_once(engine: Engine) -> None:
    first = ensure_admin_key(engine=engine, configured=None, now=NOW)
    assert first is not None
    assert ensure_admin_key(engine=engine, configured=None, now=NOW) is None
    with transaction(engine) as connection:
        key = authenticate(connection, parse_secret(str(first)))
    assert key is not None
    assert key.role is Role.ADMIN


def test_a_configured_key_is_stored_once_and_never_told_again(engine: Engine) -> None:
    for _ in range(2):
        assert ensure_admin_key(engine=engine, configured="mk_ops_s3cret_with_underscores", now=NOW) is None


def test_a_configured_key_that_cannot_work_is_refused_at_start(engine: Engine) -> None:
    with pytest.raises(InvalidKeyError, match="mk_<id>_<secret>"):
        ensure_admin_key(engine=engine, configured="letmein", now=NOW)
    ensure_admin_key(engine=engine, configured="mk_ops_one", now=NOW)
    with pytest.raises(KeyIdTakenError, match="choose another id"):
        ensure_admin_key(engine=engine, configured="mk_ops_two", now=NOW)
    with transaction(engine) as connection:
        revoke_key(connection, key_id="ops", now=NOW)
    with pytest.raises(KeyIdTakenError):
        ensure_admin_key(engine=engine, configured="mk_ops_one", now=NOW)
