"""Citus: spread the tables over the nodes, and wait for what they commit. On plain PostgreSQL nothing is done."""

import json
import re
from collections.abc import Sequence
from datetime import timedelta
from time import monotonic, sleep

from sqlalchemy import Connection, Engine, text

from metering.db.distribution import COLUMNS, PLACEMENTS, Placement
from metering.db.engine import READER_ROLE, DatabaseUnavailableError, transaction

# Due streams are divided into this many lanes, each of which one worker claims at a time.
LANES = 64
LANE = f"(hashtextextended(customer_id || chr(31) || stream_id, 0) & {LANES - 1})"

_INSTALLED = text("SELECT EXISTS (SELECT FROM pg_extension WHERE extname = 'citus')")


def on_citus(connection: Connection) -> bool:
    """Whether the database is one of Citus. Asked once for each connection to it."""
    found = connection.info.get("citus")
    if found is None:
        found = connection.info["citus"] = bool(connection.execute(_INSTALLED).scalar_one())
    return bool(found)


# The method of the partitioning is `n` for a reference table, and for one on the coordinator that refers to one.
_PLACED = text(
    """
    SELECT c.relname AS table, CASE WHEN p.partmethod = 'h'
           THEN column_to_column_name(p.logicalrelid, p.partkey) ELSE '' END AS column
    FROM pg_dist_partition p JOIN pg_class c ON c.oid = p.logicalrelid
    WHERE c.relnamespace = 'public'::regnamespace AND (p.partmethod = 'h' OR p.repmodel = 't')
    """
)


def placed_tables(connection: Connection) -> dict[str, Placement]:
    """Where Citus keeps each table that is not only on the coordinator."""
    placements = {column: placement for placement, column in COLUMNS.items()}
    return {row.table: placements.get(row.column, Placement.REFERENCE) for row in connection.execute(_PLACED)}


def misplaced_tables(connection: Connection) -> list[tuple[str, Placement]]:
    """The tables that are still to be distributed, with where they belong."""
    placed = placed_tables(connection)
    return [
        (table, placement)
        for table, placement in PLACEMENTS
        if placement is not Placement.COORDINATOR and placed.get(table) is not placement
    ]


_PREPARED = text(
    """
    SELECT success, result FROM run_command_on_workers(
        $$SELECT coalesce(json_agg(gid), '[]') FROM pg_prepared_xacts WHERE database = current_database()$$)
    """
)
# Citus looks for transactions that a node has not finished once a minute.
_RECOVERY = timedelta(seconds=90)
_POLL_SECONDS = 0.1


def wait_for_prepared(engine: Engine) -> None:
    """Wait until every node has finished the transactions that it has prepared, and so shows their rows.

    A node that was lost between the two steps of a commit shows them only once it is back. Nothing on plain
    PostgreSQL.

    Raises:
        DatabaseUnavailableError: a node does not answer, or has not finished in time.
    """
    deadline = monotonic() + _RECOVERY.total_seconds()
    waited_for: set[str] | None = None
    while True:
        with transaction(engine) as connection:
            if not on_citus(connection):
                return
            rows = connection.execute(_PREPARED).all()
        if not all(row.success for row in rows):
            raise DatabaseUnavailableError("a node of the Citus cluster does not answer")
        prepared = {gid for row in rows for gid in json.loads(row.result)}
        waited_for = prepared if waited_for is None else waited_for & prepared
        if not waited_for:
            return
        if monotonic() > deadline:
            raise DatabaseUnavailableError(f"nodes of the Citus cluster did not finish {len(waited_for)} commits")
        sleep(_POLL_SECONDS)


_NODES = text("SELECT count(*) FROM pg_dist_node WHERE isactive AND shouldhaveshards AND noderole = 'primary'")


def nodes_with_shards(connection: Connection) -> int:
    """How many nodes the distributed tables are spread over."""
    nodes: int = connection.execute(_NODES).scalar_one()
    return nodes


def distribute(connection: Connection) -> list[str]:
    """Distribute the tables that are not yet, and return their names. Their rows move with them.

    Either all of it is done when the transaction commits, or nothing.
    """
    if not on_citus(connection):
        return []
    _set_for_database(connection)
    misplaced = misplaced_tables(connection)
    if misplaced:
        connection.execute(_SEQUENTIALLY)
        connection.execute(_LANES)
        tables = [table for table, _ in misplaced]
        foreign_keys = connection.execute(_FOREIGN_KEYS, {"tables": tables}).all()
        for each in foreign_keys:
            connection.execute(text(f"ALTER TABLE {each.table} DROP CONSTRAINT {each.name}"))
        for table in _with_triggers(connection, tables):
            connection.execute(text(f"DROP TRIGGER closed_period ON {table}"))
        for table, placement in misplaced:
            _place(connection, table, placement)
        for each in foreign_keys:
            connection.execute(text(f"ALTER TABLE {each.table} ADD CONSTRAINT {each.name} {each.definition}"))
    _adapt_unbilled(connection)
    _adapt_charges(connection)
    for table in connection.execute(_UNREADABLE, {"role": READER_ROLE}).scalars().all():
        connection.execute(text(f"GRANT SELECT ON {table} TO {READER_ROLE}"))
    return [table for table, _ in misplaced]


# In the view of unbilled amounts, the part that Citus refuses: it looks months up for each customer, which is fast
# where totals are large. The same, summed from the entries of open months on every node.
_BY_LOOKUP = re.compile(
    r"\( SELECT c\.customer_id,\s+booked\.period.*?WHERE \(booked\.usd_cents <> \(0\)::numeric\)",
    re.DOTALL,
)
_BY_SUM = """(
    SELECT e.customer_id, e.period, e.kind, NULL::bigint AS stream_count, sum(e.usd_cents) AS usd_cents
    FROM public.entries e LEFT JOIN (
        SELECT customer_id, max(period) AS period FROM public.billing_periods GROUP BY 1
    ) AS closed ON closed.customer_id = e.customer_id
    WHERE e.period > coalesce(closed.period, '') GROUP BY 1, 2, 3 HAVING sum(e.usd_cents) <> 0"""
