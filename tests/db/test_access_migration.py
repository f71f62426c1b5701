"""The migration to the audit log: it writes down what is there, so that an old database agrees with its log."""

from collections.abc import Iterator
from datetime import UTC, datetime

import psycopg
import pytest
from alembic import command
from sqlalchemy import Engine

from metering.audit.queries.log_checks import LOG_CHECKS
from metering.db.engine import owner_engine, transaction
from metering.db.migrate import _alembic_config, migrate
from metering.server.embedded.data_dir import Services
from tests.database import database_url

NAME = "metering_before_the_log"
BEFORE = "0014_money"
EARLIER = """
INSERT INTO keys (key_id, secret_hash, role, customer_id, name, created_at, revoked_at) VALUES
    ('k1', sha256('mk_k1_a'), 'admin', NULL, 'first', '2026-01-01Z', NULL),
    ('k2', sha256('mk_k2_b'), 'read', 'acme', 'portal', '2026-01-02Z', NULL),
    ('k3', sha256('mk_k3_c'), 'ingest', NULL, 'gateway', '2026-01-03Z', '2026-02-01Z');
INSERT INTO customers (customer_id, name, stripe_customer_id, time_zone, created_at) VALUES
    ('acme', 'Acme', 'cus_1', 'Europe/Berlin', '2026-01-01Z'), ('globex', NULL, NULL, 'UTC', '2026-01-01Z');
INSERT INTO rate_cards (rate_card_id, provider, model, effective_from, names, provenance, created_at) VALUES
    ('rc_1', 'house', 'm', '2026-01-01Z', '{}', 'set by key k1', '2026-01-01Z'),
    ('rc_2', 'house', 'n', '2026-01-01Z', '{}', 'genai-prices 0.1', '2026-01-01Z');
INSERT INTO markups VALUES ('acme', '2026-01-01Z', 5, 'set by key k1', '2026-01-01Z');
INSERT INTO cancel_policies VALUES ('house', 1, 'zero', '2026-01-01Z', 'set by key k1', '2026-01-01Z');
INSERT INTO upstream_prices VALUES ('house', true, '2026-01-01Z', 'set by key k1', '2026-01-01Z');
INSERT INTO webhook_endpoints (endpoint_id, url, description, created_by, created_at, changed_at) VALUES
    ('whe_1', 'https://hooks.example.com', '', 'key k1', '2026-01-01Z', '2026-01-01Z');
"""


@pytest.fixture
def owner(services: Services) -> Iterator[Engine]:
    """The owner of a database of the release before."""
    with psycopg.connect(services.database_url, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {NAME}")
    engine = owner_engine(database_url(services, NAME))
    with transaction(engine) as connection:
        config = _alembic_config()
        config.attributes["connection"] = connection
        command.upgrade(config, BEFORE)
        connection.exec_driver_sql(EARLIER)
    yield engine
    engine.dispose()
    with psycopg.connect(services.database_url, autocommit=True) as connection:
        connection.execute(f"DROP DATABASE {NAME} WITH (FORCE)")


def test_what_was_there_before_the_log_is_in_it(owner: Engine) -> None:
    migrate(owner)
    ever = datetime(1970, 1, 2, tzinfo=UTC), datetime(9998, 1, 1, tzinfo=UTC)
    with transaction(owner) as connection:
        assert [found for check in LOG_CHECKS for found in check(connection, *ever)] == []
        rows = connection.exec_driver_sql(
            "SELECT kind, subject FROM audit_log WHERE action = 'known' ORDER BY audit_id"
        )
        known = [(row.kind, row.subject) for row in rows]
        connection.exec_driver_sql("UPDATE customers SET stripe_customer_id = 'cus_2'  WHERE customer_id = 'acme'")
        connection.exec_driver_sql("INSERT INTO markups VALUES ('acme', '2030-01-01Z', 6, 'set by key k1', now())")
        found = [found for check in LOG_CHECKS for found in check(connection, *ever)]
    assert known == [
        ("key", "k1"), ("key", "k2"), ("key", "k3"), ("customer", "acme"), ("rate", "rc_1"),
        ("webhook_endpoint", "whe_1"),
    ]  # fmt: skip
    assert [(each.table, each.key) for each in found] == [
        ("customers", "acme"), ("markups", "acme from 2030-01-01 00:00:00+00")
    ]  # fmt: skip
