"""The audit of the audit log: a removed, changed or forged row is found, and a change beside the log as well."""

from datetime import timedelta

import pytest
from psycopg import errors
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from metering.access.manage_access import NewKey, issue_key, limit_key, revoke_key, rotate_key
from metering.access.scopes import Role
from metering.alerts.manage_endpoints import create_endpoint, rotate_endpoint_secret
from metering.audit.run import audit
from metering.customers.store import CustomerDetails, StripeCustomerTakenError
from metering.db.engine import transaction
from metering.stripe.put_customer import put_customer
from tests.audit.planting import LATER, Planting
from tests.builders import NOW


@pytest.fixture
def managed(planting: Planting) -> Planting:
    """Books with keys of every kind, a linked customer and an endpoint: all agrees with the log."""
    engine = planting.books.service.engine
    hour = timedelta(hours=1)
    reader = NewKey(role=Role.READ, name="reader", customer_id="acme", expires_at=NOW + 9 * hour)
    gateway = NewKey(role=Role.INGEST, name="gateway", source="/gateways/eu-1")
    custom = NewKey(role=Role.CUSTOM, name="custom", scopes=["rates:read", "totals:read"])
    keys = [issue_key(engine=engine, new=new, by="test", now=NOW)[0] for new in (reader, gateway, custom)]
    rotate_key(engine=engine, key_id=keys[0].key_id, overlap=hour, by="test", now=NOW)
    revoke_key(engine=engine, key_id=keys[1].key_id, by="test", now=NOW)
    for changes in ({"events_per_second": 500, "requests_per_second": 7}, {"events_per_second": None}):
        limit_key(engine=engine, key_id=keys[2].key_id, changes=changes, by="test", now=NOW)
    details = CustomerDetails(name="Acme", time_zone="Europe/Berlin", stripe_customer_id="cus_1")
    put_customer(engine=engine, customer_id="acme", details=details, now=NOW, by="test")
    endpoint, _ = create_endpoint(
        engine=engine,
        url="https://hooks.example.com/m",
        description="",
        types=(),
        allow_private=False,
        created_by="test",
        now=NOW,
    )
    rotate_endpoint_secret(engine=engine, endpoint_id=endpoint.endpoint_id, overlap=hour, now=NOW, by="test")
    assert audit(engine=engine, now=LATER).differences == []
    return planting


def number_of_rows(planting: Planting) -> int:
    with planting.books.owner() as connection:
        row = connection.execute("SELECT count(*) FROM audit_log").fetchone()
    assert row is not None
    return int(row[0])


