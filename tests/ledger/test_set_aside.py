"""A stream that cannot be finalized is set aside, visibly, and holds up no other."""

from collections.abc import Iterator
from datetime import timedelta
from decimal import Decimal

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from metering.corrections.queries import list_backlog
from metering.corrections.resolve_stream import InvalidResolutionError, resolve_stream
from metering.customers.store import CustomerDetails
from metering.db.engine import DatabaseUnavailableError, service_engine, transaction, will_pass
from metering.db.failures import why_failed
from metering.events.events import UsageSource
from metering.ledger.finalize_due import FAILED_WAIT, finalize_due
from metering.server.queries import work_health
from metering.streams.resolutions import ResolutionAction
from metering.streams.settlement import State
from metering.stripe.put_customer import put_customer
from tests.builders import NOW, T0, Books, delivered, end, start
from tests.database import Database, is_cluster

REFUSED = "ALTER TABLE charges ADD CONSTRAINT refused CHECK (stream_id <> 'bad')"
GOOD = ("a", "b", "c", "d", "e", "f")


@pytest.fixture(autouse=True)
def accepted_again(books: Books) -> Iterator[None]:
    """The databases of a cluster are used again."""
    yield
    on(books, "ALTER TABLE charges DROP CONSTRAINT IF EXISTS refused")


def on(books: Books, *statements: str) -> None:
    """What only the owner may do."""
    with books.owner() as connection:
        for statement in statements:
            connection.execute(statement)


def receive(books: Books, *stream_ids: str, customer_id: str = "acme") -> None:
    for stream_id in stream_ids:
        books.receive(
            [
                start(stream_id=stream_id, customer_id=customer_id),
                end(stream_id=stream_id, customer_id=customer_id),
            ]
        )


# As Citus says it when a node is lost within a statement: an internal error, whose context has the node.
LOST_NODE = """
    DO $$ BEGIN EXECUTE 'DO ''BEGIN -- while executing command on 10.0.0.2:5432
        RAISE EXCEPTION USING ERRCODE = ''''internal_error'''',
            MESSAGE = ''''server closed the connection unexpectedly''''; END'''; END $$
"""
UNREADABLE = "UPDATE streams SET start_data = '{\"provider\": 7}' WHERE stream_id = 'bad'"
READABLE = (
    "UPDATE streams s SET start_data = o.start_data FROM streams o"
    " WHERE s.customer_id = o.customer_id AND s.stream_id = 'bad' AND o.stream_id = 'a'"
)


@pytest.mark.parametrize(
    ("broken", "mended"),
    [(REFUSED, "ALTER TABLE charges DROP CONSTRAINT refused"), (UNREADABLE, READABLE)],
    ids=["the database refuses its charge", "its facts cannot be read"],
)
@pytest.mark.parametrize("limit", [1, 2, 7, 100])
def test_the_others_are_booked_and_it_finalizes_once_it_can(
    books: Books, broken: str, mended: str, limit: int
) -> None:
    receive(books, *GOOD[:3], "bad", *GOOD[3:])
    on(books, broken)
    states: dict[State, int] = {}
    while (result := books.finalize(limit=limit)).claimed:
        for state, count in result.states.items():
            states[state] = states.get(state, 0) + count
    assert states == {State.FINALIZED: len(GOOD), State.FAILED: 1}
    on(books, mended)
    assert books.finalize(now=NOW + FAILED_WAIT - timedelta(seconds=1)).claimed == 0
    assert books.finalize(now=NOW + FAILED_WAIT).charged == 1
    assert books.stream("bad").stream.state is State.FINALIZED
    assert books.check_totals() == 7 * Decimal("0.4985")


def test_it_is_in_the_backlog_with_its_error_and_no_decision_helps(books: Books) -> None:
    receive(books, "bad")
    on(books, REFUSED)
    books.finalize()
    with transaction(books.service.engine) as connection:
        (item,) = list_backlog(connection, state=State.FAILED, customer_id="acme", after=None, limit=10)
        assert work_health(connection, now=NOW).states == {"failed": 1}
    assert item.stream.state_reason == (
        f"finalizing failed unexpectedly ({'InternalError' if is_cluster() else 'IntegrityError'}):"
        " the log of the worker has the details; it is tried again every 15 minutes"
    )
    assert item.actions == ()
    assert "worker's log" in item.fix
    for action in ResolutionAction:
        with pytest.raises(InvalidResolutionError, match="no decision helps"):
            resolve_stream(
                engine=books.service.engine,
                customer_id="acme",
                stream_id="bad",
                action=action,
                reason="to be rid of it",
                resolved_by="test",
                now=NOW,
            )
    assert books.audit() == []


