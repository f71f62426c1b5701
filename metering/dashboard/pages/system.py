"""The system: how fresh everything is, what waits, and how large it has grown."""

from collections.abc import Sequence
from datetime import timedelta

from redis import Redis
from redis.exceptions import RedisError

from metering.dashboard.asking import Asked, Page, link
from metering.dashboard.errors import NoSuchThingError
from metering.dashboard.tables import Cell, Column, Kind, Row, Table
from metering.dashboard.values import age, count, counted, moment, size
from metering.server.bootstrap import redis_url
from metering.server.queries import (
    Inventory,
    WorkHealth,
    take_inventory,
    totals_freshness,
    work_health,
    workers_seen,
)
from metering.streams.ingest.nudge import MAX_WAITING, QUEUE
from metering.streams.settlement import State
from metering.stripe.push import PushState
from metering.stripe.queries.pushes import standing_pushes
from metering.stripe.queries.reconciliations import drift_left, reconciled_at

# Finalizing takes well below a second; after so long no worker works.
_LATE = timedelta(minutes=1)
_ROLL_UP_LATE = timedelta(minutes=5)


def system(asked: Asked) -> Page:
    """The page of the system. A viewer of one customer has no part in it."""
    if asked.viewer.customer_id is not None:
        raise NoSuchThingError("there is no such page")
    health = work_health(asked.connection, now=asked.now)
    table = Table(
        name="system",
        title="How it stands",
        columns=[
            Column("what", "What"),
            Column("value", "Now"),
            Column("state", "State", Kind.STATE),
            Column("meaning", "What it means", Kind.PROSE),
        ],
        rows=[
            *_work(asked, health),
            *_workers(asked),
            *_months(asked),
            *_sizes(take_inventory(asked.connection), asked),
        ],
        empty="",
    )
    return Page(
        template="system.html.j2", title="System", section="system", context={"table": table}, tables=[table]
    )


def _line(what: str | Cell, value: str, meaning: str, *, ok: bool = True) -> Row:
    return {"what": what, "value": value, "state": "ok" if ok else "look", "meaning": meaning}


def _work(asked: Asked, health: WorkHealth) -> Sequence[Row]:
    waiting = sum(
        health.states.get(state.value, 0) for state in (State.ORPHANED, State.UNPRICED, State.CONFLICTING)
    )
    queued = _queue_length(asked)
    return [
        _line("Finalizing", f"{age(health.oldest_due_age)} behind", "of the stream that has been due for longest",
              ok=health.oldest_due_age < _LATE),
        _line("Due streams", count(health.due), "streams that the finalizer has to look at now"),
        _line(Cell("Open streams", link("streams", state="open")), count(health.states.get(State.OPEN.value, 0)),
              "started, not ended"),
        _line(Cell("Backlog", link("backlog")), count(waiting), "streams that wait for a fact or a person",
              ok=not waiting),
        _line("Queue", "unreachable" if queued is None else count(queued),
              "messages that only wake workers; they look by themselves, too",
              ok=queued is not None and queued < MAX_WAITING),
    ]  # fmt: skip


def _queue_length(asked: Asked) -> int | None:
    """How many messages wait; None when Valkey does not answer."""
    try:
        with Redis.from_url(
            redis_url(asked.service.settings), socket_timeout=1, socket_connect_timeout=1
        ) as connection:
            waiting = connection.llen(QUEUE)
            assert isinstance(waiting, int)
            return waiting
    except RedisError:
        return None


def _months(asked: Asked) -> Sequence[Row]:
    states = {each.state: each.count for each in standing_pushes(asked.connection)}
    stuck = states.get(PushState.STUCK, 0)
    unlinked = states.get(PushState.UNLINKED, 0)
    last = reconciled_at(asked.connection)
    left = sum(each.findings for each in drift_left(asked.connection))
    return [
        _line(Cell("Invoices stuck", link("invoices", state="stuck")), count(stuck),
              "a push needs a person; its invoice says why", ok=not stuck),
        _line(Cell("Invoices unlinked", link("invoices", state="unlinked")), count(unlinked),
              "their customers have no Stripe id: `metering customers link`", ok=not unlinked),
        _line(Cell("Last reconciliation", link("drift")), f"{age(asked.now - last)} ago" if last else "never",
              f"{counted(left, 'difference')} left" if last else "Stripe was never compared with", ok=not left),
    ]  # fmt: skip


def _workers(asked: Asked) -> Sequence[Row]:
    seen = workers_seen(asked.connection, now=asked.now)
    fresh = totals_freshness(asked.connection)
    rolled_up = asked.now - fresh.rolled_up_at if fresh.rolled_up_at else None
    last = f"seen {age(asked.now - seen.seen_at)} ago" if seen.seen_at else "none was ever seen"
    return [
        _line("Workers", f"{count(seen.alive)} alive", f"{last}; {counted(seen.streams, 'stream')} finalized",
              ok=seen.alive > 0),
        _line("Totals", f"rolled up {age(rolled_up)} ago" if rolled_up is not None else "never rolled up",
              f"{counted(fresh.pending, 'sum')} pending: they are in every total, and make it slower to read",
              ok=rolled_up is not None and rolled_up < _ROLL_UP_LATE),
    ]  # fmt: skip


def _sizes(inventory: Inventory, asked: Asked) -> Sequence[Row]:
    until = inventory.journal_until
    ahead = until is not None and until > asked.now + timedelta(days=1)
    kept = f"from {moment(inventory.journal_from)}" if inventory.journal_from else "empty"
    return [
        _line("Journal", f"{size(inventory.journal_bytes)}, {kept}",
              f"has room until {moment(until)}" if until else "has no room: a worker makes it", ok=ahead),
        _line("Database", size(inventory.database_bytes), f"PostgreSQL {inventory.server_version}"),
        _line("Streams", count(inventory.streams), "estimated; each is kept with its joined facts"),
        _line("Charges", count(inventory.charges), "estimated; each is kept for ever"),
    ]  # fmt: skip
