"""Keys: their written form, and when they are accepted."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from metering.access.keys import InvalidKeyError, Key, KeyState, parse_secret
from metering.access.scopes import Role, Scope

NOW = datetime(2026, 11, 23, tzinfo=UTC)
KEY = Key(
    key_id="k1",
    role=Role.READ,
    listed=None,
    customer_id=None,
    source=None,
    name="k",
    created_at=NOW,
    expires_at=None,
    revoked_at=None,
    last_used_at=None,
    old_secret_ends_at=None,
)


def test_a_secret_may_contain_underscores_and_an_id_may_not() -> None:
    secret = parse_secret("mk_ops_s3cret_with_underscores")
    assert (secret.key_id, secret.secret) == ("ops", "s3cret_with_underscores")
    assert str(secret) == "mk_ops_s3cret_with_underscores"


@pytest.mark.parametrize(
    "written", ["", "letmein", "mk_", "mk_id", "mk_id_", "mk__secret", "sk_id_x", "mk_id_a\0b"]
)
def test_other_texts_are_no_keys(written: str) -> None:
    with pytest.raises(InvalidKeyError, match="mk_<id>_<secret>"):
        parse_secret(written)


def test_a_key_is_active_until_it_expires_or_is_revoked() -> None:
    expiring = replace(KEY, expires_at=NOW + timedelta(hours=1))
    assert KEY.state(NOW) is KeyState.ACTIVE
    assert expiring.state(NOW) is KeyState.ACTIVE
    assert expiring.state(NOW + timedelta(hours=1)) is KeyState.EXPIRED
    assert replace(expiring, revoked_at=NOW).state(NOW) is KeyState.REVOKED


def test_a_bound_key_has_the_scopes_of_its_role_that_are_about_one_customer() -> None:
    assert Scope.SYSTEM_READ in KEY.scopes
    assert Scope.SYSTEM_READ not in replace(KEY, customer_id="acme").scopes