def test_what_is_booked_stays_booked_while_its_late_facts_fail(books: Books) -> None:
    books.receive([start("bad"), end("bad")])
    books.finalize()
    on(books, "ALTER TABLE adjustments ADD CONSTRAINT refused CHECK (stream_id <> 'bad')")
    books.receive([end("bad", output=40, usage_source=UsageSource.PROVIDER)])
    books.finalize()
    view = books.stream("bad")
    assert (view.stream.state, view.stream.revision) == (State.FAILED, 0)
    assert view.cost_usd_cents == Decimal("0.4985") == books.check_totals()
    assert books.audit() == []
    on(books, "ALTER TABLE adjustments DROP CONSTRAINT refused")
    books.finalize(now=NOW + FAILED_WAIT)
    view = books.stream("bad")
    assert (view.stream.state, view.stream.revision, view.stream.state_reason) == (State.FINALIZED, 1, None)
    assert view.cost_usd_cents == Decimal("0.506") == books.check_totals()


def test_new_facts_are_a_reason_to_try_at_once(books: Books) -> None:
    books.receive([start("bad"), delivered("bad", time=T0)])
    on(books, REFUSED)
    swept = NOW + books.service.waits.abandon_after
    assert books.finalize(now=swept).states == {State.FAILED: 1}
    on(books, "ALTER TABLE charges DROP CONSTRAINT refused")
    books.receive([end("bad")], at=swept)
    assert books.finalize(now=swept).states == {State.FINALIZED: 1}


def test_only_its_own_customers_month_stays_open_and_can_be_forced(books: Books) -> None:
    put_customer(engine=books.service.engine, customer_id="other", details=CustomerDetails(), now=NOW)
    receive(books, "bad")
    receive(books, "good", customer_id="other")
    on(books, REFUSED)
    books.finalize()
    refused = books.close("2026-11")
    assert list(refused) == ["acme"]
    assert "bad (failed)" in refused["acme"]
    assert len(books.invoices("other")) == 1
    assert books.close("2026-11", force_reason="the month cannot wait for the release") == {}


def test_an_error_of_the_database_is_nothing_to_set_a_stream_aside_for(books: Books) -> None:
    receive(books, "a")
    gone = service_engine("postgresql://nobody@127.0.0.1:9/none")
    with pytest.raises(DatabaseUnavailableError):
        finalize_due(
            engine=gone, price_books=books.service.price_books, waits=books.service.waits, now=NOW, limit=100
        )
    busy = service_engine(books.database.url, statement_timeout=timedelta(milliseconds=200))
    with books.owner() as connection:
        connection.execute("LOCK TABLE charges")
        with pytest.raises(DBAPIError, match="statement timeout"):
            finalize_due(
                engine=busy, price_books=books.service.price_books, waits=books.service.waits, now=NOW, limit=1
            )
    busy.dispose()
    assert books.stream("a").stream.state is State.ENDED
    assert books.finalize().charged == 1


@pytest.mark.parametrize(
    ("statement", "passes"),
    [
        ("DO $$ BEGIN SET LOCAL ROLE NONE; PERFORM pg_terminate_backend(pg_backend_pid()); END $$", True),
        ("SELECT pg_sleep(10)", True),
        ("DO $$ BEGIN RAISE EXCEPTION USING ERRCODE = 'disk_full'; END $$", True),
        ("DO $$ BEGIN RAISE EXCEPTION USING ERRCODE = 'deadlock_detected'; END $$", True),
        ("DO $$ BEGIN RAISE EXCEPTION USING ERRCODE = 'lock_not_available'; END $$", True),
        (LOST_NODE, True),
        ("DO $$ BEGIN RAISE EXCEPTION USING ERRCODE = 'program_limit_exceeded'; END $$", False),
        ("SELECT 1 / 0", False),
        ("SELECT numeric '1e131071' * 1e131071", False),
        ("SELECT no_such_column", False),
        ("DO $$ BEGIN RAISE EXCEPTION 'a rule of ours'; END $$", False),
    ],
)
def test_which_errors_pass_by_themselves(database: Database, statement: str, passes: bool) -> None:
    engine = service_engine(database.url, statement_timeout=timedelta(milliseconds=300))
    with pytest.raises(DBAPIError) as failed, transaction(engine) as connection:
        connection.execute(text(statement))
    engine.dispose()
    assert will_pass(failed.value) is passes


def test_a_lost_node_is_named(database: Database) -> None:
    unreachable = """
        DO $$ BEGIN RAISE EXCEPTION USING ERRCODE = 'connection_failure', MESSAGE =
            'connection to the remote node me@10.0.0.2:5432 failed with the following error: Connection refused';
        END $$
    """
    engine = service_engine(database.url)
    for statement, why in ((LOST_NODE, "it closed the connection"), (unreachable, "Connection refused")):
        with pytest.raises(DBAPIError) as failed, transaction(engine) as connection:
            connection.execute(text(statement))
        assert why_failed(failed.value) == f"a node of the Citus cluster does not answer (10.0.0.2:5432: {why})"
    engine.dispose()


def test_an_error_that_is_not_of_the_database_does_not_pass(database: Database) -> None:
    assert not will_pass(ValueError("a bug"))
    engine = service_engine(database.url)
    with pytest.raises(DBAPIError) as failed, transaction(engine) as connection:
        connection.execute(text("SELECT CAST(:value AS text)"), {"value": "\0"})
    engine.dispose()
    assert not will_pass(failed.value), "PostgreSQL's driver refuses the value, and always will"
