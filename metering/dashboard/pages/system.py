"""The system page: delays, queues, workers, months and sizes of the deployment."""

from collections.abc import Sequence
from datetime import datetime, timedelta

from redis import Redis
from redis.exceptions import RedisError

from metering.dashboard.errors import NotFoundError
from metering.dashboard.links import link
from metering.dashboard.page_request import Page, PageRequest
from metering.dashboard.tables import Cell, Column, Kind, Row, Table
from metering.dashboard.values import age, ago, count, counted, day, size
from metering.server.bootstrap import redis_url
from metering.server.queries import (
    Inventory,
    WorkHealth,
    flagged_bills,
    take_inventory,
    totals_freshness,
    work_health,
    workers_seen,
)
from metering.streams.bill import Flag
from metering.streams.ingest.nudge import MAX_WAITING, QUEUE
from metering.streams.settlement import NEEDS_PERSON, State
from metering.stripe.push import PushState
from metering.stripe.queries.pushes import standing_pushes
from metering.stripe.queries.reconciliations import drift_left, reconciled_at

# Finalizing takes well below a second; a longer delay means that no worker runs.
_LATE = timedelta(minutes=1)
_ROLL_UP_LATE = timedelta(minutes=5)


def system(request: PageRequest) -> Page:
    """The page, hidden from keys that are bound to a customer."""
    if request.viewer.customer_id is not None:
        raise NotFoundError("this page does not exist")
    health = work_health(request.connection, now=request.now)
    table = Table(
        name="system",
        title="Status",
        columns=[
            Column("what", "Component"),
            Column("value", "Value"),
            Column("state", "State", Kind.STATE),
            Column("meaning", "Details", Kind.PROSE),
        ],
        rows=[
            *_work(request, health),
            *_workers(request),
            *_months(request),
            *_sizes(take_inventory(request.connection), request),
        ],
        empty="",
    )
    return Page(
        template="system.html.j2", title="System", section="system", context={"table": table}, tables=[table]
    )


def _line(what: str | Cell, value: str | Cell, meaning: str | Cell, *, ok: bool = True) -> Row:
    return {"what": what, "value": value, "state": "ok" if ok else "attention", "meaning": meaning}


def _work(request: PageRequest, health: WorkHealth) -> Sequence[Row]:
    waiting = sum(health.states.get(state.value, 0) for state in NEEDS_PERSON)
    queued = _queue_length(request)
    return [
        _line("Finalizing", f"{age(health.oldest_due_age)} behind", "since the oldest due stream became due",
              ok=health.oldest_due_age < _LATE),
        _line("Due streams", count(health.due), "streams that the finalizer has to process now"),
        _line(Cell("Open streams", link("streams", state="open")), count(health.states.get(State.OPEN.value, 0)),
              "started, not yet ended"),
        _line(Cell("Backlog", link("backlog")), count(waiting),
              "streams that wait for a missing fact or a decision", ok=not waiting),
        *_flagged(request),
        _line("Queue", "unreachable" if queued is None else count(queued),
              "messages that wake workers; workers also poll",
              ok=queued is not None and queued < MAX_WAITING),
    ]  # fmt: skip


_FLAGS = {
    Flag.CLOCK_SKEW: "a gateway's clock is wrong: its streams may be filed under a wrong time",
    Flag.INCONSISTENT_USAGE: "counters contradict each other: check the gateway's integration",
    Flag.OUTPUT_UNKNOWN: "completed streams without reported output are billed for their input only",
    Flag.PARENT_RATE: "a kind of usage has no rate of its own: set one with `metering rates set`",
}


def _flagged(request: PageRequest) -> Sequence[Row]:
    """A line for each flag that bills of the last day have."""
    found = flagged_bills(request.connection, since=request.now - timedelta(days=1))
    return [
        _line(f"Flagged today: {flag.value.replace('_', ' ')}", counted(bills, "bill"), _FLAGS[flag], ok=False)
        for flag, bills in found.items()
        if bills
    ]


def _queue_length(request: PageRequest) -> int | None:
    """The number of waiting messages; None when Valkey does not answer."""
    try:
        with Redis.from_url(
            redis_url(request.service.settings), socket_timeout=1, socket_connect_timeout=1
        ) as connection:
            waiting = connection.llen(QUEUE)
            assert isinstance(waiting, int)
            return waiting
    except RedisError:
        return None


def _months(request: PageRequest) -> Sequence[Row]:
    states = {each.state: each.count for each in standing_pushes(request.connection)}
    stuck = states.get(PushState.STUCK, 0)
    unlinked = states.get(PushState.UNLINKED, 0)
    last = reconciled_at(request.connection)
    left = sum(each.findings for each in drift_left(request.connection))
    return [
        _line(Cell("Invoices stuck", link("invoices", state="stuck")), count(stuck),
              "pushes that need attention; each invoice shows the reason", ok=not stuck),
        _line(Cell("Invoices unlinked", link("invoices", state="unlinked")), count(unlinked),
              "customers without a Stripe ID: run `metering customers link`", ok=not unlinked),
        _line(Cell("Last reconciliation", link("drift")), _ago(request, "", last) or "never",
              f"{counted(left, 'difference')} not repaired" if last else "run `metering reconcile`", ok=not left),
    ]  # fmt: skip


def _workers(request: PageRequest) -> Sequence[Row]:
    seen = workers_seen(request.connection, now=request.now)
    fresh = totals_freshness(request.connection)
    rolled_up = request.now - fresh.rolled_up_at if fresh.rolled_up_at else None
    return [
        _line("Workers", f"{count(seen.alive)} running", f"{counted(seen.streams, 'stream')} finalized",
              ok=seen.alive > 0),
        _line("Last sign of a worker", _ago(request, "", seen.seen_at) or "never",
              "each worker gives one every ten seconds", ok=seen.alive > 0),
        _line("Totals", _ago(request, "rolled up", fresh.rolled_up_at) or "never rolled up",
              f"{counted(fresh.pending, 'sum')} pending; totals include them but take longer to read",
              ok=rolled_up is not None and rolled_up < _ROLL_UP_LATE),
    ]  # fmt: skip


def _ago(request: PageRequest, what: str, at: datetime | None) -> Cell | None:
    """How long ago something was, with its time; None if it never was."""
    return None if at is None else Cell(f"{what} {ago(request.now - at)}".lstrip(), at=at)


def _day(what: str, at: datetime) -> Cell:
    """A text that ends with a day, with the time that it means."""
    return Cell(f"{what} {day(at)}", at=at)


def _sizes(inventory: Inventory, request: PageRequest) -> Sequence[Row]:
    until = inventory.journal_until
    ahead = until is not None and until > request.now + timedelta(days=1)
    begin, held = inventory.journal_from, size(inventory.journal_bytes)
    return [
        _line("Journal", _day(f"{held}, from", begin) if begin else f"{held}, empty",
              _day("partitions until", until) if until else "no partition for new events: run a worker",
              ok=ahead),
        _line("Database", size(inventory.database_bytes), f"PostgreSQL {inventory.server_version}"),
        _line("Streams", count(inventory.streams), "estimate; kept with their joined facts"),
        _line("Charges", count(inventory.charges), "estimate; kept forever"),
    ]  # fmt: skip
