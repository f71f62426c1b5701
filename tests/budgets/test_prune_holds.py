"""Closed holds are removed past their retention; money, overruns and the audit stay as they were."""

from datetime import timedelta

import pytest
from sqlalchemy import text

from metering.budgets.holds import HoldState
from metering.budgets.prune_holds import prune_holds
from metering.budgets.store.holds import read_holds
from metering.db.engine import transaction
from metering.db.locks import Lock, take
from tests.builders import Books
from tests.builders.budgets import Purse, asked
from tests.builders.events import NOW, end, start

RETENTION = timedelta(days=62)


@pytest.fixture
def purse(books: Books) -> Purse:
    purse = Purse(books.service)
    purse.set(limit="100")
    return purse


def _streams(purse: Purse) -> set[str]:
    wanted = [("acme", each) for each in ("within", "beyond", "open", "expired")]
    with transaction(purse.engine) as connection:
        return {key[1] for key in read_holds(connection, wanted)}


def _prune(purse: Purse, *, after: timedelta) -> int:
    return prune_holds(engine=purse.engine, retention=RETENTION, now=NOW + after)


def test_only_closed_holds_past_their_retention_are_removed_and_nothing_else_changes(
    books: Books, purse: Purse
) -> None:
    for stream_id in ("within", "beyond", "open"):
        purse.hold(asked(stream_id))
    books.receive([start("within"), end("within"), start("beyond"), end("beyond", 500), start("open")])
    books.finalize()
    figures, overruns = purse.figures(), purse.overruns()
    assert overruns
    assert _prune(purse, after=RETENTION - timedelta(seconds=1)) == 0
    assert _streams(purse) == {"within", "beyond", "open"}
    assert _prune(purse, after=RETENTION + timedelta(seconds=1)) == 2
    assert _prune(purse, after=RETENTION + timedelta(seconds=1)) == 0
    assert _streams(purse) == {"open"}
    assert purse.stored("open").state is HoldState.OPEN
    assert (purse.figures(), purse.overruns()) == (figures, overruns)
    assert books.audit() == []


def test_the_audit_still_asks_for_the_holds_of_later_charges(books: Books, purse: Purse) -> None:
    purse.hold(asked("within"))
    books.receive([start("within"), end("within")])
    books.finalize()
    _prune(purse, after=RETENTION + timedelta(seconds=1))
    later = NOW + timedelta(days=1)
    purse.hold(asked("beyond"), now=later)
    books.receive([start("beyond", time=later), end("beyond", time=later)], at=later)
    books.finalize(now=later)
    assert books.audit(now=later) == []
    _change(purse, "state = 'released', settled_usd_cents = NULL")
    assert [(table, says) for table, _, says in books.audit(now=later)] == [
        ("overruns", "more was booked than was held, and no overrun says why")
    ]
    _change(purse, "state = 'settled', settled_usd_cents = 0.4985")


def _change(purse: Purse, values: str) -> None:
    with transaction(purse.engine) as connection:
        connection.execute(text(f"UPDATE holds SET {values}"))


def test_one_process_prunes_at_a_time(books: Books, purse: Purse) -> None:
    purse.hold(asked("within"))
    books.receive([start("within"), end("within")])
    books.finalize()
    with transaction(purse.engine) as connection:
        take(connection, Lock.HOLD_PRUNING)
        assert _prune(purse, after=RETENTION + timedelta(seconds=1)) == 0
    assert _prune(purse, after=RETENTION + timedelta(seconds=1)) == 1
