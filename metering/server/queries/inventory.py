"""What the database holds, and how large it is."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, text


@dataclass(frozen=True, slots=True, kw_only=True)
class Inventory:
    """Sizes in bytes; row counts are the planner's estimates, which cost nothing to read."""

    server_version: str
    database_bytes: int
    journal_bytes: int
    journal_from: datetime | None
    journal_until: datetime | None
    streams: int
    charges: int


_INVENTORY = text(
    """
    SELECT current_setting('server_version') AS server_version,
           pg_database_size(current_database()) AS database_bytes,
           (SELECT coalesce(sum(pg_total_relation_size(inhrelid)), 0)::bigint FROM pg_inherits
            WHERE inhparent = 'journal'::regclass) AS journal_bytes,
           (SELECT min(to_timestamp(right(inhrelid::regclass::text, 7), 'YYYY_MM')) FROM pg_inherits
            WHERE inhparent = 'journal'::regclass) AS journal_from,
           (SELECT max(to_timestamp(right(inhrelid::regclass::text, 7), 'YYYY_MM')) + interval '1 month'
            FROM pg_inherits WHERE inhparent = 'journal'::regclass) AS journal_until,
           (SELECT greatest(reltuples, 0)::bigint FROM pg_class WHERE oid = 'streams'::regclass) AS streams,
           (SELECT greatest(reltuples, 0)::bigint FROM pg_class WHERE oid = 'charges'::regclass) AS charges
    """
)


def take_inventory(connection: Connection) -> Inventory:
    """What there is now."""
    return Inventory(**connection.execute(_INVENTORY).one()._mapping)