_UNBILLED = text("SELECT pg_get_viewdef('reporting.unbilled'::regclass)")


def _adapt_unbilled(connection: Connection) -> None:
    """Replace what Citus refuses in the view of unbilled amounts, also after a migration has replaced the view."""
    defined, replaced = _BY_LOOKUP.subn(_BY_SUM, connection.execute(_UNBILLED).scalar_one())
    if replaced:
        connection.execute(text(f"CREATE OR REPLACE VIEW reporting.unbilled AS {defined}"))


# Citus looks nothing up beside a union, so each half of it has its own look-ups: charges that were never adjusted,
# and the newest adjustments.
_CHARGED = """(
    SELECT c.*, 0 AS revision, false AS taken_back, c.booked_at AS charged_at, c.period AS charged_period,
           c.usd_cents AS charged_usd_cents, c.usd_cents AS bill_usd_cents
    FROM public.charges c
    LEFT JOIN public.adjustments n ON n.customer_id = c.customer_id AND n.stream_id = c.stream_id
    WHERE n.stream_id IS NULL)"""
_ADJUSTED = """(
    SELECT a.* FROM public.adjustments a LEFT JOIN public.adjustments n
        ON n.customer_id = a.customer_id AND n.stream_id = a.stream_id AND n.revision > a.revision
    WHERE n.stream_id IS NULL)"""
_CHARGES = text("SELECT pg_get_viewdef('reporting.charges'::regclass)")


def _adapt_charges(connection: Connection) -> None:
    """Replace the union in the view of charges."""
    defined = connection.execute(_CHARGES).scalar_one().rstrip("; \n")
    if "newest_bills b" in defined:
        halves = (defined.replace("newest_bills b", f"{half} b") for half in (_CHARGED, _ADJUSTED))
        connection.execute(text(f"CREATE OR REPLACE VIEW reporting.charges AS {' UNION ALL '.join(halves)}"))


# A view is read with the privileges of its owner; the nodes ask for those of the reader.
_UNREADABLE = text(
    """
    WITH RECURSIVE used (oid) AS (
        SELECT oid FROM pg_class WHERE relnamespace = 'reporting'::regnamespace AND relkind = 'v'
        UNION
        SELECT d.refobjid FROM used JOIN pg_rewrite r ON r.ev_class = used.oid
        JOIN pg_depend d ON d.objid = r.oid AND d.classid = 'pg_rewrite'::regclass
                        AND d.refclassid = 'pg_class'::regclass
    )
    SELECT used.oid::regclass::text FROM used JOIN pg_dist_partition p ON p.logicalrelid = used.oid
    WHERE NOT has_table_privilege(CAST(:role AS name), used.oid, 'SELECT') ORDER BY 1
    """
)
# Settings of the database, for every session from then on. The statements of a transaction use one connection to
# each node, and so see one snapshot of it. Statements that change several shards do not wait for each other: by
# default one UPDATE holds up all others until its transaction ends. What deadlocks is tried again.
_SETTINGS = {"citus.multi_shard_modify_mode": "sequential", "citus.enable_deadlock_prevention": "off"}
_IS_SET = text("SELECT current_setting(:name) = :value")
_SET = """
    DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET {name} = {value}', current_database()); END $$
"""


def _set_for_database(connection: Connection) -> None:
    for name, value in _SETTINGS.items():
        if not connection.execute(_IS_SET, {"name": name, "value": value}).scalar_one():
            connection.execute(text(_SET.format(name=name, value=value)))


_SEQUENTIALLY = text("SET LOCAL citus.multi_shard_modify_mode = 'sequential'")
# Due streams are claimed by lane there.
_LANES = text(f"CREATE INDEX IF NOT EXISTS streams_by_lane ON streams ({LANE}, due_at) WHERE due_at IS NOT NULL")
_FOREIGN_KEYS = text(
    """
    SELECT conrelid::regclass::text AS table, quote_ident(conname) AS name, pg_get_constraintdef(oid) AS definition
    FROM pg_constraint WHERE contype = 'f' AND conparentid = 0
      AND (conrelid = ANY (CAST(:tables AS regclass[])) OR confrelid = ANY (CAST(:tables AS regclass[])))
    """
)
_TRIGGERS = text(
    """
    SELECT tgrelid::regclass::text FROM pg_trigger
    WHERE tgname = 'closed_period' AND tgrelid = ANY (CAST(:tables AS regclass[])) ORDER BY 1
    """
)


def _with_triggers(connection: Connection, tables: Sequence[str]) -> Sequence[str]:
    """Those whose trigger refuses entries in closed periods: Citus has no triggers on distributed tables."""
    return connection.execute(_TRIGGERS, {"tables": list(tables)}).scalars().all()


_REFERENCE_TABLE = text("SELECT create_reference_table(CAST(:table AS regclass))")
_DISTRIBUTED_TABLE = text(
    "SELECT create_distributed_table(CAST(:table AS regclass), :column, colocate_with => :beside)"
)


def _place(connection: Connection, table: str, placement: Placement) -> None:
    if placement is Placement.REFERENCE:
        connection.execute(_REFERENCE_TABLE, {"table": table})
        return
    first = next(name for name, each in PLACEMENTS if each is placement)
    beside = "none" if table == first else first
    parameters = {"table": table, "column": COLUMNS[placement], "beside": beside}
    connection.execute(_DISTRIBUTED_TABLE, parameters)
