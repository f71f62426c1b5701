"""Advisory locks of PostgreSQL: each number that the service uses, named in this one place.

All are held until the transaction ends. A number only has to be the same in every process, and used for one thing.
"""

from collections.abc import Iterable
from enum import IntEnum
from zlib import crc32

from sqlalchemy import Connection, text

from metering.db.together import Query, nothing


class Lock(IntEnum):
    """What is locked."""

    MIGRATION = 5_206_841_177
    ROLL_UP = 5_206_841_178
    BOOKING = 5_206_841_179
    NEW_ALERT = 5_206_841_180
    NEW_ENDPOINT = 5_206_841_181
    ALERT_PRUNING = 5_206_841_182
    BUDGETS = 5_206_841_183
    PUSH_CLAIM = 5_206_841_184
    GRANT_INVOICE_CLAIM = 5_206_841_185
    HOLD_PRUNING = 5_206_841_186


_TAKE = text("SELECT pg_advisory_xact_lock(:lock)")
_SHARE = text("SELECT pg_advisory_xact_lock_shared(:lock)")
_TRY = text("SELECT pg_try_advisory_xact_lock(:lock)")
# A lock for each text: its hash is the number, seeded so that other hashes of the text do not collide with it.
_TRY_NAMED = text("SELECT pg_try_advisory_xact_lock(hashtextextended(:name, 6))")


def take(connection: Connection, lock: Lock) -> None:
    """Wait until no other transaction holds the lock or a share of it, and hold it."""
    connection.execute(_TAKE, {"lock": int(lock)})


def share(connection: Connection, lock: Lock) -> None:
    """Wait until no other transaction holds the lock, and hold a share of it."""
    sharing(lock).ask(connection)


def sharing(lock: Lock) -> Query[None]:
    """The same as a query, which others may follow."""
    return Query(_SHARE, {"lock": int(lock)}, nothing)


# A key of two numbers shares no lock with those of one. Two customers may share a number, and then wait for each
# other.
_MONEY, _NUMBERS = 520_684_118, 4_096
_TAKE_EACH = text(
    "SELECT pg_advisory_xact_lock(:space, number) FROM unnest(CAST(:numbers AS integer[])) AS t (number)"
)


def take_money(connection: Connection, customer_ids: Iterable[str]) -> None:
    """Hold the locks of these customers' budgets, holds and grants; `""` stands for the whole deployment.

    Always in the same order, so that two transactions cannot wait for each other. Call it once in a transaction.
    """
    numbers = sorted(
        {crc32(customer_id.encode("utf-8", "surrogatepass")) % _NUMBERS for customer_id in customer_ids}
    )
    connection.execute(_TAKE_EACH, {"space": _MONEY, "numbers": numbers})


# The lanes of due streams, on Citus.
_LANES = 520_684_119
_TAKE_LANE = text("SELECT pg_try_advisory_xact_lock(:space, :lane)")


def take_free_lanes(connection: Connection, lanes: Iterable[int], *, at_most: int) -> list[int]:
    """Hold the locks of the first of these lanes that no other transaction holds, and return these lanes."""
    taken: list[int] = []
    for lane in lanes:
        if len(taken) == at_most:
            break
        if connection.execute(_TAKE_LANE, {"space": _LANES, "lane": lane}).scalar_one():
            taken.append(lane)
    return taken


def try_to_take(connection: Connection, lock: Lock) -> bool:
    """Hold the lock if no other transaction does; False otherwise, without waiting."""
    return bool(connection.execute(_TRY, {"lock": int(lock)}).scalar_one())


def try_to_take_named(connection: Connection, name: str) -> bool:
    """The same for a lock that a text names, such as an idempotency key."""
    return bool(connection.execute(_TRY_NAMED, {"name": name}).scalar_one())
