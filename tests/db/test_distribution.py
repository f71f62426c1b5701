"""The list of where tables are on Citus names each table once, and the keys of the schema are ones Citus takes."""

from pathlib import Path

import psycopg
import pytest

from metering.db.citus import distribute, on_citus
from metering.db.distribution import COLUMNS, PLACEMENTS, Placement
from metering.db.engine import owner_engine, transaction
from metering.server.backup.make_backup import make_backup
from metering.server.backup.manifest import BackupFailedError
from tests.database import Database, is_cluster

WHERE = dict(PLACEMENTS)
SPREAD = [table for table, placement in PLACEMENTS if placement in COLUMNS]


def rows(database: Database, query: str) -> list[tuple[str, ...]]:
    with psycopg.connect(database.url) as connection:
        return connection.execute(query.encode()).fetchall()


def test_every_table_is_in_the_list_once(database: Database) -> None:
    tables = rows(
        database,
        "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p')"
        " AND NOT relispartition",
    )
    assert sorted(table for table, _ in PLACEMENTS) == sorted(row[0] for row in tables)


@pytest.mark.parametrize("table", SPREAD)
def test_every_unique_key_of_a_distributed_table_has_its_column(database: Database, table: str) -> None:
    keys = rows(
        database,
        "SELECT array_agg(a.attname), i.indexrelid::regclass::text FROM pg_index i JOIN pg_attribute a"
        " ON a.attrelid = i.indexrelid"
        f" WHERE i.indrelid = '{table}'::regclass AND i.indisunique GROUP BY 2",
    )
    assert keys or table == "totals_pending"
    for columns, _ in keys:
        assert COLUMNS[WHERE[table]] in columns


def test_foreign_keys_are_ones_that_citus_takes(database: Database) -> None:
    keys = rows(
        database,
        "SELECT c.conrelid::regclass::text, c.confrelid::regclass::text, array_agg(a.attname) FROM pg_constraint c"
        " JOIN pg_attribute a ON a.attrelid = c.conrelid AND a.attnum = ANY (c.conkey)"
        " WHERE c.contype = 'f' AND c.conparentid = 0 GROUP BY c.oid, 1, 2",
    )
    assert len(keys) > 20
    for table, other, columns in keys:
        match WHERE[table], WHERE[other]:
            case (Placement.BY_CUSTOMER, Placement.BY_CUSTOMER):
                assert "customer_id" in columns
            case (_, Placement.REFERENCE) | (Placement.COORDINATOR, Placement.COORDINATOR):
                pass
            case _:
                pytest.fail(f"{table} refers to {other}")


def test_numbers_of_distributed_tables_are_bigint_identities(database: Database) -> None:
    numbered = rows(
        database,
        "SELECT c.relname, a.attidentity::text, format_type(a.atttypid, a.atttypmod) FROM pg_attribute a"
        " JOIN pg_class c ON c.oid = a.attrelid LEFT JOIN pg_attrdef d ON d.adrelid = c.oid AND d.adnum = a.attnum"
        " WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p') AND NOT c.relispartition"
        " AND (a.attidentity <> '' OR pg_get_expr(d.adbin, d.adrelid) LIKE '%nextval%')",
    )
    assert numbered
    for table, identity, type_ in numbered:
        if table in SPREAD:
            assert (identity, type_) == ("a", "bigint"), table


def test_triggers_are_on_the_coordinator_or_refuse_closed_periods(database: Database) -> None:
    triggers = rows(database, "SELECT tgname, tgrelid::regclass::text FROM pg_trigger WHERE NOT tgisinternal")
    assert triggers
    for trigger, table in triggers:
        assert trigger == "closed_period" or WHERE[table] is Placement.COORDINATOR, table


def test_on_plain_postgresql_nothing_is_distributed(database: Database) -> None:
    engine = owner_engine(database.url)
    with transaction(engine) as connection:
        assert on_citus(connection) or distribute(connection) == []
    engine.dispose()


@pytest.mark.skipif(not is_cluster(), reason="only Citus has several nodes")
def test_a_cluster_is_not_backed_up_as_one_postgresql(database: Database, tmp_path: Path) -> None:
    with pytest.raises(BackupFailedError, match="back up each node"):
        make_backup(url=database.url, target=tmp_path / "backup", jobs=1, progress=lambda _: None)
    assert list(tmp_path.iterdir()) == []