PLANTED = {
    "a removed row": ("DELETE FROM audit_log WHERE audit_id = 3", "audit_log", "4", "rows 3 to 3"),
    "removed first rows": ("DELETE FROM audit_log WHERE audit_id <= 2", "audit_log", "3", "rows 1 to 2"),
    "another author": ("UPDATE audit_log SET actor = 'somebody' WHERE audit_id = 3", "audit_log", "3", "changed"),
    "another door": ("UPDATE audit_log SET door = 'x' WHERE audit_id = 3", "audit_log", "3", "changed"),
    "another value": (
        "UPDATE audit_log SET after = '{}' WHERE audit_id = 3",
        "audit_log",
        "",
        "changed",
    ),
    "another time": ("UPDATE audit_log SET at = now() WHERE audit_id = 3", "audit_log", "3", "was"),
    "a key made admin": (
        "UPDATE keys SET role = 'admin', customer_id = NULL WHERE name = 'reader'", "keys", "", "stored role admin"
    ),
    "a new admin key": (
        "INSERT INTO keys (key_id, secret_hash, role, name, created_at)"
        " VALUES ('evil', sha256('mk_evil_x'), 'admin', 'x', now())",
        "keys", "evil", "does not know the key",
    ),
    "a revoked key that works again": (
        "UPDATE keys SET revoked_at = NULL WHERE name = 'gateway'", "keys", "", "revoked ;"
    ),
    "a key of another source": ("UPDATE keys SET source = NULL WHERE name = 'gateway'", "keys", "", "source ,"),
    "a key without an end": ("UPDATE keys SET expires_at = NULL WHERE name = 'reader'", "keys", "", "expires ,"),
    "more scopes": ("UPDATE keys SET scopes = '{keys:write}' WHERE name = 'custom'", "keys", "", "audit log says"),
    "another secret": (
        "UPDATE keys SET secret_hash = sha256('mk_x_y') WHERE name = 'custom'", "keys", "", "audit log says"
    ),
    "a higher limit": (
        "UPDATE keys SET events_per_second = 9000 WHERE name = 'custom'", "keys", "", "limits 9000, 7,"
    ),
    "a limit beside the log": (
        "UPDATE keys SET concurrent_requests = 1 WHERE name = 'reader'", "keys", "", "limits , , 1; the audit log"
    ),
    "a rate by somebody else": (
        "UPDATE rate_cards SET provenance = 'set by me' WHERE rate_card_id = (SELECT max(rate_card_id) FROM"
        " rate_cards WHERE provenance LIKE 'set by %')",
        "rate_cards", "", "does not say so",
    ),
    "another cancel policy": (
        "UPDATE cancel_policies SET policy = 'drain'", "cancel_policies", "", "drain, 1 set by test"
    ),
    "a cancel policy that was set later than it seems": (
        "UPDATE cancel_policies SET created_at = created_at - interval '1 day'", "cancel_policies", "", "say so"
    ),
    "another markup": ("UPDATE markups SET percent = 9", "markups", "", "9 set by test"),
    "a markup by somebody else": (
        "UPDATE markups SET provenance = 'set by me'", "markups", "", "10 set by me"
    ),
    "a markup beside the log": (
        "INSERT INTO markups VALUES ('acme', '2030-01-01Z', -50, 'set by test', now())",
        "markups", "acme from 2030-01-01 00:00:00+00", "-50 set by test",
    ),
    "a removed markup": ("DELETE FROM markups", "markups", "", "it is not stored"),
    "an upstream's prices accepted no more": (
        "UPDATE upstream_prices SET accepted = false", "upstream_prices", "", "f set by test"
    ),
    "another upstream's prices accepted": (
        "INSERT INTO upstream_prices VALUES ('evil', true, '2030-01-01Z', 'set by test', now())",
        "upstream_prices", "evil from 2030-01-01 00:00:00+00", "t set by test",
    ),
    "another Stripe customer": (
        "UPDATE customers SET stripe_customer_id = 'cus_2' WHERE name = 'Acme'", "customers", "acme", "cus_2"
    ),
    "a customer linked beside the log": (
        "INSERT INTO customers (customer_id, created_at, stripe_customer_id) VALUES ('new', now(), 'cus_3')",
        "customers", "new", "cus_3",
    ),
    "another receiver": (
        "UPDATE webhook_endpoints SET url = 'https://evil.example.com'", "webhook_endpoints", "", "evil.example"
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", PLANTED)
def test_what_is_changed_beside_the_log_is_named(managed: Planting, case: str) -> None:
    statement, table, key, says = PLANTED[case]
    with managed.books.owner() as connection:
        # Whoever owns the database can switch its triggers off.
        connection.execute("SET LOCAL session_replication_role = replica")
        assert connection.execute(statement.encode()).rowcount > 0
    found = [each for each in managed.audit() if each[0] == table]
    assert len(found) == 1
    assert key in ("", found[0][1])
    assert says in found[0][2]


def test_removed_last_rows_are_found(managed: Planting) -> None:
    last = number_of_rows(managed)
    managed.plant(f"DELETE FROM audit_log WHERE audit_id > {last - 2}")
    found = [each for each in managed.audit() if each[0] == "audit_log"]
    assert found == [("audit_log", str(last), f"the last row is missing: the log ends with row {last - 2}")]


def test_a_changed_row_with_a_fresh_hash_does_not_fit_its_successor(managed: Planting) -> None:
    managed.plant("UPDATE audit_log SET row_hash = sha256('x') WHERE audit_id = 3")
    found = [each[1] for each in managed.audit() if each[0] == "audit_log"]
    assert found == ["3", "4"]


def test_a_booking_beside_the_log_is_named(managed: Planting) -> None:
    managed.plant(
        "INSERT INTO manual_adjustments SELECT (jsonb_populate_record(m, jsonb_build_object("
        "'adjustment_id', 'adj_evil', 'usd_cents', -1))).* FROM manual_adjustments m LIMIT 1"
    )
    assert ("manual_adjustments", "adj_evil") in [each[:2] for each in managed.audit()]


def test_a_rate_beside_the_log_is_named(managed: Planting) -> None:
    managed.plant(
        "INSERT INTO rate_cards SELECT (jsonb_populate_record(c, jsonb_build_object("
        "'rate_card_id', 'rc_evil', 'effective_from', '2020-01-01Z', 'provenance', 'set by key k'))).*"
        " FROM rate_cards c LIMIT 1"
    )
    assert ("rate_cards", "rc_evil") in [each[:2] for each in managed.audit()]


FORBIDDEN = [
    "DELETE FROM audit_log",
    "UPDATE audit_log SET actor = 'x'",
    "TRUNCATE audit_log",
    "UPDATE audit_log_head SET audit_id = 0",
    "UPDATE keys SET role = 'admin'",
    "UPDATE keys SET customer_id = NULL",
    "UPDATE keys SET scopes = NULL",
    "UPDATE keys SET expires_at = NULL",
    "DELETE FROM keys",
]


@pytest.mark.parametrize("statement", FORBIDDEN)
def test_the_service_itself_cannot_rewrite_the_log_or_what_a_key_may_do(managed: Planting, statement: str) -> None:
    with pytest.raises(DBAPIError) as refused, transaction(managed.books.service.engine) as connection:
        connection.execute(text(statement))
    assert isinstance(refused.value.orig, errors.InsufficientPrivilege)


UNLOGGED = {
    "a revoked key stays revoked": ("UPDATE keys SET revoked_at = NULL WHERE name = 'gateway'", "it stays so"),
    "a revoked key gets no secret": (
        "UPDATE keys SET secret_hash = sha256('x') WHERE name = 'gateway'", "it stays so"
    ),
    "a secret is not replaced in silence": (
        "UPDATE keys SET secret_hash = sha256('x') WHERE name = 'custom'", "the audit log does not say this"
    ),
    "no key is made in silence": (
        "INSERT INTO keys (key_id, secret_hash, role, name, created_at)"
        " VALUES ('evil', sha256('x'), 'admin', 'x', now())",
        "the audit log does not say this",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", UNLOGGED)
def test_the_database_refuses_a_change_of_a_key_that_the_log_does_not_have(managed: Planting, case: str) -> None:
    statement, says = UNLOGGED[case]
    with pytest.raises(DBAPIError, match=says), transaction(managed.books.service.engine) as connection:
        connection.execute(text(statement))


def test_an_action_that_fails_leaves_no_row(managed: Planting) -> None:
    before, engine = number_of_rows(managed), managed.books.service.engine
    taken = CustomerDetails(stripe_customer_id="cus_1")
    with pytest.raises(StripeCustomerTakenError):
        put_customer(engine=engine, customer_id="globex", details=taken, now=NOW, by="test")
    assert number_of_rows(managed) == before
    assert managed.audit() == []
