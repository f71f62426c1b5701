"""Scopes: the roles of before are groups of them, and a bound key keeps only what is about its customer."""

import pytest

from metering.access.scopes import InvalidScopeError, Role, Scope, parse_scopes, scopes_of


def scopes(role: Role, *, listed: list[str] | None = None, customer_id: str | None = None) -> set[str]:
    return {str(each) for each in scopes_of(role=role, listed=listed, customer_id=customer_id)}


def test_an_ingest_key_posts_events_asks_for_holds_and_reads_cancel_policies_and_nothing_else() -> None:
    assert scopes(Role.INGEST) == {"events:write", "holds:write", "cancel-policies:read", "generations:read"}


def test_a_read_key_changes_nothing_and_sees_neither_keys_nor_secrets_nor_the_audit_log() -> None:
    found = scopes(Role.READ)
    assert not [each for each in found if each.endswith(":write")]
    assert not found & {"keys:read", "webhooks:read", "audit-log:read"}
    assert {"streams:read", "totals:read", "invoices:read", "exports:read", "system:read"} <= found


def test_an_admin_key_has_every_scope() -> None:
    assert scopes(Role.ADMIN) == {str(each) for each in Scope}


def test_a_custom_key_has_what_it_lists_and_an_unknown_scope_gives_nothing() -> None:
    assert scopes(Role.CUSTOM, listed=["totals:read", "rates:write"]) == {"totals:read", "rates:write"}
    assert scopes(Role.CUSTOM, listed=["totals:read", "of-a-later-version:write"]) == {"totals:read"}


@pytest.mark.parametrize("role", [Role.READ, Role.INGEST, Role.CUSTOM])
def test_a_key_of_one_customer_changes_nothing_of_the_deployment(role: Role) -> None:
    everything = [str(each) for each in Scope]
    found = scopes(role, listed=everything, customer_id="acme")
    assert {each for each in found if each.endswith(":write")} <= {"events:write", "holds:write"}
    assert not found & {"system:read", "keys:read", "webhooks:read", "audit-log:read"}


def test_a_new_key_names_scopes_that_exist_and_only_with_role_custom() -> None:
    assert parse_scopes(["totals:read", "events:write", "totals:read"], role=Role.CUSTOM) == [
        Scope.EVENTS_WRITE,
        Scope.TOTALS_READ,
    ]
    assert parse_scopes([], role=Role.READ) is None
    with pytest.raises(InvalidScopeError, match="got 'total:read'"):
        parse_scopes(["total:read"], role=Role.CUSTOM)
    with pytest.raises(InvalidScopeError, match="at least one"):
        parse_scopes([], role=Role.CUSTOM)
    with pytest.raises(InvalidScopeError, match="use role custom"):
        parse_scopes(["totals:read"], role=Role.READ)
